"""Where each channel goes: a model that runs on the names of its channels, beside the numbers.

Every channel that a layer makes gets a name, a whole number. The names of an activation lie in a tensor of its shape,
and what moves values (a concat, a split, a shuffle, a flatten) moves the names as well, because it is applied to them.
Where two activations are added or multiplied, the names that meet are tied: such channels can only go together.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves, tree_map

from edgelab.i18n import _
from edgelab.pruning.names import FIXED, Names, compact, pairs
from edgelab.tracing import called_module, is_number, operation

OUT, IN = "out", "in"
_LARGEST_CONSTANT = 2**16  # a larger tensor of parameters is no scale of channels, and its elements get no names

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
Norm = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Operations by their names, without underscores: `LeakyReLU`, `F.leaky_relu` and `x.leaky_relu_()` are one.
_ELEMENTWISE = _words(
    "add iadd sub isub rsub mul imul truediv itruediv div floordiv pow ipow neg abs sqrt rsqrt square exp log sin cos "
    "relu relu6 leakyrelu prelu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh sigmoid tanh softplus "
    "softsign logsigmoid threshold softshrink hardshrink tanhshrink clamp clip clampmin clampmax maximum minimum where "
    "lerp addcmul gt lt ge le eq ne float to typeas dropout dropout1d dropout2d dropout3d featuredropout alphadropout "
    "identity stochasticdepth zeroslike oneslike fulllike maskedfill erf reciprocal sign"
)
_SPATIAL = {
    f"{kind}{size}d"
    for size in (1, 2, 3)
    for kind in (
        *("maxpool", "avgpool", "adaptivemaxpool", "adaptiveavgpool", "lppool", "upsamplingnearest"),
        *("upsamplingbilinear", "zeropad", "reflectionpad", "replicationpad", "constantpad", "circularpad"),
    )
} | {"upsample", "interpolate"}
_REDUCING = {"mean", "sum", "amax", "amin"}
_MOVING = _words(
    "view viewas reshape flatten unflatten permute transpose swapaxes movedim contiguous clone detach squeeze "
    "unsqueeze expand expandas chunk split tensorsplit unbind cat concat concatenate stack getitem narrow select roll "
    "flip channelshuffle nativechannelshuffle pixelshuffle pixelunshuffle indexselect t getattr pad"
)


def call(graph_module: fx.GraphModule, node: fx.Node, given: Callable[[fx.Node], Any]) -> Any:
    """Return what a node's operation makes of other inputs than those of the model: of `given(input)`."""
    args: Any = fx.node.map_arg(node.args, given)
    kwargs: Any = fx.node.map_arg(node.kwargs, given)
    if node.op == "call_module":
        return graph_module.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def name_of(graph_module: fx.GraphModule, node: fx.Node) -> str:
    """Return the name of a node's operation: of its class, function or method, in small letters, no underscores."""
    kind = operation(graph_module, node)
    return (kind if isinstance(kind, str) else getattr(kind, "__name__", "")).replace("_", "").lower()


