"""How many channels to remove, and of which group: by a ratio, down to so many MACs, or down to so many milliseconds.

Each of the three chooses: it returns numbers of channels by group, which `remove_channels` takes.
"""

import copy
import math
from collections.abc import Callable, Collection, Mapping
from itertools import accumulate
from typing import Any

import torch
from torch import fx, nn

from edgelab import data
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.measure import layer_costs
from edgelab.pruning.channels import IN, OUT
from edgelab.pruning.dependency import Dependencies, find_dependencies
from edgelab.pruning.importance import Scores, channel_importance
from edgelab.pruning.surgery import remove_channels, shrink_layer

Price = Callable[[str, int, int], float]  # of a layer by its name, with so many outputs and inputs left
TimeLayer = Callable[[nn.Module, torch.Tensor], float]  # the ms of one layer on an input, wherever it is to run


def prune_channels(
    model: nn.Module,
    example: torch.Tensor,
    ratio: float,
    *,
    criterion: str = "l1",
    split: data.Split | None = None,
    scope: str = "layer",
    round_to: int = 1,
    keep: Collection[str] = (),
) -> fx.GraphModule:
    """Return a smaller copy of `model` without a fraction `ratio` of its channels: the three steps in one call.

    `example` is one image `(1, C, H, W)`. The parameters are those of `channel_importance` and `choose_ratio`. What
    comes back needs fine-tuning.
    """
    dependencies = find_dependencies(model, example)
    scores = channel_importance(dependencies, criterion, split)
    channels = choose_ratio(dependencies, scores, ratio, scope=scope, round_to=round_to, keep=keep)
    return remove_channels(dependencies, channels)


def keep_count(size: int, ratio: float, round_to: int = 1) -> int:
    """Return how many of `size` channels stay: `1 - ratio` of them, to the nearest multiple of `round_to` above 0.

    >>> keep_count(64, 0.3), keep_count(64, 0.3, round_to=8), keep_count(64, 0.99, round_to=8), keep_count(6, 0.5, 8)
    (45, 48, 8, 6)
    """
    multiple = round_to * max(1, round((1 - ratio) * size / round_to))
    return min(size, multiple)


def choose_ratio(
    dependencies: Dependencies,
    scores: Scores,
    ratio: float,
    *,
    scope: str = "layer",
    round_to: int = 1,
    keep: Collection[str] = (),
) -> dict[str, list[int]]:
    """Return the least important channels: a fraction `ratio` of each group, or of all of them together.

    With `scope="global"` the groups share one threshold, so that some lose more than others; scores must be comparable.
    What stays of a group leaves its layers a multiple of `round_to` channels, where they have as many; where layers see
    only parts of a group, as in ShuffleNet, the group itself is left a multiple. `keep` names layers: what any of them
    makes stays whole, its group with it.

    Raise `EdgelabError` for a ratio outside of 0 to 1, an unknown scope, and an unknown name in `keep`.
    """
    if not 0 <= ratio < 1:
        raise EdgelabError(_("The ratio is a fraction of the channels, from 0 to below 1, not %(n)s.") % {"n": ratio})
    choice = _Choice(dependencies, scores, round_to, keep)
    if scope == "global":
        every = torch.cat([scores[name] for name in choice.order])
        threshold = every.sort().values[int(ratio * len(every))]
        ratios = {name: float((scores[name] < threshold).float().mean()) for name in choice.order}
    elif scope == "layer":
        ratios = dict.fromkeys(choice.order, ratio)
    else:
        raise EdgelabError(_("The scope is layer or global, not %(scope)r.") % {"scope": scope})
    for name, share in ratios.items():
        size = len(dependencies.groups[name])
        choice.remove(name, size - keep_count(size, share, choice.multiple[name]))
    return choice.channels()


def choose_macs(
    dependencies: Dependencies,
    scores: Scores,
    macs: float,
    *,
    scope: str = "global",
    round_to: int = 8,
    keep: Collection[str] = (),
) -> dict[str, list[int]]:
    """Return channels without which the model does at most `macs` multiply-accumulates for the example.

    With `scope="global"`, step by step, `round_to` channels of the group that loses least for each MAC that it saves.
    A loss is the share of importance that the group still had: so no group is emptied because its scores are small.
    With `scope="layer"` all groups lose the same fraction, the smallest in per cent that will do. Raise `EdgelabError`
    where even the smallest model does more.
    """
    price = macs_of_layers(dependencies)
    if scope == "layer":
        for percent in range(100):
            channels = choose_ratio(dependencies, scores, percent / 100, round_to=round_to, keep=keep)
            left = {slot: int((~gone).sum()) for slot, gone in dependencies.removed(channels).items()}
            if sum(price(name, left[name, OUT], left[name, IN]) for name in _weighted(left)) <= macs:
                return channels
    return _go_down(_Choice(dependencies, scores, round_to, keep), price, macs, _("%(n).0f MACs"))


