"""What rounding to a few bits does to the tensors of a real model, to be moved with sliders."""

import ipywidgets as widgets
import numpy as np
import torch
from torch import nn

from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.i18n import _
from edgelab.labs.lab_02_quantization.rounding import (
    BITS,
    LAYER,
    gain_per_bit,
    grid,
    weight_spec,
    weights,
    with_outlier,
)
from edgelab.measure.threads import torch_threads
from edgelab.quantization.affine import QSpec, fake_quantize, quantize, sqnr

CLIPS = (100, 80, 60, 40, 30, 20, 10, 5)
FACTORS = (1, 2, 5, 10, 20, 50, 100)
DB_PER_BIT = 20 * np.log10(2)


def number_line_explorer(tensors: dict[str, torch.Tensor]) -> Explorer:
    """Return a tensor's values over the grid that they are rounded to: bits, part of the range, affine or symmetric."""
    controls = {
        "name": choice(_("tensor"), list(tensors)),
        "bits": slider(_("bits"), BITS, 4),
        "clip": slider(_("part of the range"), CLIPS[::-1], 100, "%"),
        "symmetric": choice(_("grid"), {_("affine"): False, _("symmetric"): True}, False),
    }
    return Explorer(lambda name, **grid: number_line_plot(tensors[name], **grid), controls)


@torch_threads(1)
def number_line_plot(x: torch.Tensor, bits: int, clip: int, symmetric: bool) -> plots.Picture:
    """Return the histogram of `x` over its grid, with what saturates, above the error of each value."""
    spec = QSpec(bits, symmetric=True, narrow=True) if symmetric else QSpec(bits, signed=False)
    qparams = grid(x, spec, clip / 100)
    scale, zero_point = float(qparams.scale), int(qparams.zero_point)
    levels = (np.arange(spec.qmin, spec.qmax + 1) - zero_point) * scale
    low, high = float(x.min()), float(x.max())
    # Half a step beyond the last code rounds to it still, as it would anywhere on the grid.
    first, last = levels[0] - scale / 2, levels[-1] + scale / 2
    saturated = float(((x < first) | (x > last)).double().mean())
    codes = quantize(x, qparams)
    reach = int(codes.max()) - int(codes.min()) + 1
    left, right = min(low, levels[0]), max(high, levels[-1])
    with plots.figure(height=4.2) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        counts, edges = np.histogram(x.numpy(), bins=80, range=(low, high))
        top.stairs(100 * counts / counts.sum(), edges, fill=True, color=plots.SKY)
        top.set_yscale("symlog", linthresh=1)
        top.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        top.set(ylim=(0, 130), ylabel=_("values (%)"))
        top.grid(visible=False, axis="x")
        used = (levels > low - scale) & (levels < high + scale)
        for which, colour, height in ((used, plots.BLUE, 0.55), (~used, plots.ORANGE, 0.3)):
            top.vlines(levels[which], 0, height, color=colour, lw=1.4 if bits < 7 else 0.7)
        grey = np.linspace(left, right, 1200)
        error = fake_quantize(torch.from_numpy(grey).float(), qparams).numpy() - grey
        bottom.plot(grey, error, color=plots.BLUE, lw=1)
        bottom.set(xlabel=_("value"), ylabel=_("error"))
        for ax in (top, bottom):
            for start, end in ((low, first), (last, high)):
                if start < end:
                    ax.axvspan(start, end, facecolor="none", edgecolor=plots.VERMILION, hatch="///", lw=0)
        text = _(
            "%(bits)d bits, step %(step).3g: error %(error).2g %% of the tensor\n"
            "%(share).1f %% saturated, %(used)d of %(all)d codes in reach"
        )
        title = text % {
            "bits": bits,
            "step": scale,
            "error": 100 * 10 ** (-sqnr(x, fake_quantize(x, qparams)) / 20),
            "share": 100 * saturated,
            "used": reach,
            "all": 2**bits,
        }
        top.set_title(title)
        return plots.picture(fig, title.replace("\n", ", "))


