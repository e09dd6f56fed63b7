import ipywidgets as widgets
import pytest
import torch

from edgelab import measure
from edgelab.labs.lab_01_edge_budget import explorers

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
        asked.append((joules, size))
        return "edge", joules

    html = explorers.radio_table({"fp32": 1e-3}, {"tiny": 100}, decide)._repr_html_()
    assert asked == [(1e-3, 100)] * len(measure.LINKS)
    assert html.count("edge") == len(measure.LINKS)


def test_the_verdict_table_has_a_row_for_every_device():
    html = explorers.verdict_table(33, 5)._repr_html_()
    assert html.count('scope="row"') == len(measure.DEVICES)
    assert "✗" in html
    assert "✓" in html


def test_the_device_table_shows_the_source_of_every_figure():
    assert explorers.device_table()._repr_html_().count('<span title="') == 5 * len(measure.DEVICES)
