"""A whole course hands in: 200 submissions end in the same, right gradebook, however the grading goes.

Takes half an hour, so it is a long check: `make test ARGS="-m long tests/grading"`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgelab.grading.results import Results

pytestmark = pytest.mark.long
COUNT = 200
HALF = "def half(number):\n    return number * 0.5\n"
EVENS = "def evens(numbers):\n    return list(filter(lambda number: not number & 1, numbers))\n"
WRONG = "def half(number):\n    return 1.5\n"
PATCHED = """
import builtins, json
from edgelab.course import hidden
said = builtins.print
builtins.print = lambda *words, **how: said("hidden => [1e-09, true]")
json.dumps = lambda *what, **how: "[1, true]"
hidden.show = lambda *values, **how: None
"""
# What is handed in, its points, and the status of its row: right, partly right, wrong, broken and hostile ones.
KINDS = [
    ({"half": HALF, "evens": EVENS}, 5, "graded"),
    ({"half": HALF, "evens": EVENS}, 5, "graded"),
    ({"half": HALF, "evens": EVENS}, 5, "graded"),
    ({"half": HALF}, 3, "graded"),
    ({"half": WRONG, "evens": EVENS}, 2, "graded"),
    ({"half": "def half(number):\n    return abs(number) / 2"}, 0, "graded"),
    ({"half": "def half(number):\n    return number / 2 if number < 0 else 1.5", "evens": EVENS}, 3, "graded"),
    ({}, 0, "graded"),
    ({"half": "def half(", "evens": EVENS}, 2, "graded"),
    (b"not JSON", 0, "unreadable"),
    (b'{"cells": []}', 0, "missing exercise"),
    ({"half": PATCHED + WRONG, "evens": EVENS}, 2, "timed out"),  # with json.dumps its kernel has lost its voice
    ({"half": "import os\nos._exit(0)", "evens": EVENS}, 2, "crashed"),
    ({"half": "block = bytearray(2**40)", "evens": EVENS}, 2, "out of memory"),
    ({"half": HALF, "evens": "while True:\n    pass"}, 3, "timed out"),
    ({"half": "print('x' * 2**23)", "evens": EVENS}, 2, "too much output"),
]
GRADE = """
import sys
from pathlib import Path
from edgelab.grading import command
from edgelab.grading.limits import MB, Limits
from edgelab.grading.workers import dask_workers, local_workers

if __name__ == "__main__":
    out, who = sys.argv[1:]
    workers = (lambda: dask_workers(who)) if ":" in who else (lambda: local_workers(int(who)))
    limits = Limits(wall_seconds=120, cell_seconds=10, memory=600 * MB)
    command.grade(Path("back"), Path(out), labs=Path("labs"), workers=workers, seed=5, limits=limits)
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory, labs: Path) -> Path:
    """Return a folder with `labs` and `back`, in which everyone handed in something, and `grade.py`."""
    folder = tmp_path_factory.mktemp("crowd")
    shutil.copytree(labs, folder / "labs")
    for number in range(COUNT):
        what = KINDS[number % len(KINDS)][0]
        (folder / "back" / f"learner-{number:03d}").mkdir(parents=True)
        notebook = json.loads((labs / "01_halves.ipynb").read_text())
        for cell in notebook["cells"]:
            cell["source"] = what.get(cell["id"], cell["source"]) if isinstance(what, dict) else ""
        content = json.dumps(notebook).encode() if isinstance(what, dict) else what
        (folder / "back" / f"learner-{number:03d}" / "01_halves.ipynb").write_bytes(content)
    (folder / "grade.py").write_text(GRADE)
    return folder


@pytest.fixture(scope="module")
def undisturbed(course: Path) -> str:
    """Return the gradebook of a grading by two workers that nothing disturbs."""
    finish(grading(course, "undisturbed", "2"))
    return gradebook(course / "undisturbed")


def grading(course: Path, out: str, who: str) -> subprocess.Popen:
    """Start a grading by so many workers, or by the cluster at an address."""
    command = [sys.executable, "grade.py", out, who]
    return subprocess.Popen(command, cwd=course, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def finish(process: subprocess.Popen) -> str:
    with process:
        output = process.communicate()[0]
    assert process.returncode == 0, output
    return output


def gradebook(folder: Path) -> str:
    return (folder / "gradebook.csv").read_text("utf-8-sig")


def wait_for_rows(process: subprocess.Popen, results: Path, count: int) -> None:
    while not (results.exists() and results.read_bytes().count(b"\n") >= count):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.2)


def test_every_submission_ends_in_the_right_row(course: Path, undisturbed: str):
    rows = {row["learner"]: row for row in Results(course / "undisturbed").rows.values()}
    found = {
        name: (sum(mark["points"] for mark in row["exercises"].values()), row["status"]) for name, row in rows.items()
    }
    assert found == {f"learner-{number:03d}": KINDS[number % len(KINDS)][1:] for number in range(COUNT)}
    assert undisturbed.count("\n") == 1 + COUNT


def test_killed_halfway_and_started_again_with_one_worker_it_ends_the_same(course: Path, undisturbed: str):
    with grading(course, "killed", "1") as process:
        wait_for_rows(process, course / "killed" / "results.jsonl", COUNT // 2)
        process.send_signal(signal.SIGKILL)
    assert "already graded and unchanged" in finish(grading(course, "killed", "1"))
    assert gradebook(course / "killed") == undisturbed


def test_a_cluster_that_loses_a_worker_ends_the_same(course: Path, undisturbed: str):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "host": "127.0.0.1"}
    with distributed.LocalCluster(**options, dashboard_address=None, worker_dashboard_address=None) as cluster:
        process = grading(course, "cluster", cluster.scheduler_address)
        wait_for_rows(process, course / "cluster" / "results.jsonl", COUNT // 4)
        os.kill(next(iter(cluster.workers.values())).process.process.pid, signal.SIGKILL)
        finish(process)
    assert gradebook(course / "cluster") == undisturbed
