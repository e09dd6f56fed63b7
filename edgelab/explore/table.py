"""The one table of the course: a row for every model the learner has made, kept in their folder."""

import math
from collections.abc import Mapping
from html import escape
from pathlib import Path

import numpy as np
import onnx
import torch
from matplotlib.figure import Figure
from onnx import numpy_helper

from edgelab import data
from edgelab.course.folder import edit, read, state_dir
from edgelab.deploy import Runner
from edgelab.deploy.file_costs import file_costs
from edgelab.errors import EdgelabError
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice
from edgelab.explore.html import HtmlTable
from edgelab.i18n import _
from edgelab.measure import Row, measure_model
from edgelab.measure.report import Deployed, cells, headings

FILE = "table.json"
_SPAN = 4  # points of accuracy that the axis has at least
_BESIDE = 8  # names of models for which there is room beside a picture


def add(
    name: str,
    model: torch.nn.Module,
    dataset: data.Dataset,
    *,
    accuracy: float,
    file: str | Path | None = None,
    precision: str = "fp32",
    pictures: int | None = None,
) -> None:
    """Measure `model` on one core and keep it as row `name`; a row of that name and data set is replaced.

    `accuracy` is on the test images of `dataset`, in [0, 1], or on the first so many `pictures` of them, where it was
    not counted on all. With `file`, size and latency are those of that file in
    its runtime, which computes in `precision`, "fp32" or "int8", and the energy is that of the bytes which the file's
    weights take; parameters and MACs are still counted on `model`.
    """
    image = data.normalize(dataset.test.images[:1])
    deployed = None
    if file:
        runner, size = Runner.open(file), Path(file).stat().st_size
        runtime = {"onnxruntime": "ONNX Runtime", "litert": "LiteRT"}[runner.name]
        fetched = constant_bytes(file)
        deployed = Deployed(runner.once(image), size, precision, weight_bytes=fetched, runtime=runtime)
    counted = len(dataset.test) if pictures is None else pictures
    row = measure_model(model, image, deployed=deployed, accuracy=accuracy, pictures=counted)
    with edit(_file()) as state:
        state[f"{dataset.name}/{name}"] = row.as_dict()


def rows(dataset: str) -> dict[str, Row]:
    """Return the rows on one data set by name, in the order in which they were first added."""
    return rows_in(_file(), dataset)


def rows_in(file: Path, dataset: str) -> dict[str, Row]:
    """Return the rows on one data set that a table's file keeps, by name."""
    prefix = f"{dataset}/"
    return {key.removeprefix(prefix): Row(**fields) for key, fields in read(file).items() if key.startswith(prefix)}


def datasets_in(file: Path) -> list[str]:
    """Return the names of the data sets that a table's file has rows on, in the order in which they were added."""
    # A folder of one's own has slashes in its name; a model there has none.
    found = (
        next((name for name in data.NAMES if key.startswith(f"{name}/")), key.rpartition("/")[0]) for key in read(file)
    )
    return list(dict.fromkeys(found))


def constant_bytes(file: str | Path) -> int:
    """Return the bytes of constant numbers in a model file, what one inference fetches.

    They are weights and biases, and in an ONNX file the scales, which are tensors there.
    """
    if Path(file).suffix == ".tflite":
        return file_costs(file).weight_bytes
    constants = map(numpy_helper.to_array, onnx.load(file).graph.initializer)
    return sum(array.nbytes for array in constants if array.dtype != np.int64)  # those are shapes


def show(dataset: data.Dataset, *, without: tuple[str, ...] = ()) -> HtmlTable:
    """Return the table of the course so far: the models measured on `dataset`.

    `without` leaves out columns that a lab has not explained yet: "peak", "energy".
    """
    hidden = {"peak": _("peak memory (KiB)"), "energy": _("energy, estimated (mJ)")}
    kept = [place for place, head in enumerate(headings()) if head not in {hidden[name] for name in without}]
    lines = [(shown_row(name), *cells(row)) for name, row in rows(dataset.name).items()]
    return HtmlTable(
        [escape(headings()[place]) for place in kept], [[escape(line[place]) for place in kept] for line in lines]
    )


def shown_row(name: str) -> str:
    """Return what a learner reads for a row that the course itself has named, in their language."""
    names = {
        "baseline": _("baseline"),
        "baseline in ONNX Runtime": _("baseline in ONNX Runtime"),
        "int8 weights": _("int8 weights"),
        "int8 PTQ": _("int8 PTQ"),
        "MobileNet int8": _("MobileNet int8"),
        "ResNet tiny": _("ResNet tiny"),
        "4-bit QAT": _("4-bit QAT"),
        "distilled student": _("distilled student"),
        "pruned channels": _("pruned channels"),
        "pruned channels, int8": _("pruned channels, int8"),
        "90 % zeros": _("90 % zeros"),
        "student int8, ONNX Runtime": _("student int8, ONNX Runtime"),
        "student int8, LiteRT": _("student int8, LiteRT"),
        "capstone": _("capstone"),
    }
    return names.get(name, name)