def weights_explorer(model: nn.Module) -> Explorer:
    """Return the weights of a layer on their grid: which layer, how many bits, one scale or one for each channel."""
    layers = weights(model)
    controls = {
        "layer": choice(_("layer"), list(layers)),
        "bits": slider(_("bits"), BITS, 8),
        "per_channel": _granularity(),
    }
    return Explorer(lambda layer, **grid: weights_plot(layers[layer], **grid), controls)


@torch_threads(1)
def weights_plot(weight: torch.Tensor, bits: int, per_channel: bool) -> plots.Picture:
    """Return the range of each output channel inside the range of its codes, and how often each code is used."""
    spec = weight_spec(bits, per_channel)
    qparams = grid(weight, spec)
    low, high = (ends.numpy() for ends in weight.flatten(1).aminmax(dim=1))
    channel = np.arange(len(low))
    reach = (qparams.scale * spec.qmax).expand(len(low)).numpy()
    codes = quantize(weight, qparams)
    counts = torch.bincount(codes.flatten().int() - spec.qmin, minlength=spec.qmax - spec.qmin + 1).numpy()
    with plots.figure(height=3.4) as fig:
        left, right = fig.subplots(1, 2, width_ratios=(3, 2))
        label = _("range of the codes")
        left.fill_between(channel, -reach, reach, step="mid", color=plots.ORANGE, alpha=0.3, lw=0)
        for side in (-reach, reach):
            left.step(channel, side, where="mid", color=plots.ORANGE, lw=1, label=label if side is reach else None)
        left.vlines(channel, low, high, color=plots.BLUE, lw=1.2, label=_("weights"))
        # Room for the legend below the ranges.
        left.set(xlabel=_("output channel"), ylabel=_("weight"), ylim=(-1.5 * reach.max(), 1.1 * reach.max()))
        left.legend(loc="lower center", ncols=2)
        right.stairs(
            100 * counts / counts.sum(), np.arange(spec.qmin, spec.qmax + 2) - 0.5, fill=True, color=plots.BLUE
        )
        right.set(xlabel=_("code"), ylabel=_("weights (%)"))
        text = _("%(bits)d bits: SQNR %(sqnr).1f dB, %(used)d of %(all)d codes used")
        used = int((counts > 0).sum())
        decibels = sqnr(weight, fake_quantize(weight, qparams))
        title = text % {"bits": bits, "sqnr": decibels, "used": used, "all": len(counts)}
        left.set_title(title)
        return plots.picture(fig, title)


def sqnr_explorer(curves: dict[str, dict[str, list[float]]]) -> Explorer:
    """Return the SQNR of every layer at each number of bits, from `sqnr_by_bits`, as lines or as a heat map."""
    controls = {
        "per_channel": _granularity(),
        "draw": choice(_("view"), {_("lines"): sqnr_lines, _("heat map"): sqnr_heat_map}),
    }
    return Explorer(lambda per_channel, draw: draw(curves["per-channel" if per_channel else "per-tensor"]), controls)


def sqnr_lines(rows: dict[str, list[float]]) -> plots.Picture:
    """Return a line for each layer: SQNR in dB over bits, beside the slope of 6.02 dB a bit."""
    with plots.figure(height=3.8) as fig:
        ax = fig.subplots()
        for number, (layer, row) in enumerate(rows.items()):
            marker = plots.MARKERS[number % len(plots.MARKERS)]
            colour = plots.COLOURS[number % len(plots.COLOURS)]
            ax.plot(BITS, row, marker=marker, ms=5, lw=1, color=colour, label=layer)
        start = max(row[-1] for row in rows.values()) + 4
        slope = [start - DB_PER_BIT * (BITS[-1] - bits) for bits in BITS]
        ax.plot(BITS, slope, color=plots.INK, lw=1.5, ls="--", label=_("6.02 dB a bit"))
        ax.set(xlabel=_("bits"), ylabel=_("SQNR (dB)"), xticks=BITS)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        title = _sqnr_title(rows)
        ax.set_title(title)
        return plots.picture(fig, title)


