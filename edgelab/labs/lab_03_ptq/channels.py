"""Lab 03: one scale for a layer or one for each channel, on a network of depthwise convolutions."""

from collections.abc import Callable, Mapping
from html import escape
from itertools import pairwise

import torch
from torch import nn

from edgelab import data, train
from edgelab.bars import track
from edgelab.explore import plots
from edgelab.explore.html import HtmlTable
from edgelab.i18n import _
from edgelab.quantization import (
    QuantizationConfig,
    calibrate,
    convert,
    correct_bias,
    equalize,
    fold_batchnorm,
    prepare,
    sqnr,
)

Recipe = Callable[[nn.Module, torch.Tensor], nn.Module]
FACTORS = (1, 16, 64, 256)  # how far apart `collapse_plot` pulls the channels


def spread_plot(models: Mapping[str, nn.Module], channel_spread: Callable) -> plots.Picture:
    """Return the learner's `channel_spread` of every convolution of `models`, batch norm folded, layer after layer."""
    with plots.figure() as fig:
        ax = fig.subplots()
        worst = {}
        for number, (name, model) in enumerate(models.items()):
            layers = _folded_convolutions(model)
            spreads = {layer: float(channel_spread(conv.weight.detach())) for layer, conv in layers.items()}
            worst[name] = max(spreads.values())
            places = [place / max(1, len(spreads) - 1) for place in range(len(spreads))]
            colour = plots.COLOURS[number]
            ax.plot(places, list(spreads.values()), color=colour, lw=1, alpha=0.7)
            for depthwise, marker, face in ((False, plots.MARKERS[number], colour), (True, "D", "none")):
                points = [
                    (place, spread)
                    for place, (layer, spread) in zip(places, spreads.items(), strict=True)
                    if _is_depthwise(layers[layer]) == depthwise
                ]
                if points:
                    kind = _("%(model)s, depthwise") if depthwise else "%(model)s"
                    ax.plot(
                        *zip(*points, strict=True), ls="", marker=marker, mec=colour, mfc=face, ms=7,
                        label=kind % {"model": name},
                    )  # fmt: skip
        plots.logarithmic(ax.yaxis, (1, 2, 5))
        ax.set(ylabel=_("largest / median channel range"), xticks=[], xlabel=_("layers, from first to last"))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        words = [f"{name} {spread:.1f}" for name, spread in worst.items()]
        title = _("Largest spread of the channels: %(words)s") % {"words": ", ".join(words)}
        ax.set_title(title)
        return plots.picture(fig, title)


def _folded_convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    folded = fold_batchnorm(model)
    return {name: module for name, module in folded.named_modules() if isinstance(module, nn.Conv2d)}


def _is_depthwise(conv: nn.Conv2d) -> bool:
    return conv.groups == conv.in_channels > 1


def recipes(*, weight_bits: int = 8) -> dict[str, Recipe]:
    """Return ways to quantize a model without training, by name: functions of model and images to a converted model."""
    one, each = (QuantizationConfig(weight_bits=weight_bits, per_channel=each) for each in (False, True))

    def with_cures(config: QuantizationConfig) -> Recipe:
        return lambda model, images: convert(correct_bias(calibrate(prepare(equalize(model), config), images), images))

    return {
        _("per tensor"): lambda model, images: convert(calibrate(prepare(model, one), images)),
        _("per tensor, equalized, biases corrected"): with_cures(one),
        _("per channel"): lambda model, images: convert(calibrate(prepare(model, each), images)),
        _("per channel, equalized, biases corrected"): with_cures(each),
    }


def cure_table(model: nn.Module, images: torch.Tensor, dataset: data.Dataset, *, judges: int = 600) -> HtmlTable:
    """Return the accuracy of `model` in each of `recipes`, with weights of 8 and of 4 bits.

    Calibrated on `images`, judged on the first `judges` test images.
    """
    split = dataset.test[:judges]
    reference = train.predict(fold_batchnorm(model), split)
    rows: dict[str, list[str]] = {name: [] for name in recipes()}
    jobs = [(bits, name, make) for bits in (8, 4) for name, make in recipes(weight_bits=bits).items()]
    for _bits, name, make in track(jobs, _("trying each recipe")):
        logits = train.predict(make(model, images), split)
        rows[name].append(f"{100 * train.accuracy(logits, split):.1f} ({sqnr(reference, logits):.1f} dB)")
    floating = f"{100 * train.accuracy(reference, split):.1f}"
    heads = [_("scales"), _("8-bit weights: accuracy (%)"), _("4-bit weights: accuracy (%)")]
    cells = [[escape(name), *texts] for name, texts in rows.items()]
    return HtmlTable(list(map(escape, heads)), [[escape(_("none: float32")), floating, floating], *cells])


@torch.no_grad()
def unbalanced(model: nn.Module, factor: float) -> nn.Module:
    """Return a copy of a MobileNet that computes the same function with channels up to `factor` times further apart.

    Each channel of a depthwise layer is divided by a number between 1 / sqrt(factor) and sqrt(factor), and the layer
    after it multiplies by the same: the opposite of `equalize`, which also takes the clip of ReLU6 away.
    """
    model, chance = equalize(model), torch.Generator().manual_seed(0)
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    for depthwise, reader in pairwise(convolutions):
        if _is_depthwise(depthwise):
            s = factor ** (torch.rand(depthwise.out_channels, generator=chance) - 0.5)
            depthwise.weight.div_(s.reshape(-1, 1, 1, 1))
            if depthwise.bias is not None:
                depthwise.bias.div_(s)
            reader.weight.mul_(s.reshape(1, -1, 1, 1))
    return model


def collapse_plot(
    model: nn.Module, images: torch.Tensor, dataset: data.Dataset, channel_spread: Callable, *, judges: int = 400
) -> plots.Picture:
    """Return the int8 accuracy of `model` as its channels are pulled apart, over the learner's `channel_spread`.

    The spread is that of the worst layer. Calibrated on `images`, judged on the first `judges` test images.
    """
    split = dataset.test[:judges]
    one, each = QuantizationConfig(per_channel=False), QuantizationConfig()
    ways = {
        _("float32"): lambda network: network,
        _("per tensor"): lambda network: convert(calibrate(prepare(network, one), images)),
        _("per channel"): lambda network: convert(calibrate(prepare(network, each), images)),
        _("per tensor, equalized"): lambda network: convert(calibrate(prepare(equalize(network), one), images)),
    }
    spreads: list[float] = []
    lines: dict[str, list[float]] = {name: [] for name in ways}
    for factor in track(FACTORS, _("pulling channels apart")):
        network = unbalanced(model, factor)
        spreads.append(max(float(channel_spread(c.weight.detach())) for c in _folded_convolutions(network).values()))
        for name, quantized in ways.items():
            lines[name].append(100 * train.evaluate(quantized(network), split))
    with plots.figure() as fig:
        ax = fig.subplots()
        for number, (name, shares) in enumerate(lines.items()):
            colour, marker, line = plots.COLOURS[number], plots.MARKERS[number], ":" if number == 0 else "-"
            ax.plot(spreads, shares, color=colour, marker=marker, ls=line, lw=2, label=name)
        plots.logarithmic(ax.xaxis, (1, 2, 5))
        ax.set(xlabel=_("largest / median channel range, worst layer"), ylabel=_("accuracy (%)"), ylim=(0, 102))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        ends = ", ".join(_("%(name)s %(share).1f %%") % {"name": n, "share": shares[-1]} for n, shares in lines.items())
        title = _("At a spread of %(spread).0f: %(ends)s") % {"spread": spreads[-1], "ends": ends}
        return plots.picture(fig, title)
