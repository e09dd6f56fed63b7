"""Lab 10: the family is what lab 06 would cut, its costs are measured, its searches are fair, its sentences hold."""

import json
import random

import pytest
import torch
from safetensors.torch import save_file

from edgelab import data, models
from edgelab.deploy.file_costs import file_costs
from edgelab.errors import EdgelabError
from edgelab.labs.lab_10_capstone import battery, costs, cut, explorers, rival, search, workshop
from edgelab.labs.lab_10_capstone.family import WHOLE, Family, neighbours, settle, shapes
from edgelab.measure import count_macs
from edgelab.models.retrain import augment_for, validation_images
from edgelab.numbers import number
from edgelab.pruning import channel_importance, find_dependencies, remove_channels
from edgelab.train import History, evaluate

pytestmark = pytest.mark.usefixtures("learners_folder")
DATASETS = ("signs", "fashion-mnist")
KEYS = {"signs": "3-32-32-16", "fashion-mnist": "1-28-28-10"}


@pytest.fixture(scope="module")
def dataset():
    """Return a small data set of three classes, bright, middling and dark, that goes by the name of the signs."""
    generator = torch.Generator().manual_seed(0)
    splits = []
    for size in (160, 60):
        labels = torch.arange(size) % 3
        images = torch.randint(0, 60, (size, 3, 32, 32), generator=generator) + 90 * labels[:, None, None, None]
        splits.append(data.Split(images.to(torch.uint8), labels))
    return data.Dataset("signs", tuple(map(str, range(16))), *splits)


@pytest.fixture(scope="module")
def tiny():
    return models.load_pretrained("resnet_tiny", "signs")


@pytest.fixture(scope="module")
def example():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def shop(dataset, monkeypatch):
    """Return a workshop with few pictures and short trainings."""
    monkeypatch.setattr(workshop, "LESSONS", 96)
    monkeypatch.setattr(workshop, "JUDGES", 60)
    monkeypatch.setattr(workshop, "EPOCHS", {"family": 2, "distil": 2, "finish": 2})
    return workshop.Workshop(dataset)


def test_a_network_cut_out_is_the_one_that_lab_06_would_leave(tiny, example):
    dependencies = find_dependencies(tiny, example[:1])
    scores = channel_importance(dependencies, "l1")
    width_of = dict(zip(WHOLE, (6, 10, 24), strict=True))
    going = {
        name: scores[name].argsort()[: len(group) - width_of[len(group)]].tolist()
        for name, group in dependencies.groups.items()
    }
    with torch.no_grad():
        expected = remove_channels(dependencies, going)(example)
        got = Family(tiny, example[:1], 16).cut((6, 10, 24))(example)
    torch.testing.assert_close(got, expected)


def test_the_largest_of_the_family_is_the_network_itself(tiny, example):
    family = Family(tiny, example[:1], 16).eval()
    with torch.no_grad():
        torch.testing.assert_close(family.cut(WHOLE)(example), tiny(example))
        torch.testing.assert_close(family(example), tiny(example))


def test_a_batch_trains_the_weights_of_the_network_that_was_drawn(tiny, example, monkeypatch):
    family = Family(tiny, example[:1], 16).train()
    monkeypatch.setattr("edgelab.labs.lab_10_capstone.family.shapes", lambda: [(4, 8, 16)])
    family(example).sum().backward()
    gradient = family.largest.get_parameter("stem.0.weight").grad
    assert sorted((gradient.flatten(1).abs().sum(1) > 0).tolist()) == [False] * 4 + [True] * 4
    assert set(map(tuple, shapes())) >= {(4, 8, 16), WHOLE}


def test_settling_gives_batch_norms_the_statistics_of_what_they_see(tiny, dataset):
    network = settle(Family(tiny, torch.zeros(1, 3, 32, 32), 16).cut((4, 8, 16)), dataset.train.images)
    with torch.no_grad():
        seen = network.stem[0](data.normalize(dataset.train.images[:256]))
    torch.testing.assert_close(network.stem[1].running_mean, seen.mean((0, 2, 3)), rtol=1e-3, atol=1e-4)
    assert not network.training


