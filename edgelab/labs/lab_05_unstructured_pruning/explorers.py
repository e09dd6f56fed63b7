"""Lab 05: how many weights can go, by scope and by layer, without any training."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from edgelab import data
from edgelab.bars import track
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.pruning import apply_masks, choose_masks, prunable, random, remove_masks, sensitivity
from edgelab.train import accuracy
from edgelab.train import predict as logits_of

LAB = "05_unstructured_pruning"
SPARSITIES = (0.5, 0.7, 0.8, 0.9)
LAYER_SPARSITIES = (0.5, 0.8, 0.95)


def predict_free() -> Prediction:
    """Return the prediction of the share of weights that can go at the cost of five points, in per cent."""
    return predict(LAB, "free", _("weights that can go for five points"), unit="%", low=1, high=100)


def weights_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of every convolution and linear layer of `model` by its name."""
    return {name: layer.weight.detach() for name, layer in prunable(model).items()}


@dataclass
class Scan:
    """A model pruned without training, to every one of `SPARSITIES`, by three ways to choose.

    `accuracy[way, sparsity]` is in [0, 1], on the test images of `exam`; the ways are "global", "layer" and "random",
    and `accuracy["", 0]` is that of the whole model. `zeros[way, sparsity]` has the share of zeros of each layer.
    """

    model: nn.Module
    exam: data.Split
    accuracy: dict[tuple[str, float], float] = field(default_factory=dict)
    zeros: dict[tuple[str, float], dict[str, float]] = field(default_factory=dict)

    def free(self, points: float = 5.0) -> float:
        """Return how many per cent of all weights, the smallest first, can go at a loss of `points` or less.

        Between two of the sparsities it is read off the straight line.
        """
        least = self.accuracy["", 0] - points / 100
        before, held = 0.0, self.accuracy["", 0]
        for sparsity in SPARSITIES:
            share = self.accuracy["global", sparsity]
            if share < least:
                return 100 * (before + (sparsity - before) * (held - least) / (held - share))
            before, held = sparsity, share
        return 100 * before


def scan(model: nn.Module, exam: data.Split, layer_mask: Callable, global_masks: Callable) -> Scan:
    """Return the `Scan` of `model`: the learner's functions choose, and so does chance."""
    found, weights = Scan(model, exam), weights_of(model)
    found.accuracy["", 0] = accuracy(logits_of(model, exam), exam)
    ways: dict[str, Callable[[float], Mapping[str, torch.Tensor]]] = {
        "global": lambda sparsity: global_masks(weights, sparsity),
        "layer": lambda sparsity: {name: layer_mask(weight, sparsity) for name, weight in weights.items()},
        "random": lambda sparsity: choose_masks(random(model), sparsity),
    }
    pairs = [(way, sparsity) for sparsity in SPARSITIES for way in ways]
    for way, sparsity in track(pairs, _("pruning and looking")):
        pruned = apply_masks(copy.deepcopy(model), ways[way](sparsity))
        layers = prunable(pruned).items()
        found.zeros[way, sparsity] = {name: float((layer.weight == 0).float().mean()) for name, layer in layers}
        found.accuracy[way, sparsity] = accuracy(logits_of(remove_masks(pruned), exam), exam)
    return found


def way_name(way: str) -> str:
    """Return what a learner reads for one of the three ways, in their language."""
    names = {
        "global": _("smallest of all weights"),
        "layer": _("smallest of each layer"),
        "random": _("at random"),
    }
    return names[way]


def scan_explorer(found: Scan) -> Explorer:
    """Return the weights that stay, and the accuracy that is left: choose the sparsity and the way."""
    ways = ("global", "layer", "random")
    controls = {
        "way": choice(_("which go"), {way_name(way): way for way in ways}),
        "percent": slider(_("zeros"), tuple(round(100 * sparsity) for sparsity in SPARSITIES), 50, "%"),
    }
    weights = Histogram.of(weights_of(found.model))
    return Explorer(lambda way, percent: scan_plot(found, weights, way, percent / 100), controls)


@dataclass(frozen=True)
class Histogram:
    """All weights of a model: how many lie between each two of `edges`, and the magnitude below which a share lies."""

    counts: torch.Tensor
    edges: torch.Tensor
    thresholds: Mapping[float, float]

    @classmethod
    def of(cls, weights: Mapping[str, torch.Tensor]) -> "Histogram":
        """Return the histogram of `weights`, of which the most distant ones are left out."""
        every = torch.cat([weight.flatten() for weight in weights.values()])
        ordered = every.abs().sort().values
        reach = float(ordered[int(0.995 * len(ordered))])
        counts, edges = torch.histogram(every, 61, range=(-reach, reach))
        thresholds = {sparsity: float(ordered[round(sparsity * len(ordered)) - 1]) for sparsity in SPARSITIES}
        return cls(counts, edges, thresholds)


