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

from edgelab.data.inputs import as_input
from edgelab.deploy.deployable import deployable, write
from edgelab.deploy.guard import must_agree
from edgelab.deploy.pooling import pool_globally
from edgelab.deploy.runner import Runner
from edgelab.deploy.shaping import fill_lanes, flatten_tokens
from edgelab.errors import EdgelabError, first_line
from edgelab.i18n import _
from edgelab.quantization import QParams, quantize
from edgelab.quantization.conversion import activation_grids, codes_of
from edgelab.quantization.graph import Weighted
from edgelab.quantization.report import layer_report

OPSET = 21
_INTEGER_KERNELS = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat")
_FLOAT_KERNELS = ("Conv", "FusedConv", "NhwcFusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")


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
    seen to compute from it what the model does, on the example and on noise as strong. One line tells of layers that
    ONNX Runtime computes in float all the same.

    Raise `EdgelabError` for an operator that ONNX lacks, for a model that is prepared but not converted, or changed
    since, or that gives something else than one tensor of finite numbers; for activations of other than 8 bits, which
    no integer kernel takes; and for a place that cannot be written.
    """
    example = as_input(example)
    model = deployable(model, example)
    original = copy.deepcopy(model)
    if activation_grids(model) and isinstance(model, fx.GraphModule):
        flatten_tokens(model, example)
        fill_lanes(model)
    for name, quantizer in activation_grids(model).items():
        if quantizer.spec.bits != 8:
            raise EdgelabError(
                _("ONNX Runtime has integer kernels for activations of 8 bits, not of %(bits)s.")
                % {"bits": quantizer.spec.bits}
            )
        model.set_submodule(name, _QuantizeDequantize(quantizer.qparams))
    proto = _export(model, example, dynamic_batch)
    pool_globally(proto)
    _store_integers(proto.graph, model)
    _strip(proto.graph)
    onnx.checker.check_model(proto)
    must_agree(original, proto, example)
    path = write(proto.SerializeToString(), path)
    if isinstance(original, fx.GraphModule):
        _say_what_runs_in_float(original, path)
    return path


def _say_what_runs_in_float(model: fx.GraphModule, path: Path) -> None:
    """Print one line where ONNX Runtime has made fewer integer kernels of a file than the model has integer layers."""
    promised = sum(layer.integer for layer in layer_report(model))
    counts = operators(path) if promised else Counter[str]()
    # The exporter may make one of two layers that are the same: fewer kernels alone tell nothing.
    in_float = sum(counts[kernel] for kernel in _FLOAT_KERNELS)
    missing = min(in_float, promised - sum(counts[kernel] for kernel in _INTEGER_KERNELS))
    if missing > 0:
        print(
            _("ONNX Runtime computes %(n)d of the %(all)d integer layers of %(path)s in float.")
            % {"n": missing, "all": promised, "path": path}
        )


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
    except Exception as error:  # the exporter's own, and whatever its steps raise
        reason = first_line(error.__cause__ or error)
        raise EdgelabError(_("This model cannot be written as ONNX: %(reason)s") % {"reason": reason}) from None
    finally:
        logger.setLevel(level)
    return cast(torch.onnx.ONNXProgram, program).model_proto  # None is what the exporter before `dynamo` returned


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
