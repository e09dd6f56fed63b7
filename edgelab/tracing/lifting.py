"""Functions of constant weights as the layers that they are, so that all that follows knows layers only.

`F.linear(x, self.weight)` in a subclass of Linear, the batch norm inside timm's BatchNormAct2d, a convolution whose
padding is reckoned in Python: each is lifted to `nn.Linear`, `nn.BatchNorm2d`, `nn.Conv2d` with the same parameters.
So are transposed convolutions, those of one and three dimensions, and the product `x @ W` with a constant matrix.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

_CONV = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_NORM = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_PRODUCTS: set[Callable | str] = {torch.matmul, operator.matmul, torch.mm, "matmul", "mm"}
_ARGUMENTS: dict[Callable | str, tuple[str, ...]] = {
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), _CONV),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), _TRANSPOSED),
    **dict.fromkeys(_PRODUCTS, ("input", "weight")),
    F.linear: ("input", "weight", "bias"),
    F.batch_norm: _NORM,
}
_LAYERS: dict[Callable | str, type[nn.Module]] = {
    **{F.conv1d: nn.Conv1d, F.conv2d: nn.Conv2d, F.conv3d: nn.Conv3d},
    **{F.conv_transpose1d: nn.ConvTranspose1d, F.conv_transpose2d: nn.ConvTranspose2d},
    **{F.conv_transpose3d: nn.ConvTranspose3d, F.linear: nn.Linear},
    **dict.fromkeys(_PRODUCTS, nn.Linear),
}
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_HEIGHT_AND_WIDTH = ({2, 3}, {-1, -2})


def lift(root: nn.Module, graph: fx.Graph) -> set[str]:
    """Turn calls of functions with constant weights into calls of layers, in place; return the names of the layers."""
    lifted = set()
    for node in list(graph.nodes):
        if node.op not in ("call_function", "call_method") or node.target not in _ARGUMENTS:
            continue
        given = _bound(node)
        layer = _norm(root, given) if node.target is F.batch_norm else _weighted(root, node, given)
        source = given.get("input")
        if layer is None or not isinstance(source, fx.Node):
            continue
        owner = _owner(root, given["weight"] if given.get("weight") is not None else given.get("running_mean"))
        name = _put(root, owner, layer, node)
        lifted.add(name)
        with graph.inserting_before(node):
            call = graph.call_module(name, (source,))
        node.replace_all_uses_with(call)
        graph.erase_node(node)
    for node in reversed(graph.nodes):
        if not node.users and (node.op == "get_attr" or _is_constant(node)):
            graph.erase_node(node)
    return lifted


def keep_dimensions(graph: fx.Graph) -> None:
    """Write each mean over height and width with its dimensions kept and then squeezed: that mean has a kernel."""
    for node in list(graph.nodes):
        if node.target not in ("mean", torch.mean) or set(node.kwargs) - {"dim", "keepdim", "input"}:
            continue
        given = dict(zip(("input", "dim", "keepdim"), node.args, strict=False)) | node.kwargs
        dims = given.get("dim")
        if given.get("keepdim") or not isinstance(dims, (tuple, list)) or set(dims) not in _HEIGHT_AND_WIDTH:
            continue
        node.args, node.kwargs = (given["input"], tuple(dims)), {"keepdim": True}
        with graph.inserting_after(node):
            squeezed = graph.call_method("squeeze", (node, tuple(dims)))
        node.replace_all_uses_with(squeezed, delete_user_cb=lambda user, squeezed=squeezed: user is not squeezed)


def _bound(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of a call by their names."""
    return dict(zip(_ARGUMENTS[node.target], node.args, strict=False)) | node.kwargs


