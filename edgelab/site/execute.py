"""Execute a lab with its solutions, once: what came out is kept until something that it depends on changes."""

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from edgelab.course import build
from edgelab.course.folder import make_folder, write_whole
from edgelab.site.fingerprint import fingerprint

# Long, for a machine with much else to do: a cell, a kernel's start, and what a kernel has to tell after a cell.
CELL_SECONDS, START_SECONDS, LAST_WORD_SECONDS = 3600, 600, 600
# What a reader has no kernel to reveal is asked for when all cells have run.
WAITING = "import json\nfrom edgelab.explore.prediction import waiting\nprint(json.dumps(waiting()))"


@dataclass(frozen=True)
class Run:
    """A lab executed with its solutions; `failure` says which cell failed first, and by what.

    `outputs` are those of each code cell, in order; `widgets` the state of each widget by its id; `measured` what
    waits for a prediction, as HTML by the id of its widget.
    """

    lab: str
    lang: str
    outputs: list[list[NotebookNode]]
    widgets: dict[str, dict]
    measured: dict[str, str]
    failure: str = ""


def kept(source: Path, lang: str, cache: Path) -> Path:
    """Return where the execution of a lab, as it is now, is kept in the folder `cache`, or will be.

    Raises:
        BuildError: the source is malformed.
    """
    notebook = build.reference(source, lang, outputs=False)
    return cache / f"{source.stem}-{lang}-{fingerprint(notebook, lang)}.ipynb"


def run(source: Path, lang: str, cache: Path, *, on_cell: Callable[[int, int], None] | None = None) -> Run:
    """Return the lab executed: from the folder `cache` if nothing has changed, else in a fresh kernel.

    `on_cell` is told how many cells are done, of how many, before each. What failed is not kept.

    Raises:
        BuildError: the source is malformed.
        EdgelabError: `cache` cannot be written.
    """
    path = kept(source, lang, cache)
    if path.exists():
        return _read(nbformat.read(path, as_version=4), source.stem, lang)
    notebook = build.reference(source, lang, outputs=False)
    notebook.cells.append(new_code_cell(WAITING))
    failure = _execute(notebook, lang, on_cell or (lambda done, total: None)) or _first_error(notebook)
    if not failure:
        write_whole(make_folder(cache) / path.name, nbformat.writes(notebook).encode())
    return replace(_read(notebook, source.stem, lang), failure=failure)


def _execute(notebook: NotebookNode, lang: str, on_cell: Callable[[int, int], None]) -> str:
    """Execute the notebook in place, in a folder of its own, past cells that fail; return what cut it short."""
    environment = {**os.environ, "EDGELAB_LANG": lang, "EDGELAB_DATASET": "signs"}
    here = ""

    def started(cell: NotebookNode, cell_index: int) -> None:
        nonlocal here
        here = cell.id
        on_cell(cell_index, len(notebook.cells))

    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            startup_timeout=START_SECONDS,
            iopub_timeout=LAST_WORD_SECONDS,
            allow_errors=True,
            resources={"metadata": {"path": folder}},
            on_cell_start=started,
        )
        try:
            client.execute(env=environment)
        except (RuntimeError, TimeoutError) as error:  # a kernel that died, did not start, or did not come to an end
            return f"cell {here or '-'}: {error}"
    return ""


def _first_error(notebook: NotebookNode) -> str:
    """Return which cell failed first, and by what; nothing where none did."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"cell {cell.id}: {output.ename}: {output.evalue}"
    return ""


def _read(notebook: NotebookNode, lab: str, lang: str) -> Run:
    *outputs, said = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    state = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    measured = "".join(output.text for output in said if output.output_type == "stream")  # nothing, if it failed
    widgets = {id_: dict(one["state"]) for id_, one in state.items()}
    return Run(lab, lang, outputs, widgets, json.loads(measured or "{}"))
