"""A transposed convolution as a convolution whose outputs are put side by side: the same numbers."""

import random

import pytest
import torch
from torch import nn

from edgelab.deploy import Runner, operators, to_onnx
from edgelab.quantization import calibrate, convert, fold_batchnorm, layer_report, prepare, sqnr
from edgelab.quantization.interleave import as_convolution

KINDS = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def some_layer(seed):
    """Return a transposed convolution with options drawn by lot, and an input for it."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    dims, groups = draw.choice([1, 2, 2, 2, 3]), draw.choice([1, 1, 2, 3])
    kernel, stride, dilation = ([draw.randint(1, most) for _axis in range(dims)] for most in (5, 3, 2))
    padding = [draw.randint(0, min(3, d * (k - 1))) for k, d in zip(kernel, dilation, strict=True)]
    more = [draw.randint(0, max(s, d) - 1) for s, d in zip(stride, dilation, strict=True)]
    layer = KINDS[dims](
        2 * groups, 3 * groups, tuple(kernel), tuple(stride), tuple(padding), tuple(more), groups,
        draw.random() < 0.7, tuple(dilation),
    )  # fmt: skip
    return layer, torch.randn(2, 2 * groups, *(draw.randint(5, 7) for _axis in range(dims)))


@pytest.mark.parametrize("seed", range(40))
def test_it_computes_what_torch_computes(seed):
    layer, x = some_layer(seed)
    convolution, side_by_side = as_convolution(layer)
    with torch.no_grad():
        torch.testing.assert_close(side_by_side(convolution(x)), layer(x), rtol=1e-4, atol=1e-5)


def test_no_product_is_with_a_zero_between():
    convolution, side_by_side = as_convolution(nn.ConvTranspose2d(8, 4, 2, stride=2))
    assert convolution.weight.shape == (16, 8, 1, 1)
    assert convolution.weight.numel() == 8 * 4 * 2 * 2
    assert side_by_side.begins == side_by_side.ends == convolution.padding == (0, 0)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_batch_norm_behind_it_is_folded(groups):
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups), nn.BatchNorm2d(6), nn.ReLU())
    model[1].running_mean.normal_()
    model[1].running_var.uniform_(0.5, 2)
    x = torch.randn(2, 4, 5, 5)
    folded = fold_batchnorm(model.eval())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    with torch.no_grad():
        torch.testing.assert_close(folded(x), model(x), rtol=1e-4, atol=1e-5)


class UNet(nn.Module):
    """Down, up, and a bridge between: what cuts pictures into regions."""

    def __init__(self):
        super().__init__()
        self.down, self.deep = self.layers(3, 8), self.layers(8, 16, 2)
        self.up = nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Conv2d(16, 5, 1)

    def layers(self, inputs, outputs, stride=1):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs), nn.ReLU())

    def forward(self, x):
        x = self.down(x)
        return self.head(torch.cat([x, torch.relu(self.norm(self.up(self.deep(x))))], 1))


def test_all_of_a_u_net_runs_on_integers(tmp_path):
    torch.manual_seed(0)
    model, images = UNet().eval(), torch.randn(8, 3, 16, 16)
    converted = convert(calibrate(prepare(model), images))
    assert [layer.integer for layer in layer_report(converted)] == [True] * 4
    path = to_onnx(converted, images[:2], tmp_path / "model.onnx")
    counts = operators(path)
    assert (counts["QLinearConv"], counts["QLinearConcat"], counts["Conv"]) == (4, 1, 0)
    assert (counts["QuantizeLinear"], counts["DequantizeLinear"]) == (1, 1)
    with torch.no_grad():
        assert sqnr(model(images), Runner.open(path)(images)) > 25
