import copy

import pytest
import torch
from torch import nn

from edgelab.models import mobilenet_v1, mobilenet_v2, resnet
from edgelab.quantization import (
    FakeQuantize,
    QuantizationConfig,
    calibrate,
    correct_bias,
    equalize,
    fold_batchnorm,
    prepare,
    sqnr,
)


def images(n=8, channels=3, size=16, seed=0):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def uneven(model, seed=0):
    """Give the channels of a model very different ranges, through its batch norms, as training does."""
    generator = torch.Generator().manual_seed(seed)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            with torch.no_grad():
                norm.weight.copy_(10 ** torch.empty_like(norm.weight).uniform_(-1, 1, generator=generator))
                norm.bias.normal_(0, 0.3, generator=generator)
    return model.eval()


def network(name):
    torch.manual_seed(0)
    build = {
        "resnet": lambda: resnet((4, 8)),
        "MobileNetV1": lambda: mobilenet_v1(0.25),
        "MobileNetV2 without clip": lambda: without_clip(mobilenet_v2(0.25)),
    }
    return uneven(build[name]())


def without_clip(model):
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.ReLU6):
            model.set_submodule(name, nn.ReLU())
    return model


PAIRS = {
    "dense to dense": [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)],
    "dense to depthwise": [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8)],
    "depthwise to dense": [nn.Conv2d(3, 3, 3, groups=3), nn.ReLU(), nn.Conv2d(3, 8, 1)],
    "dense to depthwise with two outputs each": [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=4)],
    "dense to two groups": [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, groups=2)],
    "no bias, no activation": [nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 4, 3, bias=False)],
    "linear to linear": [nn.Flatten(), nn.Linear(3 * 16 * 16, 8), nn.ReLU(), nn.Linear(8, 4)],
}


def ranges(first, second):
    """Return the largest weight of each channel between two layers, going in and going out, channel by channel."""
    groups, width = getattr(second, "groups", 1), second.weight.shape[1]
    outgoing = []
    for channel in range(len(first.weight)):
        group, inside = divmod(channel, width)
        of_group = second.weight.chunk(groups)[group]
        outgoing.append(of_group[:, inside].abs().max())
    return first.weight.detach().abs().flatten(1).amax(1), torch.stack(outgoing).detach()


@pytest.mark.parametrize("layers", PAIRS.values(), ids=PAIRS.keys())
def test_both_sides_of_every_channel_get_the_same_range(layers):
    torch.manual_seed(0)
    model = nn.Sequential(*copy.deepcopy(layers))
    equal = equalize(model, rounds=1)
    first, second = (layer for layer in equal.children() if isinstance(layer, (nn.Conv2d, nn.Linear)))
    r1, r2 = ranges(first, second)
    torch.testing.assert_close(r1, r2)
    before = [layer for layer in model if isinstance(layer, (nn.Conv2d, nn.Linear))]
    torch.testing.assert_close(r1, torch.sqrt(torch.stack(ranges(*before)).prod(0)))  # eq. 10: the geometric mean
    with torch.inference_mode():
        torch.testing.assert_close(equal(images()), model(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet", "MobileNetV1", "MobileNetV2 without clip"])
def test_a_network_of_relus_computes_the_same_when_equalized(name):
    model = network(name)
    equal = equalize(model)
    with torch.inference_mode():
        expected = model(images())
        torch.testing.assert_close(equal(images()), expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    moved = [not torch.equal(a, b) for a, b in zip(equal.parameters(), fold_batchnorm(model).parameters(), strict=True)]
    assert any(moved)


def test_a_clip_becomes_a_plain_relu():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 2, 1))
    equal = equalize(model)
    with torch.inference_mode():
        model[1] = nn.ReLU()
        torch.testing.assert_close(equal(images() * 100), model(images() * 100))


class TwoReaders(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        y = torch.relu(self.a(x))
        return self.b(y) + y


class CalledTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.b(torch.relu(self.b(torch.relu(self.a(x)))))


UNTOUCHED = {
    "the output has two readers": TwoReaders(),
    "a layer is called twice": CalledTwice(),
    "a hard-swish lies between": nn.Sequential(nn.Conv2d(3, 4, 1), nn.Hardswish(), nn.Conv2d(4, 2, 1)),
    "pooling lies between": nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1)),
}


