"""The graph of a file, drawn: as it was written, and as ONNX Runtime runs it after its optimisations."""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

import onnx
import torch

from edgelab.deploy import LEVELS, Runner, duel
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.i18n import _
from edgelab.measure.threads import torch_threads

WRITTEN = "written"
_INTEGER = ("QLinear", "QGemm", "ConvInteger", "MatMulInteger")
_LINKS = ("QuantizeLinear", "DequantizeLinear", "Cast")
# Boxes in a row, as many as half a screen has room for; a box, the space behind it, a row, a line of text: in pixels.
_ROW, _WIDE, _HIGH, _GAP, _LINE, _TEXT = 5, 92, 22, 16, 44, 16


@dataclass(frozen=True)
class Node:
    """An operator: its kind, the places of the operators whose results it reads, and how many read constants for it."""

    kind: str
    reads: tuple[int, ...]
    constants: int = 0


def read_graph(path: str | Path, level: str = WRITTEN) -> list[Node]:
    """Return the operators of an `.onnx` file in their order: as written, or as they run at a level of `LEVELS`.

    An operator that turns constants alone into numbers, as DequantizeLinear does with int8 weights, is counted with the
    one that reads them.
    """
    if level == WRITTEN:
        return _nodes(onnx.load(path).graph)
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        Runner.open(path, level=level, save_as=optimised)
        return _nodes(onnx.load(optimised).graph)


def _nodes(graph: onnx.GraphProto) -> list[Node]:
    live = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    of_constants: set[str] = set()
    places: dict[str, int] = {}
    found: list[Node] = []
    for node in graph.node:
        if not any(name in live for name in node.input):
            of_constants.update(node.output)
            continue
        reads = tuple(dict.fromkeys(places[name] for name in node.input if name in places))
        constants = sum(name in of_constants for name in node.input)
        for name in node.output:
            places[name] = len(found)
        live.update(node.output)
        found.append(Node(node.op_type, reads, constants))
    return found


def graph_explorer(files: Mapping[str, str | Path], image: torch.Tensor) -> Explorer:
    """Return a file's graph before and after ONNX Runtime's optimisation: choose the precision and the level.

    `files` has the paths by precision, "fp32" and "int8".
    """
    graphs = {
        (precision, level): read_graph(path, level) for precision, path in files.items() for level in (WRITTEN, *LEVELS)
    }
    runs = {
        (precision, level): Runner.open(path, level=level).once(image)
        for precision, path in files.items()
        for level in LEVELS
    }
    with torch_threads(1):
        times = duel.fastest(runs, seconds=0.2)
    controls = {
        "precision": choice(_("numbers"), {"int8": "int8", "float32": "fp32"}),
        "level": slider(_("optimisation"), tuple(LEVELS), "all"),
    }
    return Explorer(partial(graph_plot, graphs, times), controls)


def graph_plot(
    graphs: Mapping[tuple[str, str], Sequence[Node]], times: Mapping[tuple[str, str], float], precision: str, level: str
) -> plots.Picture:
    """Return the graph as written above the graph as it runs at `level`; the title has operators and times of both."""
    before, after = graphs[precision, WRITTEN], graphs[precision, level]
    text = _("%(before)d operators as written, %(after)d as they run; %(ms).3f ms, without optimisation %(slow).3f ms")
    numbers = {"before": _count(before), "after": _count(after)}
    title = text % {**numbers, "ms": times[precision, level], "slow": times[precision, "none"]}
    lines = plots.wrapped(title).split("\n")
    top = _TEXT * len(lines)
    upper, height = _drawn(before, top + 42)
    lower, whole = _drawn(after, height + 46)
    kinds = "; ".join(f"{count} {kind}" for kind, count in Counter(node.kind for node in after).most_common())
    legend, end = _legend(whole + 18)
    wide = _ROW * (_WIDE + _GAP) + 10
    heads = [(_TEXT * (1 + row), line, "bold") for row, line in enumerate(lines)]
    heads += [(top + 22, _("as written"), "normal"), (height + 26, _("as it runs"), "normal")]
    words = "".join(
        f'<text x="4" y="{y}" font-size="12" font-weight="{weight}" fill="currentColor">{escape(line)}</text>'
        for y, line, weight in heads
    )
    description = f"{title}. {_('It runs: %(kinds)s') % {'kinds': kinds}}"
    svg = (
        f'<svg role="img" aria-label="{escape(description)}" style="max-width: 100%; height: auto" '
        f'width="{wide}" height="{end}" viewBox="0 0 {wide} {end}" xmlns="http://www.w3.org/2000/svg" '
        f'font-family="sans-serif">{words}{upper}{lower}{legend}</svg>'
    )
    return plots.Picture(svg, description)


