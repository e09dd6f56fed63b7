"""Pictures that read in light and dark themes, by colour-blind readers, and by screen readers.

A matplotlib figure becomes inline SVG. Its ink (text, axes, ticks) is CSS `currentColor`, the colour of the text around
it, so the picture follows the theme of JupyterLab or VS Code. Data is drawn in the colours of Okabe and Ito ("Color
Universal Design", 2008), and never told apart by colour alone.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from textwrap import wrap
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.axis import XAxis, YAxis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from edgelab.numbers import number

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++")
INK = "#010203"  # stands for currentColor until the SVG is written; no data is drawn in it

_STYLE: dict[RcKeyType, object] = {
    **{"text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK},
    **{"axes.prop_cycle": cycler(color=COLOURS), "axes.spines.top": False, "axes.spines.right": False},
    **{"axes.facecolor": "none", "figure.facecolor": "none", "legend.frameon": False},
    **{"axes.grid": True, "axes.axisbelow": True, "grid.color": INK, "grid.alpha": 0.15},
    **{"axes.titlesize": "medium", "axes.titlelocation": "left", "font.size": 10},
    "axes.titley": 1.0,  # else matplotlib measures every tick lest a title meet one: a tenth of the time
    **{"svg.fonttype": "none", "svg.hashsalt": "edgelab"},
}


class Picture:
    """An SVG picture that a notebook shows inline; `description` says in words what there is to see."""

    def __init__(self, svg: str, description: str):
        self.svg, self.description = svg, description

    def _repr_html_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return self.description


@contextmanager
def figure(width: float = 7.0, height: float = 3.2, *, ink: str = INK) -> Iterator[Figure]:
    """Yield a new figure of `width` by `height` inches in the style of the course; draw it inside the block.

    `ink` is the colour of text and axes, for what cannot follow a theme, such as a PNG.
    """
    with mpl.rc_context({name: ink if value == INK else value for name, value in _STYLE.items()}):
        yield Figure((width, height), layout="constrained")


def logarithmic(axis: XAxis | YAxis, ticks: tuple[float, ...] = ()) -> None:
    """Make an axis logarithmic, with plain numbers at powers of ten, or at `ticks` times each of them.

    Powers set as formulas take 300 ms to draw.
    """
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_formatter(FuncFormatter(lambda value, _position: number(value, ".10g")))
    axis.set_minor_locator(NullLocator())
    if ticks:
        axis.set_major_locator(LogLocator(subs=ticks))


def wrapped(title: str, width: float = 7.0) -> str:
    """Return a title whose lines are as long as a figure of `width` inches is wide at most."""
    return "\n".join(line for part in title.split("\n") for line in wrap(part, int(11 * width)))


def png(fig: Figure, paper: str) -> bytes:
    """Return `fig` as a PNG on a background of the colour `paper`; call it inside the `figure` block."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=150, facecolor=paper, metadata={"Software": None})
    return buffer.getvalue()


def picture(fig: Figure, description: str) -> Picture:
    """Return `fig` as a `Picture`, its titles within its width; call it inside the `figure` block."""
    for ax in fig.axes:
        whole = ax.get_title("left")
        if (title := wrapped(whole, fig.get_figwidth())) != whole:
            ax.set_title(title)
    canvas, buffer = FigureCanvasSVG(fig), io.StringIO()
    fig.set_dpi(72)  # SVG's own; `savefig` would draw all once more, to nowhere, to lay it out: a quarter of its time
    if layout := fig.get_layout_engine():
        layout.execute(fig)
    fig.set_layout_engine("none")
    canvas.print_svg(buffer, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    opening = f'<svg role="img" aria-label="{escape(description)}" style="max-width: 100%; height: auto"'
    return Picture(svg.replace("<svg", opening, 1), description)
