"""The self-checks of lab 00."""

import math
from collections.abc import Callable
from itertools import accumulate
from statistics import fmean

from edgelab.course.check import Case, Mistake, ask, check_function, check_that, check_value, exercise
from edgelab.course.fake_clock import fake_clock
from edgelab.i18n import _

LAB = "00_start"


def percentile(answer: Callable) -> None:
    """Check `percentile(samples, q)`."""
    with exercise(LAB, "percentile"):
        samples = [9.0, 1.0, 4.0, 2.0, 100.0]
        cases = [
            Case((samples, 50), 4.0),
            Case((samples, 95), 81.8),
            Case(([1.0, 2.0], 50), 1.5),
            Case(([7.0], 95), 7.0),
            Case((samples, 0), 1.0),
            Case((samples, 100), 100.0),
            Case(([0.16437, 0.30817, 0.27183, 0.51913], 62.5), 0.3036275),
        ]
        by_n = _("Counted from 0, the last of n samples has the place n - 1: the place is (n - 1) · q / 100.")
        mistakes = [
            Mistake(lambda samples, q: _interpolate(samples, q), _("Sort the samples first.")),
            Mistake(lambda samples, q: sum(samples) / len(samples), _("That is the mean. Which place does q ask for?")),
            Mistake(
                lambda samples, q: sorted(samples)[int((len(samples) - 1) * q / 100)],
                _("That is the sample just below. Add the fraction f of the way to the next one."),
            ),
            Mistake(
                lambda samples, q: sorted(samples)[math.ceil((len(samples) - 1) * q / 100)],
                _("That is the sample just above. Add the fraction f of the way to the one below."),
            ),
            Mistake(
                lambda samples, q: sorted(samples)[round((len(samples) - 1) * q / 100)],
                _("That is the nearest sample. Between two of them, go the fraction f of the way."),
            ),
            Mistake(
                lambda samples, q: sorted(samples)[min(len(samples) - 1, int(len(samples) * q / 100))],
                _("The place is (n - 1) · q / 100, counted from 0, and it may fall between two samples."),
            ),
            Mistake(lambda samples, q: _between(sorted(samples), len(samples) * q / 100), by_n),
            Mistake(lambda samples, q: _between(sorted(samples), min(len(samples) * q / 100, len(samples) - 1)), by_n),
            Mistake(lambda samples, q: _between(sorted(samples), (len(samples) + 1) * q / 100 - 1), by_n),
            Mistake(
                lambda samples, q: _interpolate(sorted(samples), 100 * q), _("q goes from 0 to 100, not from 0 to 1.")
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _interpolate(ordered, q):
    return _between(ordered, (len(ordered) - 1) * q / 100)


def _between(ordered, place):
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def stopwatch(answer: Callable) -> None:
    """Check `stopwatch(run, warmup, repeats)` on a task that is slow when cold, by a clock that is set from here."""
    with exercise(LAB, "stopwatch"):
        seconds = [0.030, 0.030, 0.025, 0.0020173, 0.005, 0.003, 0.0025, 0.002, 0.004, 0.0035, 0.002]
        calls = 0
        with fake_clock(answer) as clock:

            def run() -> None:
                nonlocal calls
                clock.now += seconds[min(calls, 10)]
                calls += 1

            call = "stopwatch(run, 3, 8)"
            times = ask(answer, run, 3, 8, call=call)
        check_that(
            not clock.others,
            _(
                "your stopwatch reads time.%(clock)s. Take time.perf_counter: it is the finest "
                "clock, it counts waiting as well, and nobody sets it while it runs."
            )
            % {"clock": ", time.".join(sorted(clock.others))},
        )
        every = [1000 * second for second in seconds]
        right = every[3:]
        mistakes = [
            (seconds[3:], _("perf_counter gives seconds: 1 s is 1000 ms.")),
            ([1000 * time for time in right], _("Those are microseconds: 1 s is 1000 ms.")),
            (every, _("The warm-up is not counted: only the 8 repeats are.")),
            (every[:8], _("The first times include the slow start. Make the warm-up calls before you start to count.")),
            (
                list(accumulate(right)),
                _("Your times grow from call to call: start the clock again before each call."),
            ),
            ([fmean(right)] * 8, _("That is their mean, 8 times. Time each call by itself.")),
            (fmean(right), _("That is the mean. Return the time of each call: later we look at how they spread.")),
            (sum(right), _("That is all of them together. Time each call by itself.")),
            (sorted(right), _("Leave the times in the order of the calls.")),
        ]
        check_value(call, times, right, mistakes=mistakes)
        check_that(calls == 11, _("`run` should be called 3 + 8 = 11 times; it was called %(n)d times.") % {"n": calls})


def verdict(answer: Callable) -> None:
    """Check `verdict(low, high, margin)`."""
    with exercise(LAB, "verdict"):
        cases = [
            Case((1.2, 1.5, 1.03), "faster"),
            Case((0.5, 0.6, 1.03), "slower"),
            Case((0.9, 1.2, 1.03), "inconclusive"),
            Case((1.01, 1.5, 1.03), "inconclusive"),
            Case((0.6, 0.98, 1.03), "inconclusive"),
            Case((0.99, 1.01, 1.03), "inconclusive"),
            Case((1.04, 1.2, 1.1), "inconclusive"),
            Case((0.5, 0.6, 1.5), "slower"),
            Case((1.6, 2.5, 1.5), "faster"),
        ]
        mistakes = [
            Mistake(
                lambda low, high, margin: "faster" if low > 1 else "slower" if high < 1 else "inconclusive",
                _("You compare with 1. Two copies of a model may differ by as much as the margin."),
            ),
            Mistake(
                lambda low, high, margin: (
                    "faster" if low > margin else "slower" if high < 2 - margin else "inconclusive"
                ),
                _("Below 1 the bound is 1 / margin: a ratio of 1.5, seen from the other side, is one of 1 / 1.5."),
            ),
            Mistake(
                lambda low, high, margin: (
                    "faster" if high > margin else "slower" if low < 1 / margin else "inconclusive"
                ),
                _("The whole interval must lie beyond the margin: look at its end that is nearer to 1."),
            ),
            Mistake(
                lambda low, high, margin: (
                    "slower" if low > margin else "faster" if high < 1 / margin else "inconclusive"
                ),
                _("The ratio is latency of the first over latency of the second: above 1, the second is faster."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def judge(answer: Callable) -> None:
    """Check `judge(first, second, margin)`, which calls the learner's `percentile` and `verdict`."""
    with exercise(LAB, "judge"):
        moods = [1.0, 2.5, 1.2, 3.0, 1.1, 2.0, 1.7, 2.8, 1.4, 2.2, 1.9, 1.3, 2.6, 1.6, 2.4, 1.8]
        shaky = [1.02, 0.97, 1.04, 0.99, 1.01, 0.96, 1.03, 0.98, 1.05, 1.0, 0.95, 1.01, 0.99, 1.02, 0.98, 1.0]
        wild = [1.6, 1.5, 0.9, 1.7, 0.8, 1.4, 1.5, 0.9, 1.6, 1.3, 0.7, 1.5, 0.8, 1.6, 0.9, 1.4]
        second = [4 * mood for mood in moods]

        def first(ratio: float, noise: list[float]) -> list[float]:
            return [ratio * mood * off for mood, off in zip(second, noise, strict=True)]

        cases = [
            Case((first(1.2, shaky), second, 1.03), "faster"),
            Case((first(0.8, shaky), second, 1.03), "slower"),
            Case((first(1.0, shaky), second, 1.03), "inconclusive"),
            Case((first(1.08, shaky), second, 1.03), "faster"),
            Case((first(1.0, wild), second, 1.03), "inconclusive"),
            Case((first(1.08, shaky), second, 1.2), "inconclusive"),
            Case(([*first(1.1, shaky)[:14], 4.0, 4.0], second, 1.03), "faster"),
        ]

        def ends(first, second, margin, low=25.5, high=74.5):
            ratios = sorted(one / other for one, other in zip(first, second, strict=True))
            return _told(_interpolate(ratios, low), _interpolate(ratios, high), margin)

        def medians(first, second, margin):
            ratio = _interpolate(sorted(first), 50) / _interpolate(sorted(second), 50)
            return _told(ratio, ratio, margin)

        mistakes = [
            Mistake(
                lambda first, second, margin: ends(second, first, margin),
                _("The ratio is latency of the first over latency of the second: above 1, the second is faster."),
            ),
            Mistake(medians, _("One ratio has no interval. Divide turn by turn: n ratios tell how much they scatter.")),
            Mistake(
                lambda first, second, margin: ends(sorted(first), sorted(second), margin),
                _("Leave the samples in their order: first[i] and second[i] belong together."),
            ),
            Mistake(
                lambda first, second, margin: ends(first, second, margin, 0, 100),
                _("That is the whole range. How far from 50 do the two percentiles lie?"),
            ),
            Mistake(
                lambda first, second, margin: ends(first, second, margin, 2.5, 97.5),
                _("Those ends hold the middle 95 % of the ratios. The median is known better than that."),
            ),
            Mistake(
                lambda first, second, margin: ends(first, second, margin, 50, 50),
                _("That is the median alone. Its interval goes 98 / √n percentiles to either side."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _told(low, high, margin):
    return "faster" if low > margin else "slower" if high < 1 / margin else "inconclusive"
