"""MobileNetV1 (Howard et al., 2017) and MobileNetV2 (Sandler et al., 2018) with a width multiplier.

The papers' networks shrink a 224x224 image 32 times. On images of 28 to 32 pixels that leaves nothing to look at,
so `total_stride` says how often the resolution is really halved: the first layers asked to halve it keep it instead.
"""

from collections.abc import Callable, Iterable
from math import log2

import torch
from torch import nn

from edgelab.models.blocks import InvertedResidual, conv_bn, depthwise_separable, make_divisible

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


class MobileNet(nn.Module):
    """Features, global average pool, dropout, classifier: `(N, in_channels, H, W) -> (N, num_classes)`."""

    def __init__(self, features: Iterable[nn.Module], channels: int, num_classes: int, dropout: float):
        super().__init__()
        self.features = nn.Sequential(*features)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.dropout(self.flatten(self.pool(self.features(x)))))


def mobilenet_v1(
    width_mult: float = 1.0, *, in_channels: int = 3, num_classes: int = 16, total_stride: int = 8
) -> MobileNet:
    """Return a MobileNetV1 with untrained weights, every layer `width_mult` times as wide as in the paper."""
    stride = _strides(total_stride)
    channels = make_divisible(32 * width_mult)
    features = [conv_bn(in_channels, channels, stride=stride(2))]
    for width, block_stride in _V1_BLOCKS:
        width = make_divisible(width * width_mult)
        features.append(depthwise_separable(channels, width, stride(block_stride)))
        channels = width
    return MobileNet(features, channels, num_classes, dropout=0.001)


def mobilenet_v2(
    width_mult: float = 1.0, *, in_channels: int = 3, num_classes: int = 16, total_stride: int = 8
) -> MobileNet:
    """Return a MobileNetV2 with untrained weights.

    `mobilenet_v2(1.0, num_classes=1000, total_stride=32)` is the paper's network at 224x224, layer for layer the
    same as torchvision's: its weights can be copied over in order.
    """
    stride = _strides(total_stride)
    channels = make_divisible(32 * width_mult)
    features: list[nn.Module] = [conv_bn(in_channels, channels, stride=stride(2), activation=nn.ReLU6)]
    for expand_ratio, width, repeats, first_stride in _V2_STAGES:
        width = make_divisible(width * width_mult)
        for repeat in range(repeats):
            block_stride = stride(first_stride) if repeat == 0 else 1
            features.append(InvertedResidual(channels, width, block_stride, expand_ratio))
            channels = width
    last = make_divisible(1280 * max(1.0, width_mult))  # the paper keeps the last layer wide in narrow networks
    features.append(conv_bn(channels, last, 1, activation=nn.ReLU6))
    return MobileNet(features, last, num_classes, dropout=0.2)


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
