"""A staircase and the slopes one may give it, the loss along one weight, and accuracy against bits."""

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from edgelab import data
from edgelab.bars import track
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.i18n import _
from edgelab.labs.lab_04_qat.training import Study
from edgelab.measure import share_half_width
from edgelab.measure.threads import torch_threads
from edgelab.quantization import (
    QSpec,
    QuantizationConfig,
    choose_qparams,
    fake_quantize,
)
from edgelab.quantization.graph import Weighted

BITS = (2, 3, 4, 5, 6, 8)
TRAINED_BITS = (2, 3, 4, 8)
LANDSCAPE_IMAGES = 64
CLIPS = (100, 75, 50, 25, 10)


def slope_explorer(model: nn.Module) -> Explorer:
    """Return the staircase that a layer's weights meet, at chosen bits and clip range, over the weights themselves."""
    weights = {
        name: layer.weight.detach().flatten() for name, layer in model.named_modules() if isinstance(layer, Weighted)
    }
    slopes = {_("straight through (STE)"): True, _("true slope"): False}

    def draw(layer: str, bits: int, clip: int, straight: bool) -> plots.Picture:
        return slope_plot(weights[layer], bits, clip, straight)

    controls = {
        "layer": choice(_("layer"), list(weights)),
        "bits": slider(_("bits"), BITS, 3),
        "clip": slider(_("clip at"), CLIPS, 50, "%"),
        "straight": choice(_("slope"), slopes),
    }
    return Explorer(draw, controls)


def slope_plot(weights: torch.Tensor, bits: int, clip: int, straight: bool) -> plots.Picture:
    """Return staircase, slope, and histogram of `weights` `(N,)`; `clip` is in per cent of the largest |weight|."""
    largest = float(weights.abs().max())
    edge = clip / 100 * largest
    spec = QSpec(bits, symmetric=True, narrow=True)
    qparams = choose_qparams(-edge, edge, spec)
    step = float(qparams.scale)
    stopped = 100 * float((weights.abs() > edge + step / 2).float().mean())
    x = torch.linspace(-1.1 * largest, 1.1 * largest, 601)
    jumps = [(code + 0.5) * step for code in range(spec.qmin, spec.qmax)]
    with plots.figure(height=4.6) as fig:
        stairs, slope, counts = fig.subplots(3, sharex=True, gridspec_kw={"height_ratios": (3, 1.4, 1.6)})
        stairs.plot(x, x, color=plots.INK, lw=1, ls=":", label=_("unrounded"))
        stairs.plot(x, fake_quantize(x, qparams), color=plots.BLUE, lw=1.6, label=_("rounded"))
        stairs.set_ylabel(_("weight used"))
        stairs.legend(loc="upper left")
        reach = min(edge + step / 2, 1.1 * largest)  # with 2 bits, half a step goes beyond the picture
        edges = [-1.1 * largest, -reach, reach, 1.1 * largest]
        if straight:
            slope.stairs([0, 1, 0], edges, baseline=None, color=plots.VERMILION, lw=2)
        else:
            slope.plot(edges[::3], [0, 0], color=plots.VERMILION, lw=2)
            slope.plot(jumps, [1] * len(jumps), ls="", marker="^", ms=5, color=plots.VERMILION)
            slope.vlines(jumps, 0, 1, color=plots.VERMILION, lw=0.7, ls=":")
        slope.set(ylabel=_("slope"), ylim=(-0.2, 1.35), yticks=[0, 1], yticklabels=["0", "1" if straight else "∞"])
        density, bins = torch.histogram(weights, torch.linspace(-1.1 * largest, 1.1 * largest, 56))
        inside = ((bins[1:] + bins[:-1]) / 2).abs() <= reach
        counts.stairs((density * inside).tolist(), bins.tolist(), fill=True, color=plots.SKY)
        counts.stairs(
            (density * ~inside).tolist(), bins.tolist(), fill=True, fc=plots.ORANGE, ec=plots.INK, hatch="////"
        )
        counts.set(xlabel=_("weight kept by the training"), ylabel=_("weights"))
        if straight:
            text = _(
                "%(bits)d bits, clipped at ±%(edge).3g: %(codes)d codes, no gradient for %(stopped).1f %% of weights"
            )
        else:
            text = _("%(bits)d bits, clipped at ±%(edge).3g: %(codes)d codes, and no weight at all has a gradient")
        title = text % {"bits": bits, "edge": edge, "codes": 2 * spec.qmax + 1, "stopped": stopped}
        stairs.set_title(title)
        return plots.picture(fig, title)


