"""What a checkpoint holds is all of a model: loaded again, it answers and exports the same."""

import copy
import io

import pytest
import torch
from torch import nn

from edgelab import train
from edgelab.data import Split
from edgelab.deploy import Runner, to_onnx
from edgelab.errors import EdgelabError
from edgelab.measure import saved_bytes
from edgelab.models import resnet
from edgelab.quantization import (
    QuantizationConfig,
    calibrate,
    convert,
    correct_bias,
    equalize,
    fold_batchnorm,
    learn_steps,
    prepare,
    quantizers,
)


def images(seed=0, strength=1.0):
    return strength * torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def network(seed):
    torch.manual_seed(seed)
    return resnet((4, 8)).eval()


def prepared(seed=0, config=None, strength=1.0):
    return calibrate(prepare(network(seed), config or QuantizationConfig()), images(seed, strength))


def by_state(saved, loader):
    loader.load_state_dict(saved.state_dict())
    return loader


def by_file(saved, loader):
    buffer = io.BytesIO()
    torch.save(saved.state_dict(), buffer)
    buffer.seek(0)
    loader.load_state_dict(torch.load(buffer, weights_only=True))
    return loader


def by_object(saved, _loader):
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


WAYS = {
    "state_dict": by_state,
    "torch.save of the state": by_file,
    "torch.save": by_object,
    "deepcopy": lambda saved, _loader: copy.deepcopy(saved),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("learned", [False, True], ids=["fixed", "learned"])
def test_a_prepared_model_comes_back(way, learned):
    saved, loader = prepared(1, QuantizationConfig(4)), prepare(network(0), QuantizationConfig(4))
    if learned:
        learn_steps(saved)
    loaded = way(saved, loader)
    with torch.no_grad():
        assert torch.equal(loaded(images()), saved(images()))
        assert torch.equal(convert(loaded)(images()), convert(saved)(images()))
    for name, quantizer in quantizers(saved).items():
        again = quantizers(loaded)[name]
        assert (again.mode, again.scale.requires_grad) == ("quantize", learned), name
        assert torch.equal(again.scale, quantizer.scale) and torch.equal(again.zero_point, quantizer.zero_point), name


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return a converted model and its file, which takes seconds to write."""
    model = convert(prepared(1, strength=2.0))
    return model, to_onnx(model, images(), tmp_path_factory.mktemp("exported") / "model.onnx")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_converted_model_comes_back_and_exports_the_same(way, exported, tmp_path):
    saved, file = exported
    loaded = way(saved, convert(prepared(0)))
    with torch.no_grad():
        assert torch.equal(loaded(images()), saved(images()))
    again = to_onnx(loaded, images(), tmp_path / "again.onnx")
    assert torch.equal(Runner.open(again)(images()), Runner.open(file)(images()))
    assert saved_bytes(loaded) == saved_bytes(saved)


def test_a_model_that_was_never_calibrated_comes_back_so():
    loaded = by_state(prepare(network(1)), prepared(0))
    with pytest.raises(EdgelabError, match="no scales yet"):
        convert(loaded)
    calibrate(loaded, images())


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.load_state_dict(fold_batchnorm(network(5)).state_dict(), strict=False),
        lambda model: model.get_submodule("classifier").weight.data.mul_(1.5),
        lambda model: model.get_submodule("classifier").bias.data.add_(0.1),
        lambda model: model.load_state_dict(convert(prepared(3)).state_dict(), assign=True),
    ],
    ids=["a float checkpoint", "a weight", "a bias", "tensors replaced"],
)
def test_codes_that_no_longer_fit_are_not_exported(change, tmp_path):
    model = convert(prepared())
    change(model)
    with pytest.raises(EdgelabError, match="have changed since"):
        to_onnx(model, images(), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


WRONG_ORDER = {
    "prepared twice": (lambda: prepare(prepared()), "prepared already"),
    "folded after it was prepared": (lambda: fold_batchnorm(prepared()), "prepared already"),
    "equalized after it was prepared": (lambda: equalize(prepared()), "prepared already"),
    "prepared after it was converted": (lambda: prepare(convert(prepared())), "prepared already"),
    "calibrated without being prepared": (lambda: calibrate(network(0), images()), "not prepared"),
    "calibrated when only folded": (lambda: calibrate(fold_batchnorm(network(0)), images()), "not prepared"),
    "calibrated after it was converted": (lambda: calibrate(convert(prepared()), images()), "converted already"),
    "converted without being prepared": (lambda: convert(network(0)), "not prepared"),
    "corrected before it was calibrated": (lambda: correct_bias(prepare(network(0)), images()), "after `calibrate`"),
    "corrected after it was converted": (lambda: correct_bias(convert(prepared()), images()), "before `convert`"),
}


@pytest.mark.parametrize(("mistake", "words"), WRONG_ORDER.values(), ids=WRONG_ORDER)
def test_one_sentence_for_a_model_that_was(mistake, words):
    with pytest.raises(EdgelabError, match=words) as caught:
        mistake()
    assert "\n" not in str(caught.value)


def test_scales_go_on_being_learned_when_calibrated_again():
    model = learn_steps(prepared())
    before = {name: quantizer.scale for name, quantizer in quantizers(model).items()}
    calibrate(model, images(1, strength=3.0))
    for name, quantizer in quantizers(model).items():
        assert quantizer.scale is before[name], "an optimizer would hold another one"
        assert quantizer.scale.requires_grad
    fresh = prepared(0)
    calibrate(fresh, images(1, strength=3.0))
    for name, quantizer in quantizers(fresh).items():
        assert torch.equal(quantizer.scale, before[name].detach()), name


def test_learned_scales_stay_above_zero_however_large_the_steps():
    split = Split(torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8), torch.arange(64) % 16)
    model = learn_steps(calibrate(prepare(resnet((8, 16)), QuantizationConfig(2)), images()))
    train.fit(model, split, epochs=2, lr=50.0, batch_size=16, weight_decay=0.5, progress=False)
    assert all((quantizer.scale > 0).all() for quantizer in quantizers(model).values())
    with torch.no_grad():
        next(iter(quantizers(model).values())).scale.fill_(-1.0)  # a step after the last run
    assert all((quantizer.qparams.scale > 0).all() for quantizer in quantizers(model).values())


def test_a_layer_that_two_places_call_has_the_same_codes_for_both(tmp_path):
    layer = nn.Conv2d(3, 3, 3, padding=1)
    model = convert(calibrate(prepare(nn.Sequential(layer, nn.ReLU(), layer)), images()))
    first, second = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    assert torch.equal(first.weight, second.weight)
    assert not torch.equal(first.bias_scale, second.bias_scale)  # each its own input
    assert Runner.open(to_onnx(model, images(), tmp_path / "m.onnx"))(images()).shape == (16, 3, 8, 8)
