"""Lab 05: its pictures and tables follow its numbers, and its sentences hold."""

import copy
import re

import numpy as np
import pytest
import torch

from edgelab import data, models
from edgelab.deploy import to_onnx
from edgelab.errors import EdgelabError
from edgelab.labs.lab_05_unstructured_pruning import bills, explorers, flash, products, training
from edgelab.pruning import choose_masks, magnitude_mask, prune, remove_masks, save_sparse, sparsity_of

pytestmark = pytest.mark.usefixtures("learners_folder")


@pytest.fixture(scope="module")
def toy():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (200, 3, 16, 16), dtype=torch.uint8, generator=generator)
    split = data.Split(images, torch.arange(200) % 4)
    return data.Dataset("toy", ("a", "b", "c", "d"), split, split)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return models.resnet((8, 16), num_classes=4).eval()


def layer_mask(weight, sparsity):
    return magnitude_mask(weight, sparsity)


def global_masks(weights, sparsity):
    return choose_masks({name: weight.abs() for name, weight in weights.items()}, sparsity)


def kmeans_step(values, codebook):
    codes = (values[:, None] - codebook).abs().argmin(1)
    moved = codebook.clone()
    for code in codes.unique():
        moved[code] = values[codes == code].mean()
    return moved


def bitmask(weight):
    return np.packbits(weight.flatten() != 0), weight[weight != 0]


def test_a_scan_holds_the_zeros_and_the_accuracy_of_every_way(model, toy):
    before = copy.deepcopy(model.state_dict())
    found = explorers.scan(model, toy.test[:40], layer_mask, global_masks)
    ways = {(way, sparsity) for way in ("global", "layer", "random") for sparsity in explorers.SPARSITIES}
    assert set(found.accuracy) == {("", 0), *ways}
    assert list(found.zeros["layer", 0.5].values()) == pytest.approx([0.5] * 7, abs=0.01)
    assert len({round(share, 2) for share in found.zeros["global", 0.5].values()}) > 2
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("shares", "free"),
    [([0.9, 0.88, 0.5, 0.1], 60), ([0.8, 0, 0, 0], 5), ([0.9] * 4, 90), ([0.9, 0.895, 0.885, 0.8], 75)],
    ids=["a cliff", "at once", "no loss", "just beyond"],
)
def test_how_many_weights_are_free_is_read_off_between_two_sparsities(model, toy, shares, free):
    accuracy = {("", 0): 0.9, **dict(zip((("global", one) for one in explorers.SPARSITIES), shares, strict=True))}
    assert explorers.Scan(model, toy.test, accuracy).free(1.0) == pytest.approx(free, abs=0.1)


def test_the_scan_s_picture_names_what_was_chosen(model, toy):
    found = explorers.scan(model, toy.test[:40], layer_mask, global_masks)
    explorer = explorers.scan_explorer(found)
    way, percent = explorer.children[0].children
    for value in ("layer", "random", "global"):
        way.value, percent.value = value, 80
        share = 100 * found.accuracy[value, 0.8]
        assert f"{explorers.way_name(value)}, 80 % zeros: accuracy {share:.1f} %" in explorer.picture.value


def test_the_map_of_layers_marks_what_is_too_much(model, toy):
    images = data.normalize(toy.test.images[:20])
    explorer = explorers.layer_explorer(model, images)
    assert "more than 5 %" in explorer.picture.value
    explorer.children[0].children[0].value = 20
    assert "more than 20 %" in explorer.picture.value
    found = {"a": {0.5: 0.0, 0.9: 0.1}, "b": {0.5: 0.3, 0.9: 0.4}}
    words = explorers.layer_plot(found, {"a": 300, "b": 100}, 0.05).description
    assert "Each layer alone, 38 % of all weights could go" in words  # half of three quarters


def test_every_control_of_lab_05_draws_again(model, toy, redraws):
    scanned = explorers.scan_explorer(explorers.scan(model, toy.test[:40], layer_mask, global_masks))
    mapped = explorers.layer_explorer(model, data.normalize(toy.test.images[:20]))
    raced = products.race_explorer(products.race(torch.randn(6, 4, 3, 3)))
    assert redraws([scanned, mapped, raced])


def test_where_csr_overtakes_is_read_off_between_two_shares():
    left = products.LEFT
    race = products.Race((4, 4), {1: 1.0, 8: 1.0, 64: 1.0}, {
        **{(1, one): 10 * one for one in left}, **{(8, one): 0.5 for one in left}, **{(64, one): 2.0 for one in left}
    })  # fmt: skip
    assert race.crossing(1) == pytest.approx(10)
    assert race.crossing(8) == 50
    assert race.crossing(64) == pytest.approx(100 * left[-1])
    assert "wins below 10 %" in products.race_plot(race, 1).description
    assert "half of the weights, or earlier" in products.verdict(race, 8)
    assert "does not win" in products.verdict(race, 64)


def test_the_race_multiplies_what_is_left():
    weight = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    matrix = weight.flatten(1)
    kept = products._keep(matrix, 0.25)
    assert int((kept != 0).sum()) == 54
    x = torch.randn(36, 3)
    torch.testing.assert_close(products.as_csr(kept) @ x, kept @ x)
    measured = products.race(weight)
    assert set(measured.sparse) == {(columns, left) for columns in products.COLUMNS for left in products.LEFT}
    assert all(time > 0 for time in (*measured.dense.values(), *measured.sparse.values()))
    explorer = products.race_explorer(measured)
    before = explorer.picture.value
    explorer.children[0].children[0].value = 1
    assert explorer.picture.value != before


