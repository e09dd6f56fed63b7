"""From a run to points. Only hidden cells earn: what they print can be right only if the learner's code computed it.

A check cell tells the learner ✓ or what to look at. A cheat's code can print the same, so the check's points are paid
when all hidden cells of its exercise agree with the reference; a hidden cell may have points of its own besides.
"""

import builtins
import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from nbformat import NotebookNode

from edgelab.course.source import Cell, stub
from edgelab.grading.answers import answers, untouched
from edgelab.grading.collect import Submission
from edgelab.grading.limits import Limits
from edgelab.grading.merge import merge
from edgelab.grading.reference import Reference, environment, points
from edgelab.grading.returned import parse
from edgelab.grading.run import CellRun, InfrastructureError, Run, run


class Status(StrEnum):
    """What became of a submission; of several things that went wrong, the first of these."""

    NOT_GRADED = "not graded"  # the infrastructure failed, so there are no points, and no zero either
    UNREADABLE = "unreadable"
    UNKNOWN_LAB = "unknown lab"
    ANOTHER_LAB = "another lab"  # than the one that this grading is for
    CRASHED = "crashed"
    OUT_OF_MEMORY = "out of memory"
    TIMED_OUT = "timed out"
    TOO_MUCH_OUTPUT = "too much output"
    MISSING = "missing exercise"
    GRADED = "graded"


def in_words(status: str, _: Callable[[str], str]) -> str:
    """Return a status as people read it; in the gradebook and in the results it stays what it is."""
    words = {
        Status.NOT_GRADED: _("not graded"),
        Status.UNREADABLE: _("unreadable"),
        Status.UNKNOWN_LAB: _("unknown lab"),
        Status.ANOTHER_LAB: _("another lab"),
        Status.CRASHED: _("crashed"),
        Status.OUT_OF_MEMORY: _("out of memory"),
        Status.TIMED_OUT: _("timed out"),
        Status.TOO_MUCH_OUTPUT: _("too much output"),
        Status.MISSING: _("missing exercise"),
        Status.GRADED: _("graded"),
    }
    return words[Status(status)]


@dataclass(frozen=True)
class Mark:
    """One exercise: its points, those it can give, and a verdict.

    The verdict is "correct", "partly", "wrong", "error", "untouched", "missing", "crashed", "memory", "time" or
    "output".

    Attributes:
        error: the name of the error that stopped the learner's code, where it is one of Python's.
        module: what could not be imported, where that was the error.
        found: "text" or "elsewhere", if the answer was not in the exercise's own cell.
        ticked: whether the notebook, as it was handed in, shows a ✓ of the exercise's check.
        said: what the check said in our run, where it was not content. The learner's code can have made it up.
    """

    points: int
    possible: int
    verdict: str
    error: str = ""
    module: str = ""
    found: str = ""
    ticked: bool = False
    said: str = ""


@dataclass(frozen=True)
class Graded:
    """A submission's marks by exercise, and the cells that a learner may see again: those run before any hidden one.

    `left_out` is the code, by exercise, that took the kernel down: the notebook that was marked ran without it.
    `seconds` is what all runs took.
    """

    status: Status
    marks: Mapping[str, Mark]
    cells: Sequence[CellRun]
    notebook: NotebookNode
    lang: str
    runs: int
    left_out: Mapping[str, Sequence[str]]
    seconds: float


_STATUS = {
    "crashed": Status.CRASHED,
    "memory": Status.OUT_OF_MEMORY,
    "time": Status.TIMED_OUT,
    "output": Status.TOO_MUCH_OUTPUT,
    "missing": Status.MISSING,
}
MAX_SAID = 500
_OUT_OF_MEMORY = ("MemoryError", "OutOfMemoryError")


def grade(submission: Submission, reference: Reference, limits: Limits, dataset: str = "") -> Graded:
    """Run a submission and mark it.

    An exercise that takes the kernel down, or never ends, is put back to its stub and the notebook is run again: what
    the other exercises earn does not depend on it.

    Raises:
        Unreadable: there is nothing to run.
        InfrastructureError: the run failed, and not through the submission.
    """
    returned = parse(submission.read())
    given = answers(returned, reference.cells)
    code = {exercise: answer.parts for exercise, answer in given.items()}
    fatal: dict[str, str] = {}
    runs, seconds = 0, 0.0
    while True:
        notebook = merge(
            reference.cells,
            code,
            seed=reference.seed,
            expected=reference.expected,
            left_out=fatal,
            whole=reference.whole,
        )
        result = run(
            notebook,
            limits,
            environment=environment(returned.lang, dataset),
            reference=reference.seconds,
            sandboxed=reference.sandboxed,
        )
        runs, seconds = runs + 1, seconds + result.seconds
        end = _end(notebook, result)
        if end is None:
            break
        fatal[_blamed(notebook, end, code, fatal)] = _reason(result, end)
    marks = {}
    for exercise, possible in points(reference.cells).items():
        if exercise in fatal:
            mark = Mark(0, possible, fatal[exercise])
        else:
            mark = _mark(exercise, reference, code, result.cells)
        if exercise in given:
            mark = dataclasses.replace(mark, found=given[exercise].found, ticked=given[exercise].ticked)
        marks[exercise] = mark
    shown = [cell for cell in result.cells if cell.role in ("exercise", "check")]
    left_out = {name: code[name] for name in fatal}
    return Graded(_status(marks), marks, shown, notebook, returned.lang, runs, left_out, round(seconds, 1))


