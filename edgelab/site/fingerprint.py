"""What an execution depends on, as a short text: while it stays the same, a lab need not be executed again.

Counted are the code of the cells and of the package's modules that they reach, what those say in the notebook's
language, and what is computed from: weights, sign templates, versions. Not counted are prose, comments and docstrings.
"""

import ast
import functools
import hashlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from nbformat import NotebookNode
from packaging.requirements import Requirement

from edgelab.course.address import FIRST_CELL
from edgelab.i18n import translator

PACKAGE = Path(__file__).parent.parent


def fingerprint(notebook: NotebookNode, lang: str) -> str:
    """Return what the outputs of a solved `notebook` in `lang` depend on, as 16 hexadecimal digits."""
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code" and cell.get("id") != FIRST_CELL]
    modules = sorted(reached(cells))
    code = [bare(source) for source in (*cells, *(path.read_text("utf-8") for path in modules))]
    said = translator(lang)
    texts = [said(text) for text in sorted(set().union(*map(_texts, code)))]
    parts = [lang, *code, *texts, _of_files(_beside(modules)), *_versions()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@functools.cache  # labs share most of what they reach
def bare(source: str) -> str:
    r"""Return code without comments, docstrings and layout; what is no plain Python comes back as it is.

    >>> bare('def half(x):\n    "Half of it."\n    return x/2  # a float')
    'def half(x):\n    return x / 2'
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a magic
        return source
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
            and isinstance(node.body[0].value, ast.Constant)
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def reached(cells: list[str]) -> set[Path]:
    """Return the modules of edgelab that the code of `cells` imports, and those that these import, and so on."""
    found: set[Path] = set()
    waiting = [path for cell in cells for path in _imported(cell)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _imported(path.read_text("utf-8"))
    return found


@functools.cache
def _imported(source: str) -> tuple[Path, ...]:
    """Return the files of edgelab that the code imports."""
    names = []
    for node in _nodes(source):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    ours = [tuple(name.split(".")) for name in names if name.split(".")[0] == "edgelab"]
    return tuple(path for name in ours for path in _files(name))


def _nodes(source: str) -> Iterator[ast.AST]:
    """Return every node of the code; none where it is no plain Python, but a magic."""
    try:
        return ast.walk(ast.parse(source))
    except SyntaxError:
        return iter(())


def _files(name: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the files that importing a dotted name runs: the packages above it, and the module if it is one."""
    found = []
    for depth in range(1, len(name) + 1):
        place = PACKAGE.parent.joinpath(*name[:depth])
        found += [path for path in (place / "__init__.py", place.with_suffix(".py")) if path.is_file()]
    return tuple(found)


@functools.cache
def _texts(source: str) -> frozenset[str]:
    """Return every text in the code: among them are those that the catalogue translates."""
    found = (node.value for node in _nodes(source) if isinstance(node, ast.Constant))
    return frozenset(text for text in found if isinstance(text, str) and text)  # "" is what a catalogue calls its head


def _beside(modules: list[Path]) -> list[Path]:
    """Return what is computed from: the records that lie beside modules, the list of weights, the sign templates."""
    records = {path for module in modules for path in module.parent.glob("*.json")}
    templates = PACKAGE.parent / "datasets" / "signs"
    return sorted(records | {PACKAGE / "models" / "checkpoints" / "manifest.json"} | set(templates.glob("*.png")))


def _of_files(paths: list[Path]) -> str:
    return " ".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)


def _versions() -> list[str]:
    """Return the versions of what the package needs to run."""
    needed = [Requirement(line) for line in metadata.requires("edgelab") or []]
    names = sorted(one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""}))
    return [f"{name} {metadata.version(name)}" for name in names]
