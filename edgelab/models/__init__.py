"""The networks of the course, and the zoo of their trained weights."""

from edgelab.models.blocks import BasicBlock, InvertedResidual, conv_bn, depthwise_separable, make_divisible
from edgelab.models.mobilenet import mobilenet_v1, mobilenet_v2
from edgelab.models.resnet import resnet
from edgelab.models.zoo import load_pretrained, manifest

__all__ = [
    "BasicBlock",
    "InvertedResidual",
    "conv_bn",
    "depthwise_separable",
    "load_pretrained",
    "make_divisible",
    "manifest",
    "mobilenet_v1",
    "mobilenet_v2",
    "resnet",
]
