"""Starts a pytest for each run: on Linux as a fork of a server that has imported all it needs.

Importing pytest, nbval and Jupyter's client takes longer than running a small notebook. A fork begins behind that, and
is a process of its own all the same: with its own group, folder, environment and output, and nobody's to keep alive.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from edgelab.course import locks

PREFIX = "edgelab-grade-"
SCRATCH = Path("/tmp" if os.name == "posix" else tempfile.gettempdir())  # a socket's path has room for 107 characters
PLUGINS = ("edgelab.grading.plugin", "nbval.plugin")
START_SECONDS = 60
PID_BYTES = 20


def hold(folder: Path) -> IO:
    """Hold a folder of ours for as long as this process lives, or until the file is closed.

    Raises:
        OSError: another process holds it.
    """
    file = (folder / ".lock").open("ab")
    try:
        locks.try_lock(file)
    except OSError:
        file.close()
        raise
    return file


class Spawned:
    """A pytest in `folder`, started from nothing; it writes to `log.txt` there."""

    def __init__(self, arguments: list[str], folder: Path, environment: Mapping[str, str]):
        plugins = [word for name in PLUGINS for word in ("-p", name)]
        command = [sys.executable, "-I", "-m", "pytest", *plugins, *arguments, "--grade-parent", str(os.getpid())]
        with (folder / "log.txt").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def code(self) -> str:
        """What it ended with."""
        return str(self._process.returncode)

    def wait(self, seconds: float) -> bool:
        """Return whether it has ended, after so many seconds at the latest."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode is not None

    def kill(self) -> None:
        """End it, and its process group where there is such a thing; harmless where it has ended."""
        if os.name == "posix":
            _kill_group(self.pid)
        else:
            self._process.kill()
        self._process.wait()


class Forked:
    """A pytest in `folder`, forked from this process's server; it writes to `log.txt` there, and leads a session.

    Raises:
        OSError: it did not start.
    """

    def __init__(self, arguments: list[str], folder: Path, environment: Mapping[str, str]):
        request = {"arguments": arguments, "folder": str(folder), "environment": dict(environment)}
        self._connection = _connect()
        self._connection.settimeout(START_SECONDS)
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        if not (pid := self._connection.recv(PID_BYTES)):
            raise OSError("the process that starts pytest has ended")
        self.pid, self.code, self._ended = int(pid), "none", False

    def wait(self, seconds: float) -> bool:
        """Return whether it has ended, after so many seconds at the latest: then its end of the connection closes."""
        deadline = time.monotonic() + seconds
        while not self._ended and (left := deadline - time.monotonic()) > 0:
            self._connection.settimeout(left)
            with contextlib.suppress(TimeoutError):
                if code := self._connection.recv(PID_BYTES):
                    self.code = code.decode()
                else:
                    self._ended = True
        return self._ended

    def kill(self) -> None:
        """End it and its process group; harmless where it has ended."""
        _kill_group(self.pid)
        self.wait(START_SECONDS)
        self._connection.close()


# On macOS a fork may not use all of the system's libraries, and on Windows there is none.
start = Forked if sys.platform == "linux" else Spawned


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


_lock = threading.Lock()  # a worker of a cluster may grade in several threads
_server: tuple[subprocess.Popen, str] | None = None


def _connect() -> socket.socket:
    """Return a connection to this process's server, which is started for the first one and whenever it has gone."""
    global _server
    with _lock:
        if _server is None or _server[0].poll() is not None or not os.path.exists(_server[1]):
            home = tempfile.mkdtemp(prefix=PREFIX, dir=SCRATCH)
            path = os.path.join(home, "socket")
            with (
                socket.socket(socket.AF_UNIX) as listening,
                open(os.path.join(home, "log.txt"), "wb") as log,
                hold(Path(home)) as held,
            ):
                listening.bind(path)
                listening.listen()
                command = [sys.executable, "-I", "-m", __name__, path, str(os.getpid())]
                process = subprocess.Popen(
                    command,
                    stdin=listening.fileno(),
                    stdout=log,
                    stderr=log,
                    cwd=home,
                    env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "JUPYTER_PLATFORM_DIRS": "1"},
                    start_new_session=True,
                    pass_fds=[held.fileno()],  # it is held for as long as the server lives
                )
            atexit.register(_stop, process, home)  # a worker's process has no such end, and its server stops by itself
            _server = process, path
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(_server[1])
        return connection


def _stop(server: subprocess.Popen, home: str) -> None:
    server.kill()
    server.wait()
    shutil.rmtree(home, ignore_errors=True)


def serve(path: str, parent: int) -> None:
    """Fork a pytest for each connection to the socket that is this process's input, as long as its parent lives.

    `path` is where the socket lies; its folder goes when this process does.
    """
    from socketserver import ForkingMixIn, StreamRequestHandler, UnixStreamServer

    import pytest

    server_pid = str(os.getpid())
    plugins = [importlib.import_module(name) for name in PLUGINS]

    class Handler(StreamRequestHandler):
        server: "Server"

        def handle(self) -> None:
            request = json.loads(self.rfile.readline())
            os.setsid()
            self.server.socket.close()
            self.wfile.write(b"%*d" % (PID_BYTES, os.getpid()))
            os.chdir(request["folder"])
            os.environ.clear()
            os.environ.update(request["environment"])
            log = os.open("log.txt", os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = int(pytest.main([*request["arguments"], "--grade-parent", server_pid], plugins=plugins))
            sys.stdout.flush()
            self.wfile.write(str(code).encode())

    class Server(ForkingMixIn, UnixStreamServer):
        max_children = sys.maxsize  # as many as there are threads that ask; at a limit it would wait, deaf to all else

        def service_actions(self) -> None:
            if os.getppid() != parent:  # those that were forked stop by the same sign
                shutil.rmtree(os.path.dirname(path), ignore_errors=True)
                os._exit(0)
            super().service_actions()

    server = Server(path, Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    gc.freeze()  # what is there stays where it is, in memory that all forks share
    server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