def scan_plot(found: Scan, weights: Histogram, way: str, sparsity: float) -> plots.Picture:
    """Return a histogram of the weights with those that go, the zeros of each layer, and accuracy over sparsity."""
    with plots.figure(width=9, height=3.4) as fig:
        fig.set_layout_engine("none")  # to lay out three of them takes as long as to draw them
        left, middle, right = (fig.add_axes((x, 0.14, 0.23, 0.63)) for x in (0.035, 0.42, 0.755))
        left.stairs(weights.counts.numpy(), weights.edges.numpy(), fill=True, color=plots.SKY, alpha=0.6)
        if way == "global":
            threshold = weights.thresholds[sparsity]
            left.axvspan(-threshold, threshold, color=plots.VERMILION, alpha=0.2, hatch="///")
        left.set(xlabel=_("weight"), ylabel=_("number of weights"), yticks=[])
        zeros = found.zeros[way, sparsity]
        middle.barh(range(len(zeros)), [100 * share for share in zeros.values()], color=plots.SKY, ec=plots.INK, lw=0.6)
        middle.set_yticks(range(len(zeros)), list(zeros), fontsize="x-small")
        middle.invert_yaxis()
        middle.grid(False, axis="y")
        middle.set(xlim=(0, 100), xlabel=_("zeros in each layer (%)"))
        for place, name in enumerate(("global", "layer", "random")):
            line = [100 * found.accuracy[name, one] for one in SPARSITIES]
            right.plot(
                [100 * one for one in SPARSITIES], line, color=plots.COLOURS[place], marker=plots.MARKERS[place],
                lw=3 if name == way else 1.2, label=way_name(name),
            )  # fmt: skip
        right.axhline(100 * found.accuracy["", 0], color=plots.INK, ls="--", lw=1)
        right.axvline(100 * sparsity, color=plots.INK, ls=":", lw=1)
        right.set(xlabel=_("zeros (%)"), ylabel=_("accuracy (%); dashed: dense"), ylim=(0, 102))
        for ax in (left, middle):
            ax.locator_params(axis="x", nbins=4)
        right.locator_params(nbins=4)
        right.legend(loc="lower center", bbox_to_anchor=(0.5, 1), fontsize="x-small")
        text = _("%(way)s, %(zeros)d %% zeros: accuracy %(share).1f %% (dense %(dense).1f %%)")
        shares = {"share": 100 * found.accuracy[way, sparsity], "dense": 100 * found.accuracy["", 0]}
        title = text % {"way": way_name(way), "zeros": round(100 * sparsity), **shares}
        fig.suptitle(title, x=0.01, ha="left", fontsize="medium")
        return plots.picture(fig, title.replace("\n", ". "))


def layer_scan(model: nn.Module, images: torch.Tensor) -> dict[str, dict[float, float]]:
    """Return, by layer and sparsity, the share of `images` that get another answer when that layer alone is pruned."""
    with torch.inference_mode():
        answers = model(images).argmax(1)

        def changed(pruned: nn.Module) -> float:
            return float((pruned(images).argmax(1) != answers).float().mean())

        return sensitivity(model, changed, LAYER_SPARSITIES)


def layer_explorer(model: nn.Module, images: torch.Tensor) -> Explorer:
    """Return a map of the layers over sparsity: how many answers change. A slider marks what one is ready to lose."""
    found = layer_scan(model, images)
    sizes = {name: weight.numel() for name, weight in weights_of(model).items()}
    controls = {"percent": slider(_("answers that may change"), (5, 10, 20), 5, "%")}
    return Explorer(lambda percent: layer_plot(found, sizes, percent / 100), controls)


def layer_plot(found: Mapping[str, Mapping[float, float]], sizes: Mapping[str, int], allowed: float) -> plots.Picture:
    """Return a cell for each layer and sparsity with the answers that change in per cent; hatched where too many."""
    total = sum(sizes.values())
    with plots.figure(width=7.6, height=0.9 + 0.34 * len(found)) as fig:
        ax = fig.subplots()
        borne = {}
        for row, (name, scores) in enumerate(found.items()):
            bearable = [sparsity for sparsity, share in scores.items() if share <= allowed]
            borne[name] = max(bearable, default=0.0)
            for column, share in enumerate(scores.values()):
                bad = share > allowed
                ax.barh(
                    row, 0.96, left=column, height=0.9, color=plots.VERMILION, alpha=0.12 + 0.8 * min(1.0, share / 0.5),
                    hatch="///" if bad else "", ec=plots.INK, lw=0.4,
                )  # fmt: skip
                number = ax.text(column + 0.48, row, f"{100 * share:.0f}", ha="center", va="center")
                if bad:  # a number does not read on hatching
                    number.set(color="black", bbox={"fc": plots.ORANGE, "ec": "none", "pad": 1.5})
            ax.text(
                len(scores) + 0.1,
                row,
                _("%(share).1f %% of the weights") % {"share": 100 * sizes[name] / total},
                va="center",
            )
        columns = next(iter(found.values()))
        ax.set_xticks([column + 0.48 for column in range(len(columns))], [f"{100 * one:.0f} %" for one in columns])
        ax.set_yticks(range(len(found)), list(found))
        ax.set(xlabel=_("zeros in this layer alone"), xlim=(0, len(columns) + 1.5))
        ax.invert_yaxis()
        ax.grid(False)
        going = sum(borne[name] * size for name, size in sizes.items()) / total
        text = _(
            "answers that change (%%); hatched: more than %(allowed)d %%\n"
            "Each layer alone, %(going)d %% of all weights could go"
        )
        title = text % {"allowed": round(100 * allowed), "going": round(100 * going)}
        ax.set_title(title)
        return plots.picture(fig, title.replace("\n", ". "))
