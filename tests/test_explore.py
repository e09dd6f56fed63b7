import re

import pytest
import torch

from edgelab import data, explore, measure, models
from edgelab.course import folder, progress
from edgelab.errors import EdgelabError
from edgelab.explore import plots, prediction, table
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.explore.html import HtmlTable

pytestmark = pytest.mark.usefixtures("learners_folder")


@pytest.fixture(autouse=True)
def _no_predictions():
    prediction.forget()


@pytest.fixture
def tiny_dataset():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8, generator=generator)
    split = data.Split(images, torch.arange(20) % 2, torch.arange(20) % 4 // 2)
    return data.Dataset("toy", ("a & b", "c"), split, split, ("day", "night"))


def drawn(text):
    with plots.figure() as fig:
        fig.subplots().set_title(text)
        return plots.picture(fig, text)


def test_a_picture_takes_the_colour_of_the_text_around_it():
    svg = drawn("a < b").svg
    assert "currentColor" in svg
    assert plots.INK not in svg
    assert "#000000" not in svg
    assert 'aria-label="a &lt; b"' in svg


@pytest.mark.parametrize("width", [7.0, 9.0])
def test_a_title_is_within_the_picture(width):
    with plots.figure(width) as fig:
        ax = fig.subplots()
        ax.set(ylabel="a")
        ax.set_title("1 from right to wrong, 2 from wrong to right, 0 from one wrong answer to another; " * 3)
        plots.picture(fig, "")
        box = ax.get_tightbbox()
        assert box.x1 <= fig.bbox.x1


def test_the_same_picture_is_the_same_bytes():
    assert drawn("x").svg == drawn("x").svg


def test_an_explorer_draws_at_once_and_again_when_a_control_moves():
    explorer = Explorer(lambda n: drawn(f"n is {n}"), {"n": slider("n", (1, 2, 3), 1)})
    assert "n is 1" in explorer.picture.value
    explorer.children[0].children[0].value = 3
    assert "n is 3" in explorer.picture.value
    assert explorer.milliseconds > 0


def test_an_error_at_the_defaults_stops_the_notebook():
    with pytest.raises(ZeroDivisionError):
        Explorer(lambda n: drawn(str(1 / n)), {"n": slider("n", (0, 1), 0)})


def test_a_later_error_stands_in_the_place_of_the_picture():
    explorer = Explorer(lambda n: drawn(str(1 / n)), {"n": slider("n", (0, 1), 1)})
    explorer.children[0].children[0].value = 0
    assert 'role="alert"' in explorer.picture.value
    assert "division by zero" in explorer.picture.value


def test_controls_start_where_they_are_told():
    assert choice("model", {"one": 1, "two": 2}, 2).value == 2
    assert choice("model", ["one", "two"]).value == "one"
    assert slider("width", (0.5, 1.0), 1.0, "x").label == "1.0 x"


def test_a_measurement_stays_hidden_until_the_prediction_is_locked():
    made = explore.predict("00_start", "speed", "takes", unit="ms", low=1, high=100)
    shown = explore.reveal("speed", 12.345, drawn("secret"), "a sentence")
    assert "12.3" not in shown.value
    assert "secret" not in shown.value
    assert "sentence" not in shown.value
    made.lock()
    assert "12.3 ms" in shown.value
    assert "secret" in shown.value
    assert "<p>a sentence</p>" in shown.value
    assert made.value == progress.predictions("00_start")["speed"]


def test_a_locked_prediction_stays_locked_when_the_notebook_is_opened_again():
    explore.predict("00_start", "speed", "takes", low=1, high=100).lock()
    again = explore.predict("00_start", "speed", "takes", low=1, high=100)
    assert again.value == progress.predictions("00_start")["speed"]
    assert again.children[0].children[0].disabled
    assert "5" in explore.reveal("speed", 5).value


def test_what_was_measured_first_waits_for_the_prediction_and_for_its_lock():
    shown = explore.reveal("speed", 12.345)
    assert "Run the cell of the prediction" in shown.value
    explore.predict("00_start", "speed", "takes", unit="ms", low=1, high=100)
    assert "Lock in your prediction" in shown.value
    explore.predict("00_start", "speed", "takes", unit="ms", low=1, high=100).lock()  # the cell was run again
    assert "12.3 ms" in shown.value


@pytest.mark.parametrize(
    ("measured", "words"), [(10, "close"), (1, "10 times too high"), (100, "10 times too low")], ids=str
)
def test_a_prediction_is_compared_with_the_measurement(measured, words):
    made = explore.predict("00_start", "speed", "takes", low=1, high=100)
    made.lock()
    assert made.value == 10
    assert words in explore.reveal("speed", measured).value


def test_words_are_set_from_the_left_and_numbers_from_the_right():
    rows = [["a", "1\u202f024 (3)", "LiteRT", "✗ 6 / 33 ms", "–"], ["b", "−0.5×", "–", "<b>7</b>", ""]]
    shown = HtmlTable(["model", "bytes", "runtime", "limit", "ms"], rows)._repr_html_()
    left = re.findall(r"<t[dh][^>]*text-align: left[^>]*>(.*?)</t[dh]>", shown)
    assert left == ["model", "runtime", "a", "LiteRT", "b", "–"]


def test_a_table_of_many_columns_is_set_smaller_on_a_narrow_page_alone():
    few, many = (HtmlTable(["x"] * count, [["1"] * count])._repr_html_() for count in (6, 7))
    assert "max-width: 70rem" in many
    assert "<style>" not in few


def test_the_progress_board_shows_the_points_of_passed_checks():
    before = explore.progress_board().value
    assert "Points: 0 of 10" in before
    progress.record_check("00_start", "percentile", passed=True)
    assert "Points: 3 of 10" in explore.progress_board().value


def test_the_map_marks_where_one_is_and_links_to_the_others():
    html = explore.lab_map("01_edge_budget")._repr_html_()
    assert html.count('aria-current="page"') == 1
    assert '<a href="00_start.ipynb">' in html
    assert '<a href="01_edge_budget.ipynb">' not in html


def test_a_contact_sheet_names_every_class(tiny_dataset):
    html = explore.contact_sheet(tiny_dataset, per_class=3).svg
    assert html.count("<img") == 2
    assert "a &amp; b" in html


def test_accuracy_bars_agree_with_a_count_by_hand(tiny_dataset):
    always_first = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 2))
    with torch.no_grad():
        always_first[1].weight.zero_()
        always_first[1].bias.copy_(torch.tensor([1.0, 0.0]))
    assert "day 50.0 %; night 50.0 %" in explore.accuracy_bars(always_first, tiny_dataset).description


