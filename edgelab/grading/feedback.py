"""The page that a learner gets back: their own code and what came out of it, a verdict and a hint for each exercise.

The page has no script, asks for nothing from anywhere, and is made of cells that ran before any hidden one did. The
course's own prose is trusted; what the learner's code put out is not.
"""

import functools
import hashlib
import html
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

from edgelab.course.build import po_path
from edgelab.course.source import Cell
from edgelab.course.translate import translations
from edgelab.grading.mark import Graded, Mark
from edgelab.grading.run import CellRun
from edgelab.grading.sandbox import PACKAGE
from edgelab.html_page import BOTH_THEMES, html_page
from edgelab.i18n import translator

MAX_TEXT = 20_000
MAX_PICTURE = 2_000_000
MAX_PAGE = 8_000_000  # characters of code and outputs, shared among the exercises
MAX_CELLS = 50  # of one exercise

_STYLE = (
    BOTH_THEMES
    + """
:root { --wrong: #fdf3f4; --right: #f1faf4; --word: #00528c; --text: #a3410a; --name: #6b2fa0; --digits: #1b6e6e; }
@media (prefers-color-scheme: dark) {
  :root { --wrong: #3b1f23; --right: #17301f; --word: #7cc0f5; --text: #f0a878; --name: #c9a2f0; --digits: #6fc7c0; }
}
body { max-width: 50rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
h3 { font-size: 1.05rem; } h2 { border-top: 1px solid var(--line); padding-top: 1rem; }
pre { background: var(--band); padding: .6rem .8rem; overflow-x: auto; font-size: .85rem; white-space: pre-wrap; }
img { max-width: 100%; background: #fff; }
.output pre { background: none; border-left: 3px solid var(--line); }
.output { overflow-x: auto; }
.prompt { display: none; }
.verdict { border-left: 4px solid #b00020; padding: .4rem .8rem; background: var(--wrong); }
.verdict.correct { border-color: #1b7f3b; background: var(--right); }
.verdict.hand { border-color: var(--faint); background: var(--band); }
table { width: auto; } td, th { border: 1px solid var(--line); padding: .2rem .6rem; }
.k, .kn, .kc, .ow { color: var(--word); font-weight: 600; }
.c1, .sd { color: var(--faint); } .s1, .s2, .sa { color: var(--text); }
.nf, .nc { color: var(--name); } .mi, .mf { color: var(--digits); }
"""
)


class _Renderer(IPythonRenderer):
    """The course's prose as HTML, its formulas as MathML, which browsers draw without a script."""

    def inline_math(self, body: str) -> str:
        return convert(body.replace(r"\_", "_"))

    def block_math(self, body: str) -> str:
        return convert(body.replace(r"\_", "_"), display="block")


def page(graded: Graded, learner: str, source: Path, cells: Sequence[Cell]) -> str:
    """Return the page as HTML, in the language of the notebook that was handed in."""
    _ = translator(graded.lang)
    prose = {} if graded.lang == "en" else translations(po_path(source, graded.lang))
    title = _first_heading(cells, prose) or source.stem
    points = sum(mark.points for mark in graded.marks.values())
    possible = sum(mark.possible for mark in graded.marks.values())
    body = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{html.escape(learner)}</p>",
        f"<p><strong>{html.escape(_('Points: %(points)d of %(possible)d') % {'points': points, 'possible': possible})}"
        "</strong></p>",
    ]
    for number, (exercise, mark) in enumerate(graded.marks.items(), start=1):
        body += _judged(number, exercise, mark, _)
        body.append(_rendered(exercise, graded, cells, prose, with_cells=mark.verdict != "missing"))
    return html_page(f"{title}: {learner}", body, lang=graded.lang, style=_STYLE, pictures=True)


def plain_page(graded: Graded, learner: str, lab: str) -> str:
    """Return a page with the marks and the learner's code alone: for outputs that cannot be drawn."""
    _ = translator(graded.lang)
    body = [f"<h1>{html.escape(lab)}</h1>", f"<p>{html.escape(learner)}</p>"]
    for number, (exercise, mark) in enumerate(graded.marks.items(), start=1):
        body += _judged(number, exercise, mark, _)
        own = (cell for cell in graded.notebook.cells if cell.metadata.edgelab.exercise == exercise)
        code = (cell.source[:MAX_TEXT] for cell in own if cell.metadata.edgelab.role == "exercise")
        body += [f"<pre>{html.escape(source)}</pre>" for source in graded.left_out.get(exercise, code)]
    return html_page(f"{lab}: {learner}", body, lang=graded.lang, style=_STYLE, pictures=True)


