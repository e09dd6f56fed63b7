"""The self-checks of lab 02."""

import math
from collections.abc import Callable

import torch
from torch import tensor

from edgelab.course.check import Case, Mistake, ask, check_function, check_that, exercise
from edgelab.course.comparison import is_whole
from edgelab.i18n import _

LAB = "02_quantization"


def choose_qparams(answer: Callable) -> None:
    """Check `choose_qparams(min_val, max_val, bits)`."""
    with exercise(LAB, "choose-qparams"):
        cases = [
            Case((-1.0, 3.0, 4), (4 / 15, 4)),
            Case((-1.0, 3.0, 8), (4 / 255, 64)),
            Case((-2.5, 12.5, 4), (1.0, 2)),
            Case((2.0, 6.0, 8), (6 / 255, 0)),
            Case((-6.0, -2.0, 8), (6 / 255, 255)),
        ]

        def wrong(extend=True, codes_less=1, rounding=round, sign=-1, swap=False, signed=False):
            def answer(low, high, bits):
                low, high = (min(low, 0), max(high, 0)) if extend else (low, high)
                scale = (high - low) / (2**bits - codes_less)
                zero_point = rounding(sign * low / scale) - signed * 2 ** (bits - 1)
                return (zero_point, scale) if swap else (scale, zero_point)

            return answer

        def symmetric(low, high, bits):
            return 2 * max(-low, high) / (2**bits - 1), 2 ** (bits - 1)

        mistakes = [
            Mistake(
                wrong(extend=False), _("The range must contain 0: take min(min_val, 0) and max(max_val, 0) first.")
            ),
            Mistake(
                wrong(codes_less=0),
                _("From the lowest code to the highest there are 2^b - 1 steps: one fewer than there are codes."),
            ),
            Mistake(wrong(sign=1), _("The zero point is the code of 0: how many steps is 0 above the lowest value?")),
            Mistake(wrong(rounding=int), _("You cut off the fraction of the zero point. Round it to the nearest.")),
            Mistake(
                wrong(rounding=lambda value: math.floor(value + 0.5)),
                _("A tie goes to the even neighbour: Python's round does that."),
            ),
            Mistake(
                wrong(rounding=lambda value: value),
                _("The zero point is a code, a whole number: round it, or 0 has no code of its own."),
            ),
            Mistake(
                wrong(signed=True),
                _("That is for signed codes, from -2^(b-1) on. Here codes are unsigned, and the lowest is 0."),
            ),
            Mistake(wrong(swap=True), _("Return the scale first, then the zero point.")),
            Mistake(symmetric, _("That is a symmetric grid. Here the range may lie to one side of 0.")),
        ]
        check_function(answer, cases, mistakes=mistakes)
        check_function(answer, [Case((0.0, 0.0, 8), (1.0, 0))])
        _scale, zero_point = ask(answer, -1.0, 3.0, 8)
        check_that(
            is_whole(zero_point),
            _("the numbers are right, but the zero point is a float. It is a code: return an int."),
        )


