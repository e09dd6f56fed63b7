"""Lab 03: one scale for a layer or one for each channel, on a network of depthwise convolutions."""

from collections.abc import Callable, Mapping, Sequence
from html import escape

import torch
from torch import nn

from edgelab import data, train
from edgelab.bars import track
from edgelab.data.loaders import find_fashion_mnist
from edgelab.explore import plots
from edgelab.explore.html import HtmlTable
from edgelab.i18n import _
from edgelab.measure.threads import torch_threads
from edgelab.quantization import (
    QuantizationConfig,
    calibrate,
    convert,
    correct_bias,
    equalize,
    fold_batchnorm,
    prepare,
)

Recipe = Callable[[nn.Module, torch.Tensor], nn.Module]


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
        ax.set(ylabel=_("spread: largest / median channel"), xticks=[], xlabel=_("layers, from first to last"))
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


def folded_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of every convolution of `model` by its name, batch norm folded."""
    return {name: conv.weight.detach() for name, conv in _folded_convolutions(model).items()}


def recipes(blamed: tuple[str, ...] = ()) -> dict[str, Recipe]:
    """Return ways to quantize a model to 8 bits without training, by name: functions of model and images.

    One of them leaves the layers `blamed` in floats.
    """
    one, each = QuantizationConfig(per_channel=False), QuantizationConfig()
    spared = QuantizationConfig(per_channel=False, skip=blamed)

    def plain(config: QuantizationConfig) -> Recipe:
        return lambda model, images: convert(calibrate(prepare(model, config), images))

    def cured(model: nn.Module, images: torch.Tensor) -> nn.Module:
        return convert(correct_bias(calibrate(prepare(equalize(model), one), images), images))

    return {
        _("one scale per tensor"): plain(one),
        _("one scale per tensor, the layers you name in float32"): plain(spared),
        _("one scale per channel"): plain(each),
        _("one scale per tensor, equalized, biases corrected"): cured,
    }


JUDGES = 500
RECORDED = (91.2, 79.6, 91.4, 91.6, 91.4)  # what `accuracies` gives; shown where Fashion-MNIST is not on the machine


@torch_threads(1)
def accuracies(model: nn.Module, dataset: data.Dataset, blamed: tuple[str, ...]) -> list[float]:
    """Return the accuracy of `model` in per cent, in float and by each of `recipes`, on the first test images."""
    images, split = data.normalize(dataset.train.images[:128]), dataset.test[:JUDGES]
    shares = [100 * train.evaluate(fold_batchnorm(model), split)]
    for make in track(recipes(blamed).values(), _("trying each recipe")):
        shares.append(100 * train.evaluate(make(model, images), split))
    return shares


def cure_table(model: nn.Module, blamed: Sequence[str]) -> HtmlTable:
    """Return the accuracy of `model` on Fashion-MNIST in float and by each of `recipes`.

    Without those photographs on the machine it is the accuracy on record, for the layer that is really to blame.
    """
    if find_fashion_mnist() is None:
        shares, head = list(RECORDED), _("accuracy on record (%)")
    else:
        shares, head = accuracies(model, data.load("fashion-mnist"), tuple(blamed)), _("accuracy (%)")
    names = [_("none: float32"), *recipes()]
    rows = [[escape(name), f"{share:.1f}"] for name, share in zip(names, shares, strict=True)]
    return HtmlTable([_("scales"), head], rows)
