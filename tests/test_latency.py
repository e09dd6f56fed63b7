"""The timer and the comparison: what they promise, on real models and on noise that is known."""

import copy
import gc
import random
import time

import numpy as np
import pytest
import torch
from torch import nn

from edgelab.errors import EdgelabError
from edgelab.measure import Latency, compare_latency, measure_latency, percentile, ratio_interval

pytestmark = pytest.mark.alone


@pytest.mark.parametrize("percent", [0, 5, 50, 95, 100])
@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_percentile_equals_numpys(count, percent):
    samples = [random.Random(count).random() for _ in range(count)]
    assert percentile(samples, percent) == pytest.approx(np.percentile(samples, percent))


def test_summary_of_known_samples():
    latency = Latency(tuple(float(n) for n in range(1, 101)), threads=1)
    assert (latency.p50_ms, latency.mean_ms, latency.min_ms) == (50.5, 50.5, 1.0)
    assert latency.p95_ms == pytest.approx(95.05)
    assert latency.as_dict()["repeats"] == 100


def test_samples_are_milliseconds_and_warm_up_is_not_among_them():
    calls = []

    def run():
        calls.append(None)
        time.sleep(0.2 if len(calls) <= 3 else 0.002)

    latency = measure_latency(run, warmup=3, repeats=10)
    assert len(calls) == 13 and len(latency.samples_ms) == 10
    assert 2 <= latency.p50_ms < 100


def test_time_budget_stops_a_slow_run_after_three_samples():
    calls = []

    def run():
        calls.append(None)
        time.sleep(0.02)

    latency = measure_latency(run, warmup=100, repeats=1000, max_seconds=0.06)
    assert 3 <= len(latency.samples_ms) < 10
    assert len(calls) < 20


@pytest.mark.parametrize("fails", [False, True], ids=["after-success", "after-an-error"])
def test_threads_and_garbage_collector_are_as_before(fails):
    before, seen = torch.get_num_threads(), set()

    def run():
        seen.add((torch.get_num_threads(), gc.isenabled()))
        if fails:
            raise KeyError("broken model")

    if fails:
        with pytest.raises(KeyError):
            measure_latency(run, repeats=2, threads=2)
    else:
        assert measure_latency(run, repeats=2, threads=2).threads == 2
    assert seen == {(2, False)}
    assert (torch.get_num_threads(), gc.isenabled()) == (before, True)


@pytest.mark.parametrize("mistake", [{"repeats": 0}, {"threads": 0}], ids=["no-repeats", "no-threads"])
def test_impossible_measurement_is_one_clear_sentence(mistake):
    with pytest.raises(EdgelabError, match="1 or more"):
        measure_latency(lambda: None, **mistake)


@pytest.mark.parametrize("count", [1, 3])
def test_comparison_of_other_than_two_is_one_clear_sentence(count):
    with pytest.raises(EdgelabError, match="exactly two"):
        compare_latency({str(n): lambda: None for n in range(count)})


def test_comparison_of_too_few_blocks_is_one_clear_sentence():
    with pytest.raises(EdgelabError, match="6 or more"):
        compare_latency({"a": lambda: None, "b": lambda: None}, blocks=5)


def small_resnet():
    class Block(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU())
            self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))

        def forward(self, x):
            return torch.relu(x + self.second(self.first(x)))

    stem = nn.Conv2d(3, 16, 3, stride=2, padding=1)
    return nn.Sequential(stem, Block(16), Block(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)).eval()


def inference(model, *, times=1, size=16):
    image = torch.randn(1, 3, size, size)

    def run():
        with torch.inference_mode():
            for _ in range(times):
                model(image)

    return run


def test_two_copies_of_a_model_are_inconclusive_in_19_of_20_trials():
    verdicts = []
    for seed in range(20):
        torch.manual_seed(seed)
        model = small_resnet()
        twins = {"model": inference(model), "twin": inference(copy.deepcopy(model))}
        verdicts.append(compare_latency(twins, max_seconds=0.5).verdict)
    assert verdicts.count("inconclusive") >= 19, verdicts


def test_a_third_more_work_is_found_in_both_directions():
    model = small_resnet()
    less, more = inference(model, times=3), inference(model, times=4)
    faster, slower = compare_latency({"more": more, "less": less}), compare_latency({"less": less, "more": more})
    assert (faster.verdict, slower.verdict) == ("faster", "slower")
    assert faster.low <= faster.ratio <= faster.high
    assert 1.15 < faster.ratio < 1.6 and 1.15 < 1 / slower.ratio < 1.6
    assert "less is" in str(faster) and "times faster than more" in str(faster)
    assert "times slower than less" in str(slower)


def test_runs_take_turns_in_blocks_whose_order_changes():
    order = []
    comparison = compare_latency(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, blocks=12, max_seconds=60
    )
    turns = "".join(name for place, name in enumerate(order) if place == 0 or order[place - 1] != name)
    assert len(comparison.ratios) == 12 and "abab" in turns and len(turns) >= 24
    assert len(comparison.latencies["a"].samples_ms) == len(comparison.latencies["b"].samples_ms)


def test_drift_that_slows_everything_down_is_not_a_difference():
    start = time.perf_counter()

    def run():
        # Both take ever longer: after a second, ten times as long as at the start.
        end = time.perf_counter() + 0.0002 * (1 + 9 * (time.perf_counter() - start))
        while time.perf_counter() < end:
            pass

    assert compare_latency({"a": run, "b": run}, blocks=12).verdict == "inconclusive"


def test_a_wider_margin_asks_for_more():
    model = small_resnet()
    runs = {"more": inference(model, times=4), "less": inference(model, times=3)}
    assert compare_latency(runs, blocks=12, margin=2.0).verdict == "inconclusive"


def test_interval_holds_the_truth_though_neighbours_resemble_each_other():
    chance, held, trials = np.random.default_rng(0), 0, 60
    for _ in range(trials):
        noise = np.zeros(48)
        for step in range(1, 48):
            noise[step] = 0.5 * noise[step - 1] + chance.normal(0, 0.02)
        _median, low, high = ratio_interval(list(1.3 * np.exp(noise)), draws=300)
        held += low <= 1.3 <= high
    # 95 % of 60 are 57; the block bootstrap is a little narrow on short, autocorrelated series.
    assert held >= 0.8 * trials


def test_interval_narrows_with_more_blocks():
    noise = [1 + 0.1 * random.Random(n).uniform(-1, 1) for n in range(400)]
    widths = [high - low for _median, low, high in (ratio_interval(noise[:count]) for count in (12, 50, 400))]
    assert widths[0] > widths[1] > widths[2]
