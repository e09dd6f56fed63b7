"""What a hidden cell needs: inputs drawn from the grading's seed, and values shown so that a grader can compare them.

    # %% half-hidden tags=["hidden"]
    from edgelab.course import hidden

    rng = hidden.rng(SEED, "half")
    hidden.show([half(rng.uniform(-9, 9)) for _ in range(20)])

Of the notebook it sees the functions that exercises ask for, and no other name: what else a learner may have called
`list` or `SEED` is no concern of it. It imports what it needs, and `SEED` is a whole number of the grader's. It never
holds the answer, and it never prints a verdict: code in the same kernel could print that too. It shows what the
learner's code computes, and the grader compares it, outside the kernel, with what the solution computed from the same
inputs.
"""

import builtins
import functools
import json
import random
import sys
from collections.abc import Collection
from typing import Any

from edgelab.course.comparison import TOLERANCE, as_json, snapshot

MARK = "hidden => "  # unlike anything that a learner would print


def rng(seed: int, name: str) -> random.Random:
    """Return the generator of one exercise's inputs, so that a cell put in before it changes nothing for it.

    >>> rng(7, "half").random() == rng(7, "half").random() != rng(7, "third").random()
    True
    """
    return random.Random(f"{seed}/{name}")


def show(*values: Any, tolerance: float = TOLERANCE) -> None:
    """Print each value as one marked line of JSON, for the grader to read back; what else is printed does not count.

    How far a number may be from the solution's, `edgelab.course.comparison` says.

    >>> show({"b": (1, 2.5), "a": None})
    <BLANKLINE>
    hidden => [1e-05, {"a": null, "b": [1, 2.5]}]
    """
    for value in values:
        # The line starts afresh, even where the learner's code has printed half a line before.
        print(f"\n{MARK}{json.dumps([tolerance, as_json(value)], sort_keys=True)}")


def run(source: str, name: str, *, seed: int, answers: Collection[str]) -> None:
    """Run a hidden cell on the functions of the notebook that calls this, as far as `answers` names them.

    An answer that changes its arguments is right only by luck, and spoils the learner's own notebook: the self-checks
    refuse it. So does this, with a line that no reference prints.
    """
    notebook = sys._getframe(1).f_globals
    changed: list[str] = []
    space = {answer: _watched(notebook[answer], changed) for answer in answers if answer in notebook}
    space |= {"__name__": "hidden", "__builtins__": builtins, "SEED": seed}
    exec(compile(source, name, "exec"), space)
    if changed:
        show({"arguments changed by": changed[0]})


def _watched(answer: Any, changed: list[str]) -> Any:
    """Return `answer` in a wrapper that notes in `changed` whether it changes its arguments."""
    if not callable(answer):
        return answer

    def watched(*args: Any, **options: Any) -> Any:
        before = snapshot((args, options))
        result = answer(*args, **options)
        if snapshot((args, options)) != before:
            changed.append(getattr(answer, "__name__", type(answer).__name__))
        return result

    return functools.wraps(answer, updated=())(watched)
