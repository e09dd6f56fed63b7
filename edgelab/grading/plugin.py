"""A pytest plugin around nbval: cells are known by their id, and each is reported, as a line of JSON, when it has run.

It runs outside the sandbox: `python -I -m pytest -p nbval.plugin -p edgelab.grading.plugin --grade-report FILE`
"""

import contextlib
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbval.plugin import IPyNbCell, IPyNbFile, NbCellError, coalesce_streams

from edgelab.grading.compare import agrees
from edgelab.grading.kernel import KernelDied, TooMuchOutput, WatchedKernel

STARTUP_SECONDS = 60
MEMORY = 4 * 2**30  # address space, of which a tenth is ever used


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the report's file, what a cell may print, and the process that would read the report."""
    parser.addoption("--grade-report", type=Path)
    parser.addoption("--grade-max-output", type=int)
    parser.addoption("--grade-max-outputs", type=int)
    parser.addoption("--grade-parent", type=int)


def pytest_configure(config: pytest.Config) -> None:
    """Stop when the process that started this one is gone: nobody would read the report. Take only so much memory."""
    _limit()
    threading.Thread(target=_stop_with, args=(config.option.grade_parent,), daemon=True).start()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> "GradedNotebook | None":
    """Collect notebooks; nbval itself collects none, since neither --nbval nor --nbval-lax is given."""
    return GradedNotebook.from_parent(parent, path=file_path) if file_path.suffix == ".ipynb" else None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: "GradedCell", call: pytest.CallInfo) -> Generator[None, Any, None]:
    """Report a cell as soon as it has run: should this process be killed, what was earned so far is known."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call":
        passed = report.passed and not hasattr(report, "wasxfail")
        mark = item.cell.metadata.edgelab
        item.report(
            id=item.cell.id,
            role=mark.role,
            exercise=mark.exercise,
            passed=passed,
            why="" if passed else item.why(call.excinfo.value if call.excinfo else None),
            alive=item.parent.kernel.is_alive(),
            seconds=round(call.duration, 3),
            outputs=coalesce_streams(item.test_outputs or []),
        )


class GradedNotebook(IPyNbFile):
    """A merged notebook, in its own kernel."""

    def setup(self) -> None:
        option = self.config.option
        self.kernel = WatchedKernel(
            option.nbval_kernel_name,
            cwd=str(self.path.parent / "work"),  # empty: without the sandbox, the notebook would lie beside the kernel
            startup_timeout=STARTUP_SECONDS,
            max_output=option.grade_max_output,
            max_outputs=option.grade_max_outputs,
        )
        self.skip_compare += ("stderr",)
        write(option.grade_report, {"ready": True})

    def collect(self) -> Iterator["GradedCell"]:
        self.nb = nbformat.v4.reads(self.path.read_text("utf-8"))  # of our making: valid
        for number, cell in enumerate(self.nb.cells):
            options = defaultdict(bool, check=bool(cell.outputs))  # whatever comments and tags may say
            yield GradedCell.from_parent(self, name=cell.id, cell_num=number, cell=cell, options=options)


class GradedCell(IPyNbCell):
    """One cell, with a time-out of its own, compared by value where it shows values."""

    late = False

    def runtest(self) -> None:
        notebook = self.parent
        if not notebook.kernel.is_alive():
            raise KernelDied
        self.config.option.nbval_cell_timeout = self.cell.metadata.edgelab.timeout
        try:
            super().runtest()
            if notebook.timed_out:  # it swallowed the interrupt, and ended all the same
                raise NbCellError(self.cell_num, "Timeout", self.cell.source)
            if notebook.kernel.overflowed:
                raise TooMuchOutput
        finally:
            # One interrupted cell is no reason to distrust the next, as nbval would (it marks all that follow xfail).
            self.late, notebook.timed_out = notebook.timed_out, False

    def compare_outputs(self, test: list, ref: list, skip_compare: tuple | None = None) -> bool:
        """Compare what is printed; a learner's function may draw a picture or warn on stderr without being wrong."""
        self.comparison_traceback: list[str] = []
        return agrees(_printed(ref), _printed(test))

    def why(self, error: BaseException | None) -> str:
        """Return in a word why the cell did not pass."""
        kernel = self.parent.kernel
        if isinstance(error, TooMuchOutput):
            return "output"
        if self.late:
            return "output" if kernel.replied else "time"  # it ended, and yet the end of its output was lost
        if isinstance(error, KernelDied) or not kernel.is_alive():
            return "died"
        if kernel.overflowed:
            return "output"
        failed = any(output.output_type == "error" for output in self.test_outputs or ())
        return "error" if failed or not isinstance(error, NbCellError) else "differs"

    def report(self, **what: object) -> None:
        """Add a line to the report."""
        write(self.config.option.grade_report, what)


def write(path: Path, line: dict) -> None:
    """Add a line to the report; surrogates, which JSON can hold and UTF-8 cannot, are escaped."""
    with path.open("a", encoding="ascii") as file:
        file.write(json.dumps(line) + "\n")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Say that this is all."""
    write(session.config.option.grade_report, {"finished": True})


def _printed(outputs: list) -> str:
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


def _limit() -> None:
    """Limit this process, where learners' messages are read; the sandbox sets the kernel's own limits.

    Core dumps are the exception: the sandbox's filter lets nobody set that limit, not even `prlimit`.
    """
    if os.name == "posix":
        import resource

        _soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        with contextlib.suppress(ValueError, OSError):  # a lower limit is there already
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, hard))
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CORE, (1, 1))


def _stop_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)  # the kernel goes with this process
