"""The self-checks of lab 00."""

import time
from collections.abc import Callable

from edgelab.course.check import Case, Mistake, check_function, check_that, exercise
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
        ]
        mistakes = [
            Mistake(lambda samples, q: _interpolate(samples, q), _("Sort the samples first.")),
            Mistake(lambda samples, q: sum(samples) / len(samples), _("That is the mean. Which place does q ask for?")),
            Mistake(
                lambda samples, q: sorted(samples)[int((len(samples) - 1) * q / 100)],
                _("That is the sample just below. Add the fraction f of the way to the next one."),
            ),
            Mistake(
                lambda samples, q: sorted(samples)[min(len(samples) - 1, int(len(samples) * q / 100))],
                _("The place is (n - 1) · q / 100, counted from 0, and it may fall between two samples."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _interpolate(ordered, q):
    place = (len(ordered) - 1) * q / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def stopwatch(answer: Callable) -> None:
    """Check `stopwatch(run, warmup, repeats)` on a task that is slow when cold, and counts how often it is called."""
    with exercise(LAB, "stopwatch"):
        calls: list[None] = []

        def run() -> None:
            calls.append(None)
            time.sleep(0.03 if len(calls) <= 3 else 0.002)

        times = answer(run, 3, 8)
        if times is None:
            check_that(False, _("your function gives None. Did you forget `return`?"))
        times = list(times)
        check_that(
            len(times) == 8,
            _("8 repeats should give 8 times; yours gives %(n)d. The warm-up is not counted.") % {"n": len(times)},
        )
        check_that(
            len(calls) == 11,
            _("`run` should be called 3 + 8 = 11 times; it was called %(n)d times.") % {"n": len(calls)},
        )
        fastest = min(times)
        check_that(
            fastest >= 1.9,
            _("a call that takes 2 ms was timed as %(t).3g. perf_counter gives seconds: 1 s is 1000 ms.")
            % {"t": fastest},
        )
        check_that(
            fastest < 100,
            _("a call that takes 2 ms was timed as %(t).3g. Are these really milliseconds, of one call each?")
            % {"t": fastest},
        )
        check_that(
            min(times[:3]) < 30,
            _("the first times include the slow start. Make the warm-up calls before you start to count."),
        )
        check_that(
            times != sorted(times) or times[-1] < 8 * fastest * 0.9,
            _("your times grow from call to call: start the clock again before each call."),
        )


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
        ]
        mistakes = [
            Mistake(
                lambda low, high, margin: "faster" if low > 1 else "slower" if high < 1 else "inconclusive",
                _("You compare with 1. Within the margin the clock cannot be trusted."),
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
