"""The progress board: how far the learner has come in the whole course."""

from html import escape

import ipywidgets as widgets

from edgelab.course import progress
from edgelab.explore.plots import GREEN
from edgelab.i18n import _


def progress_board() -> widgets.HTML:
    """Return the labs of the course with the points the learner has got in each, as a table with bars."""
    rows = []
    for row in progress.board():
        share = row.points / row.possible if row.possible else 0
        bar = (
            '<div style="width: 12em; border: 1px solid currentColor; border-radius: 3px">'
            f'<div style="width: {share:.0%}; height: 0.7em; background: {GREEN}"></div></div>'
        )
        done = _("%(points)d of %(possible)d points") % {"points": row.points, "possible": row.possible}
        rows.append(
            f'<tr><td style="text-align: left">{escape(row.lab[:2])} · {escape(row.title)}</td>'
            f"<td>{bar}</td><td>{escape(done)}</td></tr>"
        )
    return widgets.HTML(f"<table>{''.join(rows)}</table>")
