"""CIFAR-style residual networks (He et al., 2016, section 4.2): the course's baseline and its small students."""

from collections.abc import Sequence

import torch
from torch import nn

from edgelab.models.blocks import BasicBlock, conv_bn


class ResNet(nn.Module):
    """A 3x3 stem and stages of `BasicBlock`s, each stage after the first at half the resolution.

    `(N, in_channels, H, W) -> (N, num_classes)`
    """

    def __init__(self, widths: Sequence[int], blocks: int, in_channels: int, num_classes: int):
        super().__init__()
        self.stem = conv_bn(in_channels, widths[0])
        stages = []
        channels = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(BasicBlock(channels, width, stride))
                channels = width
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages(self.stem(x))
        return self.classifier(self.flatten(self.pool(x)))


def resnet(
    widths: Sequence[int] = (64, 128, 256), blocks: int = 1, *, in_channels: int = 3, num_classes: int = 16
) -> ResNet:
    """Return a residual network with untrained weights; the defaults are the course's baseline.

    `widths` are the channels of each stage, `blocks` the residual blocks in a stage.
    """
    return ResNet(widths, blocks, in_channels, num_classes)
