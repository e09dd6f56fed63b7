"""MobileNetV1 to V4, with a width multiplier.

Howard et al., 2017 (V1); Sandler et al., 2018 (V2); Howard et al., 2019 (V3); Qin et al., 2024 (V4).

The papers' networks shrink a 224x224 image 32 times. On images of 28 to 32 pixels that leaves nothing to look at,
so `total_stride` says how often the resolution is really halved: the first layers asked to halve it keep it instead.
The resolution multiplier of the first paper is no argument: a network takes images of any size.
"""

from collections.abc import Callable, Iterable
from functools import partial
from math import log2

import torch
from torch import nn

from edgelab.models.blocks import (
    InvertedResidual,
    UniversalInvertedBottleneck,
    conv_bn,
    depthwise_separable,
    make_divisible,
)

# Output channels and stride of each depthwise separable block (Howard et al., 2017, table 1).
_V1_BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1)),
    *((1024, 2), (1024, 1)),
)
# Expand ratio, output channels, repeats, first stride of each stage (Sandler et al., 2018, table 2).
_V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Kernel, expanded and output channels, squeeze-excite, activation, stride of each block (Howard et al., 2019, table 2).
_V3_SMALL_BLOCKS = (
    (3, 16, 16, True, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 2),
    (3, 88, 24, False, nn.ReLU, 1),
    (5, 96, 40, True, nn.Hardswish, 2),
    *((5, 240, 40, True, nn.Hardswish, 1), (5, 240, 40, True, nn.Hardswish, 1)),
    *((5, 120, 48, True, nn.Hardswish, 1), (5, 144, 48, True, nn.Hardswish, 1)),
    (5, 288, 96, True, nn.Hardswish, 2),
    *((5, 576, 96, True, nn.Hardswish, 1), (5, 576, 96, True, nn.Hardswish, 1)),
)
# Start and middle kernel, expand ratio, output channels, stride of each block of the small network of plain
# convolutions, behind its first four layers (Qin et al., 2024, appendix D).
_V4_SMALL_BLOCKS = (
    (5, 5, 3, 96, 2),
    *((0, 3, 2, 96, 1),) * 4,
    (3, 0, 4, 96, 1),
    (3, 3, 6, 128, 2),
    (5, 5, 4, 128, 1),
    (0, 5, 4, 128, 1),
    (0, 5, 3, 128, 1),
    *((0, 3, 4, 128, 1),) * 2,
)


class MobileNet(nn.Module):
    """Features, global average pool, dropout, classifier: `(N, in_channels, H, W) -> (N, num_classes)`.

    `head` comes behind the pool, where each image is one pixel: `(N, C, 1, 1) -> (N, channels)`, flat or not.
    """

    def __init__(
        self,
        features: Iterable[nn.Module],
        channels: int,
        num_classes: int,
        dropout: float,
        head: nn.Module | None = None,
    ):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Identity() if head is None else head
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(self.flatten(self.head(self.pool(self.features(x))))))


def mobilenet_v1(
    width_mult: float = 1.0,
    *,
    in_channels: int = 3,
    num_classes: int = 16,
    total_stride: int = 8,
    depthwise: bool = True,
) -> MobileNet:
    """Return a MobileNetV1 with untrained weights, every layer `width_mult` times as wide as in the paper.

    `depthwise=False` makes one full 3x3 convolution of each separable block: the paper's comparison (table 4).
    """
    stride = _strides(total_stride)
    channels = make_divisible(32 * width_mult)
    features = [conv_bn(in_channels, channels, stride=stride(2))]
    for width, block_stride in _V1_BLOCKS:
        width = make_divisible(width * width_mult)
        block = depthwise_separable if depthwise else conv_bn
        features.append(block(channels, width, stride=stride(block_stride)))
        channels = width
    return MobileNet(features, channels, num_classes, dropout=0.001)