def test_neighbours_are_one_step_away_and_know_each_other():
    assert list(neighbours((4, 8, 16))) == [(5, 8, 16), (4, 10, 16), (4, 8, 20)]
    assert len(shapes()) == 64
    assert all(shape in neighbours(other) for shape in shapes() for other in neighbours(shape))


@pytest.mark.parametrize("name", DATASETS)
def test_on_record_no_cost_falls_where_a_stage_grows(name):
    known = costs._on_record()[KEYS[name]]
    of = {shape: known[costs.text_of(shape)] for shape in shapes()}
    for shape, found in of.items():
        for other in neighbours(shape):
            if sum(other) > sum(shape):
                assert of[other][0] > found[0]
                assert of[other][1] >= found[1]
    assert min(of, key=lambda shape: of[shape][0]) == (4, 8, 16)


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("brief", costs.BRIEFS)
def test_both_limits_of_a_brief_break_some_network_and_leave_some(name, brief):
    """Two limits at once: neither alone decides, the whole network keeps to neither or one, and some keep both."""
    known = costs._on_record()[KEYS[name]]
    rows = [dict(zip(costs.COSTS, known[costs.text_of(shape)], strict=True)) for shape in shapes()]
    limits = costs.limits_of(brief)
    kept = {cost: [row[cost] <= most for row in rows] for cost, most in limits.items()}
    first, second = kept.values()
    assert 5 <= sum(a and b for a, b in zip(first, second, strict=True)) <= 55
    assert first != second
    assert any(rows[-1][cost] > most for cost, most in limits.items())


def test_the_record_is_what_the_tools_say(dataset):
    """Vela's compiler and TensorFlow Lite Micro, where they are installed."""
    pytest.importorskip("ethosu")
    pytest.importorskip("tflite_micro")
    known = costs._on_record()[KEYS["signs"]]
    images = data.normalize(dataset.train.images[:16])
    for shape in ((4, 8, 16), (6, 12, 20), WHOLE):
        model = models.resnet(shape, in_channels=3, num_classes=16).eval()
        found = costs.measure(costs.write_int8(model, images, "model.tflite"))
        assert found["bytes"] == pytest.approx(known[costs.text_of(shape)][0], rel=0.01)
        assert found["arena"] == pytest.approx(known[costs.text_of(shape)][1], rel=0.02)
        assert found["us"] == pytest.approx(known[costs.text_of(shape)][2], rel=0.02)
    assert list(rival.measured_costs(dataset).values()) == pytest.approx(
        rival._record()["rivals"][KEYS["signs"]], rel=0.02
    )


def test_without_the_extra_activations_stand_in_for_the_arena(dataset, monkeypatch, capsys):
    images = data.normalize(dataset.train.images[:4])
    path = costs.write_int8(models.resnet((4, 8, 16), num_classes=16).eval(), images, "model.tflite")
    monkeypatch.setattr(costs, "has_micro", lambda: False)
    monkeypatch.setattr(costs, "has_vela", lambda: False)
    assert costs.measure(path) == {
        "bytes": path.stat().st_size,
        "arena": file_costs(path).peak_bytes,
        "us": None,
    }
    monkeypatch.setattr(costs, "shapes", lambda: [(4, 8, 16)])
    monkeypatch.setattr(costs, "_on_record", dict)
    first = costs.family_costs(dataset)
    assert "stand in for the arena" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(costs, "measure_family", lambda _dataset: pytest.fail("measured again"))
        assert costs.family_costs(dataset) == first
    whole = {costs.text_of((4, 8, 16)): [1, 2, 3.0]}
    monkeypatch.setattr(costs, "measure_family", lambda _dataset: whole)
    monkeypatch.setattr(costs, "has_micro", lambda: True)
    monkeypatch.setattr(costs, "has_vela", lambda: True)
    assert costs.family_costs(dataset)[4, 8, 16]["us"] == 3.0  # the extra was installed since
    larger = data.Dataset(
        "larger", dataset.classes, data.Split(torch.zeros(2, 3, 40, 40), torch.zeros(2)), dataset.test
    )
    costs.family_costs(larger)
    assert len(json.loads(costs.KEPT.read_text())) == 3  # what is measured for one data set leaves the others'


