"""The names of channels, and which of them belong together."""

import math

import torch

from edgelab.i18n import _

FIXED = 0  # the name of all that no layer has made: images, constants, and what mixes channels. It never goes.


class Names:
    """The names of all channels, and which of them are tied: disjoint sets, found by union and find (Tarjan, 1975).

    `why` says for the root of a set why its channels must stay, if they must.
    """

    def __init__(self) -> None:
        self._parent = [FIXED]
        self.why: dict[int, str] = {FIXED: _("they meet values that no layer makes")}

    def new(self, count: int) -> torch.Tensor:
        """Return `count` new names."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return torch.arange(first, first + count)

    def root(self, name: int) -> int:
        """Return the name that stands for all that are tied to `name`."""
        while self._parent[name] != name:
            self._parent[name] = name = self._parent[self._parent[name]]
        return name

    def roots(self) -> torch.Tensor:
        """Return the root of every name, so that `roots()[names]` has the shape of `names`."""
        return torch.tensor([self.root(name) for name in range(len(self._parent))])

    def tie(self, left: torch.Tensor, right: torch.Tensor) -> None:
        """Tie the names of two tensors of the same shape, element by element."""
        for one, other in pairs(left, right):
            one, other = self.root(one), self.root(other)
            if one != other:
                low, high = min(one, other), max(one, other)
                self._parent[high] = low  # the lower root, so that FIXED stays one
                if (why := self.why.pop(high, None)) is not None:
                    self.why.setdefault(low, why)

    def keep(self, names: torch.Tensor, why: str) -> None:
        """Note that the channels of these names must stay, and why."""
        for name in names.unique().tolist():
            self.why.setdefault(self.root(name), why)


def pairs(left: torch.Tensor, right: torch.Tensor) -> list[tuple[int, int]]:
    """Return the different pairs of elements that meet; along dimensions where neither changes, one is enough."""
    for dim in range(left.dim()):
        if left.stride(dim) == 0 == right.stride(dim):
            left, right = left.narrow(dim, 0, 1), right.narrow(dim, 0, 1)
    met = torch.stack([left.flatten(), right.flatten()], 1).unique(dim=0)
    return [(one, other) for one, other in met.tolist() if one != other]


def compact(names: torch.Tensor) -> torch.Tensor:
    """Return the same tensor with stride 0 along each dimension in which nothing changes: it takes little memory."""
    for dim, size in enumerate(names.shape):
        if size > 1 and names.stride(dim) != 0:
            first = names.narrow(dim, 0, 1)
            if torch.equal(first.expand_as(names), names):
                names = first.expand_as(names)
    shape, base = names.shape, names
    for dim in range(names.dim()):
        if names.stride(dim) == 0:
            base = base.narrow(dim, 0, min(1, shape[dim]))
    return base.clone().expand(shape)


def box(kept: torch.Tensor) -> list[torch.Tensor] | None:
    """Return what is kept along each dimension of a boolean tensor, or None where that is not all that it says."""
    along = [kept.movedim(dim, 0).flatten(1).any(1) if kept.dim() > 1 else kept for dim in range(kept.dim())]
    return along if int(kept.sum()) == math.prod(int(some.sum()) for some in along) else None


def cut(tensor: torch.Tensor, along: list[torch.Tensor]) -> torch.Tensor:
    """Return a tensor without what is not kept along its dimensions."""
    for dim, kept in enumerate(along):
        if not bool(kept.all()):
            tensor = tensor.index_select(dim, kept.nonzero().flatten())
    return tensor
