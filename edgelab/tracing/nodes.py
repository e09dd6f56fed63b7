"""What a node of a graph stands for."""

from collections.abc import Callable

from torch import fx, nn
from torch.nn.utils import parametrize

# What gives no tensor: sizes and the like, and what is reckoned of them.
_SIZES = {"size", "dim", "numel", "ndimension", "stride"}
_SIZE_NAMES = {"shape", "ndim", "dtype", "device", "is_cuda"}


def called_module(graph_module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the module that a node calls, or None where it calls none."""
    return graph_module.get_submodule(str(node.target)) if node.op == "call_module" else None


def operation(graph_module: fx.GraphModule, node: fx.Node) -> type[nn.Module] | Callable | str | None:
    """Return what a node does: a module's class, a function, or a method's name; None for inputs and outputs."""
    if (module := called_module(graph_module, node)) is not None:  # of a subclass that adds nothing, the layer of torch
        classes = parametrize.type_before_parametrizations(module).__mro__
        return next(kind for kind in classes if kind.__module__.startswith(("torch", "edgelab")))
    return node.target if node.op in ("call_function", "call_method") else None


def is_number(node: fx.Node) -> bool:
    """Return whether a node gives a size, a number or a boolean, not a tensor: no activation."""
    if node.op == "call_method":
        return node.target in _SIZES
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in _SIZE_NAMES
    python = getattr(node.target, "__module__", "") in (
        "_operator",
        "builtins",
        "math",
    )  # torch's functions make tensors
    return node.target is len or (python and bool(node.all_input_nodes) and all(map(is_number, node.all_input_nodes)))
