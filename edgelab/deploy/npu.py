"""What Arm's compiler Vela says of a model on an Ethos-U, the NPU of newer microcontrollers: an estimate.

Vela decides which operators the NPU takes, encodes their weights (zeros nearly vanish), plans the SRAM, and reckons the
cycles of each operator. Source: https://gitlab.arm.com/artificial-intelligence/ethos-u/ethos-u-vela
"""

from __future__ import annotations

import csv
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edgelab.deploy.tflite import inline_buffers
from edgelab.errors import EdgelabError
from edgelab.i18n import _

# Vela's own descriptions of systems in which the weights lie in flash, by the accelerator's family.
_SYSTEMS = {
    "ethos-u55": "Ethos_U55_High_End_Embedded",
    "ethos-u65": "Ethos_U65_Embedded",
    "ethos-u85": "Ethos_U85_SYS_Flash_High",
}
_MEMORY = "Shared_Sram"
ACCELERATORS = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *(f"ethos-u65-{macs}" for macs in (256, 512)),
    *(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)),
)
_SECONDS = 300


@dataclass(frozen=True)
class NpuEstimate:
    """Arm's estimate of one inference: microseconds, bytes of flash and SRAM, and how busy the NPU is.

    `npu_share` is the share of operators that run on the NPU, in (0, 1]; those that stay on the CPU take no time here,
    and `cpu_operators` names them, by the tensors that they give. `macs_per_cycle` is of the model's MACs; the number
    in the accelerator's name is the most there can be.
    """

    accelerator: str
    system: str
    clock_hz: float
    microseconds: float
    flash_bytes: int
    sram_bytes: int
    npu_share: float
    macs_per_cycle: float
    cpu_operators: tuple[str, ...] = ()


def npu_estimate(path: str | Path, *, accelerator: str = "ethos-u55-128") -> NpuEstimate:
    """Return Vela's estimate for a `.tflite` file on one of `ACCELERATORS`.

    Raise `EdgelabError` for an unknown accelerator, where Vela is not installed, for a file that it cannot compile, and
    for one of which nothing runs on the NPU, as a float model: there is nothing to estimate.
    """
    path = Path(path)
    if accelerator not in ACCELERATORS:
        raise EdgelabError(
            _("There is no accelerator %(name)r. There are: %(known)s.")
            % {"name": accelerator, "known": ", ".join(ACCELERATORS)}
        )
    if not path.is_file():
        raise EdgelabError(_("There is no model file %(path)s.") % {"path": path})
    if find_spec("ethosu") is None:
        raise EdgelabError(
            _('%(package)s is missing: install the tools for microcontrollers with pip install "edgelab[mcu]".')
            % {"package": "ethos-u-vela"}
        )
    system = _SYSTEMS[accelerator.rpartition("-")[0]]
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.tflite"
        model.write_bytes(inline_buffers(path.read_bytes(), str(path)))
        options = ["--accelerator-config", accelerator, "--system-config", system, "--memory-mode", _MEMORY]
        command = [sys.executable, "-m", "ethosu.vela", str(model), "--output-dir", folder, "--config", "Arm/vela.ini"]
        try:
            done = subprocess.run(
                [*command, *options, "--show-cpu-operations"],
                capture_output=True, text=True, errors="replace", timeout=_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise EdgelabError(
                _("%(path)s took more than %(seconds)s s: stopped.") % {"path": path, "seconds": _SECONDS}
            ) from None
        summaries = list(Path(folder).glob("*_summary_*.csv"))
        if done.returncode or not summaries:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line]
            raise EdgelabError(
                _("Vela cannot compile %(path)s: %(reason)s")
                % {"path": path, "reason": lines[-1] if lines else f"exit code {done.returncode}"}
            )
        row = next(csv.DictReader(summaries[0].read_text("utf-8").splitlines()))
    estimate = _estimate(row, done.stdout, accelerator, system)
    if estimate.npu_share == 0:
        raise EdgelabError(_("Nothing of %(path)s runs on an NPU, which takes int8: quantize it.") % {"path": path})
    return estimate


def _estimate(row: dict[str, str], words: str, accelerator: str, system: str) -> NpuEstimate:
    """Return what the compiler's summary and its words hold."""
    counts = {kind: int(count) for kind, count in re.findall(r"(CPU|NPU) operators = (\d+)", words)}
    clock, cycles = float(row["core_clock"]), float(row["cycles_total"])
    return NpuEstimate(
        accelerator=accelerator,
        system=system,
        clock_hz=clock,
        microseconds=1e6 * cycles / clock,
        flash_bytes=round(1024 * float(row["off_chip_flash_memory_used"])),
        sram_bytes=round(1024 * float(row["sram_memory_used"])),
        npu_share=counts.get("NPU", 0) / max(1, sum(counts.values())),
        macs_per_cycle=float(row["nn_macs"]) / cycles if cycles else 0.0,
        cpu_operators=tuple(re.findall(r"^\s+CPU: \S+ = (.+) \(", words, re.MULTILINE)),
    )
