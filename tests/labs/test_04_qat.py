"""Lab 04: its explorers show what they say, and what was trained is measured once."""

from types import SimpleNamespace

import pytest
import torch

from edgelab import data, models, train
from edgelab.course.check import NotYet
from edgelab.labs.lab_04_qat import check, explorers, training
from edgelab.quantization import QuantizationConfig, calibrate, prepare
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


def test_a_study_knows_whether_a_weight_has_moved(study):
    def trained(model, lessons, bits):
        prepared = only_prepared(model, lessons, bits)
        train.fit(prepared, lessons, epochs=1, lr=0.001, progress=False)
        return prepared

    assert not study.outcome(only_prepared, bits=3).moved
    assert study.outcome(trained, bits=3).moved


@pytest.mark.parametrize(("moved", "lessons", "wrong"), [
    (True, check.ENOUGH - 1, None),  # few pictures of a learner's own: one epoch is a handful of batches
    (True, check.ENOUGH, "hardly anything is won back"),
    (False, check.ENOUGH - 1, "no weight has changed"),
])  # fmt: skip
def test_training_has_to_win_points_back_where_there_is_enough_to_learn_from(moved, lessons, wrong, capsys):
    outcome = training.Outcome(torch.nn.Identity(), 4, 0.883, 0.821, 0.825, 15, moved)
    study = SimpleNamespace(model=None, lessons=range(lessons), exam=range(2_400),
                            outcome=lambda *_args, **_bits: outcome, codes=lambda *_args, **_bits: 3)  # fmt: skip
    if wrong is None:
        check.train_quantized(lambda model, lessons, bits: None, study)
        assert "correct" in capsys.readouterr().out
    else:
        with pytest.raises(NotYet, match=wrong):
            check.train_quantized(lambda model, lessons, bits: None, study)


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


def test_every_control_of_lab_04_draws_again(study, model, split, redraws):
    every = (
        explorers.slope_explorer(model),
        explorers.loss_explorer(model, split),
        explorers.bits_explorer(study, only_prepared),
    )
    assert redraws(every)


def test_the_file_table_counts_packed_bits(model, tmp_path):
    path = tmp_path / "zeros"
    path.write_bytes(bytes(10_240))
    html = training.file_table({"all zeros": (path, 4)}, model)._repr_html_()
    weights = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, Weighted))
    assert "<td>10.0</td>" in html
    assert f"<td>{weights * 4 / 8 / 1024:.1f}</td>" in html


def test_the_learners_fake_quantize_is_compared_with_torchs(capsys):
    training.against_torch(fake_quantize)
    figures = [float(line.rpartition(":")[2]) for line in capsys.readouterr().out.splitlines()]
    assert figures == [pytest.approx(0, abs=1e-6)] * 2


def test_clipping_first_differs_from_torch_only_beyond_the_last_code(capsys):
    """As Esser et al. write it: within half a step beyond the end their gradient stops, and torch's passes."""
    training.against_torch(lambda x, s, low, high: round_ste(torch.clamp(x / s, low, high)) * s)
    said = capsys.readouterr().out
    assert "all within half a step beyond the last code" in said
    assert float(said.splitlines()[1].rpartition(":")[2]) == pytest.approx(3.5)


def test_an_interrupted_training_is_asked_for_again(study, monkeypatch):
    def learner(model, lessons, bits):
        prepared = only_prepared(model, lessons, bits)
        train.fit(prepared, lessons, epochs=1, lr=0.001, progress=False)
        return prepared

    def interrupt(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(train, "_one_epoch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            study.outcome(learner, bits=3)
    first = study.outcome(learner, bits=3)
    monkeypatch.setattr(train, "_one_epoch", interrupt)  # a new kernel finds on disk what was trained
    again = training.Study(study.model, study.lessons, study.exam).outcome(lambda *args: learner(*args), bits=3)
    assert again.trained == first.trained


def test_an_uniform_plan_is_the_uniform_quantization(study):
    sizes = study.layer_sizes()
    mixed = study.mixed(dict.fromkeys(sizes, 3))
    assert mixed == study.ptq(QuantizationConfig(3, weight_observer="mse"))
    noise = study.layer_noise()
    assert noise.keys() == sizes.keys()
    assert all(levels[2] > levels[5] > levels[8] for levels in noise.values())