def _end(notebook: NotebookNode, result: Run) -> int | None:
    """Return the place of the cell that the kernel did not outlive; None where it reached the end."""
    dead = next((place for place, cell in enumerate(result.cells) if not cell.alive), len(result.cells))
    return dead if dead < len(notebook.cells) else None


def _reason(result: Run, end: int) -> str:
    if result.killed:
        return result.killed
    why = result.cells[end].why if end < len(result.cells) else "died"
    return "crashed" if why == "died" else why


def _blamed(notebook: NotebookNode, end: int, code: Mapping, fatal: Mapping) -> str:
    """Return the exercise whose code ran last: the cell's own, or the last one before it that the learner wrote."""
    for cell in reversed(notebook.cells[: end + 1]):
        exercise = cell.metadata.edgelab.exercise
        if exercise in code and exercise not in fatal:
            return exercise
    raise InfrastructureError("the kernel ended in a cell of ours")


def _mark(exercise: str, reference: Reference, code: Mapping[str, Sequence[str]], cells: Sequence[CellRun]) -> Mark:
    passed = {cell.id for cell in cells if cell.passed}
    ours = [cell for cell in reference.cells if cell.exercise == exercise]
    hidden = [cell for cell in ours if cell.role == "hidden"]
    all_agree = all(cell.id in passed for cell in hidden)
    earned = sum(cell.points for cell in hidden if cell.id in passed)
    earned += sum(cell.points for cell in ours if cell.role == "check" and all_agree)
    theirs = [cell for cell in cells if cell.exercise == exercise and not cell.passed]
    verdict, error = _verdict(exercise, ours, code, theirs)
    if all_agree:
        return Mark(earned, sum(cell.points for cell in ours), "correct")
    if verdict in ("wrong", "error") and any(cell.id in passed for cell in hidden):
        verdict = "partly"
    missing = next((_module(cell.error) for cell in theirs if cell.role != "check" and _module(cell.error)), "")
    said = next((str(cell.error.get("evalue", ""))[:MAX_SAID] for cell in theirs if cell.role == "check"), "")
    return Mark(earned, sum(cell.points for cell in ours), verdict, error, missing, said=said)


def _verdict(exercise: str, ours: list[Cell], code: Mapping, failed: list[CellRun]) -> tuple[str, str]:
    """Return why an exercise is not correct, and the error that stopped it, if one did."""
    if exercise not in code:
        return "missing", ""
    own = next(cell for cell in ours if cell.role == "exercise")
    if len(code[exercise]) == 1 and untouched(code[exercise][0], stub(own.source, own.number)):
        return "untouched", ""
    for cell in failed:
        if cell.why in ("time", "output", "died"):
            return "crashed" if cell.why == "died" else cell.why, ""
        if cell.error.get("ename") in _OUT_OF_MEMORY:
            return "memory", ""
    errors = [cell.error.get("ename", "") for cell in failed if cell.role != "check" and cell.why == "error"]
    return ("error", _builtin(errors[0])) if errors else ("wrong", "")


def _module(error: Mapping) -> str:
    """Return the module that could not be imported, if that was the error and its name is one."""
    found = re.fullmatch(r"No module named '([\w.]{1,60})'", str(error.get("evalue", "")))
    return found[1] if found and error.get("ename") == "ModuleNotFoundError" else ""


def _builtin(name: str) -> str:
    """Return an error's name where it is Python's own: any other is text that the learner's code has made up."""
    found = getattr(builtins, name, None)
    return name if isinstance(found, type) and issubclass(found, BaseException) else ""


def _status(marks: Mapping[str, Mark]) -> Status:
    found = {_STATUS[mark.verdict] for mark in marks.values() if mark.verdict in _STATUS}
    return next((status for status in Status if status in found), Status.GRADED)
