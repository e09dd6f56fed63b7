"""The networks of the course, and the zoo of their trained weights."""

from edgelab.models.blocks import (
    BasicBlock,
    InvertedResidual,
    SqueezeExcite,
    UniversalInvertedBottleneck,
    conv_bn,
    depthwise_separable,
    make_divisible,
)
from edgelab.models.mobilenet import mobilenet_v1, mobilenet_v2, mobilenet_v3_small, mobilenet_v4_small
from edgelab.models.resnet import resnet
from edgelab.models.zoo import load_pretrained, manifest

__all__ = [
    "BasicBlock",
    "InvertedResidual",
    "SqueezeExcite",
    "UniversalInvertedBottleneck",
    "conv_bn",
    "depthwise_separable",
    "load_pretrained",
    "make_divisible",
    "manifest",
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v4_small",
    "resnet",
]
