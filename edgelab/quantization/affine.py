"""Affine quantization: real numbers as small integers, `real = (q - zero_point) * scale`.

Source of the conventions: Jacob et al., 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 2.1, and ONNX's QuantizeLinear: round half to even, then saturate.
"""

from dataclasses import dataclass

import torch

from edgelab.errors import EdgelabError
from edgelab.i18n import _


@dataclass(frozen=True)
class QSpec:
    """Which integers stand for the real numbers, and how they are laid over them.

    `bits` from 2 to 8; `symmetric` puts the zero point in the middle of the codes; `signed` codes start at
    -2^(bits-1), unsigned ones at 0; `narrow` drops the lowest code, so that -x has a code whenever x has; `axis` is
    the dimension with a scale of its own for each entry (per-channel), or None (per-tensor).

    >>> QSpec(bits=8, symmetric=True, narrow=True)
    QSpec(bits=8, symmetric=True, signed=True, narrow=True, axis=None)
    >>> QSpec(bits=4, signed=False).qmin, QSpec(bits=4, signed=False).qmax
    (0, 15)
    """

    bits: int = 8
    symmetric: bool = False
    signed: bool = True
    narrow: bool = False
    axis: int | None = None

    def __post_init__(self) -> None:
        if self.bits not in range(2, 9):
            raise EdgelabError(_("Quantization takes from 2 to 8 bits, not %(bits)s.") % {"bits": self.bits})

    @property
    def qmin(self) -> int:
        """The lowest code."""
        return (-(2 ** (self.bits - 1)) if self.signed else 0) + self.narrow

    @property
    def qmax(self) -> int:
        """The highest code."""
        return 2 ** (self.bits - 1) - 1 if self.signed else 2**self.bits - 1

    @property
    def dtype(self) -> torch.dtype:
        """The torch type that holds the codes."""
        return torch.int8 if self.signed else torch.uint8


@dataclass(frozen=True)
class QParams:
    """The scale (float32, above 0) and zero point (int32) of a tensor: both `()`, or `(C,)` along `spec.axis`."""

    scale: torch.Tensor
    zero_point: torch.Tensor
    spec: QSpec = QSpec()

    def over(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scale and zero point in the shape that broadcasts over `x`."""
        if self.spec.axis is None:
            return self.scale, self.zero_point
        shape = [1] * x.dim()
        shape[self.spec.axis] = -1
        return self.scale.reshape(shape), self.zero_point.reshape(shape)


def choose_qparams(min_val: float | torch.Tensor, max_val: float | torch.Tensor, spec: QSpec = QSpec()) -> QParams:
    """Return the `QParams` that spread the codes of `spec` over the range from `min_val` to `max_val`.

    The range, numbers or tensors `()` or `(C,)`, is first extended to contain 0: zero must have a code of its own,
    because padding and ReLU put it everywhere. A range of nothing but 0 gets the scale 1. Raise `EdgelabError` for
    infinities and NaN.

    >>> qparams = choose_qparams(-1.0, 3.0, QSpec(bits=4, signed=False))
    >>> round(float(qparams.scale), 4), int(qparams.zero_point)
    (0.2667, 4)
    """
    min_val = torch.as_tensor(min_val, dtype=torch.float32).clamp(max=0)
    max_val = torch.as_tensor(max_val, dtype=torch.float32).clamp(min=0)
    qmin, qmax = spec.qmin, spec.qmax
    middle = (qmin + qmax + 1) // 2
    if spec.symmetric:
        # Each side has its own number of codes: -128..127 reaches one step further down than up.
        scale = torch.maximum(min_val / (qmin - middle), max_val / (qmax - middle))
    else:
        scale = (max_val - min_val) / (qmax - qmin)
    # One test for three faults: an end that is infinite or NaN, and ends so far apart that their distance is infinite.
    if not torch.isfinite(scale).all():
        raise EdgelabError(_("The range to quantize has no end: look for infinities or NaN where it came from."))
    # Below float32's smallest normal number, 1 / scale overflows.
    scale = torch.where(scale < torch.finfo(torch.float32).tiny, torch.ones_like(scale), scale)
    if spec.symmetric:
        zero_point = torch.full_like(min_val, middle)
    else:
        zero_point = torch.clamp(qmin - torch.round(min_val / scale), qmin, qmax)
    return QParams(scale, zero_point.to(torch.int32), spec)


def quantize(x: torch.Tensor, qparams: QParams) -> torch.Tensor:
    """Return the codes of the float tensor `x`, in its shape, as `int8` or `uint8`.

    The quotient is taken in float32 as ONNX's QuantizeLinear takes it. (torch's fake quantize multiplies by the
    reciprocal: it may choose the other neighbour where the quotient is half-way to the last bit.)
    """
    _must_be_finite(x)
    scale, zero_point = qparams.over(x)
    q = torch.round(x / scale) + zero_point
    return torch.clamp(q, qparams.spec.qmin, qparams.spec.qmax).to(qparams.spec.dtype)


def dequantize(q: torch.Tensor, qparams: QParams) -> torch.Tensor:
    """Return the real numbers (float32) that the codes `q` stand for."""
    scale, zero_point = qparams.over(q)
    return (q.to(torch.int32) - zero_point).float() * scale


def fake_quantize(x: torch.Tensor, qparams: QParams) -> torch.Tensor:
    """Return `x` after a round trip through its codes: what the integers will see, still as float32."""
    return dequantize(quantize(x, qparams), qparams)


def sqnr(x: torch.Tensor, approximation: torch.Tensor) -> float:
    """Return the signal-to-quantization-noise ratio in dB: 10 log10 (power of `x` / power of the error).

    Infinite where nothing was lost. Each bit adds about 6 dB (Bennett, 1948).
    """
    signal, noise = x.double().square().sum(), (x.double() - approximation.double()).square().sum()
    return float("inf") if noise == 0 else float(10 * torch.log10(signal / noise))


def _must_be_finite(x: torch.Tensor) -> None:
    # One sum over |x| is NaN or infinite if any element is: cheaper than a mask, but it may overflow by itself.
    if not torch.isfinite(x.sum()) and not torch.isfinite(x).all():
        raise EdgelabError(_("The tensor to quantize holds infinities or NaN: no code stands for them."))