def moves(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node's output holds nothing but values of its inputs, in other places."""
    name = name_of(graph_module, node)
    return name in _MOVING and (name != "pad" or _pads_channels(node))


def _pads_channels(node: fx.Node) -> bool:
    """Return whether `F.pad` adds zeros to the channels; its list begins with the last dimension."""
    given: dict[str, Any] = dict(zip(("input", "pad", "mode", "value"), node.args, strict=False)) | node.kwargs
    return any(pad != 0 for pad in given["pad"][4:]) and not given.get("value")


class Follower(fx.Interpreter):
    """Runs a traced model on an example, and notes where its channels go.

    `names` ties them; `at` holds the names of what each node gives, `numbers` the sizes that the model reckons with;
    `slots[layer, direction]` the name of each output ("out") and each input ("in") of a layer that has weights; and
    `shapes[layer]` the shape of its input.
    """

    def __init__(self, graph_module: fx.GraphModule):
        super().__init__(graph_module)
        self.graph_module = graph_module
        self.names = Names()
        self.at: dict[fx.Node, Any] = {}
        self.numbers: dict[fx.Node, Any] = {}
        self.slots: dict[tuple[str, str], torch.Tensor] = {}
        self.shapes: dict[str, torch.Size] = {}
        self._zero: dict[fx.Node, bool] = {}  # of what a node gives: is it zero where its channels have been zeroed?
        self._shared = _sharing(graph_module)
        self._chance = torch.Generator().manual_seed(0)

    @torch.no_grad()
    def run_node(self, node: fx.Node) -> Any:
        value = super().run_node(node)
        if node.op == "output":
            for source in node.all_input_nodes:
                self._keep(source, _("they are the model's output"))
        elif is_number(node) or not any(_has_names(leaf) for leaf in tree_leaves(value)):
            self.numbers[node] = value
            if not is_number(node):  # indices, say: which channel is the largest?
                self._keep_all(node)
        else:
            self.at[node], self._zero[node] = self._follow(node, value)
        return value

    def _follow(self, node: fx.Node, value: Any) -> tuple[Any, bool]:
        """Return the names of a node's `value`, and whether it is zero where they have been zeroed."""
        module: Any = called_module(self.graph_module, node)
        kind = name_of(self.graph_module, node)
        if node.op == "placeholder":
            return _fixed(value), False
        if node.op == "get_attr":
            return self._constant(str(node.target), value)
        source = node.all_input_nodes[0] if node.all_input_nodes else node
        if isinstance(module, (Convolution, Transposed, nn.Linear)):
            return self._weighted(str(node.target), module, source, value), True
        per_channel = isinstance(module, nn.GroupNorm) and module.num_groups == module.num_channels
        if isinstance(module, Norm) or per_channel or (isinstance(module, nn.PReLU) and module.num_parameters > 1):
            channels = self._along(self.at[source], 1)
            self._note(str(node.target), OUT, channels)
            return _spread(channels, 1, value), module.weight is not None or self._makes_zeros(node)
        names: torch.Tensor | None
        if kind in _ELEMENTWISE:
            names = self._meet(node, value)
        elif moves(self.graph_module, node) and not _picks(node, self.at):
            return self._move(node)
        elif kind in _SPATIAL or (kind == "pad" and value.shape[1] == self.at[source].shape[1]):
            names = _spread(self._along(self.at[source], 1), 1, value)
        elif kind in _REDUCING:
            names = self._reduce(node, source, value)
        elif isinstance(module, nn.LayerNorm) and _same_along(self.at[source], len(module.normalized_shape)):
            names = self.at[source]
        else:
            names = None
        if names is None:
            self._keep_all(node)
            return tree_map(_fixed, value), False
        return names, self._makes_zeros(node)

    def _constant(self, name: str, value: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """A parameter outside of any layer, a scale for each channel perhaps: each of its elements gets a name."""
        if value.numel() in (0, 1) or value.numel() > _LARGEST_CONSTANT or name.rpartition(".")[0] in self._shared:
            return _fixed(value), False
        if (name, OUT) not in self.slots:
            self.slots[name, OUT] = self.names.new(value.numel())
        return compact(self.slots[name, OUT].reshape(value.shape)), True

    def _weighted(self, name: str, layer: Any, source: fx.Node, value: torch.Tensor) -> torch.Tensor:
        """A layer that multiplies by a matrix reads the channels of its input, and makes new ones."""
        dim = -1 if isinstance(layer, nn.Linear) else 1
        ins = self._along(self.at[source], dim)
        self.shapes.setdefault(name, self.env[source].shape)
        if not self._zero[source]:
            self.names.keep(ins, _("%(name)s makes something else than zero of zero") % {"name": source.name})
        groups = getattr(layer, "groups", 1)
        outs = self.names.new(value.shape[dim])
        if groups > 1 and groups == len(ins):  # depthwise: an output goes with its one input
            self.names.tie(outs, ins.repeat_interleave(len(outs) // groups))
        elif groups > 1:  # all groups keep one size, so the first channels of all groups are tied, the second ones, ...
            for side in (ins, outs):
                self.names.tie(side.reshape(groups, -1), side.reshape(groups, -1)[:1].expand(groups, -1))
        if groups > 1 and isinstance(layer, Transposed):
            for side in (ins, outs):
                self.names.keep(side, _("%(layer)s is transposed and has groups") % {"layer": name})
        self._note(name, OUT, outs)
        self._note(name, IN, ins)
        return _spread(outs, dim, value)

    def _note(self, layer: str, direction: str, names: torch.Tensor) -> None:
        if (before := self.slots.setdefault((layer, direction), names)) is not names:  # a layer that is called twice
            self.names.tie(before, names)
        if layer in self._shared:
            self.names.keep(names, _("%(layer)s shares its weights") % {"layer": layer})

    def _along(self, names: torch.Tensor, dim: int) -> torch.Tensor:
        """Return a name for each index along a dimension, after all that share the index have been tied."""
        rows = names.movedim(dim, 0)
        if all(stride == 0 or size == 1 for stride, size in zip(rows.stride()[1:], rows.shape[1:], strict=True)):
            while rows.dim() > 1:
                rows = rows.select(1, 0)
            return rows
        rows = rows.flatten(1)
        self.names.tie(rows[:, :1].expand_as(rows), rows)
        return rows[:, 0]

    def _meet(self, node: fx.Node, value: Any) -> torch.Tensor | None:
        """Tie what meets in an operation on single values; what is spread over several channels stays."""
        parts = [self.at[part] for part in node.all_input_nodes if part in self.at]
        whole = next((part for part in parts if part.shape == value.shape), None)
        if whole is None:
            return None if parts else _fixed(value)
        for part in parts:
            if part is whole or (part.numel() == 1 and int(part) == FIXED):
                continue
            met = part.expand_as(whole)
            if part.numel() < whole.numel():
                partners: dict[int, set[int]] = {}
                for one, other in pairs(met, whole):
                    partners.setdefault(one, set()).add(self.names.root(other))
                spread = [one for one, others in partners.items() if len(others) > 1]
                self.names.keep(
                    torch.tensor(spread, dtype=torch.long),
                    _("%(name)s spreads one over several channels") % {"name": node.name},
                )
                met = torch.where(torch.isin(met, torch.tensor(spread, dtype=torch.long)), whole, met)
            self.names.tie(whole, met)
        return whole

    def _move(self, node: fx.Node) -> tuple[Any, bool]:
        names = call(self.graph_module, node, lambda part: self.at.get(part, self.env.get(part)))
        parts = [part for part in node.all_input_nodes if part in self.at]
        return tree_map(compact, names), all(self._zero[part] or _is_fixed(self.at[part]) for part in parts)

    def _reduce(self, node: fx.Node, source: fx.Node, value: torch.Tensor) -> torch.Tensor | None:
        """Return the names behind a mean or sum, or None where it goes over different channels."""
        given = dict(zip(("input", "dim", "keepdim"), node.args, strict=False)) | node.kwargs
        dims = given.get("dim")
        dims = tuple(range(self.at[source].dim())) if dims is None else dims
        low, high = (getattr(self.at[source], end)(dims, bool(given.get("keepdim"))) for end in ("amin", "amax"))
        return compact(low) if torch.equal(low, high) and low.shape == value.shape else None

    def _makes_zeros(self, node: fx.Node) -> bool:
        """Ask the operation itself: where its inputs are zero if they have been zeroed, is its output zero, too."""

        def trial(part: fx.Node) -> Any:
            if part not in self.at:
                return self.env[part]
            if self._zero[part]:
                return tree_map(torch.zeros_like, self.env[part])
            return tree_map(self._any_numbers, self.env[part])

        made = call(self.graph_module, node, trial)
        return all(bool((leaf == 0).all()) for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor))

    def _any_numbers(self, like: Any) -> Any:
        if not isinstance(like, torch.Tensor):
            return like
        drawn = torch.rand(like.shape, generator=self._chance) + 0.5
        return drawn > 1 if like.dtype == torch.bool else drawn.to(like.dtype)

    def _keep_all(self, node: fx.Node) -> None:
        """Keep what an operation reads that may depend on all of it."""
        why = _("%(name)s reckons with all of them together")
        for part in node.all_input_nodes:
            self._keep(part, why % {"name": _shown(node, name_of(self.graph_module, node))})

    def _keep(self, node: fx.Node, why: str) -> None:
        for names in tree_leaves(self.at.get(node, ())):
            self.names.keep(names, why)


def _has_names(value: object) -> bool:
    """Return whether a value is an activation, or a mask of one."""
    return isinstance(value, torch.Tensor) and (value.is_floating_point() or value.dtype == torch.bool)


def _picks(node: fx.Node, at: Mapping[fx.Node, Any]) -> bool:
    """Return whether a node takes elements by a mask: which ones, only the values know."""
    return node.target is operator.getitem and any(part in at for part in node.all_input_nodes[1:])


def _fixed(value: Any) -> Any:
    return torch.zeros((), dtype=torch.long).expand(value.shape) if isinstance(value, torch.Tensor) else value


def _is_fixed(names: Any) -> bool:
    return all(not bool(leaf.any()) for leaf in tree_leaves(names))


def _spread(names: torch.Tensor, dim: int, value: torch.Tensor) -> torch.Tensor:
    """Return names along a dimension as those of a whole activation, without taking its memory."""
    shape = [1] * value.dim()
    shape[dim] = len(names)
    return names.clone().reshape(shape).expand(value.shape)


def _same_along(names: torch.Tensor, dims: int) -> bool:
    """Return whether the last dimensions hold one name each."""
    last = names.flatten(names.dim() - dims)
    return torch.equal(last[..., :1].expand_as(last), last)


def _shown(node: fx.Node, kind: str) -> str:
    return f"{node.target} ({kind})" if node.op == "call_module" else str(node.name)


def _sharing(graph_module: fx.GraphModule) -> set[str]:
    """Return the names of the layers that share a parameter with another layer, or with code outside of any."""
    owners: dict[int, list[str]] = {}
    for name, module in graph_module.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    shared = {name for names in owners.values() if len(names) > 1 for name in names}
    read = {str(node.target).rpartition(".")[0] for node in graph_module.graph.nodes if node.op == "get_attr"}
    return shared | {str(node.target) for node in graph_module.graph.nodes if node.op == "call_module"} & read
