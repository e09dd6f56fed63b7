"""What channels buy and what they cost: criteria side by side, MACs beside milliseconds, and a little training."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape

import torch
from torch import nn

from edgelab import data, train
from edgelab.bars import track
from edgelab.deploy import Runner, time_layer
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.explore.html import HtmlTable
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import N_, _, named
from edgelab.measure import compare_latency, count_macs
from edgelab.measure.threads import torch_threads
from edgelab.numbers import mean_and_range, number
from edgelab.pruning import Dependencies, LayerTimes, channel_importance, choose_ratio, remove_channels
from edgelab.pruning.channels import OUT
from edgelab.pruning.targets import macs_of_layers

LAB = "06_structured_pruning"
RUNS = (
    N_("half of the MACs"),
    N_("half of the time"),
    N_("64 channels"),
    N_("63 channels"),
)  # as the lab's code names them
DRAWS = 5  # of the control that chooses channels at random
LEFT = (4, 3, 2, 1)  # quarters of a group's channels: the widths of the table


def predict_half() -> Prediction:
    """Return the prediction of how many times faster the model is with half of its MACs."""
    return predict(LAB, "half-the-macs", _("times faster"), unit="×", low=0.5, high=32)


def slopes(
    dependencies: Dependencies, split: data.Split, layers: Sequence[str]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return by layer its weight, and the gradient of the loss on `split` with respect to it."""
    model = dependencies.model
    weights = [model.get_parameter(f"{layer}.weight") for layer in layers]
    loss = nn.functional.cross_entropy(model(data.normalize(split.images)), split.labels)
    gradients = torch.autograd.grad(loss, weights)
    return {
        layer: (weight.detach().clone(), gradient)
        for layer, weight, gradient in zip(layers, weights, gradients, strict=True)
    }


@torch_threads(1)
def criterion_table(
    dependencies: Dependencies, taylor: Callable, lessons: data.Split, exam: data.Split, ratio: float = 0.25
) -> HtmlTable:
    """Return the accuracy without training after `ratio` of each group has gone, by criterion; `taylor` is a learner's.

    That one is asked about the first convolution of each group. Chance draws `DRAWS` times: its row has the mean, the
    smallest and the largest.
    """
    known = slopes(dependencies, lessons, list(dependencies.groups))
    mine = {name: torch.as_tensor(taylor(*given)).detach() for name, given in known.items()}
    chance = [channel_importance(dependencies, "random", seed=seed) for seed in range(DRAWS)]
    rows: dict[str, list] = {
        _("none: the whole model"): [None],
        _("your first-order Taylor"): [mine],
        _("Taylor of the batch norm's γ and β"): [channel_importance(dependencies, "taylor", lessons)],
        _("L1 norm of the filter"): [channel_importance(dependencies, "l1")],
        _("scale of the batch norm"): [channel_importance(dependencies, "bn-scale")],
        _("at random, draws: %(n)d") % {"n": DRAWS}: chance,
    }
    lines = []
    for name, every in track(rows.items(), _("trying each criterion")):
        models = [
            dependencies.model
            if scores is None
            else remove_channels(dependencies, choose_ratio(dependencies, scores, ratio))
            for scores in every
        ]
        found = [100 * train.evaluate(model, exam) for model in models]
        lines.append([escape(name), mean_and_range(found, ".1f")])
    return HtmlTable([_("criterion"), _("accuracy (%)")], lines)


def quick_times(dependencies: Dependencies, whole_ms: float) -> LayerTimes:
    """Return the table of layer times in ONNX Runtime, two hundredths of a second for each."""
    return LayerTimes(dependencies, partial(time_layer, max_seconds=0.02), whole_ms)


def trade_grid(dependencies: Dependencies, times: LayerTimes) -> dict[str, dict[int, tuple[float, float]]]:
    """Return by group and quarters left: the model's MACs, and its ms by the table, both as parts of the whole."""
    price = macs_of_layers(dependencies)
    grid: dict[str, dict[int, tuple[float, float]]] = {}
    whole: tuple[float, float] | None = None
    for name, group in track(dependencies.groups.items(), _("measuring layers")):
        for quarters in LEFT:
            channels = {name: range(round(len(group) * (4 - quarters) / 4))}
            left = {slot: int((~gone).sum()) for slot, gone in dependencies.removed(channels).items()}
            macs = sum(price(layer, left[layer, OUT], left[layer, side]) for layer, side in left if side != OUT)
            here = (macs, times.predict(channels))
            whole = whole or here
            grid.setdefault(name, {})[quarters] = (here[0] / whole[0], here[1] / whole[1])
    return grid


