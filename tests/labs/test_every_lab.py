"""Every lab, in every language: its solutions run and print what the text says; its stubs stop where they should."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from edgelab.course import build
from edgelab.course.source import read_source

LABS = Path(__file__).parents[2] / "labs"
SOURCES = sorted((LABS / "source").glob("[0-9]*.py"))
LANGUAGES = ("en", *build.TRANSLATIONS)

every_lab = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
every_language = pytest.mark.parametrize("lang", LANGUAGES)
# The code of a translated lab is the original's: where only the code matters, the translations are a long check.
translations_when_asked = pytest.mark.parametrize(
    "lang", ["en", *(pytest.param(lang, marks=pytest.mark.long) for lang in build.TRANSLATIONS)]
)


def run_with_nbval(notebook, folder, **environment):
    """Run a notebook under nbval in a folder of its own; return the finished process."""
    (folder / ".edgelab").mkdir()
    path = folder / "lab.ipynb"
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    command += ["--rootdir", str(folder), "--nbval-kernel-name", "python3", "--nbval-cell-timeout", "300", str(path)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env={**os.environ, **environment})


@every_lab
@every_language
def test_the_solutions_run_and_print_what_the_source_promises(source, lang, tmp_path):
    notebook = build.reference(source, lang)
    assert any("nbval-check-output" in cell.metadata.get("tags", ()) for cell in notebook.cells)
    result = run_with_nbval(notebook, tmp_path, EDGELAB_DATASET="signs")
    assert result.returncode == 0, result.stdout
    assert f"{sum(cell.cell_type == 'code' for cell in notebook.cells)} passed" in result.stdout


@every_lab
@translations_when_asked
def test_the_solutions_run_on_real_photographs(source, lang, tmp_path, needs_fashion_mnist):
    result = run_with_nbval(build.reference(source, lang, outputs=False), tmp_path, EDGELAB_DATASET="fashion-mnist")
    assert result.returncode == 0, result.stdout


@every_lab
@translations_when_asked
def test_an_untouched_copy_stops_only_at_not_implemented(source, lang, tmp_path):
    path = (LABS if lang == "en" else LABS / lang) / f"{source.stem}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    (tmp_path / ".edgelab").mkdir()
    client = NotebookClient(
        notebook, timeout=120, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}, kernel_name="python3"
    )
    client.execute()
    errors = {
        cell.id: output.ename
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "error"
    }
    assert set(errors.values()) == {"NotImplementedError"}
    checks = {cell.id for cell in read_source(source) if cell.role == "check"}
    assert checks
    assert checks <= errors.keys()


@every_lab
def test_a_lab_gives_ten_points_in_three_to_five_exercises(source):
    checks = [cell for cell in read_source(source) if cell.role in ("check", "hidden")]
    assert sum(cell.points for cell in checks) == 10
    assert 3 <= len({cell.exercise for cell in checks}) <= 5


def test_committed_notebooks_and_translations_are_up_to_date():
    assert build.check(LABS) == []
