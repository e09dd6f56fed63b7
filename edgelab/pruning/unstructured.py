"""Masks over single weights: how they are chosen, how a model wears them, and which layer can bear how much.

`sparsity` is the share of zeros, in [0, 1]; a mask is a tensor of bool in which True keeps.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import nn
from torch.nn.utils import parametrize

from edgelab.bars import track
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.pruning.criteria import Prunable, Scores, magnitude, make_plain, prunable, steps_of, stored_weight

Masks = dict[str, torch.Tensor]


def magnitude_mask(weight: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Return the mask that drops the smallest `round(sparsity * n)` of the n weights, whatever their sign.

    >>> magnitude_mask(torch.tensor([0.1, -3.0, 0.2, -0.01]), sparsity=0.5)
    tensor([False,  True,  True, False])
    """
    return _keep_largest(weight.detach().abs(), as_sparsity(sparsity))


def choose_masks(scores: Mapping[str, torch.Tensor], sparsity: float, *, scope: str = "global") -> Masks:
    """Return the masks that drop the weights of smallest score until `sparsity` of them are gone.

    With `scope="layer"` every layer loses the same share; with `"global"` all weights compete with each other, and some
    layers lose more than others. Raise `EdgelabError` for a sparsity outside [0, 1], another scope, scores that are not
    numbers, and no scores at all.
    """
    sparsity = as_sparsity(sparsity)
    _must_be_numbers(scores)
    if scope == "layer":
        return {name: _keep_largest(score, sparsity) for name, score in scores.items()}
    if scope != "global":
        raise EdgelabError(
            _("There is no scope %(scope)r. There are: %(known)s.") % {"scope": scope, "known": "global, layer"}
        )
    every = torch.cat([score.flatten() for score in scores.values()])
    keep = _keep_largest(every, sparsity).split([score.numel() for score in scores.values()])
    return {name: part.reshape(score.shape) for part, (name, score) in zip(keep, scores.items(), strict=True)}


def n_m_masks(scores: Mapping[str, torch.Tensor], n: int = 2, m: int = 4) -> Masks:
    """Return masks that keep the `n` best of every `m` neighbours along the input channels (axis 1 of a weight).

    2:4 is the pattern of NVIDIA's sparse tensor cores (Mishra et al., 2021, "Accelerating Sparse Deep Neural
    Networks"). Raise `EdgelabError` for a layer whose input channels are no multiple of `m` (leave its scores out), and
    for scores that are not numbers.
    """
    if not 0 < n <= m:
        raise EdgelabError(_("%(n)d of every %(m)d weights cannot be kept.") % {"n": n, "m": m})
    _must_be_numbers(scores)
    masks = {}
    for name, score in scores.items():
        if score.dim() < 2 or score.shape[1] % m:
            message = _("Layer %(name)s has no groups of %(m)d input channels: leave it out.")
            raise EdgelabError(message % {"name": name, "m": m})
        last = score.movedim(1, -1)
        groups = last.reshape(-1, m)
        keep = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, groups.topk(n).indices, True)
        masks[name] = keep.reshape(last.shape).movedim(-1, 1).contiguous()
    return masks