def quantize(answer: Callable) -> None:
    """Check `quantize(x, scale, zero_point, bits)`."""
    with exercise(LAB, "quantize"):
        cases = [
            Case((tensor([-0.5, 0.0, 0.3, 1.0]), 0.25, 3, 4), [1, 3, 4, 7]),
            Case((tensor([0.125, 0.375, 0.625, -0.125, -0.375]), 0.25, 3, 4), [3, 5, 5, 3, 1]),
            Case((tensor([-100.0, -2.0, 3.0, 100.0]), 0.25, 3, 4), [0, 0, 15, 15]),
            Case((tensor([[-100.0, -1.2], [63.4, 99.0]]), 0.5, 128, 8), [[0, 126], [255, 255]]),
        ]
        mistakes = [
            Mistake(
                lambda x, scale, zero, bits: (x / scale).round() + zero,
                _("Codes below 0 and above 2^b - 1 do not exist: saturate, for instance with clamp."),
            ),
            *(
                Mistake(
                    lambda x, scale, zero, bits, finish=finish: finish(
                        ((x / scale).round() + zero).clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
                    ),
                    _("You saturate as signed codes do. Here they are unsigned: from 0 to 2^b - 1."),
                )
                for finish in (lambda codes: codes, lambda codes: codes.int().byte())
            ),
            Mistake(
                lambda x, scale, zero, bits: ((x / scale).round() + zero).int().byte(),
                _("Your codes wrap around: beyond the last code comes the first. Saturate with clamp, then convert."),
            ),
            Mistake(
                lambda x, scale, zero, bits: ((x / scale).round() + zero).clamp(0, 255),
                _("The highest code depends on the bits: it is 2^b - 1."),
            ),
            Mistake(
                lambda x, scale, zero, bits: ((x / scale).round() + zero).clamp(0, 2**bits),
                _("Codes start at 0, so the highest of 2^b codes is 2^b - 1."),
            ),
            Mistake(
                lambda x, scale, zero, bits: (x / scale).round().clamp(0, 2**bits - 1) + zero,
                _("Add the zero point first, then saturate: it is the code that must be in range."),
            ),
            Mistake(
                lambda x, scale, zero, bits: (x / scale + zero).round().clamp(0, 2**bits - 1),
                _("Round before you add the zero point: with an odd one, ties go to the other neighbour."),
            ),
            Mistake(
                lambda x, scale, zero, bits: (x / scale + zero).clamp(0, 2**bits - 1),
                _("Nothing is rounded. A code is a whole number: the nearest, with ties to even, as torch.round does."),
            ),
            Mistake(
                lambda x, scale, zero, bits: (x / scale + zero).clamp(0, 2**bits - 1).byte(),
                _("Becoming uint8, a number loses its fraction. Round it first, as torch.round does."),
            ),
            Mistake(
                lambda x, scale, zero, bits: (x.clamp(0, 2**bits - 1) / scale).round() + zero,
                _("You clip the real numbers. It is the codes that end at 0 and 2^b - 1: clamp at the end."),
            ),
            Mistake(
                lambda x, scale, zero, bits: ((x / scale).trunc() + zero).clamp(0, 2**bits - 1),
                _("You cut the fraction off. Round to the nearest, ties to even, as torch.round does."),
            ),
            Mistake(
                lambda x, scale, zero, bits: ((x / scale + 0.5).floor() + zero).clamp(0, 2**bits - 1),
                _("A tie goes to the even neighbour, not always up: torch.round does that."),
            ),
            Mistake(
                lambda x, scale, zero, bits: (x / scale).round().clamp(0, 2**bits - 1), _("Where is the zero point?")
            ),
            Mistake(
                lambda x, scale, zero, bits: ((x * scale).round() + zero).clamp(0, 2**bits - 1),
                _("How many steps of size `scale` are there in x? Divide."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)
        _must_be_uint8(ask(answer, tensor([0.0, 1.0]), 0.25, 3, 4))


def _must_be_uint8(codes: object) -> None:
    check_that(
        getattr(codes, "dtype", None) == torch.uint8,
        _("The numbers are right. Now return them as whole numbers of 8 bits: .to(torch.uint8)."),
    )


def dequantize(answer: Callable) -> None:
    """Check `dequantize(q, scale, zero_point)`."""
    with exercise(LAB, "dequantize"):
        cases = [
            Case((tensor([3, 4, 15]).byte(), 0.25, 3), [0.0, 0.25, 3.0]),
            Case((tensor([0, 2, 3]).byte(), 0.25, 3), [-0.75, -0.25, 0.0]),
            Case((tensor([[0, 128], [129, 255]]).byte(), 0.5, 128), [[-64.0, 0.0], [0.5, 63.5]]),
            Case((tensor([0, 100, 130, 255]).byte(), 0.0123, 100), [-1.23, 0.0, 0.369, 1.9065]),
        ]
        mistakes = [
            Mistake(
                lambda q, scale, zero: (q - zero) * scale,
                _("The codes are uint8, where 2 - 3 is 255. Convert them first, for instance with q.int()."),
            ),
            Mistake(
                lambda q, scale, zero: (q.char() - zero) * scale,
                _("int8 ends at 127, and the codes go up to 255: from 128 on they become negative. Take q.int()."),
            ),
            Mistake(lambda q, scale, zero: q * scale, _("Where is the zero point?")),
            Mistake(
                lambda q, scale, zero: q * scale - zero,
                _("Take the zero point away first: it counts steps, and is not a real number."),
            ),
            Mistake(lambda q, scale, zero: (q.int() + zero) * scale, _("Take the zero point away; do not add it.")),
            Mistake(
                lambda q, scale, zero: (q.int() - zero) / scale, _("A code counts steps of size `scale`: multiply.")
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def to_blame(answer: Callable) -> None:
    """Check `to_blame(weight)`."""
    with exercise(LAB, "to-blame"):
        one = tensor([[1.0, -2.0], [0.5, -16.0], [4.0, 3.0]])
        two = tensor([[[[1.5, 0.5]]], [[[-0.2, 0.1]]], [[[0.75, -0.3]]], [[[0.6, 0.4]]]])  # (4, 1, 1, 2)
        three = tensor([[0.1, 0.9, 0.3], [-0.2, 0.5, -0.9], [0.3, 6.1, 1.1], [-2.1, 0.2, 0.4]])
        cases = [Case((one,), (1, 2.0)), Case((two,), (0, 1.0)), Case((three,), (2, math.log2(6.1 / 2.1)))]

        def told(ranges, bits=lambda first, second: math.log2(first / second)):
            ordered = sorted(ranges, reverse=True)
            return ranges.index(ordered[0]), bits(*ordered[:2])

        def ranges(weight, of=lambda values: max(map(abs, values))):
            return [of(channel.flatten().tolist()) for channel in weight]

        mistakes = [
            Mistake(
                lambda weight: told(ranges(weight), lambda first, second: first / second),
                _("That is how many times longer the step is. Each doubling costs one bit: how many doublings?"),
            ),
            Mistake(
                lambda weight: told(ranges(weight), lambda first, second: math.log(first / second)),
                _("That is the natural logarithm. Bits count doublings: take log2."),
            ),
            Mistake(
                lambda weight: told(ranges(weight), lambda first, second: math.log10(first / second)),
                _("That is the logarithm to base 10. Bits count doublings: take log2."),
            ),
            Mistake(
                lambda weight: told(ranges(weight), lambda first, second: 20 * math.log10(first / second)),
                _("That is in decibels. Return bits: doublings of the step."),
            ),
            Mistake(
                lambda weight: told(ranges(weight, max)),
                _("Negative weights count too: take absolute values first."),
            ),
            Mistake(
                lambda weight: told(ranges(weight.transpose(0, 1))),
                _("Those are input channels, axis 1. Output channels are axis 0."),
            ),
            Mistake(
                lambda weight: (
                    told(ranges(weight))[0],
                    math.log2(max(ranges(weight)) / sorted(ranges(weight))[len(weight) // 2]),
                ),
                _("Without the channel, the second largest sets the step. Compare with that one."),
            ),
            Mistake(
                lambda weight: (
                    told(ranges(weight))[0],
                    math.log2(max(ranges(weight)) / min(ranges(weight))),
                ),
                _("Without the channel, the second largest sets the step. Compare with that one."),
            ),
            Mistake(
                lambda weight: (told(ranges(weight))[0], math.ceil(told(ranges(weight))[1])),
                _("Leave the bits as they are: half a bit is lost as well."),
            ),
            Mistake(
                lambda weight: told(ranges(weight))[::-1],
                _("Return the channel first, then the bits."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def integer_linear(answer: Callable) -> None:
    """Check `integer_linear(q_x, z_x, q_weight, q_bias, multiplier, z_y)`."""
    with exercise(LAB, "integer-linear"):
        q_x = tensor([[10, 20, 30], [0, 255, 7]]).byte()
        q_weight = tensor([[1, -2, 3], [127, -127, 1]]).char()
        q_bias = tensor([5, -2]).int()
        cases = [
            Case((q_x, 10, q_weight, q_bias, 0.5, 101), [[123, 0], [0, 0]]),
            Case((q_x, 0, q_weight, tensor([5, 60_000]).int(), 0.01, 7), [[8, 255], [2, 255]]),
            Case((q_x, 128, q_weight, tensor([0, 30_000]).int(), 0.002, 64), [[64, 121], [63, 59]]),
            Case(
                (
                    tensor([[255, 255, 255, 255]]).byte(),
                    3,
                    tensor([[127, 127, 127, 90]]).char(),
                    -tensor([100_000]).int(),
                    0.01,
                    9,
                ),
                [[196]],
            ),
        ]

        def wrong(centre=True, bias=1, finish=None):
            def answer(q_x, z_x, q_weight, q_bias, multiplier, z_y):
                accumulator = (q_x.int() - (z_x if centre else 0)) @ q_weight.int().T + bias * q_bias
                codes = (accumulator * multiplier).round() + z_y
                return finish(accumulator * multiplier, z_y) if finish else codes.clamp(0, 255)

            return answer

        mistakes = [
            Mistake(wrong(centre=False), _("Take the zero point z_x away from the input codes before you multiply.")),
            Mistake(
                lambda q_x, z_x, q_weight, q_bias, multiplier, z_y: (
                    (((q_x.int() - z_x) @ q_weight.int() + q_bias) * multiplier).round() + z_y
                ).clamp(0, 255),
                _("q_weight is (O, I): transpose it, so that its inputs meet those of q_x."),
            ),
            Mistake(
                lambda q_x, z_x, q_weight, q_bias, multiplier, z_y: (
                    (((q_x.short() - z_x) @ q_weight.short().T + q_bias) * multiplier).round() + z_y
                ).clamp(0, 255),
                _("int16 ends at 32 767, and one product may have 32 385 already. Add up in int32."),
            ),
            Mistake(wrong(bias=0), _("The bias is missing: it is added to the accumulator.")),
            Mistake(
                lambda q_x, z_x, q_weight, q_bias, multiplier, z_y: (
                    ((q_x.int() - z_x) @ q_weight.int().T * multiplier).round() + q_bias + z_y
                ).clamp(0, 255),
                _("The bias counts steps of the accumulator: add it before you multiply by the multiplier."),
            ),
            Mistake(
                lambda q_x, z_x, q_weight, q_bias, multiplier, z_y: (
                    (((q_x - z_x).int() @ q_weight.int().T + q_bias) * multiplier).round() + z_y
                ).clamp(0, 255),
                _("The codes are uint8, where 0 - 10 is 246. Convert them to int32 before you subtract."),
            ),
            Mistake(
                wrong(finish=lambda real, z_y: real.round() + z_y), _("The output codes must saturate at 0 and 255.")
            ),
            Mistake(
                wrong(finish=lambda real, z_y: (real.round() + z_y).int().byte()),
                _("Your codes wrap around: beyond 255 comes 0. Saturate with clamp, then convert."),
            ),
            Mistake(
                wrong(finish=lambda real, z_y: real.round().clamp(0, 255) + z_y),
                _("Add the zero point first, then saturate: it is the code that must be in range."),
            ),
            Mistake(
                wrong(finish=lambda real, z_y: real.round().clamp(0, 255)),
                _("Zero has the code z_y in the output: add it after rounding."),
            ),
            Mistake(
                wrong(finish=lambda real, z_y: (real + z_y).round().clamp(0, 255)),
                _("Round before you add the zero point: with an odd one, ties go to the other neighbour."),
            ),
            Mistake(
                wrong(finish=lambda real, z_y: (real + z_y).clamp(0, 255)),
                _("Nothing is rounded. A code is a whole number: the nearest, with ties to even, as torch.round does."),
            ),
            Mistake(
                wrong(finish=lambda real, z_y: (real + z_y).clamp(0, 255).byte()),
                _("Becoming uint8, a number loses its fraction. Round it first, as torch.round does."),
            ),
            Mistake(
                wrong(finish=lambda real, z_y: (real.trunc() + z_y).clamp(0, 255)),
                _("You cut the fraction off. Round to the nearest, ties to even, as torch.round does."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)
        _must_be_uint8(ask(answer, *cases[0].args))