def pareto(dataset: data.Dataset, *, without: tuple[str, ...] = ()) -> Explorer:
    """Return accuracy against a cost to be chosen, for every row: bytes, latency, energy or peak memory.

    `without` leaves out costs that a lab has not explained yet: "peak", "energy".
    """
    costs = {
        _("size on disk (KiB)"): "size",
        _("latency (ms)"): "latency",
        _("energy, estimated (mJ)"): "energy",
        _("peak memory (KiB)"): "peak",
    }
    costs = {label: cost for label, cost in costs.items() if cost not in without}
    return Explorer(lambda cost: pareto_plot(dataset, cost), {"cost": choice(_("against"), costs)})


def pareto_plot(dataset: data.Dataset, cost: str = "size") -> plots.Picture:
    """Return accuracy against `cost`, and the front of the models that no other one beats in both.

    `cost` is "size", "latency", "energy" or "peak". Latencies of two runtimes are not compared: where ONNX Runtime's
    are known, the others are left out.
    """
    with plots.figure(height=3.4) as fig:
        return plots.picture(fig, draw_front(fig, rows(dataset.name), dataset.title, cost))


def draw_front(fig: Figure, table: Mapping[str, Row], dataset: str, cost: str) -> str:
    """Draw accuracy against `cost` for the rows of a table on one data set, and return what there is to see, in words.

    Raise `EdgelabError` where no row has an accuracy.
    """
    found = {name: row for name, row in table.items() if row.accuracy is not None}
    if not found:
        raise EdgelabError(
            _("The table has no row for %(dataset)s yet: run the cell that adds one.") % {"dataset": dataset}
        )
    label, of = {
        "size": (_("size on disk (KiB)"), lambda row: row.size_bytes / 1024),
        "latency": (_("latency (ms)"), lambda row: row.p50_ms),
        "energy": (_("energy, estimated (mJ)"), lambda row: 1000 * row.energy_j),
        "peak": (_("peak memory (KiB)"), lambda row: row.peak_bytes / 1024),
    }[cost]
    kept = dict(enumerate(found.items()))
    if cost == "latency":
        runtimes = {row.runtime for row in found.values()}
        shown = "ONNX Runtime" if "ONNX Runtime" in runtimes else min(runtimes)
        kept = {number: (name, row) for number, (name, row) in kept.items() if row.runtime == shown}
        label = _("latency in %(runtime)s, not in turns (ms)") % {"runtime": shown}
    points = {shown_row(name): (of(row), 100 * (row.accuracy or 0.0)) for name, row in kept.values()}
    front = pareto_front(points)
    ax = fig.subplots()
    edge = sorted(points[name] for name in front)
    ax.step(*zip(*edge, strict=True), where="post", color=plots.GREEN, lw=1.5, label=_("Pareto front"))
    for number, (name, point) in zip(kept, points.items(), strict=True):
        ax.plot(
            *point,
            ls="",
            marker=plots.MARKERS[number % len(plots.MARKERS)],
            ms=8,
            mfc=plots.COLOURS[number % len(plots.COLOURS)] if name in front else "none",
            mec=plots.COLOURS[number % len(plots.COLOURS)],
            mew=1.5,
            label=name,
        )
    costs = [cost for cost, _accuracy in points.values()]
    plots.logarithmic(ax.xaxis, (1, 2, 5) if max(costs) < 50 * min(costs) else (1, 3))  # more would overlap
    ax.set(xlabel=label, ylabel=_("accuracy (%)"))
    ax.margins(x=0.15)
    accuracies = [accuracy for _cost, accuracy in points.values()]
    low, high = min(accuracies), max(accuracies)
    room = max(0.15 * (high - low), (_SPAN - (high - low)) / 2)  # else hundredths would fill the picture
    ax.set_ylim(low - room, min(high + room, 101))
    title = _("On the front: %(front)s") % {"front": ", ".join(sorted(front))}
    beaten = ", ".join(sorted(set(points) - front))
    if beaten:
        title += "\n" + _("Beaten (hollow): %(names)s") % {"names": beaten}
    ax.set_title(plots.wrapped(title))
    if len(points) <= _BESIDE:
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    else:  # the table of the whole course: more names than fit beside the picture
        fig.legend(loc="outside lower center", ncols=3, fontsize="small", columnspacing=1, handlelength=1.5)
        fig.set_figheight(fig.get_figheight() + 0.21 * math.ceil((len(points) + 1) / 3) + 0.6)
    return _("Accuracy against %(cost)s. %(fronts)s") % {"cost": label, "fronts": title.replace("\n", ". ")}


def pareto_front(points: dict[str, tuple[float, float]]) -> set[str]:
    """Return the names whose (cost, gain) no other point beats: none is as cheap and as good, and better in one.

    >>> sorted(pareto_front({"a": (1, 0.9), "b": (2, 0.95), "c": (3, 0.95)}))
    ['a', 'b']
    """
    return {
        name
        for name, (cost, gain) in points.items()
        if not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in points.values())
    }


def _file() -> Path:
    return state_dir() / FILE
