"""Two cures without training for networks whose channels differ too much.

Source: Nagel et al., 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction".

`equalize` moves scale between neighbouring layers until their channels have like ranges; `correct_bias` takes back the
mean error that rounding the weights has put on every output.
"""

from collections import Counter

import torch
from torch import fx, nn
from torch.nn import functional as F

from edgelab.data.inputs import as_input, fast_layout, run_on
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.quantization.graph import (
    Weighted,
    does_nothing,
    fold_batchnorm,
    is_called_once,
    is_weighted,
    weighted_layers,
)
from edgelab.quantization.quantizer import quantizer_of, quantizers
from edgelab.tracing import operation


@torch.no_grad()
def equalize(model: nn.Module, *, rounds: int = 20) -> fx.GraphModule:
    """Return a copy of `model`, batch norm folded, whose neighbouring layers have weights of like range.

    For positive s, relu(s x) = s relu(x): so output channel i of one layer may be divided by s_i, if the next layer's
    weights for that channel are multiplied by it. With r1 and r2 the ranges of the channel's weights in both layers,
    s = r1 / sqrt(r1 r2) makes them equal (eq. 11 of the paper). ReLU6 is no such function, and becomes ReLU; batch norm
    trained with the clip hardly needs it, as the paper found, but check the accuracy.
    """
    folded = _without_clip(fold_batchnorm(model))
    layers = weighted_layers(folded)
    pairs = [(first, second) for first in layers if (second := _only_reader(folded, first)) is not None]
    # Rows of a convolution are rows of a convolution; a linear layer behind one works on the width of the picture.
    pairs = [pair for pair in pairs if len({isinstance(layers[node], nn.Linear) for node in pair}) == 1]
    pairs = [pair for pair in pairs if all(is_called_once(folded, node) for node in pair)]
    for layer in {layers[node] for pair in pairs for node in pair}:  # what it shares with another layer stays there
        layer.weight = nn.Parameter(layer.weight.clone())
        layer.bias = None if layer.bias is None else nn.Parameter(layer.bias.clone())
    for _round in range(rounds):
        for first, second in pairs:
            _balance(layers[first], layers[second])
    return folded


def _without_clip(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Replace ReLU6 by ReLU, in place."""
    for node in graph_module.graph.nodes:
        if operation(graph_module, node) is nn.ReLU6:
            graph_module.set_submodule(str(node.target), nn.ReLU())
        elif operation(graph_module, node) is F.relu6:
            node.target = F.relu
    graph_module.recompile()
    return graph_module


def _only_reader(graph_module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """Return the convolution or linear layer that alone reads a layer's output, through at most a ReLU, or None."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        if is_weighted(graph_module, node):
            return node
        if operation(graph_module, node) not in (nn.ReLU, F.relu, torch.relu) and not does_nothing(graph_module, node):
            return None
    return None


def _balance(first: Weighted, second: Weighted) -> None:
    """Give output channel i of `first` and input channel i of `second` the same largest weight."""
    outgoing = _by_group(second)
    r1, r2 = first.weight.abs().flatten(1).amax(1), outgoing.abs().amax((1, 3)).flatten()
    s = torch.where((r1 > 0) & (r2 > 0), (r1 / r2).sqrt(), torch.ones_like(r1))
    first.weight.div_(s.reshape(-1, *[1] * (first.weight.dim() - 1)))
    if first.bias is not None:
        first.bias.div_(s)
    outgoing.mul_(s.reshape(len(outgoing), 1, -1, 1))


def _by_group(layer: Weighted) -> torch.Tensor:
    """Return a view of a layer's weights as `(groups, outputs of a group, inputs of a group, kernel)`."""
    groups = getattr(layer, "groups", 1)
    outputs, inputs = layer.weight.shape[:2]
    return layer.weight.view(groups, outputs // groups, inputs, -1)


@torch.no_grad()
def correct_bias(model: fx.GraphModule, images: torch.Tensor, *, batch_size: int = 64) -> fx.GraphModule:
    """Take the mean error of rounded weights out of the biases of a calibrated model, in place; return the model.

    Rounding changes a layer's output by (Q(W) - W) x. Its mean over data, (Q(W) - W) E[x], is a constant for each
    channel, and the bias can carry it (section 4.2 of the paper). E[x] is measured on `images`, normalised float32
    `(N, C, H, W)`, as the quantized model sees them, layer after layer; padding at the borders is left out of account.
    Raise `EdgelabError` for a model that is not calibrated.
    """
    images = as_input(images)
    layers = {layer for layer in weighted_layers(model).values() if quantizer_of(layer) is not None}
    if not layers or any(quantizer.mode == "observe" for quantizer in quantizers(model).values()):
        raise EdgelabError(_("Biases are corrected after `calibrate` and before `convert`."))
    model.eval()
    sums: dict[nn.Module, torch.Tensor] = {}
    counts: Counter[nn.Module] = Counter()

    def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0].detach()
        place = 1 - layer.get_parameter("parametrizations.weight.original").dim()  # the last of a linear layer's input
        channels = x.movedim(place, 0).flatten(1)  # (C, all else)
        sums[layer] = sums.get(layer, torch.zeros(())) + channels.sum(1)
        counts[layer] += channels.shape[1]

    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    try:
        for batch in fast_layout(images).split(batch_size):
            run_on(model, batch.clone())
    finally:
        for hook in hooks:
            hook.remove()
    for layer in layers:
        error = layer.weight - layer.get_parameter("parametrizations.weight.original")
        per_input = error.flatten(2).sum(2) if error.dim() > 2 else error
        groups = getattr(layer, "groups", 1)
        x = (sums[layer] / counts[layer]).reshape(groups, -1)
        shift = torch.einsum("goi,gi->go", per_input.reshape(groups, -1, x.shape[1]), x).flatten()
        layer.bias = nn.Parameter((0 if layer.bias is None else layer.bias) - shift)
    return model
