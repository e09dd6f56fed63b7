"""Export to ONNX: float models as they are, quantized ones with QuantizeLinear/DequantizeLinear pairs and int8 weights.

ONNX Runtime fuses the pairs around each operator into one integer kernel, so what was calibrated or trained is what
runs. Format: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html (tensor-oriented, QDQ).
"""

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import cast

import onnx
import torch
from onnx import helper, numpy_helper
from torch import fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from edgelab.data.storage import atomic_write
from edgelab.deploy.kernels import as_kernels
from edgelab.deploy.runner import Runner, check_parity
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.quantization import QParams, quantize
from edgelab.quantization.graph import Weighted, is_called_once, weighted_layers
from edgelab.quantization.conversion import activation_grids, codes_of

OPSET = 21


class _QuantizeDequantize(nn.Module):
    """A `FakeQuantize` as the two ONNX operators that it stands for."""

    scale: torch.Tensor
    zero_point: torch.Tensor

    def __init__(self, qparams: QParams):
        super().__init__()
        self.register_buffer("scale", qparams.scale)
        self.register_buffer("zero_point", qparams.zero_point.to(qparams.spec.dtype))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        grid = (self.scale, self.zero_point)
        codes = torch.onnx.ops.symbolic("QuantizeLinear", (x, *grid), dtype=self.zero_point.dtype, shape=x.shape)
        return torch.onnx.ops.symbolic("DequantizeLinear", (codes, *grid), dtype=torch.float32, shape=x.shape)