def macs_of_layers(dependencies: Dependencies) -> Price:
    """Return the price in MACs: a layer does them as often for each weight as it did with all of its channels."""
    costs = {layer.name: layer.macs for layer in layer_costs(dependencies.model, dependencies.example)}

    def price(name: str, outputs: int, inputs: int) -> float:
        layer: Any = dependencies.model.get_submodule(name)
        share = outputs / len(dependencies.slots[name, OUT])
        if not _is_depthwise(layer):
            share *= inputs / len(dependencies.slots[name, IN])
        return costs.get(name, 0) * share

    return price


class LayerTimes:
    """The table of layer times: the ms of each layer at a few widths, measured when they are first asked for.

    `time_layer(layer, image)` measures one layer where the model is to run; `edgelab.deploy.time_layer` does it in ONNX
    Runtime. Widths are quarters of a layer's own, rounded up to a multiple of 8; between them, times are interpolated.
    With `whole_ms`, the measured time of the whole model, all are scaled so that they add up to it: what lies between
    the layers is taken to shrink as they do.
    """

    def __init__(self, dependencies: Dependencies, time_layer: TimeLayer, whole_ms: float | None = None):
        self._dependencies, self._time_layer = dependencies, time_layer
        self.table: dict[tuple, float] = {}
        self.scale = 1.0
        if whole_ms is not None:
            self.scale = whole_ms / self.predict({})

    def __call__(self, name: str, outputs: int, inputs: int) -> float:
        """Return the ms of the layer `name` with so many outputs and inputs."""
        whole = [len(self._dependencies.slots[name, direction]) for direction in (OUT, IN)]
        if _is_depthwise(self._dependencies.model.get_submodule(name)):
            each = whole[0] // whole[1]
            corners = [(part, each * width, width) for width, part in _around(whole[1], inputs)]
        else:
            corners = [
                (part * share, wide, deep)
                for wide, part in _around(whole[0], outputs)
                for deep, share in _around(whole[1], inputs)
            ]
        return self.scale * sum(part * self._measured(name, wide, deep) for part, wide, deep in corners)

    def _measured(self, name: str, outputs: int, inputs: int) -> float:
        """Return the ms of a layer with so many outputs and inputs from the table; layers of one kind share a row."""
        layer: Any = self._dependencies.model.get_submodule(name)
        dim, shape = -1 if isinstance(layer, nn.Linear) else 1, list(self._dependencies.shapes[name])
        options = [getattr(layer, key, None) for key in ("kernel_size", "stride", "padding", "dilation", "groups")]
        key = (type(layer), outputs, inputs, *map(str, options), *shape[2:])
        if key not in self.table:
            smaller = copy.deepcopy(layer)
            groups = 1 if _is_depthwise(layer) else getattr(layer, "groups", 1)
            kept = []
            for direction, count in ((OUT, outputs), (IN, inputs)):
                size = len(self._dependencies.slots[name, direction])
                kept.append(torch.arange(size) % (size // groups) < max(1, count // groups))
            shrink_layer(smaller, *kept)
            shape[dim] = int(kept[1].sum())
            self.table[key] = self._time_layer(smaller, torch.rand(shape))
        return self.table[key]

    def predict(self, channels: Mapping[str, Collection[int]]) -> float:
        """Return the ms that the model should take without these channels."""
        left = {slot: int((~gone).sum()) for slot, gone in self._dependencies.removed(_lists(channels)).items()}
        return sum(self(name, left[name, OUT], left[name, IN]) for name in _weighted(left))


def choose_latency(
    dependencies: Dependencies,
    scores: Scores,
    ms: float,
    times: LayerTimes,
    *,
    round_to: int = 8,
    keep: Collection[str] = (),
) -> dict[str, list[int]]:
    """Return channels without which the model should take at most `ms`, by the table of layer times.

    As `choose_macs`, with milliseconds for MACs: a knapsack filled greedily (as in Shen et al., 2022, "HALP"). Where
    one step saves no time, because both widths stand on the same stair, several at once are tried. Raise `EdgelabError`
    where even the smallest model takes longer. The sum of layers is an estimate: measure the model that comes out.
    """
    return _go_down(_Choice(dependencies, scores, round_to, keep), times, ms, _("%(n).3g ms"))


def _loss(scores: torch.Tensor) -> torch.Tensor:
    """Return -log of the share of a group's importance that is left after its first n channels, for n from 0."""
    share = 1 - scores.double().cumsum(0) / scores.double().sum().clamp_min(1e-30)
    return -torch.cat([torch.ones(1, dtype=torch.double), share]).clamp_min(1e-12).log()


_TRIED = 4  # steps ahead: one may save no time, where both widths stand on the same stair


class _Choice:
    """How many channels of each group are to go, the least important first, and what that leaves of each layer."""

    def __init__(self, dependencies: Dependencies, scores: Scores, round_to: int, keep: Collection[str]):
        if round_to < 1:
            raise EdgelabError(_("round_to is 1 or more, not %(n)s.") % {"n": round_to})
        if unknown := {name for name in keep if not dependencies.made_by(name)}:
            raise EdgelabError(_("There is no layer %(name)s to keep.") % {"name": ", ".join(sorted(unknown))})
        whole = {group.name for name in keep for group in dependencies.made_by(name) if not group.why}
        self.dependencies = dependencies
        self.order = {
            name: scores[name].argsort(stable=True).tolist() for name in dependencies.groups if name not in whole
        }
        # A channel of a group may be several of a layer: one of each group of a grouped convolution.
        self.multiple = {
            name: round_to // math.gcd(round_to, *(len(some) for one in group.members for some in one.indices))
            for name, group in dependencies.groups.items()
        }
        self.loss = {name: _loss(scores[name][order]) for name, order in self.order.items()}
        # How many outputs or inputs each layer loses with the first n channels of a group.
        self.lost = {
            name: {
                (member.layer, member.direction): list(
                    accumulate((len(member.indices[channel]) for channel in order), initial=0)
                )
                for member in dependencies.groups[name].members
            }
            for name, order in self.order.items()
        }
        self.gone = dict.fromkeys(self.order, 0)
        self.left = {slot: len(names) for slot, names in dependencies.slots.items()}

    def steps(self, name: str) -> list[int]:
        """Return how many channels a group can lose next: so many that a multiple of its own stays, and not none."""
        size, gone, multiple = len(self.order[name]), self.gone[name], self.multiple[name]
        multiples = range((size - gone - 1) // multiple * multiple, 0, -multiple)
        return [size - gone - left for left in multiples]

    def after(self, name: str, count: int) -> dict[tuple[str, str], int]:
        """Return what is left of each layer of a group when it loses `count` more channels."""
        first, last = self.gone[name], self.gone[name] + count
        return {slot: self.left[slot] - (lost[last] - lost[first]) for slot, lost in self.lost[name].items()}

    def remove(self, name: str, count: int) -> None:
        """Remove `count` more channels of a group, as far as every layer keeps one."""
        while count > 0 and min(self.after(name, count).values()) < 1:
            count -= 1
        self.left |= self.after(name, count)
        self.gone[name] += count

    def channels(self) -> dict[str, list[int]]:
        """Return the channels that go, by group."""
        return {name: sorted(order[: self.gone[name]]) for name, order in self.order.items() if self.gone[name]}


def _go_down(choice: _Choice, price: Price, target: float, unit: str) -> dict[str, list[int]]:
    """Remove channels until the prices of all layers come to `target` at most."""
    total = sum(price(name, choice.left[name, OUT], choice.left[name, IN]) for name in _weighted(choice.left))
    while total > target:
        best: tuple[float, float, str, int] | None = None
        for name in choice.order:
            for count in choice.steps(name)[:_TRIED]:
                after = choice.after(name, count)
                if min(after.values()) < 1:
                    break
                left = choice.left | after
                saved = sum(
                    price(layer, choice.left[layer, OUT], choice.left[layer, IN])
                    - price(layer, left[layer, OUT], left[layer, IN])
                    for layer in {layer for layer, _direction in after if (layer, IN) in left}
                )
                if saved > 0:
                    gone = choice.gone[name]
                    lost = float(choice.loss[name][gone + count] - choice.loss[name][gone])
                    rate = lost / min(saved, total - target)  # more than is still asked for is worth nothing
                    if best is None or rate < best[0]:
                        best = (rate, saved, name, count)
        if best is None:
            raise EdgelabError(
                _("The target %(target)s cannot be reached: what is left takes %(least)s at least.")
                % {"target": unit % {"n": target}, "least": unit % {"n": total}}
            )
        choice.remove(best[2], best[3])
        total -= best[1]
    return choice.channels()


def _around(size: int, count: int) -> list[tuple[int, float]]:
    """Return the widths in the table next to `count` of `size` channels, each with its part in the interpolation.

    >>> _around(64, 40), _around(64, 48), _around(64, 8)
    ([(32, 0.5), (48, 0.5)], [(48, 1.0)], [(16, 0.5)])
    """
    grid = sorted({min(size, -(-size * quarters // 32) * 8) for quarters in range(1, 5)})
    above = next(width for width in grid if width >= count)
    below = max((width for width in grid if width < above), default=0)
    part = (count - below) / (above - below)
    return [(width, share) for width, share in ((below, 1 - part), (above, part)) if width and share]


def _is_depthwise(layer: Any) -> bool:
    return getattr(layer, "groups", 1) == getattr(layer, "in_channels", 1) > 1


def _weighted(left: Mapping[tuple[str, str], int]) -> list[str]:
    """Return the layers that multiply: those that have inputs as well as outputs."""
    return [layer for layer, direction in left if direction == IN]


def _lists(channels: Mapping[str, Collection[int]]) -> dict[str, list[int]]:
    return {name: list(some) for name, some in channels.items()}
