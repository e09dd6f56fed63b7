"""The step from a calibrated model to the numbers that its integers stand for."""

import copy
from typing import NamedTuple

import torch
from torch import fx, nn

from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.quantization.affine import QParams
from edgelab.quantization.graph import does_nothing, weighted_layers
from edgelab.quantization.integer import quantize_bias
from edgelab.quantization.quantizer import FakeQuantize, SameGrid, quantizer_of, quantizers
from edgelab.quantization.report import say_what_stays
from edgelab.tracing import called_module, make_plain


def activation_grids(model: nn.Module) -> dict[str, FakeQuantize]:
    """Return, by the name of each module that rounds activations, the `FakeQuantize` whose grid it rounds to."""
    grids = {}
    for name, module in model.named_modules():
        if isinstance(module, (FakeQuantize, SameGrid)) and not name.endswith(".quantizer"):
            grids[name] = module.quantizer if isinstance(module, SameGrid) else module
    return grids


def grid_of(model: fx.GraphModule, node: fx.Node) -> FakeQuantize | None:
    """Return the `FakeQuantize` on whose grid a node's values lie, or None where they may be any numbers."""
    while does_nothing(model, node):
        node = node.all_input_nodes[0]
    module = called_module(model, node)
    module = module.quantizer if isinstance(module, SameGrid) else module
    return module if isinstance(module, FakeQuantize) else None


class Codes(NamedTuple):
    """What `convert` leaves at a layer: the grid of its weights, and step and codes of a bias that is no float."""

    weight_qparams: QParams
    bias_scale: torch.Tensor | None = None
    bias_codes: torch.Tensor | None = None


def codes_of(layer: nn.Module) -> Codes | None:
    """Return what `convert` left at a layer, or None where its weights are floats."""
    kept = vars(layer).get("weight_qparams")
    return None if kept is None else Codes(kept, *(layer._buffers[name] for name in ("bias_scale", "bias_codes")))


def _keep(layer: nn.Module, codes: Codes) -> None:
    """Leave codes at a layer, as buffers: a checkpoint holds them, and what loads it has them all."""
    scale, zero_point = codes.weight_qparams.scale.clone(), codes.weight_qparams.zero_point.clone()
    for name, tensor in {"weight_scale": scale, "weight_zero_point": zero_point}.items():
        layer.register_buffer(name, tensor)
    layer.register_buffer("bias_scale", codes.bias_scale)
    layer.register_buffer("bias_codes", codes.bias_codes)
    # Not by assignment: to torch's types, a module's attributes are tensors and modules. The tensors are the buffers.
    vars(layer)["weight_qparams"] = QParams(scale, zero_point, codes.weight_qparams.spec)


def _one_call_each(model: fx.GraphModule) -> None:
    """Give each further call of a layer a layer of its own, in place: a bias lies on the grid of one input."""
    seen: set[str] = set()
    for node, layer in weighted_layers(model).items():
        name = str(node.target)
        if name in seen:
            node.target = f"{name}_{node.name}"
            model.add_submodule(str(node.target), copy.deepcopy(layer))
        seen.add(name)
    model.recompile()


@torch.no_grad()
def convert(model: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of a calibrated model that holds exactly the numbers its integers stand for.

    Weights lie on their grid, kept as the layer's `weight_qparams`. Where the input is quantized too, the bias lies on
    the grid of the int32 accumulator, step `input scale * weight scale`, kept as `bias_scale` and `bias_codes`. The
    export writes these codes, so that what is evaluated here is what runs there. All are buffers, which a checkpoint
    holds. One line tells of layers that stay in float though nobody asked for it; `layer_report` lists all layers.

    Raise `EdgelabError` for a model that was not prepared and calibrated.
    """
    if not isinstance(model, fx.GraphModule) or not quantizers(model):
        raise EdgelabError(_("This model is not prepared: give what `prepare` returns."))
    if any(quantizer.mode == "observe" for quantizer in quantizers(model).values()):
        raise EdgelabError(_("This model has no scales yet: calibrate it before it is converted."))
    model = copy.deepcopy(model)
    _one_call_each(model)
    for node, layer in weighted_layers(model).items():
        quantizer = quantizer_of(layer)
        if quantizer is None:
            continue
        grid = grid_of(model, node.all_input_nodes[0])
        bias_scale = bias_codes = None
        if grid is not None and layer.bias is not None:
            # A channel of hardly anything but zeros has so small a scale that its bias would overflow.
            least = layer.bias.abs() / (grid.scale * 2**30)
            quantizer.scale.copy_(torch.maximum(quantizer.scale, least if quantizer.scale.dim() else least.max()))
            bias_scale = grid.qparams.scale * quantizer.qparams.scale
            bias_codes = quantize_bias(layer.bias, grid.qparams, quantizer.qparams)
            # A new one: another layer may share the old one, and has a step of its own.
            layer.bias = nn.Parameter((bias_codes.double() * bias_scale).float())
        codes = Codes(quantizer.qparams, bias_scale, bias_codes)
        make_plain(layer)
        _keep(layer, codes)
    say_what_stays(model)
    return model.eval().requires_grad_(False)
