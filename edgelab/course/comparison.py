"""Whether two answers are the same. Self-checks and the grader ask the same function, so that a ✓ is a promise.

Answers are compared as JSON: a list, a tuple, an array and a tensor are then one kind of thing, and so are Python's,
NumPy's and torch's numbers. What counts:

- A whole number must be hit exactly, by an int or by a float of that value.
- Any other number may differ by `tolerance`, a fraction of it (an absolute difference where it is 0). Inside an array
  or tensor it is a fraction of the array's largest element: float32 sums come out differently in another order.
- Sequences have the same length, dictionaries the same keys; texts, truth values and None are equal.
"""

import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

TOLERANCE = 1e-5  # float32 keeps seven digits, and a short calculation in it about six


@dataclass(frozen=True)
class Difference:
    """The first place in which two values differ: the indices and keys that lead there, and what stands there.

    `got` and `expect` are as JSON knows them. Where two sequences differ in length, they are the whole sequences.
    """

    path: tuple[int | str, ...]
    got: Any
    expect: Any


def as_json(value: Any) -> Any:
    """Return a value as JSON knows it: arrays and tensors as `{"array": [...]}`, tuples as lists.

    Of what JSON has no word for, only the type is told, since its text may hold an address in memory.

    >>> as_json([1, {2: (True, None)}, 3j])
    [1, {'2': [True, None]}, {'type': 'complex'}]
    """
    if value is None or isinstance(value, bool | str):
        return value
    if hasattr(value, "tolist"):  # NumPy's and torch's, without importing either
        plain = value.tolist()
        return {"array": as_json(plain)} if isinstance(plain, list) else plain
    if isinstance(value, int | float):
        return value
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, numbers.Real):  # a fraction, for one
        return float(value)
    return {"type": type(value).__name__}


def difference(got: Any, expect: Any, tolerance: float = TOLERANCE) -> Difference | None:
    """Return where `got` differs from `expect`, both as `as_json` gives them; None where they are the same.

    >>> difference([4.0, {"array": [1, 2.5]}], [4, [1, 2.5000001]]) is None
    True
    >>> difference([[1, 2], [3, 5]], [[1, 2], [3, 4]])
    Difference(path=(1, 1), got=5, expect=4)
    """
    return _difference(got, expect, tolerance, (), 0.0)


def snapshot(value: Any) -> Any:
    """Return what a later `snapshot` of `value` differs from if its numbers have been changed in the meantime.

    Looked into are sequences, dictionaries, arrays and tensors; anything else is only asked whether it is the same.
    """
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [snapshot(item) for item in value]
    if isinstance(value, dict):
        return {key: snapshot(item) for key, item in value.items()}
    return value if isinstance(value, int | float | str) else id(value)


def is_whole(value: Any) -> bool:
    """Return whether Python takes `value` for a whole number where it needs one: an int, but no float and no bool.

    NumPy's whole numbers and a tensor of one are among them.
    """
    try:
        value.__index__()
    except (AttributeError, TypeError):
        return False
    return not isinstance(value, bool)


def _difference(got: Any, expect: Any, tolerance: float, path: tuple, scale: float) -> Difference | None:
    if _is_array(expect):
        expect = expect["array"]
        scale = _largest(expect)
    if _is_array(got):
        got = got["array"]
    if isinstance(expect, list) and isinstance(got, list) and len(got) == len(expect):
        return _of_pairs(enumerate(zip(got, expect, strict=True)), tolerance, path, scale)
    if isinstance(expect, dict) and isinstance(got, dict) and got.keys() == expect.keys():
        return _of_pairs(((key, (got[key], expect[key])) for key in expect), tolerance, path, 0.0)
    if _is_number(expect) and _is_number(got):
        same = _near(got, expect, tolerance, scale)
    else:
        same = type(got) is type(expect) and got == expect
    return None if same else Difference(path, got, expect)


def _of_pairs(pairs: Iterable[tuple], tolerance: float, path: tuple, scale: float) -> Difference | None:
    """Return the first difference of pairs (got, expect), each behind its index or key."""
    found = (_difference(got, expect, tolerance, (*path, where), scale) for where, (got, expect) in pairs)
    return next((one for one in found if one is not None), None)


def _near(got: float, expect: float, tolerance: float, scale: float) -> bool:
    if isinstance(expect, int) and not scale:
        return got == expect  # whole numbers beyond 2^53 are no floats
    try:
        got, expect = float(got), float(expect)
    except OverflowError:
        return got == expect
    if not math.isfinite(expect):
        return got == expect or (math.isnan(got) and math.isnan(expect))
    return got == expect or abs(got - expect) <= tolerance * (max(abs(expect), scale) or 1.0)


def _largest(values: Any) -> float:
    """Return the largest finite magnitude of the fractions in nested lists; 0 where all numbers are whole."""
    if isinstance(values, list):
        return max(map(_largest, values), default=0.0)
    return abs(values) if isinstance(values, float) and math.isfinite(values) else 0.0


def _is_array(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"array"}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
