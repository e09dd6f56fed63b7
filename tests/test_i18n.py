"""The notebook decides the language, wherever it was opened; in the terminal, the locale does."""

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from edgelab import i18n

WATCHED = ("EDGELAB_LANG", "JPY_SESSION_NAME", "LC_ALL", "LC_MESSAGES", "LANG")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Start from an empty folder with nothing set, and leave no language behind."""
    for variable in WATCHED:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    i18n.forget()
    yield
    i18n.forget()


def write_notebook(path: Path, lang: str | None) -> None:
    metadata = {"edgelab": {"lang": lang}} if lang else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": [], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "es_ES.UTF-8"}, "es"),
        ({"LANG": "es_ES.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LC_MESSAGES": "es_MX", "LANG": "en_US"}, "es"),
        ({"EDGELAB_LANG": "es", "LANG": "en_US"}, "es"),
        ({"EDGELAB_LANG": "fr", "LANG": "es_ES"}, "en"),
    ],
    ids=["nothing set", "locale", "LC_ALL first", "LC_MESSAGES next", "EDGELAB_LANG first", "unknown EDGELAB_LANG"],
)
def test_the_terminal_follows_the_environment(monkeypatch, environment: dict, expected: str):
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert i18n.language() == expected


@pytest.mark.parametrize("session", ["{folder}/es/lab.ipynb", "es/lab.ipynb"], ids=["absolute", "relative"])
def test_the_notebook_that_jupyter_names_decides(monkeypatch, tmp_path: Path, session: str):
    write_notebook(tmp_path / "es" / "lab.ipynb", "es")
    write_notebook(tmp_path / "es" / "other.ipynb", "en")
    monkeypatch.chdir(tmp_path / "es")
    monkeypatch.setenv("JPY_SESSION_NAME", session.format(folder=tmp_path))
    assert i18n.language() == "es"


def test_the_language_is_kept_until_forgotten(monkeypatch):
    assert i18n.language() == "en"
    monkeypatch.setenv("EDGELAB_LANG", "es")
    assert i18n.language() == "en"
    i18n.forget()
    assert i18n.language() == "es"


def run_in_kernel(folder: Path, before: str = "") -> str:
    """Run a notebook in a kernel whose working directory is `folder`, and return the language it found."""
    code = f"{before}\nfrom edgelab.i18n import language\nprint(language())"
    notebook = new_notebook(cells=[new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    return notebook.cells[0].outputs[0].text.strip()


def test_a_kernel_without_a_named_notebook_looks_beside_itself(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("LANG", "es_ES.UTF-8")  # not the locale's business: the prose around is English
    write_notebook(tmp_path / "lab.ipynb", "en")
    assert run_in_kernel(tmp_path) == "en"
    write_notebook(tmp_path / "es" / "lab.ipynb", "es")
    write_notebook(tmp_path / "es" / "my own.ipynb", None)
    assert run_in_kernel(tmp_path / "es") == "es"


def test_a_kernel_in_a_mixed_folder_asks_vs_code(tmp_path: Path):
    write_notebook(tmp_path / "a.ipynb", "en")
    write_notebook(tmp_path / "b.ipynb", "es")
    assert run_in_kernel(tmp_path) == "en"
    assert run_in_kernel(tmp_path, f"__vsc_ipynb_file__ = {str(tmp_path / 'b.ipynb')!r}") == "es"


def test_a_damaged_or_foreign_notebook_is_no_obstacle(monkeypatch, tmp_path: Path):
    (tmp_path / "lab.ipynb").write_text("{")
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "lab.ipynb"))
    assert i18n.language() == "en"


def test_messages_come_in_the_chosen_language(monkeypatch):
    assert i18n._("a number") == "a number"
    monkeypatch.setenv("EDGELAB_LANG", "es")
    i18n.forget()
    assert i18n._("a number") == "un número"
    assert i18n._("not in the catalogue") == "not in the catalogue"
    assert i18n.ngettext("one thing", "%d things", 2) == "%d things"


def test_names_that_code_gives_are_translated_where_the_catalogue_has_them(monkeypatch):
    assert [i18n.named(name) for name in ("baseline", "my own model", "")] == ["baseline", "my own model", ""]
    monkeypatch.setenv("EDGELAB_LANG", "es")
    i18n.forget()
    assert [i18n.named(name) for name in ("baseline", "my own model", "")] == [
        "modelo de referencia",
        "my own model",
        "",
    ]


def test_a_page_may_be_in_another_language_than_its_process():
    assert i18n.translator("es")("a number") == "un número"
    assert i18n.translator("en")("a number") == i18n.translator("fr")("a number") == "a number"


def test_run_time_needs_no_translation_tool():
    code = (
        "import sys; from edgelab.i18n import _; from edgelab.course import check; _('a number');"
        "print(sorted({'polib', 'babel', 'nbformat', 'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_notebooks_are_read_as_nbformat_writes_them(monkeypatch, tmp_path: Path):
    notebook = new_notebook(metadata={"edgelab": {"lang": "es"}})
    nbformat.write(notebook, tmp_path / "lab.ipynb")
    monkeypatch.setenv("JPY_SESSION_NAME", "lab.ipynb")
    assert i18n.language() == "es"
