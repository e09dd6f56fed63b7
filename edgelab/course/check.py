"""Instant self-checks: run the learner's code on known inputs, and say what to look at when an answer is wrong.

A lab's checks are short functions in `edgelab/labs/lab_<NN_topic>/check.py`, one per exercise:

    def weight_bytes(answer):
        with exercise("01_edge_budget", "weight-bytes"):
            cases = [Case((1000, 32), 4000), Case((1000, 8), 1000)]
            bits = Mistake(lambda params, bits: params * bits, _("That is in bits. A byte has 8 bits."))
            check_function(answer, cases, mistakes=[bits])

A ✓ is a promise: answers are compared as the grader compares them, and what an answer does to its inputs counts. None
of the check's own code is ever shown, since it tells the solution: of an error the learner sees their own lines.
"""

import copy
import inspect
import math
import reprlib
import struct
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from edgelab.course import not_run, progress
from edgelab.course.comparison import TOLERANCE, Difference, as_json, difference, snapshot
from edgelab.course.source import to_write
from edgelab.errors import EdgelabError, own_lines
from edgelab.i18n import _, ngettext

not_run.explain_in_notebooks()  # here, since the cell that is run first after a restart is a check


class NotYet(Exception):
    """The answer is not right yet: the text says what came back, and hints at why. A notebook shows no traceback."""

    def _render_traceback_(self) -> list[str]:
        return [_("Not yet: %(why)s") % {"why": self}]


class Untouched(NotYet):
    """What the check needs is not there: the exercise is still to be written, or cells above were not run."""


class Stopped(NotYet):
    """An error stopped the learner's code: the text says in which call, and a notebook shows their own lines."""

    def __init__(self, call: str, error: Exception, hint: str = ""):
        self.call, self.error = call, error
        own = isinstance(error, EdgelabError)  # a sentence that says all
        what = str(error) if own else "".join(traceback.format_exception_only(error)).strip()
        super().__init__(_with_hint(_("%(call)s stopped with %(error)s") % {"call": call, "error": what}, hint))

    def with_hint(self, hint: str) -> "Stopped":
        """Return the same with a hint below it."""
        return Stopped(self.call, self.error, hint)

    def _render_traceback_(self) -> list[str]:
        return [*super()._render_traceback_(), *own_lines(self.error)]


@dataclass(frozen=True)
class Case:
    """One input of an exercise and its answer: numbers, text, or nested sequences, arrays and tensors of them.

    How they are compared, `edgelab.course.comparison` says.
    """

    args: tuple
    expect: Any
    tolerance: float = TOLERANCE


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
    except Untouched:
        raise
    except NotYet:
        _record(lab, name, passed=False)
        raise
    _record(lab, name, passed=True)
    number, points = progress.exercise_number(lab, name), progress.points(lab).get(name)
    title = name if number is None else _("Exercise %(number)d") % {"number": number}
    text = _("✓ %(exercise)s: correct.")
    if points is not None:
        text = ngettext(
            "✓ %(exercise)s: correct (%(points)d point).", "✓ %(exercise)s: correct (%(points)d points).", points
        )
    print(text % {"exercise": title, "points": points})


def ask(answer: Callable, *args: Any, call: str = "") -> Any:
    """Return what the learner's `answer` gives for `args`; `call` is how the call is shown, if not by its arguments.

    Raises:
        NotYet: it cannot be called so, it was stopped by an error (Stopped, Untouched), or it changes its arguments.
    """
    __tracebackhide__ = True
    must_take(answer, *args)
    before, call = snapshot(args), call or _call(answer, args)
    given = guarded(call, answer, *args)
    if snapshot(args) != before:
        raise NotYet(_changes(call))
    return given


