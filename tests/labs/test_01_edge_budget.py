import re

import ipywidgets as widgets
import pytest
import torch

from edgelab import i18n, measure
from edgelab.labs.lab_01_edge_budget import explorers, sources

pytestmark = pytest.mark.usefixtures("learners_folder")


@pytest.mark.parametrize("family", explorers.FAMILIES)
@pytest.mark.parametrize("resolution", [48, 96])
def test_costs_at_any_resolution_equal_what_is_counted_there(family, resolution):
    model = explorers.FAMILIES[family](0.25).eval()
    image = torch.zeros(1, 3, resolution, resolution)
    wants = explorers.appetite(family, 0.25, resolution, "fp32", measure.DEVICES[0])
    assert wants.macs == measure.count_macs(model, image)
    assert wants.peak_bytes == measure.peak_activation_bytes(model, image, fused=True)
    assert wants.weight_bytes == 4 * measure.count_params(model)


def test_int8_takes_a_quarter_of_the_bytes():
    device = measure.DEVICES[0]
    fp32, int8 = (explorers.appetite("ResNet", 0.5, 32, precision, device) for precision in ("fp32", "int8"))
    assert (int8.weight_bytes * 4, int8.peak_bytes * 4) == (fp32.weight_bytes, fp32.peak_bytes)
    assert int8.latency_ms < fp32.latency_ms


def test_the_budget_plot_says_which_limits_break():
    microcontroller, phone = measure.DEVICES[0], measure.DEVICES[-1]
    small = explorers.budget_plot(microcontroller, "ResNet", 1.0, 32, "fp32", 33, 5).description
    assert "breaks: flash, RAM, latency" in small
    assert explorers.budget_plot(phone, "ResNet", 1.0, 32, "fp32", 33, 100).description.endswith("fits")


def test_every_control_of_lab_01_draws_again():
    for explorer in (explorers.budget_explorer(), explorers.memory_explorer()):
        times = []
        for control in explorer.children[0].children:
            assert isinstance(control, widgets.SelectionSlider | widgets.Dropdown)
            for _label, value in list(control.options)[:4]:
                before, unchanged = explorer.picture.value, control.value == value
                control.value = value
                assert (explorer.picture.value == before) == unchanged
                times.append(explorer.milliseconds)
        print(f"redraws: median {sorted(times)[len(times) // 2]:.0f} ms, slowest {max(times):.0f} ms")


def test_the_radio_table_asks_the_learners_function():
    asked = []

    def decide(joules, size, per_bit):
        asked.append((joules, size, per_bit))
        return "edge", joules

    html = explorers.radio_table(decide)._repr_html_()
    assert html.count("<b>edge</b>") == len(asked) == 2 * len(explorers.RADIOS) + 2
    arduino = measure.DEVICES[0]
    wants = explorers.appetite("ResNet", 1.0, 32, "fp32", arduino)
    assert asked[0] == (wants.energy_mj / 1000, 3072, measure.LINKS["ble"].joules_per_bit)


def place(joules, sending):
    return "edge" if joules < sending else "cloud"


ANSWERS = {  # what the lab's text says of each device with a radio: float32, int8, int8 as a benchmark achieved
    "Arduino Nano 33 BLE (nRF52840)": ("cloud", "cloud", "cloud"),
    "ESP32-S3-DevKitC-1-N8": ("cloud", "edge", "cloud"),
    "Raspberry Pi Zero 2 W": ("cloud", "cloud", None),
    "Raspberry Pi 4 Model B": ("cloud", "cloud", None),
    "Raspberry Pi 5": ("cloud", "edge", None),
    "Google Pixel 6 (Tensor)": ("edge", "edge", None),
}


@pytest.mark.parametrize("device", measure.DEVICES, ids=lambda device: device.name)
def test_the_sentences_on_edge_and_cloud_hold_on_every_device(device):
    if device.name not in explorers.RADIOS:
        assert device.name not in ANSWERS
        return
    in_float, in_int8, sending = explorers.radio_joules()[device.name]
    achieved = explorers.joules_on(device, "int8", achieved=True)
    told = None if achieved is None else place(achieved, sending)
    assert (place(in_float, sending), place(in_int8, sending), told) == ANSWERS[device.name]


def test_the_budget_and_the_radios_give_a_model_one_energy():
    for device in measure.DEVICES:
        for column, precision in enumerate(("fp32", "int8")):
            wants = explorers.appetite("ResNet", 1.0, 32, precision, device)
            assert explorers.joules_on(device, precision) == pytest.approx(wants.energy_mj / 1000)
            if device.name in explorers.RADIOS:
                assert explorers.radio_joules()[device.name][column] == pytest.approx(wants.energy_mj / 1000)