def _weighted(root: nn.Module, node: fx.Node, given: Mapping[str, Any]) -> nn.Module | None:
    """Return the convolution or linear layer that a call with constant weights computes, or None."""
    weight, bias = _constant(root, given.get("weight")), _constant(root, given.get("bias"))
    options = {name: given[name] for name in _ARGUMENTS[node.target][3:] if name in given}
    if weight is None or (bias is None and given.get("bias") is not None):
        return None
    if node.target in _PRODUCTS and _constant(root, given.get("input")) is not None:
        return None  # a weight that is made of two others
    if any(isinstance(part, fx.Node) for option in options.values() for part in _parts(option)):
        return None
    kind, has_bias = _LAYERS[node.target], bias is not None
    layer: nn.Module
    if kind is not nn.Linear:
        inputs, outputs = weight.shape[:2]
        groups = options.get("groups", 1)
        if _ARGUMENTS[node.target] is _TRANSPOSED:
            outputs = outputs * groups
        else:
            inputs, outputs = outputs * groups, inputs
        layer = nn.utils.skip_init(kind, inputs, outputs, tuple(weight.shape[2:]), bias=has_bias, **options)
    elif weight.dim() == 2:
        weight = weight.t() if node.target in _PRODUCTS else weight
        layer = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], has_bias)
    else:
        return None
    layer.weight = _parameter(weight)
    if bias is not None:
        layer.bias = _parameter(bias)
    return layer


def _norm(root: nn.Module, given: Mapping[str, Any]) -> nn.Module | None:
    """Return the batch norm that a call in evaluation computes, or None."""
    names = ("running_mean", "running_var", "weight", "bias")
    tensors = {name: _constant(root, given.get(name)) for name in names}
    if given.get("training") is True or any(tensors[name] is None and given.get(name) is not None for name in names):
        return None
    mean = given.get("running_mean")
    kind = next((k for k in _NORMS if isinstance(mean, fx.Node) and isinstance(_module_of(root, mean), k)), None)
    if kind is None:
        return None
    norm = kind(len(tensors["running_mean"]), eps=given.get("eps", 1e-5), affine=False)  # type: ignore[arg-type]
    norm.running_mean, norm.running_var = tensors["running_mean"], tensors["running_var"]
    for name in ("weight", "bias"):
        if (tensor := tensors[name]) is not None:
            setattr(norm, name, _parameter(tensor))
    return norm.eval()


def _constant(root: nn.Module, value: object) -> torch.Tensor | None:
    """Return the tensor that `value` is whatever the input, or None where it depends on it or is none."""
    if not isinstance(value, fx.Node) or not _is_constant(value):
        return value if isinstance(value, torch.Tensor) else None
    with torch.no_grad():
        found = _evaluate(root, value)
    return found if isinstance(found, torch.Tensor) else None


def _is_constant(node: fx.Node) -> bool:
    if node.op == "get_attr":
        return True
    return (
        node.op not in ("placeholder", "output")
        and bool(node.all_input_nodes)
        and all(map(_is_constant, node.all_input_nodes))
    )


def _evaluate(root: nn.Module, node: fx.Node) -> Any:
    if node.op == "get_attr":
        owner, _dot, name = str(node.target).rpartition(".")
        return getattr(root.get_submodule(owner), name)
    args: Any = fx.node.map_arg(node.args, lambda n: _evaluate(root, n))
    kwargs: Any = fx.node.map_arg(node.kwargs, lambda n: _evaluate(root, n))
    if node.op == "call_module":
        return root.get_submodule(str(node.target))(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _parameter(tensor: torch.Tensor) -> nn.Parameter:
    """Return the very parameter of the model where it is one, so that layers which share it go on sharing it."""
    return tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor.detach().clone())


def _owner(root: nn.Module, value: object) -> str:
    """Return the name of the module that holds the first of the attributes from which a node is made."""
    while isinstance(value, fx.Node) and value.op != "get_attr":
        value = value.all_input_nodes[0]
    return str(value.target).rpartition(".")[0] if isinstance(value, fx.Node) else ""


def _module_of(root: nn.Module, node: fx.Node) -> nn.Module | None:
    return root.get_submodule(str(node.target).rpartition(".")[0]) if node.op == "get_attr" else None


def _put(root: nn.Module, owner: str, layer: nn.Module, node: fx.Node) -> str:
    """Put `layer` into `root` and return its name: that of its owner, where this is a layer of the same kind and size.

    Two calls of one layer are one layer.
    """
    module = root.get_submodule(owner)
    same = all(getattr(module, name, None) is getattr(layer, name) for name in ("weight", "bias"))
    if owner and same and isinstance(module, type(layer)) and not list(module.children()):
        if type(module) is not type(layer):
            root.set_submodule(owner, layer)
            return owner
        if module.extra_repr() == layer.extra_repr():
            return owner
    module.add_module(node.name, layer)
    return f"{owner}.{node.name}" if owner else node.name


def _parts(option: Any) -> tuple:
    return tuple(option) if isinstance(option, (tuple, list)) else (option,)
