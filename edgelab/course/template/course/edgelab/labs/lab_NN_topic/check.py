"""The self-checks of lab NN."""

from collections.abc import Callable

from edgelab.course.check import Case, Mistake, check_function, exercise
from edgelab.i18n import _

LAB = "NN_topic"


def shares(answer: Callable) -> None:
    """Check `shares(amounts)`."""
    with exercise(LAB, "shares"):
        cases = [
            Case(([1, 1, 2],), [25.0, 25.0, 50.0]),
            Case(([3, 4, 13],), [15.0, 20.0, 65.0]),
            Case(([0.3, 97.1],), [30 / 97.4, 9710 / 97.4]),
            Case(([8],), [100.0]),
        ]
        mistakes = [
            Mistake(
                lambda amounts: [amount / sum(amounts) for amount in amounts],
                _("Those are fractions of 1. A percentage is a hundred times that."),
            ),
            Mistake(
                lambda amounts: [100 * amount / max(amounts) for amount in amounts],
                _("You divide by the largest amount. Divide by the sum of all of them."),
            ),
            Mistake(
                lambda amounts: [100 * amount / len(amounts) for amount in amounts],
                _("You divide by how many there are. Divide by their sum."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def layers_for(answer: Callable) -> None:
    """Check `layers_for(shares, percent)`."""
    with exercise(LAB, "layers-for"):
        cases = [
            Case(([10, 50, 15, 25], 60), 2),
            Case(([10, 50, 15, 25], 75), 2),
            Case(([10, 50, 15, 25], 76), 3),
            Case(([10, 50, 15, 25], 20), 1),
            Case(([5, 5, 90], 20), 1),
        ]
        mistakes = [
            Mistake(lambda shares, percent: _count(shares, percent), _("Take the largest layers first: sort them.")),
            Mistake(
                lambda shares, percent: _count(sorted(shares), percent),
                _("You begin with the smallest layer. Begin with the largest."),
            ),
            Mistake(
                lambda shares, percent: _count(sorted(shares, reverse=True), percent) - 1,
                _("You stop one layer too early: the one that reaches the percentage counts as well."),
            ),
            Mistake(
                lambda shares, percent: _count(sorted(shares, reverse=True), percent + 1e-9),
                _("You go on where the percentage is reached exactly. *At least* allows that: use >=."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _count(shares: list, percent: float) -> int:
    """Return after how many of `shares`, in the order given, `percent` is reached."""
    return next(count for count in range(1, len(shares) + 1) if sum(shares[:count]) >= percent)


def reuse(answer: Callable) -> None:
    """Check `reuse(macs, params)`."""
    with exercise(LAB, "reuse"):
        cases = [Case((1000, 10), 100.0), Case((50, 100), 0.5), Case((20, 17), 20 / 17)]
        mistakes = [
            Mistake(
                lambda macs, params: params / macs,
                _("That is upside down: divide the MACs by the weights."),
            ),
            Mistake(
                lambda macs, params: macs // params,
                _("You round down. An average need not be a whole number: use /, not //."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)
