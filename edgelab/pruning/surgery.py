"""The action: a smaller dense model, without the channels that go; or one of the same size, with those channels zeroed.

Both compute the same. That is the proof that nothing else was cut, and it is asked of every model that comes out.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from edgelab.data.inputs import run_on
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.pruning.channels import IN, OUT, Transposed
from edgelab.pruning.dependency import Dependencies
from edgelab.pruning.names import box, cut
from edgelab.pruning.reshaping import mend
from edgelab.tracing import alike, trials_like

Channels = Mapping[str, Sequence[int]]  # {group: numbers of its channels}
_TOLERANCE = 1e-4  # of the largest output: only the order of additions may differ


@torch.no_grad()
def remove_channels(dependencies: Dependencies, channels: Channels) -> fx.GraphModule:
    """Return a smaller copy of the model without `channels`, the numbers of channels by the name of their group.

    It has been compared with what `zero_channels` gives, on the example and on noise as strong. Raise `EdgelabError`
    where they differ, and for channels that must stay (see `Dependencies.removed`).
    """
    removed = dependencies.removed(channels)
    model = copy.deepcopy(dependencies.model)
    for layer in dict.fromkeys(layer for layer, _direction in removed):
        kept = {direction: ~removed[layer, direction] for direction in (OUT, IN) if (layer, direction) in removed}
        if not all(bool(mask.all()) for mask in kept.values()):
            _shrink(model, layer, kept)
    mend(model, dependencies, dependencies.gone(channels))
    _must_agree(model, zero_channels(dependencies, channels), dependencies.example)
    return model


@torch.no_grad()
def zero_channels(dependencies: Dependencies, channels: Channels) -> fx.GraphModule:
    """Return a copy of the model, as large as before, in which `channels` are zero wherever a layer makes them."""
    model = copy.deepcopy(dependencies.model)
    for (name, direction), mask in dependencies.removed(channels).items():
        if direction == OUT and bool(mask.any()):
            layer = _found(model, name)
            if isinstance(layer, torch.Tensor):
                layer.data.masked_fill_(mask.reshape(layer.shape), 0)
                continue
            for tensor in (layer.weight, getattr(layer, "bias", None)):
                if tensor is not None:
                    axis = 1 if isinstance(layer, Transposed) and tensor.dim() > 1 else 0
                    tensor.data.movedim(axis, 0)[mask] = 0
    return model


def _found(model: nn.Module, name: str) -> Any:
    """Return the layer of that name, or the parameter or buffer outside of any layer."""
    found: Any = model
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _shrink(model: nn.Module, name: str, kept: Mapping[str, torch.Tensor]) -> None:
    """Give the layer or parameter `name` what is left for it: `kept` is a boolean for each output and input."""
    layer = _found(model, name)
    if not isinstance(layer, torch.Tensor):
        shrink_layer(layer, kept[OUT], kept.get(IN))
    elif (along := box(kept[OUT].reshape(layer.shape))) is not None:
        owner, _dot, attribute = name.rpartition(".")
        _replace(_found(model, owner) if owner else model, attribute, cut(layer, along))
    else:
        raise EdgelabError(
            _("%(name)s, of shape %(shape)s, cannot lose these channels: what is left of it has no such shape.")
            % {"name": name, "shape": tuple(layer.shape)}
        )


def shrink_layer(layer: Any, out: torch.Tensor, into: torch.Tensor | None) -> None:
    """Leave a layer, in place, the outputs and inputs for which `out` and `into` are true."""
    if into is None:  # a norm, or a PReLU: a number for each channel
        for attribute in ("weight", "bias", "running_mean", "running_var"):
            if (tensor := getattr(layer, attribute, None)) is not None:
                _replace(layer, attribute, tensor[out])
        sizes = ("num_features", "num_channels", "num_groups", "num_parameters")
        vars(layer).update({size: int(out.sum()) for size in sizes if hasattr(layer, size)})
        return
    inputs, outputs = int(into.sum()), int(out.sum())
    if isinstance(layer, nn.Linear):
        layer.in_features, layer.out_features = inputs, outputs
    else:
        if layer.groups > 1:
            each = layer.in_channels // layer.groups
            into = into[:each]  # all groups keep the same ones of theirs
            if each == 1:  # depthwise: a channel is a group, and the weight has one input
                layer.groups, into = inputs, torch.ones(1, dtype=torch.bool)
        layer.in_channels, layer.out_channels = inputs, outputs
    _replace(layer, "weight", cut(layer.weight, [into, out] if isinstance(layer, Transposed) else [out, into]))
    if layer.bias is not None:
        _replace(layer, "bias", layer.bias[out])


def _replace(owner: nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Put a smaller tensor in the place of a parameter or buffer."""
    before = getattr(owner, name)
    if isinstance(before, nn.Parameter):
        setattr(owner, name, nn.Parameter(tensor.detach().clone(), requires_grad=before.requires_grad))
    else:
        setattr(owner, name, tensor.clone())


def _must_agree(smaller: nn.Module, zeroed: nn.Module, example: torch.Tensor) -> None:
    """Raise `EdgelabError` where two models differ on an example, or on noise as strong."""
    for trial in trials_like(example):
        if not alike(run_on(zeroed, trial.clone()), run_on(smaller, trial.clone()), _TOLERANCE):
            raise EdgelabError(
                _(
                    "The smaller model does not compute what this one does with the same channels zeroed: something in "
                    "it depends on how many channels there are. Keep them."
                )
            )