def mobilenet_v2(
    width_mult: float = 1.0,
    *,
    in_channels: int = 3,
    num_classes: int = 16,
    total_stride: int = 8,
    depthwise: bool = True,
) -> MobileNet:
    """Return a MobileNetV2 with untrained weights.

    `mobilenet_v2(1.0, num_classes=1000, total_stride=32)` is the paper's network at 224x224, layer for layer the
    same as torchvision's: its weights can be copied over in order. `depthwise=False` makes each depthwise convolution a
    full one.
    """
    stride = _strides(total_stride)
    channels = make_divisible(32 * width_mult)
    features: list[nn.Module] = [conv_bn(in_channels, channels, stride=stride(2), activation=nn.ReLU6)]
    for expand_ratio, width, repeats, first_stride in _V2_STAGES:
        width = make_divisible(width * width_mult)
        for repeat in range(repeats):
            block_stride = stride(first_stride) if repeat == 0 else 1
            features.append(InvertedResidual(channels, width, block_stride, expand_ratio, depthwise=depthwise))
            channels = width
    last = make_divisible(1280 * max(1.0, width_mult))  # the paper keeps the last layer wide in narrow networks
    features.append(conv_bn(channels, last, 1, activation=nn.ReLU6))
    return MobileNet(features, last, num_classes, dropout=0.2)


def mobilenet_v3_small(
    width_mult: float = 1.0, *, in_channels: int = 3, num_classes: int = 16, total_stride: int = 8
) -> MobileNet:
    """Return a MobileNetV3-small with untrained weights.

    With 1000 classes and a total stride of 32 it is torchvision's, layer for layer; weights can be copied in order.
    """
    stride = _strides(total_stride)
    wide = lambda channels: make_divisible(channels * width_mult)  # noqa: E731
    channels = wide(16)
    features: list[nn.Module] = [conv_bn(in_channels, channels, stride=stride(2), activation=nn.Hardswish)]
    for kernel_size, hidden, width, squeeze_excite, activation, block_stride in _V3_SMALL_BLOCKS:
        block = partial(InvertedResidual, kernel_size=kernel_size, squeeze_excite=squeeze_excite, activation=activation)
        features.append(block(channels, wide(width), stride(block_stride), wide(hidden) / channels))
        channels = wide(width)
    features.append(conv_bn(channels, 6 * channels, 1, activation=nn.Hardswish))
    # The last expansion lies behind the pool, where it costs one pixel's work (section 5.1).
    head = nn.Sequential(nn.Flatten(), nn.Linear(6 * channels, wide(1024)), nn.Hardswish(inplace=True))
    model = MobileNet(features, wide(1024), num_classes, dropout=0.2, head=head)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3  # as it was trained by its authors
    return model


def mobilenet_v4_small(
    width_mult: float = 1.0, *, in_channels: int = 3, num_classes: int = 16, total_stride: int = 8
) -> MobileNet:
    """Return the small MobileNetV4 of plain convolutions, MNv4-Conv-S, with untrained weights.

    With 1000 classes and a total stride of 32 it is timm's `mobilenetv4_conv_small`, layer for layer. `width_mult`
    scales the stem, too, which timm's narrower ones leave at 32 channels.
    """
    stride = _strides(total_stride)
    wide = lambda channels: make_divisible(channels * width_mult)  # noqa: E731
    features: list[nn.Module] = [
        conv_bn(in_channels, wide(32), stride=stride(2)),
        conv_bn(wide(32), wide(32), stride=stride(2)),
        conv_bn(wide(32), wide(32), 1),
        conv_bn(wide(32), wide(96), stride=stride(2)),
        conv_bn(wide(96), wide(64), 1),
    ]
    channels = wide(64)
    for start_kernel, middle_kernel, expand_ratio, width, block_stride in _V4_SMALL_BLOCKS:
        block = partial(UniversalInvertedBottleneck, start_kernel=start_kernel, middle_kernel=middle_kernel)
        features.append(block(channels, wide(width), stride(block_stride), expand_ratio))
        channels = wide(width)
    features.append(conv_bn(channels, wide(960), 1))
    head = conv_bn(wide(960), 1280, 1)
    return MobileNet(features, 1280, num_classes, dropout=0.2, head=head)


def _strides(total_stride: int) -> Callable[[int], int]:
    """Return a function that lets the last `log2(total_stride)` of the five halvings through."""
    skipped = 5 - int(log2(total_stride))
    if total_stride not in (1, 2, 4, 8, 16, 32):
        raise ValueError(f"total_stride is a power of two from 1 to 32, not {total_stride}")
    seen = 0

    def stride(wanted: int) -> int:
        nonlocal seen
        if wanted == 1:
            return 1
        seen += 1
        return 1 if seen <= skipped else 2

    return stride
