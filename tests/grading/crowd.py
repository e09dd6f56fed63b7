"""A whole course hands in, and is graded: `python tests/grading/crowd.py [COUNT] [WORKERS]`, run by hand.

Reference, partial, wrong, broken and hostile submissions of the small lab, each with the points and the status that it
must end with; then what a submission costs beyond running its notebook.
"""

import importlib.util
import json
import resource
import sys
import tempfile
import textwrap
import time
from pathlib import Path

from nbclient import NotebookClient

from edgelab.course import build
from edgelab.course.grade import command
from edgelab.course.grade.limits import MB, Limits
from edgelab.course.grade.merge import merge, solutions
from edgelab.course.grade.results import Results
from edgelab.course.grade.workers import local_workers
from edgelab.course.source import read_source


def load(name: str):
    """Import a module that lies beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SAFE = load("conftest")
ATTACKS = load("test_attacks")
HALF, EVENS, WRONG = ATTACKS.HALF, ATTACKS.EVENS, ATTACKS.WRONG
# What is handed in, its points, and the status of its row.
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
    # What it patched is what shows the answers of `evens`, too.
    ({"half": textwrap.dedent(ATTACKS.CHEATS["print and show patched"]) + WRONG, "evens": EVENS}, 0, "graded"),
    ({"half": "import os\nos._exit(0)", "evens": EVENS}, 2, "crashed"),
    ({"half": "block = bytearray(2**40)", "evens": EVENS}, 2, "out of memory"),
    ({"half": HALF, "evens": "while True:\n    pass"}, 3, "timed out"),
    ({"half": "print('x' * 2**23)", "evens": EVENS}, 2, "too much output"),
]


def main(count: int = 200, workers: int = 1) -> None:
    """Hand in `count` submissions and grade them; say what is wrong, and how long it took."""
    folder = Path(tempfile.mkdtemp())
    source = folder / "labs" / "source" / "01_halves.py"
    source.parent.mkdir(parents=True)
    source.write_text(SAFE.LAB)
    build.build(folder / "labs")
    notebook = json.loads((folder / "labs" / "01_halves.ipynb").read_text())
    expected = {}
    for number in range(count):
        what, points, status = KINDS[number % len(KINDS)]
        learner = f"learner-{number:03d}"
        (folder / "back" / learner).mkdir(parents=True)
        content = what if isinstance(what, bytes) else json.dumps(SAFE.answered(notebook, **what)).encode()
        (folder / "back" / learner / "01_halves.ipynb").write_bytes(content)
        expected[learner] = (points, status)
    start = time.perf_counter()
    limits = Limits(wall_seconds=120, cell_seconds=10, memory=600 * MB)
    command.grade(
        folder / "back", folder / "out", labs=folder / "labs", workers=lambda: local_workers(workers), limits=limits
    )
    seconds = time.perf_counter() - start
    rows = {row["learner"]: row for row in Results(folder / "out").rows.values()}
    found = {
        name: (sum(mark["points"] for mark in row["exercises"].values()), row["status"]) for name, row in rows.items()
    }
    wrong = {name: (found.get(name), right) for name, right in expected.items() if found.get(name) != right}
    print(f"{len(rows)} rows, {len(wrong)} wrong {wrong}")
    print(f"{seconds:.0f} s, {seconds / count:.2f} s a submission, {workers} workers")
    print(f"grader's own peak: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    cells = read_source(source)
    start = time.perf_counter()
    for _ in range(3):
        NotebookClient(merge(cells, solutions(cells), seed=1), kernel_name="python3").execute()
    print(f"executing the notebook alone (nbclient): {(time.perf_counter() - start) / 3:.2f} s")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
