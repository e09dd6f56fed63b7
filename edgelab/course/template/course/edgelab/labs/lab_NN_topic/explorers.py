"""Lab NN: a network's layers, by weights and by arithmetic."""

from collections.abc import Callable
from functools import lru_cache, partial
from itertools import accumulate

import torch

from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.measure import LayerCost, layer_costs
from edgelab.measure.threads import torch_threads
from edgelab.models import mobilenet_v1, resnet

LAB = "NN_topic"
MODELS: dict[str, Callable] = {"ResNet": resnet, "MobileNetV1 0.25": partial(mobilenet_v1, 0.25)}
SHOWN = 8


@lru_cache
def layers(model: str) -> list[LayerCost]:
    """Return what each layer of `model` costs for one picture of 32 by 32 pixels: counted once, then remembered."""
    with torch_threads(1):
        return layer_costs(MODELS[model]().eval(), torch.zeros(1, 3, 32, 32))


def shares(model: str, what: str) -> dict[str, float]:
    """Return the share in per cent of each layer of `model` by name; `what` is "params" or "macs". Largest first."""
    amounts = {layer.name: getattr(layer, what) for layer in layers(model)}
    total = sum(amounts.values())
    ordered = sorted(amounts.items(), key=lambda item: -item[1])
    return {name: 100 * amount / total for name, amount in ordered}


def predict_largest() -> Prediction:
    """Return the prediction of the largest layer's share of the weights, in per cent."""
    return predict(LAB, "largest", _("the largest layer holds"), unit="%", low=1, high=100)


def largest_explorer() -> Explorer:
    """Return a chart of the largest layers: choose the model, and whether weights or MACs count."""
    controls = {
        "model": choice(_("model"), list(MODELS)),
        "what": choice(_("count"), {_("weights"): "params", _("MACs"): "macs"}),
    }
    return Explorer(largest_plot, controls)


def largest_plot(model: str, what: str) -> plots.Picture:
    """Return the shares of the largest layers of `model` as bars; `what` is "params" or "macs"."""
    found = shares(model, what)
    shown = dict(list(found.items())[:SHOWN][::-1])
    with plots.figure() as fig:
        ax = fig.subplots()
        bars = ax.barh(list(shown), list(shown.values()), color=plots.BLUE)
        ax.bar_label(bars, fmt="%.1f", padding=3)
        ax.set(xlim=(0, 1.15 * max(shown.values())), xlabel=_("share of the whole network (%)"))
        ax.grid(False, axis="y")
        text = _("%(model)s, %(what)s: %(share).0f %% in the largest of %(n)d layers")
        name = _("weights") if what == "params" else _("MACs")
        title = text % {"model": model, "what": name, "share": max(shown.values()), "n": len(found)}
        ax.set_title(title)
        return plots.picture(fig, title)


def coverage_explorer() -> Explorer:
    """Return how much the first so many layers hold, largest first: choose the model and the percentage to reach."""
    controls = {
        "model": choice(_("model"), list(MODELS)),
        "percent": slider(_("reach"), (10, 25, 50, 75, 90, 95, 99), 50, "%"),
    }
    return Explorer(coverage_plot, controls)


def coverage_plot(model: str, percent: float) -> plots.Picture:
    """Return two curves over the number of layers, of weights and of MACs held, and where they reach `percent`."""
    counts = {}
    with plots.figure() as fig:
        ax = fig.subplots()
        for what, name, colour, style in (
            ("params", _("weights"), plots.BLUE, "-"),
            ("macs", _("MACs"), plots.ORANGE, "--"),
        ):
            held = list(accumulate(shares(model, what).values()))
            counts[what] = layers_needed(held, percent)
            ax.plot(range(1, len(held) + 1), held, color=colour, ls=style, lw=2, label=name)
            ax.plot(counts[what], held[counts[what] - 1], color=colour, marker="o", ms=8)
        ax.axhline(percent, color=plots.INK, lw=1, ls=":")
        ax.set(xlabel=_("layers, largest first"), ylabel=_("share of the whole network (%)"), ylim=(0, 105))
        ax.legend(loc="lower right")
        text = _("%(model)s: %(percent)d %% of the weights in %(weights)d layers, of the MACs in %(macs)d")
        title = text % {"model": model, "percent": percent, "weights": counts["params"], "macs": counts["macs"]}
        ax.set_title(title)
        return plots.picture(fig, title)


def layers_needed(held: list[float], percent: float) -> int:
    """Return how many layers it takes to hold `percent`, where `held` says what the first so many layers hold.

    >>> layers_needed([50, 75, 90, 100], 75)
    2
    """
    return next((count for count, reached in enumerate(held, start=1) if reached >= percent), len(held))
