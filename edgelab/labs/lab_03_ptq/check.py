"""The self-checks of lab 03."""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean

from torch import Tensor, nn, tensor

from edgelab.course.check import Case, Mistake, ask, check_function, check_that, exercise
from edgelab.data import Dataset
from edgelab.i18n import _
from edgelab.labs.lab_03_ptq import files

LAB = "03_ptq"


def fold(answer: Callable) -> None:
    """Check `fold(weight, bias, mean, var, gamma, beta, eps)`."""
    with exercise(LAB, "fold"):
        weight = tensor([[[[1.0, 2.0]], [[-1.0, 0.5]]], [[[3.0, -1.0]], [[2.0, 4.0]]]])  # (2, 2, 1, 2)
        norm = (tensor([2.0, 3.0]), tensor([0.16, 0.91]), tensor([1.0, 3.0]), tensor([0.5, -1.0]), 0.09)
        inputs = [
            (scale * weight, tensor(bias), *norm) for scale, bias in ((1.0, [0.0, 0.0]), (0.3337, [1.0, -2.1237]))
        ]
        mistakes = [
            Mistake(
                lambda weight, bias, mean, var, gamma, beta, eps: _folded(
                    weight, bias, mean, gamma / (var + eps), beta
                ),
                _("Batch norm divides by the standard deviation: take the square root of var + eps."),
            ),
            Mistake(
                lambda weight, bias, mean, var, gamma, beta, eps: _folded(
                    weight, bias, mean, gamma / (var**0.5 + eps), beta
                ),
                _("eps is added to the variance, and the root is taken then: sqrt(var + eps)."),
            ),
            Mistake(
                lambda weight, bias, mean, var, gamma, beta, eps: _folded(
                    weight, bias, mean, gamma / (var + eps) ** 0.5, beta
                )[::-1],
                _("Return the weight first, then the bias."),
            ),
            Mistake(
                lambda weight, bias, mean, var, gamma, beta, eps: _folded(weight, bias, mean, gamma / var**0.5, beta),
                _("eps is missing: it is added to the variance, under the root."),
            ),
            Mistake(
                lambda weight, bias, mean, var, gamma, beta, eps: _folded(
                    weight, bias, 0 * mean, gamma / (var + eps) ** 0.5, beta
                ),
                _("The mean is missing: batch norm takes it away from what the convolution gives."),
            ),
            Mistake(
                lambda weight, bias, mean, var, gamma, beta, eps: (
                    _per_channel(gamma / (var + eps) ** 0.5) * weight,
                    bias - mean * gamma / (var + eps) ** 0.5 + beta,
                ),
                _("The old bias passes through the batch norm too: scale (bias - mean), not the mean alone."),
            ),
            Mistake(
                lambda weight, bias, mean, var, gamma, beta, eps: (
                    _per_channel(gamma / (var + eps) ** 0.5) * weight,
                    beta - mean * gamma / (var + eps) ** 0.5,
                ),
                _("The old bias is lost: the convolution adds it before the batch norm."),
            ),
            Mistake(
                lambda weight, bias, mean, var, gamma, beta, eps: (
                    _per_channel(gamma / (var + eps) ** 0.5) * weight,
                    bias,
                ),
                _("The bias must change as well: it takes over the mean and beta."),
            ),
            Mistake(
                lambda weight, bias, mean, var, gamma, beta, eps: (
                    weight * (gamma / (var + eps) ** 0.5),
                    (bias - mean) * gamma / (var + eps) ** 0.5 + beta,
                ),
                _("The factors run along the last axis of the weight. Output channels are the first: reshape them."),
            ),
            Mistake(
                lambda weight, bias, mean, var, gamma, beta, eps: (
                    weight * (gamma / (var + eps) ** 0.5).reshape(1, -1, 1, 1),
                    (bias - mean) * gamma / (var + eps) ** 0.5 + beta,
                ),
                _("The factors run along the input channels, axis 1. Batch norm follows the output channels, axis 0."),
            ),
        ]
        cases = []
        for given in inputs:
            weight, bias, mean, var, gamma, beta, eps = given
            cases.append(Case(given, _folded(weight, bias, mean, gamma / (var + eps) ** 0.5, beta)))
        check_function(answer, cases, mistakes=mistakes)


def _folded(weight, bias, mean, factor, beta):
    return _per_channel(factor) * weight, (bias - mean) * factor + beta


def _per_channel(factor):
    return factor.reshape(-1, 1, 1, 1)


