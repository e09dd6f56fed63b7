"""Self-checks: right answers pass however they are written, wrong ones are told what to look at."""

import math
import threading
import time
from pathlib import Path

import pytest

from edgelab.course import check, progress
from edgelab.course.check import (
    Case,
    Mistake,
    NotYet,
    Stopped,
    Untouched,
    ask,
    check_function,
    check_that,
    check_value,
    exercise,
)
from edgelab.course.fake_clock import fake_clock

CASES = [Case((1000, 32), 4000), Case((1000, 8), 1000), Case((3, 2), 0.75)]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def weight_bytes(params, bits):
    return params * bits / 8


def said(answer, cases=CASES, **options) -> str:
    with pytest.raises(NotYet) as caught:
        check_function(answer, cases, **options)
    return str(caught.value)


def renamed(function):
    function.__name__ = "f"
    return function


def test_a_right_answer_prints_one_line_and_is_recorded(capsys):
    with exercise("01_edge_budget", "no-such-exercise"):
        check_function(weight_bytes, CASES)
    assert capsys.readouterr().out == "✓ no-such-exercise: correct.\n"
    assert progress.passed("01_edge_budget") == {"no-such-exercise"}


def test_a_pass_tells_the_points_of_the_shipped_notebook(monkeypatch, capsys):
    monkeypatch.setattr(progress, "points", lambda lab: {"weight-bytes": 2})
    with exercise("01_edge_budget", "weight-bytes"):
        check_that(True, "never said")
    assert capsys.readouterr().out == "✓ Exercise 1: correct (2 points).\n"


def test_one_point_is_no_points(monkeypatch, capsys):
    monkeypatch.setattr(progress, "points", lambda lab: {"x": 1})
    with exercise("01_edge_budget", "x"):
        check_that(True, "never said")
    assert capsys.readouterr().out == "✓ x: correct (1 point).\n"


def test_a_wrong_answer_counts_as_an_attempt_and_is_raised():
    with pytest.raises(NotYet, match="look again"), exercise("lab", "x"):
        check_that(False, "look again")
    assert progress.passed("lab") == set()
    assert progress.read(progress.state_dir() / "progress.json")["checks"]["lab"]["x"]["attempts"] == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda p, b: p * b, "f(1000, 32) gives 32000; it should be 4000. That is 8 times too much."),
        (lambda p, b: p * b / 8000, "f(1000, 32) gives 4; it should be 4000. The answer is 1 000 times that."),
        (lambda p, b: -p * b / 8, "f(1000, 32) gives -4000; it should be 4000."),
        (lambda p, b: p * b // 8, "f(3, 2) gives 0; it should be 0.75."),
        (lambda p, b: None, "f(1000, 32) gives None. Did you forget `return`?"),
        (lambda p, b: "4000", "f(1000, 32) gives a text; it should be a number."),
        (lambda p, b: True, "f(1000, 32) gives true or false; it should be a number."),
        (lambda p, b: [4000], "f(1000, 32) gives a sequence of values; it should be a number."),
        (lambda p, b: print, "f(1000, 32) gives a function; it should be a number."),
        (lambda p, b: {1}, "f(1000, 32) gives a value of type set; it should be a number."),
        (lambda p, b: float("nan"), "f(1000, 32) gives nan; it should be 4000."),
        (lambda p, b: p * b / 200, "f(1000, 32) gives 160; it should be 4000."),
        (lambda p, b: math.pi * p * b / 8, "f(1000, 32) gives 12566.4; it should be 4000. That is π times too much."),
        (lambda p, b: p * b / 8 + 1e-3, "f(1000, 32) gives 4000.001; it should be 4000."),
        (lambda p, b: p * b / (8 + 1e-4 * (p == 3)), "f(3, 2) gives 0.749991; it should be 0.75."),
        (lambda p: p, "f is called as f(1000, 32), which does not fit its parameters. Did they change?"),
    ],
    ids=[
        "a factor forgotten", "a factor too many", "wrong sign", "wrong in a later case", "no return", "text", "bool",
        "list", "function", "set", "nan", "no likely factor", "pi", "digits that show it", "six digits",
        "parameters changed",
    ],
)  # fmt: skip
def test_a_wrong_answer_is_explained(answer, expected: str):
    assert said(renamed(answer)) == expected


def test_something_that_is_no_function_is_explained():
    assert said(3.5) == "this should be a function; it is a number."


def test_a_known_mistake_gets_its_hint():
    mistakes = [
        Mistake(lambda params, bits: params, "You counted weights."),
        Mistake(lambda params, bits: params * bits, "That is in bits."),
    ]
    assert said(renamed(lambda p, b: b * p), mistakes=mistakes).endswith("\nHint: That is in bits.")
    assert "Hint" not in said(renamed(lambda p, b: b * p + 1), mistakes=mistakes)


def test_a_mistake_that_fails_on_an_input_is_no_obstacle():
    def fails(params, bits):
        raise ZeroDivisionError

    assert "Hint" not in said(lambda p, b: 1, mistakes=[Mistake(fails, "never")])


def test_an_untouched_exercise_is_no_attempt_and_one_sentence():
    def stub(params, bits):
        raise NotImplementedError("Exercise 2: write your code here")

    with pytest.raises(Untouched) as caught, exercise("lab", "x"):
        check_function(stub, CASES)
    assert str(caught.value).startswith("exercise 2 is still to be written.")
    assert not Path(".edgelab").exists()


def test_what_is_not_implemented_for_another_reason_is_an_error_like_any_other():
    def unable(params, bits):
        raise NotImplementedError("Exercise caution")

    with pytest.raises(Stopped, match=r"^f\(1000, 32\) stopped with NotImplementedError: Exercise caution$"):
        check_function(renamed(unable), CASES)