def with_marks_by_hand(content: str, marks: Mapping[str, tuple[float, str]], lang: str) -> str:
    """Return a page with these marks, by exercise as (points, comment), in the places that are kept for them."""
    _ = translator(lang)

    def by_hand(found: re.Match) -> str:
        exercise = html.unescape(found["exercise"])
        text = ""
        if exercise in marks:
            points, comment = marks[exercise]
            words = _("Points given by hand: %(points)s. %(comment)s") % {"points": f"{points:g}", "comment": comment}
            text = f'<p class="verdict hand">{html.escape(words.strip())}</p>'
        return f"{found['begin']}{text}{found['end']}"

    return _BY_HAND.sub(by_hand, content)


# Comments of ours: outputs are sanitised and code is escaped, so that no learner can write one.
_BY_HAND = re.compile(r"(?s)(?P<begin><!-- by hand: (?P<exercise>[^<>]*?) -->).*?(?P<end><!-- end -->)")


def _judged(number: int, exercise: str, mark: Mark, _: Callable[[str], str]) -> list[str]:
    """Return an exercise's heading, what became of it, and the place for a mark by hand, as HTML."""
    heading = _("Exercise %(number)d. Points: %(points)d of %(possible)d")
    words = {"number": number, "points": mark.points, "possible": mark.possible}
    state = "correct" if mark.verdict == "correct" else ""
    where = {
        "text": _("The exercise's cell had become text. Its code counts all the same."),
        "elsewhere": _("Your answer was found in another cell than the exercise's own. It counts all the same."),
    }
    return [
        f"<h2>{html.escape(heading % words)}</h2>",
        f'<p class="verdict {state}">{html.escape(_verdict(mark, _))}</p>',
        f"<p>{html.escape(where[mark.found])}</p>" if mark.found else "",
        f"<!-- by hand: {html.escape(exercise)} --><!-- end -->",
    ]


def file_name(learner: str, user: str) -> str:
    """Return a folder's name for a learner, whatever they are called: readable, valid everywhere, no two alike.

    A name that is plain stays as it is; any other gets a digest at its end, and no plain name ends so.

    >>> file_name("ada", ""), file_name("o'brien", "")
    ('ada', 'o_brien-207c7938')
    """
    plain = re.fullmatch(r"[a-z0-9](?:[a-z0-9_ .-]{0,78}[a-z0-9_-])?", learner) and ".." not in learner
    if plain and not user and not re.search(r"-[0-9a-f]{8}$", learner):
        return learner
    safe = re.sub(r"[^\w@=(), .-]", "_", f"{learner} {user}".strip()).replace("..", "__").strip(". ")[:80]
    return f"{safe}-{hashlib.sha256(repr((learner, user)).encode()).hexdigest()[:8]}"


def _verdict(mark: Mark, _: Callable[[str], str]) -> str:
    """Return in words what became of an exercise, and where to look. Of the hidden inputs it says nothing."""
    if mark.error in ("SyntaxError", "IndentationError", "TabError"):
        return _("Python cannot read your code (%(error)s): it did not run.") % {"error": mark.error}
    if mark.module:
        text = _("The course does not have the package %(name)s, so your code stopped at its import. Do without it.")
        return text % {"name": mark.module}
    if mark.verdict == "error":
        text = _("Your code stopped with an error (%(error)s) when it was run with other inputs, or on its own.")
        return text % {"error": mark.error or _("one of its own")}
    return {
        "correct": _("Correct, with inputs that you have not seen, too."),
        "partly": _(
            "Partly right: with some inputs your code gives what it should, with others it does not. Full points"
            " need all of them."
        ),
        "wrong": _("With other inputs your code does not give what it should. Read again what the exercise asks for."),
        "untouched": _("Nothing was written here."),
        "missing": _(
            "This exercise is not in the notebook that you handed in, neither in its own cell nor in another one:"
            " take a fresh copy of the lab, and put your code there."
        ),
        "crashed": _("Your code brought Python down. The other exercises were graded without it."),
        "memory": _("Your code took more memory than there is. The other exercises were graded without it."),
        "time": _("Your code did not come to an end in time. Does a loop run for ever?"),
        "output": _("Your code printed far more than anyone could read."),
    }[mark.verdict]


