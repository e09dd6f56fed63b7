"""From a lab's one source to its notebooks: the learner's, in each language, and the reference with the solutions.

The same source gives the same bytes on every run. Notebooks hold no outputs; the reference holds only those that the
source promises (`# > ` lines), each marked for nbval to compare.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from edgelab.course import address, translate
from edgelab.course.code_words import reworded
from edgelab.course.folder import write_whole
from edgelab.course.source import GRADED, BuildError, Cell, Problem, read_source, solved, stub
from edgelab.errors import EdgelabError
from edgelab.i18n import _, reload_catalogues, translator

TRANSLATIONS = ("es",)
PACKAGE = Path(__file__).parent.parent
_PHRASE = re.compile(r"[^\W\d_]{2,} [^\W\d_]{2,}")  # two words in a row


def build(labs: Path) -> list[Path]:
    """Write the learners' notebooks of a labs folder, and return what changed. What lacks Spanish stays English.

    In a checkout, the package's catalogue and the READMEs' links to where labs open are written as well.

    Raises:
        BuildError: all that is malformed in the sources; nothing is written then.
    """
    changed = []
    if _has_package(labs) and (po := catalogue()).exists():
        mo = po.with_suffix(".mo")
        if not mo.exists() or mo.read_bytes() != translate.compiled(po):
            write_whole(mo, translate.compiled(po))
            changed.append(mo)
            reload_catalogues()  # stubs take their words from it
    written = _learner_notebooks(labs) | (address.pages(labs.parent) if _has_package(labs) else {})
    for path, content in written.items():
        if not path.exists() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
            changed.append(path)
    return changed


def check(labs: Path) -> list[Problem]:
    """Return everything that keeps a labs folder from being finished: what `edgelab build --check` lists.

    Malformed sources, missing, fuzzy or left-over translations, and notebooks that differ from their source.
    """
    problems: list[Problem] = []
    for source in sources(labs):
        try:
            cells = read_source(source)
        except BuildError as error:
            problems += error.problems
            continue
        for lang in TRANSLATIONS:
            problems += translate.translation_problems(po_path(source, lang), translate.cell_messages(source, cells))
    if not problems:
        problems += _stale(labs)
    if _has_package(labs):
        problems += catalogue_problems() + _stale_pages(labs.parent)
    return problems


def catalogue_problems() -> list[Problem]:
    """Return what is missing or stale in the Spanish of the package's own messages."""
    try:
        messages = translate.package_messages(PACKAGE)
    except BuildError as error:
        return error.problems
    po = catalogue()
    problems = translate.translation_problems(po, messages)
    mo = po.with_suffix(".mo")
    if po.exists() and (not mo.exists() or mo.read_bytes() != translate.compiled(po)):
        problems.append(Problem(mo, 1, "differs from its .po file: run `edgelab build`"))
    return problems


def update_translations(labs: Path) -> list[str]:
    """Bring every .po file up to date with what it translates, and return a line on each.

    Raises:
        BuildError: a source is malformed.
    """
    done = []
    for source in sources(labs):
        messages = translate.cell_messages(source, read_source(source))
        done += [translate.update(po_path(source, lang), messages, root=labs.parent) for lang in TRANSLATIONS]
    if _has_package(labs):
        done.append(translate.update(catalogue(), translate.package_messages(PACKAGE), root=PACKAGE.parent))
    return done


def learner(source: Path, lang: str = "en") -> NotebookNode:
    """Return the notebook that learners open: stubs for solutions, no hidden or solution cell, no output.

    Prose, docstrings and comments are in `lang`, where they are translated; the code is the same in every language.

    Raises:
        BuildError: the source is malformed.
    """
    cells = [cell for cell in read_source(source) if cell.role not in ("hidden", "solution")]
    return _notebook(source, lang, [(cell, stub(cell.source, cell.number, lang)) for cell in cells])


def reference(source: Path, lang: str = "en", *, hidden: bool = False, outputs: bool = True) -> NotebookNode:
    """Return the notebook with the solutions, and with the hidden cells if they are asked for.

    With `outputs`, a cell whose output the source promises holds it, and the tag by which nbval compares it. The source
    promises in English: in another language only numbers and names are the same, and no phrase.

    Raises:
        BuildError: the source is malformed.
    """
    cells = [cell for cell in read_source(source) if hidden or cell.role != "hidden"]
    notebook = _notebook(source, lang, [(cell, solved(cell.source)) for cell in cells])
    for node, cell in zip(notebook.cells, cells, strict=True):
        if outputs and cell.printed and (lang == "en" or not _PHRASE.search(cell.printed)):
            node.outputs = [new_output("stream", name="stdout", text=cell.printed)]
            node.execution_count = 1  # nbval fails a stored output that was never executed
            node.metadata.tags = ["nbval-check-output"]
    return notebook


def write_references(labs: Path, target: Path) -> list[Path]:
    """Write each lab's reference notebook, with its promised outputs, under `target`, laid out as the labs are.

    Raises:
        BuildError: a source is malformed.
    """
    written = []
    for source in sources(labs):
        for lang, path in _notebook_paths(source, target):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, as_bytes(reference(source, lang)))
            written.append(path)
    return written


