"""The whole course's table on one page, light or dark, and as CSV and PNG: what `edgelab table` writes.

The pictures on the page follow the reader's theme; a PNG cannot, so there are two of it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from html import escape
from itertools import product
from pathlib import Path

from edgelab.bars import track
from edgelab.course.folder import STATE, make_folder, write_whole
from edgelab.errors import EdgelabError
from edgelab.explore import plots
from edgelab.explore.table import FILE, datasets_in, draw_front, rows_in, shown_row
from edgelab.html_page import BOTH_THEMES, html_page
from edgelab.i18n import _, language
from edgelab.measure import Row
from edgelab.measure.report import cells, headings

COSTS = ("size", "latency", "energy", "peak")
LABS = "edge-labs"  # where `edgelab lab` puts the labs, unless told otherwise
_STYLE = (
    BOTH_THEMES
    + """
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 32rem), 1fr)); gap: 1.5rem; }
.pictures div { overflow-x: auto; }
.pictures svg { min-width: 28rem; }
@media (min-width: 50rem) { th[scope="row"] { white-space: nowrap; } }
"""
)
_PAPERS = {"": ("#222222", "#ffffff"), "-dark": ("#e6e6e6", "#16191d")}  # ink and paper of a PNG


def write_table(folder: Path, out: Path) -> list[Path]:
    """Write the table of the learner's folder to `out`, and return the files.

    `table-<data set>.html` is the page: every row, and accuracy against size, latency, energy and peak memory, each
    with its front. Beside it lie `.csv`, and a `.png` of each picture, light and dark.

    Raises:
        EdgelabError: there is no table in the folder, or none of its rows has an accuracy; or `out` cannot be written.
    """
    kept = find_table(folder)
    make_folder(out)
    files: dict[str, Callable[[], bytes]] = {}
    for dataset in datasets_in(kept):
        table = rows_in(kept, dataset)
        stem = f"table-{re.sub(r'[^0-9A-Za-z_-]+', '-', dataset).strip('-')}"
        files[f"{stem}.html"] = partial(as_html, dataset, table)
        files[f"{stem}.csv"] = partial(as_csv, table)
        for cost, theme in product(COSTS, _PAPERS):
            files[f"{stem}-{cost}{theme}.png"] = partial(as_png, dataset, table, cost, dark=bool(theme))
    for name, content in track(files.items(), _("drawing"), unit=_("files")):
        write_whole(out / name, content())
    return [out / name for name in files]


def find_table(folder: Path) -> Path:
    """Return the file of the table in a learner's folder, or in one above it; raise `EdgelabError` for none."""
    here = folder.resolve()
    places = [here, here / LABS, *here.parents]
    found = next((place / STATE / FILE for place in places if (place / STATE / FILE).is_file()), None)
    if found is None:
        raise EdgelabError(
            _("%(folder)s holds no table yet: name the folder of your labs, where a lab has added its row.")
            % {"folder": folder}
        )
    return found


def as_html(dataset: str, table: Mapping[str, Row]) -> bytes:
    """Return the table on one data set as a page, complete in one file."""
    title = _("My models on %(dataset)s") % {"dataset": dataset}
    body = [f"<h1>{escape(title)}</h1>"]
    said = _("Each row is a model that I made and measured on this computer. Latencies of two runtimes do not compare.")
    body += [f"<p>{escape(said)}</p>", *_rows(table), '<div class="pictures">']
    for cost in COSTS:
        with plots.figure(height=3.4) as fig:
            body.append(f"<div>{plots.picture(fig, draw_front(fig, table, dataset, cost)).svg}</div>")
    body.append("</div>")
    return html_page(title, body, lang=language(), style=_STYLE).encode()


def _rows(table: Mapping[str, Row]) -> Iterator[str]:
    first, *others = headings()
    head = f'<th scope="col">{escape(first)}</th>' + "".join(
        f'<th scope="col" class="number">{escape(text)}</th>' for text in others
    )
    yield f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>'
    for name, row in table.items():
        shown = "".join(f'<td class="number">{escape(cell)}</td>' for cell in cells(row))
        yield f'<tr><th scope="row">{escape(shown_row(name))}</th>{shown}</tr>'
    yield "</tbody></table></div>"


def as_csv(table: Mapping[str, Row]) -> bytes:
    """Return the rows as CSV in plain numbers, under the names of `Row`'s fields: bytes, ms, joules, [0, 1].

    The last column is half the 95 % interval of the accuracy, where the pictures were counted.
    """
    text = io.StringIO()
    rows = {shown_row(name): {**row.as_dict(), "accuracy_half_width": row.half_width} for name, row in table.items()}
    writer = csv.DictWriter(text, ["model", *next(iter(rows.values()))], lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({"model": name, **row} for name, row in rows.items())
    return text.getvalue().encode("utf-8-sig")  # by that mark spreadsheets take it for UTF-8


def as_png(dataset: str, table: Mapping[str, Row], cost: str, *, dark: bool) -> bytes:
    """Return accuracy against a cost as a PNG, for light paper or dark."""
    ink, paper = _PAPERS["-dark" if dark else ""]
    with plots.figure(height=3.4, ink=ink) as fig:
        draw_front(fig, table, dataset, cost)
        return plots.png(fig, paper)
