"""The self-checks of lab 08."""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from edgelab.course.check import Case, Mistake, check_function, exercise
from edgelab.i18n import _

LAB = "08_light_architectures"


def separable_macs(answer: Callable) -> None:
    """Check `separable_macs(c_in, c_out, kernel, height, width)`."""
    with exercise(LAB, "separable-macs"):
        cases = [
            Case(shape, _prices(*shape))
            for shape in (
                (16, 16, 3, 16, 16),
                (64, 128, 3, 8, 8),
                (32, 24, 5, 10, 14),
                (27, 41, 7, 9, 5),
                (57, 44, 3, 85, 77),
            )
        ]
        mistakes = [
            Mistake(
                lambda c_in, c_out, kernel, height, width: _prices(c_in, c_out, kernel, height, width)[0],
                _("Return two numbers: the MACs of the pair, and how many times fewer they are."),
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width: _prices(c_in, c_out, kernel, height, width)[::-1],
                _("Return the MACs of the pair first, then how many times fewer they are."),
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width: _ratio(
                    c_in * kernel**2 * height * width, c_in * c_out * kernel**2 * height * width
                ),
                _("The pointwise convolution is missing: it mixes the channels, c_in × c_out of them at each place."),
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width: _ratio(
                    c_in * c_out * height * width, c_in * c_out * kernel**2 * height * width
                ),
                _("The depthwise convolution is missing: it filters each channel, with kernel × kernel weights."),
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width: _ratio(
                    (c_in * c_in * kernel**2 + c_in * c_out) * height * width,
                    c_in * c_out * kernel**2 * height * width,
                ),
                _("With groups = c_in, each output of the depthwise convolution looks at one channel only."),
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width: _ratio(
                    (c_out * kernel**2 + c_in * c_out) * height * width, c_in * c_out * kernel**2 * height * width
                ),
                _("The depthwise convolution comes first: it has c_in channels, and not yet c_out."),
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width: _ratio(
                    (c_in * kernel + c_in * c_out) * height * width, c_in * c_out * kernel**2 * height * width
                ),
                _("The kernel has k × k places, not k."),
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width: _ratio(
                    c_in * kernel**2 + c_in * c_out, c_in * c_out * kernel**2
                ),
                _("Those are the weights. Each of them is used once for every output position, height × width times."),
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width: (
                    _prices(c_in, c_out, kernel, height, width)[0],
                    1 / _prices(c_in, c_out, kernel, height, width)[1],
                ),
                _("That is upside down: divide the MACs of the full convolution by those of the pair."),
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width: (
                    _prices(c_in, c_out, kernel, height, width)[0],
                    int(_prices(c_in, c_out, kernel, height, width)[1]),
                ),
                _("You round down. How many times fewer need not be a whole number: use /, not //."),
            ),
            Mistake(
                lambda c_in, c_out, kernel, height, width: (
                    _prices(c_in, c_out, kernel, height, width)[0],
                    _prices(c_in, c_out, kernel, height, width)[0]
                    * (_prices(c_in, c_out, kernel, height, width)[1] - 1),
                ),
                _("That is the difference. How many *times* fewer? Divide."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _prices(c_in, c_out, kernel, height, width):
    pair = (c_in * kernel**2 + c_in * c_out) * height * width
    return _ratio(pair, c_in * c_out * kernel**2 * height * width)


def _ratio(pair, full):
    return pair, full / pair


def separable(answer: Callable) -> None:
    """Check `separable(x, depthwise, pointwise, stride)`."""
    with exercise(LAB, "separable"):
        mistakes = [
            Mistake(
                lambda x, depthwise, pointwise, stride: F.conv2d(x, *depthwise),
                _("A depthwise convolution has as many groups as channels: groups=len(weight)."),
            ),
            Mistake(
                lambda x, depthwise, pointwise, stride: _separable(x, depthwise, pointwise, stride, last=_as_it_is),
                _("The ReLU behind the pointwise convolution is missing: MobileNetV1 has one behind each of the two."),
            ),
            Mistake(
                lambda x, depthwise, pointwise, stride: _separable(x, depthwise, pointwise, stride, first=_as_it_is),
                _("The ReLU between the two is missing: MobileNetV1 has one behind each convolution."),
            ),
            Mistake(
                lambda x, depthwise, pointwise, stride: _separable(x, depthwise, pointwise, 1),
                _("The stride is missing: the depthwise convolution takes it."),
            ),
            Mistake(
                lambda x, depthwise, pointwise, stride: _separable(
                    x, (depthwise[0], None), (pointwise[0], None), stride
                ),
                _("The biases are missing: each pair holds a weight and a bias."),
            ),
            Mistake(
                lambda x, depthwise, pointwise, stride: _separable(x, depthwise, pointwise, stride, padding=1),
                _(
                    "The padding does not fit every kernel: it is half of the kernel, rounded down, or the picture "
                    "changes its size."
                ),
            ),
            Mistake(
                lambda x, depthwise, pointwise, stride: _separable(x, depthwise, pointwise, stride, padding=0),
                _("Without padding the picture shrinks at its edges: give kernel // 2."),
            ),
            Mistake(
                lambda x, depthwise, pointwise, stride: _separable(
                    x, depthwise, pointwise, stride, first=F.relu6, last=F.relu6
                ),
                _("That is ReLU6, which also clips above 6. MobileNetV1 has a plain ReLU."),
            ),
        ]
        cases = [Case(given, _separable(*given), tolerance=1e-4) for given in _blocks(_separable_given)]
        check_function(answer, cases, mistakes=mistakes)


def _as_it_is(x):
    return x


def _blocks(given: Callable) -> list:
    """Return the arguments of three blocks: of 3x3 with stride 1, of 5x5, and with stride 2."""
    generator = torch.Generator().manual_seed(8)
    return [given(generator, kernel, stride) for kernel, stride in ((3, 1), (5, 1), (3, 2))]


def _separable_given(generator, kernel, stride):
    return (
        3 * torch.randn(1, 4, 6, 6, generator=generator),
        (torch.randn(4, 1, kernel, kernel, generator=generator), torch.randn(4, generator=generator)),
        (torch.randn(4, 4, 1, 1, generator=generator), torch.randn(4, generator=generator)),
        stride,
    )


def _separable(x, depthwise, pointwise, stride, *, first=F.relu, last=F.relu, padding=None):
    return last(F.conv2d(first(_depthwise(x, depthwise, stride, padding)), *pointwise))


def _depthwise(x, pair, stride, padding=None):
    weight, bias = pair
    padding = weight.shape[-1] // 2 if padding is None else padding
    return F.conv2d(x, weight, bias, stride, padding, groups=len(weight))


def inverted_residual(answer: Callable) -> None:
    """Check `inverted_residual(x, expand, depthwise, project, stride)`."""
    with exercise(LAB, "inverted-residual"):
        mistakes = [
            Mistake(
                lambda x, expand, depthwise, project, stride: F.conv2d(F.conv2d(x, *expand), *depthwise),
                _("A depthwise convolution has as many groups as channels: groups=len(weight)."),
            ),
            Mistake(
                lambda x, expand, depthwise, project, stride: _inverted(
                    x, expand, depthwise, project, stride, add=lambda x, y: y
                ),
                _("The input is never added. It is, where the output has the same shape."),
            ),
            Mistake(
                lambda x, expand, depthwise, project, stride: _inverted(
                    x, expand, depthwise, project, stride, last=F.relu6
                ),
                _("The projection is linear: no ReLU6 behind it."),
            ),
            Mistake(
                lambda x, expand, depthwise, project, stride: F.relu6(_inverted(x, expand, depthwise, project, stride)),
                _("Nothing comes behind the addition: no ReLU6 there."),
            ),
            Mistake(
                lambda x, expand, depthwise, project, stride: _inverted(
                    x, expand, depthwise, project, stride, clip=F.relu
                ),
                _("That is ReLU. MobileNetV2 has ReLU6, which also clips above 6."),
            ),
            Mistake(
                lambda x, expand, depthwise, project, stride: _inverted(
                    x, expand, depthwise, project, stride, middle=_as_it_is
                ),
                _("The ReLU6 behind the depthwise convolution is missing."),
            ),
            Mistake(
                lambda x, expand, depthwise, project, stride: _inverted(
                    x, expand, depthwise, project, stride, begin=_as_it_is
                ),
                _("The ReLU6 behind the expansion is missing."),
            ),
            Mistake(
                lambda x, expand, depthwise, project, stride: _inverted(
                    x, expand, depthwise, project, stride, add=lambda x, y: x + y if stride == 1 else y
                ),
                _("A stride of 1 is not enough: the channels must be as many, too. Compare the shapes."),
            ),
            Mistake(
                lambda x, expand, depthwise, project, stride: _inverted(x, expand, depthwise, project, 1),
                _("The stride is missing: the depthwise convolution takes it."),
            ),
        ]
        cases = [Case(given, _inverted(*given), tolerance=1e-4) for given in _inverted_given()]
        check_function(answer, cases, mistakes=mistakes)


def _inverted_given() -> list:
    """Return the arguments of four blocks: of 3x3, of 5x5, with stride 2, and with other channels behind it."""
    generator = torch.Generator().manual_seed(9)

    def layer(*shape):
        return torch.randn(shape, generator=generator), torch.randn(shape[0], generator=generator)

    def block(kernel, stride, channels):
        x = 3 * torch.randn(1, 3, 6, 6, generator=generator)
        return x, layer(9, 3, 1, 1), layer(9, 1, kernel, kernel), layer(channels, 9, 1, 1), stride

    return [block(3, 1, 3), block(5, 1, 3), block(3, 2, 3), block(3, 1, 5)]


def _inverted(
    x, expand, depthwise, project, stride, *, clip=F.relu6, begin=None, middle=None, last=_as_it_is, add=None
):
    wide = (begin or clip)(F.conv2d(x, *expand))
    narrow = last(F.conv2d((middle or clip)(_depthwise(wide, depthwise, stride)), *project))
    if add is not None:
        return add(x, narrow)
    return x + narrow if narrow.shape == x.shape else narrow


def make_divisible(answer: Callable) -> None:
    """Check `make_divisible(channels, divisor)`."""
    with exercise(LAB, "make-divisible"):
        wanted = [
            (24, 8),
            (44.8, 8),
            (35.5, 8),
            (11.2, 8),
            (3, 8),
            (53, 8),
            (52.0, 8),
            (36, 16),
            (100.3, 4),
            (16.9, 16),
            (21.5, 16),
        ]
        cases = [Case(given, _divisible(*given)) for given in wanted]
        ties = _("Python's round goes to the even multiple where two are as near. Go up there.")
        mistakes = [
            Mistake(_nearest, _("More than a tenth of the channels may be lost that way, even all of them.")),
            Mistake(
                lambda channels, divisor: max(divisor, _nearest(channels, divisor)),
                _("Sometimes more than a tenth of the channels is lost. Add the divisor once where that is so."),
            ),
            Mistake(
                lambda channels, divisor: max(divisor, int(channels // divisor) * divisor),
                _("You round down. Take the nearest multiple."),
            ),
            Mistake(
                lambda channels, divisor: _kept(int(channels // divisor) * divisor, channels, divisor),
                _("You round down. Take the nearest multiple."),
            ),
            Mistake(
                lambda channels, divisor: int(-(-channels // divisor) * divisor),
                _("You always round up. Take the nearest multiple, and go up only where more than a tenth is lost."),
            ),
            Mistake(lambda channels, divisor: max(divisor, round(channels / divisor) * divisor), ties),
            Mistake(lambda channels, divisor: _kept(round(channels / divisor) * divisor, channels, divisor), ties),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _divisible(channels, divisor):
    return _kept(max(divisor, _nearest(channels, divisor)), channels, divisor)


def _nearest(channels, divisor):
    return int((channels + divisor / 2) // divisor) * divisor


def _kept(rounded, channels, divisor):
    return rounded + divisor if rounded < 0.9 * channels else rounded