@dataclass(frozen=True)
class Landscape:
    """The loss along one weight: `losses` and their `slopes` at the places `at`, ascending.

    `largest` is the largest |weight| of its channel, where the grid ends; `trained` is the weight's own place.
    """

    at: tuple[float, ...]
    losses: tuple[float, ...]
    slopes: tuple[float, ...]
    largest: float
    trained: float

    def loss(self, weight: float) -> float:
        """Return the loss with the weight at `weight`, between two places by linear interpolation."""
        return float(np.interp(weight, self.at, self.losses))

    def slope(self, weight: float) -> float:
        """Return the slope of the loss there."""
        return float(np.interp(weight, self.at, self.slopes))


def landscape(model: nn.Module, split: data.Split, points: int = 49) -> Landscape:
    """Return the loss of `model` on `split` along a weight of its first layer that matters; the others stay.

    It is a weight well inside its channel's range, so that its best place is not an end of the grid: of the eight
    largest, the one that the loss misses most.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    images, labels = data.normalize(split.images), split.labels
    layer = next(layer for layer in model.modules() if isinstance(layer, Weighted))
    layer.weight.requires_grad_(True)
    weight = layer.weight.data.flatten(1)  # a view: (channels, weights of each)
    ends = weight.abs().amax(1, keepdim=True).expand_as(weight).clone()

    def look(where: int, value: float) -> tuple[float, float]:
        """Return loss and slope with one weight at `value`."""
        channel, column = divmod(where, weight.shape[1])
        before = float(weight[channel, column])
        weight[channel, column] = value
        loss = F.cross_entropy(model(images), labels)
        (slopes,) = torch.autograd.grad(loss, layer.weight)
        weight[channel, column] = before
        return loss.item(), float(slopes.flatten(1)[channel, column])

    share = weight.abs() / ends
    candidates = (weight.abs() * ((share > 0.3) & (share < 0.7))).flatten().topk(min(8, weight.numel())).indices
    where = max(candidates.tolist(), key=lambda number: look(number, 0.0)[0])
    largest = float(ends.flatten()[where])
    at = torch.linspace(-1.3 * largest, 1.3 * largest, points).tolist()
    losses, slopes = zip(*(look(where, value) for value in at), strict=True)
    return Landscape(tuple(at), losses, slopes, largest, float(weight.flatten()[where]))


def loss_explorer(model: nn.Module, split: data.Split) -> Explorer:
    """Return the loss along one weight of `model`: the staircase that rounding makes of it, and the STE's slopes."""
    with torch_threads(1):
        view = landscape(model, split[:LANDSCAPE_IMAGES])
    controls = {
        "bits": slider(_("bits"), BITS, 3),
        "place": slider(_("the weight stands at"), range(0, 101, 5), 20, "%"),
    }
    return Explorer(lambda bits, place: loss_plot(view, bits, place), controls)


def loss_plot(view: Landscape, bits: int, place: int) -> plots.Picture:
    """Return loss and slope along a weight; `place` is where the weight stands, in per cent of the way."""
    start, end = view.at[0], view.at[-1]
    qmax = QSpec(bits, narrow=True).qmax
    step = view.largest / qmax
    codes = [code * step for code in range(-qmax, qmax + 1)]
    reach = min(view.largest + step / 2, end)  # beyond it a weight is clipped
    between = [(low + high) / 2 for low, high in pairwise(codes)]
    weight = start + place / 100 * (end - start)
    used = min(codes, key=lambda code: abs(code - weight))
    seen = 0.0 if abs(weight) > reach else view.slope(used)
    with plots.figure(height=4.2) as fig:
        losses, slopes = fig.subplots(2, sharex=True)
        losses.plot(view.at, view.losses, color=plots.INK, lw=1, ls=":", label=_("unrounded"))
        treads = [view.loss(code) for code in codes]
        losses.stairs(treads, [start, *between, end], baseline=None, color=plots.BLUE, lw=2, label=_("rounded"))
        losses.plot(
            view.trained, view.loss(view.trained), "*", ms=11, color=plots.GREEN, label=_("as trained in float")
        )
        losses.plot(weight, view.loss(used), "D", ms=8, color=plots.VERMILION, label=_("the weight"))
        losses.set_ylabel(_("loss"))
        losses.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        slopes.plot(view.at, view.slopes, color=plots.INK, lw=1, ls=":", label=_("unrounded"))
        slopes.plot([start, end], [0, 0], color=plots.BLUE, lw=2, label=_("rounded: true"))
        steps = [0.0, *map(view.slope, codes), 0.0]
        edges = [start, -reach, *between, reach, end]
        slopes.stairs(steps, edges, baseline=None, color=plots.VERMILION, lw=2, ls="--", label=_("rounded: STE"))
        slopes.plot(weight, seen, "D", ms=8, color=plots.VERMILION)
        slopes.set(xlabel=_("one weight of the first layer"), ylabel=_("slope of the loss"))
        slopes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        facts = {"bits": bits, "weight": weight, "used": used, "slope": seen}
        if abs(weight) > reach:
            text = _(
                "%(bits)d bits: the weight %(weight).3g is clipped to %(used).3g. STE's slope is 0: it stays there"
            )
        elif seen < 0:
            text = _("%(bits)d bits: the weight %(weight).3g is used as %(used).3g. STE's slope is %(slope).2g: go up")
        else:
            text = _(
                "%(bits)d bits: the weight %(weight).3g is used as %(used).3g. STE's slope is %(slope).2g: go down"
            )
        losses.set_title(text % facts)
        return plots.picture(fig, text % facts)


