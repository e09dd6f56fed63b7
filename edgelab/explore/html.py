"""Tables as a notebook shows them."""


class HtmlTable:
    """Rows under headings, all of them HTML already; the first cell of a row is its heading."""

    def __init__(self, heads: list[str], rows: list[list[str]]):
        head = "".join(f'<th scope="col">{text}</th>' for text in heads)
        body = "".join(
            f'<tr><th scope="row" style="text-align: left">{first}</th>'
            + "".join(f"<td>{cell}</td>" for cell in cells)
            + "</tr>"
            for first, *cells in rows
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        self._html = f'<div style="overflow-x: auto">{table}</div>'  # on a narrow page it scrolls, and nothing is cut

    def _repr_html_(self) -> str:
        return self._html
