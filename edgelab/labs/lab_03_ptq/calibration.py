"""Lab 03: how the choice of ranges, and of the layer, decides what a model in few bits is worth."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from edgelab import data, train
from edgelab.bars import track
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.i18n import _
from edgelab.measure.threads import torch_threads
from edgelab.quantization import (
    OBSERVERS,
    QParams,
    QSpec,
    QuantizationConfig,
    calibrate,
    fold_batchnorm,
    prepare,
    quantizers,
    sensitivity,
    sqnr,
)
from edgelab.quantization.observers import Observer

COUNTS = (1, 8, 32, 128)  # how many images the calibration explorer shows to the observers
BITS = (2, 3, 4, 5, 6, 8)


@dataclass(frozen=True)
class Quality:
    """How well a quantized model follows the float one: SQNR of its logits in dB, and its accuracy in [0, 1]."""

    sqnr: float
    accuracy: float


class _Everyone(Observer):
    """All kinds of observer at once, where a `FakeQuantize` has one."""

    def __init__(self, spec: QSpec):
        super().__init__(spec)
        self.observers = {name: kind(spec) for name, kind in OBSERVERS.items()}

    def observe(self, x: torch.Tensor) -> None:
        for observer in self.observers.values():
            observer.observe(x)


class _Chosen(Observer):
    """What an observer chose, kept."""

    def __init__(self, qparams: QParams):
        super().__init__(qparams.spec)
        self._qparams = qparams

    def qparams(self) -> QParams:
        return self._qparams


@torch.inference_mode()
def calibration_grid(model: nn.Module, images: torch.Tensor, split: data.Split) -> dict[tuple[str, int], Quality]:
    """Return the quality of `model` in 8 bits by (observer, number of calibration images), and of float as ("", 0).

    All observers watch the same passes of the float model over `images`; quality is that on `split`.
    """
    prepared = calibrate(prepare(model), images[:1])
    watched = {name: module for name, module in quantizers(prepared).items() if ".parametrizations." not in name}
    for quantizer in quantizers(prepared).values():
        quantizer.mode = "float"
    reference = train.predict(prepared, split)
    grid = {("", 0): Quality(float("inf"), train.accuracy(reference, split))}
    # A single image has observers of its own: a moving average would not forget it.
    stops = [1, *range(8, COUNTS[-1] + 1, 24)]
    chosen: dict[tuple[str, int], dict[str, QParams]] = {}
    watching: dict[str, _Everyone] = {}
    seen = 0
    for stop in track(stops, _("watching activations")):
        if stop in stops[:2]:
            seen = 0
            for name, quantizer in watched.items():
                quantizer.observer = watching[name] = _Everyone(quantizer.spec)
                quantizer.mode = "observe"
        prepared(images[seen:stop].to(memory_format=torch.channels_last))
        seen = stop
        if stop in COUNTS:
            with torch_threads(1):
                for method in OBSERVERS:
                    chosen[method, stop] = {
                        name: everyone.observers[method].qparams() for name, everyone in watching.items()
                    }
    for quantizer in quantizers(prepared).values():
        quantizer.mode = "quantize"
    for key, grids in track(chosen.items(), _("trying each calibration")):
        for name, qparams in grids.items():
            watched[name].observer = _Chosen(qparams)
            watched[name].freeze()
        logits = train.predict(prepared, split)
        grid[key] = Quality(sqnr(reference, logits), train.accuracy(logits, split))
    return grid


def calibration_explorer(
    model: nn.Module, images: torch.Tensor, dataset: data.Dataset, *, judges: int = 200
) -> Explorer:
    """Return a picture of int8 quality by calibration method and number of calibration images.

    Quality is that on the first `judges` test images.
    """
    grid = calibration_grid(model, images, dataset.test[:judges])
    controls = {
        "method": choice(_("method"), {observer_name(name): name for name in OBSERVERS}),
        "count": slider(_("calibration images"), COUNTS, COUNTS[-1]),
    }
    return Explorer(lambda method, count: calibration_plot(grid, method, count), controls)


def observer_name(name: str) -> str:
    """Return what a learner reads for one of `OBSERVERS`, in their language."""
    names = {
        "min-max": _("min-max"),
        "moving-average": _("moving average"),
        "percentile": _("percentile"),
        "mse": _("squared error"),
        "entropy": _("entropy"),
    }
    return names.get(name, name)


def calibration_plot(grid: Mapping[tuple[str, int], Quality], method: str, count: int) -> plots.Picture:
    """Return SQNR over the number of calibration images for every method, and their accuracies at `count` images."""
    methods = list(dict.fromkeys(name for name, _count in grid if name))
    counts = sorted({images for _name, images in grid if images})
    floating = 100 * grid["", 0].accuracy
    with plots.figure(width=8.4, height=3.6) as fig:
        curves, bars = fig.subplots(1, 2, width_ratios=(3, 2))
        for number, name in enumerate(methods):
            colour, marker = plots.COLOURS[number], plots.MARKERS[number]
            line = [grid[name, images].sqnr for images in counts]
            bold = name == method
            curves.plot(
                range(len(counts)), line, color=colour, marker=marker, lw=3 if bold else 1.2, ms=8 if bold else 5,
                label=observer_name(name), zorder=3 if bold else 2,
            )  # fmt: skip
            share = 100 * grid[name, count].accuracy
            bars.barh(number, share, color=colour, hatch="///" if bold else "", ec=plots.INK, lw=0.6)
            bars.plot(share, number, color=colour, marker=marker, mec=plots.INK, ms=9)  # the marker of its curve
        curves.axvline(counts.index(count), color=plots.INK, ls=":", lw=1)
        curves.set_xticks(range(len(counts)), counts)
        curves.set(xlabel=_("calibration images"), ylabel=_("SQNR of the logits (dB)"))
        bars.axvline(floating, color=plots.INK, ls="--", lw=1.2)
        lowest = min(100 * quality.accuracy for quality in grid.values())
        bars.set(xlabel=_("accuracy (%); dashed: float32"), xlim=(max(0, lowest - 5), 100.5))
        labels = [f"{observer_name(name)}: {100 * grid[name, count].accuracy:.1f}" for name in methods]
        bars.set_yticks(range(len(methods)), labels)
        bars.invert_yaxis()
        bars.grid(False, axis="y")
        quality = grid[method, count]
        text = _("%(method)s, %(count)d images: SQNR %(db).1f dB, accuracy %(int8).1f %% (float32 %(float).1f %%)")
        numbers = {"count": count, "db": quality.sqnr, "int8": 100 * quality.accuracy, "float": floating}
        title = text % {"method": observer_name(method), **numbers}
        fig.suptitle(title, x=0.01, ha="left", fontsize="medium")
        return plots.picture(fig, title)


def sensitivity_grid(model: nn.Module, images: torch.Tensor) -> dict[int, dict[str, float]]:
    """Return, by bits and layer, the SQNR of the logits in dB when that layer's weights alone have so few bits."""
    with torch.inference_mode():
        reference = fold_batchnorm(model)(images)
    found = {}
    for bits in track(BITS, _("one layer at a time")):
        config = QuantizationConfig(weight_bits=bits, activation_bits=None)

        @torch.inference_mode()
        def quality(quantized: nn.Module) -> float:
            return sqnr(reference, quantized(images))

        found[bits] = sensitivity(calibrate(prepare(model, config), images[:1]), quality, progress=False)
    return found


