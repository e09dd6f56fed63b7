"""The arithmetic of an int8 kernel, in integers from the input codes to the output codes: a reference to read and test.

A kernel multiplies codes, adds the products up in 32 bits, and brings the sum back to a code by a fixed-point multiply:

    accumulator = sum (q_x - z_x) (q_w - z_w) + q_bias          int32, in steps of scale_x scale_w
    q_out = round(accumulator M) + z_out, saturated             M = scale_x scale_w / scale_out

Source: Jacob et al., 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", sections 2.2 to 2.4. (Kernels spare the subtractions by correcting with sums, its eq. 7: same integers.)

Rounding is to the nearest, ties to even, once, on the whole 64-bit product. gemmlowp, the paper's library, rounds
twice, and ties away from zero; ONNX Runtime multiplies by M as a float32 and then rounds ties to even. Ours is what
ONNX Runtime's would be without the error of that float32 product: the codes are the same unless the product comes so
close to a tie, without lying on it, that float32 moves it onto the tie or across (a few outputs in a million).

Correctness before speed: products are summed in int64, which torch can do and a kernel would not, so that an overflow
of the 32 bits is seen instead of hidden.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.quantization.affine import QParams

INT32 = torch.iinfo(torch.int32)


def fixed_point(multiplier: float | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the real `multiplier` as integers, mantissa and shift: both int32, in its shape, `()` or `(C,)`.

    multiplier = 2^-shift M0 with M0 in [0.5, 1), and mantissa = round(2^31 M0): eq. 6 of the paper. A float32 has 24
    significant bits, so it comes through unchanged; 0 has the mantissa 0. Raise `EdgelabError` for a multiplier below
    0, or of 2^30 and more, which leaves nothing to shift.

    >>> mantissa, shift = fixed_point(0.375)  # 2^-1 * 0.75
    >>> int(mantissa) / 2**31, int(shift)
    (0.75, 1)
    """
    multiplier = torch.as_tensor(multiplier, dtype=torch.float64)
    if not ((multiplier >= 0) & (multiplier < 2**30)).all():
        raise EdgelabError(_("A multiplier must lie between 0 and 2^30: look at the scales that it comes from."))
    m0, exponent = torch.frexp(multiplier)
    mantissa = torch.round(m0 * 2**31).to(torch.int64)
    rounded_to_one = mantissa == 2**31  # one bit too many for int32
    mantissa = torch.where(rounded_to_one, 2**30, mantissa)
    return mantissa.to(torch.int32), -(exponent + rounded_to_one.to(torch.int32))


def requantize(accumulator: torch.Tensor, multiplier: float | torch.Tensor, out_qparams: QParams) -> torch.Tensor:
    """Return the output codes of an int32 `accumulator`, in its shape: round(accumulator * multiplier) + zero point.

    `multiplier`, scale_x scale_w / scale_out, broadcasts over `accumulator`. On a device mantissa and shift are worked
    out when the model is converted; the kernel has only the integer multiply, the shift, and the saturation.

    >>> from edgelab.quantization import choose_qparams
    >>> requantize(torch.tensor([5, 6, 7, 1000], dtype=torch.int32), 0.5, choose_qparams(-128.0, 127.0))
    tensor([  2,   3,   4, 127], dtype=torch.int8)
    """
    _must_be(torch.int32, accumulator, "accumulator")
    mantissa, shift = fixed_point(multiplier)
    product = accumulator.to(torch.int64) * mantissa  # below 2^62
    codes = _shift_right(product, 31 + shift.to(torch.int64)) + out_qparams.zero_point
    return torch.clamp(codes, out_qparams.spec.qmin, out_qparams.spec.qmax).to(out_qparams.spec.dtype)


