"""A full convolution against a depthwise separable one: on this computer, and on an NPU by its compiler's estimate."""

from collections.abc import Mapping

from edgelab.deploy import duel
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.labs.lab_08_light_architectures import record
from edgelab.measure import Comparison, compare_latency

LAB = "08_light_architectures"
CHANNELS, KERNELS, RESOLUTIONS = (8, 16, 32, 64, 128, 256), (3, 5), (8, 16, 32)
Measured = Mapping[duel.Size, Mapping[tuple[str, str], float]]  # ms of one layer by (kind, precision)


def predict_few() -> Prediction:
    """Return the prediction of how many times faster a separable layer of 16 channels is, in int8."""
    return predict(LAB, "few", _("times faster, 16 channels"), unit="×", low=0.25, high=64)


def predict_many() -> Prediction:
    """Return the prediction of how many times faster a separable layer of 256 channels is, in int8."""
    return predict(LAB, "many", _("times faster, 256 channels"), unit="×", low=0.25, high=64)


def race(channels: int, precision: str = "int8") -> Comparison:
    """Return how many times faster the separable layer is: 3x3 on 16x16 pixels, in turns, in ONNX Runtime."""
    size, names = duel.Size(channels), {"full": _("full"), "separable": _("separable")}
    runs = {name: duel.open_layers(kind, size, precision) for kind, name in names.items()}
    return compare_latency(runs, max_seconds=3)


def duel_explorer() -> Explorer:
    """Return the MACs and the times of both kinds over the channels: choose kernel, resolution, and what to see."""
    sizes = [duel.Size(c, k, r) for k in KERNELS for r in RESOLUTIONS for c in CHANNELS]
    measured = dict(duel.sweep(sizes))

    def draw(kernel: int, resolution: int, show: str) -> plots.Picture:
        if show == "ratio":
            return ratio_plot(measured, kernel, resolution)
        return time_plot(measured, kernel, resolution, show)

    shown = {
        _("times fewer, times faster"): "ratio",
        _("milliseconds, int8"): "int8",
        _("milliseconds, float32"): "fp32",
    }
    controls = {
        "kernel": choice(_("kernel"), {f"{kernel}×{kernel}": kernel for kernel in KERNELS}),
        "resolution": slider(_("resolution"), RESOLUTIONS, 16, "px"),
        "show": choice(_("show"), shown),
    }
    return Explorer(draw, controls)


def ratios(measured: Measured, kernel: int, resolution: int) -> dict[str, list[float]]:
    """Return, over `CHANNELS`, how many times less the separable layer takes, by what: MACs, time, RAM."""
    found: dict[str, list[float]] = {"macs": [], "fp32": [], "int8": [], "npu": [], "arena": []}
    for channels in CHANNELS:
        size = duel.Size(channels, kernel, resolution)
        macs = {kind: duel.macs(kind, size) for kind in duel.KINDS}
        found["macs"].append(macs["full"] / macs["separable"])
        for precision in duel.PRECISIONS:
            found[precision].append(measured[size]["full", precision] / measured[size]["separable", precision])
        full, separable = (record.layer_cost(kind, size) for kind in duel.KINDS)
        if full and separable:
            found["npu"].append(full["us"] / separable["us"])
            found["arena"].append(full["arena_bytes"] / separable["arena_bytes"])
    return found


def ratio_plot(measured: Measured, kernel: int, resolution: int) -> plots.Picture:
    """Return how many times fewer MACs, and how many times faster, the separable layer is, over the channels."""
    found = ratios(measured, kernel, resolution)
    looks = {
        "macs": (_("MACs"), plots.INK, ":", ""),
        "fp32": (_("ONNX Runtime, float32"), plots.BLUE, "-", "o"),
        "int8": (_("ONNX Runtime, int8"), plots.VERMILION, "--", "s"),
        "npu": (_("Ethos-U55, Arm's estimate"), plots.GREEN, "-.", "^"),
        "arena": (_("RAM of TensorFlow Lite Micro, int8"), plots.ORANGE, "-", "D"),
    }
    with plots.figure(height=3.6) as fig:
        ax = fig.subplots()
        for what, (label, colour, line, marker) in looks.items():
            if len(found[what]) == len(CHANNELS):
                ax.plot(CHANNELS, found[what], color=colour, ls=line, marker=marker, label=label)
        ax.axhspan(1e-3, 1, color=plots.INK, alpha=0.08, lw=0)
        plots.logarithmic(ax.xaxis)
        plots.logarithmic(ax.yaxis)
        lowest = min(0.5, *found["int8"], *found["fp32"], *found["arena"])
        ax.set(xticks=CHANNELS, xlabel=_("channels"), ylim=(0.8 * lowest, 40), yticks=(0.5, 1, 2, 5, 10, 20))
        ax.set(ylabel=_("times less for the separable layer"))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        last = {what: values[-1] for what, values in found.items() if values}
        text = _(
            "%(kernel)d×%(kernel)d, %(px)d px, 256 channels: %(macs).1f times fewer MACs, int8 %(int8).1f times as fast"
        )
        title = text % {"kernel": kernel, "px": resolution, **last}
        slower = [c for c, ratio in zip(CHANNELS, found["int8"], strict=True) if ratio < 1]
        if slower:
            title += "\n" + _("Slower in int8 with so many channels: %(channels)s") % {
                "channels": ", ".join(map(str, slower))
            }
        ax.set_title(title)
        return plots.picture(fig, title.replace("\n", ". "))


def time_plot(measured: Measured, kernel: int, resolution: int, precision: str) -> plots.Picture:
    """Return the ms of one layer of each kind over the channels, in one precision."""
    looks = {"full": (_("full"), plots.BLUE, "o", "-"), "separable": (_("separable"), plots.VERMILION, "s", "--")}
    with plots.figure(height=3.6) as fig:
        ax = fig.subplots()
        for kind, (label, colour, marker, line) in looks.items():
            times = [measured[duel.Size(channels, kernel, resolution)][kind, precision] for channels in CHANNELS]
            ax.plot(CHANNELS, times, color=colour, marker=marker, ls=line, label=label)
        plots.logarithmic(ax.xaxis)
        plots.logarithmic(ax.yaxis)
        ax.set(xticks=CHANNELS, xlabel=_("channels"), ylabel=_("one layer (ms)"))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        sizes = [duel.Size(channels, kernel, resolution) for channels in (CHANNELS[0], CHANNELS[-1])]
        first, last = (measured[size]["separable", precision] / measured[size]["full", precision] for size in sizes)
        text = _(
            "%(kernel)d×%(kernel)d, %(px)d px: separable takes %(first).2f of the time at 8 channels, %(last).2f at 256"
        )
        title = text % {"kernel": kernel, "px": resolution, "first": first, "last": last}
        ax.set_title(title)
        return plots.picture(fig, title)
