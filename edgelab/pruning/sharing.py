"""Weight sharing: a layer's weights become a few values, and each weight a short code that names one of them.

The second step of Deep Compression (Han, Mao and Dally, 2016, section 3). Zeros stay zeros: they are code 0.
"""

import torch
from torch import nn
from torch.nn.utils import parametrize

from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.pruning.criteria import make_plain, prunable, steps_of
from edgelab.pruning.unstructured import remove_masks


def kmeans(values: torch.Tensor, count: int, *, steps: int = 30) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `(codebook, codes)`: `count` values `(count,)`, ascending, and which of them each value is next to.

    Lloyd's algorithm (1982), from centroids at equal distances between the smallest value and the largest: so started,
    the few large weights keep centroids of their own (Han et al., 2016, section 3.2). On a line a value belongs to the
    centroid between whose midpoints it lies. A centroid that nothing belongs to stays where it is.

    >>> codebook, codes = kmeans(torch.tensor([0.0, 1.0, 9.0, 10.0]), count=2)
    >>> codebook, codes
    (tensor([0.5000, 9.5000]), tensor([0, 0, 1, 1]))
    """
    if count < 1 or values.numel() == 0:
        raise EdgelabError(_("K-means needs one value or more, and one centroid or more."))
    flat = values.detach().flatten().double()  # sums of many float32 would depend on their order
    codebook = torch.linspace(float(flat.min()), float(flat.max()), count, dtype=torch.float64, device=flat.device)
    for _step in range(steps):
        codes = _nearest(flat, codebook)
        sums = torch.zeros_like(codebook).index_add_(0, codes, flat)
        members = torch.bincount(codes, minlength=count)
        moved = torch.where(members > 0, sums / members.clamp(min=1), codebook)
        if torch.equal(moved, codebook):
            break
        codebook = moved
    return codebook.to(values.dtype), _nearest(flat, codebook).reshape(values.shape)


def _nearest(flat: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    return torch.bucketize(flat, (codebook[1:] + codebook[:-1]) / 2)


class SharedWeight(nn.Module):
    """A weight as a look-up: `weight = codebook[codes]`, with code 0 for zero.

    The parameter is the codebook. Autograd adds up the gradients of all weights that share a value, which is how Deep
    Compression trains it (Han et al., 2016, figure 3).
    """

    def __init__(self, weight: torch.Tensor, count: int):
        super().__init__()
        kept = weight.detach() != 0
        values, found = kmeans(weight.detach()[kept], count) if kept.any() else (weight.new_zeros(count), 0)
        codes = torch.zeros(weight.shape, dtype=torch.long, device=weight.device)
        codes[kept] = found + 1
        self.register_buffer("codes", codes)
        self.codes: torch.Tensor
        self._start = values

    def right_inverse(self, _weight: torch.Tensor) -> torch.Tensor:
        """Return the codebook to start from: what `parametrize` stores in the weight's place."""
        return self._start

    def forward(self, codebook: torch.Tensor) -> torch.Tensor:
        return torch.cat([codebook.new_zeros(1), codebook])[self.codes]


def share_weights(model: nn.Module, bits: int) -> nn.Module:
    """Give every layer a codebook of `2**bits - 1` values besides zero, in place, and return the model, ready to train.

    Masks are taken off: what is zero stays zero by its code. Raise `EdgelabError` for bits outside 1 to 8, and for a
    layer that shares its weights already.
    """
    if not 1 <= bits <= 8:
        raise EdgelabError(_("Codes have 1 to 8 bits; %(bits)d cannot be had.") % {"bits": bits})
    remove_masks(model)
    for name, layer in prunable(model).items():
        if steps_of(layer) is not None:
            raise EdgelabError(
                _("The weight of layer %(name)s is computed already: nothing can share it.") % {"name": name}
            )
        parametrize.register_parametrization(layer, "weight", SharedWeight(layer.weight, 2**bits - 1), unsafe=True)
    return model


def remove_sharing(model: nn.Module) -> nn.Module:
    """Write the shared values into the weights, in place, and return the model, now an ordinary one."""
    for layer in prunable(model).values():
        if any(isinstance(step, SharedWeight) for step in steps_of(layer) or ()):
            make_plain(layer, leave_parametrized=True)
    return model