def _shift_right(product: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """Return product / 2^bits, rounded to the nearest integer, ties to even; |product| < 2^62 and bits >= 1."""
    bits = bits.clamp(max=63)  # from here on every product is less than half, and rounds to 0
    odd = (product >> bits) & 1  # of the neighbour below: the tie goes up where that is odd
    return (product + (1 << (bits - 1)) - 1 + odd) >> bits


def quantize_bias(bias: torch.Tensor, x_qparams: QParams, weight_qparams: QParams) -> torch.Tensor:
    """Return the int32 codes of a float `bias` `(C,)`, in steps of scale_x scale_w around 0, as the accumulator has.

    Raise `EdgelabError` for a bias of more steps than an int32 counts (section 2.4 of the paper).
    """
    step = x_qparams.scale * weight_qparams.scale
    codes = torch.round(bias.double() / step)
    fits = (codes >= INT32.min) & (codes <= INT32.max)  # NaN does not
    if not fits.all():
        raise EdgelabError(
            _("A bias of %(bias).3g overflows an int32 of step %(step).3g: give its channel a larger weight scale.")
            % {"bias": bias[~fits][0], "step": step.expand_as(bias)[~fits][0]}
        )
    return codes.to(torch.int32)


def integer_linear(
    q_x: torch.Tensor,
    x_qparams: QParams,
    q_weight: torch.Tensor,
    weight_qparams: QParams,
    q_bias: torch.Tensor | None,
    out_qparams: QParams,
) -> torch.Tensor:
    """Return the codes `(..., O)` of a linear layer, from the codes `q_x` `(..., I)` and `q_weight` `(O, I)`.

    `q_bias` is int32 `(O,)`, from `quantize_bias`, or None. Weights are per-tensor or per-channel (`axis=0`). Raise
    `EdgelabError` for codes of a type other than their grid's, and for a sum that overflows 32 bits.
    """
    _check(q_x, x_qparams, q_weight, weight_qparams, q_bias, out_qparams)
    accumulator = _centre(q_x, x_qparams) @ _centre(q_weight, weight_qparams).T
    if q_bias is not None:
        accumulator = accumulator + q_bias
    return requantize(_int32(accumulator), _multiplier(x_qparams, weight_qparams, out_qparams), out_qparams)


def integer_conv2d(
    q_x: torch.Tensor,
    x_qparams: QParams,
    q_weight: torch.Tensor,
    weight_qparams: QParams,
    q_bias: torch.Tensor | None,
    out_qparams: QParams,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> torch.Tensor:
    """Return the codes `(N, O, H', W')` of a convolution of `q_x` `(N, C, H, W)` by `q_weight` `(O, C/groups, kH, kW)`.

    `stride`, `padding` and `dilation` are a number or a pair (vertical, horizontal), as for `torch.nn.Conv2d`; the rest
    and the errors are those of `integer_linear`.
    """
    _check(q_x, x_qparams, q_weight, weight_qparams, q_bias, out_qparams)
    vertical, horizontal = (padding, padding) if isinstance(padding, int) else padding
    # The border is zeros, and the code of zero is the zero point.
    edges = (horizontal, horizontal, vertical, vertical)
    q_x = F.pad(q_x, edges, value=int(x_qparams.zero_point))
    accumulator = F.conv2d(
        _centre(q_x, x_qparams),
        _centre(q_weight, weight_qparams),
        None if q_bias is None else q_bias.to(torch.int64),
        stride=stride,
        dilation=dilation,
        groups=groups,
    )
    multiplier = _multiplier(x_qparams, weight_qparams, out_qparams).reshape(-1, 1, 1)
    return requantize(_int32(accumulator), multiplier, out_qparams)


def _centre(q: torch.Tensor, qparams: QParams) -> torch.Tensor:
    """Return q - zero point, as int64."""
    return q.to(torch.int64) - qparams.over(q)[1]


def _int32(accumulator: torch.Tensor) -> torch.Tensor:
    """Return the int64 sums as int32."""
    # Only the last sum counts: in two's complement a sum may leave the range on the way, and come back right.
    least, most = accumulator.aminmax() if accumulator.numel() else (0, 0)
    if least < INT32.min or most > INT32.max:
        raise EdgelabError(
            _("A sum of products runs from %(least)s to %(most)s: more than the 32 bits of the accumulator hold.")
            % {"least": int(least), "most": int(most)}
        )
    return accumulator.to(torch.int32)


def _multiplier(x_qparams: QParams, weight_qparams: QParams, out_qparams: QParams) -> torch.Tensor:
    """Return scale_x scale_w / scale_out, in float32 and in this order, as ONNX Runtime works it out."""
    return x_qparams.scale * weight_qparams.scale / out_qparams.scale


def _check(
    q_x: torch.Tensor,
    x_qparams: QParams,
    q_weight: torch.Tensor,
    weight_qparams: QParams,
    q_bias: torch.Tensor | None,
    out_qparams: QParams,
) -> None:
    """Raise `EdgelabError` for operands that no integer kernel takes."""
    _must_be(x_qparams.spec.dtype, q_x, "x")
    _must_be(weight_qparams.spec.dtype, q_weight, "weight")
    if q_bias is not None:
        _must_be(torch.int32, q_bias, "bias")
    if x_qparams.spec.axis is not None or out_qparams.spec.axis is not None:
        # A scale that changes from product to product cannot be taken out of their sum.
        raise EdgelabError(_("Activations take one scale for the whole tensor; only weights take one per channel."))
    if weight_qparams.spec.axis not in (None, 0):
        raise EdgelabError(
            _("Weights take a scale for each output channel, axis 0, not axis %(axis)s.")
            % {"axis": weight_qparams.spec.axis}
        )


def _must_be(dtype: torch.dtype, tensor: torch.Tensor, name: str) -> None:
    if tensor.dtype != dtype:
        raise EdgelabError(
            _("The codes of %(name)s must be %(expected)s, not %(found)s.")
            % {"name": name, "expected": str(dtype), "found": str(tensor.dtype)}
        )
