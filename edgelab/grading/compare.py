"""Whether a cell printed what the reference printed: asked outside the kernel, where no learner's code runs.

The tolerance is the reference's. What a submission claims about its own tolerance is not even read.
"""

import json
import math
from typing import Any

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
        return _same(wanted, found, tolerance)
    except (ValueError, TypeError, RecursionError):  # the learner's code can print any text it likes
        return False


def _same(wanted: Any, found: Any, tolerance: float, scale: float = 0.0) -> bool:
    """Compare two values; numbers within `tolerance` of the wanted one, or of `scale` inside an array."""
    if isinstance(wanted, dict) and wanted.keys() == {"array"}:
        inside = found["array"] if isinstance(found, dict) and found.keys() == {"array"} else found
        return _same(wanted["array"], inside, tolerance, _largest(wanted["array"]))
    if isinstance(wanted, list):
        return (
            isinstance(found, list)
            and len(found) == len(wanted)
            and all(_same(one, other, tolerance, scale) for one, other in zip(wanted, found, strict=True))
        )
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict)
            and found.keys() == wanted.keys()
            and all(_same(wanted[key], found[key], tolerance) for key in wanted)
        )
    if _is_number(wanted) and _is_number(found):
        return _near(wanted, found, tolerance, scale)
    return type(wanted) is type(found) and wanted == found


def _near(wanted: float, found: float, tolerance: float, scale: float) -> bool:
    if isinstance(wanted, int) and isinstance(found, int) and not tolerance:
        return wanted == found  # whole numbers beyond 2^53 are not floats
    try:
        wanted, found = float(wanted), float(found)
    except OverflowError:
        return wanted == found
    if math.isnan(wanted) or math.isinf(wanted):
        return wanted == found or (math.isnan(wanted) and math.isnan(found))
    return wanted == found or abs(wanted - found) <= tolerance * (max(abs(wanted), scale) or 1.0)


def _largest(values: Any) -> float:
    """Return the largest finite magnitude in nested lists, 0 where there is none."""
    if isinstance(values, list):
        return max(map(_largest, values), default=0.0)
    return abs(float(values)) if _is_number(values) and math.isfinite(values) else 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
