"""Does every lab stay within its limits? `python -m edgelab.course.limits [LAB...]` runs each with its solutions.

The limits are those of the smallest machine that the course promises to run on: Binder, which stops a session at 2 GB.
With `--together FOLDER` all labs run one after the other in that folder, as one learner does them: with one progress,
and one table that grows from lab to lab.
"""

import contextlib
import os
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import nbformat
import psutil
import typer
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from rich.console import Console
from rich.table import Table

from edgelab.course import build
from edgelab.course.folder import shipped_labs
from edgelab.errors import EdgelabError

MAX_SECONDS = 120
MAX_BYTES = 1_500_000_000
SAMPLE_SECONDS = 0.1
LEADING = 4  # cells that are named, of the slowest and of the hungriest


@dataclass(frozen=True)
class Usage:
    """What a lab took from its first cell to its last: wall time in s, peak resident memory in bytes.

    `failure` is the error that stopped it, if one did; `slowest` are the cells that took longest, with their seconds,
    and `hungriest` those that raised the peak by most, with the bytes by which they did.
    """

    lab: str
    lang: str
    seconds: float
    peak_bytes: int
    failure: str = ""
    slowest: tuple[tuple[str, float], ...] = ()
    hungriest: tuple[tuple[str, float], ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the lab ran to its end within both limits."""
        return not self.failure and self.seconds <= MAX_SECONDS and self.peak_bytes <= MAX_BYTES


def measure_lab(source: Path, lang: str = "en", *, dataset: str = "", together: Path | None = None) -> Usage:
    """Run a lab's reference notebook in a fresh kernel, and return what it took.

    It runs in a fresh folder, or in `together`, where it finds what other labs have left, and stays with its outputs.
    The memory is that of the kernel and its children; `dataset` is what `edgelab.data.load()` then gives.
    """
    notebook = build.reference(source, lang, outputs=False)
    dataset = str(Path(dataset).resolve()) if Path(dataset).is_dir() and dataset else dataset  # it runs elsewhere
    with contextlib.nullcontext(together) if together else tempfile.TemporaryDirectory() as folder:
        nbformat.write(notebook, Path(folder) / f"{source.stem}.ipynb")  # the kernel reads its language from it
        client = NotebookClient(notebook, timeout=10 * MAX_SECONDS, resources={"metadata": {"path": folder}})
        environment = {**os.environ, **({"EDGELAB_DATASET": dataset} if dataset else {})}
        failure, took, raised = "", dict[str, float](), dict[str, float]()
        with client.setup_kernel(env=environment), _PeakMemory(_pid(client)) as memory:
            start = time.perf_counter()
            try:
                for number, cell in enumerate(notebook.cells):
                    begun, before = time.perf_counter(), memory.peak
                    client.execute_cell(cell, number)
                    memory.sample()
                    took[cell.id], raised[cell.id] = time.perf_counter() - begun, memory.peak - before
            except CellExecutionError as error:
                failure = f"{cell.id}: {error.ename}: {error.evalue}"
            seconds = time.perf_counter() - start
        if together:
            nbformat.write(notebook, Path(folder) / f"{source.stem}.ipynb")  # with its outputs, to be read
    slowest, hungriest = (tuple(sorted(of.items(), key=lambda item: -item[1])[:LEADING]) for of in (took, raised))
    return Usage(source.stem, lang, seconds, memory.peak, failure, slowest, hungriest)


def _pid(client: NotebookClient) -> int:
    # To the types of nbclient and jupyter_client there may be no manager, and the id of its kernel is always None.
    return cast(Any, client.km).provisioner.pid


class _PeakMemory(threading.Thread):
    """Watch a process and its children, and keep the largest sum of their memory, in bytes: see `_resident`."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.peak = 0
        self._process = psutil.Process(pid)
        self._done = threading.Event()

    def __enter__(self) -> "_PeakMemory":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self.join()
        self.peak = max(self.peak, _high_water_mark(self._process.pid))

    def run(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            self.sample()

    def sample(self) -> None:
        """Look once."""
        with contextlib.suppress(psutil.NoSuchProcess):
            family = (self._process, *self._process.children(recursive=True))
            self.peak = max(self.peak, sum(map(_resident, family)))


def _resident(process: psutil.Process) -> int:
    """Return the resident memory of a process; what it shares with others is divided among them, where that is known.

    A container's limit counts a shared page once as well: libraries that two processes have loaded are no two loads.
    """
    with contextlib.suppress(psutil.AccessDenied):
        if shared_out := getattr(process.memory_full_info(), "pss", 0):
            return shared_out
    return process.memory_info().rss


def _high_water_mark(pid: int) -> int:
    """Return the peak that Linux kept for the process itself, which sampling may have missed; 0 elsewhere."""
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0)


def table(usages: list[Usage]) -> Table:
    """Return the usages as a table against the limits."""
    limits = f"limits: {MAX_SECONDS} s, {MAX_BYTES / 1e6:,.0f} MB"
    rows = Table("lab", "lang", "s", "peak MB", "", "slowest cells (s)", "peak raised by (MB)", title=limits)
    for usage in usages:
        verdict = usage.failure or ("within" if usage.fits else "OVER")
        slowest = ", ".join(f"{cell} {seconds:.0f}" for cell, seconds in usage.slowest)
        hungriest = ", ".join(f"{cell} {grown / 1e6:.0f}" for cell, grown in usage.hungriest)
        peak = f"{usage.peak_bytes / 1e6:,.0f}"
        rows.add_row(usage.lab, usage.lang, f"{usage.seconds:.1f}", peak, verdict, slowest, hungriest)
    return rows


def main(
    labs: Annotated[list[str] | None, typer.Argument(metavar="[LAB]...", help="01_edge_budget; default: all.")] = None,
    dataset: Annotated[str, typer.Option(help="What the labs' load() gives: signs, fashion-mnist, a folder.")] = "",
    lang: Annotated[str, typer.Option(help="en or es.")] = "en",
    folder: Annotated[Path | None, typer.Option(help="The labs folder of a checkout.")] = None,
    together: Annotated[
        Path | None, typer.Option(help="Run all labs in this folder, as one learner: one progress, one table.")
    ] = None,
) -> None:
    """Run the labs with their solutions, and hold them to 120 s and 1.5 GB of resident memory."""
    try:
        sources = {path.stem: path for path in build.sources(folder or shipped_labs())}
        unknown = set(labs or []) - sources.keys()
        if unknown:
            raise EdgelabError(f"There is no lab {', '.join(sorted(unknown))}. The labs are: {', '.join(sources)}.")
        if together is not None:
            (together / ".edgelab").mkdir(parents=True, exist_ok=True)  # by which a folder is known to be a learner's
        options: dict[str, Any] = {"dataset": dataset, "together": together and together.resolve()}
        usages = [measure_lab(sources[name], lang, **options) for name in labs or sources]
    except EdgelabError as error:
        Console(stderr=True).print(str(error), highlight=False)
        raise typer.Exit(2) from error
    Console().print(table(usages))
    raise typer.Exit(0 if all(usage.fits for usage in usages) else 1)


if __name__ == "__main__":
    typer.run(main)
