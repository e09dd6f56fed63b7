"""The class's Pareto front: accuracy over size, with the gate as a line."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from edgelab.explore import plots
from edgelab.explore.table import pareto_front
from edgelab.i18n import _
from edgelab.leaderboard.gate import gate
from edgelab.leaderboard.ranks import Line

_MAX_NAME = 24


def front_picture(lines: Sequence[Line]) -> plots.Picture | None:
    """Return accuracy over size for the lines of one data set and division; None without two different points.

    Whoever nobody beats in both is filled and named; a dashed line is the gate, where there is one.
    """
    found = {f"{place}": (line.figures.bytes / 1024, 100 * line.figures.accuracy)
             for place, line in enumerate(lines) if line.figures}  # fmt: skip
    if len(set(found.values())) < 2:
        return None
    front = pareto_front(found)
    least = gate(lines[0].entry.dataset) if lines[0].entry else None
    with plots.figure(height=3.6) as fig, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # of a name in another script; the browser has it
        ax = fig.subplots()
        edge = sorted({found[key] for key in front})
        ax.step(*zip(*edge, strict=True), where="post", color=plots.GREEN, lw=1.5, label=_("Pareto front"))
        others = [found[key] for key in found if key not in front]
        if others:
            ax.plot(*zip(*others, strict=True), "o", mfc="none", mec=plots.BLUE, ms=7, label=_("beaten in both"))
        ax.plot(*zip(*edge, strict=True), "o", color=plots.BLUE, ms=8)
        for point in edge:
            names = sorted({lines[int(key)].learner[:_MAX_NAME] for key in front if found[key] == point})
            ax.annotate(", ".join(names[:2]) + (" …" if names[2:] else ""), point, (6, -12), textcoords="offset points",
                        parse_math=False)  # fmt: skip
        if least is not None:
            ax.axhline(100 * least, color=plots.VERMILION, ls="--", lw=1.2, label=_("gate"))
        plots.logarithmic(ax.xaxis, (1, 2, 5))
        ax.set(xlabel=_("size on disk (KiB)"), ylabel=_("accuracy (%)"))
        ax.margins(0.2)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        named = ", ".join(sorted({lines[int(key)].learner[:_MAX_NAME] for key in front}))
        ax.set_title(plots.wrapped(_("On the front: %(front)s") % {"front": named}), parse_math=False)
        return plots.picture(fig, _("Accuracy over size. On the front: %(front)s") % {"front": named})