def guarded(call: str, function: Callable, *args: Any, **options: Any) -> Any:
    """Return `function(*args, **options)`, in which code of the learner's runs; `call` is how errors name it.

    Raises:
        NotYet: an error stopped it (Stopped, Untouched).
    """
    __tracebackhide__ = True
    try:
        return function(*args, **options)
    except NotYet:
        raise
    except Exception as error:
        if isinstance(error, NotImplementedError) and (number := to_write(str(error))):
            text = _("exercise %(number)d is still to be written. Put your code where its cell says YOUR CODE HERE.")
            raise Untouched(text % {"number": number}) from None
        if text := not_run.sentence(error):
            raise Untouched(text) from None
        raise Stopped(call, error) from None


def check_function(answer: Callable, cases: Sequence[Case], *, mistakes: Sequence[Mistake] = ()) -> None:
    """Compare what `answer` returns with what each case expects, and see that it leaves its arguments as they were.

    Raises:
        NotYet: an answer is wrong, or stopped; with the hint of the mistake that does the same in all cases, if any.
    """
    __tracebackhide__ = True
    for case in cases:
        must_take(answer, *case.args)
    got, stopped, changed = [], {}, []
    for place, case in enumerate(cases):
        args = copy.deepcopy(case.args)
        before = snapshot(args)
        try:
            got.append(as_json(guarded(_call(answer, case.args), answer, *args)))
        except Stopped as error:
            stopped[place] = error
            got.append(_as_stopped(error.error))
        changed += [case] * (snapshot(args) != before)
    for place, case in enumerate(cases):
        if place in stopped:
            raise stopped[place].with_hint(_hint(cases, got, mistakes))
        if wrong := _difference(got[place], case.expect, case.tolerance):
            text = _("%(call)s %(wrong)s") % {"call": _call(answer, case.args), "wrong": wrong}
            raise NotYet(_with_hint(text, _hint(cases, got, mistakes)))
    for case in changed:
        raise NotYet(_changes(_call(answer, case.args)))


def check_value(
    name: str, got: Any, expect: Any, *, tolerance: float = TOLERANCE, mistakes: Sequence[tuple] = ()
) -> None:
    """Compare one value, which the text calls `name`, with `expect`; `mistakes` are pairs (wrong value, hint).

    Raises:
        NotYet: the value is wrong.
    """
    __tracebackhide__ = True
    got = as_json(got)
    if wrong := _difference(got, expect, tolerance):
        hint = next((hint for value, hint in mistakes if not difference(got, as_json(value), tolerance)), "")
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


def _changes(call: str) -> str:
    return _("%(call)s changes what it was given, and others still need that. Work on a copy.") % {"call": call}


def must_take(answer: Any, *args: Any) -> None:
    """Ask that `answer` is a function that can be called with `args`.

    Raises:
        NotYet: it is not.
    """
    __tracebackhide__ = True
    if not callable(answer):
        raise NotYet(_("this should be a function; it is %(kind)s.") % {"kind": _kind(as_json(answer))})
    try:
        inspect.signature(answer).bind(*args)
    except TypeError as error:
        message = _("%(name)s is called as %(call)s, which does not fit its parameters. Did they change?")
        raise NotYet(message % {"name": _name(answer), "call": _call(answer, args)}) from error
    except ValueError:
        pass  # some builtins have no signature to look at


def _hint(cases: Sequence[Case], got: Sequence, mistakes: Sequence[Mistake]) -> str:
    for mistake in mistakes:
        wrong = [_mistaken(mistake, case) for case in cases]
        if not any(
            difference(mine, theirs, case.tolerance) for mine, theirs, case in zip(got, wrong, cases, strict=True)
        ):
            return mistake.hint
    return ""


def _mistaken(mistake: Mistake, case: Case) -> Any:
    try:
        return as_json(mistake.answer(*copy.deepcopy(case.args)))
    except Exception as error:  # a mistaken formula may not work for every input: nor does the learner's, then
        return _as_stopped(error)


def _as_stopped(error: Exception) -> Any:
    return {"stopped": type(error).__name__}


def _with_hint(text: str, hint: str) -> str:
    return f"{text}\n{_('Hint: %(hint)s') % {'hint': hint}}" if hint else text


