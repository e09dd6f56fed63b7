"""Carries bytes between the grader and a sandboxed kernel, and stops when the kernel sends more than it may.

Messages come in frames, any number of them, and zmq has a whole message in memory before anyone can look at it. So what
a kernel may send is counted here, as bytes, before zmq sees any. The kernel's sockets lie in a small folder inside the
sandbox, and are reached through its process; no folder of the host's is shared.
"""

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Iterable
from pathlib import Path

CHUNK = 2**16


class Relay:
    """Sockets in a folder of the grader's, `prefix-1` and so on, each of which leads to the kernel's of that name.

    `allow(count)` says how many bytes the kernel may send from now on; `overflowed` whether it has tried to send more,
    and then nothing else comes of it.
    """

    def __init__(self, prefix: Path, inside: Path, pid: int, ports: Iterable[int]):
        self.overflowed = False
        self._left = 0
        self._lock = threading.Lock()
        # The process itself, and not its number, which may become another's. Its root is the sandbox's a little later.
        self._inside, self._process = inside, os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY)
        self._listening = []
        self._open: set[socket.socket] = set()
        for port in ports:
            listening = socket.socket(socket.AF_UNIX)
            listening.bind(f"{prefix}-{port}")
            listening.listen()
            self._listening.append(listening)
            threading.Thread(target=self._serve, args=(listening, f"{inside.name}-{port}"), daemon=True).start()

    def allow(self, count: int) -> None:
        """Let the kernel send `count` bytes from now on."""
        with self._lock:
            self._left = count

    def close(self) -> None:
        """Cut all connections, and make no more."""
        for one in (*self._listening, *self._open):
            _cut(one)
        if self._process >= 0:
            os.close(self._process)
            self._process = -1

    def _serve(self, listening: socket.socket, name: str) -> None:
        while True:
            try:
                ours, _address = listening.accept()
            except OSError:  # closed
                return
            try:
                theirs = self._kernels(name)
            except OSError:  # not there yet: zmq tries again
                ours.close()
                continue
            self._open |= {ours, theirs}
            for source, target, counted in ((ours, theirs, False), (theirs, ours, True)):
                threading.Thread(target=self._carry, args=(source, target, counted), daemon=True).start()

    def _kernels(self, name: str) -> socket.socket:
        """Return a connection to a socket in the sandbox: to a socket, and to nothing that a link there points at."""
        opened = [os.open("root", os.O_PATH | os.O_DIRECTORY, dir_fd=self._process)]
        try:
            for part in (*self._inside.parent.parts[1:], name):
                opened.append(os.open(part, os.O_PATH | os.O_NOFOLLOW, dir_fd=opened[-1]))
            if not stat.S_ISSOCK(os.fstat(opened[-1]).st_mode):
                raise FileNotFoundError(name)
            found = socket.socket(socket.AF_UNIX)
            try:
                found.connect(f"/proc/self/fd/{opened[-1]}")
            except OSError:
                found.close()
                raise
            return found
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _carry(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK):
                if counted and not self._may_pass(len(chunk)):
                    break
                target.sendall(chunk)
        for one in (source, target):
            self._open.discard(one)
            _cut(one)

    def _may_pass(self, count: int) -> bool:
        with self._lock:
            self._left -= count
            self.overflowed = self.overflowed or self._left < 0
            return not self.overflowed


def _cut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
