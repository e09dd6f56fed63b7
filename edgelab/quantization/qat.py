"""Quantization-aware training: gradients through a staircase, and scales that are learned."""

from typing import Any

import torch

from edgelab.quantization.affine import QParams, QSpec


class RoundSTE(torch.autograd.Function):
    """Round; on the way back, let the gradient through as if nothing had been rounded.

    The straight-through estimator (Bengio, Leonard and Courville, 2013): the staircase has slope 0 almost everywhere,
    and a gradient of 0 teaches nothing.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class _LearnedStep(torch.autograd.Function):
    """Fake quantization whose scale has a gradient (Esser et al., 2020, "Learned Step Size Quantization", eq. 3)."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, qmin: int, qmax: int
    ) -> torch.Tensor:
        steps = x / scale
        q = torch.clamp(torch.round(steps) + zero_point, qmin, qmax) - zero_point
        inside = (steps + zero_point >= qmin) & (steps + zero_point <= qmax)
        ctx.save_for_backward(torch.where(inside, q - steps, q), inside)
        ctx.scale_shape, ctx.grad_scale = scale.shape, (x.numel() / scale.numel() * qmax) ** -0.5
        return q * scale

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None, None, None]:
        slope, inside = ctx.saved_tensors  # d(output)/d(scale): the rounding error in steps, or the end of the range
        along = [dim for dim, size in enumerate(ctx.scale_shape) if size == 1] if ctx.scale_shape else None
        by_scale = (gradient * slope).sum(along, keepdim=True).reshape(ctx.scale_shape)
        # Without this factor scales would learn far faster than weights (section 2.2 of the paper).
        return gradient * inside, by_scale * ctx.grad_scale, None, None, None


def learned_step(x: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, spec: QSpec) -> torch.Tensor:
    """Return `x` on the grid of `scale` and `zero_point` (`()` or `(C,)`), with gradients for `x` and `scale`."""
    scale, zero_point = QParams(scale, zero_point, spec).over(x)
    return _LearnedStep.apply(x, scale, zero_point, spec.qmin, spec.qmax)
