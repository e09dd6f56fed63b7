"""Locks between processes, on POSIX and as Windows has them."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

from edgelab.course import locks

HOLD = """
import sys
from edgelab.course import locks
file = open(sys.argv[1], "ab")
locks.lock(file)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_that_another_process_holds_is_refused_until_it_ends(tmp_path: Path):
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder, path.open("ab") as file:
        assert holder.stdout.readline().strip() == b"held"
        with pytest.raises(BlockingIOError):
            locks.try_lock(file)
        holder.stdin.close()
        holder.wait(30)
        locks.try_lock(file)
        locks.unlock(file)
        locks.lock(file)


@pytest.fixture
def windows(monkeypatch) -> types.SimpleNamespace:
    """Let this be Windows to the module: `calls` has what msvcrt was asked, `refuse` how often it says no."""
    seen = types.SimpleNamespace(calls=[], refuse=0)

    def locking(number: int, mode: str, size: int) -> None:
        seen.calls.append((mode, size))
        if seen.refuse:
            seen.refuse -= 1
            raise PermissionError(13, "Permission denied")

    fake = types.SimpleNamespace(LK_LOCK="lock", LK_NBLCK="try", LK_UNLCK="unlock", locking=locking)
    monkeypatch.setitem(sys.modules, "msvcrt", fake)
    monkeypatch.setattr(locks, "sys", types.SimpleNamespace(platform="win32"))
    return seen


def test_on_windows_a_lock_is_asked_for_until_it_is_given(windows, tmp_path: Path):
    windows.refuse = 2  # msvcrt gives up after ten seconds, and we do not
    with (tmp_path / "lock").open("ab") as file:
        locks.lock(file)
        locks.unlock(file)
    assert windows.calls == [("lock", 1)] * 3 + [("unlock", 1)]


def test_on_windows_a_lock_that_is_held_is_refused_at_once(windows, tmp_path: Path):
    windows.refuse = 1
    with (tmp_path / "lock").open("ab") as file:
        with pytest.raises(BlockingIOError):
            locks.try_lock(file)
        locks.try_lock(file)
    assert windows.calls == [("try", 1)] * 2
