"""The course's table on one page: every row, a picture for each cost, and files that other programs open."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from edgelab import measure
from edgelab.cli import app
from edgelab.course.folder import STATE
from edgelab.errors import EdgelabError
from edgelab.explore import plots, table_page
from edgelab.explore.table import draw_front


def row(**fields):
    usual = {"params": 20_152, "macs": 3_200_000, "p95_ms": 0.4, "threads": 1, "peak_bytes": 98_304, "energy_j": 3e-5}
    return measure.Row(**{**usual, "size_bytes": 87_040, "p50_ms": 0.36, "accuracy": 0.917, **fields}).as_dict()


@pytest.fixture(scope="module")
def labs(tmp_path_factory) -> Path:
    """Return a learner's folder with a table on two data sets, one of them in a folder of their own."""
    tmp_path = tmp_path_factory.mktemp("learner")
    (tmp_path / "edge-labs" / STATE).mkdir(parents=True)
    rows: dict[str, dict] = {
        "signs/baseline": row(size_bytes=4_900_000, p50_ms=3.3, energy_j=1.7e-3, accuracy=0.9603, peak_bytes=786_432),
        "signs/int8 PTQ": row(size_bytes=1_260_000, p50_ms=0.9, accuracy=0.9593, runtime="ONNX Runtime"),
        "signs/my own / wide": row(pictures=3_000),
        "/home/ada/leaves/tiny": row(accuracy=0.8),
    }
    del rows["signs/baseline"]["pictures"]  # as rows were kept before pictures were counted
    (tmp_path / "edge-labs" / STATE / "table.json").write_text(json.dumps(rows))
    return tmp_path / "edge-labs"


@pytest.fixture(scope="module")
def written(labs: Path) -> Path:
    """Return the folder of what is written for that table."""
    table_page.write_table(labs, labs.parent / "mine")
    return labs.parent / "mine"


def test_page_csv_and_pictures_of_each_data_set_are_written(labs: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(labs / STATE)
    result = CliRunner().invoke(app, ["table", "--out", str(tmp_path / "mine")])
    assert result.exit_code == 0, result.output
    names = {Path(line).name for line in result.stdout.split("\n") if line}
    assert names == {path.name for path in (tmp_path / "mine").iterdir()}
    stems = ("table-signs", "table-home-ada-leaves")
    costs = ("size", "latency", "energy", "peak")
    pictures = {f"{stem}-{cost}{theme}.png" for stem in stems for cost in costs for theme in ("", "-dark")}
    assert names == pictures | {f"{stem}.{kind}" for stem in stems for kind in ("html", "csv")}


def test_the_page_shows_every_row_and_each_front_in_the_readers_theme(written: Path):
    shown = (written / "table-signs.html").read_text("utf-8")
    assert shown.count("<svg") == 4
    assert shown.count('<th scope="row">') == 3
    assert "my own / wide" in shown
    assert '<td class="number">91.70 ± 0.99, 3\u202f000</td>' in shown
    assert '<td class="number">96.03</td>' in shown  # nobody kept on how many
    assert "On the front: baseline, int8 PTQ, my own / wide" in shown
    assert "color-scheme: light dark" in shown and "currentColor" in shown
    assert re.findall(r'<script|(?:src|href)="(?!#)', shown) == []  # nothing is fetched


def test_the_csv_has_plain_numbers(written: Path):
    text = (written / "table-signs.csv").read_text("utf-8-sig")
    first, _second, last = csv.DictReader(io.StringIO(text))
    assert (first["model"], int(first["size_bytes"]), float(first["accuracy"])) == ("baseline", 4_900_000, 0.9603)
    assert (first["pictures"], last["pictures"]) == ("", "3000")
    assert (first["accuracy_half_width"], round(float(last["accuracy_half_width"]), 4)) == ("", 0.0099)


def test_pictures_are_light_and_dark(written: Path):
    corners = []
    for theme in ("", "-dark"):
        with Image.open(written / f"table-signs-size{theme}.png") as image:
            assert image.width > 800
            corners.append(image.convert("L").getpixel((0, 0)))
            extremes = image.convert("L").getextrema()
        assert extremes[1] - extremes[0] > 150  # ink stands out from paper
    assert corners[0] > 250 and corners[1] < 40


def test_without_a_table_one_sentence_says_where_to_look(tmp_path: Path):
    with pytest.raises(EdgelabError, match="holds no table yet: name the folder of your labs"):
        table_page.find_table(tmp_path)


def test_the_labs_folder_is_found_beside_and_above(labs: Path):
    (labs / "es").mkdir()
    kept = labs / STATE / "table.json"
    assert [table_page.find_table(place) for place in (labs, labs.parent, labs / "es")] == [kept] * 3


@pytest.mark.parametrize(("count", "below"), [(8, 0), (16, 1)])
def test_names_for_which_there_is_no_room_beside_a_picture_stand_below_it(count, below):
    rows = {f"model {place}": measure.Row(**row(size_bytes=80_000 + place)) for place in range(count)}
    with plots.figure(height=3.4) as fig:
        draw_front(fig, rows, "signs", "size")
    assert len(fig.legends) == below
    assert (fig.get_figheight() > 4.5) == bool(below)


@pytest.mark.parametrize("accuracies", [(0.9600,), (0.9600, 0.9603), (1.0, 0.9999)])
def test_a_difference_of_hundredths_does_not_fill_the_picture(accuracies):
    rows = {str(place): measure.Row(**row(accuracy=value)) for place, value in enumerate(accuracies)}
    with plots.figure(height=3.4) as fig:
        draw_front(fig, rows, "signs", "size")
        low, high = fig.axes[0].get_ylim()
    assert 3 <= high - low <= 5
    assert low < 100 * min(accuracies) <= 100 * max(accuracies) < high <= 101
