"""Post-training quantization: prepare -> calibrate -> convert, and the layer-by-layer question "who is hurt?"."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import fx, nn

from edgelab.bars import track
from edgelab.data.inputs import as_input, fast_layout, run_on
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.quantization.affine import QSpec
from edgelab.quantization.conversion import codes_of
from edgelab.quantization.graph import (
    does_nothing,
    fold_batchnorm,
    interleave_transposed,
    is_integer,
    moves_codes,
    rectifier_after,
    weighted_layers,
)
from edgelab.quantization.observers import OBSERVERS, Observer
from edgelab.quantization.quantizer import FakeQuantize, SameGrid, attach, quantizer_of, quantizers
from edgelab.tracing import called_module, is_number, verify


@dataclass(frozen=True)
class QuantizationConfig:
    """What to quantize, and how finely.

    `weight_bits` and `activation_bits` from 2 to 8; `activation_bits=None` leaves activations in float. Weights are
    symmetric without the lowest code, as LiteRT requires, with a scale for each output channel (`per_channel`) or one
    for all. Activations are affine, one scale each. `observer` and `weight_observer` are names of `OBSERVERS`. `skip`
    names layers that stay in float, as `named_modules` does; a prefix names all below it.
    """

    weight_bits: int = 8
    activation_bits: int | None = 8
    per_channel: bool = True
    observer: str = "min-max"
    weight_observer: str = "min-max"
    skip: tuple[str, ...] = ()

    def weight_quantizer(self) -> FakeQuantize:
        """Return a new `FakeQuantize` for one layer's weights."""
        spec = QSpec(self.weight_bits, symmetric=True, narrow=True, axis=0 if self.per_channel else None)
        return FakeQuantize(_observer(self.weight_observer, spec))

    def activation_quantizer(self) -> FakeQuantize | None:
        """Return a new `FakeQuantize` for one activation, or None where activations stay in float."""
        if self.activation_bits is None:
            return None
        return FakeQuantize(_observer(self.observer, QSpec(self.activation_bits, signed=False)))

    def skips(self, name: str) -> bool:
        """Return whether the layer `name` stays in float."""
        return any(name == skipped or name.startswith(f"{skipped}.") for skipped in self.skip)


def _observer(name: str, spec: QSpec) -> Observer:
    if name not in OBSERVERS:
        raise EdgelabError(
            _("There is no observer %(name)r. There are: %(known)s.") % {"name": name, "known": ", ".join(OBSERVERS)}
        )
    return OBSERVERS[name](spec)


def prepare(model: nn.Module, config: QuantizationConfig = QuantizationConfig()) -> fx.GraphModule:
    """Return a copy of `model`, batch norm folded, that watches or rounds every tensor the integer runtime will hold.

    Weights of convolutions and linear layers get a `FakeQuantize` each; so does every activation that an integer
    kernel reads or writes, after its ReLU if it has one: that is where the runtime saturates. What only moves codes
    (max pooling, reshaping) keeps the grid of its input. Attention becomes its two products and its softmax, and a
    transposed convolution a convolution whose outputs are put side by side: for those there are kernels. The new model
    starts in mode `observe`: `calibrate` it, which also compares it with `model`.

    Raise `EdgelabError` for a model that `torch.fx` cannot follow, naming the line, for one that has hooks, more than
    one input, or is prepared already, and for an unknown name in `skip`.
    """
    prepared = fold_batchnorm(model)
    interleave_transposed(prepared)
    names = {name for name, _module in prepared.named_modules()}
    if unknown := set(config.skip) - names:
        raise EdgelabError(_("There is no layer %(name)s to leave in float.") % {"name": ", ".join(sorted(unknown))})
    _insert_activation_quantizers(prepared, config)
    for node, layer in weighted_layers(prepared).items():
        if not config.skips(str(node.target)) and quantizer_of(layer) is None:
            attach(layer, config.weight_quantizer())
    if not quantizers(prepared):
        raise EdgelabError(
            _("There is nothing to quantize in this model: no convolution and no linear layer, or all skipped.")
        )
    prepared.graph.lint()
    prepared.recompile()
    return prepared


