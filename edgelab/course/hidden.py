"""What a hidden cell needs: inputs drawn from the grading's seed, and values shown so that a grader can compare them.

    # %% half-hidden tags=["hidden"]
    rng = hidden.rng(SEED, "half")
    hidden.show([half(rng.uniform(-9, 9)) for _ in range(20)])

`SEED` is a whole number that the grader sets before the first cell. A hidden cell never holds the answer, and it never
prints a verdict: code in the same kernel could print that too. It shows what the learner's code computes, and the
grader compares it, outside the kernel, with what the solution computed from the same inputs.
"""

import json
import numbers
import random
import time
import timeit
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

MARK = "hidden => "  # unlike anything that a learner would print


def rng(seed: int, name: str) -> random.Random:
    """Return the generator of one exercise's inputs, so that a cell put in before it changes nothing for it.

    >>> rng(7, "half").random() == rng(7, "half").random() != rng(7, "third").random()
    True
    """
    return random.Random(f"{seed}/{name}")


@contextmanager
def clock(function: Callable) -> Iterator[list[float]]:
    """Yield a list of one number: the seconds that `time.perf_counter` tells `function` within the `with` block.

    >>> with clock(time.perf_counter) as now:
    ...     start, now[0] = time.perf_counter(), now[0] + 0.25
    ...     time.perf_counter() - start
    0.25

    `timeit` tells the same; its `autorange` never ends unless what it times moves the clock.

    >>> with clock(timeit.repeat) as now:
    ...     timeit.repeat("now[0] += 0.5", repeat=2, number=3, globals={"now": now})
    [1.5, 1.5]
    """
    now = [100.0]
    clocks = [(time.perf_counter, lambda: now[0]), (time.perf_counter_ns, lambda: round(1e9 * now[0]))]
    # The function may have imported a clock by any name; `timeit` has it as the default of three functions.
    places = (vars(time), vars(timeit), getattr(function, "__globals__", {}))
    timers = [(timer, timer.__defaults__) for timer in (timeit.timeit, timeit.repeat, timeit.Timer.__init__)]
    found = [(place, name, value) for place in places for name, value in place.items()]
    patched = [(*where, real, fake) for *where, value in found for real, fake in clocks if value is real]
    try:
        for place, name, _real, fake in patched:
            place[name] = fake
        for timer, defaults in timers:
            timer.__defaults__ = tuple(clocks[0][1] if value is clocks[0][0] else value for value in defaults or ())
        yield now
    finally:
        for place, name, real, _fake in patched:
            place[name] = real
        for timer, defaults in timers:
            timer.__defaults__ = defaults


def show(*values: Any, tolerance: float = 1e-9) -> None:
    """Print each value as one marked line of JSON, for the grader to read back; what else is printed does not count.

    A number may differ from the solution's by `tolerance`, a fraction of it, and an element of an array or tensor by
    that fraction of the array's largest element: float32 sums come out differently in another order.

    >>> show({"b": (1, 2.5), "a": None})
    <BLANKLINE>
    hidden => [1e-09, {"a": null, "b": [1, 2.5]}]
    """
    for value in values:
        # The line starts afresh, even where the learner's code has printed half a line before.
        print(f"\n{MARK}{json.dumps([tolerance, as_json(value)], sort_keys=True)}")


def as_json(value: Any) -> Any:
    """Return a value as JSON knows it: arrays and tensors as `{"array": [...]}`, tuples as lists.

    Of what JSON has no word for, only the type is told, since its text may hold an address in memory.

    >>> as_json([1, {2: (True, None)}, 3j])
    [1, {'2': [True, None]}, {'type': 'complex'}]
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, numbers.Real) and not hasattr(value, "tolist"):  # a fraction, for one
        return float(value)
    if hasattr(value, "tolist"):
        plain = value.tolist()
        return {"array": as_json(plain)} if isinstance(plain, list) else plain
    return {"type": type(value).__name__}