def own(dataset, count, side=32):
    """Return pictures as a learner's, so many to train on, of another size; each one's pixels are its number."""
    numbers = torch.arange(count)
    images = (numbers % 251)[:, None, None, None].expand(-1, 3, side, side).to(torch.uint8).clone()
    images[:, 0, 0, 0] = (numbers // 251).to(torch.uint8)
    return data.Dataset("own", dataset.classes, data.Split(images, numbers % 16), dataset.test)


@pytest.mark.parametrize(
    ("count", "lessons", "judges"), [(12_000, 3_000, 1_000), (3_000, 2_700, 300), (90, 81, 9), (5, 4, 1)]
)
def test_nothing_learns_from_the_judges_however_few_there_are(dataset, tiny, monkeypatch, count, lessons, judges):
    monkeypatch.setattr(workshop, "load_pretrained", lambda *_names: tiny)
    monkeypatch.setattr(workshop, "remembered", lambda *_arguments: None)
    monkeypatch.setattr(costs, "family_costs", lambda _dataset: {})
    loaded = own(dataset, count)
    shop = workshop.Workshop(loaded)
    assert (len(shop.lessons), len(shop.judges)) == (lessons, judges)
    seen, zoo = shop.judges.images.flatten(1), loaded.train[: -validation_images(loaded)].images.flatten(1)
    for others in (shop.lessons.images.flatten(1), zoo):
        assert not {bytes(row[:4].numpy()) for row in seen} & {bytes(row[:4].numpy()) for row in others}
    assert f"judges: {judges:,};".replace(",", "\u202f") in str(shop)


def test_the_limits_of_ram_and_time_grow_with_the_pictures_and_those_of_flash_do_not(shop):
    assert shop.limits("sensor") == costs.BRIEFS["sensor"].limits
    assert costs.growth_of(torch.zeros(1, 1, 28, 28)) == 1
    growth = costs.growth_of(torch.zeros(1, 3, 48, 48))
    assert growth == 2.25
    assert costs.limits_of("camera", growth) == {"bytes": 20 * 1024, "us": 155 * 2.25}
    assert costs.limits_of("sensor", growth, 50) == {"bytes": 10 * 1024, "arena": 27 * 1024}
    assert "55\u202f296" in costs.brief_table(dict.fromkeys(costs.COSTS, 1.0), growth)._repr_html_()


@pytest.mark.parametrize(("side", "channels", "classes"), [(24, 1, 2), (48, 3, 12)])
def test_pictures_of_any_size_leave_room_for_the_first_guess_and_not_for_the_whole(side, channels, classes):
    pytest.importorskip("tflite_micro")
    images = torch.rand(2, channels, side, side) * 2 - 1
    limits, broken = costs.limits_of("sensor", costs.growth_of(images)), []
    for shape in ((6, 12, 20), WHOLE):
        model = models.resnet(shape, in_channels=channels, num_classes=classes).eval()
        found = costs.measure(costs.write_int8(model, images, "model.tflite"))
        broken.append([name for name, most in limits.items() if found[name] > most])
    assert broken[0] == []
    assert "bytes" in broken[1]


def test_a_brief_that_cannot_be_judged_here_or_is_none_is_refused_in_a_sentence(shop):
    shop.costs = {WHOLE: {"bytes": 1, "arena": 1, "us": None}}
    with pytest.raises(EdgelabError, match=r"camera with an NPU: NPU, Arm's estimate \(µs\) cannot be measured here"):
        shop.limits("camera")
    with pytest.raises(EdgelabError, match=r"There is no brief 'drone'\. There are: sensor, camera"):
        shop.limits("drone")


def test_orders_are_tried_and_an_impossible_one_says_why(shop):
    html = workshop.order_table(shop, (6, 12, 20))._repr_html_()
    assert html.count("<tr>") == 5
    assert "refused: This model has no parameters to train" in html
    steps = ("prune", "distil", "quantize")
    assert shop.order(steps, (6, 12, 20)) == shop.order(steps, (6, 12, 20))
    assert torch.equal(shop.tiny.stem[0].weight, models.load_pretrained("resnet_tiny", "signs").stem[0].weight)


def test_the_first_of_a_ranking_are_finished_and_judged_as_what_is_then_written(shop):
    ranked = [(4, 8, 16), (6, 12, 20), (6, 10, 24), WHOLE]
    finals = shop.finals(ranked)
    assert list(finals) == ranked[:2]
    model, *_files = shop.finish((6, 12, 20))
    assert finals[6, 12, 20] == evaluate(model, shop.judges)
    within = [{"shape": shape, "accuracy": 0.5} for shape in ranked]
    html = explorers.finals_table(within, {(4, 8, 16): 0.9, WHOLE: 0.25}, 1_000)._repr_html_()
    assert html.count("<tr>") == 3
    assert "50.0 ± 3.1" in html and "90.0 ± 1.9" in html and "25.0 ± 2.7" in html


def test_the_lab_from_table_to_files(shop, monkeypatch, redraws):
    monkeypatch.setattr(workshop, "shapes", lambda: [(4, 8, 16), (6, 12, 20), WHOLE])
    table = shop.table()
    assert [row["shape"] for row in table] == [(4, 8, 16), (6, 12, 20), WHOLE]
    assert table[0]["bytes"] < table[1]["bytes"] < table[2]["bytes"]
    model, onnx_file, tflite_file = shop.finish((6, 12, 20))
    html = workshop.agreement(onnx_file, tflite_file, shop.dataset.test)._repr_html_()
    assert html.count("<tr>") == 3
    assert onnx_file.exists()
    found = rival.measured(shop, (6, 12, 20), tflite_file)
    assert found["bytes"] == pytest.approx(table[1]["bytes"], rel=0.01)
    duel = rival.duel_table(shop, (6, 12, 20), tflite_file, 0.9)._repr_html_()
    assert "98\u202f496" in duel, "the rival as published"
    for cost, ours in found.items():  # like with like: the same shape by the same converter, on the same pictures
        assert f"{rival.figures(shop.dataset)[cost] / ours:.1f}×" in duel
    assert "ResNet-8" in battery.table(right_days, model, shop.image)._repr_html_()
    found = explorers.finding_table(table, (4, 8, 16), [WHOLE], costs.limits_of("sensor"))._repr_html_()
    assert "4-8-16" in found
    with pytest.raises(EdgelabError, match="no shape of the family"):
        explorers.finding_table(table, (1, 2, 3), [WHOLE], {})
    assert redraws([explorers.family_explorer(table, right_proof, 60), battery.battery_explorer(right_days)])


def right_proof(table, limits, images):
    kept = [row["accuracy"] for row in table if all(row[name] <= most for name, most in limits.items())]
    bound = max(kept, default=0.0)
    return bound, bound + 1.96 * (bound * (1 - bound) / images) ** 0.5


def right_days(mah, volts, joules, per_second, watts):
    return mah * 3.6 * volts / (joules * per_second + watts) / 86_400


def test_both_searches_look_at_every_network_once():
    ranked = random.Random(1).sample(shapes(), 64)
    places = {shape: place for place, shape in enumerate(ranked)}
    for one in search.SEARCHES.values():
        assert sorted(one(sorted(ranked), places, random.Random(0))) == shapes()


def test_evolution_needs_fewer_looks_where_neighbours_are_alike_and_no_more_where_not(redraws):
    """Chance needs 32.5 looks on average, as the text says; a ranking by sizes is smooth, one by lot is not."""
    smooth = sorted(shapes(), key=lambda shape: abs(shape[0] - 6) + abs(shape[1] - 10) / 2 + abs(shape[2] - 24) / 4)
    by_lot = random.Random(3).sample(shapes(), 64)
    outcomes = {name: search.repeat(one, smooth) for name, one in search.SEARCHES.items()}
    assert 29 < outcomes["random"].looks < 36
    assert outcomes["evolution"].looks < 22
    assert 25 < search.repeat(search.evolution, by_lot).looks < 40
    assert outcomes["evolution"].found(64) == 1
    words = explorers.search_plot(outcomes, 16).description
    assert f"evolution {100 * outcomes['evolution'].found(16):.0f} %" in words
    assert redraws([explorers.search_explorer(outcomes)])


def test_a_ranking_that_is_none_is_refused():
    table = [{"shape": shape} for shape in shapes()[:3]]
    assert explorers.ranked_shapes(table, lambda *_: [2, 0, 1], {}) == [shapes()[2], shapes()[0], shapes()[1]]
    with pytest.raises(EdgelabError, match="from 0 to 2"):
        explorers.ranked_shapes(table, lambda *_: [0, 0, 1], {})


def test_the_family_is_drawn_within_its_limits():
    table = [
        {"shape": shape, "accuracy": 0.8 + place / 1000, "bytes": 12_000 + 200 * place, "arena": 24_000, "us": None}
        for place, shape in enumerate(shapes())
    ]
    picture = explorers.family_plot(table, right_proof, 1_000, "sensor", "bytes", 100)
    assert "43 of 64 networks are within both limits" in picture.description
    assert "84.2 %. Of this training, expect nothing above 86.5 %" in picture.description
    assert "0 of 64" in explorers.family_plot(table, right_proof, 1_000, "sensor", "arena", 60).description
    explorer = explorers.family_explorer(table, right_proof, 1_000)
    assert [label for label, _value in explorer.children[0].children[0].options] == ["sensor"]


def test_verdicts_are_told(capsys):
    costs.tell_broken(())
    costs.tell_broken(["us", "arena"])
    explorers.tell_client(0.99, (0.8, 0.83))
    explorers.tell_client(0.82, (0.8, 0.83))
    kept, over, no, perhaps = capsys.readouterr().out.splitlines()
    assert kept == "✓ All limits are kept."
    assert over == "✗ Broken: NPU, Arm's estimate (µs); arena (bytes)"
    assert no.endswith("ceiling 83.0 %: out of reach")
    assert perhaps.endswith("not ruled out")


@pytest.mark.parametrize("name", DATASETS)
def test_the_shape_that_the_lab_begins_with_keeps_the_limits_of_both_briefs_but_not_with_all_channels(name):
    known = costs._on_record()[KEYS[name]]
    begun, whole = (dict(zip(costs.COSTS, known[text], strict=True)) for text in ("6-12-20", "8-16-32"))
    limits = costs.limits_of("sensor")
    assert all(begun[cost] <= most for cost, most in limits.items())
    assert any(whole[cost] > most for cost, most in limits.items())


def test_the_coin_cell_lasts_five_days_and_one_board_makes_it_last_more_than_five_times_as_long():
    assert battery.on_coin_cell(right_days) == pytest.approx(5.117, abs=0.01)
    joules = [board.joules for board in battery.BOARDS.values()]
    assert max(joules) / min(joules) > 5
    cell = battery.CELLS["CR2032"]
    of = {name: right_days(cell.mah, cell.volts, board.joules, min(battery.PICTURES) / 60, 0)
          for name, board in battery.BOARDS.items()}  # fmt: skip
    assert [name for name, lasting in of.items() if lasting >= 365] == ["STM32U385 (Cortex-M33)"]  # question 1
    words = battery.battery_plot(right_days, "STM32U385 (Cortex-M33)", "CR2032", 1, 30).description
    assert "sleep takes 65 % of the energy" in words


@pytest.mark.parametrize("name", DATASETS)
def test_the_rival_trains_for_the_compute_that_its_opponent_had(name):
    loaded = data.load(name)
    image = data.normalize(loaded.test.images[:1])
    tiny, teacher = (count_macs(models.load_pretrained(which, name), image) for which in ("resnet_tiny", "resnet"))
    theirs, pictures = count_macs(rival.build(loaded).eval(), image), len(loaded.train) - 1_000
    lab = workshop.EPOCHS["family"] + 2 * workshop.EPOCHS["finish"]
    epochs = models.manifest()[f"{name}/resnet_tiny"]["epochs"]
    mine = 3 * tiny * (epochs * pictures + lab * workshop.LESSONS) + teacher * workshop.LESSONS
    assert rival.fair_epochs(loaded) == round(mine / (3 * theirs * pictures))
    rows = [row for row in rival._record()["trainings"] if row["dataset"] == name]
    assert {row["epochs"] for row in rows if not row["long"]} == {rival.fair_epochs(loaded)}


def test_on_a_learners_pictures_the_rival_trains_by_the_zoos_recipe(dataset, tiny, monkeypatch):
    calls = []
    monkeypatch.setattr(rival, "load_pretrained", lambda *_names: tiny)
    monkeypatch.setattr(
        rival, "fit_whole", lambda _model, split, **options: calls.append((len(split), options)) or History()
    )
    loaded = own(dataset, 300, 48)
    assert rival.fair_epochs(loaded) >= 1
    rival.train(loaded, epochs=2)
    (images, options) = calls[0]
    assert (images, len(options["val"]), options["epochs"]) == (270, 30, 2)
    assert options["augment"] is augment_for(loaded)
    assert options["lr"] == pytest.approx(0.15 / 2)  # larger pictures, smaller batches


@pytest.mark.parametrize("name", DATASETS)
def test_the_rivals_shape_costs_about_what_was_published(name):
    """Its data is CIFAR-10, with three channels, 32x32 pixels and ten classes."""
    bytes_, arena, _us = rival._record()["rivals"][KEYS[name]]
    assert bytes_ == pytest.approx(rival.PUBLISHED["bytes"], rel=0.15)
    if name == "signs":
        assert arena == pytest.approx(rival.PUBLISHED["arena"], rel=0.05)


def test_what_was_cut_after_long_teaching_needs_half_of_the_rivals_bytes_and_reads_no_less_than_it_trained_alone():
    signs = data.load("signs")
    rows = json.loads(costs.RECORD.read_text("utf-8"))["cut"]
    alone = max(rival.accuracies(signs, long=True))
    assert rows
    for row in rows:
        assert 2 * row["bytes"] <= rival.PUBLISHED["bytes"]
        assert 2 * row["bytes"] <= rival.figures(signs)["bytes"]
        assert row["arena"] < rival.PUBLISHED["arena"]
        assert alone < row["int8"] < row["whole"] < row["int8"] + 0.015
    assert number(rows[0]["bytes"]) in rival.long_rival(signs)


def test_a_taught_network_is_cut_to_its_macs_then_taught_and_judged_as_int8(dataset, monkeypatch, tmp_path):
    monkeypatch.setattr(cut, "EPOCHS", 1)
    whole = rival.build(dataset)
    save_file(whole.state_dict(), tmp_path / "whole.safetensors")
    row = cut.cut(dataset, tmp_path / "whole.safetensors")
    assert 2 * row["bytes"] <= rival.PUBLISHED["bytes"]
    assert {0 <= row[name] <= 1 for name in ("whole", "float", "int8")} == {True}
    left = count_macs(cut.smaller(whole.eval(), dataset.train), data.normalize(dataset.train.images[:1]))
    assert 0.9 * cut.MACS < left / count_macs(whole, data.normalize(dataset.train.images[:1])) <= cut.MACS
