"""Is what was traced and folded still the learner's own model? It is asked as soon as there are images to ask with."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from edgelab.data.inputs import run_on
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.tracing.follow import own_copy

_KEY = "edgelab_origin"
_FEW = 3  # images in each trial: a trial costs little beside a calibration
_TOLERANCE = 1e-3  # of the largest output: two orders of magnitude above what another order of additions makes


class _Origin:
    """The learner's own model, and what tracing and folding have made of it: neither is ever changed."""

    def __init__(self, own: nn.Module | None = None, made: fx.GraphModule | None = None):
        self.own, self.made = own, made

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Origin":
        return self

    def __reduce__(self) -> tuple[type, tuple]:
        return _Origin, ()  # a file holds the model that was made; its origin may be of a class that no file can hold


def remember(made: fx.GraphModule, model: nn.Module) -> fx.GraphModule:
    """Keep a copy of `model` beside what was made of it, until images have shown that both are the same; return `made`.

    Where `model` was itself made of another one, that one is the learner's.
    """
    if _KEY not in made.meta:
        made.meta[_KEY] = _Origin(own_copy(model), copy.deepcopy(made))
    return made


@torch.no_grad()
def verify(model: fx.GraphModule, images: torch.Tensor, batch_size: int) -> None:
    """Compare what `model` was made of with the learner's own model: on some of `images`, and on noise as strong.

    It is done once. Raise `EdgelabError` that names the first layer that differs; also for a model that gives two
    answers to one question, and for one that cannot run on these images.
    """
    origin = model.meta.get(_KEY)
    if origin is None or origin.own is None or len(images) == 0:
        return
    own, made = origin.own, origin.made
    with torch.random.fork_rng(devices=[]):
        few = min(len(images), _FEW)
        batch = images[:: max(1, len(images) // few)][:few]
        try:
            first = own(batch.clone())
        except Exception:  # a size of batch may be written into the code
            batch = images[:batch_size]
            first = run_on(own, batch.clone())
        if not alike(first, run_on(own, batch.clone())):
            raise EdgelabError(
                _(
                    "This model answers differently from one run to the next, first at %(layer)s: it must not draw "
                    "or count anything in evaluation."
                )
                % {"layer": _first_apart(own, own, batch)}
            )
        for trial in trials_like(batch):
            expected = run_on(own, trial.clone())
            if not alike(expected, run_on(made, trial.clone())):
                raise EdgelabError(
                    _(
                        "As a graph this model computes something else, first at %(layer)s: look for code that asks "
                        "what its input is, or that changes the model while it runs."
                    )
                    % {"layer": _first_apart(own, made, trial)}
                )
    del model.meta[_KEY]


def trials_like(example: torch.Tensor, noises: int = 1) -> list[torch.Tensor]:
    """Return what two models are compared on: an example, and so many of noise as strong."""
    generator = torch.Generator().manual_seed(0)
    strength, middle = example.std(correction=0), example.mean()
    return [example, *(middle + strength * torch.randn(example.shape, generator=generator) for _trial in range(noises))]


def alike(expected: object, got: object, tolerance: float = _TOLERANCE) -> bool:
    """Return whether two outputs, tensors or structures of them, are the same up to the order of additions.

    `tolerance` is a part of the largest output.
    """
    ours, theirs = ([leaf for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)] for out in (expected, got))
    return len(ours) == len(theirs) and all(map(partial(_close, tolerance), ours, theirs))


def _close(tolerance: float, expected: torch.Tensor, got: torch.Tensor) -> bool:
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return False
    if not expected.is_floating_point():
        return torch.equal(expected, got)
    finite = expected[torch.isfinite(expected)]
    span = float(finite.abs().max()) if finite.numel() else 0.0
    return torch.allclose(got, expected, rtol=0, atol=tolerance * span + 1e-6, equal_nan=True)


def _first_apart(own: nn.Module, made: nn.Module, images: torch.Tensor) -> str:
    """Return the learner's name of the first layer whose output differs, or the model's class where no layer's does."""
    stands_for = getattr(made, "meta", {}).get("stands_for", {})
    expected: dict[str, list[object]] = {}
    for name, output in _outputs(own, images):
        expected.setdefault(name, []).append(output)
    for name, output in _outputs(made, images):
        name = stands_for.get(name, name)
        if expected.get(name) and not alike(expected[name].pop(0), output):
            return name
    return type(own).__name__


def _outputs(model: nn.Module, images: torch.Tensor) -> list[tuple[str, object]]:
    """Return the name and the output of each layer without layers inside, in order of execution."""
    seen: list[tuple[str, object]] = []

    def note(name: str) -> Callable:
        return lambda _module, _inputs, output: seen.append((name, copy.deepcopy(output)))  # some work in place

    layers = [(name, module) for name, module in model.named_modules() if not list(module.children()) and name]
    hooks = [module.register_forward_hook(note(name)) for name, module in layers]
    try:
        run_on(model, images.clone())
    finally:
        for hook in hooks:
            hook.remove()
    return seen
