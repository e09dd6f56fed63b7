"""How sparsity grows while a model trains, and the loop that prunes, trains, and prunes again."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.pruning.criteria import Scores, magnitude, prunable
from edgelab.pruning.unstructured import as_sparsity, prune


def cubic_sparsity(step: int, steps: int, final: float, initial: float = 0.0) -> float:
    """Return the sparsity after `step` of `steps` steps: fast at first, while there is much to spare, then slower.

    `s_t = s_f + (s_i - s_f) * (1 - t / n) ** 3`, and `s_f` from the last step on. Source: Zhu and Gupta, 2017, "To
    prune, or not to prune", eq. 1.

    >>> [round(cubic_sparsity(step, 4, final=0.8), 2) for step in range(6)]
    [0.0, 0.46, 0.7, 0.79, 0.8, 0.8]
    """
    if steps < 1 or step < 0:
        raise EdgelabError(_("A schedule has one step or more, and begins with step 0."))
    final, initial = as_sparsity(final), as_sparsity(initial)
    return final + (initial - final) * (1 - min(step, steps) / steps) ** 3


def cubic_schedule(steps: int, final: float, initial: float = 0.0) -> list[float]:
    """Return the sparsities of steps 1 to `steps` (step 0 prunes nothing).

    >>> [round(sparsity, 3) for sparsity in cubic_schedule(3, final=0.9)]
    [0.633, 0.867, 0.9]
    """
    return [cubic_sparsity(step, steps, final, initial) for step in range(1, steps + 1)]


def prune_gradually(
    model: nn.Module,
    sparsities: Iterable[float],
    train: Callable[[nn.Module], object],
    *,
    criterion: Callable[[nn.Module], Scores] = magnitude,
    scope: str = "global",
    rewind_to: Mapping[str, torch.Tensor] | None = None,
) -> nn.Module:
    """Prune `model` to each of `sparsities` in turn and `train(model)` after each, in place; return it, masked.

    With `rewind_to`, the `state_dict` of the same model from early in its training, weights go back to it before each
    training: iterative pruning with weight rewinding (Frankle et al., 2020, "Linear Mode Connectivity and the Lottery
    Ticket Hypothesis").
    """
    for sparsity in sparsities:
        prune(model, sparsity, criterion=criterion, scope=scope)
        if rewind_to is not None:
            rewind(model, rewind_to)
        train(model)
    return model


def rewind(model: nn.Module, state: Mapping[str, torch.Tensor]) -> nn.Module:
    """Set what `model` has learned back to `state`, in place, and keep its masks; return it.

    `state` is the `state_dict` of the model before it had masks. Raise `EdgelabError` where it is another model's.
    """
    names = {f"{layer}.weight": f"{layer}.parametrizations.weight.original" for layer in prunable(model)}
    own = model.state_dict()
    renamed = {names[key] if names.get(key) in own else key: value for key, value in state.items()}
    masks = {key: value for key, value in own.items() if ".parametrizations." in key and not key.endswith(".original")}
    try:
        model.load_state_dict({**renamed, **masks})
    except RuntimeError as error:
        raise EdgelabError(_("These weights are of another model: %(reason)s") % {"reason": error}) from None
    return model
