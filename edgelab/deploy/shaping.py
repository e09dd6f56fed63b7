"""The same model, in the shapes that integer kernels take: nothing here changes what is computed."""

import operator
from functools import partial

import torch
from torch import fx, nn
from torch.nn import functional as F

from edgelab.quantization.conversion import codes_of
from edgelab.quantization.graph import is_called_once, rectifier_after, weighted_layers


def fill_lanes(model: fx.GraphModule) -> None:
    """Give the first convolution a multiple of 4 input channels, in place: zeros beside the picture's own.

    Int8 instructions sum products four at a time, and ONNX Runtime has its direct convolution for such counts only: the
    layer takes half the time. The quantizer of the picture rounds zeros to zeros, so the outputs stay the same.
    """
    for node, layer in weighted_layers(model).items():
        if not (isinstance(layer, nn.Conv2d) and layer.groups == 1 and codes_of(layer) is not None):
            continue
        missing = -layer.in_channels % 4
        source = node.all_input_nodes[0]
        picture = source.op == "call_module" and source.all_input_nodes[0].op == "placeholder"
        reads_picture = picture and len(source.users) == 1
        if missing and reads_picture and is_called_once(model, node):
            model.set_submodule("fill_lanes", _ZeroChannels(missing))
            with model.graph.inserting_before(source):
                source.args = (model.graph.call_module("fill_lanes", source.args),)
            layer.weight = nn.Parameter(F.pad(layer.weight, (0, 0, 0, 0, 0, missing)), requires_grad=False)
            layer.in_channels += missing
            model.recompile()


class _ZeroChannels(nn.Module):
    """`(N, C, H, W) -> (N, C + count, H, W)`."""

    def __init__(self, count: int):
        super().__init__()
        self.count = count

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, self.count))


def flatten_tokens(model: fx.GraphModule, example: torch.Tensor) -> None:
    """Show linear layers `(N T, C)` instead of `(N, T, C)`, in place: only of that is there an integer kernel."""
    for node in _layers_of_tokens(model, example):
        source, last = node.all_input_nodes[0], rectifier_after(model, node) or node
        rounded = next(iter(last.users))
        with model.graph.inserting_before(node):
            size = model.graph.call_method("size", (source,))
            lead = model.graph.call_function(operator.getitem, (size, slice(None, -1)))
            node.args = (model.graph.call_function(torch.flatten, (source, 0, -2)),)
        with model.graph.inserting_after(rounded):
            back = model.graph.call_method("unflatten", (rounded, 0, lead))
        rounded.replace_all_uses_with(back, delete_user_cb=partial(operator.is_not, back))
    model.recompile()


def _layers_of_tokens(model: fx.GraphModule, example: torch.Tensor) -> list[fx.Node]:
    """Return the calls of linear layers with codes whose input has more than two dimensions."""
    dims: dict[nn.Module, int] = {}

    def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        dims[layer] = inputs[0].dim()

    layers = {node: layer for node, layer in weighted_layers(model).items() if isinstance(layer, nn.Linear)}
    hooks = [layer.register_forward_pre_hook(note) for layer in layers.values()]
    try:
        with torch.no_grad():
            model(example)
    finally:
        for hook in hooks:
            hook.remove()
    return [node for node, layer in layers.items() if codes_of(layer) is not None and dims.get(layer, 2) > 2]
