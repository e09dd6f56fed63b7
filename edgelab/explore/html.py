"""Tables as a notebook shows them, and HTML as a widget does."""

import re

_TAG = re.compile(r"<[^>]*>")
_NUMBER = re.compile(r"[✓✗<>≥≤~+−-]?\s*[\d∞]|[-–—?]?$")  # how a cell of a column of numbers begins, or all of it

# More columns than these fit on half a screen in smaller letters only.
_MANY = 7
_NARROW = (
    "<style>@media (max-width: 70rem) { div > table.edgelab-wide { font-size: 0.75em; } "
    "div > table.edgelab-wide :is(td, th) { padding: 0.3em 0.25em; } }</style>"
)


class HtmlTable:
    """Rows under headings, all of them HTML already; the first cell of a row is its heading.

    Columns of words are set from the left, those of numbers from the right, as a notebook does by itself.
    """

    def __init__(self, heads: list[str], rows: list[list[str]]):
        words = [place == 0 or any(not _is_number(row[place]) for row in rows) for place in range(len(heads))]
        head = "".join(f'<th scope="col"{_side(left)}>{text}</th>' for text, left in zip(heads, words, strict=True))
        body = "".join(
            f'<tr><th scope="row" style="text-align: left">{first}</th>'
            + "".join(f"<td{_side(left)}>{cell}</td>" for cell, left in zip(cells, words[1:], strict=True))
            + "</tr>"
            for first, *cells in rows
        )
        kind, style = (' class="edgelab-wide"', _NARROW) if len(heads) > _MANY else ("", "")
        table = f"{style}<table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        self._html = f'<div style="overflow-x: auto">{table}</div>'  # on a narrow page it scrolls, and nothing is cut

    def _repr_html_(self) -> str:
        return self._html


def in_widget(html: str) -> str:
    """Return `html` for an `ipywidgets.HTML`: there its tables and lines look as they do in the notebook around it.

    By itself such a widget sets every line as high as a button, and a table without any space between its columns.
    """
    return f'<div class="jp-RenderedHTMLCommon" style="line-height: 1.5">{html}</div>'


def _is_number(cell: str) -> bool:
    return _NUMBER.match(_TAG.sub("", cell).strip()) is not None


def _side(left: bool) -> str:
    return ' style="text-align: left"' if left else ""
