"""The model as a graph: tracing it, folding batch normalisation, and knowing which operations have integer kernels."""

import copy
import operator
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from torch import fx, nn
from torch.nn import functional as F

from edgelab.errors import EdgelabError
from edgelab.i18n import _

Weighted = nn.Conv2d | nn.Linear
# What ONNX Runtime computes on integers, inputs and output each with their own scale.
_INTEGER = {
    *(operator.add, operator.iadd, torch.add, operator.mul, operator.imul, torch.mul, torch.cat),
    *(nn.AvgPool2d, nn.AdaptiveAvgPool2d, F.avg_pool2d, F.adaptive_avg_pool2d, torch.mean, "mean", "add", "mul"),
    *(nn.Sigmoid, torch.sigmoid, "sigmoid"),
}
# What merely moves or selects codes: the output lies on the grid of the input.
_MOVING = {
    *(nn.MaxPool2d, nn.AdaptiveMaxPool2d, F.max_pool2d, F.adaptive_max_pool2d, nn.Flatten, torch.flatten, "flatten"),
    *("reshape", "view", "permute", "transpose", "contiguous", "squeeze", "unsqueeze", torch.reshape, torch.permute),
    *(torch.transpose, torch.squeeze, torch.unsqueeze, nn.PixelShuffle, nn.ChannelShuffle, nn.Upsample, F.interpolate),
}
_NOTHING = {nn.Dropout, nn.Dropout2d, F.dropout, nn.Identity}  # in evaluation
# What the kernel before it does in passing, by saturating.
_RECTIFIERS = {nn.ReLU, nn.ReLU6, F.relu, F.relu6, torch.relu, "relu", "relu_"}
_BEFORE_RECTIFIER = {operator.add, operator.iadd, torch.add, "add"}


def trace(model: nn.Module) -> fx.GraphModule:
    """Return a copy of `model` as a `torch.fx.GraphModule`, in evaluation mode.

    Raise `EdgelabError` with the file and line where `torch.fx` cannot follow the model.
    """
    if isinstance(model, fx.GraphModule):
        return copy.deepcopy(model).eval()
    try:
        return fx.symbolic_trace(copy.deepcopy(model).eval()).eval()  # the containers it makes would be in training
    except Exception as error:
        torch_folder = str(Path(torch.__file__).parent)
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if torch_folder not in frame.filename]
        place = frames[-1]
        raise EdgelabError(
            _("torch.fx cannot follow this model at %(file)s, line %(line)s: %(code)s (%(reason)s)")
            % {
                "file": place.filename,
                "line": place.lineno,
                "code": place.line,
                "reason": str(error).partition("\n")[0],
            }
        ) from None


def called_module(graph_module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Return the module that a node calls, or None where it calls none."""
    return graph_module.get_submodule(str(node.target)) if node.op == "call_module" else None


def operation(graph_module: fx.GraphModule, node: fx.Node) -> type[nn.Module] | Callable | str | None:
    """Return what a node does: a module's class, a function, or a method's name; None for inputs and outputs."""
    if (module := called_module(graph_module, node)) is not None:
        return type(module)
    return node.target if node.op in ("call_function", "call_method") else None


def is_weighted(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node is a convolution or linear layer."""
    return isinstance(called_module(graph_module, node), Weighted)


def is_integer(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether ONNX Runtime has an integer kernel for a node."""
    return is_weighted(graph_module, node) or operation(graph_module, node) in _INTEGER


def moves_codes(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node's output holds nothing but values of its input."""
    return operation(graph_module, node) in _MOVING


def does_nothing(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node hands its input on in evaluation."""
    return operation(graph_module, node) in _NOTHING


def rectifier_after(graph_module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Return the ReLU or ReLU6 that is the only user of a convolution, linear layer or addition, or None."""
    fusable = is_weighted(graph_module, node) or operation(graph_module, node) in _BEFORE_RECTIFIER
    if not fusable or len(node.users) != 1:
        return None
    user = next(iter(node.users))
    return user if operation(graph_module, user) in _RECTIFIERS else None


def is_called_once(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether the module that a node calls is called nowhere else: only then may its weights be changed."""
    calls = [other for other in graph_module.graph.nodes if other.op == "call_module" and other.target == node.target]
    return calls == [node]


def weighted_layers(graph_module: fx.GraphModule) -> dict[fx.Node, Weighted]:
    """Return all convolutions and linear layers by the nodes that call them, in order of execution."""
    modules = ((node, called_module(graph_module, node)) for node in graph_module.graph.nodes)
    return {node: module for node, module in modules if isinstance(module, Weighted)}


def fold_batchnorm(model: nn.Module) -> fx.GraphModule:
    """Return a copy of `model`, traced, in which every batch norm after a convolution or linear layer is folded in.

    Batch norm in evaluation is one more affine map for each channel, y = gamma (x - mean) / sqrt(var + eps) + beta,
    so the layer before it can do it: W' = W gamma / sqrt(var + eps), b' = (b - mean) gamma / sqrt(var + eps) + beta
    (Jacob et al., 2018, section 3.2). A layer that is called twice, or whose output is used elsewhere too, keeps its
    batch norm.
    """
    graph_module = trace(model)
    layers = weighted_layers(graph_module)
    for node in list(graph_module.graph.nodes):
        norm = called_module(graph_module, node)
        if not isinstance(norm, _Norm) or norm.running_mean is None or norm.running_var is None:
            continue
        before = node.all_input_nodes[0]
        layer = layers.get(before)
        if layer is None or len(before.users) > 1 or not is_called_once(graph_module, before):
            continue
        if norm.num_features != layer.weight.shape[0]:  # BatchNorm1d on (N, L, C) normalises places, not channels
            continue
        gamma = 1.0 if norm.weight is None else norm.weight
        beta = 0.0 if norm.bias is None else norm.bias
        bias = 0.0 if layer.bias is None else layer.bias
        with torch.no_grad():
            factor = gamma / torch.sqrt(norm.running_var + norm.eps)
            layer.weight.mul_(factor.reshape(-1, *[1] * (layer.weight.dim() - 1)))
            layer.bias = nn.Parameter((bias - norm.running_mean) * factor + beta)
        node.replace_all_uses_with(before)
        graph_module.graph.erase_node(node)
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    return graph_module


_Norm = nn.BatchNorm1d | nn.BatchNorm2d
