"""A chain of convolutions as an ONNX file at once, to be timed: in float, or in int8 with made-up scales.

A kernel takes the same time whatever the numbers, so who asks how fast a shape runs needs no training, no calibration
and no exporter: hundreds of shapes are written and timed in the seconds that `to_onnx` takes for a few. What is timed
is what `to_onnx` would write: the same operators in the same order, which a test compares.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgelab.deploy.runner import Runner
from edgelab.errors import EdgelabError
from edgelab.i18n import _

OPSET = 21
_ACTIVATION_SCALE, _BIAS = 0.0235, 0.1  # 255 steps stay below 6: a ReLU6 is done by saturating, as in a real file
_SIGNED_ZERO, _RECTIFIED_ZERO = 128, 0  # zero points of activations that have negative values, and that have none
_CLIPS = {nn.ReLU: None, nn.ReLU6: 6.0}


def chain_for_timing(model: nn.Sequential, example: torch.Tensor, *, int8: bool = False) -> onnx.ModelProto:
    """Return an ONNX model of the shapes of `model`, a chain of convolutions, each with or without a ReLU behind it.

    `example`, `(N, C, H, W)`, says the input's shape. Batch norm is left out, as folding does. With `int8`, weights and
    activations are codes, as in a file of `to_onnx`. What it answers means nothing; how long it takes does. Raise
    `EdgelabError` for any other layer.
    """
    writer = _Int8() if int8 else _Float()
    name = "input"
    for conv, rectifier in _layers(model):
        name = writer.layer(name, conv, rectifier)
    nodes, constants = writer.finish(name)
    ends = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, list(example.shape)),
        helper.make_tensor_value_info("output", TensorProto.FLOAT, [None] * 4),
    ]
    return model_of(nodes, ends, constants)


def open_chain(model: nn.Sequential, example: torch.Tensor, precision: str) -> Callable[[], object]:
    """Return what runs a chain once in ONNX Runtime on one core, in "fp32" or "int8"; see `chain_for_timing`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.onnx"
        onnx.save(chain_for_timing(model, example, int8=precision == "int8"), path)
        return Runner.open(path).once(example)


def model_of(
    nodes: list[onnx.NodeProto], ends: list[onnx.ValueInfoProto], constants: list[onnx.TensorProto]
) -> onnx.ModelProto:
    """Return the ONNX model of some nodes and constants; `ends` are its input and its output."""
    graph = helper.make_graph(nodes, "timed", ends[:1], ends[1:], constants)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(proto)
    return proto


def conv_attributes(conv: nn.Conv2d) -> dict[str, Any]:
    """Return what ONNX calls the options of a convolution. Raise `EdgelabError` for padding that is given by a name."""
    if not isinstance(conv.padding, tuple):
        raise EdgelabError(
            _("A convolution to be timed has its padding in numbers, not %(name)r.") % {"name": conv.padding}
        )
    return {
        "kernel_shape": list(conv.kernel_size),
        "strides": list(conv.stride),
        "pads": [*conv.padding, *conv.padding],
        "dilations": list(conv.dilation),
        "group": conv.groups,
    }


def _layers(model: nn.Sequential) -> Iterator[tuple[nn.Conv2d, type[nn.Module] | None]]:
    """Yield each convolution with the kind of the rectifier behind it, or None."""
    modules = [module for module in model.modules() if not isinstance(module, (nn.Sequential, nn.BatchNorm2d))]
    for place, module in enumerate(modules):
        following = type(modules[place + 1]) if place + 1 < len(modules) else None
        if isinstance(module, nn.Conv2d):
            yield module, following if following in _CLIPS else None
        elif type(module) not in _CLIPS:
            raise EdgelabError(
                _("A chain to be timed is of convolutions, batch norms and ReLUs; this one has a %(kind)s.")
                % {"kind": type(module).__name__}
            )


class _Float:
    """Writes a chain's nodes and constants one layer after another; each takes the name of its input."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def layer(self, source: str, conv: nn.Conv2d, rectifier: type[nn.Module] | None) -> str:
        """Write one convolution and what rectifies it; return the name of what they give."""
        weight, bias = self._weights(conv)
        out = self._node("Conv", source, weight, bias, **conv_attributes(conv))
        return out if rectifier is None else self._rectify(out, rectifier)

    def finish(self, name: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """Return the nodes and constants of the chain that ends at `name`."""
        self.nodes[-1].output[0] = "output"
        return self.nodes, self.constants

    def _weights(self, conv: nn.Conv2d) -> tuple[str, str]:
        weight = conv.weight.detach().numpy()
        return self._constant(weight), self._constant(np.full(conv.out_channels, _BIAS, np.float32))

    def _rectify(self, name: str, rectifier: type[nn.Module]) -> str:
        highest = _CLIPS[rectifier]
        if highest is None:
            return self._node("Relu", name)
        return self._node("Clip", name, *(self._constant(np.float32(end)) for end in (0, highest)))

    def _constant(self, array: np.ndarray | np.generic) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        out = f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out


class _Int8(_Float):
    """The same with a QuantizeLinear and DequantizeLinear around each layer: ONNX Runtime makes integers of them."""

    def layer(self, source: str, conv: nn.Conv2d, rectifier: type[nn.Module] | None) -> str:
        if source == "input":
            source = self._round(source, _SIGNED_ZERO)
        out = super().layer(source, conv, rectifier)
        return self._round(out, _SIGNED_ZERO if rectifier is None else _RECTIFIED_ZERO)

    def _weights(self, conv: nn.Conv2d) -> tuple[str, str]:
        weight = conv.weight.detach()
        scale = (weight.abs().flatten(1).amax(1) / 127).clamp(min=1e-8).numpy()
        codes = np.clip(np.round(weight.numpy() / scale.reshape(-1, 1, 1, 1)), -127, 127).astype(np.int8)
        step = (_ACTIVATION_SCALE * scale).astype(np.float32)
        bias = np.round(_BIAS / step).astype(np.int32)
        return self._dequantize(codes, scale), self._dequantize(bias, step)

    def _dequantize(self, codes: np.ndarray, scale: np.ndarray) -> str:
        grid = (scale, np.zeros(scale.shape, codes.dtype))
        return self._node("DequantizeLinear", *map(self._constant, (codes, *grid)), axis=0)

    def _round(self, name: str, zero_point: int) -> str:
        grid = self._constant(np.float32(_ACTIVATION_SCALE)), self._constant(np.uint8(zero_point))
        return self._node("DequantizeLinear", self._node("QuantizeLinear", name, *grid), *grid)
