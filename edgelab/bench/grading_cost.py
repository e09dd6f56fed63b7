"""What grading costs: over running the notebooks alone, beside nbgrader, with a second worker, and in memory.

By default the notebook is the small lab of `edgelab new-lab`, so that what is measured is the grader and not the lab.
Times are of whole commands, from their start to their end; the reference has been prepared before.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from edgelab.bars import Bar
from edgelab.bench.claims import Claim
from edgelab.course import build
from edgelab.course.new_lab import new_lab
from edgelab.course.source import Cell, read_source, solved
from edgelab.errors import EdgelabError
from edgelab.grading.merge import merge, solutions

ALONE = 5  # runs of the notebook alone, of which the median counts
PAIRS = 3  # of gradings with one worker and with two, one after the other: a noisy machine is noisy for both
ASSIGNMENT = "lab"


def claims(*, submissions: int, nbgrader: Path | None, lab: Path | None) -> Iterator[Claim]:
    """Yield the figures for so many copies of a lab's solution.

    `lab` is its source; `nbgrader` is nbgrader's command, from whichever environment.
    """
    with tempfile.TemporaryDirectory(prefix="edgelab-bench-") as folder:
        course = Path(folder)
        (source,) = new_lab("bench", course / "labs")
        if lab is not None:
            source = Path(shutil.move(source, source.with_name(lab.name)))
            shutil.copy(lab, source)
        _hand_in(course, source, submissions)
        with _one_core():
            alone = statistics.median(_seconds_alone(read_source(source)) for _ in range(ALONE))
            yield Claim("one core: the notebook alone, seconds", alone)
            seconds, _megabytes = _grade(course, "pinned", workers=1)
            yield Claim(
                "one core: overhead of grading a submission, seconds", seconds / submissions - alone, at_most=2.5
            )
        _seconds, megabytes = _grade(course, "measured", workers=1, measure=True)
        yield Claim(f"grader without kernels, peak at {submissions} submissions, MB", megabytes, at_most=300)
        pairs = [[_grade(course, f"{n}-{workers}", workers=workers)[0] for workers in (1, 2)] for n in range(PAIRS)]
        one = statistics.median(first for first, _second in pairs)
        yield Claim("one worker, seconds a submission", one / submissions)
        ratio = statistics.median(first / second for first, second in pairs)
        yield Claim(f"two workers on {os.cpu_count()} cores against one, throughput", ratio, "x", at_least=1.8)
        if nbgrader is not None:
            theirs = _autograde(course, nbgrader, read_source(source), submissions)
            yield Claim("nbgrader autograde, seconds a submission", theirs / submissions)
            yield Claim("one worker against nbgrader, throughput", theirs / one, "x", at_least=1.5)


def _hand_in(course: Path, source: Path, submissions: int) -> None:
    """Write the solution as so many learners would hand it in, and one of them into a folder of its own."""
    notebook, code = build.learner(source), solutions(read_source(source))
    for cell in notebook.cells:
        cell.source = code.get(cell.id, [cell.source])[0]
    for path in [course / "first" / "first", *(course / "all" / f"learner-{n:03d}" for n in range(submissions))]:
        path.mkdir(parents=True)
        (path / f"{source.stem}.ipynb").write_bytes(build.as_bytes(notebook))


@contextmanager
def _one_core() -> Iterator[None]:
    """Keep this process, and all that it starts, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _seconds_alone(cells: list[Cell]) -> float:
    """Return how long the merged notebook takes in a kernel without a sandbox, from its start to its end."""
    start = time.perf_counter()
    NotebookClient(merge(cells, solutions(cells), seed=1), kernel_name="python3").execute()
    return time.perf_counter() - start