def test_an_error_in_the_learners_code_is_told_with_its_call_and_counts_as_an_attempt():
    def broken(params, bits):
        return params / (bits - 8)

    with pytest.raises(Stopped) as caught, exercise("lab", "x"):
        check_function(broken, [CASES[1]])
    assert str(caught.value) == "broken(1000, 8) stopped with ZeroDivisionError: division by zero"
    assert isinstance(caught.value.error, ZeroDivisionError)
    assert progress.read(progress.state_dir() / "progress.json")["checks"]["lab"]["x"]["attempts"] == 1


def test_an_error_in_a_later_case_does_not_hide_a_wrong_answer_before_it():
    def wrong(params, bits):
        return params / (bits - 8) if bits == 8 else 1

    assert said(renamed(wrong)) == "f(1000, 32) gives 1; it should be 4000."


def test_a_mistake_that_stops_in_the_same_way_gets_its_hint():
    mistakes = [Mistake(lambda params, bits: params[bits], "It is a number.")]
    assert said(lambda p, b: p[b], mistakes=mistakes).endswith("\nHint: It is a number.")
    assert "Hint" not in said(lambda p, b: p.x, mistakes=mistakes)


def test_an_answer_that_changes_its_input_is_told_so_and_spoils_nothing():
    def pops(values):
        return values.pop()

    case = Case(([1, 2],), 2)
    words = "pops([1, 2]) changes what it was given, and others still need that. Work on a copy."
    assert said(pops, [case, Case(([1, 2],), 2)], mistakes=[Mistake(pops, "")]) == words
    assert case.args == ([1, 2],)
    assert said(pops, [Case(([1, 2],), 1)]) == "pops([1, 2]) gives 2; it should be 1. That is 2 times too much."
    with pytest.raises(NotYet, match="changes what it was given"):
        ask(pops, [1, 2])


def test_a_removed_parameter_is_told_whatever_case_needs_it():
    assert said(lambda p: p, [Case((1,), 1), Case((1, 2), 2)]).endswith("Did they change?")


def test_float32_is_named_where_it_is_the_reason():
    numpy = pytest.importorskip("numpy")
    found = said(renamed(lambda p: numpy.float32(p)), [Case((33_399_135,), 33_399_135)])
    assert "in float32, which keeps 7 digits" in found
    assert "gives 33399136; it should be 33399135." in found


def test_arrays_tensors_and_nested_values_are_compared():
    numpy = pytest.importorskip("numpy")
    expect = ([1.0, 2.0], {"scale": 0.5})
    check_value("x", (numpy.array([1.0, 2.0]), {"scale": numpy.float64(0.5)}), expect)
    with pytest.raises(NotYet) as caught:
        check_value("x", (numpy.array([1.0, 2.5]), {"scale": 0.5}), expect)
    assert str(caught.value) == "x at [0][1] gives 2.5; it should be 2."
    with pytest.raises(NotYet, match=r"x gives 3 values; it should be 2\."):
        check_value("x", numpy.zeros(3), [0, 0])


@pytest.mark.parametrize(
    ("got", "expect", "tolerance", "passes"),
    [
        (100.9, 100.0, 0.01, True),
        (101.1, 100.0, 0.01, False),
        (100.9, 100, 0.01, False),
        (0.001, 0.0, 0.01, True),
        (0.02, 0.0, 0.01, False),
        (1e-12, 2e-12, 0.01, False),
        (4.0, 4, 1e-9, True),
        ("a", "a", 0, True),
        ("a", "b", 0, False),
        (True, True, 0, True),
        (1, True, 0, False),
        (None, None, 0, True),
    ],
)
def test_tolerance_is_a_fraction_of_what_is_expected(got, expect, tolerance: float, passes: bool):
    if passes:
        check_value("x", got, expect, tolerance=tolerance)
    else:
        with pytest.raises(NotYet):
            check_value("x", got, expect, tolerance=tolerance)
    assert bool(check._difference(got, expect, tolerance)) is not passes


def test_a_value_may_have_known_mistakes_too():
    with pytest.raises(NotYet) as caught:
        check_value("p95", 5.0, 9.0, mistakes=[(5.0, "That is the median.")])
    assert str(caught.value) == "p95 gives 5; it should be 9.\nHint: That is the median."


def test_a_notebook_shows_the_message_and_no_traceback():
    assert NotYet("look again")._render_traceback_() == ["Not yet: look again"]


def test_progress_that_cannot_be_written_does_not_fail_an_answer(monkeypatch, capsys):
    def unwritable(*_):
        raise check.EdgelabError("The folder cannot be written.")

    monkeypatch.setattr(progress, "record_check", unwritable)
    with exercise("lab", "x"):
        check_that(True, "")
    assert capsys.readouterr().out.splitlines() == [
        "This check could not be noted in your progress. The folder cannot be written.",
        "✓ x: correct.",
    ]


def test_a_kernels_other_threads_may_ask_for_the_time_as_they_like():
    stop, asked = threading.Event(), []

    def ask_on():
        while not stop.is_set():
            asked.append(time.monotonic())

    other = threading.Thread(target=ask_on)
    other.start()
    try:
        with fake_clock(lambda: time.perf_counter()) as clock:
            before = len(asked)
            time.sleep(0.02)
            meanwhile = len(asked) - before
    finally:
        stop.set()
        other.join()
    assert meanwhile > 0
    assert clock.others == set()
    with fake_clock(lambda: time.monotonic()) as clock:
        time.monotonic()
    assert clock.others == {"monotonic"}