def sources(labs: Path) -> list[Path]:
    """Return the sources of a labs folder, in the order of the course.

    Raises:
        EdgelabError: there are none.
    """
    found = sorted((labs / "source").glob("*.py"))
    if not found:
        text = _("%(folder)s holds no lab source (NN_topic.py). Name the folder that has them.")
        raise EdgelabError(text % {"folder": labs / "source"})
    wrong = [path for path in found if not re.fullmatch(r"\d\d_[a-z0-9_]+", path.stem)]
    if wrong:
        raise BuildError([Problem(path, 1, "a source is called NN_topic.py, as 01_edge_budget.py") for path in wrong])
    return found


def po_path(source: Path, lang: str) -> Path:
    """Return where a source's translation lies."""
    return source.parent.parent / "locale" / lang / f"{source.stem}.po"


def catalogue() -> Path:
    """Return the .po file of the package's own messages; its compiled .mo, which run time reads, lies beside it."""
    return PACKAGE / "locale" / "es" / "LC_MESSAGES" / "edgelab.po"


def as_bytes(notebook: NotebookNode) -> bytes:
    """Return a notebook as Jupyter writes it to a file."""
    nbformat.validate(notebook)
    return (nbformat.writes(notebook) + "\n").encode()


def _learner_notebooks(labs: Path) -> dict[Path, bytes]:
    notebooks, problems = {}, []
    for source in sources(labs):
        try:
            for lang, path in _notebook_paths(source, labs):
                notebooks[path] = as_bytes(learner(source, lang))
        except BuildError as error:
            problems += error.problems
    if problems:
        raise BuildError(problems)
    return notebooks


def _notebook_paths(source: Path, target: Path) -> Iterator[tuple[str, Path]]:
    yield "en", target / f"{source.stem}.ipynb"
    for lang in TRANSLATIONS:
        yield lang, target / lang / f"{source.stem}.ipynb"


def _stale(labs: Path) -> list[Problem]:
    expected = _learner_notebooks(labs)
    problems = []
    for path, content in expected.items():
        if not path.exists():
            problems.append(Problem(path, 1, "not built: run `edgelab build`"))
        elif (found := path.read_bytes()) != content:
            text = "differs from its source: run `edgelab build` (and edit the source, never the notebook)"
            problems.append(Problem(path, _first_difference(found, content), text))
    on_disk = {path for folder in (labs, *(labs / lang for lang in TRANSLATIONS)) for path in folder.glob("*.ipynb")}
    problems += [Problem(path, 1, "has no source: remove it") for path in sorted(on_disk - expected.keys())]
    return problems


def _stale_pages(root: Path) -> list[Problem]:
    text = "a link leads elsewhere than to pyproject.toml's Repository: run `edgelab build`"
    pages = {path: (path.read_bytes(), content) for path, content in address.pages(root).items()}
    return [Problem(path, _first_difference(*pair), text) for path, pair in pages.items() if pair[0] != pair[1]]


def _first_difference(found: bytes, content: bytes) -> int:
    """Return the number of the first line that differs."""
    pairs = zip(found.split(b"\n"), content.split(b"\n"), strict=False)
    same = next((number for number, (mine, theirs) in enumerate(pairs, start=1) if mine != theirs), None)
    return same or min(found.count(b"\n"), content.count(b"\n")) + 1


def _notebook(source: Path, lang: str, cells: list[tuple[Cell, str]]) -> NotebookNode:
    translated = {} if lang == "en" else translate.translations(po_path(source, lang))
    translated[address.COMMENT] = translator(lang)(address.COMMENT)
    nodes = []
    for cell, text in cells:
        if cell.kind == "markdown":
            nodes.append(new_markdown_cell(translated.get(text, text), id=cell.id, metadata=_metadata(cell)))
        else:
            nodes.append(new_code_cell(reworded(text, translated), id=cell.id, metadata=_metadata(cell)))
    return new_notebook(
        cells=nodes,
        metadata={
            "edgelab": {"lab": source.stem, "lang": lang},
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
    )


def _metadata(cell: Cell) -> dict:
    """Return what a grader and the progress board need to know of a cell: name, role, exercise and points."""
    if cell.id == address.FIRST_CELL:
        return {"jupyter": {"source_hidden": True}}  # a lab begins with its title; a click shows the code
    if not cell.name:
        return {}
    mark: dict = {"name": cell.name}
    if cell.role:
        mark["role"] = cell.role
    if cell.role in GRADED:
        mark |= {"exercise": cell.exercise, "points": cell.points}
    kept = {"deletable": False} if cell.role in ("exercise", "check") else {}
    return {"edgelab": mark, **kept}


def _has_package(labs: Path) -> bool:
    """Return whether this labs folder lies beside the running package: a checkout, not a course of one's own."""
    return (labs.parent / "edgelab").resolve() == PACKAGE.resolve()
