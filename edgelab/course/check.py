"""Instant self-checks: run the learner's code on known inputs, and say what to look at when an answer is wrong.

A lab's checks are short functions in `edgelab/labs/lab_<NN_topic>/check.py`, one per exercise:

    def weight_bytes(answer):
        with exercise("01_edge_budget", "weight-bytes"):
            cases = [Case((1000, 32), 4000), Case((1000, 8), 1000)]
            bits = Mistake(lambda params, bits: params * bits, _("That is in bits. A byte has 8 bits."))
            check_function(answer, cases, mistakes=[bits])

An untouched stub's NotImplementedError, like any error inside the learner's code, passes through as it is.
"""

import copy
import inspect
import math
import numbers
import reprlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgelab.course import progress
from edgelab.errors import EdgelabError
from edgelab.i18n import _


class NotYet(Exception):
    """The answer is not right yet: the text says what came back, and hints at why. A notebook shows no traceback."""

    def _render_traceback_(self) -> list[str]:
        return [_("Not yet: %(why)s") % {"why": self}]


@dataclass(frozen=True)
class Case:
    """One input of an exercise and its answer: numbers, text, or nested sequences, arrays and tensors of them.

    A number may differ from `expect` by `tolerance`, a fraction of it (an absolute difference where it is 0).
    """

    args: tuple
    expect: Any
    tolerance: float = 1e-9


@dataclass(frozen=True)
class Mistake:
    """A way in which the exercise is often solved wrongly, and what to say to someone who did."""

    answer: Callable
    hint: str


@contextmanager
def exercise(lab: str, name: str) -> Iterator[None]:
    """Run the checks of one exercise: note in the learner's progress whether they passed, and say so if they did."""
    try:
        yield
    except NotYet:
        _record(lab, name, passed=False)
        raise
    _record(lab, name, passed=True)
    points = progress.points(lab).get(name)
    text = _("✓ %(exercise)s: correct.") if points is None else _("✓ %(exercise)s: correct (points: %(points)d).")
    print(text % {"exercise": name, "points": points})


def check_function(answer: Callable, cases: Sequence[Case], *, mistakes: Sequence[Mistake] = ()) -> None:
    """Compare what `answer` returns with what each case expects.

    Raises:
        NotYet: an answer is wrong; with the hint of the mistake that gives the same answers in all cases, if one does.
    """
    __tracebackhide__ = True
    _must_take(answer, cases[0].args)
    got = []
    for case in cases:  # no comprehension: its frame would show in the traceback of an error in `answer`
        got.append(answer(*copy.deepcopy(case.args)))
    for case, value in zip(cases, got, strict=True):
        wrong = _difference(value, case.expect, case.tolerance)
        if wrong:
            text = _("%(call)s %(wrong)s") % {"call": _call(answer, case.args), "wrong": wrong}
            raise NotYet(_with_hint(text, _hint(cases, got, mistakes)))


def check_value(name: str, got: Any, expect: Any, *, tolerance: float = 1e-9, mistakes: Sequence[tuple] = ()) -> None:
    """Compare one value, which the text calls `name`, with `expect`; `mistakes` are pairs (wrong value, hint).

    Raises:
        NotYet: the value is wrong.
    """
    __tracebackhide__ = True
    wrong = _difference(got, expect, tolerance)
    if wrong:
        hint = next((hint for value, hint in mistakes if not _difference(got, value, tolerance)), "")
        raise NotYet(_with_hint(f"{name} {wrong}", hint))


def check_that(condition: bool, otherwise: str) -> None:
    """Ask that `condition` holds, and say `otherwise` if it does not.

    Raises:
        NotYet: it does not hold.
    """
    __tracebackhide__ = True
    if not condition:
        raise NotYet(otherwise)


def _record(lab: str, name: str, *, passed: bool) -> None:
    try:
        progress.record_check(lab, name, passed)
    except EdgelabError as error:  # a folder that cannot be written does not make an answer wrong
        print(_("This check could not be noted in your progress. %(reason)s") % {"reason": error})


def _must_take(answer: Any, args: tuple) -> None:
    __tracebackhide__ = True
    if not callable(answer):
        raise NotYet(_("this should be a function; it is %(kind)s.") % {"kind": _kind(answer)})
    try:
        inspect.signature(answer).bind(*args)
    except TypeError as error:
        message = _("%(name)s is called as %(call)s, which does not fit its parameters. Did they change?")
        raise NotYet(message % {"name": _name(answer), "call": _call(answer, args)}) from error
    except ValueError:
        pass  # some builtins have no signature to look at


