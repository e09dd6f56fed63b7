"""For those who want more of lab 04: the gradient of the step, by hand."""

from collections.abc import Callable

import torch

from edgelab.i18n import _
from edgelab.quantization import QSpec, learned_step


def against_learned_step(step_gradient: Callable) -> None:
    """Print how far the learner's `step_gradient(x, step, qmin, qmax)` is from what edgelab trains steps with.

    It returns the slope of each value on the grid along the step, in the shape of `x`. edgelab divides the sum of
    those by sqrt(n qmax), so that steps do not learn faster than weights (Esser et al., 2020, section 2.2).
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2_000, generator=generator)
    incoming = torch.randn(2_000, generator=generator)
    step = torch.tensor(0.25, requires_grad=True)
    spec = QSpec(4, symmetric=True, narrow=True)
    learned_step(x, step, torch.tensor(0), spec).backward(incoming)
    assert step.grad is not None
    own = (incoming * step_gradient(x, 0.25, spec.qmin, spec.qmax)).sum() / (len(x) * spec.qmax) ** 0.5
    print(_("by hand %(own).5f, by edgelab %(theirs).5f") % {"own": own, "theirs": step.grad})
