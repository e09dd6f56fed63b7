"""The self-checks of lab 06."""

from collections.abc import Callable

from torch import tensor

from edgelab.course.check import Case, Mistake, check_function, exercise
from edgelab.i18n import _

LAB = "06_structured_pruning"


def kept_channels(answer: Callable) -> None:
    """Check `kept_channels(size, ratio, step)`."""
    with exercise(LAB, "kept-channels"):
        cases = [
            Case((64, 0.3, 8), 48),
            Case((64, 0.15, 8), 56),
            Case((100, 0.4, 16), 64),
            Case((130, 0.52, 5), 60),
            Case((64, 0.99, 8), 8),
            Case((100, 0.98, 3), 3),
        ]
        mistakes = [
            Mistake(
                lambda size, ratio, step: step * max(1, round(ratio * size / step)),
                _("That is how many go. The exercise asks for those that stay: 1 - ratio of them."),
            ),
            Mistake(
                lambda size, ratio, step: step * round((1 - ratio) * size / step),
                _("A layer without channels is no layer: one step stays at least."),
            ),
            Mistake(
                lambda size, ratio, step: step * max(1, int((1 - ratio) * size / step)),
                _("You round down. The nearest multiple may lie above."),
            ),
            Mistake(
                lambda size, ratio, step: step * max(1, -int(-(1 - ratio) * size // step)),
                _("You round up. The nearest multiple may lie below."),
            ),
            Mistake(
                lambda size, ratio, step: max(1, round((1 - ratio) * size)),
                _("The step is missing: what stays is a multiple of it."),
            ),
            Mistake(
                lambda size, ratio, step: max(1, round((1 - ratio) * size / step)),
                _("That counts steps. Multiply by `step` to get channels."),
            ),
            Mistake(
                lambda size, ratio, step: size - step * round(ratio * size / step),
                _("You round what goes. Round what stays: only that has to fit the processor."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def taylor(answer: Callable) -> None:
    """Check `taylor(weight, gradient)`."""
    with exercise(LAB, "taylor"):
        weights = [[[[1.0, -2.0]], [[0.5, 3.0]]], [[[2.0, 1.0137]], [[-1.0, 0.25]]], [[[0.1, 0.2]], [[0.4, -4.0]]]]
        slopes = [[[[0.5, 0.5]], [[-2.0, 0.1]]], [[[1.0, -1.0]], [[3.0, 4.0]]], [[[2.0, -0.5]], [[0.3, 0.7]]]]
        weight, gradient = tensor(weights), tensor(slopes)  # (3, 2, 1, 2)
        cases = [
            Case((weight, gradient), _each(weight, gradient)),
            Case((gradient[:2], weight[:2] - 0.3), _each(gradient[:2], weight[:2] - 0.3)),
        ]
        mistakes = [
            Mistake(
                lambda weight, gradient: (weight * gradient).abs().flatten(1).sum(1),
                _("You take absolute values before the sum. Slopes of opposite sign cancel: sum first."),
            ),
            Mistake(
                lambda weight, gradient: (weight * gradient).flatten(1).sum(1),
                _("A channel matters whether the loss would rise or fall: the absolute value of the sum is missing."),
            ),
            Mistake(
                lambda weight, gradient: (weight * gradient).flatten(1).sum(1) ** 2,
                _("That is the square. The exercise asks for the absolute value."),
            ),
            Mistake(
                lambda weight, gradient: (weight * gradient).transpose(0, 1).flatten(1).sum(1).abs(),
                _("Those are the input channels, axis 1. A filter is an output channel, axis 0."),
            ),
            Mistake(
                lambda weight, gradient: (weight * gradient).flatten(1).mean(1).abs(),
                _("That is the mean. The change of the loss is the sum."),
            ),
            Mistake(
                lambda weight, gradient: weight.abs().flatten(1).sum(1),
                _("That is the L1 norm of the weights. Where is the gradient?"),
            ),
            Mistake(
                lambda weight, gradient: gradient.flatten(1).sum(1).abs(),
                _("That is the gradient alone. A weight of zero can fade no more: multiply by the weight."),
            ),
            Mistake(
                lambda weight, gradient: (weight * gradient).sum().abs(),
                _("That is one number for the whole layer. Each output channel has its own."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _each(weight, gradient):
    return (weight * gradient).flatten(1).sum(1).abs()


def together(answer: Callable) -> None:
    """Check `together(additions)`."""
    with exercise(LAB, "together"):
        cases = [
            Case(([("stem", "a"), ("c", "b")],), [["a", "stem"], ["b", "c"]]),
            Case(([("stem", "a"), ("a", "b"), ("d", "c")],), [["a", "b", "stem"], ["c", "d"]]),
            Case(([("a", "b"), ("d", "c"), ("c", "a")],), [["a", "b", "c", "d"]]),
            Case(
                ([("f", "e"), ("a", "b"), ("d", "c"), ("c", "g"), ("g", "b")],),
                [["a", "b", "c", "d", "g"], ["e", "f"]],
            ),
            Case(([],), []),
        ]
        mistakes = [
            Mistake(
                lambda additions: sorted(sorted(pair) for pair in additions),
                _("Those are the pairs. If a is added to b, and b to c, all three are in one group."),
            ),
            Mistake(
                _into_the_first,
                _("A new pair may connect two groups that were apart: then they become one."),
            ),
            Mistake(
                lambda additions: [sorted({name for pair in additions for name in pair})] if additions else [],
                _("That puts all layers into one group. Only a chain of additions connects them."),
            ),
            Mistake(
                lambda additions: sorted(_groups(additions), key=lambda group: (-len(group), group)),
                _("Sort the groups as lists are sorted, not by their size: sorted(groups)."),
            ),
            Mistake(
                lambda additions: [list(reversed(group)) for group in reversed(_groups(additions))],
                _("Sort in ascending order."),
            ),
            Mistake(
                lambda additions: [tuple(group) for group in _unsorted(additions)],
                _("The groups are right. Sort the names in each, and then the groups."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _unsorted(additions):
    groups: list[dict] = []
    for pair in additions:
        met = [group for group in groups if any(name in group for name in pair)]
        groups = [group for group in groups if group not in met]
        merged: dict = {}
        for part in [*met, dict.fromkeys(pair)]:
            merged |= part
        groups.append(merged)
    return [list(group) for group in groups]


def _groups(additions):
    return sorted(sorted(group) for group in _unsorted(additions))


def _into_the_first(additions):
    groups: list[set] = []
    for pair in additions:
        for group in groups:
            if group & set(pair):
                group |= set(pair)
                break
        else:
            groups.append(set(pair))
    return sorted(sorted(group) for group in groups)


def cut(answer: Callable) -> None:
    """Check `cut(first, norm, second, keep)`."""
    with exercise(LAB, "cut"):
        first = tensor([[[[1.0, 2.0]]], [[[3.0, 4.0]]], [[[5.0, 6.0137]]]])  # (3, 1, 1, 2)
        norm = tensor([[0.1, 0.2, 0.3], [1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [7.0, 8.0, 9.0]])  # (4, 3)
        second = tensor([[[[10.0]], [[20.0]], [[30.0]]], [[[40.0]], [[50.0]], [[60.0]]], [[[70.0]], [[80.0]], [[9.0]]]])
        inputs = [(first, norm, second, keep) for keep in ([0, 2], [1, 2], [2])]
        cases = [Case(given, (given[0][given[3]], given[1][:, given[3]], given[2][:, given[3]])) for given in inputs]
        mistakes = [
            Mistake(
                lambda first, norm, second, keep: (first[keep], norm[:, keep], second[keep]),
                _("The second convolution reads these channels: they are its inputs, axis 1."),
            ),
            Mistake(
                lambda first, norm, second, keep: (first[keep], norm[keep], second[:, keep]),
                _("The rows of `norm` are gamma, beta, mean and variance. Its channels are the columns, axis 1."),
            ),
            Mistake(
                lambda first, norm, second, keep: (first[keep], norm, second[:, keep]),
                _("The batch norm has a number for each channel too: it must shrink."),
            ),
            Mistake(
                lambda first, norm, second, keep: (first[keep], norm[:, keep], second),
                _("The second convolution still reads the channels that are gone."),
            ),
            Mistake(
                lambda first, norm, second, keep: (
                    first[_others(keep)],
                    norm[:, _others(keep)],
                    second[:, _others(keep)],
                ),
                _("`keep` lists the channels that stay, not those that go."),
            ),
            Mistake(
                lambda first, norm, second, keep: (
                    first[: len(keep)],
                    norm[:, : len(keep)],
                    second[:, : len(keep)],
                ),
                _("Those are the first channels, as many as stay. Take those that `keep` lists."),
            ),
            Mistake(
                lambda first, norm, second, keep: (second[:, keep], norm[:, keep], first[keep]),
                _("Return them in this order: first, norm, second."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _others(keep):
    return [channel for channel in range(3) if channel not in keep]
