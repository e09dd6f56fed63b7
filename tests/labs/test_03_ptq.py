"""Lab 03: its pictures follow its numbers, its checks tell right from wrong."""

import inspect

import pytest
import torch

from edgelab import data, models, train
from edgelab.course.check import NotYet
from edgelab.deploy import to_onnx
from edgelab.labs.lab_03_ptq import calibration, channels, check, preparing
from edgelab.labs.lab_03_ptq import files as made
from edgelab.quantization import OBSERVERS, calibrate, fold_batchnorm, prepare, sqnr

tensor = torch.tensor


pytestmark = pytest.mark.usefixtures("learners_folder")


@pytest.fixture(scope="module")
def toy():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (300, 3, 16, 16), dtype=torch.uint8, generator=generator)
    split = data.Split(images, torch.arange(300) % 4, torch.arange(300) % 4 // 2)
    return data.Dataset("toy", ("a & b", "c", "d", "e"), split, split, ("day", "night"))


@pytest.fixture(scope="module")
def pictures(toy):
    return data.normalize(toy.train.images)


@pytest.fixture(scope="module")
def model():
    return settled(models.resnet((8, 16), num_classes=4))


@pytest.fixture(scope="module")
def mobilenet():
    return settled(models.mobilenet_v1(0.125, num_classes=4))


def settled(model):
    """Give batch norm statistics that differ from channel to channel, as training does."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) / 4)
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
    return model.eval()


@pytest.fixture(scope="module")
def files(model, pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    floating = to_onnx(model, pictures[:1], folder / "float.onnx")
    return floating, made.write_int8(model, pictures[:32], folder / "int8.onnx")


def fold(weight, bias, mean, var, gamma, beta, eps):
    factor = gamma / torch.sqrt(var + eps)
    return weight * factor.reshape(-1, 1, 1, 1), (bias - mean) * factor + beta


def minmax_range(batches):
    return min(float(batch.min()) for batch in batches), max(float(batch.max()) for batch in batches)


def percentile_range(batches, percent):
    values = torch.cat([batch.flatten() for batch in batches])
    tail = (1 - percent / 100) / 2
    return float(torch.quantile(values, tail)), float(torch.quantile(values, 1 - tail))


def channel_spread(weight):
    ranges = weight.detach().abs().flatten(1).amax(1)
    return float(ranges.max() / ranges.median())


@pytest.mark.parametrize(
    ("checked", "answer"),
    [
        (check.fold, fold),
        (check.minmax_range, minmax_range),
        (check.percentile_range, percentile_range),
        (check.channel_spread, channel_spread),
    ],
    ids=["fold", "min-max", "percentile", "spread"],
)
def test_a_right_answer_passes_and_a_stub_does_not(checked, answer, capsys):
    checked(answer, tensor)
    assert "✓" in capsys.readouterr().out

    def stub(*args):
        raise NotImplementedError

    stub.__signature__ = inspect.signature(answer)
    with pytest.raises(NotImplementedError):
        checked(stub, tensor)
    with pytest.raises(NotYet):
        checked(lambda *args: None, tensor)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda w, b, m, v, g, be, e: fold(w, b, m, (v + e) ** 2, g, be, 0), "square root"),
        (lambda w, b, m, v, g, be, e: fold(w, b, m, v, g, be, 0), "eps is missing"),
        (lambda w, b, m, v, g, be, e: fold(w, b, 0 * m, v, g, be, e), "mean is missing"),
        (lambda w, b, m, v, g, be, e: (fold(w, b, m, v, g, be, e)[0], b), "bias must change"),
        (
            lambda w, b, m, v, g, be, e: (fold(w, b, m, v, g, be, e)[0], fold(w, 0 * b, m, v, g, be, e)[1]),
            "bias is lost",
        ),
        (
            lambda w, b, m, v, g, be, e: (fold(w, b, m, v, g, be, e)[0], b + fold(w, 0 * b, m, v, g, be, e)[1]),
            "old bias passes through",
        ),
        (
            lambda w, b, m, v, g, be, e: (w * (g / (v + e) ** 0.5), fold(w, b, m, v, g, be, e)[1]),
            "Output channels are the first",
        ),
        (
            lambda w, b, m, v, g, be, e: (
                w * (g / (v + e) ** 0.5).reshape(1, -1, 1, 1),
                fold(w, b, m, v, g, be, e)[1],
            ),
            "axis 0",
        ),
    ],
    ids=["no root", "no eps", "no mean", "old bias", "bias lost", "bias unscaled", "last axis", "input axis"],
)
def test_a_wrong_fold_is_told_why(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check.fold(wrong, tensor)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda batches: minmax_range(batches[-1:]), "last batch"),
        (lambda batches: minmax_range(batches[:1]), "first batch"),
        (lambda batches: tuple(tensor([minmax_range([b]) for b in batches]).mean(0).tolist()), "moving average"),
        (lambda batches: (-max(map(abs, minmax_range(batches))), max(map(abs, minmax_range(batches)))), "symmetric"),
        (lambda batches: (min(0, minmax_range(batches)[0]), minmax_range(batches)[1]), "choose_qparams"),
    ],
    ids=["last", "first", "average", "symmetric", "zero"],
)
def test_a_wrong_minmax_is_told_why(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check.minmax_range(wrong, tensor)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda batches, percent: percentile_range(batches, 2 * percent - 100), "too much"),
        (lambda batches, percent: (minmax_range(batches)[0], percentile_range(batches, 2 * percent - 100)[1]), "upper"),
        (
            lambda batches, percent: tuple(tensor([percentile_range([b], percent) for b in batches]).mean(0).tolist()),
            "all values together",
        ),
        (lambda batches, percent: minmax_range(batches), "Nothing is clipped"),
    ],
    ids=["both ends", "one end", "mean of batches", "no clipping"],
)
def test_a_wrong_percentile_is_told_why(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check.percentile_range(wrong, tensor)


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda w: channel_spread(w.clamp(min=0)), "absolute"),
        (lambda w: channel_spread((w.flatten(1).amax(1) - w.flatten(1).amin(1))[:, None]), "maximum minus minimum"),
        (lambda w: channel_spread(w.transpose(0, 1)), "axis 0"),
        (lambda w: float(w.abs().max() / w.abs().flatten(1).amax(1).mean()), "the mean"),
        (lambda w: float(w.abs().max() / w.abs().flatten(1).amax(1).min()), "smallest channel"),
        (lambda w: 1 / channel_spread(w), "upside down"),
    ],
    ids=["signed", "width", "input channels", "mean", "smallest", "inverse"],
)
def test_a_wrong_spread_is_told_why(wrong, hint):
    with pytest.raises(NotYet, match=hint):
        check.channel_spread(wrong, tensor)


def test_a_learners_file_is_examined(model, pictures, toy, capsys):
    found = made.examine(made.write_int8, model, pictures[:32], toy, "own.onnx")
    assert (found.int8_share, found.integer_convolutions) == (1.0, found.convolutions)
    check.quantize_model(found)
    assert "✓" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        (lambda model, images, path: None, "no file"),
        (lambda model, images, path: to_onnx(model, images[:1], path), "still floats"),
    ],
    ids=["nothing written", "float"],
)
def test_a_wrong_file_is_told_why(wrong, hint, model, pictures, toy):
    with pytest.raises(NotYet, match=hint):
        check.quantize_model(made.examine(wrong, model, pictures[:32], toy, "own.onnx"))


@pytest.mark.parametrize(
    ("found", "hint"),
    [
        ({"integer_convolutions": 3}, "only 3 of 9 convolutions"),
        ({"accuracy": 0.5}, "loses 45.0 points"),
        ({"agreement": 0.5}, "for 50 % of the images"),
    ],
    ids=["float activations", "not calibrated", "another model"],
)
def test_a_bad_file_is_told_why(found, hint):
    good = {"int8_share": 1.0, "integer_convolutions": 9, "convolutions": 9, "accuracy": 0.945, "float_accuracy": 0.95}
    with pytest.raises(NotYet, match=hint):
        check.quantize_model(made.Examined(True, **{**good, "agreement": 0.99, **found}))


def test_contents_add_up_to_the_file(files):
    before, after = (made.file_contents(path) for path in files)
    assert [sum(contents.values()) for contents in (before, after)] == [path.stat().st_size for path in files]
    assert before["weights"] / after["weights"] == pytest.approx(4, rel=0.1)  # a channel of zeros may fill lanes
    assert before["biases"] == after["biases"]
    assert before["scales"] == 0 < after["scales"]
    assert made.size_table(*files)._repr_html_().count("<tr>") == 6


def test_the_learners_fold_is_compared_layer_by_layer(model):
    right, wrong = (preparing.fold_table(model, f)._repr_html_() for f in (fold, lambda *a: fold(*a[:-1], 1.0)))
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in model.modules())
    assert right.count("✓") == wrong.count("✗") == convolutions


def test_ranges_are_drawn_with_what_they_cost(model, pictures):
    batches = preparing.activations(model, "stages.0.activation", pictures[:32])
    assert sum(map(len, batches)) == 32
    words = preparing.range_plot(batches, minmax_range(batches), percentile_range(batches, 90)).description
    assert "min-max: 0.00 to" in words
    assert words.count("dB at 8 bits") == 2


def test_the_contest_has_a_row_for_every_quantizer(files, pictures, toy):
    html = made.contest(*files, pictures[:8], toy)._repr_html_()
    assert html.count('scope="row"') == 5
    assert "100.0" in html


def test_changed_answers_are_counted_in_both_directions(files, toy):
    assert "0 answers changed: 0 from right to wrong" in made.whom_it_hurt(files[0], files[0], toy).description
    assert "300 images" in made.whom_it_hurt(*files, toy).description


def test_a_calibration_grid_holds_what_calibrate_gives(model, pictures, toy):
    grid = calibration.calibration_grid(model, pictures, toy.test[:50])
    assert set(grid) == {("", 0), *((method, count) for method in OBSERVERS for count in calibration.COUNTS)}
    split = toy.test[:50]
    prepared = calibrate(prepare(model), pictures[:8])
    with torch.inference_mode():
        expected = sqnr(fold_batchnorm(model)(pictures[:50]), prepared(pictures[:50]))
    assert grid["min-max", 8].sqnr == pytest.approx(expected, abs=0.1)
    assert grid["", 0].accuracy == train.evaluate(model, split)


def test_the_calibration_plot_names_what_was_chosen(model, pictures, toy):
    explorer = calibration.calibration_explorer(model, pictures, toy, judges=20)
    method, count = explorer.children[0].children
    for value in OBSERVERS:
        method.value = value
        count.value = 8
        assert f"{calibration.observer_name(value)}, 8 images" in explorer.picture.value
    assert explorer.milliseconds < 1000


def test_more_bits_never_hurt_much(model, pictures):
    explorer = calibration.sensitivity_explorer(model, pictures[:8])
    assert "4 bits" in explorer.picture.value
    grid = calibration.sensitivity_grid(model, pictures[:8])
    assert all(grid[8][layer] > grid[4][layer] > grid[2][layer] for layer in grid[8])
    explorer.children[0].children[0].value = 2
    worst = min(grid[2], key=grid[2].get)
    assert f"the most sensitive layer is {worst}" in explorer.picture.value


def test_pulling_channels_apart_changes_the_spread_and_not_the_function(mobilenet, pictures):
    apart = channels.unbalanced(mobilenet, 256)
    with torch.inference_mode():
        assert torch.allclose(apart(pictures[:4]), mobilenet(pictures[:4]), rtol=1e-3, atol=1e-4)
    spread = [
        max(channel_spread(m.weight) for m in network.modules() if isinstance(m, torch.nn.Conv2d))
        for network in (fold_batchnorm(mobilenet), apart)
    ]
    assert spread[1] > 3 * spread[0]


def test_the_learners_spread_is_asked_for_every_convolution(mobilenet, model):
    asked = []

    def spread(weight):
        asked.append(weight.shape)
        return channel_spread(weight)

    words = channels.spread_plot({"A": model, "B": mobilenet}, spread).description
    assert len(asked) == sum(isinstance(m, torch.nn.Conv2d) for net in (model, mobilenet) for m in net.modules())
    assert "A " in words
    assert "B " in words


def test_every_recipe_has_a_row(mobilenet, pictures, toy):
    html = channels.cure_table(mobilenet, pictures[:16], toy, judges=20)._repr_html_()
    assert html.count('scope="row"') == 1 + len(channels.recipes())


def test_the_collapse_is_drawn_over_the_learners_spread(mobilenet, pictures, toy, monkeypatch):
    monkeypatch.setattr(channels, "FACTORS", (1, 64))
    words = channels.collapse_plot(mobilenet, pictures[:16], toy, channel_spread, judges=20).description
    assert "per tensor, equalized" in words
