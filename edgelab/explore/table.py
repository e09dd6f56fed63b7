"""The one table of the course: a row for every model the learner has made, kept in their folder."""

from html import escape
from pathlib import Path

import torch

from edgelab import data
from edgelab.course.folder import edit, read, state_dir
from edgelab.deploy import Runner
from edgelab.errors import EdgelabError
from edgelab.explore import plots
from edgelab.explore.html import HtmlTable
from edgelab.i18n import _
from edgelab.measure import Row, measure_model
from edgelab.measure.report import Deployed, cells, headings


def add(
    name: str,
    model: torch.nn.Module,
    dataset: data.Dataset,
    *,
    accuracy: float,
    file: str | Path | None = None,
    precision: str = "fp32",
) -> None:
    """Measure `model` on one core and keep it as row `name`; a row of that name and data set is replaced.

    `accuracy` is on the test images of `dataset`, in [0, 1]. With `file`, size and latency are those of that file in
    its runtime, which computes in `precision`, "fp32" or "int8"; parameters and MACs are still counted on `model`.
    """
    image = data.normalize(dataset.test.images[:1])
    deployed = None
    if file:
        deployed = Deployed(Runner.open(file).once(image), Path(file).stat().st_size, precision)
    row = measure_model(model, image, deployed=deployed, accuracy=accuracy)
    with edit(_file()) as state:
        state[f"{dataset.name}/{name}"] = row.as_dict()


def rows(dataset: str) -> dict[str, Row]:
    """Return the rows on one data set by name, in the order in which they were first added."""
    prefix = f"{dataset}/"
    return {key.removeprefix(prefix): Row(**fields) for key, fields in read(_file()).items() if key.startswith(prefix)}


def show(dataset: data.Dataset) -> HtmlTable:
    """Return the table of the course so far: the models measured on `dataset`."""
    lines = [[escape(text) for text in (name, *cells(row))] for name, row in rows(dataset.name).items()]
    return HtmlTable([escape(text) for text in headings()], lines)


def pareto(dataset: data.Dataset) -> plots.Picture:
    """Return accuracy against size for every row, and the front of the models that no other one beats in both."""
    found = rows(dataset.name).items()
    points = {name: (row.size_bytes / 1024, 100 * row.accuracy) for name, row in found if row.accuracy is not None}
    if not points:
        raise EdgelabError(
            _("The table has no row for %(dataset)s yet: run the cell that adds one.") % {"dataset": dataset.name}
        )
    front = pareto_front(points)
    with plots.figure() as fig:
        ax = fig.subplots()
        edge = sorted(points[name] for name in front)
        ax.step(*zip(*edge, strict=True), where="post", color=plots.GREEN, lw=1.5, label=_("Pareto front"))
        for number, (name, (size, accuracy)) in enumerate(points.items()):
            ax.plot(
                size,
                accuracy,
                ls="",
                marker=plots.MARKERS[number % len(plots.MARKERS)],
                ms=8,
                color=plots.COLOURS[number % len(plots.COLOURS)],
                label=name,
            )
        plots.logarithmic(ax.xaxis, (1, 2, 5))
        ax.set(xlabel=_("size on disk (KiB)"), ylabel=_("accuracy (%)"))
        ax.margins(0.15)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        description = _("Accuracy against size of %(n)d models; on the Pareto front: %(front)s.")
        return plots.picture(fig, description % {"n": len(points), "front": ", ".join(sorted(front))})


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
    return state_dir() / "table.json"
