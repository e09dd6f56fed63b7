"""What counts as the same answer, and what does not."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelab.course import hidden
from edgelab.course.comparison import as_json
from edgelab.grading.compare import agrees


def shown(*values, tolerance: float = 1e-9) -> str:
    return "".join(f"\n{hidden.MARK}{json.dumps([tolerance, as_json(value)])}\n" for value in values)


SAME = {
    "whole number and float": (4000, 4000.0),
    "rounding noise": (0.3, 0.1 + 0.2),
    "list and tuple": ([1, 2], (1, 2)),
    "array and list": (np.array([1.0, 2.0]), [1.0, 2.0]),
    "an element near zero": (np.array([1.0, 0.0]), np.array([1.0, 1e-10])),
    "nan": (float("nan"), float("nan")),
    "infinity": (float("inf"), float("inf")),
    "a dictionary's order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "large whole numbers": (10**400, 10**400),
}
DIFFERENT = {
    "another number": (1.5, 1.6),
    "true for one": (1, True),
    "a text for a number": (1, "1"),
    "one more": ([1, 2], [1, 2, 3]),
    "another order": ([1, 2], [2, 1]),
    "infinity for a number": (1e9, float("inf")),
    "a number for infinity": (float("inf"), 1e9),
    "nan for a number": (1.0, float("nan")),
    "an element near zero of a list": ([1.0, 0.0], [1.0, 1e-3]),
    "another key": ({"a": 1}, {"b": 1}),
    "nothing": ([1], None),
    "another shape": (np.zeros((2, 3)), np.zeros((3, 2))),
}


@pytest.mark.parametrize(("wanted", "found"), SAME.values(), ids=SAME)
def test_the_same_answer(wanted, found):
    assert agrees(shown(wanted), shown(found))


@pytest.mark.parametrize(("wanted", "found"), DIFFERENT.values(), ids=DIFFERENT)
def test_another_answer(wanted, found):
    assert not agrees(shown(wanted), shown(found))


def test_the_references_tolerance_counts_and_not_the_submissions():
    assert agrees(shown(1.0, tolerance=0.1), shown(1.05, tolerance=0))
    assert not agrees(shown(1.0), shown(2.0, tolerance=1e9))


def test_what_else_is_printed_does_not_count():
    assert agrees(shown(1, 2), "half a line" + shown(1) + "debugging\n" + shown(2))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hidden => ",
        "hidden => [",
        "hidden => 1",
        "hidden => [1e-9]",
        "hidden => [1e-9, 1, 1]",
        "hidden => " + "[" * 10_000,
        "hidden => [1e-9, " + "9" * 10_000 + "]",
    ],
    ids=lambda text: text[:12] or "nothing",
)
def test_no_text_that_can_be_printed_is_an_error(text: str):
    assert not agrees(shown(1.5), text)


def test_lines_must_be_as_many_and_in_order():
    assert not agrees(shown(1, 2), shown(1))
    assert not agrees(shown(1), shown(1, 1))
    assert not agrees(shown(1, 2), shown(2, 1))


def test_plain_output_must_be_equal():
    assert agrees("1.5\n", "1.5")
    assert not agrees("1.5\n", "1.50\n")
    assert not agrees("1.5\n", "x\n1.5\n")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=4)))
def test_every_value_agrees_with_itself(value):
    assert agrees(shown(value), shown(value))


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_agreement_is_closeness(wanted: float, found: float):
    near = abs(wanted - found) <= 1e-9 * (abs(wanted) or 1.0)
    assert agrees(shown(wanted), shown(found)) == near


def test_show_prints_what_the_grader_reads(capsys):
    hidden.show(np.float32(2), {3: (1, None)}, object())
    assert agrees(shown(2.0, {"3": [1, None]}, object()), capsys.readouterr().out)
