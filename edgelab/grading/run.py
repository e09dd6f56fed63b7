"""Run one merged notebook: pytest with nbval in a process group of its own, the kernel in its sandbox, both watched.

What comes back is what the plugin wrote, line by line, so a run that had to be killed still tells what it earned.
"""

import dataclasses
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
from nbformat import NotebookNode

from edgelab.grading import footprint, launcher
from edgelab.grading.limits import Limits
from edgelab.grading.sandbox import data_dir

SAMPLE_SECONDS = 0.25
LAST_WORDS_SECONDS = 20  # for pytest to report on the cells that are left, once the kernel is gone
SETTLING_SECONDS = 5.0  # between the making of a folder and its lock
# ipykernel imports a debugger, which nobody uses here, and takes a third of its start for it.
KERNEL = "import sys; sys.modules['debugpy'] = None; from ipykernel import kernelapp; kernelapp.launch_new_instance()"


class InfrastructureError(Exception):
    """The run failed, and no submission is to blame for it: to be tried again, and never to become a zero."""


@dataclass(frozen=True)
class CellRun:
    """What became of one cell.

    `why` is "error", "differs", "output", "time" or "died" where it did not pass; `alive` says whether the kernel
    outlived it; `outputs` are as in a notebook.
    """

    id: str
    role: str
    exercise: str
    passed: bool
    why: str
    alive: bool
    seconds: float
    outputs: list

    @property
    def printed(self) -> str:
        """What the cell wrote to stdout."""
        texts = (out["text"] for out in self.outputs if out["output_type"] == "stream" and out["name"] == "stdout")
        return "".join(texts)

    @property
    def error(self) -> dict:
        """The error that stopped the cell: its `ename`, `evalue` and `traceback`; empty where there was none."""
        return next((out for out in self.outputs if out["output_type"] == "error"), {})


@dataclass(frozen=True)
class Run:
    """One run of a notebook: its cells in order, as far as it came, and "memory" or "time" if it was killed for it."""

    cells: tuple[CellRun, ...]
    killed: str
    seconds: float


def run(
    notebook: NotebookNode,
    limits: Limits,
    *,
    environment: Mapping[str, str],
    reference: Mapping[str, float] | None = None,
    sandboxed: bool = True,
) -> Run:
    """Run a notebook and return what became of each cell.

    Args:
        notebook: as `merge` returns it.
        limits: what it may take.
        environment: variables of the kernel's process.
        reference: seconds that the reference took, by cell id; a cell gets ten times that, `cell_seconds` at least.
        sandboxed: whether the kernel runs in bubblewrap.

    Raises:
        InfrastructureError: the kernel did not start, or the run ended in a way that no notebook can bring about.
    """
    folder = Path(tempfile.mkdtemp(prefix=launcher.PREFIX, dir=launcher.SCRATCH))
    lock = launcher.hold(folder)
    try:
        for cell in notebook.cells:
            cell.metadata.edgelab["timeout"] = max(limits.cell_seconds, 10 * (reference or {}).get(cell.id, 0))
        (folder / "lab.ipynb").write_text(nbformat.v4.writes(notebook), "utf-8")
        _write_kernel_spec(folder, limits, environment, sandboxed)
        start = time.perf_counter()
        killed, log = _run_pytest(folder, limits)
        if killed == "busy":
            raise InfrastructureError("other processes kept this machine's processors from it")
        return _result(folder / "report.jsonl", killed, log, time.perf_counter() - start)
    except OSError as error:
        raise InfrastructureError(f"{type(error).__name__}: {error}") from error
    finally:
        _remove(folder)
        lock.close()


def sweep() -> None:
    """Remove what killed runs have left behind: the folders that nobody holds any more."""
    for folder in launcher.SCRATCH.glob(f"{launcher.PREFIX}*"):
        try:
            status = folder.lstat()
            ours = os.name != "posix" or (status.st_uid == os.geteuid() and stat.S_ISDIR(status.st_mode))
            if ours and time.time() - status.st_mtime > SETTLING_SECONDS:
                launcher.hold(folder).close()
                _remove(folder)
        except OSError:  # it is gone, or held by a run beside this one
            continue


