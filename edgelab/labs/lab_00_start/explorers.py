"""Lab 00: what this machine is, and how its clock scatters."""

from collections.abc import Callable, Sequence
from html import escape

import ipywidgets as widgets
import numpy as np
import torch

from edgelab import doctor
from edgelab.bars import track
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.explore.html import HtmlTable
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import N_, _, named
from edgelab.measure import count_macs, count_params
from edgelab.measure.latency import Comparison, measure_latency, percentile, ratio_interval
from edgelab.measure.threads import torch_threads
from edgelab.numbers import number

WARMUP_RUNS, POOL_RUNS = 20, 220

# What the lab's cells call the runs that they compare.
RUNS = (N_("twin"), N_("tiny"), N_("baseline / twin"), N_("baseline / tiny"))


def machine_card() -> widgets.HTML:
    """Return what `edgelab doctor` found, as a table: cores, memory, the instructions that matter for int8."""
    report = doctor.examine()
    rows = "".join(
        f'<tr><th scope="row" style="text-align: left">{escape(label)}</th>'
        f'<td style="text-align: left">{escape(value)}</td></tr>'
        for label, value in doctor.summary(report)
    )
    notes = "".join(f"<li>{escape(str(note))}</li>" for note in (*report.problems, *report.warnings))
    return widgets.HTML(f"<table>{rows}</table>" + (f"<ul>{notes}</ul>" if notes else ""))


def predict_latency() -> Prediction:
    """Return the prediction of the baseline's latency for one picture, in ms."""
    return predict("00_start", "baseline-latency", _("one picture takes"), unit="ms", low=0.1, high=1000)


def predict_noise() -> Prediction:
    """Return the prediction of how much two measurements of one model differ, in per cent."""
    return predict("00_start", "noise", _("at worst the two p50 differ by"), unit="%", low=0.1, high=50)


def model_card(model: torch.nn.Module, image: torch.Tensor) -> HtmlTable:
    """Return what there is to count about a model: its parameters, and its MACs for one picture."""
    rows = [
        [_("parameters"), number(count_params(model))],
        [_("multiply-accumulates (MACs) for one picture"), number(count_macs(model, image))],
    ]
    return HtmlTable([_("baseline"), ""], rows)


def twin_differences(first: Callable[[], object], second: Callable[[], object], *, times: int = 5) -> list[float]:
    """Return by how many per cent the p50 of two callables differ, measured one after the other so many times."""
    differences = []
    for _time in track(range(times), _("measuring")):
        one, other = (measure_latency(run, repeats=100, max_seconds=5).p50_ms for run in (first, second))
        differences.append(100 * abs(other / one - 1))
    return differences


def listed(differences: Sequence[float]) -> str:
    """Return differences in per cent as a sentence."""
    return _("All differences: %(list)s.") % {"list": ", ".join(f"{value:.2g} %" for value in differences)}


@torch_threads(1)
def turns(first: Callable[[], object], second: Callable[[], object], count: int) -> tuple[list[float], list[float]]:
    """Return `count` latencies in ms of each of two callables, taken in turns; each turn is the faster of two calls."""
    samples: tuple[list[float], list[float]] = ([], [])
    for turn in range(count):
        order = (0, 1) if turn % 2 else (1, 0)
        for which in order:
            run = (first, second)[which]
            samples[which].append(min(measure_latency(run, warmup=1, repeats=2).samples_ms))
    return samples


def latency_explorer(run: Callable[[], object]) -> widgets.VBox:
    """Return a histogram of how long `run()` takes: how many runs to count, how many first ones to leave out.

    All runs are timed beforehand, cold ones included, so that moving a slider measures nothing new; the button does.
    """
    pool: list[float] = []

    def measure(_button: object = None) -> None:
        pool[:] = measure_latency(run, warmup=0, repeats=POOL_RUNS, max_seconds=20).samples_ms

    def draw(repeats: int, warmup: int) -> plots.Picture:
        return latency_histogram(pool[warmup : warmup + repeats])

    measure()
    explorer = Explorer(
        draw,
        {
            "repeats": slider(_("runs"), (5, 10, 20, 50, 100, 200), 50),
            "warmup": slider(_("first runs left out"), (0, 1, 2, 5, 10, WARMUP_RUNS), 10),
        },
    )
    again = widgets.Button(description=_("Measure again"), icon="refresh")
    again.on_click(measure)
    again.on_click(lambda _button: explorer.redraw())
    return widgets.VBox([explorer, again])


def latency_histogram(samples_ms: Sequence[float]) -> plots.Picture:
    """Return the distribution of `samples_ms`, with its p50 and p95."""
    p50, p95 = percentile(samples_ms, 50), percentile(samples_ms, 95)
    with plots.figure() as fig:
        ax = fig.subplots()
        ax.hist(samples_ms, bins=min(30, max(5, len(samples_ms) // 4)), color=plots.SKY, edgecolor=plots.INK, lw=0.4)
        ax.axvline(p50, color=plots.BLUE, lw=2, label=f"p50 = {p50:.2f} ms")
        ax.axvline(p95, color=plots.VERMILION, lw=2, ls="--", label=f"p95 = {p95:.2f} ms")
        ax.set(xlabel=_("latency (ms)"), ylabel=_("runs"))
        ax.legend()
        text = _("%(n)d runs: p50 %(p50).2f ms, p95 %(p95).2f ms, p95/p50 %(spread).2f")
        title = text % {"n": len(samples_ms), "p50": p50, "p95": p95, "spread": p95 / p50}
        ax.set_title(title)
        return plots.picture(fig, title)


def difference_explorer(comparisons: dict[str, Comparison]) -> Explorer:
    """Return a picture of how the interval of a ratio narrows as more pairs are counted, for each of `comparisons`."""
    blocks = min(len(comparison.ratios) for comparison in comparisons.values())
    counts = tuple(n for n in (6, 8, 12, 16, 24, 36, 48) if n <= blocks)

    def draw(pair: Comparison, count: int) -> plots.Picture:
        return ratio_plot(pair, count)

    return Explorer(
        draw,
        {
            "pair": choice(_("compare"), {named(name): pair for name, pair in comparisons.items()}),
            "count": slider(_("blocks of runs"), counts, counts[0]),
        },
    )


def ratio_plot(comparison: Comparison, count: int) -> plots.Picture:
    """Return the first `count` ratios of `comparison` and the 95 % interval of their median."""
    ratios = comparison.ratios[:count]
    median, low, high = ratio_interval(ratios)
    margin = comparison.margin
    with plots.figure(height=2.6) as fig:
        ax = fig.subplots()
        ax.axvspan(1 / margin, margin, color=plots.INK, alpha=0.12, lw=0, label=_("too close to tell"))
        ax.axvline(1, color=plots.INK, lw=1, ls=":")
        offsets = np.random.default_rng(0).uniform(-0.25, 0.25, len(ratios))
        ax.plot(ratios, offsets, ls="", marker="o", color=plots.SKY, mec=plots.BLUE, label=_("one block of runs"))
        ax.plot([low, high], [0.6, 0.6], color=plots.VERMILION, lw=3, label=_("95 % interval of the median"))
        ax.plot([median], [0.6], marker="D", color=plots.VERMILION)
        label = _("ratio of latencies (how many times faster is the second?)")
        ax.set(xlabel=label.replace(" (", "\n("), yticks=[], ylim=(-0.5, 1))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        text = _("%(n)d blocks: ratio %(ratio).3f, interval %(low).3f to %(high).3f")
        title = text % {"n": count, "ratio": median, "low": low, "high": high}
        ax.set_title(title)
        return plots.picture(fig, title)
