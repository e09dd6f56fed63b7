"""Layers with weights or windows, as TensorFlow Lite's operators.

Specification of the integer ones: https://ai.google.dev/edge/litert/models/quantization_spec. torch pads alike on both
sides; TensorFlow Lite's SAME puts the odd zero at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from edgelab.deploy.lowering import TO_LAST, Call, Value
from edgelab.deploy.tflite import Grid
from edgelab.quantization import quantize
from edgelab.quantization.conversion import codes_of
from edgelab.quantization.graph import Weighted

SAME, VALID = 0, 1  # the schema's Padding


def convolution(call: Call) -> Value:
    """Conv2d: CONV_2D, or DEPTHWISE_CONV_2D where each group has one input channel."""
    layer, low = call.module, call.lowering
    assert isinstance(layer, nn.Conv2d)
    if len(call.shape) != 4:
        raise call.unknown("(N, C, H, W)")
    depthwise = layer.groups == layer.in_channels and layer.groups > 1
    order, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
    source = low.as_last(call.sources[0])
    begins = _begins(layer.padding, layer.kernel_size, layer.dilation)
    source, padding = _pad(call, source, begins, layer.kernel_size, layer.stride, layer.dilation)
    weight, bias = _constants(call, layer, order, axis)
    values: dict[str, Any] = {"depthMultiplier": layer.out_channels // layer.in_channels} if depthwise else {}
    return call.emit(
        "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        [source.tensor, weight, bias],
        "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions",
        grid=call.grid if call.integer else None,
        last=True,
        padding=padding,
        strideH=layer.stride[0],
        strideW=layer.stride[1],
        dilationHFactor=layer.dilation[0],
        dilationWFactor=layer.dilation[1],
        fusedActivationFunction=call.activation,
        **values,
    )


def linear(call: Call) -> Value:
    """Linear: FULLY_CONNECTED over the last dimension."""
    layer, source = call.module, call.sources[0]
    assert isinstance(layer, nn.Linear)
    if source.order is None:
        source = call.lowering.as_first(source)
    weight, bias = _constants(call, layer, (0, 1), 0, source.order)
    return call.emit(
        "FULLY_CONNECTED",
        [source.tensor, weight, bias],
        "FullyConnectedOptions",
        grid=call.grid if call.integer else None,
        fusedActivationFunction=call.activation,
        keepNumDims=len(call.shape) != 2,
    )


def batch_norm(call: Call) -> Value:
    """A batch norm that could not be folded: a product and a sum for each channel, in float."""
    norm = call.module
    assert isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
    if norm.running_mean is None or norm.running_var is None or len(call.shape) not in (2, 4):
        raise call.unknown("running_mean")
    source = call.lowering.as_last(call.lowering.on_grid(call.inputs[0], None))
    factor = torch.rsqrt(norm.running_var + norm.eps) * (1 if norm.weight is None else norm.weight)
    offset = (0 if norm.bias is None else norm.bias) - norm.running_mean * factor
    value = source
    for kind, numbers in (("MUL", factor), ("ADD", offset)):
        constant = call.graph.constant(f"{call.name}.{kind.lower()}", numbers.detach().numpy())
        options = f"{kind.capitalize()}Options"
        value = call.emit(kind, [value.tensor, constant], options, last=source.last)
    return value


def _constants(
    call: Call, layer: Weighted, order: Sequence[int], axis: int, columns: np.ndarray | None = None
) -> tuple[int, int]:
    """Return weights and bias of a layer: codes for an integer operator; codes and a DEQUANTIZE for one in float."""
    graph, name, codes = call.graph, call.name, codes_of(layer)

    def stored(weight: torch.Tensor) -> np.ndarray:
        array = weight.detach().numpy().transpose(order)
        return array if columns is None else array[:, columns]

    bias = np.zeros(layer.weight.shape[0], np.float32) if layer.bias is None else layer.bias.detach().numpy()
    if codes is None:
        return graph.constant(f"{name}.weight", stored(layer.weight)), graph.constant(f"{name}.bias", bias)
    spec = codes.weight_qparams.spec
    if not (spec.symmetric and spec.signed) or spec.axis not in (None, 0):
        raise call.unknown("symmetric")
    scale = codes.weight_qparams.scale.numpy().reshape(-1)
    grid = Grid.of_channels(scale, axis)
    weight = graph.constant(f"{name}.weight", stored(quantize(layer.weight, codes.weight_qparams)), grid)
    if not call.integer:
        call.lowering.in_float.append(name)
        floats = graph.tensor(f"{name}.weight.read", graph.tensors[weight].shape)
        graph.operator("DEQUANTIZE", [weight], floats, "DequantizeOptions")
        return floats, graph.constant(f"{name}.bias", bias)
    step = np.float32(call.inputs[0].grid.scale[0]) * scale  # type: ignore[union-attr]
    bias_codes = np.zeros(bias.shape, np.int32) if codes.bias_codes is None else codes.bias_codes.numpy()
    return weight, graph.constant(f"{name}.bias", bias_codes.astype(np.int32), Grid.of_channels(step, 0))


def _begins(padding: Any, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, int]:
    """Return how many zeros torch puts above and to the left."""
    if padding == "valid":
        return 0, 0
    if padding == "same":
        return tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True))  # type: ignore[return-value]
    return _pair(padding)


def _pad(
    call: Call,
    source: Value,
    begins: tuple[int, int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int] = (1, 1),
    *,
    lowest: bool = False,
) -> tuple[Value, int]:
    """Return the picture, with a PAD before the operator where its own padding is not torch's, and that padding.

    SAME puts the odd zero at the end, where torch has as many on both sides: with stride 2 they seldom agree. At the
    end no more is added than is read. `lowest` pads with the lowest number, for a maximum.
    """
    sizes, outs = source.shape[2:], call.shape[2:]
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    needed = [max(0, (o - 1) * s + span - size) for o, s, span, size in zip(outs, stride, spans, sizes, strict=True)]
    if all(b == n // 2 and -(-size // s) == o
           for b, n, size, s, o in zip(begins, needed, sizes, stride, outs, strict=True)):  # fmt: skip
        return source, SAME
    ends = [max(0, n - b) for n, b in zip(needed, begins, strict=True)]
    if not any((*begins, *ends)):
        return source, VALID
    return padded(call, source, (begins[0], ends[0], begins[1], ends[1]), lowest=lowest), VALID


def padded(call: Call, source: Value, edges: tuple[int, int, int, int], *, lowest: bool = False) -> Value:
    """Return a picture with so many rows above and below, columns left and right; of zeros, or of the lowest number."""
    top, bottom, left, right = edges
    n, c, h, w = source.shape
    graph = call.graph
    paddings = graph.constant("paddings", np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
    inputs, kind, options = [source.tensor, paddings], "PAD", "PadOptions"
    if lowest and not (source.grid and source.grid.zero_point == -128):
        least = np.array([-128], np.int8) if source.grid else np.array([np.finfo(np.float32).min], np.float32)
        inputs, kind, options = [*inputs, graph.constant("lowest", least, source.grid)], "PADV2", "PadV2Options"
    shape = (n, c, h + top + bottom, w + left + right)
    made = call.lowering.new(f"{call.name}.padded", shape, grid=source.grid, last=True)
    graph.operator(kind, inputs, made.tensor, options)
    return made


def max_pool(call: Call) -> Value:
    """MaxPool2d, on codes as they are."""
    kernel, stride, padding, dilation = _window(call)
    if dilation != (1, 1) or call.option("return_indices", 6, False):
        raise call.unknown("dilation, return_indices")
    source = call.lowering.as_last(call.inputs[0])
    source, place = _pad(call, source, padding, kernel, stride, lowest=True)
    return _pool(call, "MAX_POOL_2D", source, kernel, stride, place)


def average_pool(call: Call) -> Value:
    """AvgPool2d: on the grid of its input, as the specification demands."""
    kernel, stride, padding, _dilation = _window(call)
    source = call.lowering.as_last(call.inputs[0])
    if call.option("divisor_override", 6, None):
        raise call.unknown("divisor_override")
    floor = [(size + 2 * p - k) // s + 1
             for size, p, k, s in zip(source.shape[2:], padding, kernel, stride, strict=True)]  # fmt: skip
    if list(call.shape[2:]) != floor:
        raise call.unknown("ceil_mode")
    place = VALID
    if any(padding):
        if not call.option("count_include_pad", 5, True):
            source, place = _pad(call, source, padding, kernel, stride)
            if place is not SAME:
                raise call.unknown("count_include_pad")
        else:
            source = padded(call, source, (padding[0], padding[0], padding[1], padding[1]))
    return _pool(call, "AVERAGE_POOL_2D", source, kernel, stride, place)


def adaptive_average_pool(call: Call) -> Value:
    """AdaptiveAvgPool2d: a MEAN where one number is left of each channel, an average over equal parts elsewhere."""
    source = call.inputs[0]
    if call.shape[2:] == (1, 1):
        return mean_over(call, call.lowering.as_last(call.sources[0]), (2, 3), keep=True)
    if call.shape == source.shape:
        return source
    kernel = tuple(size // out for size, out in zip(source.shape[2:], call.shape[2:], strict=True))
    if any(size % out for size, out in zip(source.shape[2:], call.shape[2:], strict=True)):
        raise call.unknown(f"{source.shape[2:]} -> {call.shape[2:]}")
    return _pool(call, "AVERAGE_POOL_2D", call.lowering.as_last(source), kernel, kernel, VALID)


def _pool(call: Call, kind: str, source: Value, kernel: Sequence[int], stride: Sequence[int], padding: int) -> Value:
    if source.grid and kind == "AVERAGE_POOL_2D":
        call.allow(source.grid.scale[0])
    return call.emit(
        kind, [source.tensor], "Pool2DOptions", grid=source.grid, last=True, padding=padding,
        strideH=stride[0], strideW=stride[1], filterHeight=kernel[0], filterWidth=kernel[1],
    )  # fmt: skip


def _window(call: Call) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]:
    kernel = _pair(call.option("kernel_size", 1))
    stride = _pair(call.option("stride", 2, None) or kernel)
    return kernel, stride, _pair(call.option("padding", 3, 0)), _pair(call.option("dilation", 4, 1))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def mean(call: Call) -> Value:
    """A mean over some dimensions."""
    dims = call.option("dim", 1)
    if dims is None:
        raise call.unknown("dim")
    rank, source = len(call.sources[0].shape), call.sources[0]
    axes = sorted(axis % rank for axis in ((dims,) if isinstance(dims, int) else dims))
    keep = bool(call.option("keepdim", 2, False))
    if not keep and axes not in ([2, 3], [1, 2, 3], [1]):
        source = call.lowering.as_first(source)
    return mean_over(call, source, axes, keep=keep)


def mean_over(call: Call, source: Value, axes: Sequence[int], *, keep: bool) -> Value:
    """Return the MEAN of `source` over torch's dimensions `axes`."""
    stored = [TO_LAST.index(axis) for axis in axes] if source.last else axes
    constant = call.graph.constant("axes", np.asarray(stored, np.int32))
    return call.emit(
        "MEAN", [source.tensor, constant], "ReducerOptions",
        grid=call.grid if call.integer else None, last=source.last and keep, keepDims=keep,
    )  # fmt: skip
