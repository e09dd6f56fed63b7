"""The latency of a convolution over its channels: a staircase, and each processor and precision has its own."""

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from edgelab.bars import track
from edgelab.deploy import open_layer
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _

LAB = "06_structured_pruning"
CHANNELS = range(32, 73)
PRECISIONS = ("fp32", "int8")
STEPS = (4, 8, 16)  # as many floats as one instruction takes, on most processors
SIDE = 16  # of the picture, in pixels
ROUNDS, CALLS = 6, 4  # every width is run a few times in each round, so that a busy moment meets all alike

Stairs = Mapping[str, Mapping[int, float]]  # ms by precision and channels


def predict_one() -> Prediction:
    """Return the prediction of how many times faster a model is with 63 channels for 64."""
    return predict(LAB, "one-channel", _("times faster"), unit="×", low=0.25, high=16)


def measure_stairs(channels: Sequence[int] = CHANNELS) -> dict[str, dict[int, float]]:
    """Return the ms of a 3x3 convolution from C channels to C, by precision and C: the fastest runs here."""
    found: dict[str, dict[int, float]] = {}
    steps = [(precision, number) for precision in PRECISIONS for number in range(ROUNDS)]
    opened: dict[str, dict[int, Callable]] = {}
    for precision, _number in track(steps, _("measuring each width")):
        if precision not in opened:
            opened[precision] = {
                count: open_layer(
                    nn.Conv2d(count, count, 3, padding=1), torch.rand(1, count, SIDE, SIDE), precision=precision
                )
                for count in channels
            }
        for count, run in opened[precision].items():
            fastest = min(_milliseconds(run) for _call in range(CALLS))
            best = found.setdefault(precision, {})
            best[count] = min(fastest, best.get(count, fastest))
    return found


def _milliseconds(run: Callable) -> float:
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e6


def staircase_explorer(stairs: Stairs) -> Explorer:
    """Return the ms over the channels in a precision, one width compared with the next multiple of a step to try."""
    widths = tuple(stairs["fp32"])
    controls = {
        "precision": choice(_("precision"), list(stairs)),
        "step": choice(_("multiples of"), list(STEPS)),
        "channels": slider(_("channels"), widths, widths[-1] // 8 * 8 - 1),
    }
    return Explorer(lambda precision, step, channels: staircase_plot(stairs, precision, step, channels), controls)


def staircase_plot(stairs: Stairs, precision: str, step: int, channels: int) -> plots.Picture:
    """Return the ms of all widths in `precision`; the multiples of `step` have a square."""
    times = stairs[precision]
    with plots.figure(height=3.6) as fig:
        ax = fig.subplots()
        ax.plot(list(times), list(times.values()), color=plots.BLUE, lw=1, alpha=0.7)
        kinds = {
            _("multiple of %(step)d") % {"step": step}: ("s", plots.VERMILION, 6, lambda count: count % step == 0),
            _("other"): ("o", plots.BLUE, 4, lambda count: count % step),
        }
        for label, (marker, colour, size, among) in kinds.items():
            counts = list(filter(among, times))
            ax.plot(counts, [times[c] for c in counts], ls="", marker=marker, color=colour, ms=size, label=label)
        ax.axvline(channels, color=plots.INK, ls=":", lw=1)
        ax.plot([channels], [times[channels]], marker="o", ms=13, mfc="none", mec=plots.INK, ls="")
        ax.set(xlabel=_("channels, in and out"), ylabel=_("latency (ms)"), ylim=(0, None))
        ax.legend(loc="upper left")
        upper = min(-(-channels // step) * step, max(times) // step * step)
        title = _("%(precision)s: %(n)d channels take %(ms).3f ms, %(step)d take %(other).3f ms") % {
            "precision": precision,
            "n": channels,
            "ms": times[channels],
            "step": upper,
            "other": times[upper],
        }
        ax.set_title(title)
        return plots.picture(fig, title)
