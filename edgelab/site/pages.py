"""A lab as a page: what learners open, stubs included, with the outputs of a run that had the solutions."""

import re
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_output

from edgelab.course import build
from edgelab.course.address import FIRST_CELL
from edgelab.course.source import BEGIN, END, read_source
from edgelab.i18n import translator
from edgelab.site.execute import Run
from edgelab.site.pictures import picture

WIDGET = "application/vnd.jupyter.widget-view+json"
OWN_PROGRESS = re.compile(r"(lab_map|progress_board)\(")  # of a learner: a page has none


def lab_page(source: Path, lang: str, run: Run) -> NotebookNode:
    """Return the learner's notebook with the outputs of `run`, widgets as pictures, and a note on what a reader sees.

    The cell that installs the course is for who runs a lab, and is left out.

    Raises:
        BuildError: the source is malformed.
    """
    notebook = build.learner(source, lang)
    ids = [cell.id for cell in build.reference(source, lang, outputs=False).cells if cell.cell_type == "code"]
    outputs = dict(zip(ids, run.outputs, strict=False))
    notebook.cells = [cell for cell in notebook.cells if cell.id != FIRST_CELL]
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if OWN_PROGRESS.match(cell.source):
            cell.metadata.tags = ["remove-cell"]
        else:
            shown = [_output(one, run, lang) for one in outputs.get(cell.id, [])]
            cell.outputs = [one for one in shown if one is not None]
    first = notebook.cells[0]
    first.source = re.sub(r"^# ", f"# {source.stem[:2]} · ", first.source)  # its place in the course, in every menu
    notebook.cells.insert(1, new_markdown_cell(_note(run, lang), id="about-this-page"))
    return notebook


def solution_lines(source: Path, lang: str = "en") -> set[str]:
    """Return the lines of a lab's solutions that its learner's notebook does not hold: none may stand in a page.

    Lines of fewer than 12 characters, such as `return x`, say nothing by themselves, and are left out.

    Raises:
        BuildError: the source is malformed.
    """
    found, inside = set(), False
    for cell in read_source(source):
        for line in cell.source.split("\n"):
            if line.strip() in (BEGIN, END):
                inside = line.strip() == BEGIN
            elif inside:
                found.add(line.strip())
    given = "\n".join(cell.source for cell in build.learner(source, lang).cells)
    return {line for line in found if len(line) >= 12 and line not in given}


def _note(run: Run, lang: str) -> str:
    _ = translator(lang)
    if run.failure:
        kind = "warning"
        said = _("When this page was made, this lab did not run without an error: outputs are missing.")
    else:
        kind = "note"
        said = _(
            "You read a lab that is made to be done. Exercises are as you would find them, without an answer; outputs "
            "come from a run with the solutions, on the computer that made this page. Yours will measure other times."
        )
    do = _("To do it yourself: `make lab`, then open `%(notebook)s`.") % {"notebook": f"{run.lab}.ipynb"}
    return f":::{{{kind}}}\n{said} {do}\n:::"


def _output(output: NotebookNode, run: Run, lang: str) -> NotebookNode | None:
    """Return an output as a page can show it; None for a bar, and for an error, which shows code."""
    if output.output_type == "error":
        return None
    if output.output_type == "stream":
        return None if "\r" in output.text else output
    data = output.get("data", {})
    if WIDGET in data:
        shown = picture(data[WIDGET]["model_id"], run.widgets, run.measured, lang)
        return new_output("display_data", {"text/html": _for_page(shown)}) if shown else None
    if "text/html" in data:
        return new_output("display_data", {"text/html": _for_page(data["text/html"])})
    return output


def _for_page(text: str) -> str:
    """Return an output's HTML with links to pages instead of notebooks; what scrolls can be reached by keyboard."""
    text = re.sub(r'(href="[^":]*)\.ipynb"', r'\1.html"', text)
    text = text.replace('<div style="overflow-x: auto">', '<div style="overflow-x: auto" tabindex="0">')
    return f'<div class="edgelab-wide" tabindex="0">{text}</div>' if "<svg" in text else text
