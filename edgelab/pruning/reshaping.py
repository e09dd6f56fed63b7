"""What else in a model knows how many channels there are: sizes in its code, splits, and shuffles.

The smaller model is run on names alone. Wherever a view or a split does not give the names that it should, it is
rewritten: with other sizes, or as a list of the channels to take.
"""

from typing import Any

import torch
from torch import fx

from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.pruning.channels import call, moves, name_of
from edgelab.pruning.dependency import Dependencies
from edgelab.pruning.names import box, cut
from edgelab.tracing import is_number

_SPLITS = {"chunk", "split", "tensorsplit"}


def mend(model: fx.GraphModule, dependencies: Dependencies, gone: torch.Tensor) -> None:
    """Rewrite, in place, what moves channels in a `model` that has lost the channels of the names `gone`.

    Raise `EdgelabError` where that cannot be done, naming the operation.
    """
    mender = _Mender(model, dependencies, gone)
    for node in list(model.graph.nodes):
        if node.op != "output":
            mender.visit(node)
    for node in reversed(list(model.graph.nodes)):
        if not node.users and (node.name in mender.replaced or node.name in dependencies.numbers):
            model.graph.erase_node(node)
    model.graph.lint()
    model.recompile()


class _Mender:
    """Goes through a graph in order of execution; `now` holds the names of each node in the smaller model.

    None stands for names that are no tensor any more: between the two views of a shuffle, say.
    """

    def __init__(self, model: fx.GraphModule, dependencies: Dependencies, gone: torch.Tensor):
        self.model, self.before, self.numbers, self.gone = model, dependencies.at, dependencies.numbers, gone
        self.now: dict[fx.Node, Any] = {}
        self.replaced: set[str] = set()

    def visit(self, node: fx.Node) -> None:
        """Find the names of a node, and rewrite it if it does not give them by itself."""
        if node.name not in self.before:
            self.now[node] = self._number(node)
            return
        wanted = self._left(self.before[node.name])
        self.now[node] = wanted
        if node.op in ("placeholder", "get_attr") or not moves(self.model, node) or self._gives(node, wanted):
            return
        if wanted is None or (isinstance(wanted, tuple) and None in wanted):
            self.now[node] = None
            self.replaced.add(node.name)
            return
        for rewrite in (self._resize, self._split, self._gather):
            if rewrite(node, wanted):
                return
        raise EdgelabError(
            _("The channels behind %(name)s cannot be removed: this model moves them in a way that needs them all.")
            % {"name": node.name}
        )

    def _left(self, names: Any) -> Any:
        """Return what is left of names, or None where that is no tensor."""
        if isinstance(names, tuple):
            return tuple(self._left(part) for part in names)
        gone = self.gone[names]
        if not bool(gone.any()):
            return names
        along = box(~gone)
        return None if along is None else cut(names, along)

    def _number(self, node: fx.Node) -> Any:
        """Return a size, as the smaller model will reckon it; where its tensor is no more, as it was."""
        lost = any(self.now[part] is None for part in node.all_input_nodes)
        return self.numbers[node.name] if lost or not is_number(node) else call(self.model, node, self.now.__getitem__)

    def _gives(self, node: fx.Node, wanted: Any) -> bool:
        """Return whether a node, as it stands, moves the names that are left to where they should be."""
        if wanted is None or any(self.now[part] is None for part in node.all_input_nodes):
            return False
        try:
            got = call(self.model, node, self.now.__getitem__)
        except (RuntimeError, ValueError, IndexError, TypeError):
            return False
        if isinstance(wanted, tuple):
            return len(got) == len(wanted) and all(map(_equal, got, wanted))
        return _equal(got, wanted)

    def _resize(self, node: fx.Node, wanted: Any) -> bool:
        """Write other numbers into a view: those of what is left, where the old ones stood in the code."""
        before = self.before[node.name]
        if not isinstance(wanted, torch.Tensor):
            return False
        listed = len(node.args) == 2 and isinstance(node.args[1], (tuple, list))
        sizes: Any = node.args[1] if listed else node.args[1:]
        if len(sizes) != before.dim():
            return False
        new = tuple(
            left if isinstance(size, int) and size == old else size
            for size, old, left in zip(sizes, before.shape, wanted.shape, strict=True)
        )
        old_args, node.args = node.args, (node.args[0], new) if listed else (node.args[0], *new)
        if self._gives(node, wanted):
            return True
        node.args = old_args
        return False

    def _split(self, node: fx.Node, wanted: Any) -> bool:
        """Split into parts of the sizes that are left."""
        if name_of(self.model, node) not in _SPLITS:
            return False
        given = dict(zip(("input", "sizes", "dim"), node.args, strict=False)) | node.kwargs
        dim = given.get("dim", 0)
        old = node.op, node.target, node.args, node.kwargs
        sizes = [part.shape[dim] for part in wanted]
        node.op, node.target, node.args, node.kwargs = "call_function", torch.split, (node.args[0], sizes, dim), {}
        if self._gives(node, wanted):
            return True
        node.op, node.target, node.args, node.kwargs = old
        return False

    def _gather(self, node: fx.Node, wanted: Any) -> bool:
        """Take the channels that are wanted, one by one, from the last tensor that has them all."""
        chain = [node]
        while self.now[source := chain[-1].all_input_nodes[0]] is None:
            if not moves(self.model, source):
                return False
            chain.append(source)
        before = self.before[source.name]
        if not isinstance(before, torch.Tensor) or not isinstance(wanted, torch.Tensor):
            return False
        # Where each element came from, in the model as it was.
        places: dict[fx.Node, Any] = {source: torch.arange(before.numel()).reshape(before.shape)}

        def as_it_was(part: fx.Node) -> Any:
            return places.get(part, self.numbers.get(part.name, self.before.get(part.name)))

        for step in reversed(chain):
            places[step] = call(self.model, step, as_it_was)
        came = places[node]
        changed = [_changed_dim(self.gone[names]) for names in (before, self.before[node.name])]
        if not isinstance(came, torch.Tensor) or None in changed:
            return False
        from_dim, to_dim = (dim for dim in changed if dim is not None)
        stride = before[(0,) * from_dim].numel() // before.shape[from_dim]
        first = came.movedim(to_dim, 0).flatten(1)[:, 0]
        order = first // stride % before.shape[from_dim]
        if not _equal(places[source].index_select(from_dim, order), came):
            return False
        kept = ~self.gone[before].movedim(from_dim, 0).flatten(1).any(1)
        stays = ~self.gone[self.before[node.name]].movedim(to_dim, 0).flatten(1).any(1)
        order = (kept.cumsum(0) - 1)[order[stays]]
        name = f"{node.name}_order"
        self.model.register_buffer(name, order)
        graph = self.model.graph
        with graph.inserting_before(node):
            taken = graph.call_function(torch.index_select, (source, from_dim, graph.get_attr(name)))
        node.replace_all_uses_with(taken)
        self.replaced |= {step.name for step in chain}
        self.now[taken] = wanted
        return True


def _equal(got: Any, wanted: Any) -> bool:
    return isinstance(got, torch.Tensor) and got.shape == wanted.shape and torch.equal(got, wanted)


def _changed_dim(gone: torch.Tensor) -> int | None:
    """Return the one dimension along which something goes, or None where there are several or none."""
    along = box(~gone)
    changed = [dim for dim, kept in enumerate(along or []) if not bool(kept.all())]
    return changed[0] if len(changed) == 1 else None
