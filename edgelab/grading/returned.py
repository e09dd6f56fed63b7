"""A returned notebook as it came: any version of the format, however it was saved, edited or broken.

Of a cell only its id, the exercise that it says it is, and its source are of interest; of a check also whether it says
✓. nbformat would refuse much of what can still be read, so this module reads the JSON itself and believes nothing about
its shape.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from edgelab.i18n import LANGUAGES

MAX_BYTES = 16 * 2**20
MAX_NAME = 255  # characters of a file's name, as in most file systems


class Unreadable(Exception):
    """There is no notebook that can be read: the text says why."""


@dataclass(frozen=True)
class ReturnedCell:
    """A cell, of code or of text: `id` and `name` are empty where it has none; `ticked` where its output says ✓."""

    id: str
    name: str
    source: str
    is_code: bool = True
    ticked: bool = False


@dataclass(frozen=True)
class Returned:
    """A notebook that came back: its cells in order, which lab it says it is, its language, its digest."""

    cells: tuple[ReturnedCell, ...]
    lab: str
    lang: str
    sha256: str


def parse(content: bytes) -> Returned:
    """Return what the file holds.

    Raises:
        Unreadable: it is too large, not JSON, or not a notebook.
    """
    if len(content) > MAX_BYTES:
        raise Unreadable(f"larger than {MAX_BYTES // 2**20} MB")
    try:
        notebook = json.loads(content)  # in UTF-16 as well, as some editors save it
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON ({type(error).__name__})") from error
    if not isinstance(notebook, dict):
        raise Unreadable("not a notebook")
    cells = _cells(notebook)
    mark = _dict(_dict(notebook.get("metadata")).get("edgelab"))
    lang = mark.get("lang")
    return Returned(
        cells=tuple(_cell(cell) for cell in cells if isinstance(cell, dict)),
        lab=_text(mark.get("lab")),
        lang=lang if lang in LANGUAGES else "en",
        sha256=hashlib.sha256(content).hexdigest(),
    )


def lab_of(name: str) -> str:
    """Return the lab that a file's name tells, or nothing: learning platforms add to names at both ends.

    >>> lab_of("lovelaceada_12_34_01_edge_budget-2.ipynb"), lab_of("01_edge_budget (1).ipynb"), lab_of("notes.ipynb")
    ('01_edge_budget', '01_edge_budget', '')
    """
    name = name[-MAX_NAME:]  # the expression tries every beginning with every end
    found = re.fullmatch(r"(?:.*[^0-9])?(\d\d_[a-z0-9_]*[a-z0-9])(?:[-. (].*)?\.ipynb", name, re.IGNORECASE)
    return found[1].lower() if found else ""


def _cells(notebook: dict) -> list:
    """Return the cells; before version 4 they lie in worksheets."""
    cells = notebook.get("cells")
    if cells is None and isinstance(sheets := notebook.get("worksheets"), list):
        cells = [cell for sheet in sheets for cell in _list(_dict(sheet).get("cells"))]
    if not isinstance(cells, list):
        raise Unreadable("not a notebook: it has no cells")
    return cells


def _cell(cell: dict) -> ReturnedCell:
    mark = _dict(_dict(cell.get("metadata")).get("edgelab"))
    source = cell.get("source", cell.get("input"))  # "input" is version 3's word
    if isinstance(source, list):
        source = "".join(filter(lambda line: isinstance(line, str), source))
    is_code = cell.get("cell_type") == "code"
    return ReturnedCell(
        _text(cell.get("id")), _text(mark.get("name")), _text(source), is_code, is_code and _ticked(cell)
    )


def _ticked(cell: dict) -> bool:
    """Return whether a line of what the cell printed begins with ✓."""
    texts = (output.get("text") for output in _list(cell.get("outputs")) if isinstance(output, dict))
    joined = ("".join(map(str, text)) if isinstance(text, list) else str(text or "") for text in texts)
    return any(line.startswith("✓") for text in joined for line in text.splitlines())


def _text(value: Any) -> str:
    """Return a text that can be written as UTF-8: JSON may hold half of a surrogate pair."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _dict(value: Any) -> dict:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list:
    return value if isinstance(value, list) else []
