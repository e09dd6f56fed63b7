"""One layer in ONNX Runtime, alone, against the clock."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgelab.deploy.chain import conv_attributes, model_of
from edgelab.deploy.runner import session_options
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.measure import measure_latency


def time_layer(
    layer: nn.Module, image: torch.Tensor, *, precision: str = "fp32", threads: int = 1, max_seconds: float = 0.1
) -> float:
    """Return the ms of a convolution or linear layer on `image` in ONNX Runtime: the fastest of its runs.

    `precision` is "fp32" or, for convolutions, "int8": weights of int8 with a scale per channel, activations of uint8.
    The time depends on the shapes alone; in int8 the codes are drawn at random. A single layer pays for bringing its
    input into the runtime's own order, and its output back, which layers in a network mostly share.

    Raise `EdgelabError` for another layer or precision.
    """
    run = open_layer(layer, image, precision=precision, threads=threads)
    return measure_latency(run, warmup=5, repeats=200, threads=threads, max_seconds=max_seconds).min_ms


def open_layer(
    layer: nn.Module, image: torch.Tensor, *, precision: str = "fp32", threads: int = 1
) -> Callable[[], object]:
    """Return a function without arguments that runs a layer on `image` once in ONNX Runtime; see `time_layer`."""
    if isinstance(layer, nn.Conv2d) and isinstance(layer.padding, tuple) and precision in ("fp32", "int8"):
        graph = _convolution(layer) if precision == "fp32" else _integer_convolution(layer)
    elif isinstance(layer, nn.Linear) and precision == "fp32":
        graph = [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], transB=1)], _constants(layer)
        image = image.reshape(-1, image.shape[-1])
    else:
        raise EdgelabError(
            _("Only convolutions (fp32, int8) and linear layers (fp32) are timed, not %(kind)s in %(precision)s.")
            % {"kind": type(layer).__name__, "precision": precision}
        )
    nodes, constants = graph
    kind = TensorProto.FLOAT if precision == "fp32" else TensorProto.UINT8
    array = image.numpy() if precision == "fp32" else np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    shapes: dict[str, list[int | None]] = {"x": [*image.shape], "y": [None] * image.dim()}
    ends = [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()]
    weights = [numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in constants.items()]
    model = model_of(nodes, ends, weights)
    return _session(model, threads, np.ascontiguousarray(array))


def _session(model: onnx.ModelProto, threads: int, array: np.ndarray) -> Callable[[], object]:
    import onnxruntime

    content, options = model.SerializeToString(), session_options(threads)
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feed = {"x": array}
    return lambda: session.run(None, feed)


def _constants(layer: Any) -> dict[str, np.ndarray]:
    weight = layer.weight.detach().numpy()
    bias = np.zeros(len(weight), np.float32) if layer.bias is None else layer.bias.detach().numpy()
    return {"weight": weight, "bias": bias}


def _convolution(layer: nn.Conv2d) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    return [helper.make_node("Conv", ["x", "weight", "bias"], ["y"], **conv_attributes(layer))], _constants(layer)


def _integer_convolution(layer: nn.Conv2d) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    channels, chance = layer.out_channels, np.random.default_rng(0)
    constants = {
        "weight": chance.integers(-127, 128, tuple(layer.weight.shape), np.int8),
        "bias": np.zeros(channels, np.int32),
        "step": np.float32(0.02),
        "steps": np.full(channels, 0.01, np.float32),
        "zero": np.uint8(128),
        "zeros": np.zeros(channels, np.int8),
    }
    inputs = ["x", "step", "zero", "weight", "steps", "zeros", "step", "zero", "bias"]
    return [helper.make_node("QLinearConv", inputs, ["y"], **conv_attributes(layer))], constants
