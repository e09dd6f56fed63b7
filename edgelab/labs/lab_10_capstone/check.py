"""The self-checks of lab 10."""

import math
from collections.abc import Callable

from edgelab.course.check import Case, Mistake, check_function, exercise
from edgelab.i18n import _

LAB = "10_capstone"


def broken(answer: Callable) -> None:
    """Check `broken(measured, limits)`."""
    with exercise(LAB, "broken"):
        limits = {"bytes": 20_480, "arena": 24_576.5}
        cases = [
            Case(({"bytes": 28_032, "arena": 30_896, "accuracy": 0.9}, limits), ["bytes", "arena"]),
            Case(({"arena": 30_896, "bytes": 12_144}, limits), ["arena"]),
            Case(({"bytes": 20_480, "arena": 24_576}, limits), []),
            Case(({"bytes": 20_481, "arena": 24_576}, limits), ["bytes"]),
            Case(({"bytes": 900, "arena": None, "us": 700}, limits), ["arena"]),
            Case(({"bytes": 900, "us": 12}, {"us": 11.5, "arena": 24_576}), ["us", "arena"]),
        ]
        mistakes = [
            Mistake(
                lambda measured, limits: _over(measured, limits, least=lambda value, most: value >= most),
                _("What lies exactly at a limit keeps it: only more than the limit breaks it."),
            ),
            Mistake(
                lambda measured, limits: _over(measured, limits, missing=False),
                _("What was not measured, None or not there at all, does not count as kept."),
            ),
            Mistake(
                lambda measured, limits: [name for name in limits if name not in _over(measured, limits)],
                _("Those are the limits that are kept."),
            ),
            Mistake(
                lambda measured, limits: _over(measured, limits)[:1],
                _("Go on after the first one: all limits that are broken are asked for."),
            ),
            Mistake(
                lambda measured, limits: bool(_over(measured, limits)),
                _("Return the names of the limits, in a list: who reads them wants to know which."),
            ),
            Mistake(
                lambda measured, limits: [limits[name] for name in _over(measured, limits)],
                _("Return the names of the limits, not their values."),
            ),
            Mistake(
                lambda measured, limits: len(_over(measured, limits)), _("Return the names, not how many they are.")
            ),
            Mistake(
                lambda measured, limits: sorted(_over(measured, limits)),
                _("Keep the order in which `limits` has them."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _over(measured, limits, *, least=lambda value, most: value > most, missing=True):
    found = []
    for name, most in limits.items():
        value = measured.get(name)
        if missing if value is None else least(value, most):
            found.append(name)
    return found


# Rows that tell one rule from another: the best of all breaks a limit, the best within is neither first nor last.
_TABLE = [
    {"bytes": 12_144, "arena": 17_680, "accuracy": 0.7125},
    {"bytes": 19_072, "arena": 24_336, "accuracy": 0.8315},
    {"bytes": 20_480, "arena": 22_000, "accuracy": 0.8205},
    {"bytes": 22_256, "arena": 20_704, "accuracy": 0.8635},
    {"bytes": 18_100, "arena": 30_896, "accuracy": 0.8525},
    {"bytes": 28_032, "arena": 30_896, "accuracy": 0.9015},
]
_UNLIKE = [  # costs of unlike size: a few bytes too many are more than many microseconds
    {"bytes": 18_000, "us": 300, "accuracy": 0.8125},
    {"bytes": 21_000, "us": 100, "accuracy": 0.7915},
    {"bytes": 19_000, "us": 240, "accuracy": 0.8325},
]
_LIMITS = {"bytes": 20_480, "arena": 24_576}


def proof(answer: Callable) -> None:
    """Check `proof(table, limits, images)`."""
    with exercise(LAB, "proof"):
        tight = {"bytes": 15_000, "arena": 18_000}
        cases = [
            Case((_TABLE, _LIMITS, 1_000), _proof(_TABLE, _LIMITS, 1_000)),
            Case((_TABLE, tight, 250), _proof(_TABLE, tight, 250)),
            Case((_TABLE, {"arena": 40_000}, 3_000), _proof(_TABLE, {"arena": 40_000}, 3_000)),
            Case((_TABLE, {"bytes": 12_000, "arena": 40_000}, 1_000), (0.0, 0.0)),
        ]

        def wrong(**change: object) -> Callable:
            return lambda *args: _proof(*args, **change)

        mistakes = [
            Mistake(wrong(any_limit=True), _("A network counts if it keeps *all* limits, not one of them.")),
            Mistake(wrong(every_row=True), _("That is the best of the whole table: leave out what breaks a limit.")),
            Mistake(wrong(choose=min), _("That is the worst network within the limits. The bound is the best.")),
            Mistake(wrong(root=False), _("The square root is missing: p (1 - p) / n is a variance.")),
            Mistake(wrong(factor=1.0), _("The factor 1.96 is missing: it makes one standard deviation into 95 %.")),
            Mistake(wrong(factor=-1.96), _("The ceiling is above the bound: add.")),
            Mistake(wrong(half=True), _("The ceiling is the bound *plus* the width; you return the width alone.")),
            Mistake(
                lambda table, limits, images: _proof(table, limits, images)[::-1],
                _("Return the bound first, then the ceiling."),
            ),
            Mistake(
                lambda table, limits, images: _proof(table, limits, images)[0],
                _("Return two numbers: the bound and the ceiling."),
            ),
            Mistake(
                lambda table, limits, images: _proof(table, limits, len(table)),
                _("n is the number of pictures that judged, `images`, not the number of rows."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _proof(table, limits, images, *, any_limit=False, every_row=False, choose=max, root=True, factor=1.96, half=False):
    rule = any if any_limit else all
    kept = [row["accuracy"] for row in table if every_row or rule(row[name] <= most for name, most in limits.items())]
    bound = choose(kept, default=0.0)
    variance = bound * (1 - bound) / images
    width = factor * (math.sqrt(variance) if root else variance)
    return bound, width if half else bound + width


def rank(answer: Callable) -> None:
    """Check `rank(table, limits)`."""
    with exercise(LAB, "rank"):
        tight = {"bytes": 12_000, "arena": 16_000}
        twins = [_TABLE[1], _TABLE[5], dict(_TABLE[1]), _TABLE[4], dict(_TABLE[5])]
        cases = [
            Case((_TABLE, _LIMITS), _rank(_TABLE, _LIMITS)),
            Case((_TABLE, tight), _rank(_TABLE, tight)),
            Case((_TABLE, {"bytes": 40_000}), _rank(_TABLE, {"bytes": 40_000})),
            Case((twins, _LIMITS), _rank(twins, _LIMITS)),
            Case((_UNLIKE, {"bytes": 20_000, "us": 150}), _rank(_UNLIKE, {"bytes": 20_000, "us": 150})),
        ]

        def wrong(**change: object) -> Callable:
            return lambda *args: _rank(*args, **change)

        mistakes = [
            Mistake(wrong(feasible_first=False), _("What keeps all limits comes first, however accurate others are.")),
            Mistake(wrong(up=True), _("Within the limits, the most accurate comes first.")),
            Mistake(
                wrong(by_accuracy=True),
                _("Among those that break a limit, accuracy does not count: the smallest excess comes first."),
            ),
            Mistake(wrong(worst=min), _("The excess is that of the worst limit: the largest of the ratios.")),
            Mistake(wrong(worst=sum), _("The excess is the largest of the ratios, not their sum.")),
            Mistake(
                wrong(difference=True),
                _("Bytes and microseconds have no common unit: divide by the limit, do not subtract it."),
            ),
            Mistake(wrong(late=True), _("Of rows that are equally good, the one that comes first in the table leads.")),
            Mistake(
                lambda table, limits: [place for place in _rank(table, limits) if _excess(table[place], limits) <= 1],
                _("Rows that break a limit are ranked as well, behind the others: a search learns from them."),
            ),
            Mistake(
                lambda table, limits: [table[place]["accuracy"] for place in _rank(table, limits)],
                _("Return the numbers of the rows in the table, 0 for the first one."),
            ),
            Mistake(lambda table, limits: _rank(table, limits)[::-1], _("That is the worst one first: turn it round.")),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _excess(row, limits, worst=max, difference=False):
    return worst(row[name] - most if difference else row[name] / most for name, most in limits.items())


def _rank(table, limits, *, feasible_first=True, up=False, by_accuracy=False, worst=max, difference=False, late=False):
    def key(place):
        row, last = table[place], -place if late else place
        right = row["accuracy"] if up else -row["accuracy"]
        if not feasible_first or _excess(row, limits) <= 1:
            return 0, right, last
        return 1, right if by_accuracy else _excess(row, limits, worst, difference), last

    return sorted(range(len(table)), key=key)


def days(answer: Callable) -> None:
    """Check `days(mah, volts, joules, per_second, watts)`."""
    with exercise(LAB, "days"):
        given = [
            (225, 3.0, 0.005496, 1, 0),
            (1_000, 3.7, 0.000966, 0.0613, 0.000031),
            (225, 3.0, 0.00509, 2.7, 0.0021),
        ]
        cases = [Case(args, _days(*args)) for args in given]

        def scaled(factor: float) -> Callable:
            return lambda *args: factor * _days(*args)

        mistakes = [
            Mistake(scaled(1_000), _("Milliampere hours: 1 000 mAh are 1 Ah.")),
            Mistake(scaled(86_400), _("Those are seconds. A day has 86 400.")),
            Mistake(scaled(24), _("Those are hours. A day has 24.")),
            Mistake(scaled(1 / 3_600), _("A watt hour is 3 600 J.")),
            Mistake(scaled(1 / 60), _("An hour has 3 600 seconds, not 60.")),
            Mistake(
                lambda mah, volts, *rest: _days(mah, 1, *rest),
                _("The voltage is missing: energy is charge times voltage."),
            ),
            Mistake(
                lambda mah, volts, joules, per_second, watts: _days(mah, volts, joules, per_second, 0),
                _("What it draws asleep is missing."),
            ),
            Mistake(
                lambda mah, volts, joules, per_second, watts: _days(mah, volts, joules, 1, watts),
                _("`per_second` is missing: joules of one inference, so many times a second."),
            ),
            Mistake(
                lambda mah, volts, joules, per_second, watts: _days(mah, volts, joules, 1 / per_second, watts),
                _("More pictures a second take more power: multiply."),
            ),
            Mistake(
                lambda mah, volts, joules, per_second, watts: _days(mah, volts, joules + watts, per_second, 0),
                _("Watts are joules a second already: only the inference is multiplied by `per_second`."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _days(mah, volts, joules, per_second, watts):
    return mah / 1_000 * 3_600 * volts / (joules * per_second + watts) / 86_400