def _insert_activation_quantizers(prepared: fx.GraphModule, config: QuantizationConfig) -> None:
    """Put a `FakeQuantize` behind every tensor that an integer kernel reads or writes."""
    quantized: dict[fx.Node, FakeQuantize] = {}

    def is_kernel(node: fx.Node) -> bool:
        return is_integer(prepared, node) and not (node.op == "call_module" and config.skips(str(node.target)))

    def is_written_by_kernel(node: fx.Node) -> bool:
        before = node.all_input_nodes[0] if node.all_input_nodes else None
        if before is not None and rectifier_after(prepared, before) is node:
            return is_kernel(before)
        return is_kernel(node) and rectifier_after(prepared, node) is None

    for node in list(prepared.graph.nodes):
        if node.op == "output" or is_number(node):
            continue
        fused = rectifier_after(prepared, node) is not None and is_kernel(node)
        grid = quantized.get(node.all_input_nodes[0]) if node.all_input_nodes else None
        if grid is not None and does_nothing(prepared, node):
            quantized[node] = grid
            continue
        quantizer: FakeQuantize | SameGrid | None = None
        if grid is not None and moves_codes(prepared, node):
            quantizer = SameGrid(grid)
        elif is_written_by_kernel(node) or (not fused and any(is_kernel(user) for user in node.users)):
            quantizer = grid = config.activation_quantizer()
        if quantizer is None or grid is None:
            continue
        name = f"quantize_{node.name}"
        prepared.add_submodule(name, quantizer)
        with prepared.graph.inserting_after(node):
            inserted = prepared.graph.call_module(name, (node,))
        node.replace_all_uses_with(inserted, delete_user_cb=lambda user, inserted=inserted: user is not inserted)
        quantized[inserted] = grid


@torch.no_grad()  # not inference mode: training may go on with what is made here
def calibrate(model: fx.GraphModule, images: torch.Tensor, *, batch_size: int = 64) -> fx.GraphModule:
    """Show `images` (normalised float32, `(N, C, H, W)`) to a prepared model, then fix every scale and zero point.

    What an earlier calibration has seen is forgotten; scales that are learned go on being learned. The model quantizes
    from then on. Return it. The first time, the model is also compared with the one that it was made of, on some of the
    images and on noise. Raise `EdgelabError` where they differ, naming the first layer; where nothing was observed, or
    nothing finite; and for a model that is not from `prepare`.
    """
    if not isinstance(model, fx.GraphModule) or not quantizers(model):
        raise EdgelabError(_("This model is not prepared: give what `prepare` returns."))
    if any(codes_of(layer) is not None for layer in weighted_layers(model).values()):
        raise EdgelabError(
            _("This model is converted already: calibrate what `prepare` returns, then convert it anew.")
        )
    model.eval()
    images = as_input(images)
    verify(model, images, batch_size)
    for quantizer in quantizers(model).values():
        quantizer.watch()
    batches = fast_layout(images).split(batch_size)
    weights = [quantizer for name, quantizer in quantizers(model).items() if ".parametrizations." in name]
    for layer in weighted_layers(model).values():
        _shown = layer.weight  # reading a weight shows it to its observer
    for quantizer in weights:
        quantizer.freeze()
        quantizer.mode = "float"  # activations are observed in the float model
    for batch in track(batches, _("calibrating"), unit=_("batch")):
        run_on(model, batch.clone())  # a model may work on its input in place
    _remove_idle(model)
    for quantizer in quantizers(model).values():
        if quantizer.mode == "observe":
            quantizer.freeze()
        quantizer.mode = "quantize"
    return model


def _remove_idle(model: fx.GraphModule) -> None:
    """Take out the quantizers of what has turned out to be masks, indices and the like: no activations."""
    for node in list(model.graph.nodes):
        module = called_module(model, node)
        if isinstance(module, (FakeQuantize, SameGrid)) and module.saw_other:
            node.replace_all_uses_with(node.all_input_nodes[0])
            model.graph.erase_node(node)
    model.delete_all_unused_submodules()
    model.recompile()


def learn_steps(model: fx.GraphModule) -> fx.GraphModule:
    """Make every scale of a calibrated model a parameter that training may change (LSQ); return the model."""
    for quantizer in quantizers(model).values():
        quantizer.scale.requires_grad_(True)
    return model


def sensitivity(
    model: fx.GraphModule, score: Callable[[fx.GraphModule], float], *, progress: bool = True
) -> dict[str, float]:
    """Return `{layer: score}`: what `score(model)` gives with that layer's weights alone in integers, all else float.

    `model` is calibrated; it comes back as it was.
    """
    every = quantizers(model)
    modes = {name: quantizer.mode for name, quantizer in every.items()}
    layers = {name.partition(".parametrizations.")[0]: name for name in every if ".parametrizations." in name}
    scores = {}
    try:
        for layer, name in track(layers.items(), _("layers"), disable=not progress):
            for other, quantizer in every.items():
                quantizer.mode = "quantize" if other == name else "float"
            scores[layer] = score(model)
    finally:
        for name, quantizer in every.items():
            quantizer.mode = modes[name]
    return scores
