"""Tables for a spreadsheet: quoted as they must be, and no text in them that it would run as a formula."""

import csv
import io
import re
from collections.abc import Iterable, Sequence

_SIGNS = r"[=+\-@\uff1d\uff0b\uff0d\uff20]"  # that begin a formula; the full-width ones count as well
# Where cells may begin for a spreadsheet: at the start, and behind whatever it takes for a separator or a quote.
_FORMULA = re.compile(rf"(?:^|(?<=[;,|\t\r\n\"']))(?=\s*{_SIGNS})|^(?=[\t\r\n])")
_GUARDED = re.compile(rf"(^|[;,|\t\r\n\"'])'(?=\s*{_SIGNS}|[\t\r\n])")


def csv_content(rows: Iterable[Sequence], encoding: str = "utf-8") -> bytes:
    """Return rows as a CSV file; "utf-8-sig" is for people, whose spreadsheets take a file for UTF-8 by that mark."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode(encoding, "replace")  # whoever wrote half a character: nobody's book depends on it


def plain(value: str | None) -> str:
    """Return a cell that a person has typed, or copied from a table with the marks that `csv_content` put there."""
    return _GUARDED.sub(r"\1", (value or "").strip())


def _cell(value: str | float | None) -> str | float:
    """Return a value as it is safe in a spreadsheet: a text that would be run as a formula is marked as text."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value != "-":
        return _FORMULA.sub("'", value)
    return "" if value is None else value
