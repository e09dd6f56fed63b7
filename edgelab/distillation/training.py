"""Train a student beside a teacher, by the one training loop."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from edgelab.data import Split
from edgelab.data.inputs import run_fast
from edgelab.distillation.losses import distillation_loss
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.train import History, fit, predict


def distill(
    student: nn.Module,
    teacher: Callable[[torch.Tensor], torch.Tensor],
    train: Split,
    *,
    loss_fn: Callable[..., torch.Tensor] = partial(distillation_loss, temperature=4.0, alpha=0.9),  # noqa: B008
    consistent: bool = True,
    **options: Any,
) -> History:
    """Train `student` in place to answer as `teacher` does, and return the `History`.

    The teacher is any model, or function of normalised images, that gives logits `(N, classes)`: a larger network, an
    `Ensemble`, the float original of a quantized or pruned student. It is not changed. `loss_fn` takes the student's
    logits, the teacher's, and the labels; `options` go to `edgelab.train.fit`.

    A `consistent` teacher is asked about the very crop that the student sees, at every step: a forward pass of the
    teacher each time (Beyer et al., 2022, "Knowledge distillation: A good teacher is patient and consistent"). Else,
    and wherever nothing is augmented, it answers once for each whole image, and its answers are kept.

    Raise `EdgelabError` as `fit`, and for a teacher that is the student.
    """
    if teacher is student:
        raise EdgelabError(_("The teacher is the student itself: it would only ever agree. Give it a copy."))
    if isinstance(teacher, nn.Module):
        teacher = frozen(teacher)
    if consistent and options.get("augment") is not None:
        return fit(student, train, teacher=partial(answers, teacher), loss_fn=loss_fn, **options)
    return fit(student, train, teacher=predict(teacher, train), loss_fn=loss_fn, **options)


@torch.no_grad()
def answers(teacher: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Return the teacher's logits `(N, classes)` in float32 for normalised images, without gradients."""
    return run_fast(teacher, images)[0].float()


def frozen(teacher: nn.Module) -> nn.Module:
    """Return a copy that is in evaluation mode and has no gradients."""
    return copy.deepcopy(teacher).eval().requires_grad_(False)


class Ensemble(nn.Module):
    """Several models that answer as one, by the mean of their logits: `(N, C, H, W) -> (N, classes)`.

    That is the geometric mean of their probabilities, normalised (Hinton, Vinyals and Dean, 2015, section 2).
    """

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(images) for member in self.members]).mean(dim=0)