def _hint(cases: Sequence[Case], got: Sequence, mistakes: Sequence[Mistake]) -> str:
    for mistake in mistakes:
        try:
            wrong = [mistake.answer(*copy.deepcopy(case.args)) for case in cases]
        except Exception:
            continue  # a mistaken formula may not even work for every input
        if not any(
            _difference(mine, theirs, case.tolerance) for mine, theirs, case in zip(got, wrong, cases, strict=True)
        ):
            return mistake.hint
    return ""


def _with_hint(text: str, hint: str) -> str:
    return f"{text}\n{_('Hint: %(hint)s') % {'hint': hint}}" if hint else text


def _difference(got: Any, expect: Any, tolerance: float) -> str:
    """Return in words how `got` differs from `expect` (the end of a sentence about `got`), or nothing."""
    if got is None and expect is not None:
        return _("gives None. Did you forget `return`?")
    got, expect = _plain(got), _plain(expect)
    if isinstance(expect, list) and isinstance(got, list):
        return _sequence_difference(got, expect, tolerance)
    if _is_number(expect) and _is_number(got):
        return _number_difference(got, expect, tolerance)
    if isinstance(got, dict) and isinstance(expect, dict) and got.keys() == expect.keys():
        return _sequence_difference(list(got.values()), [expect[key] for key in got], tolerance)
    if type(got) is not type(expect):
        return _("gives %(got)s; it should be %(expect)s.") % {"got": _kind(got), "expect": _kind(expect)}
    return "" if got == expect else _instead(got, expect)


def _sequence_difference(got: list, expect: list, tolerance: float) -> str:
    if len(got) != len(expect):
        message = _("gives %(got)d values; it should be %(expect)d.")
        return message % {"got": len(got), "expect": len(expect)}
    for position, (mine, theirs) in enumerate(zip(got, expect, strict=True)):
        wrong = _difference(mine, theirs, tolerance)
        if wrong:
            return _("at position %(position)d %(wrong)s") % {"position": position, "wrong": wrong}
    return ""


def _number_difference(got: float, expect: float, tolerance: float) -> str:
    near = math.isclose(got, expect, rel_tol=tolerance, abs_tol=tolerance if expect == 0 else 0)
    if near:
        return ""
    return " ".join(filter(None, (_instead(got, expect), _factor(got, expect))))


def _factor(got: float, expect: float) -> str:
    """Return a remark where one number is a whole multiple of the other: mostly a unit or a term forgotten."""
    if not got or not expect or not math.isfinite(got) or not math.isfinite(expect):
        return ""
    if math.isclose(got, -expect, rel_tol=1e-6):
        return _("Only the sign is wrong.")
    for ratio, message in (
        (got / expect, _("That is %(n)d times too much.")),
        (expect / got, _("The answer is %(n)d times that.")),
    ):
        if 1.5 < ratio < 1e7 and math.isclose(ratio, round(ratio), rel_tol=1e-9):
            return message % {"n": round(ratio)}
    return ""


def _instead(got: Any, expect: Any) -> str:
    return _("gives %(got)s; it should be %(expect)s.") % {"got": _short(got), "expect": _short(expect)}


def _plain(value: Any) -> Any:
    """Return arrays, tensors and tuples as lists, and their scalars as Python numbers, without importing torch."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, tuple) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    """Return what sort of value it is, in words."""
    if callable(value):
        return _("a function")
    if isinstance(value, bool):
        return _("true or false")
    if _is_number(value):
        return _("a number")
    if isinstance(value, str):
        return _("a text")
    if isinstance(value, list | tuple):
        return _("a sequence of values")
    return _("a value of type %(type)s") % {"type": type(value).__name__}


def _call(answer: Callable, args: tuple) -> str:
    return f"{_name(answer)}({', '.join(map(_short, args))})"


def _name(answer: Any) -> str:
    return getattr(answer, "__name__", type(answer).__name__)


def _short(value: Any) -> str:
    """Return a value as a learner would write it, cut where it is long."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if hasattr(value, "shape") and len(value.shape) > 0:
        return f"{type(value).__name__}{list(value.shape)}"
    return reprlib.repr(_plain(value) if hasattr(value, "tolist") else value)
