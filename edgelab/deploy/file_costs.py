"""What a model file costs, whoever made it: parameters, multiply-accumulates, and the peak of its activations.

Of an `.onnx` file ONNX Runtime itself tells the shapes, by a run in which every tensor is an output; a `.tflite` file
has them written in it. One walk over the operators then serves both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from ai_edge_litert import schema_py_generated as schema
from onnx import numpy_helper

from edgelab.deploy.runner import session_options, with_outputs
from edgelab.deploy.tflite import TYPES, unpack
from edgelab.errors import EdgelabError
from edgelab.i18n import _

# What a runtime does in the kernel before it, so that no second buffer exists.
_IN_PASSING = {"Relu", "Clip", "QuantizeLinear", "BatchNormalization", "HardSwish", "Identity", "Dropout"}
# Which only look at their input in another way, or read codes as numbers.
_VIEWS = {"DequantizeLinear", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "RESHAPE", "SQUEEZE", "EXPAND_DIMS"}
_PRODUCTS = {"Conv", "ConvInteger", "QLinearConv", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "QGemm"}
_KINDS = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
_BYTES: dict[int, float] = {schema.TensorType.INT4: 0.5, **{number: dtype.itemsize for dtype, number in TYPES.items()}}


@dataclass(frozen=True)
class FileCosts:
    """A file's parameters, MACs of one inference, bytes of weights, and the most bytes of activations alive at once.

    `precision` is "int8" where products are of codes, else "fp32".
    """

    params: int
    macs: int
    weight_bytes: int
    peak_bytes: int
    precision: str


@dataclass(frozen=True)
class Lifetime:
    """A buffer of activations: its bytes, and the first and the last operator of a file that needs it, both included.

    `name` is the tensor that is made in it first. Operators are counted from 0 in the order in which they run.
    """

    name: str
    bytes: int
    first: int
    last: int


@dataclass
class _Operation:
    """An operator: its kind, the tensors it reads and makes, and the MACs that it takes."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    macs: int = 0


@dataclass
class _Graph:
    operations: list[_Operation] = field(default_factory=list)
    sizes: dict[str, float] = field(default_factory=dict)  # bytes of each activation
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)


def file_costs(path: str | Path) -> FileCosts:
    """Return the costs of an `.onnx` or `.tflite` file, for one input, or for the batch that it is made for.

    MACs are those of convolutions, linear layers and products of matrices. Raise `EdgelabError` for what cannot be
    read.
    """
    path = Path(path)
    return _onnx_costs(path) if path.suffix == ".onnx" else _tflite_costs(path)


def lifetimes(path: str | Path) -> list[Lifetime]:
    """Return the buffers of activations of a `.tflite` file, in the order in which they are first needed.

    What lies in the buffer of another tensor, as a view of it does, has none of its own. Raise `EdgelabError` for what
    cannot be read.
    """
    found, names, _costs = _tflite_graph(Path(path))
    steps = len(found.operations) - 1
    buffers = sorted(_buffers(found), key=lambda one: one.first)
    return [replace(one, name=names[one.name], last=min(one.last, steps)) for one in buffers]


def session_inputs(session: onnxruntime.InferenceSession) -> dict[str, np.ndarray]:
    """Return numbers for every input of a session; 1 for each size that it leaves open."""
    generator = np.random.default_rng(0)
    feed: dict[str, np.ndarray] = {}
    for value in session.get_inputs():
        shape = [size if isinstance(size, int) and size > 0 else 1 for size in value.shape]
        kind = value.type.removeprefix("tensor(").removesuffix(")")
        kinds = {"float": np.float32, "double": np.float64, "float16": np.float16, "bool": np.bool_}
        if kind in kinds and kind != "bool":
            feed[value.name] = generator.standard_normal(shape).astype(kinds[kind])
        elif kind in kinds or kind.startswith(("int", "uint")):
            feed[value.name] = np.zeros(shape, kinds.get(kind, kind))
        else:
            raise EdgelabError(
                _("The input %(name)s takes %(type)s, which is no tensor of numbers.")
                % {"name": value.name, "type": value.type}
            )
    return feed


