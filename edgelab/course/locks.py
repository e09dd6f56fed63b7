"""Locks on files, between processes: the one place that knows how POSIX and Windows lock.

The system lets go of a lock when its process dies, so that none goes stale.
"""

import sys
from typing import IO


def lock(file: IO) -> None:
    """Lock an open file, and wait while another process holds it; `unlock` or closing it lets go."""
    if sys.platform == "win32":
        import msvcrt

        while True:
            try:
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # gives up after ten tries, one a second
                return
            except OSError:
                continue
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)


def try_lock(file: IO) -> None:
    """Lock an open file, unless another process holds it; `unlock` or closing it lets go.

    Raises:
        BlockingIOError: another process holds it.
    """
    if sys.platform == "win32":
        import msvcrt

        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError as error:  # a PermissionError, whatever the reason
            raise BlockingIOError(*error.args) from error
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def unlock(file: IO) -> None:
    """Let go of the lock on an open file."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_UN)
