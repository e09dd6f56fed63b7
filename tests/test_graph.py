import copy
import inspect

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from edgelab.errors import EdgelabError
from edgelab.models import mobilenet_v1, mobilenet_v2, resnet
from edgelab.quantization import fold_batchnorm
from edgelab.quantization.graph import trace, weighted_layers

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def torchvision_model(name):
    def build(**options):
        from torchvision import models  # after edgelab, which prepares torch for it

        return getattr(models, name)(**options)

    return build


NETWORKS = {
    "torchvision ResNet-18": torchvision_model("resnet18"),
    "torchvision MobileNetV2": torchvision_model("mobilenet_v2"),
    "torchvision MobileNetV3-small": torchvision_model("mobilenet_v3_small"),
    "our resnet": resnet,
    "our MobileNetV1": lambda **options: mobilenet_v1(0.25, **options),
    "our MobileNetV2": lambda **options: mobilenet_v2(0.25, **options),
}


def randomise_norms(model, seed=0):
    """Give every batch norm weights and statistics that are far from the identity it starts as."""
    generator = torch.Generator().manual_seed(seed)
    for norm in model.modules():
        if isinstance(norm, NORMS):
            with torch.no_grad():
                for tensor in (norm.weight, norm.running_var):
                    if tensor is not None:
                        tensor.uniform_(0.5, 1.5, generator=generator)
                for tensor in (norm.bias, norm.running_mean):
                    if tensor is not None:
                        tensor.normal_(0, 0.3, generator=generator)
    return model


def count_norms(model):
    return sum(isinstance(module, NORMS) for module in model.modules())


def outputs(model, *shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return model.eval()(x)


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS.keys())
def test_a_network_computes_the_same_without_its_batch_norms(build):
    torch.manual_seed(0)
    model = randomise_norms(build(num_classes=16))
    folded = fold_batchnorm(model)
    assert count_norms(model) > 0
    assert count_norms(folded) == 0
    expected = outputs(model, 2, 3, 32, 32)
    torch.testing.assert_close(outputs(folded, 2, 3, 32, 32), expected, rtol=1e-3, atol=1e-4 * expected.std().item())


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "without affine"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("groups", [1, 2, 8], ids=["dense", "two groups", "depthwise"])
def test_the_folded_convolution_is_the_one_torch_fuses(groups, bias, affine):
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(8, 16, 3, groups=groups, bias=bias), nn.BatchNorm2d(16, affine=affine)
    model = randomise_norms(nn.Sequential(conv, norm)).eval()
    expected, (layer,) = fuse_conv_bn_eval(conv, norm), fold_batchnorm(model).children()
    torch.testing.assert_close(layer.weight, expected.weight)
    torch.testing.assert_close(layer.bias, expected.bias)


def test_the_folded_linear_layer_is_the_one_torch_fuses():
    torch.manual_seed(0)
    model = randomise_norms(nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7))).eval()
    expected, (layer,) = fuse_linear_bn_eval(*model), fold_batchnorm(model).children()
    torch.testing.assert_close(layer.weight, expected.weight)
    torch.testing.assert_close(layer.bias, expected.bias)


def test_channels_without_variance_stay_finite():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    model[1].running_var.zero_()
    folded = fold_batchnorm(model)
    torch.testing.assert_close(outputs(folded, 2, 1, 4, 4), outputs(model, 2, 1, 4, 4))


class ReadTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.conv(x)
        return self.norm(y) + y


class CalledTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x):
        return self.norm(self.conv(self.norm(self.conv(x))))


KEPT = {
    "the output is read elsewhere too": ReadTwice(),
    "the layer is called twice": CalledTwice(),
    "the norm comes first": nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)),
    "a ReLU lies between": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)),
    "statistics come from the batch": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
}


@pytest.mark.parametrize("model", KEPT.values(), ids=KEPT.keys())
def test_a_batch_norm_stays_where(model):
    model = randomise_norms(copy.deepcopy(model))
    folded = fold_batchnorm(model)
    assert count_norms(folded) == 1
    torch.testing.assert_close(outputs(folded, 2, 3, 8, 8), outputs(model, 2, 3, 8, 8))


def test_a_norm_of_something_else_than_the_layers_channels_stays():
    """BatchNorm1d behind a linear layer on (N, L, C) normalises the L places."""
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(5)).eval()
    model[1].running_mean.uniform_(-1, 1)
    folded = fold_batchnorm(model)
    assert count_norms(folded) == 1
    torch.testing.assert_close(outputs(folded, 2, 5, 4), outputs(model, 2, 5, 4))


def test_folding_twice_changes_nothing_more():
    model = randomise_norms(resnet((4, 8)))
    once = fold_batchnorm(model)
    twice = fold_batchnorm(once)
    for name, tensor in once.state_dict().items():
        assert torch.equal(tensor, twice.state_dict()[name]), name


def test_the_callers_model_stays_as_it_was():
    model = randomise_norms(resnet((4, 8)))
    model.train()
    before = copy.deepcopy(model.state_dict())
    folded = fold_batchnorm(model)
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in folded.modules())
    assert model.state_dict().keys() == before.keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    with torch.no_grad():
        next(folded.parameters()).zero_()
    assert torch.equal(next(model.parameters()), next(iter(before.values()))), "the copy shares its weights"


class Branching(nn.Module):
    def forward(self, x):
        if x.sum() > 0:  # the culprit
            return x
        return -x


class Looping(nn.Module):
    def forward(self, x):
        return sum(row for row in x)  # the culprit


class Measuring(nn.Module):
    def forward(self, x):
        return x / len(x)  # the culprit


@pytest.mark.parametrize("culprit", [Branching, Looping, Measuring])
@pytest.mark.parametrize("nested", [False, True], ids=["alone", "inside a network"])
def test_a_model_that_cannot_be_traced_is_told_its_file_and_line(culprit, nested):
    source, first = inspect.getsourcelines(culprit)
    line = first + next(number for number, text in enumerate(source) if "the culprit" in text)
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sequential(culprit())) if nested else culprit()
    with pytest.raises(EdgelabError) as caught:
        fold_batchnorm(model)
    message = str(caught.value)
    assert f"{__file__}, line {line}:" in message
    assert source[line - first].strip() in message
    assert "\n" not in message


def test_layers_are_listed_in_the_order_in_which_they_run():
    class Reversed(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(2, 2), nn.Conv2d(1, 2, 1)

        def forward(self, x):
            return self.last(self.first(x).mean((2, 3)))

    assert [node.target for node in weighted_layers(trace(Reversed()))] == ["first", "last"]
