"""What the hardware and the operating system give this process: cores, memory, instruction sets."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")

# Each instruction set as we name it, and the words by which torch, Linux and macOS name it, in lower case.
_SPELLINGS = {
    "AVX2": {"avx2", "avx2_0"},
    "AVX512-VNNI": {"avx512_vnni", "avx512vnni"},
    "AVX-VNNI": {"avx_vnni"},
    "AMX int8": {"amx_int8"},
    "AVX512-BF16": {"avx512_bf16"},
    "AMX bf16": {"amx_bf16"},
    "NEON dotprod": {"dot", "asimddp", "feat_dotprod"},
    "NEON i8mm": {"i8mm", "feat_i8mm"},
    "NEON bf16": {"bf16", "feat_bf16"},
}
INT8 = {"AVX512-VNNI", "AVX-VNNI", "AMX int8", "NEON dotprod", "NEON i8mm"}
BFLOAT16 = {"AVX512-BF16", "AMX bf16", "NEON bf16"}


@dataclass(frozen=True)
class Cores:
    """How many cores the computer has, how many this process may run on, and the share that a container leaves it.

    `quota` is in cores, None where there is no limit.
    """

    present: int
    allowed: int
    quota: float | None

    @property
    def usable(self) -> float:
        """Return how many cores can work at a time; a quota may leave half a core."""
        return self.allowed if self.quota is None else min(self.allowed, self.quota)


@dataclass(frozen=True)
class Memory:
    """Memory in bytes: what the computer has, what a container leaves this process, and what a lab could have now.

    `limit_bytes` is None where there is no limit. `available_bytes` counts what this process itself holds.
    """

    present_bytes: int
    limit_bytes: int | None
    available_bytes: int

    @property
    def total_bytes(self) -> int:
        """Return the bytes that are there for this process and its neighbours in the same container."""
        return self.present_bytes if self.limit_bytes is None else self.limit_bytes


@dataclass(frozen=True)
class Processor:
    """The processor's name, its architecture, and those of its instruction sets that matter for int8 and training.

    `instructions` is None where nothing on this system tells.
    """

    name: str
    architecture: str
    instructions: tuple[str, ...] | None


def cores(root: Path = ROOT) -> Cores:
    """Return the cores of this process; `root` is where /proc and /sys are looked for."""
    present = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else present
    return Cores(present, allowed, _cpu_quota(root))


def memory(root: Path = ROOT) -> Memory | None:
    """Return the memory of this process, None without psutil; `root` is where /proc and /sys are looked for."""
    try:
        import psutil
    except ImportError:
        return None
    host = psutil.virtual_memory()
    # A limit above what the computer has is none: cgroup v1 writes "no limit" as a number close to 2**63.
    groups = [(limit, used) for limit, used in _memory_limits(root) if limit < host.total]
    free = min([host.available, *(limit - used for limit, used in groups)])
    own = psutil.Process().memory_info().rss
    return Memory(host.total, min((limit for limit, _used in groups), default=None), max(0, free) + own)


def processor(root: Path = ROOT) -> Processor:
    """Return the processor, as torch sees it, else Linux (in `root`/proc), else macOS."""
    # Torch first: the labs' arithmetic is its own. Linux may know a better name than torch, though.
    from_linux, from_torch = _linux_processor(root), _torch_processor()
    from_macos = _macos_processor() if platform.system() == "Darwin" else ("", set())
    name = next((name for name, _words in (from_linux, from_macos, from_torch) if name), "")
    words = next((words for _name, words in (from_torch, from_linux, from_macos) if words), None)
    found = None if words is None else tuple(name for name, spellings in _SPELLINGS.items() if spellings & words)
    return Processor(name or platform.processor() or platform.machine(), platform.machine(), found)


def _torch_processor() -> tuple[str, set[str]]:
    """Return the processor's name and the words for what it can do; empty without torch, or with one before 2.13."""
    try:
        import torch

        capabilities = torch.cpu.get_capabilities()
    except Exception:  # a broken torch raises what it likes
        return "", set()
    return str(capabilities.get("cpu_name", "")), {word for word, has in capabilities.items() if has is True}


def _linux_processor(root: Path) -> tuple[str, set[str]]:
    # The first of several equal blocks of lines `key : value` is enough.
    lines = (line.partition(":") for line in _read(root / "proc/cpuinfo").partition("\n\n")[0].splitlines())
    values = {key.strip().lower(): value.strip() for key, _colon, value in lines}
    words = values.get("flags") or values.get("features") or ""  # x86 has flags, Arm has Features
    return values.get("model name", ""), set(words.split())


def _macos_processor() -> tuple[str, set[str]]:
    command = ["sysctl", "hw.optional", "machdep.cpu"]
    try:
        output = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=5).stdout
    except (OSError, subprocess.SubprocessError):
        return "", set()
    values = dict(line.split(": ", 1) for line in output.splitlines() if ": " in line)
    words = {key.rpartition(".")[2].lower() for key, value in values.items() if value == "1"}
    words.update(values.get("machdep.cpu.leaf7_features", "").lower().split())  # of an Intel Mac
    return values.get("machdep.cpu.brand_string", ""), words


def _cpu_quota(root: Path) -> float | None:
    """Return the smallest CPU quota of the control groups that this process is in, in cores."""
    quotas = []
    for group in _control_groups("cpu", root):
        words = _read(group / "cpu.max").split()  # version 2: "max 100000" or "150000 100000", in µs
        words = words or [_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")]  # version 1, -1: none
        if all(word.strip().isdigit() for word in words):
            quota, period = map(int, words)
            quotas.append(quota / period)
    return min(quotas, default=None)


def _memory_limits(root: Path) -> Iterator[tuple[int, int]]:
    """Yield the limit and the use, in bytes, of each control group of this process that has a limit."""
    for group in _control_groups("memory", root):
        limit = (_read(group / "memory.max") or _read(group / "memory.limit_in_bytes")).strip()
        if limit.isdigit():  # version 2 writes "max" for none
            used = (_read(group / "memory.current") or _read(group / "memory.usage_in_bytes")).strip()
            statistics = dict(line.split() for line in _read(group / "memory.stat").splitlines())
            # Files that were read once count as used, but make room when memory is asked for.
            cached = statistics.get("total_inactive_file") or statistics.get("inactive_file") or "0"
            yield int(limit), int(used or 0) - int(cached)


def _control_groups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of this process' control groups, from the innermost outwards: each may hold a limit."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _number, controllers, path = line.split(":", 2)
        mount = root / "sys/fs/cgroup"
        if controllers:  # version 1 has a folder per controller; version 2's line names none
            if controller not in controllers.split(","):
                continue
            mount /= controller
        inner = mount.joinpath(*(part for part in path.split("/") if part != ".."))
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(mount))


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