def _rendered(
    exercise: str, graded: Graded, cells: Sequence[Cell], prose: Mapping[str, str], *, with_cells: bool
) -> str:
    """Return the exercise's text, the learner's code and what it and the check put out, as HTML."""
    place = next(place for place, cell in enumerate(cells) if cell.role == "exercise" and cell.name == exercise)
    text = cells[place - 1].source if place and cells[place - 1].kind == "markdown" else ""
    nodes = [new_code_cell(part[:MAX_TEXT]) for part in graded.left_out.get(exercise, ())[:MAX_CELLS]]
    left = MAX_PAGE // len(graded.marks)
    runs = {cell.id: cell for cell in graded.cells}
    for cell in graded.notebook.cells if with_cells and not nodes else ():
        if cell.metadata.edgelab.exercise == exercise and cell.metadata.edgelab.role in ("exercise", "check"):
            run = runs.get(cell.id)
            outputs = _outputs(run) if run else []
            left -= len(cell.source[:MAX_TEXT]) + sum(len(str(output)) for output in outputs)
            if left < 0 or len(nodes) == MAX_CELLS:
                nodes.append(new_code_cell("# ..."))
                break
            nodes.append(new_code_cell(cell.source[:MAX_TEXT], outputs=outputs))
    renderer = _Renderer(escape=False, exclude_anchor_links=True)
    return MarkdownWithMath(renderer=renderer).render(_last_section(prose.get(text, text))) + _html(nodes)


def _outputs(run: CellRun) -> list[NotebookNode]:
    """Return the outputs that a page can show without trusting them: text, and pictures as such."""
    kept = []
    for output in run.outputs:
        if output["output_type"] == "stream":
            kept.append({**output, "text": _shown(output["text"])})
        elif output["output_type"] == "error":
            lines = [_shown(line) for line in map(str, output["traceback"])][-40:]
            kept.append({"output_type": "error", "ename": "", "evalue": "", "traceback": lines})
        elif output["output_type"] in ("display_data", "execute_result"):
            kinds = {"text/plain": MAX_TEXT, "image/png": MAX_PICTURE, "image/jpeg": MAX_PICTURE}
            data = {
                kind: _shown(value) if kind == "text/plain" else value
                for kind, value in output["data"].items()
                if isinstance(value, str) and len(value) <= kinds.get(kind, 0)
            }
            kept.append({"output_type": "display_data", "metadata": {}, "data": data})
    return [nbformat.from_dict(output) for output in kept]


def _shown(text: str) -> str:
    """Return the part of a text that is shown, without the names of the folders in which the grader lies."""
    text = text[:MAX_TEXT]
    for folder, name in _FOLDERS:
        text = text.replace(folder, name)
    return text


def _folders() -> list[tuple[str, str]]:
    """Return what stands for the folders of this machine, the innermost first."""
    found = {str(PACKAGE.parent): "", sys.prefix: "python", sys.base_prefix: "python", str(Path.home()): "home"}
    found |= {os.path.realpath(folder): name for folder, name in found.items()}
    ordered = sorted(found.items(), key=lambda item: -len(item[0]))
    return [(folder + os.sep, f"{name}/" if name else "") for folder, name in ordered if len(folder) > 1]


_FOLDERS = _folders()


@functools.cache
def _exporter() -> HTMLExporter:
    return HTMLExporter(template_name="basic", sanitize_html=True, exclude_anchor_links=True)


def _html(cells: list[NotebookNode]) -> str:
    return _exporter().from_notebook_node(new_notebook(cells=cells))[0]


def _first_heading(cells: Sequence[Cell], prose: Mapping[str, str]) -> str:
    texts = (prose.get(cell.source, cell.source) for cell in cells if cell.kind == "markdown")
    lines = (line for text in texts for line in text.split("\n"))
    return next((line.removeprefix("# ").strip() for line in lines if line.startswith("# ")), "")


def _last_section(text: str) -> str:
    """Return the last section of a prose cell: the one about the exercise that follows."""
    return re.split(r"(?m)^(?=#{1,6} )", text)[-1]