def bits_explorer(study: Study, train: Callable) -> Explorer:
    """Return accuracy against the bits of a weight, without training and with the learner's `train`."""
    ranges = {
        _("per channel, least squared error"): QuantizationConfig(weight_observer="mse"),
        _("per channel, min-max"): QuantizationConfig(),
        _("per tensor, min-max"): QuantizationConfig(per_channel=False),
    }
    trained = {bits: study.accuracy(train, bits) for bits in TRAINED_BITS}
    untrained = {}
    for label, config in track(ranges.items(), _("quantizing without training")):
        untrained[label] = {bits: study.ptq(dataclasses.replace(config, weight_bits=bits)) for bits in BITS}
    weights = sum(layer.weight.numel() for layer in study.model.modules() if isinstance(layer, Weighted))

    def draw(scales: dict[int, float], lost: bool, kib: bool) -> plots.Picture:
        return bits_plot(scales, trained, study.float_accuracy, len(study.exam), lost, weights if kib else None)

    controls = {
        "scales": choice(_("untrained scales"), untrained),
        "lost": choice(_("show"), {_("accuracy"): False, _("points lost"): True}),
        "kib": choice(_("against"), {_("bits of a weight"): False, _("KiB of all weights"): True}),
    }
    return Explorer(draw, controls)


def bits_plot(
    untrained: dict[int, float],
    trained: dict[int, float],
    float_accuracy: float,
    images: int,
    lost: bool,
    weights: int | None,
) -> plots.Picture:
    """Return accuracies, or points lost against `float_accuracy`, over bits, or over KiB of so many packed `weights`.

    Accuracies, in [0, 1], are by bits; the bars are the 95 % interval of a share counted on `images` images.
    """

    def over(bits: int) -> float:
        return bits if weights is None else weights * bits / 8 / 1024

    def shown(accuracy: float) -> float:
        return 100 * (float_accuracy - accuracy) if lost else 100 * accuracy

    with plots.figure(height=3.6) as fig:
        ax = fig.subplots()
        rows = (
            (untrained, plots.BLUE, "o", "-", _("untrained (PTQ)")),
            (trained, plots.VERMILION, "s", "--", _("trained (QAT)")),
        )
        for accuracies, colour, marker, line, label in rows:
            x, y = [over(bits) for bits in accuracies], [shown(share) for share in accuracies.values()]
            bars = [100 * share_half_width(share, images) for share in accuracies.values()]
            ax.errorbar(x, y, bars, color=colour, marker=marker, ls=line, capsize=3, label=label)
        ax.axhline(shown(float_accuracy), color=plots.INK, lw=1, ls=":", label=_("float"))
        if weights is None:
            ax.set_xticks(BITS)
        ax.set(
            xlabel=_("bits of a weight") if weights is None else _("all weights, packed (KiB)"),
            ylabel=_("points lost") if lost else _("accuracy (%)"),
        )
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        both = [bits for bits in trained if bits in untrained]
        gains = ", ".join(f"{bits}: {100 * (trained[bits] - untrained[bits]):+.1f}" for bits in both)
        title = _("Points that training wins, by bits: %(gains)s") % {"gains": gains}
        ax.set_title(title)
        return plots.picture(fig, title)