def percentile_range(answer: Callable) -> None:
    """Check `percentile_range(batches, percent)`, the second half of the exercise."""
    with exercise(LAB, "percentile-range"):
        even = [tensor([1.0137 * n for n in range(61)]), tensor([[1.0137 * n] for n in range(61, 101)])]
        skewed = [tensor([float(n * n) for n in range(-2, 9)]), tensor([-float(n) for n in range(1, 11)])]
        cases = [
            Case((even, 90.0), (5 * 1.0137, 95 * 1.0137)),
            Case((even, 99.0), (0.5 * 1.0137, 99.5 * 1.0137)),
            Case((skewed, 80.0), _cut(_values(skewed), 0.1, 0.9)),
        ]
        mistakes = [
            Mistake(
                lambda batches, percent: _cut(_values(batches), 1 - percent / 100, percent / 100),
                _("That cuts off too much: half of what lies outside is cut at one end, half at the other."),
            ),
            Mistake(
                lambda batches, percent: (min(_values(batches)), _cut(_values(batches), 0, percent / 100)[1]),
                _("You clip the upper end only. Half of what is clipped lies at the lower end."),
            ),
            Mistake(
                lambda batches, percent: tuple(
                    fmean(ends)
                    for ends in zip(*(_cut(_values([batch]), *_tails(percent)) for batch in batches), strict=True)
                ),
                _("That averages a percentile of each batch. Take the percentile of all values together."),
            ),
            Mistake(
                lambda batches, percent: _cut([abs(value) for value in _values(batches)], *_tails(percent)),
                _("You take absolute values. The signs count: cut the values as they are, at both ends."),
            ),
            Mistake(
                lambda batches, percent: _symmetric(_cut([abs(value) for value in _values(batches)], 0, percent / 100)),
                _("That makes the range symmetric. Cut each end by itself: the values need not lie around 0."),
            ),
            Mistake(
                lambda batches, percent: (min(_values(batches)), max(_values(batches))),
                _("Nothing is clipped: that is the min-max range. Is `percent` divided by 100 once too often?"),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _values(batches):
    """Return all numbers of some tensors as one list."""
    return [value for batch in batches for value in batch.flatten().tolist()]


def _tails(percent):
    outside = (1 - percent / 100) / 2
    return outside, 1 - outside


def _symmetric(ends):
    return -ends[1], ends[1]


def _cut(values, low, high):
    """Return the quantiles `low` and `high` of `values`, by linear interpolation."""
    ordered, ends = sorted(values), []
    for fraction in (low, high):
        place = fraction * (len(ordered) - 1)
        below = min(int(place), len(ordered) - 2)
        ends.append(ordered[below] + (place - below) * (ordered[below + 1] - ordered[below]))
    return tuple(ends)


def quantize_model(answer: Callable, model: nn.Module, images: Tensor, dataset: Dataset) -> None:
    """Check `quantize_model(model, images, path)` by what it returns, and by what is in its file."""
    with exercise(LAB, "quantize-model"):
        path = Path("models", "exercise-int8.onnx")
        path.unlink(missing_ok=True)
        returned = ask(answer, model, images, path, call="quantize_model(model, images, path)")
        check_that(
            path.exists(),
            _("there is no file at `path`. The last step is to_onnx(converted, image, path). Was it called?"),
        )
        check_that(
            returned is not None,
            _("the file is there, but your function gives None, and not its path. Did you forget `return`?"),
        )
        check_that(str(returned) == str(path), _("return the path of the file; to_onnx returns it as well."))
        found = files.examine(path, model, dataset)
        check_that(
            found.int8_share > 0.99,
            _(
                "the weights in the file are still floats. `prepare` returns a new model: use what it returns. "
                "`convert` does too, and to_onnx needs what `convert` returned."
            ),
        )
        check_that(
            found.integer_convolutions == found.convolutions,
            _("only %(integer)d of %(all)d convolutions run in integers. Were activations quantized too?")
            % {"integer": found.integer_convolutions, "all": found.convolutions},
        )
        lost, agreement = 100 * (found.float_accuracy - found.accuracy), found.agreement
        if lost > 1 or agreement < 0.97:  # the learner's own images may be harder: what would our own file lose?
            ours = files.examine(files.write_int8(model, images, path.with_name("own-int8.onnx")), model, dataset)
            lost -= max(0.0, 100 * (ours.float_accuracy - ours.accuracy))
            agreement += 1 - ours.agreement
        check_that(
            lost <= 1,
            _("the file loses %(lost).1f points of accuracy. Is the model calibrated on all of `images`?")
            % {"lost": lost},
        )
        check_that(
            agreement >= 0.97,
            _("the file gives another answer than the model for %(share).0f %% of the images. Is it the same model?")
            % {"share": 100 * (1 - agreement)},
        )


def channel_spread(answer: Callable) -> None:
    """Check `channel_spread(weight)`."""
    with exercise(LAB, "channel-spread"):
        one, two = (
            [[[[1.0, -2.0]]], [[[0.5, 0.25]]], [[[3.0, -8.0]]]],  # (3, 1, 1, 2): ranges 2, 0.5, 8
            [[[[n]], [[-n / 2]]] for n in (1.0, 3.0, 2.0, 10.0, 5.0)],  # (5, 2, 1, 1): ranges 1, 3, 2, 10, 5
        )
        three = [[[[n, -n / 4, n / 8]]] for n in (1.0, 4.0, 2.0)]  # (3, 1, 1, 3)
        three[2] = [[[2.0, 1.5, -1.5]]]
        cases = [Case((tensor(one),), 4.0), Case((tensor(two),), 10 / 3), Case((tensor(three),), 2.0)]
        mistakes = [
            Mistake(
                lambda weight: _spread([max(_values([channel])) for channel in weight]),
                _("Negative weights count too: the range of a channel is its largest *absolute* weight."),
            ),
            Mistake(
                lambda weight: _spread([max(_values([c])) - min(_values([c])) for c in weight]),
                _("That is maximum minus minimum. A symmetric scale is made for the largest absolute weight."),
            ),
            Mistake(
                lambda weight: _spread([max(map(abs, _values([weight[:, i]]))) for i in range(weight.shape[1])]),
                _("Those are input channels, axis 1. A scale per channel belongs to an output channel, axis 0."),
            ),
            Mistake(
                lambda weight: max(map(abs, _values([weight]))) / fmean(max(map(abs, _values([c]))) for c in weight),
                _("That divides by the mean, which the largest channel pulls up. Divide by the median."),
            ),
            Mistake(
                lambda weight: max(map(abs, _values([weight]))) / min(max(map(abs, _values([c]))) for c in weight),
                _("That divides by the smallest channel. Divide by the median: the channel in the middle."),
            ),
            Mistake(
                lambda weight: 1 / _spread([max(map(abs, _values([c]))) for c in weight]),
                _("That is upside down: divide the largest range by the median."),
            ),
            Mistake(
                lambda weight: _spread([fmean(map(abs, _values([channel]))) for channel in weight]),
                _("That takes a channel's mean absolute weight. Its range is the largest one."),
            ),
            *(
                Mistake(
                    lambda weight, divisor=divisor: _spread([_deviation(_values([c]), divisor) for c in weight]),
                    _("That takes a channel's standard deviation. Its range is the largest absolute weight."),
                )
                for divisor in (0, 1)
            ),
            Mistake(
                lambda weight: (
                    max(map(abs, _values([weight]))) / sorted(map(abs, _values([weight])))[weight.numel() // 2]
                ),
                _("That is the median of all weights. Take one range for each channel first, then their median."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def breaking(answer: Callable) -> None:
    """Check `breaking(weights, bits)`, which calls the learner's `channel_spread`."""
    with exercise(LAB, "breaking"):
        ranges = {"stem": (4.0, 5.0, 6.0), "depthwise": (1.0, 2.0, 150.0), "pointwise": (1.0, 3.0, 30.0)}
        ranges |= {"first": (2.0, 2.0, 6.8), "last": (0.1, 0.2, 13.0)}
        weights = {name: tensor([[[[one, -one / 2]]] for one in three]) for name, three in ranges.items()}
        cases = [
            Case((weights, 8), ["depthwise", "last"]),
            Case((weights, 4), ["depthwise", "pointwise", "last"]),
            Case((weights, 3), ["depthwise", "pointwise", "first", "last"]),
            Case(({"stem": weights["stem"]}, 8), []),
        ]

        def found(codes=lambda bits: 2 ** (bits - 1) - 1, least=2, below=True):
            def answer(weights, bits):
                return [
                    name
                    for name, weight in weights.items()
                    if (codes(bits) / _spread([max(map(abs, _values([c]))) for c in weight]) < least) == below
                ]

            return answer

        mistakes = [
            Mistake(found(below=False), _("Those are the layers that hold. Which of them break?")),
            Mistake(
                found(codes=lambda bits: 2**bits - 1),
                _("That counts the codes on both sides of zero. On each side there are 2^(b-1) - 1."),
            ),
            Mistake(
                found(codes=lambda bits: 2**bits),
                _("That counts the codes on both sides of zero. On each side there are 2^(b-1) - 1."),
            ),
            Mistake(
                found(codes=lambda bits: 127), _("127 codes are those of 8 bits. With b bits there are 2^(b-1) - 1.")
            ),
            Mistake(found(least=1), _("One code is left to those. A layer breaks below two.")),
            Mistake(
                lambda weights, bits: {
                    name: _spread([max(map(abs, _values([c]))) for c in weight]) for name, weight in weights.items()
                },
                _("Those are the spreads. Return the names of the layers that break, as a list."),
            ),
            Mistake(
                lambda weights, bits: [
                    max(weights, key=lambda name: _spread([max(map(abs, _values([c]))) for c in weights[name]]))
                ],
                _("That is the worst layer. All that break are asked for: several, or none."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _deviation(values, less):
    mean = fmean(values)
    return (sum((value - mean) ** 2 for value in values) / max(1, len(values) - less)) ** 0.5


def _spread(ranges):
    return max(ranges) / sorted(ranges)[(len(ranges) - 1) // 2]
