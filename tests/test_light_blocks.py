"""The blocks of light architectures run on integers: from the float network to ONNX Runtime's int8."""

import pytest
import torch
from torch import nn

from edgelab.deploy import Runner, operators, to_onnx
from edgelab.models import (
    InvertedResidual,
    UniversalInvertedBottleneck,
    conv_bn,
    mobilenet_v3_small,
    mobilenet_v4_small,
)
from edgelab.quantization import calibrate, convert, layer_report, prepare, sqnr


def settled(model, images):
    """Give batch norm the statistics of one batch."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(images)
    return model.eval()


BLOCKS = {
    "hard-swish": lambda: conv_bn(8, 8, activation=nn.Hardswish),
    "squeeze-excite": lambda: InvertedResidual(8, 8, 1, 4, squeeze_excite=True, activation=nn.Hardswish),
    "inverted residual, 5x5": lambda: InvertedResidual(8, 16, 2, 4, kernel_size=5),
    "ExtraDW": lambda: UniversalInvertedBottleneck(8, 8, 1, 4, start_kernel=5, middle_kernel=3),
    "ConvNeXt": lambda: UniversalInvertedBottleneck(8, 8, 1, 4, start_kernel=3, middle_kernel=0),
    "feed-forward": lambda: UniversalInvertedBottleneck(8, 8, 1, 4, start_kernel=0, middle_kernel=0),
}


@pytest.mark.parametrize("build", BLOCKS.values(), ids=BLOCKS)
def test_a_block_answers_in_int8_as_in_float(build, tmp_path):
    images = torch.randn(16, 8, 12, 12, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = settled(build(), images)
    converted = convert(calibrate(prepare(model), images))
    assert all(layer.integer for layer in layer_report(converted))
    path = to_onnx(converted, images[:1], tmp_path / "block.onnx")
    got = torch.cat([Runner.open(path)(image) for image in images[:4].split(1)])
    with torch.no_grad():
        assert sqnr(model(images[:4]), got) > 28
        assert sqnr(converted(images[:4]), got) > 40
    assert operators(path)["QLinearConv"] == len(layer_report(converted))


@pytest.mark.long
@pytest.mark.parametrize("build", [mobilenet_v3_small, mobilenet_v4_small], ids=["V3-small", "V4-small"])
def test_a_whole_network_of_them_runs_on_integers(build, tmp_path):
    images = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = settled(build(0.5), images)
    converted = convert(calibrate(prepare(model), images))
    path = to_onnx(converted, images[:2], tmp_path / "model.onnx")
    counts, layers = operators(path), layer_report(converted)
    assert counts["QLinearConv"] + counts["QGemm"] == len(layers) > 30
    with torch.no_grad():
        assert sqnr(converted(images[:2]), Runner.open(path)(images[:2])) > 15  # untrained: it has no margins
        assert sqnr(model(images), converted(images)) > 10
