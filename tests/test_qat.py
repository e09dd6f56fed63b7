import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgelab import train
from edgelab.data import Split
from edgelab.models import resnet
from edgelab.quantization import (
    FakeQuantize,
    QParams,
    QSpec,
    QuantizationConfig,
    RoundSTE,
    calibrate,
    convert,
    learn_steps,
    learned_step,
    prepare,
    quantizers,
)
from edgelab.quantization.affine import fake_quantize

SPECS = {
    "symmetric, 4 bits": QSpec(4, symmetric=True, narrow=True),
    "symmetric, 2 bits": QSpec(2, symmetric=True, narrow=True),
    "affine, 8 bits": QSpec(8, signed=False),
    "affine, 3 bits": QSpec(3, signed=False),
}


def tensors(spec, seed=0):
    """Return x `(6, 5, 4)` with a tenth of its values saturating, and the scale and zero point along `spec.axis`."""
    generator = torch.Generator().manual_seed(seed)
    channels = () if spec.axis is None else ((6, 5, 4)[spec.axis],)
    scale = torch.rand(channels, generator=generator) + 0.5
    middle = 0 if spec.symmetric else (spec.qmax + spec.qmin) // 3
    zero_point = torch.full(channels, middle, dtype=torch.int32)
    qparams = QParams(scale, zero_point, spec)
    width = (spec.qmax - spec.qmin) * 0.3
    x = torch.randn(6, 5, 4, generator=generator) * width * qparams.over(torch.empty(6, 5, 4))[0]
    return x, qparams


def gradients(function, *leaves):
    """Return the gradients of a sum in which every output has a weight of its own."""
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    y = function(*leaves)
    weights = torch.linspace(-1, 2, y.numel()).reshape(y.shape)
    return torch.autograd.grad((weights * y).sum(), leaves)


