"""Lab 06: its pictures follow its numbers."""

import re

import pytest
import torch

from edgelab import data, models
from edgelab.labs.lab_06_structured_pruning import groups, stairs, trade
from edgelab.pruning import LayerTimes, find_dependencies
from edgelab.pruning.channels import IN, OUT

pytestmark = pytest.mark.usefixtures("learners_folder")


@pytest.fixture(scope="module")
def toy():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 16, 16), dtype=torch.uint8, generator=generator)
    split = data.Split(images, torch.arange(64) % 4, None)
    return data.Dataset("toy", ("a", "b", "c", "d"), split, split)


@pytest.fixture(scope="module")
def dependencies(toy):
    torch.manual_seed(0)
    return find_dependencies(models.resnet((8, 16), num_classes=4), data.normalize(toy.test.images[:1]))


def by_weights(layer, image):
    """A clock that knows no noise: a millisecond for a thousand weights."""
    return layer.weight.numel() / 1000


def test_every_width_is_measured_in_both_precisions():
    measured = stairs.measure_stairs((15, 16, 17))
    assert {precision: list(times) for precision, times in measured.items()} == {
        "fp32": [15, 16, 17],
        "int8": [15, 16, 17],
    }
    assert all(ms > 0 for times in measured.values() for ms in times.values())


def test_the_staircase_compares_a_width_with_the_next_multiple_of_the_step_that_is_tried():
    made = {"fp32": {n: n / 10 for n in range(32, 73)}, "int8": {n: n / 20 for n in range(32, 73)}}
    explorer = stairs.staircase_explorer(made)
    precision, step, channels = explorer.children[0].children
    assert "fp32: 71 channels take 7.100 ms, 72 take 7.200 ms" in explorer.picture.value
    precision.value, channels.value = "int8", 41
    for tried, upper, ms in ((4, 44, "2.200"), (8, 48, "2.400"), (16, 48, "2.400")):
        step.value = tried
        assert f"int8: 41 channels take 2.050 ms, {upper} take {ms} ms" in explorer.picture.value


def test_every_control_of_lab_06_draws_again(dependencies, redraws):
    grid = trade.trade_grid(dependencies, LayerTimes(dependencies, by_weights))
    sizes = {name: len(group) for name, group in dependencies.groups.items()}
    made = {precision: {n: n / 10 for n in range(32, 73)} for precision in stairs.PRECISIONS}
    every = [stairs.staircase_explorer(made), groups.group_explorer(dependencies), trade.trade_explorer(grid, sizes)]
    assert redraws(every)


def test_the_graph_has_every_layer_and_both_additions(dependencies):
    edges = groups.layer_graph(dependencies)
    assert edges["stem.0"] == ["image"]
    assert sorted(edges["+1"]) == ["stages.0.body.1.0", "stem.0"]
    assert sorted(edges["+2"]) == ["stages.1.body.1.0", "stages.1.shortcut.0"]
    assert edges["classifier"] == ["+2"]
    assert {name for name in edges if "+" not in name} == {name for name, side in dependencies.slots if side == IN}


def test_a_group_is_drawn_with_its_members_and_one_that_stays_says_why(dependencies):
    explorer = groups.group_explorer(dependencies)
    assert "stem.0: 8 channels" in explorer.picture.value
    assert "(stages.1.shortcut.0, in, 0-7)" in explorer.picture.value
    explorer.children[0].children[0].value = "classifier"
    assert "they stay: they are the model" in explorer.picture.value


def test_removed_and_zeroed_channels_differ_by_nothing(dependencies, toy):
    images = data.normalize(toy.test.images[:4])
    assert groups.difference(dependencies.model, dependencies.model, images) == 0


def test_the_criterion_table_asks_the_learners_function_for_every_group(dependencies, toy):
    asked = []

    def taylor(weight, gradient):
        asked.append(weight.shape == gradient.shape)
        return (weight * gradient).flatten(1).sum(1).abs()

    html = trade.criterion_table(dependencies, taylor, toy.train, toy.test)._repr_html_()
    assert asked == [True] * len(dependencies.groups)
    assert html.count('scope="row"') == 6
    assert re.search(r"at random, draws: 5</th><td[^>]*>\d+\.\d \(\d+\.\d–\d+\.\d\)</td>", html)


def test_macs_and_time_of_a_group_fall_with_its_channels(dependencies):
    grid = trade.trade_grid(dependencies, LayerTimes(dependencies, by_weights))
    assert grid.keys() == dependencies.groups.keys()
    for points in grid.values():
        macs, times = zip(*points.values(), strict=True)
        assert macs[0] == times[0] == 1
        assert list(macs) == sorted(macs, reverse=True)
        assert list(times) == sorted(times, reverse=True)
    explorer = trade.trade_explorer(grid, {name: len(group) for name, group in dependencies.groups.items()})
    macs, ms = grid["stem.0"][2]
    assert f"stem.0, 4 of 8 channels: {100 * macs:.0f} % of the MACs, {100 * ms:.0f} %" in explorer.picture.value


def test_the_outcome_table_races_against_the_first_model(dependencies, toy):
    image = dependencies.example
    runs = {name: (dependencies.model, lambda: dependencies.model(image)) for name in ("one & all", "other")}
    html = trade.outcome_table(runs, toy.test, image, {"one & all": 2.0, "other": 1.0})._repr_html_()
    assert "one &amp; all" in html
    assert "2.00" in html


def test_counts_say_what_is_left(dependencies):
    html = trade.counts({"stem.0": [1, 2]}, dependencies)._repr_html_()
    assert "<td>8</td><td>6</td>" in html
    assert dependencies.slots["stem.0", OUT].shape == (8,)
