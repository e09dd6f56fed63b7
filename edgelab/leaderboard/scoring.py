"""Score a file as `edgelab measure` does, in five fresh processes: one run is a draw, and the spread says of what.

A process has one layout of memory and one warm-up for as long as it lives, so its repeats agree with each other better
than with those of the next process. Each times the file by itself, and in turns with the baseline's float file in the
same runtime: that ratio, unlike the milliseconds, carries over to another computer of the kind.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path

from edgelab import data
from edgelab.bars import Bar
from edgelab.data import normalize
from edgelab.data.storage import atomic_write, data_dir, make_data_dir
from edgelab.deploy import to_litert, to_onnx
from edgelab.deploy.isolated import isolated
from edgelab.deploy.measured import Measured, any_run, measure_file, speed_of
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.leaderboard.entry import Figures
from edgelab.leaderboard.gate import BASELINE, baseline_accuracy
from edgelab.leaderboard.origin import package_version
from edgelab.measure import measure_latency
from edgelab.models import load_pretrained

PROCESSES = 5
_SECONDS = 4.0  # at most, for the latency in each process
_TURNS = 1.0  # for the turns with the baseline: a dozen blocks are always taken
_PATIENCE = 300  # seconds without a sign of life
_MAX_REASON = 200


def score(path: Path, dataset: str, beside: Path | None) -> Figures:
    """Return the figures of a file, each process of whose timing is a fresh one.

    `dataset` is what `data.load` takes; `beside` the file of `baseline_file`, None where there is none. A bar tells
    how far it is; Ctrl-C ends the process that is at work.

    Raise `EdgelabError` for a file that cannot be loaded or run, or whose accuracy cannot be measured on these data.
    """
    with Bar(PROCESSES, _("measuring %(file)s") % {"file": path.name}, unit=_("processes")) as bar:
        measured, *first = isolated(measure_once, str(path), dataset, beside and str(beside), seconds=_PATIENCE)
        bar.update()
        timed = [tuple(first)]
        while len(timed) < PROCESSES:
            timed.append(isolated(time_again, str(path), beside and str(beside), seconds=_PATIENCE))
            bar.update()
    row, unmeasured = measured.row, measured.unmeasured or {}
    if row.accuracy is None:
        raise EdgelabError(
            _("%(file)s has no accuracy here, and so no place on the leader board: %(reason)s")
            % {"file": path.name, "reason": unmeasured.get("accuracy", "")}
        )
    ratios = tuple(ratio for _p50, ratio in timed if ratio is not None)
    return Figures(
        accuracy=row.accuracy,
        bytes=row.size_bytes,
        params=row.params,
        macs=row.macs,
        peak_bytes=row.peak_bytes,
        energy_j=row.energy_j,
        runtime=row.runtime,
        p50_ms=tuple(p50 for p50, _ratio in timed),
        times_faster=ratios,
        baseline_bytes=beside.stat().st_size if beside else None,
        arena_bytes=measured.arena_bytes,
        npu_us=measured.npu.microseconds if measured.npu else None,
        unmeasured={name: _one_line(reason, path) for name, reason in unmeasured.items()},
    )


def _one_line(reason: str, path: Path) -> str:
    """Return a reason as an entry holds it: a line, without the folder that the file lay in."""
    return " ".join(reason.replace(str(path), path.name).split())[:_MAX_REASON]


def baseline_file(dataset: str, suffix: str, folder: Path) -> Path | None:
    """Return the baseline for a data set in float, as `.onnx` or `.tflite`; None where there is none.

    It is written once, by a process that takes the exporter's memory with it, and kept among the files of data. Where
    these may only be read, as in the grader's sandbox, it lies in `folder`.
    """
    if baseline_accuracy(dataset) is None:
        return None
    name = f"baseline-{dataset}-{package_version()}{suffix}"
    kept, written = data_dir() / name, folder / name
    if kept.is_file() or written.is_file():
        return kept if kept.is_file() else written
    isolated(export_baseline, dataset, str(written))
    with contextlib.suppress(OSError, EdgelabError), atomic_write(make_data_dir() / name) as file:
        file.write(written.read_bytes())
    return written


def export_baseline(say: Callable[[str], None], dataset: str, path: str) -> None:
    """Write the baseline in float to `path`, as `.onnx` or `.tflite`."""
    say(path)
    model, image = load_pretrained(BASELINE, dataset), normalize(data.load(dataset).test.images[:1])
    write = to_onnx if path.endswith(".onnx") else to_litert
    write(model, image, path)


def measure_once(
    say: Callable[[str], None], path: str, dataset: str, beside: str | None
) -> tuple[Measured, float, float | None]:
    """Return all that `edgelab measure` finds, its median latency, and the ratio to the baseline: in a process."""
    say(path)
    with (
        contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO())
    ):  # no bar of its own in a notebook
        run, measured = measure_file(path, data.load(dataset or None), 1)
    return measured, measured.row.p50_ms, _ratio(run, beside)


def time_again(say: Callable[[str], None], path: str, beside: str | None) -> tuple[float, float | None]:
    """Return the median latency, in ms, and the ratio to the baseline once more: in a process of its own."""
    say(path)
    run = any_run(Path(path), 1)
    return measure_latency(run, threads=1, max_seconds=_SECONDS).p50_ms, _ratio(run, beside)


def _ratio(run: Callable[[], object], beside: str | None) -> float | None:
    return None if beside is None else speed_of(run, any_run(Path(beside), 1), 1, seconds=_TURNS).ratio