def to_onnx(model: nn.Module, example: torch.Tensor, path: str | Path, *, dynamic_batch: bool = False) -> Path:
    """Write `model` to `path` as ONNX and return the path.

    `example` is one input, `(N, C, H, W)`; the file takes exactly its shape, or any N with `dynamic_batch`. A model
    from `convert` is written with int8 weights and int32 biases. The file takes its name only when ONNX Runtime was
    seen to compute from it what the model does. Raise `EdgelabError` for an operator that ONNX lacks, for a model that
    is prepared but not converted, and for activations of other than 8 bits, which no integer kernel takes.
    """
    if any(parametrize.is_parametrized(module) for module in model.modules()):
        raise EdgelabError(_("This model is not converted yet: export what `convert` returns."))
    model = copy.deepcopy(model).eval()
    if isinstance(model, fx.GraphModule):
        reference: nn.Module = as_kernels(model)
        _fill_lanes(model)
    else:
        reference = copy.deepcopy(model)
    for name, quantizer in activation_grids(model).items():
        if quantizer.spec.bits != 8:
            raise EdgelabError(
                _("ONNX Runtime has integer kernels for activations of 8 bits, not of %(bits)s.")
                % {"bits": quantizer.spec.bits}
            )
        model.set_submodule(name, _QuantizeDequantize(quantizer.qparams))
    proto = _export(model, example, dynamic_batch)
    _pool_globally(proto.graph)
    _store_integers(proto.graph, model)
    _strip(proto.graph)
    onnx.checker.check_model(proto)
    content = proto.SerializeToString()
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "trial.onnx"
        trial.write_bytes(content)
        parity = check_parity(reference, Runner.open(trial), example)
    if parity.mean > 0.05 * parity.span + 1e-6:
        raise EdgelabError(
            _("ONNX Runtime does not compute from %(path)s what the model does: %(mean).3g apart on average.")
            % {"path": path, "mean": parity.mean}
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as out:
        out.write(content)
    return path


def operators(path: str | Path, *, level: str = "all") -> Counter[str]:
    """Return the `Counter` of operators that ONNX Runtime really runs for the file `path`, after its optimisation.

    `QLinearConv` is an integer convolution; `Conv` (`FusedConv`, `NhwcFusedConv`) one in float.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        Runner.open(path, level=level, save_as=optimised)
        return Counter(node.op_type for node in onnx.load(optimised).graph.node)


def _export(model: nn.Module, example: torch.Tensor, dynamic_batch: bool) -> onnx.ModelProto:
    """Return torch's export of `model`, without the exporter's talk."""
    shapes = ({0: torch.export.Dim("batch")},) if dynamic_batch else None
    if dynamic_batch and len(example) == 1:
        example = torch.cat([example, example])  # the exporter takes a batch of 1 for a constant
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes=shapes,
                verbose=False,
                input_names=["input"],
                output_names=["output"],
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise EdgelabError(_("This model cannot be written as ONNX: %(reason)s") % {"reason": reason}) from None
    finally:
        logger.setLevel(level)
    return cast(torch.onnx.ONNXProgram, program).model_proto  # None is what the exporter before `dynamo` returned


def _fill_lanes(model: fx.GraphModule) -> None:
    """Give the first convolution a multiple of 4 input channels, in place: zeros beside the picture's own.

    Int8 instructions sum products four at a time, and ONNX Runtime has its direct convolution for such counts only: the
    layer takes half the time. The quantizer of the picture rounds zeros to zeros, so the outputs stay the same.
    """
    for node, layer in weighted_layers(model).items():
        if not (isinstance(layer, nn.Conv2d) and layer.groups == 1 and codes_of(layer) is not None):
            continue
        missing = -layer.in_channels % 4
        source = node.all_input_nodes[0]
        picture = source.op == "call_module" and source.all_input_nodes[0].op == "placeholder"
        reads_picture = picture and len(source.users) == 1
        if missing and reads_picture and is_called_once(model, node):
            model.set_submodule("fill_lanes", _ZeroChannels(missing))
            with model.graph.inserting_before(source):
                source.args = (model.graph.call_module("fill_lanes", source.args),)
            layer.weight = nn.Parameter(functional.pad(layer.weight, (0, 0, 0, 0, 0, missing)), requires_grad=False)
            layer.in_channels += missing
            model.recompile()


class _ZeroChannels(nn.Module):
    """`(N, C, H, W) -> (N, C + count, H, W)`."""

    def __init__(self, count: int):
        super().__init__()
        self.count = count

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.pad(x, (0, 0, 0, 0, 0, self.count))


def _strip(graph: onnx.GraphProto) -> None:
    """Take out what no node reads, and what only says where in the Python source each came from.

    That is two thirds of the tiny student's int8 file.
    """
    read = {name for node in graph.node for name in node.input}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
    del graph.metadata_props[:], graph.value_info[:]
    for item in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        del item.metadata_props[:]
        item.doc_string = ""


def _pool_globally(graph: onnx.GraphProto) -> None:
    """Turn each mean over height and width into GlobalAveragePool, which has an integer kernel; ReduceMean has none."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "ReduceMean" or len(node.input) != 2 or node.input[1] not in constants:
            continue
        axes = {int(axis) % 4 for axis in numpy_helper.to_array(constants[node.input[1]])}
        keepdims = next((attribute.i for attribute in node.attribute if attribute.name == "keepdims"), 1)
        if axes == {2, 3} and keepdims:
            pool = helper.make_node("GlobalAveragePool", node.input[:1], node.output, name=node.name)
            node.CopyFrom(pool)


def _store_integers(graph: onnx.GraphProto, model: nn.Module) -> None:
    """Replace quantized weights by int8 codes and their biases by int32 codes, with the nodes that read them."""
    constants: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for name, layer in model.named_modules():
        if not isinstance(layer, Weighted) or (codes := codes_of(layer)) is None:
            continue
        constants[f"{name}.weight"] = quantize(layer.weight, codes.weight_qparams), codes.weight_qparams.scale
        if codes.bias_codes is not None and codes.bias_scale is not None:
            constants[f"{name}.bias"] = codes.bias_codes, codes.bias_scale
    floats = [tensor for tensor in graph.initializer if tensor.name in constants]
    for tensor in floats:
        graph.initializer.remove(tensor)
    nodes = [*(_read(graph, tensor.name, *constants[tensor.name]) for tensor in floats), *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _read(graph: onnx.GraphProto, name: str, codes: torch.Tensor, scale: torch.Tensor) -> onnx.NodeProto:
    """Add `codes` and `scale` as constants; return the DequantizeLinear that makes the tensor `name` of them."""
    zero_point = torch.zeros(scale.shape, dtype=codes.dtype)  # ONNX Runtime fuses a Gemm only where it is spelled out
    constants = {f"{name}_codes": codes, f"{name}_scale": scale, f"{name}_zero_point": zero_point}
    for constant, tensor in constants.items():
        graph.initializer.append(numpy_helper.from_array(tensor.detach().contiguous().numpy(), constant))
    node = helper.make_node("DequantizeLinear", list(constants), [name], name=f"{name}_read")
    if scale.dim():
        node.attribute.append(helper.make_attribute("axis", 0))
    return node
