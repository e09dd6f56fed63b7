"""Which channels can only go together, and which cannot go at all: dependency groups.

Remove a filter, and a channel is missing from all that reads it. Where its output is added to another one, that other
filter must go too, and so on along the shortcut. Such a set is a group (Fang et al., 2023, "DepGraph"). Here the graph
is asked for them: see `edgelab.pruning.channels`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from edgelab.data.inputs import as_input, run_on
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.pruning.channels import IN, OUT, Follower
from edgelab.pruning.names import FIXED
from edgelab.tracing import remember, trace, verify


@dataclass(frozen=True)
class Member:
    """What a layer loses with a group: `indices[c]` of its outputs or inputs (`direction`, "out" or "in") go with c.

    They are several for one channel where the layer reads it in several places, as behind a flatten.
    """

    layer: str
    direction: str
    indices: tuple[tuple[int, ...], ...]

    def __str__(self) -> str:
        """Return the member as `(layer, direction, indices)`."""
        return f"({self.layer}, {self.direction}, {_ranges(sorted({i for some in self.indices for i in some}))})"


@dataclass(frozen=True)
class Group:
    """Channels that live in the same layers: any of them may go, each out of all `members` at once.

    `why` is empty, or says in the learner's language why none of them may.
    """

    name: str
    members: tuple[Member, ...]
    why: str = ""

    def __len__(self) -> int:
        return len(self.members[0].indices)

    def __str__(self) -> str:
        """Return a line for the group and one for each member."""
        head = _("%(name)s: %(n)d channels") % {"name": self.name, "n": len(self)}
        if self.why:
            head += " (" + _("they stay: %(why)s") % {"why": self.why} + ")"
        return "\n".join([head, *(f"  {member}" for member in self.members)])


@dataclass(frozen=True)
class Dependencies:
    """A traced model and its groups, by the name of the first layer that makes their channels, in order of execution.

    `groups` holds those of which channels may go, `kept` those that must stay. `slots[layer, direction]` is the name of
    each output or input of a layer, equal where channels are tied; `shapes[layer]` is the shape of its input.
    """

    model: fx.GraphModule
    example: torch.Tensor
    groups: Mapping[str, Group]
    kept: Mapping[str, Group]
    slots: Mapping[tuple[str, str], torch.Tensor]
    shapes: Mapping[str, torch.Size]
    at: Mapping[str, Any]
    numbers: Mapping[str, Any]

    def __str__(self) -> str:
        """Return all groups, those that must stay last."""
        return "\n".join(map(str, [*self.groups.values(), *self.kept.values()]))

    def removed(self, channels: Mapping[str, Sequence[int]]) -> dict[tuple[str, str], torch.Tensor]:
        """Return which outputs and inputs, as a boolean for each slot, go with these channels of these groups.

        Raise `EdgelabError` for a group that must stay, saying why; for an unknown name or number; and where a layer
        would lose all that it makes or reads.
        """
        for name, some in channels.items():
            if name not in self.groups:
                raise EdgelabError(self._refusal(name))
            if wrong := [index for index in some if not 0 <= index < len(self.groups[name])]:
                raise EdgelabError(
                    _("Group %(name)s has the channels 0 to %(last)d, and no %(wrong)s.")
                    % {"name": name, "last": len(self.groups[name]) - 1, "wrong": wrong[0]}
                )
        gone = self.gone(channels)
        found = {slot: gone[names] for slot, names in self.slots.items()}
        for (layer, _direction), mask in found.items():
            if bool(mask.all()):
                raise EdgelabError(_("%(layer)s would lose all its channels: leave at least one.") % {"layer": layer})
        return found

    def gone(self, channels: Mapping[str, Sequence[int]]) -> torch.Tensor:
        """Return for each name whether it goes with these channels of these groups."""
        gone = torch.zeros(1 + max(int(names.max()) for names in self.slots.values()), dtype=torch.bool)
        for name, some in channels.items():
            first = self.groups[name].members[0]
            places = [first.indices[index][0] for index in some]
            gone[self.slots[first.layer, first.direction][places]] = True
        return gone

    def made_by(self, name: str) -> list[Group]:
        """Return the groups of the channels that a layer makes, those that must stay first; or the groups of a name."""
        return [
            group
            for group in [*self.kept.values(), *self.groups.values()]
            if name == group.name or any((name, OUT) == (one.layer, one.direction) for one in group.members)
        ]

    def _refusal(self, name: str) -> str:
        for group in self.made_by(name):
            if group.why:
                return _("The channels of %(name)s must stay: %(why)s.") % {"name": name, "why": group.why}
            return _("The channels of %(name)s go with those of %(group)s: name that group.") % {
                "name": name,
                "group": group.name,
            }
        return _("There is no group %(name)s. There are: %(known)s.") % {"name": name, "known": ", ".join(self.groups)}


def find_dependencies(model: nn.Module, example: torch.Tensor) -> Dependencies:
    """Return the dependency groups of `model`, found by running it once on `example`, one image `(1, C, H, W)`.

    The model itself stays as it is. Raise `EdgelabError` where it cannot be followed (see `edgelab.tracing.trace`),
    where its graph computes something else than the model does, and where no channel may go, saying why.
    """
    example = as_input(example)
    graph_module = remember(trace(model), model)
    verify(graph_module, example, len(example))
    follower = Follower(graph_module)
    run_on(follower.run, example)
    roots = follower.names.roots()
    slots = {slot: roots[names] for slot, names in follower.slots.items()}
    groups, kept = _groups(slots, follower.names.why)
    if not groups:
        reasons = "; ".join(dict.fromkeys(f"{group.name}: {group.why}" for group in kept.values())) or "-"
        raise EdgelabError(_("No channel of this model can be removed (%(reasons)s).") % {"reasons": reasons})
    at = {node.name: _rooted(names, roots) for node, names in follower.at.items()}
    numbers = {node.name: value for node, value in follower.numbers.items()}
    return Dependencies(graph_module, example, groups, kept, slots, follower.shapes, at, numbers)


def _rooted(names: Any, roots: torch.Tensor) -> Any:
    """Return names, or a tuple of them, as the roots of their sets; along dimensions of stride 0 only once."""
    if isinstance(names, (tuple, list)):
        return tuple(_rooted(part, roots) for part in names)
    base = names
    for dim, size in enumerate(names.shape):
        if names.stride(dim) == 0:
            base = base.narrow(dim, 0, min(1, size))
    return roots[base].expand(names.shape)


def _groups(
    slots: Mapping[tuple[str, str], torch.Tensor], why: Mapping[int, str]
) -> tuple[dict[str, Group], dict[str, Group]]:
    """Return the groups that may go and those that must stay: channels that live in the same layers are one group."""
    places: dict[int, dict[tuple[str, str], list[int]]] = {}
    for slot, names in slots.items():
        for index, name in enumerate(names.tolist()):
            if name != FIXED or slot[1] == OUT:
                places.setdefault(name, {}).setdefault(slot, []).append(index)
    alike: dict[tuple, list[int]] = {}
    for name, where in places.items():
        makers = tuple(layer for layer, direction in where if direction == OUT)
        alike.setdefault((makers, why.get(name, "")), []).append(name)
    order = {slot: number for number, slot in enumerate(slots)}
    found: tuple[dict[str, Group], dict[str, Group]] = ({}, {})
    for (makers, reason), channels in alike.items():
        members: dict[tuple[str, str], list[tuple[int, ...]]] = {}
        for position, name in enumerate(channels):
            for slot, indices in places[name].items():
                members.setdefault(slot, [()] * len(channels))[position] = tuple(indices)
        ordered = sorted(members, key=lambda slot: (slot[1] == IN, order[slot]))
        into = found[bool(reason)]
        title, number = makers[0], 2
        while title in into:
            title, number = f"{makers[0]} ({number})", number + 1
        into[title] = Group(title, tuple(Member(*slot, tuple(members[slot])) for slot in ordered), reason)
    return found


def _ranges(indices: list[int]) -> str:
    """Return sorted whole numbers as text, neighbours joined.

    >>> _ranges([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    parts: list[list[int]] = []
    for index in indices:
        if parts and index == parts[-1][-1] + 1:
            parts[-1][1:] = [index]
        else:
            parts.append([index])
    return ", ".join("-".join(map(str, part)) for part in parts)