def sqnr_heat_map(rows: dict[str, list[float]]) -> plots.Picture:
    """Return a table of SQNR in dB, layers by bits, its cells shaded by their value."""
    values = np.array(list(rows.values()))
    with plots.figure(height=3.8) as fig:
        ax = fig.subplots()
        ax.imshow(values, aspect="auto", cmap="cividis", vmin=0, vmax=50)
        for row, column in np.ndindex(values.shape):
            # The ends of cividis are dark blue and light yellow on any page, so their text is no INK.
            colour = "white" if values[row, column] < 25 else "black"
            ax.text(column, row, f"{values[row, column]:.0f}", ha="center", va="center", color=colour)
        ax.set_xticks(range(len(BITS)), list(map(str, BITS)))
        ax.set_yticks(range(len(rows)), list(rows))
        ax.grid(visible=False)
        ax.set_xlabel(_("bits"))
        title = _sqnr_title(rows)
        ax.set_title(title)
        return plots.picture(fig, title)


def _sqnr_title(rows: dict[str, list[float]]) -> str:
    eight = [row[-1] for row in rows.values()]
    text = _("SQNR (dB): %(low).0f to %(high).0f at 8 bits; one bit from 4 to 8 adds %(gain).2f")
    return text % {"low": min(eight), "high": max(eight), "gain": gain_per_bit(rows)}


def outlier_explorer(model: nn.Module) -> Explorer:
    """Return what one large weight does to each output channel: the layer, how large, bits, one scale or many."""
    layers = weights(model)
    controls = {
        "layer": choice(_("layer"), list(layers), LAYER),
        "factor": slider(_("outlier, times the largest weight"), FACTORS, 20, "×"),
        "bits": slider(_("bits"), BITS, 8),
        "per_channel": _granularity(),
    }
    return Explorer(lambda layer, **outlier: outlier_plot(layers[layer], **outlier), controls)


@torch_threads(1)
def outlier_plot(weight: torch.Tensor, factor: int, bits: int, per_channel: bool) -> plots.Picture:
    """Return the SQNR of each output channel in dB, with the outlier (in channel 0) and without it."""
    spec = weight_spec(bits, per_channel)
    changed, others = with_outlier(weight, factor)
    rounded = fake_quantize(changed, grid(changed, spec))
    after = sqnr(changed[others], rounded[others])
    without = sqnr(weight, fake_quantize(weight, grid(weight, spec)))
    with plots.figure() as fig:
        ax = fig.subplots()
        channels = range(len(weight))
        before = fake_quantize(weight, grid(weight, spec))
        ax.plot(
            channels, _by_channel(weight, before), ls="", marker="o", ms=4, color=plots.BLUE, label=_("without outlier")
        )
        ax.plot(
            channels,
            _by_channel(changed, rounded, others),
            ls="",
            marker="x",
            ms=5,
            color=plots.VERMILION,
            label=_("with outlier"),
        )
        ax.axhline(0, color=plots.INK, lw=1, ls=":")
        ax.set(xlabel=_("output channel"), ylabel=_("SQNR of the other weights (dB)"))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        text = _("all other weights: %(without).1f dB without the outlier, %(after).1f dB with it")
        title = text % {"without": without, "after": after}
        ax.set_title(title)
        return plots.picture(fig, title)


def _by_channel(weight: torch.Tensor, rounded: torch.Tensor, counted: torch.Tensor | None = None) -> np.ndarray:
    """Return the SQNR in dB of each output channel, over the weights that are `counted`."""
    counted = torch.ones_like(weight) if counted is None else counted.float()
    signal = (weight.square() * counted).flatten(1).sum(1)
    noise = ((weight - rounded).square() * counted).flatten(1).sum(1)
    return (10 * torch.log10(signal / noise.clamp(min=torch.finfo(torch.float32).tiny))).numpy()


def _granularity() -> widgets.Dropdown:
    return choice(_("scales"), {_("one per tensor"): False, _("one per channel"): True}, False)
