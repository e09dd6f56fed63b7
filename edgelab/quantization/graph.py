"""What quantization asks of a graph: batch norm folded in, and which operations have integer kernels."""

import operator
from functools import partial

import torch
from torch import fx, nn
from torch.nn import functional as F

from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.quantization.interleave import Interleave, Transposed, as_convolution
from edgelab.quantization.quantizer import quantizers
from edgelab.tracing import called_module, is_number, operation, remember, trace

Weighted = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
_SUMS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_ARITHMETIC = {*_SUMS, operator.mul, operator.imul, torch.mul, "mul", "mul_"}  # of two tensors
MATRIX_PRODUCTS = {torch.matmul, operator.matmul, torch.mm, torch.bmm, "matmul", "mm", "bmm"}
# What ONNX Runtime computes on integers, inputs and output each with their own scale.
_INTEGER = {
    *(torch.cat, nn.AvgPool2d, nn.AdaptiveAvgPool2d, F.avg_pool2d, F.adaptive_avg_pool2d, torch.mean, "mean"),
    *(nn.Sigmoid, torch.sigmoid, F.sigmoid, "sigmoid"),
    *MATRIX_PRODUCTS,
}
_DIFFERENCES = {operator.sub, torch.sub, "sub", operator.truediv, torch.div, "div"}  # and quotients: no kernel
_SOFTMAX = {nn.Softmax, torch.softmax, F.softmax, "softmax"}
# What merely moves or selects codes: the output lies on the grid of the input.
_MOVING = {
    *(nn.MaxPool2d, nn.AdaptiveMaxPool2d, F.max_pool2d, F.adaptive_max_pool2d, nn.Flatten, torch.flatten, "flatten"),
    *("reshape", "view", "permute", "transpose", "contiguous", "squeeze", "unsqueeze", torch.reshape, torch.permute),
    *(torch.transpose, torch.squeeze, torch.unsqueeze, nn.PixelShuffle, nn.ChannelShuffle, nn.Upsample, F.interpolate),
    *(F.pixel_shuffle, F.channel_shuffle, torch.index_select, Interleave),
    *(torch.chunk, "chunk", torch.split, "split", torch.unbind, "unbind", operator.getitem),
    *("expand", torch.roll, "roll", torch.flip, "flip", nn.Unflatten, torch.unflatten, "unflatten"),
}
_NOTHING = {nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity}  # in evaluation
_DROPOUTS = {F.dropout, F.dropout1d, F.dropout2d}
# What the kernel before it does in passing, by saturating.
_RECTIFIERS = {nn.ReLU, nn.ReLU6, F.relu, F.relu6, torch.relu, "relu", "relu_"}
_Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.SyncBatchNorm


