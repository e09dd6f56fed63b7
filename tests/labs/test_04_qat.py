"""Lab 04: its explorers show what they say, and its checks tell right answers from the usual wrong ones."""

import re

import ipywidgets as widgets
import pytest
import torch

from edgelab import data, models
from edgelab.course.check import NotYet
from edgelab.labs.lab_04_qat import check, explorers, training
from edgelab.quantization import QuantizationConfig, RoundSTE, calibrate, prepare
from edgelab.quantization.graph import Weighted

pytestmark = pytest.mark.usefixtures("learners_folder")


@pytest.fixture(scope="module")
def split():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=generator)
    return data.Split(images, torch.arange(24) % 2)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return models.resnet((8, 16, 32), num_classes=2).eval()


@pytest.fixture
def study(model, split):
    return training.Study(model, split, split)


def only_prepared(model, lessons, bits):
    prepared = prepare(model, QuantizationConfig(bits, weight_observer="mse"))
    return calibrate(prepared, data.normalize(lessons.images))


def round_ste(x):
    return x + (torch.round(x) - x).detach()


def fake_quantize(x, scale, qmin, qmax):
    return torch.clamp(round_ste(x / scale), qmin, qmax) * scale


@pytest.mark.parametrize("answer", [round_ste, RoundSTE.apply], ids=["with detach", "with a class"])
def test_both_ways_to_write_the_estimator_pass(answer, capsys):
    check.round_ste(*training.probe(answer))
    assert "round-ste: correct" in capsys.readouterr().out


class OnesBackwards(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.round(x)

    @staticmethod
    def backward(ctx, gradient):
        return torch.ones_like(gradient)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (torch.round, "true slope"),
        (lambda x: torch.round(x).detach(), "true slope"),
        (lambda x: torch.round(x) + (x - torch.round(x)).detach(), "Nothing is rounded"),
        (lambda x: x + (x - torch.round(x)).detach(), "wrong way round"),
        (lambda x: x.detach() + torch.round(x) - x, "Detach the whole bracket"),
        (lambda x: torch.floor(x), "floor"),
        (OnesBackwards.apply, "not always 1"),
        (lambda x: None, "Did you forget `return`"),
    ],
    ids=["round", "cut off", "detached twice", "bracket turned", "x detached", "floor", "ones", "no return"],
)
def test_a_wrong_estimator_is_told_what_to_look_at(answer, hint):
    with pytest.raises(NotYet, match=re.escape(hint)):
        check.round_ste(*training.probe(answer))


def test_fake_quantization_passes_wherever_it_clips():
    check.fake_quantize(*training.probe(fake_quantize))
    check.fake_quantize(*training.probe(lambda x, s, low, high: round_ste(torch.clamp(x / s, low, high)) * s))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda x, s, low, high: round_ste(x / s) * s, "Where are qmin and qmax"),
        (lambda x, s, low, high: torch.clamp(round_ste(x / s), low, high), "Multiply by the scale"),
        (lambda x, s, low, high: round_ste(torch.clamp(x, low, high) / s) * s, "clip after you have divided"),
        (lambda x, s, low, high: torch.clamp(round_ste(x), low, high) * s, "Divide by the scale first"),
        (lambda x, s, low, high: torch.clamp(x, low * s, high * s), "nothing is rounded"),
        (lambda x, s, low, high: torch.clamp(torch.round(x / s), low, high) * s, "No gradient arrives"),
        (
            lambda x, s, low, high: x + (torch.clamp(torch.round(x / s), low, high) * s - x).detach(),
            "Saturated values get a gradient too",
        ),
    ],
    ids=["no clip", "codes", "clip before scale", "no scale", "no rounding", "no gradient", "all straight through"],
)
def test_a_wrong_fake_quantization_is_told_what_to_look_at(answer, hint):
    with pytest.raises(NotYet, match=re.escape(hint)):
        check.fake_quantize(*training.probe(answer))


def test_a_stub_passes_its_error_through(study):
    def stub(*_arguments):
        raise NotImplementedError

    for checked in (check.round_ste, check.fake_quantize):
        with pytest.raises(NotImplementedError):
            checked(*training.probe(stub))
    with pytest.raises(NotImplementedError):
        check.train_quantized(study.outcome(stub, bits=4))


def outcome(**changes):
    facts = {"returned": torch.nn.Identity(), "bits": 4, "float_accuracy": 0.9, "untrained": 0.8, "trained": 0.88}
    return training.Outcome(**{**facts, "codes": 15, **changes})


def test_a_training_that_wins_points_back_passes():
    check.train_quantized(outcome())
    check.train_quantized(outcome(untrained=0.905, trained=0.9))  # nothing was lost