def _difference(got: Any, expect: Any, tolerance: float) -> str:
    """Return in words how `got`, as JSON, differs from `expect` (the end of a sentence about it), or nothing."""
    found = difference(got, as_json(expect), tolerance)
    if found is None:
        return ""
    if not found.path:
        return _in_words(found)
    where = "".join(f"[{step!r}]" for step in found.path)
    return _("at %(where)s %(wrong)s") % {"where": where, "wrong": _in_words(found)}


def _in_words(found: Difference) -> str:
    got, expect = found.got, found.expect
    if got is None:
        return _("gives None. Did you forget `return`?")
    if isinstance(got, list) and isinstance(expect, list):
        message = _("gives %(got)d values; it should be %(expect)d.")
        return message % {"got": len(got), "expect": len(expect)}
    if _kind(got) != _kind(expect):
        return _("gives %(got)s; it should be %(expect)s.") % {"got": _kind(got), "expect": _kind(expect)}
    if not _is_number(got):
        return _instead(reprlib.repr(got), reprlib.repr(expect))
    remark = _rounded(got, expect) or _unit(got, expect)
    return " ".join(filter(None, (_instead(*_told_apart(got, expect)), remark)))


def _rounded(got: float, expect: float) -> str:
    """Return a remark where the one number is the other in float32, which is too coarse here."""
    if got == _in_float32(expect):
        return _("That is the same number in float32, which keeps 7 digits: here Python's own numbers are needed.")
    return ""


def _in_float32(number: float) -> float:
    try:
        return struct.unpack("f", struct.pack("f", number))[0]
    except OverflowError:
        return math.inf


_UNITS = (2.0, 8.0, 1000.0, 1024.0, math.pi, *(10.0**n for n in range(1, 13)))


def _unit(got: float, expect: float) -> str:
    """Return a remark where one number is a multiple of the other by which units differ, or a factor is forgotten."""
    if not got or not expect or not math.isfinite(got) or not math.isfinite(expect):
        return ""
    for ratio, message in (
        (got / expect, _("That is %(n)s times too much.")),
        (expect / got, _("The answer is %(n)s times that.")),
    ):
        for unit in _UNITS:
            if math.isclose(ratio, unit, rel_tol=1e-6):
                return message % {"n": "π" if unit == math.pi else f"{unit:,.0f}".replace(",", " ")}
    return ""


def _instead(got: str, expect: str) -> str:
    return _("gives %(got)s; it should be %(expect)s.") % {"got": got, "expect": expect}


def _told_apart(got: float, expect: float) -> tuple[str, str]:
    """Return two numbers with as many digits as it takes to see that they differ, but six at least."""
    if isinstance(expect, int) and isinstance(got, float) and got.is_integer():
        got = int(got)
    for digits in range(6, 18):
        texts = tuple(repr(one) if isinstance(one, int) else f"{one:.{digits}g}" for one in (got, expect))
        if texts[0] != texts[1]:
            break
    return texts[0], texts[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kind(value: Any) -> str:
    """Return what sort of value it is, of those that `as_json` gives, in words."""
    if isinstance(value, bool):
        return _("true or false")
    if _is_number(value):
        return _("a number")
    if isinstance(value, str):
        return _("a text")
    if isinstance(value, list):
        return _("a sequence of values")
    if isinstance(value, dict):
        named = value.get("type", "dict") if len(value) == 1 else "dict"
        functions = ("function", "method", "builtin_function_or_method")
        return _("a function") if named in functions else _("a value of type %(type)s") % {"type": named}
    return _("a value of type %(type)s") % {"type": type(value).__name__}


def _call(answer: Callable, args: tuple) -> str:
    return f"{_name(answer)}({', '.join(map(_short, args))})"


def _name(answer: Any) -> str:
    return getattr(answer, "__name__", type(answer).__name__)


def _short(value: Any) -> str:
    """Return an argument as a learner would write it, cut where it is long."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if callable(value):
        return _name(value)
    if hasattr(value, "shape") and len(value.shape) > 0:
        return f"{type(value).__name__}{list(value.shape)}"
    return reprlib.repr(value.tolist() if hasattr(value, "tolist") else value)