def is_weighted(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node is a convolution, not a transposed one, or a linear layer."""
    return isinstance(called_module(graph_module, node), Weighted)


def is_integer(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether ONNX Runtime has an integer kernel for a node."""
    if is_weighted(graph_module, node):
        return True
    kind = operation(graph_module, node)
    if kind in _ARITHMETIC:
        return len(_tensors(node)) == 2 and "alpha" not in node.kwargs
    return kind in _INTEGER and not is_number(node)


def makes_scores(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node's output goes into a softmax, by way of sums and products with numbers at most.

    Such scores stay in float: a mask of -100, or of minus infinity, would take all the codes; and the kernel of a
    product gives floats where nothing rounds them.
    """
    kind = operation(graph_module, node)
    if kind not in _ARITHMETIC | _DIFFERENCES | MATRIX_PRODUCTS and not moves_codes(graph_module, node):
        return False
    kinds = {user: operation(graph_module, user) for user in node.users}
    onwards = [user for user, kind in kinds.items() if kind not in MATRIX_PRODUCTS]
    return any(kind in _SOFTMAX for kind in kinds.values()) or any(makes_scores(graph_module, n) for n in onwards)


def _tensors(node: fx.Node) -> list[fx.Node]:
    return [part for part in (*node.args, *node.kwargs.values()) if isinstance(part, fx.Node) and not is_number(part)]


def moves_codes(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node's output holds nothing but values of its input."""
    kind = operation(graph_module, node)
    if kind is F.pad:
        given = dict(zip(("input", "pad", "mode", "value"), node.args, strict=False)) | node.kwargs
        return not given.get("value")  # zero has a code on every grid
    return kind in _MOVING


def does_nothing(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a node hands its input on in evaluation."""
    kind = operation(graph_module, node)
    deep = getattr(kind, "__name__", "") == "stochastic_depth"  # torchvision's, which need not be there
    if deep or kind in _DROPOUTS:
        options = ("input", "p", "mode", "training") if deep else ("input", "p", "training")
        given = dict(zip(options, node.args, strict=False)) | node.kwargs
        return given.get("training", True) is False
    return kind in _NOTHING


def rectifier_after(graph_module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Return the ReLU or ReLU6 that is the only user of a convolution, linear layer or addition, or None."""
    fusable = is_weighted(graph_module, node) or operation(graph_module, node) in _SUMS
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


def _over_outputs(layer: Weighted | Transposed, factor: torch.Tensor) -> torch.Tensor:
    """Return a number for each output channel, `(C,)`, in the shape that broadcasts over the layer's weights."""
    ones = [1] * (layer.weight.dim() - 1)
    if not isinstance(layer, Transposed):
        return factor.reshape(-1, *ones)
    # (inputs, outputs of a group, ...): which outputs they are depends on the input's group.
    by_group = factor.reshape(layer.groups, -1).repeat_interleave(layer.in_channels // layer.groups, 0)
    return by_group.reshape(*by_group.shape, *ones[1:])


def interleave_transposed(graph_module: fx.GraphModule) -> None:
    """Write each transposed convolution as a convolution and what puts its outputs side by side, in place.

    That convolution has an integer kernel, which does a ReLU in passing as others do.
    """
    made: dict[str, Interleave] = {}
    asked = {node.target for node in graph_module.graph.nodes if len(node.args) > 1 or node.kwargs}  # for a size
    for node in list(graph_module.graph.nodes):
        name, layer = str(node.target), called_module(graph_module, node)
        if isinstance(layer, Transposed) and name not in asked:
            convolution, made[name] = as_convolution(layer)
            graph_module.set_submodule(name, convolution)
        if node.op == "call_module" and name in made:
            last = rectifier_after(graph_module, node) or node
            graph_module.add_submodule(f"{name}_interleave", made[name])
            with graph_module.graph.inserting_after(last):
                call = graph_module.graph.call_module(f"{name}_interleave", (last,))
            last.replace_all_uses_with(call, delete_user_cb=partial(operator.is_not, call))
    graph_module.recompile()


def must_be_float(model: nn.Module) -> None:
    """Raise `EdgelabError` for a model that `prepare` has made."""
    if isinstance(model, nn.Module) and quantizers(model):
        raise EdgelabError(_("This model is prepared already: give `prepare` the float model that it was made of."))


def fold_batchnorm(model: nn.Module) -> fx.GraphModule:
    """Return a copy of `model`, traced, in which every batch norm after a convolution or linear layer is folded in.

    Batch norm in evaluation is one more affine map for each channel, y = gamma (x - mean) / sqrt(var + eps) + beta,
    so the layer before it can do it: W' = W gamma / sqrt(var + eps), b' = (b - mean) gamma / sqrt(var + eps) + beta
    (Jacob et al., 2018, section 3.2). A layer that is called twice, or whose output is used elsewhere too, keeps its
    batch norm. Raise `EdgelabError` for a model that is prepared already, and as `trace` does.
    """
    must_be_float(model)
    graph_module = trace(model)
    modules = {node: called_module(graph_module, node) for node in graph_module.graph.nodes}
    layers = {node: module for node, module in modules.items() if isinstance(module, Weighted | Transposed)}
    stands_for = graph_module.meta["stands_for"]
    for node in list(graph_module.graph.nodes):
        norm = called_module(graph_module, node)
        if not isinstance(norm, _Norm) or norm.running_mean is None or norm.running_var is None:
            continue
        before = node.all_input_nodes[0]
        layer = layers.get(before)
        if layer is None or len(before.users) > 1 or not is_called_once(graph_module, before):
            continue
        # A linear layer's channels are the last dimension, a convolution's and a batch norm's the second.
        if isinstance(layer, nn.Linear) and not isinstance(norm, nn.BatchNorm1d):
            continue
        channels = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        if norm.num_features != channels:  # BatchNorm1d on (N, L, C) normalises places, not channels
            continue
        gamma = 1.0 if norm.weight is None else norm.weight
        beta = 0.0 if norm.bias is None else norm.bias
        bias = 0.0 if layer.bias is None else layer.bias
        with torch.no_grad():
            factor = gamma / torch.sqrt(norm.running_var + norm.eps)
            # New parameters: another layer may share the old ones, and has a batch norm of its own.
            layer.weight = nn.Parameter(layer.weight * _over_outputs(layer, factor))
            layer.bias = nn.Parameter((bias - norm.running_mean) * factor + beta)
        name = str(node.target)
        stands_for[str(before.target)] = stands_for.get(name, name)
        node.replace_all_uses_with(before)
        graph_module.graph.erase_node(node)
    graph_module.delete_all_unused_submodules()
    graph_module.recompile()
    return remember(graph_module, model)
