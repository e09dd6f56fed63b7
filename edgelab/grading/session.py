"""A grading from end to end: what is left to do, who does it, and what is written down when it is done."""

import dataclasses
import functools
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from edgelab.course.folder import edit, make_folder, write_whole
from edgelab.course.source import Cell, read_source, stub
from edgelab.grading import feedback, mark
from edgelab.grading.answers import answers, defined, untouched
from edgelab.grading.collect import Submission
from edgelab.grading.limits import Limits
from edgelab.grading.reference import Reference, grader
from edgelab.grading.results import Key, Results, key
from edgelab.grading.returned import Returned, Unreadable, parse
from edgelab.grading.run import InfrastructureError
from edgelab.grading.workers import Workers

TRIES = 3
MAX_PATH = 300  # characters of a file's path in a row
MAX_LOOK_INSIDE = 4 * 2**20  # JSON takes twenty times its size in memory, at worst; larger files are for the workers


@dataclass(frozen=True)
class Job:
    """One submission to grade, with all that a worker needs, on this machine or another that sees the same folders."""

    submission: Submission
    sha256: str
    reference: Reference
    source: Path
    out: Path
    limits: Limits
    dataset: str
    copies: int = 1


@dataclass(frozen=True)
class Plan:
    """What a grading has to do: rows that are known without a run, jobs, and the number of rows kept from before."""

    known: list[dict]
    jobs: list[Job]
    kept: int


def seed_of(out: Path, seed: int | None) -> int:
    """Return the seed of the grading in `out`: given, else what it has had, else a new one, which it keeps."""
    with edit(out / "grading.json") as state:
        state["seed"] = seed if seed is not None else state.get("seed", secrets.randbelow(2**31))
        return state["seed"]


def plan(
    submissions: Iterable[Submission],
    labs: Mapping[str, Path],
    prepared: Callable[[str], Reference],
    results: Results,
    *,
    only: str = "",
    limits: Limits,
    out: Path,
    dataset: str = "",
) -> Plan:
    """Return what is left to do.

    `labs` are the sources by name, and `prepared` returns the reference of one: called only for labs that were handed
    in. `only` is the one lab to grade. Where a learner handed in a lab more than once, the copy counts in which most
    exercises are worked on, the last of equal ones; the row says how many copies there were, untouched ones aside.
    """
    known, jobs, kept = {}, [], 0
    elsewhere: list[dict] = []  # what another grading is for
    chosen: dict[Key, tuple[Submission, str]] = {}
    worked_on: dict[Key, list[int]] = {}
    for submission in submissions:
        row, lab = _look_at(submission, labs)
        if only and lab in labs and lab != only:
            elsewhere.append(row | {"lab": "", "status": str(mark.Status.ANOTHER_LAB), "detail": lab})
            continue
        if row["status"] != mark.Status.GRADED:
            known[key(row)] = row
            continue
        where = key(row)
        if where in chosen:
            counts = worked_on.setdefault(where, [_worked_on(chosen[where][0], labs[lab])])
            counts.append(_worked_on(submission, labs[lab]))
            if counts[-1] < max(counts):
                continue
        chosen[where] = submission, row["sha256"]
    for where, (submission, digest) in chosen.items():
        unreadable = known.pop(where, None) is not None
        copies = max(1, sum(count != 0 for count in worked_on.get(where, [1]))) + unreadable
        lab = where[2]
        reference = prepared(lab)
        graded = results.rows.get(where)
        if graded and (graded["sha256"], graded["reference"]) == (digest, reference.hash) and graded["final"]:
            kept += 1
            known[where] = graded | {"copies": copies}
        else:
            # A worker of a cluster may have started in any folder.
            submission = dataclasses.replace(submission, root=submission.root.absolute())
            places = labs[lab].absolute(), out.absolute()
            jobs.append(Job(submission, digest, reference, *places, limits, dataset, copies))
    seen = {where[:2] for where in (*chosen, *known, *(key(row) for row in results.rows.values() if row["lab"]))}
    known |= {key(row): row for row in elsewhere if key(row)[:2] not in seen}  # nobody is missing from the book
    results.forget(where for where, row in results.rows.items() if not row["lab"] and where not in known)
    return Plan([row for where, row in known.items() if results.rows.get(where) != row], jobs, kept)


def grade_one(job: Job) -> dict:
    """Grade one submission, write its feedback, and return its row. This runs in a worker.

    Raises:
        InfrastructureError: to be tried again.
    """
    submission, lab = job.submission, job.reference.lab
    row = _row(submission, lab, mark.Status.GRADED, "") | {"sha256": job.sha256, "reference": job.reference.hash}
    row |= {"copies": job.copies}
    try:
        submission.read()
    except Unreadable as problem:  # it could be read when this grading began
        raise InfrastructureError(f"{submission.root / submission.name} cannot be read here: {problem}") from problem
    try:
        graded = mark.grade(submission, job.reference, job.limits, job.dataset)
    except Unreadable as problem:
        return row | {"status": str(mark.Status.UNREADABLE), "detail": str(problem)}
    folder = make_folder(job.out / "feedback" / feedback.file_name(submission.learner, submission.user))
    try:
        page = feedback.page(graded, submission.learner, job.source, job.reference.cells)
    except Exception:  # of nbconvert, say, on an output that nobody foresaw: no mark is lost over a page
        page = feedback.plain_page(graded, submission.learner, lab)
    write_whole(folder / f"{lab}.html", page.encode("utf-8", "replace"))
    return row | {
        "status": str(graded.status),
        "exercises": {name: vars(found) for name, found in graded.marks.items()},
        "lang": graded.lang,
        "runs": graded.runs,
        "seconds": graded.seconds,
        "feedback": (folder / f"{lab}.html").relative_to(job.out).as_posix(),
    }


