"""The criterion: a score for every channel of every group, low where the model would miss it least."""

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional as F

from edgelab import data
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.pruning.channels import OUT, Norm
from edgelab.pruning.dependency import Dependencies, Group, Member

Scores = Mapping[str, torch.Tensor]  # by group, a number for each channel: the higher, the more it matters


def filter_l1(weight: torch.Tensor) -> torch.Tensor:
    """Return the sum of absolute weights of each filter, shape `(C,)`, of `weight` `(C, ...)` (Li et al., 2017)."""
    return weight.abs().flatten(1).sum(1)


def filter_l2(weight: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean norm of each filter, shape `(C,)`, of `weight` `(C, ...)`."""
    return weight.flatten(1).norm(dim=1)


def norm_scale(weight: torch.Tensor) -> torch.Tensor:
    """Return `|gamma|` of each channel of a batch norm, shape `(C,)` (Liu et al., 2017, "network slimming")."""
    return weight.abs()


@torch.no_grad()
def channel_importance(
    dependencies: Dependencies, criterion: str = "l1", split: data.Split | None = None, *, seed: int = 0
) -> dict[str, torch.Tensor]:
    """Return the scores of all channels by `criterion`, for each group a tensor as long as the group.

    "l1" and "l2" look at the filters that make the channel, "bn-scale" at its batch norms; where there are several,
    each counts relative to its layer's mean, and their mean is the score. So scores of different groups can be
    compared. "taylor" is what the loss on `split` changes by, to first order, when the channel fades out; it needs
    images. "random" draws from `seed`: the control that every criterion has to beat.

    Raise `EdgelabError` for an unknown criterion, for "taylor" without images, and for "bn-scale" where a group has
    no batch norm.
    """
    if criterion == "taylor":
        if split is None:
            raise EdgelabError(_("The criterion taylor asks the loss: give it images, as `data.load().train[:512]`."))
        return _taylor(dependencies, split)
    if criterion == "random":
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.rand(len(group), generator=generator) for name, group in dependencies.groups.items()}
    if criterion not in _BY_WEIGHT:
        known = ", ".join([*_BY_WEIGHT, "taylor", "random"])
        raise EdgelabError(
            _("There is no criterion %(name)r. There are: %(known)s.") % {"name": criterion, "known": known}
        )
    return {name: _by_weight(dependencies, group, criterion) for name, group in dependencies.groups.items()}


_BY_WEIGHT: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "l1": filter_l1,
    "l2": filter_l2,
    "bn-scale": norm_scale,
}


def _by_weight(dependencies: Dependencies, group: Group, criterion: str) -> torch.Tensor:
    """Return the mean, over the layers that make a group's channels, of their scores relative to the layer's mean."""
    scores = []
    for member, layer in makers(dependencies, group).items():
        if isinstance(layer, Norm) == (criterion == "bn-scale") and layer.weight is not None:
            each = _BY_WEIGHT[criterion](_filters(layer))
            each = _of_channels(each, member)
            scores.append(each / each.mean().clamp_min(1e-12))
    if not scores:
        raise EdgelabError(_("Group %(name)s has no batch norm: use another criterion.") % {"name": group.name})
    return torch.stack(scores).mean(0)


def makers(dependencies: Dependencies, group: Group) -> dict[Member, nn.Module]:
    """Return the layers whose outputs a group's channels are: convolutions and linear layers, and norms."""
    modules = dict(dependencies.model.named_modules())
    found = {member: modules.get(member.layer) for member in group.members if member.direction == OUT}
    return {member: layer for member, layer in found.items() if layer is not None}


def _filters(layer: nn.Module) -> torch.Tensor:
    """Return a layer's weight with its output channels first."""
    transposed = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    weight: torch.Tensor = layer.weight  # type: ignore[assignment]
    return weight.detach().transpose(0, 1) if transposed else weight.detach()


def _of_channels(each: torch.Tensor, member: Member) -> torch.Tensor:
    """Return the sum of `each`, a number for every output of a layer, over what goes with each channel of a group."""
    owner = torch.tensor([channel for channel, indices in enumerate(member.indices) for _index in indices])
    places = torch.tensor([index for indices in member.indices for index in indices])
    return torch.zeros(len(member.indices)).index_add_(0, owner, each[places].float())


def _taylor(dependencies: Dependencies, split: data.Split, batch_size: int = 64) -> dict[str, torch.Tensor]:
    """Return, for each channel, the mean over batches of (sum of w dL/dw)^2 (Molchanov et al., 2019, eq. 8).

    w are the parameters that scale the channel: gamma and beta of its batch norms, and where it has none, the filters
    and biases that make it. Scaled down to zero together, they take the channel out.
    """
    model = dependencies.model.eval()
    gates: dict[str, list[tuple[Member, torch.nn.Parameter]]] = {}
    for name, group in dependencies.groups.items():
        layers = makers(dependencies, group)
        norms = {member: layer for member, layer in layers.items() if isinstance(layer, Norm)}
        gates[name] = [
            (member, parameter)
            for member, layer in (norms or layers).items()
            for parameter in layer.parameters(recurse=False)
        ]
    parameters = list({id(p): p for some in gates.values() for _member, p in some}.values())
    required = [parameter.requires_grad for parameter in parameters]
    scores = {name: torch.zeros(len(group)) for name, group in dependencies.groups.items()}
    batches = range(0, len(split), batch_size)
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for start in batches:
            part = split[start : start + batch_size]
            with torch.enable_grad():
                loss = F.cross_entropy(model(data.normalize(part.images)), part.labels)
                slopes = torch.autograd.grad(loss, parameters, allow_unused=True)
            slope_of = {id(p): slope for p, slope in zip(parameters, slopes, strict=True)}
            for name, some in gates.items():
                faded = torch.zeros_like(scores[name])
                for member, parameter in some:
                    if (slope := slope_of[id(parameter)]) is not None:
                        faded += _of_channels(_per_output(parameter.detach() * slope, dependencies, member), member)
                scores[name] += faded.square() / len(batches)
    finally:
        for parameter, requires in zip(parameters, required, strict=True):
            parameter.requires_grad_(requires)
    return scores


def _per_output(product: torch.Tensor, dependencies: Dependencies, member: Member) -> torch.Tensor:
    """Return the sums of a parameter's elements for each output of its layer."""
    layer = dependencies.model.get_submodule(member.layer)
    transposed = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    if product.dim() > 1:
        product = (product.transpose(0, 1) if transposed else product).flatten(1).sum(1)
    return product
