"""Whether a cell printed what the reference printed: asked outside the kernel, where no learner's code runs.

The tolerance is the reference's. What a submission claims about its own tolerance is not even read.
"""

import json

from edgelab.course.comparison import difference
from edgelab.course.hidden import MARK


def agrees(expected: str, got: str) -> bool:
    r"""Return whether the text `got` says what the text `expected` says.

    Lines of `hidden.show` are compared by value, and all other text is left aside. Where the reference printed no such
    line, the two texts must be equal, but for white space at the end.

    >>> expected = "hidden => [0.01, 2.0]"
    >>> agrees(expected, "debugging\nhidden => [0.9, 2.001]"), agrees(expected, "hidden => [0.9, 2.1]")
    (True, False)
    """
    wanted = _shown(expected)
    if not wanted:
        return expected.rstrip() == got.rstrip()
    found = _shown(got)
    return len(found) == len(wanted) and all(map(_same_line, wanted, found))


def _shown(text: str) -> list[str]:
    return [line.removeprefix(MARK) for line in text.split("\n") if line.startswith(MARK)]


def _same_line(expected: str, got: str) -> bool:
    try:
        tolerance, wanted = json.loads(expected)
        _, found = json.loads(got)
        return difference(found, wanted, tolerance) is None
    except (ValueError, TypeError, RecursionError):  # the learner's code can print any text it likes
        return False
