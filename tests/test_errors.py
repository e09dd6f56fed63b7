"""A user's mistake ends in a sentence; in a notebook, beside the lines of its own cells that led there."""

import re

import nbformat
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from edgelab.errors import EdgelabError


def test_a_notebook_shows_its_own_lines_and_none_of_the_package(tmp_path):
    code = "from edgelab.data import load\n\ndef mine():\n    return load('no such set')\n\nmine()"
    notebook: nbformat.NotebookNode = new_notebook(cells=[new_code_cell(code)])
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, allow_errors=True, resources=where, kernel_name="python3").execute()
    (error,) = [output for output in notebook.cells[0].outputs if output.output_type == "error"]
    shown = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))
    assert "----> 6 mine()" in shown
    assert "----> 4     return load('no such set')" in shown
    assert error.traceback[-1].endswith(error.evalue)
    assert "edgelab/" not in shown


def test_outside_a_notebook_there_is_nothing_but_the_sentence():
    assert EdgelabError("Name a folder.")._render_traceback_() == ["EdgelabError: Name a folder."]
