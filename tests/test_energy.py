"""The energy estimate against Horowitz's table, the radio against its sources, the meter against a made-up counter."""

import itertools

import pytest

from edgelab.errors import EdgelabError
from edgelab.measure import LINKS, estimate_energy, measure_energy, radio_energy, radio_seconds
from edgelab.measure.energy import HOROWITZ, MAC_PJ, OPERATION_PJ


@pytest.mark.parametrize(
    ("precision", "picojoules"), [("int8", 0.2 + 0.1), ("int32", 3.1 + 0.1), ("fp16", 1.1 + 0.4), ("fp32", 3.7 + 0.9)]
)
def test_a_mac_is_a_multiplication_and_an_addition_of_the_table(precision, picojoules):
    assert estimate_energy(1e12, precision=precision) == pytest.approx(picojoules)


def test_memory_traffic_is_counted_in_words_of_64_bits():
    assert estimate_energy(0, 8e12) == pytest.approx(1300)
    assert estimate_energy(0, 8e12, memory="cache 8 KiB") == pytest.approx(10)
    assert estimate_energy(5, 16) == pytest.approx(estimate_energy(5) + estimate_energy(0, 16))


def test_float_multiplication_costs_18_times_an_int8_one():
    assert OPERATION_PJ["fp32 mul"] / OPERATION_PJ["int8 mul"] == pytest.approx(18.5)
    assert "ISSCC 2014" in HOROWITZ and "https://doi.org/" in HOROWITZ


@pytest.mark.parametrize("mistake", [{"precision": "int7"}, {"memory": "tape"}], ids=["precision", "memory"])
def test_unknown_name_lists_the_known_ones(mistake):
    with pytest.raises(EdgelabError, match="choose one of") as error:
        estimate_energy(1, **mistake)
    assert ("fp32" if "precision" in mistake else "dram") in str(error.value)


def test_precisions_are_ordered_by_cost():
    assert MAC_PJ["int8"] < MAC_PJ["fp16"] < MAC_PJ["fp32"]


@pytest.mark.parametrize("link", LINKS.values(), ids=list(LINKS))
def test_every_radio_names_its_source(link):
    assert "https://" in link.source
    assert link.bits_per_s > 0 and link.joules_per_bit > 0


def test_radio_energy_is_power_for_the_time_of_sending():
    # Huang et al. 2012: 1288.04 mW + 438.39 mW per Mbit/s, at 6 Mbit/s.
    power = 1.28804 + 0.43839 * 6
    assert radio_energy(1e6, "lte", tail=False) == pytest.approx(power * radio_seconds(1e6, "lte"))
    tail = radio_energy(1e6, "lte") - radio_energy(1e6, "lte", tail=False)
    assert tail == pytest.approx(12.76)
    assert tail == pytest.approx(11.576 * 1.06, rel=0.05), "the wake-up is small beside the tail"
    assert radio_energy(1000, "ble") == pytest.approx(0.0243 * 8000 / 702.8e3)
    with pytest.raises(EdgelabError, match="ble, wifi, lte"):
        radio_energy(1, "pigeon")


@pytest.fixture
def counter(tmp_path):
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    (package / "energy_uj").write_text("900000\n")
    (package / "max_energy_range_uj").write_text("1000000\n")
    (tmp_path / "intel-rapl:0:0").mkdir()  # a part of the package, which must not count twice
    return package / "energy_uj"


def spend(counter, microjoules):
    """Return a run that uses so much energy, on a counter that starts again at a million."""
    return lambda: counter.write_text(str((int(counter.read_text()) + microjoules) % 1_000_000))


def test_measured_joules_are_per_run_and_survive_the_counters_wrap(counter, tmp_path, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("edgelab.measure.energy.time.perf_counter", lambda: next(clock))
    reading = measure_energy(spend(counter, 50_000), seconds=4, idle_seconds=0.001, powercap=tmp_path)
    assert 900_000 + reading.runs * 50_000 > 1_000_000, "the counter has not wrapped"
    assert (reading.joules, reading.reason) == (pytest.approx(0.05), "")


def test_no_counter_gives_none_and_the_reason(tmp_path):
    reading = measure_energy(lambda: None, powercap=tmp_path)
    assert reading.joules is None and "no energy counter" in reading.reason


def test_counter_for_root_only_gives_the_cure(counter, tmp_path, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_text", refuse)
    reading = measure_energy(lambda: None, idle_seconds=0, powercap=tmp_path)
    assert reading.joules is None and "chmod" in reading.reason


def test_counter_that_stands_still_is_no_measurement(counter, tmp_path):
    reading = measure_energy(lambda: None, seconds=0.01, idle_seconds=0.001, powercap=tmp_path)
    assert reading.joules is None and "stands still" in reading.reason