def _count(nodes: Sequence[Node]) -> int:
    """Return how many operators there are, those of constants included."""
    return sum(1 + node.constants for node in nodes)


def _drawn(nodes: Sequence[Node], top: int) -> tuple[str, int]:
    """Return boxes in rows and the lines between them, as SVG from `top` on, and where they end."""
    spots = [(4 + place % _ROW * (_WIDE + _GAP), top + place // _ROW * _LINE) for place in range(len(nodes))]
    parts = [
        _line(spots[source], spots[place], place - source == 1)
        for place, node in enumerate(nodes)
        for source in node.reads
    ]
    parts += [_box(node, *spot) for node, spot in zip(nodes, spots, strict=True)]
    return "".join(parts), top + ((len(nodes) - 1) // _ROW + 1) * _LINE


def _look(kind: str) -> tuple[str, str]:
    """Return the colour and the outline of a kind of operator: integers, the way in and out of them, and floats."""
    if kind.startswith(_INTEGER):
        return plots.BLUE, ""
    if kind in _LINKS:
        return plots.ORANGE, "4 2"
    return plots.GREEN, "1 2"


def _box(node: Node, x: int, y: int) -> str:
    colour, dashes = _look(node.kind)
    size = 11 if len(node.kind) <= 14 else 9
    tabs = "".join(
        f'<rect x="{x + 4 + 9 * tab}" y="{y + _HIGH}" width="6" height="5" fill="{plots.ORANGE}"/>'
        for tab in range(node.constants)
    )
    return (
        f'<rect x="{x}" y="{y}" width="{_WIDE}" height="{_HIGH}" rx="4" fill="{colour}" fill-opacity="0.25" '
        f'stroke="{colour}" stroke-width="1.5" stroke-dasharray="{dashes}"/>{tabs}'
        f'<text x="{x + _WIDE / 2}" y="{y + 15}" font-size="{size}" text-anchor="middle" fill="currentColor">'
        f"{escape(_short(node.kind))}</text>"
    )


def _short(kind: str) -> str:
    """Return an operator's name as far as a box has room for it."""
    return kind if len(kind) <= 18 else kind[:17] + "…"


def _line(source: tuple[int, int], target: tuple[int, int], following: bool) -> str:
    """Return a line from one box to another: straight to the next one, a bow to others."""
    (x, y), (u, v) = source, target
    style = 'fill="none" stroke="currentColor" stroke-width="1.2"'
    if following and y == v:
        return f'<path d="M{x + _WIDE} {y + _HIGH / 2} H{u}" {style}/>'
    if following:
        middle = y + _HIGH + (_LINE - _HIGH) / 2 + 2
        return f'<path d="M{x + _WIDE / 2} {y + _HIGH} V{middle} H{u + _WIDE / 2} V{v}" {style}/>'
    bow = f"C{x + _WIDE / 2} {y - 22} {u + _WIDE / 2} {v - 22}" if y == v else f"C{x + _WIDE} {y + 34} {u} {v - 30}"
    begin = f"M{x + _WIDE / 2} {y}" if y == v else f"M{x + _WIDE / 2} {y + _HIGH}"
    return f'<path d="{begin} {bow} {u + _WIDE / 2} {v}" {style} stroke-dasharray="5 3"/>'


def _legend(top: int) -> tuple[str, int]:
    """Return what the colours mean, a line for each, as SVG from `top` on, and where it ends."""
    entries = [
        (plots.BLUE, _("integers")),
        (plots.ORANGE, _("into codes and out of them (below a box: of its weights)")),
        (plots.GREEN, _("floats, or either")),
    ]
    parts = [
        f'<rect x="4" y="{y - 9}" width="12" height="10" fill="{colour}" fill-opacity="0.4" stroke="{colour}"/>'
        f'<text x="21" y="{y}" font-size="11" fill="currentColor">{escape(words)}</text>'
        for y, (colour, words) in zip(range(top, top + _TEXT * len(entries), _TEXT), entries, strict=True)
    ]
    return "".join(parts), top + _TEXT * len(entries)