@pytest.mark.parametrize("model", UNTOUCHED.values(), ids=UNTOUCHED.keys())
def test_layers_are_left_alone_where(model):
    equal = equalize(model)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, equal.state_dict()[name]), name


def test_dead_channels_stay_finite():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        model[0].weight[0], model[2].weight[:, 1] = 0, 0
    with torch.inference_mode():
        torch.testing.assert_close(equalize(model)(images()), model(images()))


def test_equalizing_helps_weights_with_one_scale_for_all():
    model, config = network("MobileNetV1"), QuantizationConfig(per_channel=False, activation_bits=None)
    with torch.inference_mode():
        expected = model(images())
        before, after = (calibrate(prepare(m, config), images())(images()) for m in (model, equalize(model)))
    assert sqnr(expected, after) > sqnr(expected, before) + 6  # dB: worth more than a bit


def test_the_callers_model_stays_as_it_was():
    model = network("resnet").train()
    before = copy.deepcopy(model.state_dict())
    equalize(model)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def channel_errors(model, prepared):
    with torch.inference_mode():
        error = prepared(images(64)) - model(images(64))
    return error.mean([dim for dim in range(error.dim()) if dim != 1])


BIASED = {
    "convolution": [nn.Conv2d(3, 8, 3)],
    "convolution without bias": [nn.Conv2d(3, 8, 1, bias=False)],
    "two groups": [nn.Conv2d(4, 8, 1, groups=2)],
    "depthwise": [nn.Conv2d(4, 4, 1, groups=4)],
    "linear": [nn.Flatten(), nn.Linear(3 * 256, 5)],
}


@pytest.mark.parametrize("layers", BIASED.values(), ids=BIASED.keys())
def test_a_layers_mean_error_vanishes(layers):
    torch.manual_seed(0)
    model = nn.Sequential(*copy.deepcopy(layers))
    x = images(64, getattr(model[0], "in_channels", 3)) + 0.5
    prepared = calibrate(prepare(model, QuantizationConfig(2, activation_bits=None, per_channel=False)), x)

    def mean_error():
        error = prepared(x) - model(x)
        return error.mean([dim for dim in range(error.dim()) if dim != 1]).abs().max()

    with torch.inference_mode():
        before = mean_error()
        assert correct_bias(prepared, x, batch_size=24) is prepared
        # At the image's edges a kernel of 3x3 does not see every pixel as often: there the mean is not quite that.
        assert mean_error() < (0.1 if "3, 3" in str(model[0]) else 1e-4) * before


def test_the_mean_error_of_a_network_with_four_bits_and_one_scale_shrinks():
    model = network("resnet")
    prepared = calibrate(prepare(model, QuantizationConfig(4, per_channel=False)), images(64))
    before = channel_errors(model, prepared).abs().mean()
    correct_bias(prepared, images(64))
    assert channel_errors(model, prepared).abs().mean() < 0.5 * before


def test_bias_correction_is_in_place_and_leaves_weights_and_grids():
    model = network("resnet")
    prepared = calibrate(prepare(model, QuantizationConfig(4)), images())
    original, before = copy.deepcopy(model.state_dict()), copy.deepcopy(prepared.state_dict())
    correct_bias(prepared, images())
    changed = {name for name, tensor in prepared.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if name.endswith(".bias")}
    assert all(torch.equal(tensor, original[name]) for name, tensor in model.state_dict().items())
    assert {module.mode for module in prepared.modules() if isinstance(module, FakeQuantize)} == {"quantize"}


def test_training_may_go_on_after_the_correction():
    prepared = correct_bias(calibrate(prepare(network("resnet")), images()), images())
    prepared(images()).square().mean().backward()
    assert prepared.get_submodule("stem.0").bias.grad.abs().sum() > 0