def test_training_keeps_the_zeros_and_is_not_repeated(model, toy, monkeypatch):
    monkeypatch.setattr(training, "IMAGES", 64)
    before = copy.deepcopy(model.state_dict())
    pruned = training.prune_and_train(model, toy.train, [0.5, 0.8], global_masks)
    assert sparsity_of(pruned) == pytest.approx(0.8, abs=1e-3)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    again = training.prune_and_train(model, toy.train, [0.5, 0.8], global_masks)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in pruned.state_dict().items())
    at_once = training.prune_and_train(model, toy.train, [0.8, 0.8], global_masks)
    assert sparsity_of(at_once) == sparsity_of(pruned)
    told = {id(pruned): 0.25, id(at_once): 0.5}
    monkeypatch.setattr(training, "evaluate", lambda one, _exam: told.get(id(one), 0.125))
    table = training.accuracy_table(model, pruned, at_once, toy.test, global_masks)._repr_html_()
    rows = re.findall(r"80 % zeros ([^<]+)<.*?>([\d.]+)<", table, re.DOTALL)
    assert rows == [("at once, not trained", "12.5"), ("at once, trained", "50.0"), ("in steps, trained", "25.0")]


def test_two_of_four_has_as_many_zeros_as_half_of_each_layer(model, toy):
    html = training.pattern_table(model, toy.test)._repr_html_()
    assert html.count('scope="row"') == 3
    first, second = (row.split("<td>")[1].split("<")[0] for row in html.split("<tr>")[3:5])
    assert first == second


def test_bills_are_the_bytes_of_real_files(model, toy, tmp_path):
    image = data.normalize(toy.test.images[:1])
    zeros = remove_masks(prune(copy.deepcopy(model), 0.9))
    dense_file, zeros_file = (to_onnx(one, image, tmp_path / f"{n}.onnx") for n, one in enumerate((model, zeros)))
    html = bills.bill_table(model, zeros, dense_file, zeros_file)._repr_html_()
    assert html.count('scope="row"') == 4
    assert bills.zipped(zeros_file) < bills.zipped(dense_file)
    expected = save_sparse(zeros.state_dict(), tmp_path / "zeros.sparse", encoding="csr").stat().st_size
    assert bills.size_as(zeros, "csr") == expected


def test_the_learners_bitmask_is_counted_layer_by_layer(model):
    zeros = remove_masks(prune(model, 0.9))
    html = bills.bitmask_table(explorers.weights_of(zeros), bitmask)._repr_html_()
    assert html.count('scope="row"') == 4
    assert "all layers" in html


def test_shared_weights_are_few_and_every_step_of_the_chain_is_smaller(model, toy):
    zeros = remove_masks(prune(model, 0.8))
    shared = bills.shared(zeros, kmeans_step, bits=3)
    for name, weight in explorers.weights_of(shared).items():
        assert len(weight.unique()) <= 8
        assert torch.equal(weight == 0, explorers.weights_of(zeros)[name] == 0)
    html = bills.chain_table(model, zeros, shared, toy.test, bits=3)._repr_html_()
    times = [float(found) for found in re.findall(r"([\d.]+)×", html)]
    assert 1 == times[0] < times[1] < min(times[2:])


def test_without_tools_for_microcontrollers_figures_on_record_stand_in(model, capsys):
    def missing(*_given):
        raise EdgelabError("vela is missing.")

    html = flash.flash_table(model, model, torch.zeros(1, 3, 16, 16), missing)._repr_html_()
    assert html.count('scope="row"') == len(flash.RECORDED)
    assert "figures on record" in capsys.readouterr().out


def test_figures_on_record_are_what_is_measured_and_flash_shrinks_while_ram_grows():
    pytest.importorskip("tflite_micro")
    pytest.importorskip("ethosu")
    dense = models.load_pretrained("resnet")
    zeros = remove_masks(prune(models.load_pretrained("resnet"), 0.9))
    found = flash.bills(dense, zeros, data.normalize(data.load("signs").train.images[:64]))
    assert list(found) == list(flash.RECORDED)
    for name, bill in found.items():
        assert bill.flash == pytest.approx(flash.RECORDED[name].flash, rel=0.03)
        assert bill.ram == pytest.approx(flash.RECORDED[name].ram, rel=0.03)
        assert (bill.microseconds or 0) == pytest.approx(flash.RECORDED[name].microseconds or 0, rel=0.03)
    assert found["dense"].flash == found["zeros"].flash > 4 * found["bitmask"].flash
    assert found["bitmask"].ram > 5 * found["zeros"].ram
    assert found["bitmask"].ram - found["zeros"].ram > found["dense"].ram, "more than all activations"
    assert found["NPU, dense"].flash > 5 * found["NPU, zeros"].flash
    assert 1.1 < found["NPU, dense"].microseconds / found["NPU, zeros"].microseconds < 1.5, "little time is gained"


@pytest.mark.parametrize("dataset", ["signs", "fashion-mnist"])
def test_what_the_text_says_of_the_weights_holds_on_both_data_sets(dataset):
    weights = explorers.weights_of(models.load_pretrained("resnet", dataset))
    sizes = {name: weight.numel() for name, weight in weights.items()}
    assert sum(sizes.values()) > 1_000_000
    assert sizes["stages.2.body.1.0"] == max(sizes.values()) == 256 * 2304
    masks = global_masks(weights, 0.9)
    zeros = {name: 1 - mask.float().mean().item() for name, mask in masks.items()}
    assert zeros["stages.2.body.1.0"] > 0.97, "the largest layer is left nearly empty"
    assert max(zeros, key=zeros.get) == "stages.2.body.1.0"
    few = [name for name, size in sizes.items() if size < 5_000]
    assert few
    assert all(zeros[name] < 0.5 for name in few), "layers with few weights are spared"