def sensitivity_explorer(model: nn.Module, images: torch.Tensor) -> Explorer:
    """Return a bar for each layer: what the logits suffer when that layer's weights alone are rounded to b bits."""
    grid = sensitivity_grid(model, images)
    folded = fold_batchnorm(model)
    sizes = {name: folded.get_parameter(f"{name}.weight").numel() for name in grid[BITS[0]]}
    controls = {"bits": slider(_("bits"), BITS, 4)}
    return Explorer(lambda bits: sensitivity_plot(grid, sizes, bits), controls)


def sensitivity_plot(grid: Mapping[int, Mapping[str, float]], sizes: Mapping[str, int], bits: int) -> plots.Picture:
    """Return the SQNR of the logits for each layer at `bits` bits, with the layer's share of all weights."""
    scores = grid[bits]
    worst = min(scores, key=scores.__getitem__)
    highest = max(max(layer.values()) for layer in grid.values())
    total = sum(sizes.values())
    with plots.figure(height=0.9 + 0.3 * len(scores)) as fig:
        ax = fig.subplots()
        for row, (layer, score) in enumerate(scores.items()):
            bad = layer == worst
            ax.barh(
                row,
                score,
                color=plots.VERMILION if bad else plots.BLUE,
                hatch="///" if bad else "",
                ec=plots.INK,
                lw=0.6,
            )
            text = _("%(db).1f dB; %(share).1f %% of the weights") % {"db": score, "share": 100 * sizes[layer] / total}
            ax.annotate(text, (max(score, 0), row), (4, 0), textcoords="offset points", va="center")
        ax.set_yticks(range(len(scores)), list(scores))
        ax.invert_yaxis()
        ax.grid(False, axis="y")
        ax.set(xlim=(min(0, *scores.values()), 1.5 * highest), xlabel=_("SQNR of the logits (dB): longer is better"))
        title = _("%(bits)d bits; the most sensitive layer is %(layer)s (%(db).1f dB)")
        title %= {"bits": bits, "layer": worst, "db": scores[worst]}
        ax.set_title(title)
        return plots.picture(fig, title)
