"""A report as rows for people, as a dictionary for programs, and in the terminal."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict

from edgelab.doctor import machine
from edgelab.doctor.diagnosis import Report, gigabytes
from edgelab.i18n import _


def summary(report: Report) -> list[tuple[str, str]]:
    """Return the label and the value of each row that a learner should see, in the learner's language."""
    versions = {package.name: package.version or _("missing") for package in report.packages}
    found = ", ".join(name for name, place in report.data_sets.items() if place)
    return [
        (_("processor"), f"{report.processor.name} ({report.processor.architecture})"),
        (_("cores"), _cores(report.cores)),
        (_("memory"), _memory(report.memory)),
        (_("integer instructions"), _instructions(report.processor, {"AVX2", *machine.INT8})),
        (_("bfloat16 instructions"), _instructions(report.processor, machine.BFLOAT16)),
        ("Python", platform.python_version()),
        *((name, versions[name]) for name in ("torch", "onnxruntime") if name in versions),
        (_("data sets here"), found or _("none")),
    ]


def as_dict(report: Report) -> dict:
    """Return the report for JSON; the keys, and the words under `about`, stay as they are.

    Keys: `ok`; `problems` and `warnings`: lists of `about`, `what`, `cure`; `python`: `version`, `executable`;
    `packages`: by name `version` and `pin`, null where there is none, and `failure`, what importing it raised;
    `cores`: `present`, `allowed`, `quota` (in cores, or null), `usable`; `memory` (or null): `present_bytes`,
    `limit_bytes` (or null), `total_bytes`, `available_bytes`; `processor`: `name`, `architecture`, `instructions` (or
    null); `data_sets`: the path by name, or null; `folder`: the working directory.

    `about` is one of python, packages, versions, memory, cores, threads, load, avx2, int8, bfloat16, data,
    folder, disk.
    """
    memory = report.memory
    return {
        "ok": report.ok,
        "problems": [asdict(note) for note in report.problems],
        "warnings": [asdict(note) for note in report.warnings],
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "packages": {
            package.name: {"version": package.version, "pin": package.pin, "failure": package.failure}
            for package in report.packages
        },
        "cores": asdict(report.cores) | {"usable": report.cores.usable},
        "memory": memory and asdict(memory) | {"total_bytes": memory.total_bytes},
        "processor": asdict(report.processor),
        "data_sets": {name: place and str(place) for name, place in report.data_sets.items()},
        "folder": report.folder,
    }


def render(report: Report) -> None:
    """Print the report for the terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table.grid(padding=(0, 2))
    for label, value in summary(report):
        table.add_row(Text(label, "bold"), Text(value))
    console.print(table)
    kinds = ((_("Problem"), "bold red", report.problems), (_("Warning"), "bold yellow", report.warnings))
    for label, style, notes in kinds:
        for note in notes:
            # Not wrapped by us: a command that is cut into lines cannot be copied.
            console.print(Text.assemble("\n", (f"{label}: ", style), str(note)), soft_wrap=True)
    verdict = _("Every lab can run here.") if report.ok else _("A lab could not run: cure each problem first.")
    console.print(Text(f"\n{verdict}", "bold"), soft_wrap=True)


def _cores(cores: machine.Cores) -> str:
    if cores.usable < cores.present:
        return _("%(usable)g of %(present)d") % {"usable": cores.usable, "present": cores.present}
    return str(cores.present)


def _memory(memory: machine.Memory | None) -> str:
    if memory is None:
        return _("unknown")
    values = {"total": gigabytes(memory.total_bytes), "free": gigabytes(memory.available_bytes)}
    return _("%(total)s, %(free)s of it free for a lab") % values


def _instructions(processor: machine.Processor, wanted: set[str]) -> str:
    if processor.instructions is None:
        return _("unknown")
    return ", ".join(name for name in processor.instructions if name in wanted) or _("none")
