"""A row of the table agrees with the functions that make up its parts, and the table with its rows."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from edgelab.measure import (
    Row,
    count_macs,
    count_params,
    estimate_energy,
    format_markdown,
    measure_model,
    model_bytes,
    peak_activation_bytes,
    rich_table,
    saved_bytes,
    share_half_width,
)
from edgelab.measure.report import Deployed, cells, headings

IMAGE = torch.zeros(1, 3, 8, 8)
ROW = Row(
    params=1_229_136,
    size_bytes=4_921_344,
    macs=194_711_552,
    p50_ms=3.634,
    p95_ms=4.2,
    threads=1,
    peak_bytes=786_432,
    energy_j=0.0017,
    accuracy=0.9731,
)


def test_row_holds_what_each_counter_says():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 4))
    row = measure_model(model, IMAGE, accuracy=0.5)
    assert (row.params, row.macs, row.accuracy) == (count_params(model), count_macs(model, IMAGE), 0.5)
    assert (row.size_bytes, row.peak_bytes) == (saved_bytes(model), peak_activation_bytes(model, IMAGE, fused=True))
    assert row.energy_j == pytest.approx(estimate_energy(row.macs, model_bytes(model)))
    assert 0 < row.p50_ms <= row.p95_ms and row.threads == 1
    assert model.training and model[1].training and model[1].num_batches_tracked == 0


def test_a_deployed_model_has_the_latency_size_and_energy_of_its_runtime():
    calls = []
    deployed = Deployed(lambda: calls.append(None), size_bytes=123, precision="int8")
    row = measure_model(nn.Conv2d(3, 8, 3), IMAGE, deployed=deployed)
    assert len(calls) >= 50
    assert row.size_bytes == 123
    in_float = measure_model(nn.Conv2d(3, 8, 3), IMAGE)
    assert row.macs == in_float.macs
    assert row.peak_bytes == in_float.peak_bytes // 4
    assert row.energy_j == pytest.approx(estimate_energy(row.macs, 224, precision="int8"))
    assert (row.runtime, in_float.runtime) == ("ONNX Runtime", "PyTorch")


def test_the_energy_follows_the_bytes_that_are_really_moved():
    deployed = Deployed(lambda: None, size_bytes=123, weight_bytes=232)  # weights of 8 bits, arithmetic in floats
    row = measure_model(nn.Conv2d(3, 8, 3), IMAGE, deployed=deployed)
    assert row.energy_j == pytest.approx(estimate_energy(row.macs, 232, precision="fp32"))


def test_row_survives_json():
    assert Row(**json.loads(json.dumps(ROW.as_dict()))) == ROW


def test_cells_are_in_the_units_of_their_headings():
    shown = dict(zip(headings()[1:], cells(ROW), strict=True))
    assert shown["size (KiB)"] == "4\u202f806" and shown["MACs (M)"] == "194.7"
    assert shown["latency p50 (p95) (ms)"] == "3.63 (4.20)" and shown["peak memory (KiB)"] == "768"
    assert shown["runtime, threads"] == "PyTorch, 1"
    assert shown["energy, estimated (mJ)"] == "1.700" and shown["accuracy (%), test pictures"] == "97.31"


@pytest.mark.parametrize("accuracy", [0.5, 0.9731, 0.9994, 1.0])
def test_a_row_says_on_how_many_pictures_its_accuracy_was_counted_and_how_far_chance_may_have_moved_it(accuracy):
    shown = cells(replace(ROW, accuracy=accuracy, pictures=3_000))[-1]
    low, high = wilson(round(3_000 * accuracy), 3_000)
    assert shown == f"{100 * accuracy:.2f} ± {100 * (high - low) / 2:.2f}, 3\u202f000"
    assert high > low


def wilson(right, count):
    """Return the shares p that `right` of `count` does not refute: |p - right / count| <= 1.96 sqrt(p (1 - p) / count).

    By bisection on either side, from the definition and not from the formula for its ends.
    """
    found = right / count

    def refuted(p):
        return abs(p - found) > 1.96 * (p * (1 - p) / count) ** 0.5

    ends = []
    for outside in (0.0, 1.0):
        inside = found
        for _step in range(60):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if refuted(middle) else (middle, outside)
        ends.append(inside)
    return ends


def test_an_interval_of_no_pictures_is_refused():
    with pytest.raises(ValueError, match=r"no share: 0\.5 of 0"):
        share_half_width(0.5, 0)
    with pytest.raises(ValueError, match="no share: 96 of 100"):
        share_half_width(96, 100)


def test_markdown_has_a_line_for_each_model_and_a_column_for_each_heading():
    lines = format_markdown({"baseline": ROW, "tiny": ROW}).splitlines()
    assert len(lines) == 4 and lines[2].startswith("| baseline | 1\u202f229\u202f136 |")
    assert {line.count("|") for line in lines} == {len(headings()) + 1}


def test_terminal_table_has_a_row_for_each_model():
    table = rich_table({"baseline": ROW, "tiny": ROW})
    assert (table.row_count, len(table.columns)) == (2, len(headings()))
