"""Docstrings and comments are found and replaced, and the code around them stays what it was."""

import pytest

from edgelab.course.code_words import reworded, words
from edgelab.course.source import code_alone

CODE = '''def integer_linear(q_x, z_x):
    """Return the codes.

    `q_x` is uint8:
        (N, I).
    """
    # First this,
    # and then that.
    y = q_x - z_x  # in int32
    # Last.
    return "# no comment"


class Observer:
    """Watches."""

    def watch(self):
        r\'\'\'Raw: \\d.\'\'\'
        return """no docstring"""
'''
TEXTS = [
    "Return the codes.\n\n`q_x` is uint8:\n    (N, I).",
    "First this,\nand then that.",
    "in int32",
    "Last.",
    "Watches.",
    r"Raw: \d.",
]


def test_docstrings_and_comments_are_found_in_order():
    assert [one.text for one in words(CODE)] == TEXTS


def test_nothing_to_say_changes_nothing():
    assert reworded(CODE, {}) == CODE
    assert reworded(CODE, {text: text for text in TEXTS}) == CODE


def test_every_text_can_be_replaced_by_one_of_another_length():
    translations = {text: f"Más: {text}\n\nY otra línea." for text in TEXTS if text != "in int32"}
    spanish = reworded(CODE, {**translations, "in int32": "en int32"})
    assert code_alone(spanish) == code_alone(CODE)
    assert [one.text for one in words(spanish)] == [*map(translations.get, TEXTS[:2]), "en int32", *map(
        translations.get, TEXTS[3:]
    )]  # fmt: skip
    assert not [line for line in spanish.split("\n") if line != line.rstrip()]


@pytest.mark.parametrize("code", ["%matplotlib inline\n# a comment", "def f(:\n    # a comment", "!ls"])
def test_what_is_no_plain_python_is_left_alone(code: str):
    assert words(code) == []
    assert reworded(code, {"a comment": "un comentario"}) == code


def test_one_line_with_letters_beyond_ascii_before_the_docstring_is_left_alone_or_translated_but_not_broken():
    code = 'def ñandú(): "Runs."; return 1  # años'
    assert code_alone(reworded(code, {"Runs.": "Corre.", "años": "years"})) == code_alone(code)