def test_a_row_is_kept_replaced_and_shown(tiny_dataset):
    model = models.resnet((8, 16, 32), num_classes=2).eval()
    with pytest.raises(EdgelabError, match="no row for toy"):
        table.pareto_plot(tiny_dataset)
    table.add("small", model, tiny_dataset, accuracy=0.5)
    table.add("small", model, tiny_dataset, accuracy=0.75)
    rows = table.rows("toy")
    assert list(rows) == ["small"]
    assert rows["small"].accuracy == 0.75
    assert rows["small"].params == measure.count_params(model)
    assert table.rows("signs") == {}
    assert "75.00" in table.show(tiny_dataset)._repr_html_()
    assert "On the front: small" in table.pareto_plot(tiny_dataset).description
    peak, energy = "peak memory", "energy, estimated"
    assert peak in table.show(tiny_dataset)._repr_html_()
    assert peak not in (early := table.show(tiny_dataset, without=("peak", "energy"))._repr_html_())
    assert energy not in early
    assert early.count("<th") - early.count("<thead") == early.count("<td") + 2


def test_a_row_says_on_how_many_pictures_it_was_counted_all_unless_told_otherwise(tiny_dataset):
    model = models.resnet((8, 16, 32), num_classes=2).eval()
    table.add("on all", model, tiny_dataset, accuracy=0.75)
    table.add("on some", model, tiny_dataset, accuracy=0.6, pictures=10)
    assert {name: row.pictures for name, row in table.rows("toy").items()} == {"on all": 20, "on some": 10}
    shown = table.show(tiny_dataset)._repr_html_()
    assert "75.00 ± 17.84, 20<" in shown
    assert "60.00 ± 25.96, 10<" in shown


def test_a_row_of_before_pictures_were_counted_is_shown_without_them(tiny_dataset):
    old = row(accuracy=0.75).as_dict()
    del old["pictures"]
    with folder.edit(folder.state_dir() / table.FILE) as state:
        state["toy/old"] = old
    assert table.rows("toy")["old"].pictures is None
    assert "<td>75.00</td>" in table.show(tiny_dataset)._repr_html_()
    assert "On the front: old" in table.pareto_plot(tiny_dataset).description


def row(**fields):
    usual = {"params": 1, "macs": 1, "p95_ms": 9.0, "threads": 1, "peak_bytes": 1024, "energy_j": 1e-3}
    return measure.Row(**{**usual, "size_bytes": 4096, "p50_ms": 4.0, "accuracy": 0.9, **fields})


def test_who_is_on_the_front_depends_on_the_cost_and_clocks_are_not_mixed(tiny_dataset, monkeypatch):
    found = {
        "in torch": row(p50_ms=1.0),
        "slow": row(size_bytes=1024, p50_ms=6.0, runtime="ONNX Runtime"),
        "fast": row(size_bytes=1100, p50_ms=1.0, runtime="ONNX Runtime"),
    }
    monkeypatch.setattr(table, "rows", lambda _name: found)
    by_size, by_latency = (table.pareto_plot(tiny_dataset, cost).description for cost in ("size", "latency"))
    assert "On the front: slow. Beaten (hollow): fast, in torch" in by_size
    assert "latency in ONNX Runtime, not in turns (ms). On the front: fast. Beaten (hollow): slow" in by_latency
    assert "in torch" not in by_latency
    explorer = table.pareto(tiny_dataset)
    explorer.children[0].children[0].value = "energy"
    assert "energy" in explorer.picture.value


def test_the_pareto_front_leaves_out_what_another_model_beats():
    points = {"big": (10, 0.9), "small": (1, 0.8), "beaten": (10, 0.85), "twin": (1, 0.8)}
    assert table.pareto_front(points) == {"big", "small", "twin"}
