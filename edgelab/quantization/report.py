"""Which layers run on integers, which stay in float, and why."""

from dataclasses import dataclass

import torch
from torch import fx
from torch.nn import functional as F

from edgelab.i18n import _
from edgelab.quantization.graph import MATRIX_PRODUCTS, Weighted, does_nothing, rectifier_after
from edgelab.quantization.quantizer import FakeQuantize, SameGrid, quantizer_of
from edgelab.tracing import called_module, operation

# Products of matrices that are no layers.
_PRODUCTS = {
    *(F.linear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d, F.bilinear),
    *(torch.einsum, torch.baddbmm, torch.addmm, F.scaled_dot_product_attention, F.multi_head_attention_forward),
    *MATRIX_PRODUCTS,
}


@dataclass(frozen=True)
class Layer:
    """A layer that multiplies by weights, or a product of matrices: its name and kind, and whether it is in integers.

    `why` says in the learner's language why it is in float; it is empty where it is not. `asked` is whether the
    learner's configuration said so.
    """

    name: str
    kind: str
    integer: bool
    why: str = ""
    asked: bool = False


def layer_report(model: fx.GraphModule) -> list[Layer]:
    """Return, in order of execution, all layers of a prepared or converted model that multiply by weights or matrices.

    >>> from torch import nn
    >>> from edgelab.quantization import prepare
    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GRU(8, 4))
    >>> [(layer.name, layer.kind, layer.integer) for layer in layer_report(prepare(model))]
    [('0', 'Conv2d', True), ('1', 'GRU', False)]
    """
    layers: dict[str, Layer] = {}
    for node in model.graph.nodes:
        module = called_module(model, node)
        if isinstance(module, Weighted):
            layers.setdefault(str(node.target), _weighted(model, node, module))
        elif module is not None and not isinstance(module, (FakeQuantize, SameGrid)):
            if any(parameter.dim() > 1 for parameter in module.parameters()):
                kind = type(module).__name__
                why = _("there is no integer kernel for %(kind)s") % {"kind": kind}
                layers.setdefault(str(node.target), Layer(str(node.target), kind, False, why))
        elif node.op in ("call_function", "call_method") and node.target in _PRODUCTS:
            layers[node.name] = _product(model, node)
    return list(layers.values())


def _product(model: fx.GraphModule, node: fx.Node) -> Layer:
    """Return what becomes of a product of two activations."""
    kind = getattr(node.target, "__name__", str(node.target))
    if node.target not in MATRIX_PRODUCTS:
        return Layer(node.name, kind, False, _("it is a function of two activations, not a layer"))
    if not all(_on_grid(model, source) for source in node.all_input_nodes):
        return Layer(node.name, kind, False, _("the activations around it are in float"), asked=True)
    return Layer(node.name, kind, True)


def _weighted(model: fx.GraphModule, node: fx.Node, layer: Weighted) -> Layer:
    """Return what becomes of a convolution or linear layer."""
    name, kind = str(node.target), getattr(operation(model, node), "__name__", type(layer).__name__)
    if quantizer_of(layer) is None and "weight_qparams" not in vars(layer):
        return Layer(name, kind, False, _("the configuration skips it"), asked=True)
    last = rectifier_after(model, node) or node
    if not _on_grid(model, node.all_input_nodes[0]) or not any(_on_grid(model, user) for user in last.users):
        return Layer(name, kind, False, _("the activations around it are in float"), asked=True)
    return Layer(name, kind, True)


def _on_grid(model: fx.GraphModule, node: fx.Node) -> bool:
    while does_nothing(model, node):
        node = node.all_input_nodes[0]
    return isinstance(called_module(model, node), (FakeQuantize, SameGrid))


def say_what_stays(model: fx.GraphModule) -> None:
    """Print one line that names the layers which stay in float, where there are some and nobody asked for it."""
    layers = layer_report(model)
    stay = [layer for layer in layers if not (layer.integer or layer.asked)]
    if stay:
        names = ", ".join(f"{layer.name} ({layer.kind}: {layer.why})" for layer in stay[:4])
        print(
            _("%(n)d of %(all)d layers stay in float: %(names)s.")
            % {"n": len(stay), "all": len(layers), "names": names + (", ..." if len(stay) > 4 else "")}
        )
