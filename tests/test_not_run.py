"""After a restart a cell that is run alone says in one sentence what to run first; other missing names stay errors."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from edgelab.course import not_run, progress
from edgelab.course.folder import shipped_labs


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / ".edgelab").mkdir()
    monkeypatch.chdir(tmp_path)


def run_alone(*names: str, lang: str = "en", extra: str = "") -> dict[str, str]:
    """Run these cells of lab 01 in a new kernel, then code of one's own; return the last line that each shows."""
    lab = nbformat.read(shipped_labs() / ("" if lang == "en" else lang) / "01_edge_budget.ipynb", as_version=4)
    cells = {cell.id: cell for cell in lab.cells}
    notebook = new_notebook(cells=[*(cells[name] for name in names), new_code_cell(extra, id="extra")])
    NotebookClient(notebook, timeout=120, allow_errors=True, kernel_name="python3").execute()
    shown = {}
    for cell in notebook.cells:
        lines = ["\n".join(out["traceback"]) if "ename" in out else out.get("text", "") for out in cell.outputs]
        shown[cell.id] = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(lines)).strip()
    return {name: said for name, said in shown.items() if said}


RIGHT = "def weight_bytes(params, bits):\n    return -(-params * bits // 8)"
MATH = "def weight_bytes(params, bits):\n    return math.ceil(params * bits / 8)"


def test_a_check_that_is_run_first_says_what_to_run():
    shown = run_alone("weight-bytes-check")
    assert shown == {
        "weight-bytes-check": "`weight_bytes` comes from a cell above, which has not run or stopped before its end. "
        "In the menu: Run, Run All Above Selected Cell."
    }
    assert not (Path(".edgelab") / "progress.json").exists()


def test_an_untouched_exercise_and_its_check_need_no_other_cell(monkeypatch):
    monkeypatch.setenv("EDGELAB_LANG", "es")
    shown = run_alone("weight-bytes", "weight-bytes-check", lang="es")
    assert shown["weight-bytes-check"].startswith("Todavía no: el ejercicio 1 está todavía por escribir.")
    assert "TU CÓDIGO AQUÍ" in shown["weight-bytes-check"]


def test_a_right_answer_needs_no_other_cell_and_one_that_does_is_told_so_and_not_counted():
    check = "from edgelab.labs.lab_01_edge_budget import check\n"
    assert run_alone(extra=f"{check}{MATH}\ncheck.weight_bytes(weight_bytes)")["extra"].startswith(
        "Not yet: `math` comes from a cell above"
    )
    assert not (Path(".edgelab") / "progress.json").exists()
    assert run_alone(extra=f"{check}{RIGHT}\ncheck.weight_bytes(weight_bytes)")["extra"] == (
        "✓ Exercise 1: correct (2 points)."
    )
    assert progress.passed("01_edge_budget") == {"weight-bytes"}


def test_a_name_that_no_cell_gives_is_an_error_as_python_shows_it():
    shown = run_alone(extra="from edgelab.labs.lab_01_edge_budget import check\nweihgt_bytes(3)")["extra"]
    assert "NameError" in shown
    assert "weihgt_bytes(3)" in shown
    assert "comes from a cell above" not in shown


def test_only_missing_names_of_loaded_labs_have_a_sentence(monkeypatch):
    monkeypatch.setattr(not_run, "_labs", lambda: ["01_edge_budget", "99_nowhere"])
    assert not_run.sentence(NameError("x", name="baseline"))
    assert not not_run.sentence(NameError("x", name="calibrate"))
    assert not not_run.sentence(ValueError("baseline"))