def _grade(course: Path, out: str, *, workers: int, measure: bool = False) -> tuple[float, float]:
    """Return the seconds that `edgelab grade` takes for all, and the peak MB of all its processes but the kernels.

    Memory is looked at where it is to be measured: to add up a process's pages takes time away from the grading.
    """
    words = ["--out", out, "--seed", "1", "--workers", str(workers)]
    command = [sys.executable, "-m", "edgelab", "grade"]
    subprocess.run([*command, "first", *words], cwd=course, check=True, capture_output=True)
    start, peak = time.perf_counter(), 0.0
    with subprocess.Popen(
        [*command, "all", *words], cwd=course, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as done:
        total = len(list((course / "all").iterdir()))
        with Bar(total, f"grading, workers: {workers}") as bar:
            while done.poll() is None:
                peak = max(peak, _size(done.pid) if measure else 0.0)
                results = course / out / "results.jsonl"
                bar.update((results.read_bytes().count(b"\n") if results.exists() else 0) - bar.done)
                time.sleep(0.5)
        assert done.stdout is not None and done.returncode == 0, "edgelab grade failed"
        assert f"{total + 1:6d}  graded" in done.stdout.read().decode(), "not every submission was graded"
    return time.perf_counter() - start, peak


def _size(pid: int) -> float:
    """Return the MB that a grader holds: it, its workers and their pytest, each without what it shares; no kernels."""
    total, waiting = 0, [pid]
    while waiting:
        try:
            process = psutil.Process(waiting.pop())
            if process.name() == "bwrap":  # below it, there is the kernel alone
                continue
            total += process.memory_full_info().uss
            waiting += [child.pid for child in process.children()]
        except psutil.Error:
            continue
    return total / 2**20


def _autograde(course: Path, nbgrader: Path, cells: list[Cell], submissions: int) -> float:
    """Return the seconds that `nbgrader autograde` takes for the same cells, in the same Python's kernels."""
    home = course / "nbgrader"
    kernel = home / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "bench", "language": "python"}), "utf-8"
    )
    _write(home / "source" / ASSIGNMENT, _for_nbgrader(cells, "### BEGIN SOLUTION\n{}\n### END SOLUTION"))
    for number in range(submissions):
        _write(home / "submitted" / f"learner{number:03d}" / ASSIGNMENT, _for_nbgrader(cells, "{}"))
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(nbgrader.absolute().parent), os.environ.get("PATH", os.defpath)]),  # for alembic
        "JUPYTER_PATH": str(home / "jupyter"),
        "JUPYTER_PREFER_ENV_PATH": "0",
    }
    seconds = 0.0
    for verb in ("generate_assignment", "autograde"):
        command = [str(nbgrader.absolute()), verb, ASSIGNMENT, "--create"]
        start = time.perf_counter()
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise EdgelabError(f"nbgrader {verb} failed: {done.stderr[-2000:]}")
    graded = len(list((home / "autograded").glob(f"*/{ASSIGNMENT}/*.ipynb")))
    if graded != submissions:
        raise EdgelabError(f"nbgrader has graded {graded} of {submissions} submissions.")
    return seconds


def _for_nbgrader(cells: list[Cell], answer: str) -> nbformat.NotebookNode:
    """Return the lab with nbgrader's marks: exercises are solutions, checks and hidden cells are its tests."""
    nodes = [new_code_cell("SEED = 1")]
    for cell in cells:
        if cell.kind == "code" and cell.role != "solution":
            solution = cell.role == "exercise"
            node = new_code_cell(answer.format(solved(cell.source)) if solution else cell.source)
            if cell.role:
                mark = {
                    "schema_version": 3,
                    "grade_id": cell.id,
                    "solution": solution,
                    "grade": not solution,
                    "task": False,
                }
                node.metadata["nbgrader"] = {**mark, "locked": not solution, **({} if solution else {"points": 1})}
            nodes.append(node)
    kernel = {"name": "python3", "display_name": "bench", "language": "python"}
    return new_notebook(cells=nodes, metadata={"kernelspec": kernel})


def _write(folder: Path, notebook: nbformat.NotebookNode) -> None:
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / f"{ASSIGNMENT}.ipynb")
