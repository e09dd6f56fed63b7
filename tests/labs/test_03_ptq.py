"""Lab 03: its pictures follow its numbers."""

import pytest
import torch

from edgelab import data, models, train
from edgelab.deploy import Runner, to_onnx
from edgelab.doctor import machine
from edgelab.labs.lab_03_ptq import calibration, channels, preparing
from edgelab.labs.lab_03_ptq import files as made
from edgelab.quantization import OBSERVERS, calibrate, fold_batchnorm, prepare, sqnr

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


def percentile_range(batches, percent):
    values = torch.cat([batch.flatten() for batch in batches])
    tail = (1 - percent / 100) / 2
    return float(torch.quantile(values, tail)), float(torch.quantile(values, 1 - tail))


def channel_spread(weight):
    ranges = weight.detach().abs().flatten(1).amax(1)
    return float(ranges.max() / ranges.median())


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
    words = preparing.range_plot(batches, percentile_range(batches, 100), percentile_range(batches, 90)).description
    assert "min-max: 0.00 to" in words
    assert words.count("dB at 8 bits") == 2


def test_kernels_are_compared_by_their_logits(files, toy):
    found = made.kernels(files[1], toy)
    assert 0 <= found.same <= 1
    assert found.exact == train.evaluate(Runner.open(files[1]), toy.test)
    row = f"<td>{100 * found.same:.1f}</td><td>{100 * found.fast:.1f}</td>"
    assert row in found._repr_html_()


@pytest.mark.long
@pytest.mark.parametrize(("name", "on_record"), [("signs", made.WITHOUT_VNNI), ("fashion-mnist", (99.9, 94.8))])
def test_without_vnni_the_fast_kernels_saturate_on_signs_and_hardly_on_clothes(name, on_record, tmp_path):
    dataset = data.load(name)
    images = data.normalize(dataset.train.images[:128])
    path = made.write_int8(models.load_pretrained("resnet", name), images, tmp_path / "int8.onnx")
    found = made.kernels(path, dataset)
    if machine.INT8.isdisjoint(machine.processor().instructions or ()):
        assert (100 * found.same, 100 * found.fast) == pytest.approx(on_record, abs=0.5)
    else:
        assert found.same == 1
    assert found.exact > on_record[1] / 100 - 0.005


def test_the_contest_has_a_row_for_every_quantizer(files, pictures, toy):
    html = made.contest(*files, pictures[:8], toy)._repr_html_()
    assert html.count('scope="row"') == 5
    assert "100.0" in html


def test_changed_answers_are_counted_in_both_directions(files, toy):
    assert (
        "0 answers changed: 0 from right to wrong, 0 from wrong to right, 0 from one"
        in made.whom_it_hurt(files[0], files[0], toy).description
    )
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


def test_more_bits_never_hurt_much(model, pictures):
    explorer = calibration.sensitivity_explorer(model, pictures[:8])
    assert "4 bits" in explorer.picture.value
    grid = calibration.sensitivity_grid(model, pictures[:8])
    assert all(grid[8][layer] > grid[4][layer] > grid[2][layer] for layer in grid[8])
    explorer.children[0].children[0].value = 2
    worst = min(grid[2], key=grid[2].get)
    assert f"the most sensitive layer is {worst}" in explorer.picture.value


def test_the_learners_spread_is_asked_for_every_convolution(mobilenet, model):
    asked = []

    def spread(weight):
        asked.append(weight.shape)
        return channel_spread(weight)

    words = channels.spread_plot({"A": model, "B": mobilenet}, spread).description
    assert len(asked) == sum(isinstance(m, torch.nn.Conv2d) for net in (model, mobilenet) for m in net.modules())
    assert "A " in words
    assert "B " in words


def test_a_cure_table_has_a_row_for_every_recipe_and_needs_no_photographs(mobilenet, monkeypatch):
    monkeypatch.setattr(channels, "find_fashion_mnist", lambda: None)
    html = channels.cure_table(mobilenet, ["stem"])._repr_html_()
    assert html.count('scope="row"') == 1 + len(channels.recipes()) == len(channels.RECORDED)
    assert "accuracy on record" in html


def test_a_blamed_layer_stays_in_floats(mobilenet, pictures):
    name = next(iter(channels.folded_weights(mobilenet)))
    spared = list(channels.recipes((name,)).values())[1](mobilenet, pictures[:8])
    assert torch.equal(spared.get_submodule(name).weight, channels.folded_weights(mobilenet)[name])


def test_one_layer_of_the_zoo_s_mobilenet_breaks_and_none_of_the_others():
    suspect = models.load_pretrained("mobilenet_v2_050", "fashion-mnist")
    spreads = {name: channel_spread(weight) for name, weight in channels.folded_weights(suspect).items()}
    assert len(spreads) == 52
    assert [name for name, spread in spreads.items() if 127 / spread < 2] == ["features.1.body.0.0"]
    assert suspect.get_submodule("features.1.body.0.0").groups > 1
    for name in ("resnet", "mobilenet_v1_025"):
        others = channels.folded_weights(models.load_pretrained(name, "signs"))
        assert max(map(channel_spread, others.values())) < 10


def test_the_accuracies_on_record_are_what_is_measured(needs_fashion_mnist):
    suspect = models.load_pretrained("mobilenet_v2_050", "fashion-mnist")
    shares = channels.accuracies(suspect, data.load("fashion-mnist"), ("features.1.body.0.0",))
    assert shares == pytest.approx(channels.RECORDED, abs=0.5)
    floating, per_tensor, *mended = shares
    assert floating - per_tensor > 10
    assert all(abs(share - floating) < 1 for share in mended)