def test_the_estimate_of_lab_01_is_the_one_of_the_table():
    macs, params = explorers.appetite("ResNet", 1.0, 32, "fp32", measure.DEVICES[0]).macs, 1_229_136
    assert f"{1000 * measure.estimate_energy(macs, 4 * params):.3f}" == "1.695"
    whole_chip = explorers.joules_on(measure.DEVICES[0], "fp32")
    assert f"{1000 * whole_chip:.1f}" == "60.2"
    assert round(whole_chip / measure.estimate_energy(macs, 4 * params)) == 36


def test_weights_come_from_where_they_lie():
    """On the ESP32-S3 that is the external flash: in int8 it, and not the arithmetic, decides."""
    esp32 = next(device for device in measure.DEVICES if "ESP32" in device.name)
    wants = explorers.appetite("ResNet", 1.0, 32, "int8", esp32)
    assert wants.latency_ms == pytest.approx(1000 * wants.weight_bytes / 40e6)
    assert wants.latency_ms > 1000 * wants.macs / esp32.macs_per_s["int8"]


def broken(device, width, resolution, precision):
    wants = explorers.appetite("ResNet", width, resolution, precision, device)
    return [place for place, (_n, want, limit, _u) in enumerate(explorers.limits(wants, device, 33, 5)) if want > limit]


def test_the_answers_below_the_budget_explorer_hold():
    arduino, esp32 = measure.DEVICES[0], measure.DEVICES[2]
    assert broken(arduino, 1.0, 32, "fp32") == [0, 1, 2, 3]
    wants = explorers.appetite("ResNet", 1.0, 32, "fp32", arduino)
    shares = [want / limit for _name, want, limit, _unit in explorers.limits(wants, arduino, 33, 5)]
    assert max(shares) == shares[2] > 100
    assert [broken(esp32, width, 32, "fp32") for width in (1.0, 0.5, 0.25)] == [[1, 2, 3], [2, 3], [3]]
    assert f"{explorers.appetite('ResNet', 0.25, 32, 'fp32', esp32).energy_mj:.1f}" == "7.9"
    assert [broken(esp32, width, 32, "int8") for width in (1.0, 0.5)] == [[3], []]
    small, large = (explorers.appetite("ResNet", 1.0, size, "fp32", esp32) for size in (32, 64))
    assert small.weight_bytes == large.weight_bytes
    assert large.latency_ms == pytest.approx(4 * small.latency_ms, rel=0.01)
    assert large.peak_bytes == 4 * small.peak_bytes


def test_the_verdict_table_has_a_row_for_every_device():
    html = explorers.verdict_table(33, 5)._repr_html_()
    assert html.count('scope="row"') == len(measure.DEVICES)
    assert "✗" in html
    assert "✓" in html


def test_the_device_table_shows_the_source_of_every_figure():
    assert explorers.device_table()._repr_html_().count('<span title="') == 6 * len(measure.DEVICES)


def spanish_sources(monkeypatch):
    """Return what tooltips and the table of devices say in Spanish, without addresses and titles in quotes."""
    monkeypatch.setenv("EDGELAB_LANG", "es")
    i18n.forget()
    fields = ("flash_bytes", "ram_bytes", "memory_bandwidth", "macs_per_cycle", "power_w")
    texts = [text for device in measure.DEVICES for text in (device.cpu, *(device.sources[name] for name in fields))]
    shown = [sources.in_words(text) for text in (*texts, *(link.source for link in measure.LINKS.values()))]
    i18n.forget()
    return texts, [re.sub(r"https?://\S+|'\w+(?:'s)? [^']*'", "", text) for text in shown]


def test_sources_are_in_spanish_but_for_titles_and_addresses(monkeypatch):
    _english, spanish = spanish_sources(monkeypatch)
    words = re.compile(r"\b(the|an|of|and|at|for|with|in|cycles?|measured|estimate|products|loads?|sent|per) \b")
    assert [text for text in spanish if words.search(text)] == []


def test_every_part_of_a_source_that_has_a_translation_is_there_to_translate():
    texts = [text for device in measure.DEVICES for text in (device.cpu, *device.sources.values())]
    texts += [link.source for link in measure.LINKS.values()]
    assert [part for part in sources.PARTS if not any(part in text for text in texts)] == []