def trade_explorer(grid: Mapping[str, Mapping[int, tuple[float, float]]], sizes: Mapping[str, int]) -> Explorer:
    """Return MACs and ms of the model over the channels that are left of one group, all others whole."""
    controls = {"group": choice(_("group"), list(grid)), "quarters": slider(_("quarters left"), LEFT[::-1], 2)}
    return Explorer(lambda group, quarters: trade_plot(grid, sizes, group, quarters), controls)


def trade_plot(
    grid: Mapping[str, Mapping[int, tuple[float, float]]], sizes: Mapping[str, int], group: str, quarters: int
) -> plots.Picture:
    """Return the two curves for one group, with one place marked."""
    points = grid[group]
    counts = [round(sizes[group] * some / 4) for some in points]
    with plots.figure(height=3.4) as fig:
        ax = fig.subplots()
        labels = ((0, _("MACs"), plots.BLUE, "o"), (1, _("milliseconds"), plots.VERMILION, "s"))
        for place, label, colour, marker in labels:
            ax.plot(counts, [100 * pair[place] for pair in points.values()], color=colour, marker=marker, label=label)
        ax.axvline(round(sizes[group] * quarters / 4), color=plots.INK, ls=":", lw=1)
        ax.set(xlabel=_("channels left in the group"), ylabel=_("of the whole model (%)"))
        ax.legend(loc="lower right")
        macs, ms = points[quarters]
        title = _("%(group)s, %(n)d of %(size)d channels: %(macs).0f %% of the MACs, %(ms).0f %% of the time") % {
            "group": group,
            "n": round(sizes[group] * quarters / 4),
            "size": sizes[group],
            "macs": 100 * macs,
            "ms": 100 * ms,
        }
        ax.set_title(title)
        return plots.picture(fig, title)


def fine_tune(model: nn.Module, lessons: data.Split) -> nn.Module:
    """Train a pruned model for two short passes over `lessons` and return it; a finished training is remembered."""
    with train.remembering("models"):
        train.fit(model, lessons, epochs=2, lr=0.03, batch_size=64)
    return model


def outcome_table(
    models: Mapping[str, tuple[nn.Module, Callable[[], object]]],
    exam: data.Split,
    image: torch.Tensor,
    predicted_ms: Mapping[str, float],
) -> HtmlTable:
    """Return MACs, ms in turns with the first model, ms by the table of layer times, and accuracy of some models.

    `models` holds each as (module, what runs it once); the first is what the others are compared with.
    """
    first = next(iter(models))
    rows = []
    for name, (model, run) in track(models.items(), _("racing")):
        cells = [f"{count_macs(model, image) / 1e6:.0f}"]
        if name == first:
            cells += ["1", "–"]
        else:
            race = compare_latency({first: models[first][1], name: run}, blocks=16, max_seconds=3)
            cells += [f"{race.ratio:.2f} ({race.low:.2f}–{race.high:.2f})"]
            cells += [f"{predicted_ms[first] / predicted_ms[name]:.2f}" if name in predicted_ms else "–"]
        rows.append([escape(named(name)), *cells, f"{100 * train.evaluate(model, exam):.1f}"])
    heads = [_("model"), _("MACs (M)"), _("times faster"), _("times faster, by the table"), _("accuracy (%)")]
    return HtmlTable(list(map(escape, heads)), rows)


def accuracy_of(file: str, split: data.Split) -> float:
    """Return the accuracy of an ONNX file, in [0, 1]."""
    return train.evaluate(Runner.open(file, threads=torch.get_num_threads()), split)


def counts(channels: Mapping[str, Sequence[int]], dependencies: Dependencies) -> HtmlTable:
    """Return how many channels of each group stay."""
    rows = [
        [f"<code>{escape(name)}</code>", number(len(group)), number(len(group) - len(channels.get(name, ())))]
        for name, group in dependencies.groups.items()
    ]
    return HtmlTable([_("group"), _("channels before"), _("channels left")], rows)
