"""The device cards: every figure has a source, and the roofline is the larger of its two times."""

from dataclasses import fields

import pytest

from edgelab.errors import EdgelabError
from edgelab.measure import DEVICES, predict_latency

every_device = pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
FIGURES = {"clock_hz", "cores", "macs_per_cycle", "flash_bytes", "ram_bytes", "memory_bandwidth", "power_w"}


def test_devices_reach_from_a_cortex_m4_to_a_phone():
    assert len(DEVICES) >= 6
    assert any("Cortex-M4" in device.cpu for device in DEVICES)
    assert any("Pixel" in device.name for device in DEVICES)
    assert len({device.name for device in DEVICES}) == len(DEVICES)


@every_device
def test_every_figure_has_a_source(device):
    named = {field.name for field in fields(device)} - {"name", "cpu", "sources", "achieved", "published"}
    assert named == FIGURES
    needed = FIGURES | ({"achieved"} if device.achieved else set())
    assert set(device.sources) == needed
    assert all("https://" in source and len(source) > 30 for source in device.sources.values())


def test_one_chip_is_several_times_as_fast_by_newer_software():
    (board,) = (device for device in DEVICES if "L4R5" in device.name)
    old, new = (found for found in board.published if found.model == "ResNet-8")
    assert old.ms / new.ms == pytest.approx(4.25, abs=0.01)
    assert 1.4 < new.ms * 1e-3 * board.clock_hz / 12.5e6 < 2.0  # cycles a MAC
    for result in board.published:
        assert "https://" in result.source
        assert result.joules is not None
        assert 0.01 < result.joules / (result.ms / 1000) < 0.1  # watts of the chip


@every_device
def test_figures_that_are_arithmetic_or_guesses_say_so(device):
    assert "theoretical peak" in device.sources["macs_per_cycle"]
    assert device.sources["memory_bandwidth"].startswith(("theoretical peak", "measured"))


@every_device
def test_figures_are_plausible(device):
    assert 0 < device.power_w < 20
    assert 1e5 < device.ram_bytes < device.flash_bytes
    assert set(device.macs_per_s) == {"fp32", "int8"}
    assert device.macs_per_s["int8"] > device.macs_per_s["fp32"]
    assert device.macs_per_s["fp32"] == device.clock_hz * device.cores * device.macs_per_cycle["fp32"]


@every_device
def test_what_was_achieved_stays_below_the_peak(device):
    assert all(speed < device.macs_per_s[precision] for precision, speed in device.achieved.items())


@every_device
def test_latency_is_the_larger_of_computing_and_fetching(device):
    computing = predict_latency(device, 1e9, 0, "fp32")
    fetching = predict_latency(device, 0, 1e9, "fp32")
    assert computing == pytest.approx(1e12 / device.macs_per_s["fp32"])
    assert fetching == pytest.approx(1e12 / device.memory_bandwidth)
    assert predict_latency(device, 1e9, 1e9, "fp32") == max(computing, fetching)


@every_device
def test_an_achieved_speed_never_predicts_less_than_the_bound(device):
    for precision in ("fp32", "int8"):
        assert predict_latency(device, 1e8, 1e6, precision, achieved=True) >= predict_latency(
            device, 1e8, 1e6, precision
        )


def test_unknown_precision_lists_the_known_ones():
    with pytest.raises(EdgelabError, match="fp32, int8"):
        predict_latency(DEVICES[0], 1, 1, "int3")
