"""What a run holds of the machine: its processes' memory, what Linux keeps for them in nobody's name, and time.

Sockets have buffers, files in memory have inodes, and a map of memory has a table, even where nothing is in it. Only
control groups limit these, and not every machine lets a grader make any. So they are counted at their worst, a few
times a second. What cannot be counted so, the sandbox does not have (`edgelab.grading.seccomp`).
"""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from edgelab.grading import sandbox

# A sender's buffer (net.core.wmem_default, 208 kB) and one message more; a datagram socket takes eleven of them
# (net.unix.max_dgram_qlen, and one), whose senders may be gone.
STREAM_BYTES = 2 * 212_992
DATAGRAM_BYTES = 11 * STREAM_BYTES
INODE_BYTES = 1200  # with its name
_DATAGRAM = "0002"  # the type, in /proc/net/unix


def more_than(limit: int, processes: Sequence[psutil.Process]) -> bool:
    """Return whether the processes hold more than `limit` bytes; what they share counts once, if it comes to that."""
    kept = _kept_by_linux([process.pid for process in processes]) if sys.platform == "linux" else 0
    return kept + sum(map(_resident, processes)) > limit and kept + sum(map(_proportional, processes)) > limit


def waited(pid: int) -> float:
    """Return the seconds for which a process could have run, and others did; 0 where the system does not tell."""
    try:  # Documentation/scheduler/sched-stats.rst: on a processor, waiting for one, and how often
        return int(Path(f"/proc/{pid}/schedstat").read_text("utf-8").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _proportional(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
    except psutil.Error:
        return _resident(process)
    return getattr(full, "pss", full.uss)


def _kept_by_linux(pids: Sequence[int]) -> int:
    tables = sum(map(_tables, pids))
    inside = next((pid for pid in pids if _is_inside(pid)), None)
    return tables if inside is None else tables + _sockets(inside) + _inodes(inside)


def _tables(pid: int) -> int:
    """Return the bytes of a process's page tables: 4 kB for 2 MB, of which it may have read a byte."""
    try:
        found = re.search(r"VmPTE:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text("utf-8"))
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0


def _is_inside(pid: int) -> bool:
    """Return whether a process has a network of its own, and so is in the sandbox."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    except OSError:
        return False


def _sockets(pid: int) -> int:
    """Return what the sockets of a process's network may hold, those in nobody's hands any more as well."""
    local = [line.split(maxsplit=5)[4] for line in _listed(pid, "unix")]
    datagram = local.count(_DATAGRAM)
    # Of these, Linux tells what they hold: "tx_queue:rx_queue", in bytes; with what is around them twice that.
    queues = [line.split(maxsplit=5)[4].split(":") for name in ("tcp", "udp") for line in _listed(pid, name)]
    held = 2 * sum(int(count, 16) for both in queues for count in both)
    stream = len(local) - datagram + len(_listed(pid, "netlink"))
    return DATAGRAM_BYTES * datagram + STREAM_BYTES * stream + held


def _listed(pid: int, kind: str) -> list[str]:
    """Return a line for each socket of a kind in a process's network."""
    try:
        return Path(f"/proc/{pid}/net/{kind}").read_text("utf-8").splitlines()[1:]
    except OSError:
        return []


def _inodes(pid: int) -> int:
    """Return what the files in the sandbox's own folders take besides their content, which has a limit."""
    used = 0
    for folder in sandbox.WRITABLE:
        try:
            there = f"/proc/{pid}/root{folder}"
            if os.path.exists(folder) and os.stat(there).st_dev == os.stat(folder).st_dev:
                continue  # the sandbox is not made yet: it is the host's own
            status = os.statvfs(there)
        except OSError:
            continue
        used += status.f_files - status.f_ffree
    return INODE_BYTES * used