def carry_out(jobs: list[Job], results: Results, workers: Callable[[], Workers], done: Callable[[], None]) -> None:
    """Grade all jobs, adding each row as it comes; `done` is called after each.

    A failure of the infrastructure, a worker that died among them, is tried again, and then becomes a row without
    points, which the next grading takes up.
    """
    left = {number: (job, 0) for number, job in enumerate(jobs)}
    while left:
        with workers() as (executor, ahead):
            for number, outcome in _outcomes(executor, ahead, {number: job for number, (job, _tries) in left.items()}):
                job, tries = left[number]
                if isinstance(outcome, dict):
                    results.add(outcome)
                elif tries + 1 < TRIES:
                    left[number] = (job, tries + 1)
                    continue
                else:
                    results.add(_not_graded(job, outcome))
                del left[number]
                done()


def _outcomes(workers: Executor, ahead: int, jobs: Mapping[int, Job]) -> Iterator[tuple[int, dict | BaseException]]:
    """Yield each job's row, or what kept it from having one; no more than `ahead` jobs are handed out at a time."""
    waiting = iter(jobs.items())
    running: dict[Future, int] = {}
    broken = False
    try:
        while True:
            while not broken and len(running) < ahead and (item := next(waiting, None)):
                running[workers.submit(grade_one, item[1])] = item[0]
            if not running:
                return
            finished, _rest = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                error = future.exception()
                broken = broken or isinstance(error, BrokenProcessPool)
                yield running.pop(future), error if error is not None else future.result()
    finally:
        for future in running:
            future.cancel()


def _look_at(submission: Submission, labs: Mapping[str, Path]) -> tuple[dict, str]:
    """Return a row for the file, "graded" if it can be, and its lab. Its content is not kept: there may be hundreds."""
    try:
        content = submission.read()
        lab = submission.lab
        if len(content) <= MAX_LOOK_INSIDE:
            lab = _lab_inside(parse(content), labs) or lab
        status, detail = (mark.Status.GRADED if lab in labs else mark.Status.UNKNOWN_LAB), ""
    except Exception as problem:  # whatever one submission holds, it is its own row, and the others are graded
        reason = str(problem) if isinstance(problem, Unreadable) else type(problem).__name__
        content, lab, status, detail = b"", submission.lab, mark.Status.UNREADABLE, reason
    row = _row(submission, lab if lab in labs else "", status, detail) | {"sha256": sha256(content).hexdigest()}
    return row, lab


def _lab_inside(notebook: Returned, labs: Mapping[str, Path]) -> str:
    """Return the lab that a notebook holds, whatever its file is called: as it says itself, else by its exercises."""
    if notebook.lab in labs:
        return notebook.lab
    exercises = {name: _stubs(source) for name, source in labs.items()}
    known = {name for cell in notebook.cells for name in (cell.id, cell.name)}
    counts = {name: len(known & stubs.keys()) for name, stubs in exercises.items()}
    if not any(counts.values()):  # no ids, no names: what functions are there?
        functions = {name for cell in notebook.cells if cell.is_code for name in defined(cell.source)}
        counts = {
            name: len(functions & {one for code in stubs.values() for one in defined(code)})
            for name, stubs in exercises.items()
        }
    best = max(counts, key=lambda name: counts[name], default="")
    return best if best and counts[best] else ""


@functools.cache
def _cells(source: Path, _changed: float) -> tuple[Cell, ...]:
    return tuple(read_source(source))


def _stubs(source: Path) -> dict[str, str]:
    """Return the untouched code of a lab's exercises, by exercise."""
    cells = _cells(source, source.stat().st_mtime)
    return {cell.name: stub(cell.source, cell.number) for cell in cells if cell.role == "exercise"}


def _worked_on(submission: Submission, source: Path) -> int:
    """Return the number of exercises in which something was written; -1 where that cannot be read."""
    stubs = _stubs(source)
    try:
        found = answers(parse(submission.read()), _cells(source, source.stat().st_mtime))
    except Unreadable:
        return -1
    return sum(len(one.parts) != 1 or not untouched(one.parts[0], stubs[name]) for name, one in found.items())


def _row(submission: Submission, lab: str, status: mark.Status, detail: str) -> dict:
    return {
        "learner": submission.learner,
        "user": submission.user,
        "platform": submission.platform,
        "lab": lab,
        "file": _path(submission).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"),
        "status": str(status),
        "detail": detail,
        "exercises": {},
        "sha256": "",
        "reference": "",
        "grader": grader(),
        "final": True,
    }


def _path(submission: Submission) -> str:
    path = f"{submission.name}: {submission.inner}" if submission.inner else submission.name
    if len(path) <= MAX_PATH:
        return path
    return f"{path[:MAX_PATH]}...{sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def _not_graded(job: Job, error: BaseException) -> dict:
    row = _row(job.submission, job.reference.lab, mark.Status.NOT_GRADED, f"{type(error).__name__}: {error}")
    return row | {"sha256": job.sha256, "reference": job.reference.hash, "final": False}