def test_rounding_lets_the_gradient_through():
    x = torch.tensor([-1.5, -0.2, 0.5, 2.5], requires_grad=True)
    y = RoundSTE.apply(x)
    assert y.tolist() == [-2, 0, 0, 2]  # ties to even
    (3 * y).sum().backward()
    assert x.grad.tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize("axis", [None, 0, 1], ids=["per-tensor", "first axis", "second axis"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_a_learned_step_rounds_as_any_other(spec, axis):
    x, qparams = tensors(QSpec(spec.bits, spec.symmetric, spec.signed, spec.narrow, axis))
    y = learned_step(x, qparams.scale, qparams.zero_point, qparams.spec)
    assert torch.equal(y, fake_quantize(x, qparams))


def torchs_learned_step(x, scale, qparams):
    """Return what torch's own learnable fake quantization gives: the authors' method, written independently."""
    spec, zero_point = qparams.spec, qparams.zero_point.float()
    factor = (x.numel() / scale.numel() * spec.qmax) ** -0.5
    if spec.axis is None:
        function, axis = torch._fake_quantize_learnable_per_tensor_affine, ()
        scale, zero_point = scale.reshape(1), zero_point.reshape(1)
    else:
        function, axis = torch._fake_quantize_learnable_per_channel_affine, (spec.axis,)
    return function(x, scale, zero_point, *axis, spec.qmin, spec.qmax, factor)


@pytest.mark.parametrize("axis", [None, 0, 1], ids=["per-tensor", "first axis", "second axis"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_gradients_of_input_and_step_are_those_of_torchs_own(spec, axis):
    x, qparams = tensors(QSpec(spec.bits, spec.symmetric, spec.signed, spec.narrow, axis))
    scale, zero_point = qparams.over(x)
    # In the half step beyond the last code torch still counts a value as inside; the paper's eq. 3 does not.
    steps = x / scale + zero_point
    x = torch.where(((steps - spec.qmin).abs() < 0.6) | ((steps - spec.qmax).abs() < 0.6), torch.zeros(()), x)
    ours = gradients(lambda x, s: learned_step(x, s, qparams.zero_point, qparams.spec), x, qparams.scale)
    theirs = gradients(lambda x, s: torchs_learned_step(x, s, qparams), x, qparams.scale)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        assert mine.abs().sum() > 0
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("x", "by_x", "by_scale"),
    [(0.3, 1, 0.4), (0.6, 1, -0.2), (0.0, 1, 0), (3.2, 0, 3), (-9.0, 0, -3), (1.6, 0, 3)],
    ids=["0.6 steps go up", "1.2 steps go down", "zero", "above the codes", "below them", "half a step above them"],
)
def test_the_gradients_of_one_value_by_hand(x, by_x, by_scale):
    spec = QSpec(3, symmetric=True, narrow=True)  # codes -3 to 3
    x, scale = torch.tensor([x], requires_grad=True), torch.tensor(0.5, requires_grad=True)
    learned_step(x, scale, torch.zeros((), dtype=torch.int32), spec).sum().backward()
    assert x.grad.item() == by_x
    assert scale.grad.item() == pytest.approx(by_scale / 3**0.5, abs=1e-6)  # times g = 1 / sqrt(1 value * qmax 3)


def test_saturated_values_tell_the_step_exactly_how_the_output_moves():
    spec = QSpec(4, symmetric=True, narrow=True)
    x = torch.tensor([50.0, -50.0, 90.0], dtype=torch.float64)
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    output = lambda s: learned_step(x, s, torch.zeros((), dtype=torch.int32), spec)[[0, 2]].sum()  # noqa: E731
    output(scale).backward()
    numerical = (output(scale.detach() + 1e-6) - output(scale.detach() - 1e-6)) / 2e-6
    assert scale.grad.item() * (3 * 7) ** 0.5 == pytest.approx(numerical.item())


@pytest.fixture(scope="module")
def stripes():
    """Return 512 noisy images of four classes: stripes in four directions."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    patterns = torch.stack([rows % 4 < 2, columns % 4 < 2, (rows + columns) % 4 < 2, (rows - columns) % 4 < 2])
    labels = torch.randint(4, (512,), generator=generator)
    noise = torch.randint(0, 100, (512, 3, 12, 12), generator=generator)
    images = 78 * patterns[labels].unsqueeze(1) + noise
    return Split(images.to(torch.uint8), labels)


@pytest.fixture(scope="module")
def trained(stripes):
    torch.manual_seed(0)
    model = resnet((8, 16), num_classes=4)
    train.fit(model, stripes, epochs=4, batch_size=64, progress=False)
    assert train.evaluate(model, stripes) > 0.95
    return model


def normalised(split, n=128):
    return split.images[:n].float() / 128 - 1


def loss_of(model, split):
    with torch.inference_mode():
        return F.cross_entropy(model.eval()(normalised(split, 512)), split.labels).item()


@pytest.mark.parametrize("learned", [False, True], ids=["fixed steps", "learned steps"])
@pytest.mark.parametrize("bits", [4, 2])
def test_training_wins_back_what_few_bits_have_lost(trained, stripes, bits, learned):
    prepared = calibrate(prepare(trained, QuantizationConfig(bits)), normalised(stripes))
    if learned:
        learn_steps(prepared)
    before = loss_of(prepared, stripes)
    scales = {name: quantizer.scale.detach().clone() for name, quantizer in quantizers(prepared).items()}
    train.fit(prepared, stripes, epochs=2, lr=0.02, batch_size=64, progress=False)
    assert loss_of(prepared, stripes) < 0.8 * before
    for name, quantizer in quantizers(prepared).items():
        assert (quantizer.scale > 0).all(), name
        assert torch.equal(quantizer.scale, scales[name]) is not learned, name
        assert quantizer.mode == "quantize"


def test_what_was_trained_is_what_is_converted(trained, stripes):
    prepared = learn_steps(calibrate(prepare(trained, QuantizationConfig(4)), normalised(stripes)))
    train.fit(prepared, stripes, epochs=1, lr=0.02, batch_size=64, progress=False)
    converted = convert(prepared)
    step = [module for module in converted.modules() if isinstance(module, FakeQuantize)][-1].scale
    with torch.inference_mode():
        apart = (converted(normalised(stripes)) - prepared.eval()(normalised(stripes))).abs() / step
    assert (apart < 1.01).float().mean() >= 0.99
    for name, layer in converted.named_modules():
        if hasattr(layer, "weight_qparams"):
            original = prepared.get_submodule(name).parametrizations["weight"][0]
            assert torch.equal(layer.weight_qparams.scale, original.scale), name
            assert torch.equal(layer.weight, prepared.get_submodule(name).weight), name


def test_the_float_model_is_not_trained_along(trained, stripes):
    before = copy.deepcopy(trained.state_dict())
    prepared = learn_steps(calibrate(prepare(trained, QuantizationConfig(4)), normalised(stripes)))
    train.fit(prepared, stripes, epochs=1, lr=0.02, batch_size=128, progress=False)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())


def test_gradients_stop_where_a_fixed_grid_saturates_and_pass_elsewhere():
    images = torch.linspace(-1, 1, 64).reshape(-1, 1, 1, 1)
    prepared = calibrate(prepare(nn.Sequential(nn.Conv2d(1, 1, 1))), images)
    x = torch.tensor([-3.0, -0.5, 0.5, 3.0], requires_grad=True)
    prepared.quantize_input_1(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]
