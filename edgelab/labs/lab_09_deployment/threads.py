"""When do two threads pay? Layers of growing size on one thread and on two, in ONNX Runtime."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import onnx
import torch

from edgelab.bars import track
from edgelab.deploy import Runner, duel
from edgelab.deploy.chain import chain_for_timing
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.measure import Comparison, compare_latency
from edgelab.measure.latency import MARGIN
from edgelab.measure.threads import torch_threads

LAB = "09_deployment"
CHANNELS = (8, 16, 32, 64, 128, 256)
Ratios = Mapping[tuple[str, str], Sequence[float]]  # times faster on two threads, over `CHANNELS`


def predict_threads() -> Prediction:
    """Return the prediction of how many times faster the student runs on two threads than on one."""
    return predict(LAB, "threads", _("times faster on two threads"), unit="×", low=0.1, high=4)


def race_threads(path: str | Path, image: torch.Tensor) -> Comparison:
    """Return how many times faster a file runs on two threads than on one, in turns."""
    names = {1: _("on one"), 2: _("the student on two threads")}
    runs = {name: Runner.open(path, threads=count).once(image) for count, name in names.items()}
    return compare_latency(runs, max_seconds=3)


def thread_explorer() -> Explorer:
    """Return how many times faster layers run on two threads, over their work: choose their kind and the precision."""
    kinds = {_("full"): "full", _("separable"): "separable"}
    controls = {
        "precision": choice(_("numbers"), {"int8": "int8", "float32": "fp32"}),
        "kind": choice(_("convolution"), kinds),
    }
    return Explorer(partial(thread_plot, measure()), controls)


def measure(channels: Sequence[int] = CHANNELS) -> Ratios:
    """Return how many times faster one layer is on two threads, by (kind, precision), over `channels`.

    Each is of 3x3 on 16x16 pixels, several behind one another; the fastest runs count, in turns.
    """
    found: dict[tuple[str, str], list[float]] = {}
    with torch_threads(1):
        for size in track([duel.Size(count) for count in channels], _("timing sizes")):
            keys = [(kind, precision) for kind in duel.KINDS for precision in duel.PRECISIONS]
            runs = {(*key, count): _open(*key, size, count) for key in keys for count in (1, 2)}
            ms = duel.fastest(runs, turns=20, seconds=0.1)
            for key in keys:
                found.setdefault(key, []).append(ms[*key, 1] / ms[*key, 2])
    return found


def _open(kind: str, precision: str, size: duel.Size, count: int) -> Callable[[], object]:
    """Return what runs `size.depth` layers once on so many threads."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.onnx"
        onnx.save(chain_for_timing(duel.layers(kind, size), size.example, int8=precision == "int8"), path)
        return Runner.open(path, threads=count).once(size.example)


def thread_plot(ratios: Ratios, precision: str, kind: str) -> plots.Picture:
    """Return the times faster on two threads over the MACs of a layer; the title says from where on they pay."""
    values = ratios[kind, precision]
    work = [duel.macs(kind, duel.Size(channels)) / 1e6 for channels in CHANNELS]
    with plots.figure(height=3.0) as fig:
        ax = fig.subplots()
        ax.axhspan(0.01, 1, color=plots.INK, alpha=0.08, lw=0)
        ax.axhline(2, color=plots.INK, ls=":", label=_("the ideal"))
        ax.plot(work, values, color=plots.BLUE, marker="o", label=_("measured here"))
        plots.logarithmic(ax.xaxis)
        plots.logarithmic(ax.yaxis, (1, 2, 5))
        ax.set(xlabel=_("work of a layer (M MACs)"), ylabel=_("times faster on two threads"))
        ax.set_ylim(0.8 * min(0.5, *values), 1.25 * max(2.0, *values))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        title = _where(work, values)
        ax.set_title(title)
        words = "; ".join(f"{macs:.2g} M: {ratio:.2f}" for macs, ratio in zip(work, values, strict=True))
        return plots.picture(fig, f"{title}. {words}")


def _where(work: Sequence[float], values: Sequence[float]) -> str:
    """Return in words from how much work on two threads are faster here."""
    slower = [place for place, ratio in enumerate(values) if ratio < MARGIN]
    if not slower:
        return _("Two threads are faster here in every size")
    if slower[-1] == len(values) - 1:
        return _("Two threads do not pay here, or not reliably: the largest layer gains nothing by them")
    return _("Two threads are faster here from %(macs).2g million MACs in a layer on") % {"macs": work[slower[-1] + 1]}