def _onnx_costs(path: Path) -> FileCosts:
    proto = onnx.load(path)
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {node.output[0]: node.attribute[0].t for node in graph.node
                  if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value"}  # fmt: skip
    arrays = _every_array(proto)
    found, weights, integer = _Graph(), dict[str, onnx.TensorProto](), False
    found.inputs = [value.name for value in graph.input if value.name not in constants]
    found.outputs = [value.name for value in graph.output]
    read = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    of_constants = {name: codes for name, codes in read.items() if codes in constants}
    live = arrays.keys() - of_constants.keys() - constants.keys()
    found.sizes = {name: float(arrays[name].nbytes) for name in live}
    for node in graph.node:
        if not live.intersection(node.output):
            continue
        names = [of_constants.get(name, name) for name in node.input]
        operation = _Operation(node.op_type, [name for name in node.input if name in live], list(node.output))
        if node.op_type in _PRODUCTS:
            for name in names:
                if name in constants and math.prod(constants[name].dims) > 1:
                    weights[name] = constants[name]
            shapes = [tuple(constants[name].dims) if name in constants else arrays[name].shape
                      for name in names if name in constants or name in arrays]  # fmt: skip
            operation.macs = _onnx_macs(node, shapes, arrays[node.output[0]].shape)
            integer |= node.op_type not in ("Conv", "Gemm", "MatMul") or any(name in read for name in node.input)
        found.operations.append(operation)
    return FileCosts(
        params=sum(math.prod(tensor.dims) for tensor in weights.values()),
        macs=sum(operation.macs for operation in found.operations),
        weight_bytes=sum(numpy_helper.to_array(tensor, str(path.parent)).nbytes for tensor in weights.values()),
        peak_bytes=_peak(found),
        precision="int8" if integer else "fp32",
    )


def _every_array(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Return every activation of a model by its name, from one run as it is written, without optimisation."""
    opened = with_outputs(proto, [name for node in proto.graph.node for name in node.output if name])
    options = session_options(exact=False)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = session_inputs(session)
    outputs = [value.name for value in session.get_outputs()]
    values = zip(outputs, session.run(outputs, feed), strict=True)
    return feed | {name: value for name, value in values if isinstance(value, np.ndarray)}


def _onnx_macs(node: onnx.NodeProto, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int:
    """Return the MACs: the numbers of the output, times the products that each is the sum of."""
    if "Conv" in node.op_type:
        kernel = max(shapes[1:], key=len)  # (O, I / groups, kH, kW); the rest are scales and biases
        return math.prod(output) * math.prod(kernel[1:])
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    return math.prod(output) * shapes[0][0 if attributes.get("transA") else -1]


def _tflite_costs(path: Path) -> FileCosts:
    return _tflite_graph(path)[2]


def _tflite_graph(path: Path) -> tuple[_Graph, dict[str, str], FileCosts]:
    """Return the operators of a file, the names of its tensors by what stands for them there, and the file's costs."""
    model = unpack(path.read_bytes(), str(path))
    if len(model.subgraphs) != 1:
        raise EdgelabError(_("%(path)s has several graphs: its costs are not counted.") % {"path": path})
    graph = model.subgraphs[0]
    constant = {place for place, tensor in enumerate(graph.tensors) if _holds_numbers(model, tensor)}
    shapes = [tuple(int(size) for size in tensor.shape) if tensor.shape is not None else () for tensor in graph.tensors]
    sizes = [math.prod(shape) * _BYTES.get(tensor.type, 4) for shape, tensor in zip(shapes, graph.tensors, strict=True)]
    found, weights, integer = _Graph(), set[int](), False
    found.inputs, found.outputs = ([str(place) for place in places] for places in (graph.inputs, graph.outputs))
    found.sizes = {str(place): size for place, size in enumerate(sizes) if place not in constant}
    made_of = {}
    for node in graph.operators:
        code = model.operatorCodes[node.opcodeIndex]
        kind = _KINDS.get(max(code.builtinCode, code.deprecatedBuiltinCode), "CUSTOM")
        inputs = [int(place) for place in ([] if node.inputs is None else node.inputs) if place >= 0]
        outputs = [int(place) for place in node.outputs]
        if kind == "DEQUANTIZE" and inputs[0] in constant:
            made_of[outputs[0]] = inputs[0]
            constant.add(outputs[0])
            continue
        operation = _Operation(
            kind, [str(place) for place in inputs if place not in constant], [str(place) for place in outputs]
        )
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL"):
            weights |= {made_of.get(place, place) for place in inputs if place in constant and len(shapes[place]) > 0}
            operation.macs = _tflite_macs(kind, [shapes[place] for place in inputs], shapes[outputs[0]])
            integer |= graph.tensors[inputs[0]].type == schema.TensorType.INT8
        found.operations.append(operation)
    costs = FileCosts(
        params=sum(math.prod(shapes[place]) for place in weights),
        macs=sum(operation.macs for operation in found.operations),
        weight_bytes=round(sum(sizes[place] for place in weights)),
        peak_bytes=_peak(found),
        precision="int8" if integer else "fp32",
    )
    names = {str(place): (one.name or b"").decode(errors="replace") for place, one in enumerate(graph.tensors)}
    return found, names, costs


def _holds_numbers(model: Any, tensor: Any) -> bool:
    buffer = model.buffers[tensor.buffer]
    return (buffer.data is not None and len(buffer.data) > 0) or buffer.offset > 1


def _tflite_macs(kind: str, shapes: Sequence[tuple[int, ...]], output: tuple[int, ...]) -> int:
    if kind == "TRANSPOSE_CONV":  # each number of the input is multiplied by the whole kernel of each output channel
        return math.prod(shapes[2]) * math.prod(shapes[1][:3])
    if kind == "DEPTHWISE_CONV_2D":
        return math.prod(output) * math.prod(shapes[1][1:3])
    if kind == "BATCH_MATMUL":
        return math.prod(output) * shapes[0][-1]
    return math.prod(output) * math.prod(shapes[1][1:])


def _peak(graph: _Graph) -> int:
    """Return the most bytes alive at once: an activation lives from the operator that makes it to its last reader."""
    change = [0.0] * (len(graph.operations) + 2)
    for buffer in _buffers(graph):
        change[buffer.first] += buffer.bytes
        change[buffer.last + 1] -= buffer.bytes
    return round(max(np.cumsum(change)))


def _buffers(graph: _Graph) -> list[Lifetime]:
    """Return the buffers of a graph's activations; the outputs' live on behind the last operator."""
    readers: dict[str, int] = {}
    for operation in graph.operations:
        for name in operation.inputs:
            readers[name] = readers.get(name, 0) + 1
    held: dict[str, str] = {}  # the activation in whose buffer another one lies

    def buffer(name: str) -> str:
        while name in held:
            name = held[name]
        return name

    for operation in reversed(graph.operations):
        if operation.kind in _IN_PASSING and operation.inputs and readers[operation.inputs[0]] == 1:
            held[operation.inputs[0]] = operation.outputs[0]
    for operation in graph.operations:
        if operation.kind in _VIEWS and operation.inputs:
            held[operation.outputs[0]] = operation.inputs[0]
    born = dict.fromkeys((buffer(name) for name in graph.inputs), 0)
    last = dict.fromkeys((buffer(name) for name in graph.outputs), len(graph.operations))
    for now, operation in enumerate(graph.operations):
        for name in operation.outputs:
            born.setdefault(buffer(name), now)
        for name in (*operation.inputs, *operation.outputs):
            last[buffer(name)] = max(now, last.get(buffer(name), 0))
    return [
        Lifetime(name, math.ceil(graph.sizes.get(name, 0)), first, last.get(name, first))
        for name, first in born.items()
    ]