def _remove(folder: Path) -> None:
    """Remove a folder, whatever lies in it: Python's own way gives up where folders lie a thousand deep."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:
        subprocess.run(["rm", "-rf", "--", str(folder)], capture_output=True)


def _write_kernel_spec(folder: Path, limits: Limits, environment: Mapping[str, str], sandboxed: bool) -> None:
    spec: dict = {
        "argv": [sys.executable, "-c", KERNEL, "-f", "{connection_file}"],
        "display_name": "edgelab",
        "language": "python",
        "interrupt_mode": "message",  # a signal would reach bubblewrap, not the kernel
    }
    if sandboxed:
        config = {
            "environment": dict(environment),
            "limits": dataclasses.asdict(limits),
            "sockets": str(folder / "sockets"),
        }
        spec["metadata"] = {"kernel_provisioner": {"provisioner_name": "edgelab-sandbox", "config": config}}
    else:
        spec["env"] = dict(environment)
    (folder / "kernels" / "edgelab").mkdir(parents=True)
    (folder / "kernels" / "edgelab" / "kernel.json").write_text(json.dumps(spec), "utf-8")


def _run_pytest(folder: Path, limits: Limits) -> tuple[str, str]:
    """Return what the run was killed for, if it was, and the end of pytest's own output."""
    (folder / "work").mkdir()
    arguments = ["-c", os.devnull, "--rootdir", str(folder), "--noconftest", "-p", "no:cacheprovider"]
    arguments += ["-q", "--no-header", "--tb=no", "--capture=no", "--nbval-kernel-name", "edgelab"]
    arguments += ["--grade-report", str(folder / "report.jsonl"), "--grade-max-output", str(limits.output)]
    arguments += ["--grade-max-outputs", str(limits.outputs)]
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "JUPYTER_DATA_DIR": str(folder),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "EDGELAB_DATA": str(data_dir()),  # with another home, the sandbox would not find it
        **{name: os.environ[name] for name in ("EDGELAB_DATASET", "SYSTEMROOT") if name in os.environ},
    }
    process = launcher.start([*arguments, str(folder / "lab.ipynb")], folder, environment)
    try:
        killed = _watch(process, limits)
    finally:
        _kill(_descendants(process.pid))
        process.kill()
    text = (folder / "log.txt").read_text("utf-8", "replace")
    return killed, f"exit code {process.code}; {text[-2000:]}"


def _watch(process: launcher.Forked | launcher.Spawned, limits: Limits) -> str:
    """Wait for pytest to end. Where the kernel takes too much, end that alone, so that pytest can still report.

    Returns:
        "memory", "time", or "busy" for a time that others had; nothing where it ended by itself.
    """
    deadline, killed = time.monotonic() + limits.wall_seconds, ""
    while not process.wait(SAMPLE_SECONDS):
        if killed:
            if time.monotonic() > deadline:
                break
            continue
        kernel = _descendants(process.pid)
        if time.monotonic() > deadline:
            killed = "busy" if _was_kept_waiting(kernel, limits.wall_seconds) else "time"
        elif footprint.more_than(limits.memory, kernel):
            killed = "memory"
        if killed:
            deadline = time.monotonic() + LAST_WORDS_SECONDS
            _kill(kernel)
    return killed


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _was_kept_waiting(processes: list[psutil.Process], seconds: float) -> bool:
    """Return whether a run of so many seconds waited for a processor for most of them, and had little of any itself."""
    return (
        max((footprint.waited(process.pid) for process in processes), default=0.0)
        > seconds / 2
        > sum(map(_processor_seconds, processes))
    )


def _processor_seconds(process: psutil.Process) -> float:
    try:
        return sum(process.cpu_times()[:4])  # its own, and those of its children that have ended
    except psutil.Error:
        return 0.0


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        try:
            process.kill()
        except psutil.Error:
            continue


def _result(report: Path, killed: str, log: str, seconds: float) -> Run:
    text = report.read_text("ascii") if report.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    if not any("ready" in line for line in lines):
        raise InfrastructureError(f"the kernel did not start: {log}")
    if not killed and not any("finished" in line for line in lines):
        raise InfrastructureError(f"pytest stopped: {log}")
    cells = tuple(CellRun(**{**line, "outputs": _plain(line["outputs"])}) for line in lines if "id" in line)
    return Run(cells, killed, seconds)


def _plain(outputs: list) -> list[dict]:
    """Return outputs as the notebook format has them: a kernel can send anything in the place of a text."""
    kept = []
    for output in outputs:
        kind = output.get("output_type")
        if kind == "stream":
            kept.append({"output_type": kind, "name": _text(output.get("name")), "text": _text(output.get("text"))})
        elif kind == "error":
            lines = output.get("traceback")
            texts = {name: _text(output.get(name)) for name in ("ename", "evalue")}
            kept.append(
                {"output_type": kind, **texts, "traceback": [*map(_text, lines)] if isinstance(lines, list) else []}
            )
        elif isinstance(data := output.get("data"), dict):
            kept.append({"output_type": kind, "data": {str(name): value for name, value in data.items()}})
    return kept


def _text(value: object) -> str:
    """Return a text that can be written: JSON may hold half of a surrogate pair."""
    return str(value).encode("utf-8", "replace").decode()
