"""The learner's folder: found from wherever a notebook runs, never half-written, nothing lost, nothing erased."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgelab.course import folder, progress
from edgelab.errors import EdgelabError


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_state_lies_in_the_nearest_folder_upwards(here: Path, monkeypatch):
    (here / ".edgelab").mkdir()
    (here / "es" / "deep").mkdir(parents=True)
    monkeypatch.chdir(here / "es" / "deep")
    assert folder.state_dir() == here / ".edgelab"


def test_state_is_created_where_one_works(here: Path):
    assert folder.state_dir() == here / ".edgelab"
    assert (here / ".edgelab").is_dir()


def test_both_languages_share_one_state(here: Path, monkeypatch):
    (here / "es").mkdir()
    monkeypatch.chdir(here / "es")
    assert folder.state_dir() == here / ".edgelab"
    assert not (here / "es" / ".edgelab").exists()


def test_what_a_block_leaves_is_read_again(here: Path):
    with folder.edit(here / "state.json") as state:
        state["números"] = [1, 2]
    assert folder.read(here / "state.json") == {"números": [1, 2]}
    assert folder.read(here / "other.json") == {}
    assert sorted(os.listdir(here)) == ["lock", "state.json"]


def test_a_block_that_raises_writes_nothing(here: Path):
    with folder.edit(here / "state.json") as state:
        state["a"] = 1
    with pytest.raises(ZeroDivisionError), folder.edit(here / "state.json") as state:
        state["a"] = 1 / 0
    assert folder.read(here / "state.json") == {"a": 1}


@pytest.mark.parametrize("content", [b'{"a": ', b"", b"[1]", b"\xff\xfe"], ids=["cut", "empty", "a list", "no text"])
@pytest.mark.parametrize("how", ["read", "edit"])
def test_a_damaged_file_is_set_aside_and_said(here: Path, content: bytes, how: str, capsys):
    path = here / "progress.json"
    (here / "progress.json.damaged-1").write_text("an older one")
    path.write_bytes(content)
    if how == "read":
        assert folder.read(path) == {}
    else:
        with folder.edit(path) as state:
            assert state == {}
    assert (here / "progress.json.damaged-2").read_bytes() == content
    assert (here / "progress.json.damaged-1").read_text() == "an older one"
    said = capsys.readouterr().err
    assert said == (
        f"progress.json was damaged and could not be read. It is kept as {here / 'progress.json.damaged-2'}, "
        "and a new one starts empty.\n"
    )
    assert folder.read(path) == {}


def test_two_processes_that_write_at_once_lose_nothing(here: Path):
    code = (
        "import sys; from edgelab.course.progress import record_check\n"
        "for number in range(40): record_check('lab', sys.argv[1], number == 7)\n"
        "for number in range(40): record_check('lab', f'{sys.argv[1]}-{number}', True)\n"
    )
    names = ["one", "two", "three"]
    running = [subprocess.Popen([sys.executable, "-c", code, name], cwd=here) for name in names]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    checks = folder.read(here / ".edgelab" / "progress.json")["checks"]["lab"]
    assert len(checks) == 3 * 41
    assert [checks[name] for name in names] == [{"attempts": 40, "passed": True}] * 3


def test_a_lock_dies_with_its_process(here: Path):
    code = (
        "import os; from pathlib import Path; from edgelab.course.folder import edit\n"
        "with edit(Path('state.json')) as state: os._exit(1)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=here).returncode == 1
    with folder.edit(here / "state.json") as state:
        state["a"] = 1
    assert folder.read(here / "state.json") == {"a": 1}


def test_a_folder_that_cannot_be_made_is_one_sentence(here: Path):
    (here / "file").write_text("")
    with pytest.raises(EdgelabError, match=r"The folder .*file/sub cannot be written \(Not a directory\)"):
        folder.make_folder(here / "file" / "sub")


def test_a_full_disk_leaves_the_old_file(here: Path, monkeypatch):
    folder.write_whole(here / "a", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EdgelabError, match="No space left on device"):
        folder.write_whole(here / "a", b"new")
    assert (here / "a").read_bytes() == b"old"
    assert os.listdir(here) == ["a"]


def shipped(here: Path, monkeypatch) -> None:
    """Ship two tiny labs, the first in two languages."""
    labs = here / "labs"
    for name, title, lang in (("01_a", "First", "en"), ("02_b", "Second", "en"), ("es/01_a", "Primero", "es")):
        (labs / name).parent.mkdir(parents=True, exist_ok=True)
        mark = {"name": "x-check", "role": "check", "exercise": "x", "points": 2}
        cells = [
            {"cell_type": "markdown", "metadata": {}, "source": [f"# {title}\n", "more"]},
            {"cell_type": "code", "metadata": {"edgelab": {"name": "x", "role": "exercise"}}, "source": ["1"]},
            {"cell_type": "code", "metadata": {"edgelab": mark}, "source": ["1"]},
            {"cell_type": "code", "metadata": {"edgelab": {**mark, "exercise": "y", "points": 3}}, "source": ["1"]},
        ]
        metadata = {"edgelab": {"lang": lang}}
        (labs / f"{name}.ipynb").write_text(json.dumps({"cells": cells, "metadata": metadata}))
    monkeypatch.setattr(progress, "shipped_labs", lambda: labs)


def test_the_board_adds_up_what_passed(here: Path, monkeypatch):
    shipped(here, monkeypatch)
    progress.record_check("01_a", "x", False)
    assert [(row.lab, row.title, row.points, row.possible) for row in progress.board()] == [
        ("01_a", "First", 0, 5),
        ("02_b", "Second", 0, 5),
    ]
    progress.record_check("01_a", "x", True)
    progress.record_check("01_a", "x", False)  # once passed stays passed
    assert [row.points for row in progress.board()] == [2, 0]
    assert progress.passed("01_a") == {"x"}


def test_the_board_is_in_the_learners_language(here: Path, monkeypatch):
    shipped(here, monkeypatch)
    monkeypatch.setattr(progress, "language", lambda: "es")
    assert [row.title for row in progress.board()] == ["Primero", "Second"]


def test_the_first_prediction_stays(here: Path):
    assert progress.record_prediction("01_a", "speedup", 3.0) == 3.0
    assert progress.record_prediction("01_a", "speedup", 1.0) == 3.0
    assert progress.predictions("01_a") == {"speedup": 3.0}
    assert progress.predictions("02_b") == {}
