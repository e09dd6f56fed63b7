"""How each operation of torch is said in TensorFlow Lite's operators.

Specification of the integer ones: https://ai.google.dev/edge/litert/models/quantization_spec. Where an operator has a
grid of its own (LOGISTIC gives steps of 1/256) or none but its input's (pooling), a QUANTIZE brings its codes to the
grid that was calibrated.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn import functional as F

from edgelab.deploy import lowering_layers as layers
from edgelab.deploy.lowering import TO_FIRST, TO_LAST, Call, Handler, Lowering, Value
from edgelab.deploy.tflite import Grid
from edgelab.quantization.graph import called_module, does_nothing, operation
from edgelab.quantization.quantizer import FakeQuantize, SameGrid

_SIGMOID = Grid((1 / 256,), -128)
_TANH = Grid((1 / 128,), 0)
# How many steps the integer kernel of a curve may be off, by its table or its fixed-point arithmetic.
_APPROXIMATE = {"HARD_SWISH": 2.0, "GELU": 1.0, "ELU": 1.0}
_SIX = Grid((6 / 255,), -128)  # from 0 to 6


def reshape(call: Call) -> Value:
    """Flatten, reshape, view, squeeze, unsqueeze: the same numbers in torch's order, in other dimensions.

    A flattened picture stays in the order in which it is stored where linear layers alone read it: they turn their
    weights.
    """
    value, shape = call.inputs[0], call.shape
    order = None
    if value.shape == shape:
        return value
    if value.last:
        n, c, h, w = value.shape
        if h * w > 1 and shape == (n, c * h * w) and _feeds_linear_only(call.lowering, call.node):
            order = np.arange(c * h * w).reshape(c, h, w).transpose(1, 2, 0).reshape(-1)
        elif h * w > 1:
            value = call.lowering.as_first(value)
    elif value.order is not None:
        value = call.lowering.as_first(value)
    last = len(shape) == 4 and shape[2:] == (1, 1)
    made = Value(-1, shape, last, value.grid, order)
    target = call.graph.constant("shape", np.asarray(made.stored, np.int32))
    tensor = call.graph.tensor(call.name, made.stored, value.grid)
    call.graph.operator("RESHAPE", [value.tensor, target], tensor, "ReshapeOptions", newShape=list(made.stored))
    return Value(tensor, shape, last, value.grid, order)


def _feeds_linear_only(low: Lowering, node: fx.Node) -> bool:
    for user in node.users:
        module = called_module(low.model, user)
        passes = isinstance(module, (FakeQuantize, SameGrid)) or does_nothing(low.model, user)
        if not isinstance(module, nn.Linear) and not (passes and _feeds_linear_only(low, user)):
            return False
    return True


def permute(call: Call) -> Value:
    """Permute or transpose; from (N, C, H, W) to (N, H, W, C) and back it is only another way to look at it."""
    value, rank = call.inputs[0], len(call.inputs[0].shape)
    if call.node.target in ("transpose", torch.transpose):
        order = list(range(rank))
        a, b = call.option("dim0", 1), call.option("dim1", 2)
        order[a], order[b] = order[b], order[a]
    else:
        dims: Any = call.option("dims", 1)  # as one sequence, or one by one
        dims = dims if isinstance(dims, (tuple, list)) else call.node.args[1:]
        order = [axis % rank for axis in dims]
    if value.last and tuple(order) == TO_LAST:
        return Value(value.tensor, call.shape, False, value.grid)
    if not value.last and tuple(order) == TO_FIRST:
        return Value(value.tensor, call.shape, True, value.grid)
    value = call.lowering.as_first(value)
    return call.lowering.transpose(value, order, call.lowering.new(call.name, call.shape, grid=value.grid))


def concatenation(call: Call) -> Value:
    """Concatenation; in integers all parts lie on the grid of the whole."""
    grid = call.grid if call.integer else None
    last = len(call.shape) == 4
    turn = call.lowering.as_last if last else call.lowering.as_first
    tensors = [turn(call.lowering.on_grid(value, grid)).tensor for value in call.inputs]
    axis = call.option("dim", 1, 0) % len(call.shape)
    return call.emit(
        "CONCATENATION", tensors, "ConcatenationOptions", grid=grid, last=last,
        axis=TO_LAST.index(axis) if last else axis,
    )  # fmt: skip


def arithmetic(kind: str, options: str, *, integer: bool = True) -> Handler:
    """Return the handler of a sum, difference, product or quotient of two tensors, or of a tensor and a constant."""

    def lower(call: Call) -> Value:
        low, args = call.lowering, [*call.node.args, *call.node.kwargs.values()]
        if len(args) != 2 or call.option("alpha", 2, 1) != 1 or "rounding_mode" in call.node.kwargs:
            raise call.unknown("alpha, rounding_mode")
        found = [low.values.get(part, low.results.numbers.get(part)) if isinstance(part, fx.Node) else part
                 for part in args]  # fmt: skip
        values = [part for part in found if isinstance(part, Value)]
        grid = call.grid if integer and all(value.grid is not None for value in values) else None
        last = any(value.last for value in values) and all(len(value.shape) == 4 for value in values)
        turn = low.as_last if last else low.as_first
        tensors = []
        for part in found:
            if isinstance(part, Value):
                part = low.on_grid(part, None) if grid is None else part
                tensors.append(turn(part).tensor)
            elif isinstance(part, (int, float, torch.Tensor)):
                tensors.append(_constant(call, part, last, grid is not None))
            else:
                raise call.unknown(type(part).__name__)
        return call.emit(kind, tensors, options, grid=grid, last=last, **_fused(options, call.activation))

    return lower


def _fused(options: str, activation: int) -> dict[str, Any]:
    return {"fusedActivationFunction": activation} if options else {}


def _constant(call: Call, number: float | torch.Tensor, last: bool, integer: bool) -> int:
    """Return a constant that broadcasts over the output: float32, or codes of a symmetric grid up to its largest."""
    array = np.asarray(number, np.float32)
    if last and array.ndim:
        array = array.reshape((1,) * (4 - array.ndim) + array.shape).transpose(TO_LAST)
    if not integer:
        return call.graph.constant(f"{call.name}.constant", array)
    scale = float(np.float32(max(float(np.abs(array).max()), 1e-30) / 127))
    codes = np.rint(array / np.float32(scale)).astype(np.int8)
    return call.graph.constant(f"{call.name}.constant", codes, Grid((scale,), 0))


def elementwise(kind: str, options: str = "", *, own_grid: Grid | None = None, integer: bool = True) -> Handler:
    """Return the handler of a function of each number; `own_grid` is the only one that its integer kernel gives."""

    def lower(call: Call) -> Value:
        codes = integer and call.integer
        source = call.inputs[0] if codes else call.lowering.on_grid(call.inputs[0], None)
        grid = (own_grid or call.grid) if codes else None
        if own_grid and codes:
            call.allow(own_grid.scale[0])
        elif codes and call.grid:
            call.allow(_APPROXIMATE.get(kind, 0.0) * call.grid.scale[0])
        made = call.emit(kind, [source.tensor], options, grid=grid, last=source.last, **_values(call, kind))
        return Value(made.tensor, made.shape, made.last, made.grid, source.order)

    return lower


def _values(call: Call, kind: str) -> dict[str, Any]:
    if kind == "LEAKY_RELU":
        return {"alpha": float(call.option("negative_slope", 1, 0.01))}
    if kind == "GELU":
        return {"approximate": call.option("approximate", 1, "none") == "tanh"}
    if kind == "ELU" and call.option("alpha", 1, 1.0) != 1:
        raise call.unknown("alpha")
    return {}


def hard_tanh(call: Call) -> Value:
    """Hardtanh, where it is ReLU6 or clips at -1 and 1."""
    limits = call.option("min_val", 1, -1.0), call.option("max_val", 2, 1.0)
    kinds = {(0, 6): "RELU6", (-1, 1): "RELU_N1_TO_1"}
    if limits not in kinds:
        raise call.unknown(str(limits))
    return elementwise(kinds[limits], integer=limits == (0, 6))(call)


def hard_sigmoid(call: Call) -> Value:
    """relu6(x + 3) / 6, in two operators."""
    grids = (_SIX, call.grid) if call.integer else (None, None)
    source = call.sources[0]
    three, sixth = (_constant(call, number, source.last, call.integer) for number in (3.0, 1 / 6))
    call.allow(1 / 255 if call.integer else 0.0)
    shifted = call.emit(
        "ADD", [source.tensor, three], "AddOptions", grid=grids[0], last=source.last, fusedActivationFunction=3
    )
    return call.emit("MUL", [shifted.tensor, sixth], "MulOptions", grid=grids[1], last=source.last)


def silu(call: Call) -> Value:
    """The product x sigmoid(x), in two operators."""
    source = call.sources[0]
    grids = (_SIGMOID, call.grid) if call.integer else (None, None)
    if call.integer and source.grid:
        call.allow(255 * source.grid.scale[0] / 256)  # a step of the gate, times the largest x
    gate = call.emit("LOGISTIC", [source.tensor], grid=grids[0], last=source.last)
    return call.emit("MUL", [source.tensor, gate.tensor], "MulOptions", grid=grids[1], last=source.last)


def softmax(call: Call) -> Value:
    """Softmax over the last stored dimension."""
    rank, dim = len(call.shape), call.option("dim", 1)
    if dim is None or dim % rank != (1 if rank == 4 else rank - 1):
        raise call.unknown(f"dim={dim}")
    source = call.lowering.as_last(call.sources[0])
    call.allow(1 / 256 if call.integer else 0.0)
    return call.emit(
        "SOFTMAX",
        [source.tensor],
        "SoftmaxOptions",
        grid=_SIGMOID if call.integer else None,
        last=source.last,
        beta=1.0,
    )


def pad(call: Call) -> Value:
    """F.pad of pictures, with zeros."""
    edges = list(call.option("pad" if call.module is None else "padding", 1))
    mode = call.option("mode", 2, "constant")
    if mode != "constant" or call.option("value", 3, 0) or len(edges) > 4 or min(edges) < 0 or len(call.shape) != 4:
        raise call.unknown(mode)
    left, right, top, bottom = [*edges, 0, 0][:4]
    return layers.padded(call, call.lowering.as_last(call.inputs[0]), (top, bottom, left, right))


def resize(call: Call) -> Value:
    """Upsample and interpolate, nearest or bilinear."""
    mode = call.option("mode", 3, "nearest")
    kinds = {"nearest": "RESIZE_NEAREST_NEIGHBOR", "bilinear": "RESIZE_BILINEAR"}
    if mode not in kinds or len(call.shape) != 4:
        raise call.unknown(mode)
    source, corners = call.lowering.as_last(call.inputs[0]), bool(call.option("align_corners", 4, False))
    size = call.graph.constant("size", np.asarray(call.shape[2:], np.int32))
    return call.emit(
        kinds[mode], [source.tensor, size], "ResizeBilinearOptions" if mode == "bilinear"
        else "ResizeNearestNeighborOptions", grid=source.grid, last=True,
        alignCorners=corners, halfPixelCenters=mode == "bilinear" and not corners,
    )  # fmt: skip


def split(call: Call) -> list[tuple[Value, int, int, int]]:
    """Chunk and split: which part of which value each piece is; `piece` cuts it."""
    value = call.inputs[0]
    dim = call.option("dim", 2, 0) % len(value.shape)
    sizes = call.option("split_size", 1, None) or call.option("split_size_or_sections", 1, None)
    if call.node.target in ("chunk", torch.chunk):
        sizes = -(-value.shape[dim] // call.option("chunks", 1))
    if isinstance(sizes, int):
        sizes = [min(sizes, value.shape[dim] - begin) for begin in range(0, value.shape[dim], sizes)]
    begins = np.cumsum([0, *sizes[:-1]]).tolist()
    return [(value, dim, begin, size) for begin, size in zip(begins, sizes, strict=True)]


def piece(call: Call) -> Value:
    """One piece of what `split` gives."""
    pieces, index = call.lowering.values.get(call.node.all_input_nodes[0]), call.node.args[1]
    if not isinstance(pieces, list) or not isinstance(index, int):
        raise call.unknown()
    value, dim, begin, size = pieces[index]
    axis = TO_LAST.index(dim) if value.last else dim
    sizes = [size if place == axis else whole for place, whole in enumerate(value.stored)]
    begins = [begin if place == axis else 0 for place in range(len(sizes))]
    constants = [call.graph.constant(name, np.asarray(numbers, np.int32))
                 for name, numbers in (("begin", begins), ("size", sizes))]  # fmt: skip
    return call.emit("SLICE", [value.tensor, *constants], "SliceOptions", grid=value.grid, last=value.last)


def reorder(call: Call) -> Value:
    """Index_select by fixed numbers, and a channel shuffle: what lies along one dimension, in another order."""
    value = call.lowering.values.get(call.node.all_input_nodes[0])
    if not isinstance(value, Value) or value.order is not None:
        raise call.unknown()
    if operation(call.lowering.model, call.node) is torch.index_select:
        index: Any = call.node.kwargs.get("index", call.node.args[-1])
        dim, order = call.option("dim", 1), call.lowering.results.constants.get(index)
        if order is None:
            raise call.unknown("index")
    else:
        dim, order = 1, torch.arange(value.shape[1]).reshape(call.option("groups", 1), -1).T.flatten()
    dim %= len(value.shape)
    places = call.graph.constant("places", order.numpy().astype(np.int32))
    axis = TO_LAST.index(dim) if value.last else dim
    return call.emit(
        "GATHER", [value.tensor, places], "GatherOptions", grid=value.grid, last=value.last, axis=axis, batchDims=0
    )


_add = arithmetic("ADD", "AddOptions")
_subtract = arithmetic("SUB", "SubOptions")
_multiply = arithmetic("MUL", "MulOptions")
_divide = arithmetic("DIV", "DivOptions", integer=False)
_relu, _relu6 = elementwise("RELU"), elementwise("RELU6")
_sigmoid, _tanh = elementwise("LOGISTIC", own_grid=_SIGMOID), elementwise("TANH", own_grid=_TANH)
_leaky, _gelu = elementwise("LEAKY_RELU", "LeakyReluOptions"), elementwise("GELU", "GeluOptions")
_elu, _hard_swish = elementwise("ELU"), elementwise("HARD_SWISH", "HardSwishOptions")

# By what an operation is: a module's class, a function, a method's name.
_KINDS: dict[Handler, tuple[Any, ...]] = {
    layers.convolution: (nn.Conv2d,),
    layers.linear: (nn.Linear,),
    layers.batch_norm: (nn.BatchNorm1d, nn.BatchNorm2d),
    layers.max_pool: (nn.MaxPool2d, F.max_pool2d),
    layers.average_pool: (nn.AvgPool2d, F.avg_pool2d),
    layers.adaptive_average_pool: (nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d),
    layers.mean: (torch.mean, "mean"),
    reshape: (
        *(nn.Flatten, torch.flatten, "flatten", torch.reshape, "reshape", "view", torch.squeeze, "squeeze"),
        *(torch.unsqueeze, "unsqueeze", nn.Unflatten, "unflatten", "contiguous"),
    ),
    permute: (torch.permute, "permute", torch.transpose, "transpose"),
    concatenation: (torch.cat, torch.concat),
    _add: (operator.add, operator.iadd, torch.add, "add", "add_"),
    _subtract: (operator.sub, operator.isub, torch.sub, "sub", "sub_"),
    _multiply: (operator.mul, operator.imul, torch.mul, "mul", "mul_"),
    _divide: (operator.truediv, torch.div, "div"),
    _relu: (nn.ReLU, F.relu, torch.relu, "relu", "relu_"),
    _relu6: (nn.ReLU6, F.relu6),
    _sigmoid: (nn.Sigmoid, torch.sigmoid, F.sigmoid, "sigmoid"),
    _tanh: (nn.Tanh, torch.tanh, F.tanh, "tanh"),
    _leaky: (nn.LeakyReLU, F.leaky_relu),
    _elu: (nn.ELU, F.elu),
    _gelu: (nn.GELU, F.gelu),
    _hard_swish: (nn.Hardswish, F.hardswish),
    hard_sigmoid: (nn.Hardsigmoid, F.hardsigmoid),
    hard_tanh: (nn.Hardtanh, F.hardtanh),
    silu: (nn.SiLU, F.silu),
    softmax: (nn.Softmax, F.softmax, torch.softmax, "softmax"),
    pad: (F.pad, nn.ZeroPad2d),
    resize: (nn.Upsample, F.interpolate, nn.UpsamplingNearest2d),
    split: (torch.chunk, "chunk", torch.split, "split"),
    piece: (operator.getitem,),
    reorder: (torch.index_select, nn.ChannelShuffle, F.channel_shuffle),
}
HANDLERS: dict[Any, Callable[[Call], Any]] = {kind: handler for handler, kinds in _KINDS.items() for kind in kinds}