@pytest.mark.parametrize(
    ("changes", "hint"),
    [
        ({"returned": None}, "Did you forget `return`"),
        ({"returned": [1.0]}, "type list"),
        ({"codes": 72}, "72 different weights"),
        ({"codes": 7}, "Use `bits`"),
        ({"trained": 0.1}, "done harm"),
        ({"trained": 0.81}, "hardly anything is won back"),
    ],
    ids=["no return", "a history", "never rounded", "too few bits", "learning rate", "not trained"],
)
def test_a_wrong_training_is_told_what_to_look_at(changes, hint):
    with pytest.raises(NotYet, match=re.escape(hint)):
        check.train_quantized(outcome(**changes))


def test_a_study_trains_once_for_each_number_of_bits(study):
    calls = []

    def learner(model, lessons, bits):
        calls.append(bits)
        return only_prepared(model, lessons, bits)

    first, again = study.outcome(learner, bits=3), study.outcome(learner, bits=3)
    assert first == again
    assert calls == [3]
    assert first.codes == 7
    assert study.trained(learner, 3) is first.returned
    assert study.outcome(lambda *_arguments: None, bits=3).returned is None


def test_a_study_measures_what_evaluation_gives(study, model, split):
    right = (model(data.normalize(split.images)).argmax(1) == split.labels).float().mean()
    assert study.float_accuracy == pytest.approx(float(right))
    assert study.ptq(QuantizationConfig(8)) == study.ptq(QuantizationConfig(8))


def test_float_weights_are_all_different(model):
    assert training.distinct_weights(model) > 200


def test_the_slope_of_the_landscape_is_that_of_its_losses(model, split):
    view = explorers.landscape(model, split, points=201)
    middle = torch.tensor(view.slopes)[1:-1]
    at, losses = torch.tensor(view.at, dtype=torch.float64), torch.tensor(view.losses, dtype=torch.float64)
    numeric = ((losses[2:] - losses[:-2]) / (at[2:] - at[:-2])).float()
    assert (middle - numeric).abs().mean() < 0.05 * middle.abs().max()
    assert abs(view.trained) < view.largest


def test_walking_along_a_weight_leaves_the_model_as_it_was(model, split):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explorers.landscape(model, split, points=3)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_clipped_weight_has_no_slope_and_stays():
    view = explorers.Landscape((-1.3, 0.0, 1.3), (1.0, 0.0, 1.0), (-1.0, 0.0, 1.0), 1.0, 0.1)
    assert "it stays there" in explorers.loss_plot(view, 5, 0).description
    assert "go up" in explorers.loss_plot(view, 5, 30).description
    assert "go down" in explorers.loss_plot(view, 5, 80).description


def test_only_the_estimator_gives_weights_a_gradient():
    weights = torch.tensor([-1.0, -0.3, 0.1, 0.2])
    assert "7 codes, no gradient for 25.0 % of weights" in explorers.slope_plot(weights, 3, 50, True).description
    assert "no weight at all" in explorers.slope_plot(weights, 3, 50, False).description


def test_the_curve_says_what_training_wins():
    text = explorers.bits_plot({8: 0.9, 4: 0.8}, {8: 0.9, 4: 0.88}, 0.91, 3000, False, None).description
    assert text.endswith("8: +0.0, 4: +8.0")


def test_every_control_of_lab_04_draws_again(study, model, split):
    every = (
        explorers.slope_explorer(model),
        explorers.loss_explorer(model, split),
        explorers.bits_explorer(study, only_prepared),
    )
    for explorer in every:
        times = []
        for control in explorer.children[0].children:
            assert isinstance(control, widgets.SelectionSlider | widgets.Dropdown)
            for _label, value in list(control.options)[:4]:
                control.value = value
                explorer.redraw()
                assert 'role="alert"' not in explorer.picture.value
                times.append(explorer.milliseconds)
        print(f"redraws: median {sorted(times)[len(times) // 2]:.0f} ms, slowest {max(times):.0f} ms")


def test_the_file_table_counts_packed_bits(model, tmp_path):
    path = tmp_path / "zeros"
    path.write_bytes(bytes(10_240))
    html = training.file_table({"all zeros": (path, 4)}, model)._repr_html_()
    weights = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, Weighted))
    assert "<td>10.0</td>" in html
    assert f"<td>{weights * 4 / 8 / 1024:,.1f}</td>" in html


def test_the_learners_fake_quantize_is_compared_with_torchs(capsys):
    training.against_torch(fake_quantize)
    figures = [float(line.rpartition(":")[2]) for line in capsys.readouterr().out.splitlines()]
    assert figures == [pytest.approx(0, abs=1e-6)] * 2
