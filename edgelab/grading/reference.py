"""What every submission is compared with: the solutions, run twice for the seed of this grading, kept by hash."""

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from edgelab.course.folder import make_folder, write_whole
from edgelab.course.source import BuildError, Cell, Problem, read_source
from edgelab.grading.compare import agrees
from edgelab.grading.limits import Limits
from edgelab.grading.merge import merge, solutions
from edgelab.grading.run import Run, run
from edgelab.grading.sandbox import data_dir
from edgelab.i18n import _


@dataclass(frozen=True)
class Reference:
    """One lab, ready to grade by.

    `expected` is what each hidden cell prints for `seed`, by cell id; `seconds` what each cell took; `whole` whether
    every cell has to run, those on which no graded one seems to depend as well.
    """

    lab: str
    cells: tuple[Cell, ...]
    seed: int
    hash: str
    expected: Mapping[str, str]
    seconds: Mapping[str, float]
    whole: bool
    sandboxed: bool


def points(cells: Sequence[Cell]) -> dict[str, int]:
    """Return the points that each exercise of a lab can give, in the order of the lab."""
    possible = {cell.name: 0 for cell in cells if cell.role == "exercise"}
    for cell in cells:
        if cell.exercise in possible:
            possible[cell.exercise] += cell.points
    return possible


def grader() -> str:
    """Return what the grader calls itself in every row."""
    return f"edgelab {version('edgelab')}"


def environment(lang: str, dataset: str = "", *, hash_seed: int = 0) -> dict[str, str]:
    """Return the variables that a kernel gets, the same for the reference and for every submission."""
    return {
        "LANG": "C.UTF-8",
        "USER": "learner",
        "EDGELAB_LANG": lang,
        "EDGELAB_DATA": str(data_dir()),
        **({"EDGELAB_DATASET": dataset} if dataset else {}),
        "OMP_NUM_THREADS": "1",  # with two workers on two cores, more threads only wait for each other
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": str(hash_seed),
    }


def reference(
    source: Path, *, seed: int, limits: Limits, cache: Path, dataset: str = "", sandboxed: bool = True
) -> Reference:
    """Return the lab's reference: from the cache, where the same code has been run for the same seed.

    The two runs differ in language and in how Python hashes, so that what depends on either is found, too. The second
    has only the cells that graded ones depend on; where that makes a difference, it is done once more with all of them.

    Raises:
        BuildError: the source is malformed, an exercise has no hidden cell, or the reference fails or disagrees with
            itself; with the cell's line.
        InfrastructureError: it could not be run.
    """
    cells = tuple(read_source(source))
    _raise_if([Problem(source, line, message) for line, message in _unfit(cells)])
    key = _hash(cells, seed, dataset)
    kept = cache / f"{source.stem}-{key}.json"
    if (found := _load(kept)) is None:

        def execute(lang: str, hash_seed: int, whole: bool) -> Run:
            return run(
                merge(cells, solutions(cells), seed=seed, whole=whole),
                dataclasses.replace(limits, cell_seconds=limits.wall_seconds),
                environment=environment(lang, dataset, hash_seed=hash_seed),
                sandboxed=sandboxed,
            )

        first, second = execute("en", 1, whole=True), execute("es", 2, whole=False)
        if whole := bool(_failures(cells, first, second)):
            second = execute("es", 2, whole=True)
        _raise_if([Problem(source, line, message) for line, message in _failures(cells, first, second)])
        found = {
            "expected": {cell.id: cell.printed for cell in first.cells if cell.role == "hidden"},
            "seconds": {cell.id: cell.seconds for cell in first.cells},
            "whole": whole,
        }
        make_folder(cache)
        write_whole(kept, json.dumps(found, indent=1).encode())
    return Reference(source.stem, cells, seed, key, **found, sandboxed=sandboxed)


def _hash(cells: tuple[Cell, ...], seed: int, dataset: str) -> str:
    """Return a digest of all that a score depends on; the prose and the order of a source's lines are no part of it."""
    code = [(cell.id, cell.role, cell.points, cell.source) for cell in cells if cell.kind == "code"]
    what = json.dumps([code, seed, dataset, grader(), platform.python_version()])
    return hashlib.sha256(what.encode()).hexdigest()[:16]


def _load(path: Path) -> dict | None:
    try:
        kept = json.loads(path.read_text("utf-8"))
        return kept if kept.keys() == {"expected", "seconds", "whole"} else None
    except (OSError, ValueError, AttributeError):
        return None


def _unfit(cells: tuple[Cell, ...]) -> list[tuple[int, str]]:
    hidden = {cell.exercise for cell in cells if cell.role == "hidden"}
    message = _("the exercise %(name)r has no hidden cell, so nothing in it can be graded: add a cell %(name)s-hidden")
    return [
        (cell.line, message % {"name": cell.name})
        for cell in cells
        if cell.role == "exercise" and cell.name not in hidden
    ]


def _failures(cells: tuple[Cell, ...], first: Run, second: Run) -> list[tuple[int, str]]:
    """Return why the reference cannot be graded by: (line of the cell, what is wrong)."""
    ours = {cell.id: cell for cell in cells}
    problems = []
    for mine in first.cells:
        line = ours[mine.id].line if mine.id in ours else 1
        other = next((cell for cell in second.cells if cell.id == mine.id), None)
        failed = next((cell for cell in (mine, other) if cell is not None and not cell.passed), None)
        if failed is not None:
            error = f"{failed.error.get('ename', failed.why)}: {failed.error.get('evalue', '')}".rstrip(": ")
            problems.append((line, _("the reference fails here: %(error)s") % {"error": error[:500]}))
        elif mine.role == "hidden" and not mine.printed.strip():
            problems.append((line, _("this hidden cell prints nothing, so anything would pass it")))
        elif mine.role == "hidden" and not (other and agrees(mine.printed, other.printed)):
            problems.append((line, _("this hidden cell prints something else in a second run: it cannot be graded by")))
        elif (promised := ours[mine.id].printed if mine.id in ours else "") and not agrees(promised, mine.printed):
            problems.append((line, _("this cell does not print what its lines `# > ` say")))
    if not problems and {cell.id for cell in first.cells} < set(ours) - _not_run(cells):
        problems.append((1, _("the reference did not come to its end (%(why)s)") % {"why": first.killed or "died"}))
    return problems


def _not_run(cells: tuple[Cell, ...]) -> set[str]:
    return {cell.id for cell in cells if cell.kind != "code" or cell.role == "solution"}


def _raise_if(problems: list[Problem]) -> None:
    if problems:
        raise BuildError(sorted(problems))
