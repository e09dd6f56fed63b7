"""A transposed convolution as a convolution of the small picture, whose outputs are put side by side.

A transposed convolution of stride s writes, for each place of the small picture, s places of the large one along each
axis. Its output o = q s + r - padding is the sum over j of x[q - j] w[r + s j]: for each of the s remainders r a small
convolution, by every s-th weight. All of them together are one convolution with s times the channels along each axis,
and not one of its products is with a zero that was put in between.

Source: Shi et al., 2016, "Is the deconvolution layer the same as a convolutional layer?" (arXiv 1609.07009).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
_CONVOLUTIONS: tuple[Callable[..., Any], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Interleave(nn.Module):
    """Put the outputs for all remainders side by side: `(N, C s1 s2, H, W)` to `(N, C, H s1, W s2)`, less a border.

    `strides`, `begins` and `ends` have a number for each axis: s, and how many numbers are left out at its two ends.
    The module moves numbers and makes none.
    """

    def __init__(self, strides: tuple[int, ...], begins: tuple[int, ...], ends: tuple[int, ...]):
        super().__init__()
        self.strides, self.begins, self.ends = strides, begins, ends

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        axes, sizes = range(len(self.strides)), x.shape[2:]
        x = x.reshape(x.shape[0], -1, *self.strides, *sizes)
        x = x.permute(0, 1, *(place for axis in axes for place in (2 + len(axes) + axis, 2 + axis)))
        x = x.reshape(x.shape[0], x.shape[1], *(size * s for size, s in zip(sizes, self.strides, strict=True)))
        for axis in axes:
            x = x.narrow(2 + axis, self.begins[axis], x.shape[2 + axis] - self.begins[axis] - self.ends[axis])
        return x


@torch.no_grad()
def as_convolution(layer: Transposed) -> tuple[nn.Module, Interleave]:
    """Return the convolution and the `Interleave` that together compute what a transposed convolution does."""
    strides, taps, paddings, begins, ends = [], [], [], [], []
    sizes = zip(layer.kernel_size, layer.stride, layer.padding, layer.output_padding, layer.dilation, strict=True)
    for kernel, stride, padding, more, dilation in sizes:
        assert isinstance(padding, int)  # torch takes no padding by name here
        reach = dilation * (kernel - 1) + 1
        tap = math.ceil(reach / stride)
        # As few zeros around the small picture as give all outputs: q from (padding // stride) on, and to the last.
        zeros = max(0, tap - 1 - padding // stride, math.ceil((reach + more - padding) / stride) - 1)
        strides.append(stride)
        taps.append(tap)
        paddings.append(zeros)
        begins.append(padding + (zeros - tap + 1) * stride)
        ends.append((zeros + 1) * stride + padding - reach - more)
    weight, groups = _spread(layer), layer.groups
    kind = _CONVOLUTIONS[len(strides) - 1]
    convolution = kind(
        layer.in_channels, layer.out_channels * math.prod(strides), tuple(taps), padding=tuple(paddings),
        groups=groups, bias=layer.bias is not None,
    )  # fmt: skip
    weight = F.pad(weight, [n for tap, s, size in zip(reversed(taps), reversed(strides), reversed(weight.shape[2:]),
                                                      strict=True) for n in (0, tap * s - size)])  # fmt: skip
    inputs, outputs = layer.in_channels // groups, layer.out_channels // groups
    weight = weight.reshape(groups, inputs, outputs, *(n for pair in zip(taps, strides, strict=True) for n in pair))
    tap_axes, stride_axes = range(3, weight.dim(), 2), range(4, weight.dim(), 2)
    weight = weight.flip(*tap_axes).permute(0, 2, *stride_axes, 1, *tap_axes)
    convolution.weight.copy_(weight.reshape(convolution.weight.shape))
    if layer.bias is not None:
        convolution.bias.copy_(layer.bias.repeat_interleave(math.prod(strides)))
    return convolution.train(layer.training), Interleave(tuple(strides), tuple(begins), tuple(ends))


def _spread(layer: Transposed) -> torch.Tensor:
    """Return a layer's weights with the zeros that its dilation puts between them."""
    weight = layer.weight
    for axis, dilation in enumerate(layer.dilation, 2):
        shape = list(weight.shape)
        shape[axis] = dilation * (shape[axis] - 1) + 1
        spread = weight.new_zeros(shape)
        spread.index_copy_(axis, torch.arange(0, shape[axis], dilation), weight)
        weight = spread
    return weight