def _keep_largest(score: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Return the mask without the smallest `round(sparsity * n)` scores; torch.nn.utils.prune counts them so, too."""
    gone = score.flatten().topk(round(sparsity * score.numel()), largest=False).indices
    keep = torch.ones(score.numel(), dtype=torch.bool, device=score.device)
    keep[gone] = False
    return keep.reshape(score.shape)


def _must_be_numbers(scores: Mapping[str, torch.Tensor]) -> None:
    if not scores:
        raise EdgelabError(_("There is no layer left to prune: all of them are left out."))
    for name, score in scores.items():
        if score.isnan().any():
            raise EdgelabError(_("The scores of layer %(name)s are not all numbers.") % {"name": name})


def as_sparsity(sparsity: float) -> float:
    """Return a share of zeros as it is; raise `EdgelabError` where it is none."""
    if not 0 <= sparsity <= 1:
        message = _("Sparsity is the share of zeros, from 0 to 1; %(sparsity)g is none.")
        raise EdgelabError(message % {"sparsity": sparsity})
    return sparsity


class Mask(nn.Module):
    """What a masked weight is computed with: `weight = where(mask, original, 0)`, so gradients stop where it is 0.

    As a parametrization, the mask is a buffer of its layer: deepcopy, `state_dict` and `to` take it along, and no
    optimizer's momentum or weight decay can bring a pruned weight back.
    """

    def __init__(self, mask: torch.Tensor):
        super().__init__()
        self.register_buffer("mask", mask)
        self.mask: torch.Tensor

    def forward(self, original: torch.Tensor) -> torch.Tensor:
        # A product would make -0.0 of negative weights, which no file takes for an empty place.
        return torch.where(self.mask, original, 0.0)


def apply_masks(model: nn.Module, masks: Mapping[str, torch.Tensor]) -> nn.Module:
    """Put `masks` on the layers of `model` that they name, in place, and return it; earlier ones are replaced.

    Raise `EdgelabError` for a name that is no layer to prune, and for a mask of another shape.
    """
    layers = prunable(model)
    for name, mask in masks.items():
        if name not in layers:
            raise EdgelabError(_("There is no layer %(name)s to prune.") % {"name": name})
        if mask.shape != layers[name].weight.shape:
            message = _("The mask of layer %(name)s has the shape %(mask)s, and its weight %(weight)s.")
            shapes = {"mask": tuple(mask.shape), "weight": tuple(layers[name].weight.shape)}
            raise EdgelabError(message % {"name": name, **shapes})
    for name, mask in masks.items():
        layer = layers[name]
        kept = mask.to(layer.weight.device, torch.bool, copy=True)
        if (worn := _worn(layer)) is not None:
            worn.mask = kept
        else:
            parametrize.register_parametrization(layer, "weight", Mask(kept))
    return model


def masks_of(model: nn.Module) -> Masks:
    """Return the masks that the layers of `model` wear."""
    return {name: worn.mask for name, layer in prunable(model).items() if (worn := _worn(layer)) is not None}


def zero_masks(model: nn.Module) -> Masks:
    """Return masks that keep what is not zero now: for a model whose zeros are to stay zeros in another training."""
    return {name: layer.weight.detach() != 0 for name, layer in prunable(model).items()}


def remove_masks(model: nn.Module) -> nn.Module:
    """Write the zeros into the weights and take the masks off, in place; return the model, now an ordinary one."""
    for layer in prunable(model).values():
        if (worn := _worn(layer)) is None:
            continue
        with torch.no_grad():
            stored_weight(layer).copy_(worn(stored_weight(layer)))
        steps = steps_of(layer)
        if len(steps) == 1:
            make_plain(layer, leave_parametrized=False)
        else:  # a fake quantizer stays where it is
            del steps[list(steps).index(worn)]
    return model


def _worn(layer: nn.Module) -> Mask | None:
    return next((step for step in steps_of(layer) or () if isinstance(step, Mask)), None)


def prune(
    model: nn.Module,
    sparsity: float,
    *,
    criterion: Callable[[nn.Module], Scores] = magnitude,
    scope: str = "global",
    skip: Collection[str] = (),
) -> nn.Module:
    """Mask the weights of `model` that `criterion` scores lowest, in place, until `sparsity` of them are zero.

    What is masked already stays so and counts. `skip` names layers that keep all their weights, and do not count; raise
    `EdgelabError` for a name that is none of `prunable(model)`.
    """
    return apply_masks(model, choose_masks(_scores(model, criterion, skip), sparsity, scope=scope))


def prune_n_m(
    model: nn.Module,
    n: int = 2,
    m: int = 4,
    *,
    criterion: Callable[[nn.Module], Scores] = magnitude,
    skip: Collection[str] = (),
) -> nn.Module:
    """Mask all but the `n` best of every `m` neighbours in each layer of `model`, in place, by `n_m_masks`.

    What is masked already stays so: where fewer than `n` are left of a group, no other comes back. Raise `EdgelabError`
    for a layer that has no groups of `m`, as the first one of pictures in colour: name it in `skip`.
    """
    worn = masks_of(model)
    masks = n_m_masks(_scores(model, criterion, skip), n, m)
    return apply_masks(model, {name: mask & worn[name] if name in worn else mask for name, mask in masks.items()})


def _scores(model: nn.Module, criterion: Callable[[nn.Module], Scores], skip: Collection[str]) -> Scores:
    """Return the scores of the layers that are not to be skipped: those of masked weights are below all others."""
    if unknown := set(skip) - prunable(model).keys():
        raise EdgelabError(_("There is no layer %(name)s to skip.") % {"name": ", ".join(sorted(unknown))})
    worn = masks_of(model)
    scores = {name: score for name, score in criterion(model).items() if name not in skip}
    for name in scores.keys() & worn.keys():
        scores[name] = scores[name].masked_fill(~worn[name], -torch.inf)
    return scores


def sparsity_of(model: nn.Module) -> float:
    """Return the share of zeros among the weights of all layers that can be pruned, in [0, 1]."""
    weights = [layer.weight.detach() for layer in prunable(model).values()]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.numel() for weight in weights)


def sensitivity(
    model: nn.Module, score: Callable[[nn.Module], float], sparsities: Sequence[float] = (0.5, 0.7, 0.8, 0.9, 0.95)
) -> dict[str, dict[float, float]]:
    """Return `{layer: {sparsity: score}}`: what `score(model)` gives with that layer alone pruned, by magnitude.

    The model comes back as it was. Which layer bears how much is the first thing to know before all are pruned (Han et
    al., 2015, figure 6).
    """
    found: dict[str, dict[float, float]] = {name: {} for name in prunable(model)}
    pairs = [(name, layer, sparsity) for name, layer in prunable(model).items() for sparsity in sparsities]
    for name, layer, sparsity in track(pairs, _("one layer at a time")):
        found[name][sparsity] = _score_pruned(model, layer, sparsity, score)
    return found


def _score_pruned(model: nn.Module, layer: Prunable, sparsity: float, score: Callable[[nn.Module], float]) -> float:
    weight = stored_weight(layer)
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.mul_(magnitude_mask(layer.weight, sparsity))
        return score(model)
    finally:
        with torch.no_grad():
            weight.copy_(before)
