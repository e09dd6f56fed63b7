"""The page that `edgelab lab` opens names every lab, its minutes and points, and never replaces a learner's file."""

import re
from pathlib import Path

import pytest

from edgelab.course import launch, progress, start_page


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    launch.copy_labs(tmp_path)
    return tmp_path


@pytest.mark.parametrize("lang", ["en", "es"])
def test_every_lab_is_a_link_with_its_minutes_and_points(mine: Path, lang: str):
    path = mine / start_page.write(mine, lang)
    rows = re.findall(
        r"(?m)^\|.*\| (\d\d) · \[(.+)\]\((\S+\.ipynb)\)(?:<br>.*)? \| (\d+) \| (\d+) / (\d+) \|$",
        path.read_text("utf-8"),
    )
    labs = sorted(path.name for path in launch.shipped_labs().glob("[0-9]*.ipynb"))
    assert [row[2] for row in rows] == labs
    assert all((path.parent / row[2]).is_file() for row in rows)
    assert all(10 <= int(row[3]) <= 120 and row[4:] == ("0", "10") for row in rows)
    questions = {row.lab: row.questions for row in progress.board(mine / ".edgelab", lang)}
    assert [len(questions[lab]) for lab in ("00_start", "01_edge_budget", "02_quantization")] == [3, 0, 3]
    assert all(text in path.read_text("utf-8") for texts in questions.values() for text in texts)
    assert ("¿" in path.read_text("utf-8")) is (lang == "es")


def test_what_a_learner_has_done_is_there_at_the_next_start(mine: Path, monkeypatch):
    start_page.write(mine, "en")
    monkeypatch.chdir(mine)
    for exercise in progress.points("01_edge_budget"):
        progress.record_check("01_edge_budget", exercise, passed=True)
    first = next(iter(progress.points("02_quantization")))
    progress.record_check("02_quantization", first, passed=True)
    page = (mine / start_page.write(mine, "en")).read_text("utf-8")
    assert re.search(r"(?m)^\| ✓ \| 01 .* 10 / 10 \|$", page)
    assert re.search(r"(?m)^\| … \| 02 .* [1-9] / 10 \|$", page)
    assert re.search(r"(?m)^\|  \| 00 .* 0 / 10 \|$", page)


def test_a_page_of_the_learners_own_is_left_alone(mine: Path):
    (mine / "index.md").write_text("my own")
    assert start_page.write(mine, "en") == ""
    assert (mine / "index.md").read_text() == "my own"
    assert start_page.write(mine, "es") == "es/index.md"


def test_menus_are_in_the_learners_language_by_default_alone(mine: Path, monkeypatch):
    """JupyterLab reads such defaults below what its user has set."""
    from jupyterlab_server.settings_utils import _get_overrides

    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "elsewhere")
    launch.choose_menus(mine, "es")
    overrides, error = _get_overrides(str(mine))
    assert not error
    assert overrides["@jupyterlab/translation-extension:plugin"]["locale"] == "es_ES"
