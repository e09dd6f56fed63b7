"""The blocks that the course's networks are made of.

Every block ends where batch normalisation and activation can be folded into the convolution before them, and every
residual addition is a plain `+`, so that `torch.fx` sees all of it.
"""

import torch
from torch import nn


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Return `channels` rounded to a multiple of `divisor`, never more than 10 % below the request.

    The rule of the MobileNet papers' reference code: hardware likes channel counts that are multiples of 8.

    >>> make_divisible(16 * 0.75), make_divisible(11), make_divisible(3)
    (16, 16, 8)
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def conv_bn(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """Return convolution, batch normalisation and activation, padded to keep `H/stride x W/stride`.

    `activation=None` leaves the output linear; `groups=in_channels` makes the convolution depthwise.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    if activation is not None:
        layers.append(activation(inplace=True))
    return nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: `(N, C, H, W) -> (N, C', H/stride, W/stride)`.

    The shortcut is the input itself, or a 1x1 convolution where the shape changes (He et al., 2016, section 3.3,
    option B).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            conv_bn(in_channels, out_channels, stride=stride),
            conv_bn(out_channels, out_channels, activation=None),
        )
        same_shape = stride == 1 and in_channels == out_channels
        self.shortcut = (
            nn.Identity() if same_shape else conv_bn(in_channels, out_channels, 1, stride=stride, activation=None)
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activation(self.body(x) + self.shortcut(x))


def depthwise_separable(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Return a 3x3 depthwise convolution and a pointwise one (Howard et al., 2017, figure 3).

    `(N, C, H, W) -> (N, C', H/stride, W/stride)`
    """
    return nn.Sequential(
        conv_bn(in_channels, in_channels, stride=stride, groups=in_channels),
        conv_bn(in_channels, out_channels, 1),
    )


class SqueezeExcite(nn.Module):
    """Weigh each channel by a number in [0, 1] that is read off all of them: `(N, C, H, W) -> (N, C, H, W)`.

    The means over height and width go through two small layers, with a quarter of the channels between them (Hu et al.,
    2018, figure 3; the hard sigmoid is Howard et al., 2019, section 5.3).
    """

    def __init__(self, channels: int):
        super().__init__()
        squeezed = make_divisible(channels / 4)
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weigh(x)


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project; add the input where shapes allow (Sandler et al., 2018, figure 4).

    The projection is linear: an activation on so few channels would throw information away. MobileNetV3 adds larger
    kernels, `squeeze_excite` behind the filter, and another activation (Howard et al., 2019, figure 4).
    `depthwise=False` makes the filter a full convolution, to compare with.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        expand_ratio: float,
        *,
        kernel_size: int = 3,
        squeeze_excite: bool = False,
        activation: type[nn.Module] = nn.ReLU6,
        depthwise: bool = True,
    ):
        super().__init__()
        hidden = round(in_channels * expand_ratio)
        groups = hidden if depthwise else 1
        self.body = nn.Sequential(
            *([] if hidden == in_channels else [conv_bn(in_channels, hidden, 1, activation=activation)]),
            conv_bn(hidden, hidden, kernel_size, stride=stride, groups=groups, activation=activation),
            *([SqueezeExcite(hidden)] if squeeze_excite else []),
            conv_bn(hidden, out_channels, 1, activation=None),
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class UniversalInvertedBottleneck(nn.Module):
    """MobileNetV4's block: expand and project, and two switches (Qin et al., 2024, section 3 and figure 4).

    Each switch puts a depthwise convolution in, of `start_kernel` before the expansion, of `middle_kernel` behind it,
    or none where that is 0. So one block is four: the inverted bottleneck (middle alone), ConvNeXt's (start alone),
    both ("ExtraDW"), and neither, a feed-forward network of each pixel.

    Raise `ValueError` for a stride without a depthwise convolution to take it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        expand_ratio: float,
        *,
        start_kernel: int = 0,
        middle_kernel: int = 3,
    ):
        super().__init__()
        if stride > 1 and not (start_kernel or middle_kernel):
            raise ValueError("a stride needs a depthwise convolution: choose a start_kernel or a middle_kernel")
        hidden = make_divisible(in_channels * expand_ratio)
        layers = []
        if start_kernel:
            own = 1 if middle_kernel else stride
            layers.append(
                conv_bn(in_channels, in_channels, start_kernel, stride=own, groups=in_channels, activation=None)
            )
        layers.append(conv_bn(in_channels, hidden, 1))
        if middle_kernel:
            layers.append(conv_bn(hidden, hidden, middle_kernel, stride=stride, groups=hidden))
        layers.append(conv_bn(hidden, out_channels, 1, activation=None))
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.residual else self.body(x)
