"""The progress board: how far the learner has come in the whole course."""

import os
from html import escape
from pathlib import Path

import ipywidgets as widgets

from edgelab.course import progress
from edgelab.data import adopted
from edgelab.explore.html import in_widget
from edgelab.explore.plots import GREEN
from edgelab.i18n import _


class LabMap:
    """The labs of the course in a row, each a link with the learner's points; one of them is marked as here."""

    def __init__(self, here: str):
        chips = []
        for row in progress.board():
            mark = "✓ " if row.possible and row.points == row.possible else ""
            words = f"{row.title}. " + _("Points: %(points)d of %(possible)d") % {
                "points": row.points,
                "possible": row.possible,
            }
            text = f"{mark}{row.lab[:2]} · {row.points}/{row.possible}"
            frame = "border: 2px solid currentColor" if row.lab == here else "border: 1px solid #8888"
            style = f"display: inline-block; padding: 0.1em 0.6em; margin: 0.2em; border-radius: 1em; {frame}"
            inner = f"<b>{text}</b>" if row.lab == here else f'<a href="{escape(row.lab)}.ipynb">{text}</a>'
            current = ' aria-current="page"' if row.lab == here else ""
            chips.append(f'<span style="{style}" title="{escape(words)}"{current}>{inner}</span>')
        note = own_images(os.environ.get("EDGELAB_DATASET", ""))
        paragraph = f'<p style="border-left: 3px solid; padding-left: 0.6em">{escape(note)}</p>' if note else ""
        self._html = "<div>" + " → ".join(chips) + "</div>" + paragraph

    def _repr_html_(self) -> str:
        return self._html


def own_images(dataset: str) -> str:
    """Return what the labs' texts have to say of a data set of the learner's; nothing of one that they were made on."""
    known = adopted.about(Path(dataset).expanduser()) if dataset else None
    if dataset == "cifar10":
        facts = {"name": dataset, "n": 10, "px": 32, "kind": adopted.kind(3)}
    elif known is not None:
        name = Path(dataset).expanduser().resolve().name
        facts = {"name": name, "n": len(known.classes), "px": known.pixels, "kind": adopted.kind(known.channels)}
    else:
        return ""
    text = _(
        "You work on %(name)s: %(n)d classes, %(px)d×%(px)d, %(kind)s. Where the text speaks of road signs or of "
        "clothes, it says what those gave, and each result that it states was checked on them. On your images your own "
        "cells decide."
    )
    return text % facts


def lab_map(here: str) -> LabMap:
    """Return where the lab `here` stands in the course: every lab a link, with the points got in it."""
    return LabMap(here)


def progress_board() -> widgets.HTML:
    """Return the labs of the course with the points the learner has got in each, as a table with bars."""
    rows = []
    for row in progress.board():
        share = row.points / row.possible if row.possible else 0
        bar = (
            '<div style="width: 8em; border: 1px solid currentColor; border-radius: 3px">'
            f'<div style="width: {share:.0%}; height: 0.7em; background: {GREEN}"></div></div>'
        )
        done = _("Points: %(points)d of %(possible)d") % {"points": row.points, "possible": row.possible}
        rows.append(
            f'<tr><td style="text-align: left">{escape(row.lab[:2])} · {escape(row.title)}</td>'
            f'<td>{bar}</td><td style="white-space: nowrap">{escape(done)}</td></tr>'
        )
    return widgets.HTML(in_widget(f"<table>{''.join(rows)}</table>"))
