"""Which weights matter: a criterion gives every weight a score, and those with the smallest scores go first.

A criterion is a function of a model that returns its `Scores`; what needs more than the model is bound beforehand, as
in `functools.partial(taylor, split=lessons)`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle

from edgelab.bars import track
from edgelab.data import Split, normalize
from edgelab.data.inputs import run_on
from edgelab.errors import EdgelabError
from edgelab.i18n import _

Prunable = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
Scores = dict[str, torch.Tensor]  # by the name of the layer; the shape is that of its weight


def prunable(model: nn.Module) -> dict[str, Prunable]:
    """Return the layers of `model` whose weights can be pruned by their names, in order: convolutions and linear ones.

    Raise `EdgelabError` for a model without any, for a weight that two layers share, as one mask could not serve both,
    and for one that is computed from several parameters.
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, Prunable)}
    if not layers:
        raise EdgelabError(_("There is nothing to prune in this model: it has no convolution and no linear layer."))
    owners: dict[int, str] = {}
    for name, layer in layers.items():
        if (steps := steps_of(layer)) is not None and not hasattr(steps, "original"):
            message = _(
                "The weight of layer %(name)s is computed from several parameters: make it one parameter first."
            )
            raise EdgelabError(message % {"name": name})
        first = owners.setdefault(id(stored_weight(layer)), name)
        if first != name:
            message = _("The layers %(first)s and %(second)s share one weight: it cannot have two masks.")
            raise EdgelabError(message % {"first": first, "second": name})
    return layers


def steps_of(layer: nn.Module) -> Any:
    """Return the `ParametrizationList` by which the weight of `layer` is computed; None where it is a parameter."""
    return cast(Any, layer.parametrizations).weight if parametrize.is_parametrized(layer, "weight") else None


def stored_weight(layer: Prunable) -> nn.Parameter:
    """Return the parameter that training changes: the weight itself, or what it is computed from."""
    steps = steps_of(layer)
    return cast(nn.Parameter, layer.weight) if steps is None else steps.original


def make_plain(layer: Prunable, *, leave_parametrized: bool) -> None:
    """Make the weight of `layer` a parameter again: what it is computed as, or else what it was computed from.

    `remove_parametrizations` changes the layer's class, which it shares with every copy of the layer, and they would be
    without a weight: so the layer gets a class of its own first.
    """
    shared = type(layer)
    members = {name: value for name, value in vars(shared).items() if name not in ("__dict__", "__weakref__")}
    layer.__class__ = type(shared.__name__, shared.__bases__, members)
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=leave_parametrized)


def magnitude(model: nn.Module) -> Scores:
    """Return `|w|` of every weight (Han et al., 2015, "Learning both Weights and Connections")."""
    return {name: layer.weight.detach().abs() for name, layer in prunable(model).items()}


def random(model: nn.Module, *, seed: int = 0) -> Scores:
    """Return a random number in (-1, 0] for every weight: what any other criterion must beat."""
    generator = torch.Generator().manual_seed(seed)
    layers = prunable(model).items()
    return {
        name: -torch.rand(layer.weight.shape, generator=generator).to(layer.weight.device) for name, layer in layers
    }


def taylor(model: nn.Module, *, split: Split, batch_size: int = 128) -> Scores:
    """Return `|w * dL/dw|`, to first order the change of the loss L if the weight were 0, mean over the batches.

    L is the cross-entropy of a batch of `split`, in evaluation mode. Source: Molchanov et al., 2017, "Pruning
    Convolutional Neural Networks for Resource Efficient Inference", eq. 7, here for single weights.
    """
    layers = prunable(model)
    weights = {name: stored_weight(layer) for name, layer in layers.items()}
    scores = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    device = next(iter(weights.values())).device
    model.eval()
    batches = list(zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True))
    for images, labels in track(batches, _("scoring weights"), unit=_("batch")):
        loss = F.cross_entropy(run_on(model, normalize(images).to(device)), labels.to(device))
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            scores[name] += (weight.detach() * gradient).abs() / len(batches)
    return scores


@contextmanager
def movement(model: nn.Module) -> Iterator[Scores]:
    """Add up `-w * dL/dw` over every training step inside the block; the scores are complete when it ends.

    A weight that training moves away from zero has a positive score, one that it moves towards zero a negative one
    (Sanh, Wolf and Rush, 2020, "Movement Pruning", section 4).
    """
    weights = {name: stored_weight(layer) for name, layer in prunable(model).items()}
    scores = {name: torch.zeros_like(weight) for name, weight in weights.items()}

    def watch(name: str, weight: nn.Parameter) -> RemovableHandle:
        def add(gradient: torch.Tensor) -> None:
            scores[name].sub_(weight.detach() * gradient)

        return weight.register_hook(add)

    handles = [watch(name, weight) for name, weight in weights.items()]
    try:
        yield scores
    finally:
        for handle in handles:
            handle.remove()
