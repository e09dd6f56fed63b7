"""nbval's running kernel, watched: a death is noticed at once, and a flood of output is neither kept nor waited for."""

import contextlib
import subprocess
import time
from collections import deque
from collections.abc import Callable
from queue import Empty
from typing import Any, cast

import psutil
import zmq
from jupyter_client.manager import KernelManager
from jupyter_core.utils import run_sync
from nbval.kernel import RunningKernel

from edgelab.grading.footprint import waited
from edgelab.grading.relay import Relay

POLL_SECONDS = 0.1
MESSAGE_BYTES = 200  # what a message takes, empty
BATCH = 1000  # messages to read before looking at the clock again: more may come than can be read
OUTPUT_SECONDS = 30.0  # for the output of a cell that has ended: the machine may be busy
GRACE_SECONDS = 5.0  # to come to rest after an interrupt
MAX_MESSAGE = 16 * 2**20  # without a relay; JSON takes up to twenty times its size in memory
MAX_FRAME = 512 * 2**20  # with one: zmq asks for what a frame says that it will be, before it has come
BYTES_A_CHARACTER, BYTES_BESIDES = 8, 4 * 2**20  # of a cell's output and all its messages, on their way here
RECONNECT_MILLISECONDS = 10  # the kernel's sockets are not there yet when we look for them first
MAX_MESSAGES = 4  # that zmq receives before we have read them; what is more waits in the kernel, and in its memory


class KernelDied(Exception):
    """The kernel's process has ended."""


class TooMuchOutput(Exception):
    """The cell has printed more than it may."""


class WatchedKernel(RunningKernel):
    """What nbval asks of a kernel, with `max_output`, the characters that one cell may send, and all of them together.

    What it sends is counted twice: as bytes, by the relay, before anything is made of them; and as what is kept.
    """

    def __init__(self, kernel_name: str, cwd: str, *, startup_timeout: float, max_output: int, max_outputs: int):
        context = zmq.Context()
        context.setsockopt(zmq.RCVHWM, MAX_MESSAGES)
        context.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MILLISECONDS)
        self.km = KernelManager(kernel_name=kernel_name, context=context)
        self.km.start_kernel(cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._relay: Relay | None = getattr(self.km.provisioner, "relay", None)
        context.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE if self._relay is None else MAX_FRAME)
        self.kc = self.km.client(context=context)
        self.kc.start_channels(stdin=False, hb=False)
        self._max_output, self._max_outputs, self._sent_before = max_output, max_outputs, 0
        self._sent, self._python = 0, 0
        self._begin()
        self.await_reply(self.kc.kernel_info(), timeout=startup_timeout)
        self._ensure_iopub_up()
        self._python = _innermost(cast(Any, self.km.provisioner).process.pid)

    def execute_cell_input(self, cell_input: str, allow_stdin: bool | None = None) -> str:
        self._begin()
        self._executing = True
        return super().execute_cell_input(cell_input, allow_stdin=allow_stdin)

    def await_reply(self, msg_id: str, timeout: float | None = None) -> None:
        """Wait for the reply to `msg_id`, reading output as it comes.

        Raises:
            KernelDied: it will never come.
            queue.Empty: it did not come within `timeout` seconds.
        """
        self._deadline, self._cell = time.monotonic() + (timeout or 0) - waited(self._python), msg_id
        while True:
            self._read_output()
            with contextlib.suppress(Empty):
                if _parent(_taken(self.kc.get_shell_msg, POLL_SECONDS)) == msg_id:
                    self.replied = True
                    return
            if not self.is_alive():
                raise KernelDied
            self._raise_if_cut_off()
            if self._left() < 0:  # asked whatever comes: a kernel can send replies that nobody waits for
                raise Empty

    def get_message(self, stream: str, timeout: float | None = None) -> dict:
        """Return the next message, as nbval expects it, but never wait past the end of the cell's time and grace."""
        if stream != "iopub":
            return super().get_message(stream, timeout=timeout)
        if self._waiting:
            return self._waiting.popleft()
        while self.is_alive():
            left = self._left() + GRACE_SECONDS
            if left < 0:
                raise Empty  # a cell that swallows the interrupt and goes on printing would be listened to for ever
            wait = OUTPUT_SECONDS if self.replied and self._executing else min(timeout or left, left)
            message = self._next_output(wait)
            if self._counts(message):
                return message
        raise KernelDied

    def _left(self) -> float:
        """Return how many seconds the cell still has; those do not count that it spent waiting for a processor.

        Else a notebook that keeps all processors busy would cost the one beside it its points.
        """
        return self._deadline + waited(self._python) - time.monotonic()

    def stop(self) -> None:
        """End the kernel, and what is in its process group: at once, since there is nothing for it to put in order."""
        self.kc.stop_channels()
        self._kill()
        if self._relay is not None:
            self._relay.close()
        del self.km

    def _kill(self) -> None:
        provisioner = cast(Any, self.km.provisioner)  # to jupyter_client's own types, its `process` is always None
        run_sync(provisioner.kill)()
        provisioner.process.wait()

    def _begin(self) -> None:
        self._waiting: deque[dict] = deque()
        self._sent_before += self._sent
        self._sent, self._cell = 0, ""
        self._deadline = float("inf")
        if self._relay is not None:
            self._relay.allow(BYTES_A_CHARACTER * self._max_output + BYTES_BESIDES)
        self._ended = self.overflowed = self.replied = self._executing = False

    def _next_output(self, timeout: float) -> dict:
        """Return the next message, and do not wait for one that was too large to come."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            try:
                return _taken(self.kc.get_iopub_msg, max(0.0, min(POLL_SECONDS, left)))
            except Empty:
                if left < 0 or not self.is_alive():
                    raise
                self._raise_if_cut_off()

    def _raise_if_cut_off(self) -> None:
        """Raise TooMuchOutput if the relay lets nothing through any more; the kernel ends with that."""
        if self._relay is not None and self._relay.overflowed and self.is_alive():
            self._kill()
            raise TooMuchOutput

    def _read_output(self) -> None:
        """Take the output that has arrived: a queue that nobody empties would lose messages, the last one included."""
        for _ in range(BATCH):
            try:
                message = _taken(self.kc.get_iopub_msg, 0)
            except Empty:
                return
            if self._counts(message):
                self._waiting.append(message)

    def _counts(self, message: dict) -> bool:
        """Return whether the message is to be kept: the cell's own, until it has sent too much, and then its end.

        Messages are what the learner's code wants them to be: of any kind, about any cell, as many as time allows.
        """
        content, kind = message.get("content"), str(message.get("msg_type"))
        message["buffers"], message["metadata"] = [], {}  # what nobody reads is not kept
        if _parent(message) != self._cell or not _is_as_agreed(message):
            return False
        self._sent += _size(content) + len(kind) + MESSAGE_BYTES
        too_much = self._sent > self._max_output or self._sent_before + self._sent > self._max_outputs
        self.overflowed = self.overflowed or too_much
        if not self.overflowed:
            return True
        first_end = kind == "status" and content == {"execution_state": "idle"} and not self._ended
        self._ended = self._ended or first_end
        return first_end


# What nbval and a notebook read of a message, as the Jupyter messaging protocol (5.3) has it.
_CONTENTS: dict[str, dict[str, type]] = {
    "stream": {"name": str, "text": str},
    "display_data": {"data": dict, "metadata": dict},
    "execute_result": {"data": dict, "metadata": dict, "execution_count": int},
    "error": {"ename": str, "evalue": str, "traceback": list},
    "status": {"execution_state": str},
}


def _taken(receive: Callable[..., dict], seconds: float) -> dict:
    """Return the next message, an empty one where what came is none: unsigned, no JSON, of another shape.

    Raises:
        queue.Empty: nothing came.
    """
    try:
        return receive(timeout=seconds)
    except Empty:
        raise
    except Exception:  # whatever jupyter_client makes of it
        return {}


def _is_as_agreed(message: dict) -> bool:
    content, kind = message.get("content"), message.get("msg_type")
    if not isinstance(content, dict) or not isinstance(kind, str):
        return False
    return all(isinstance(content.get(name), what) for name, what in _CONTENTS.get(kind, {}).items())


def _innermost(pid: int) -> int:
    """Return the last of the processes that each started the next: in a sandbox, the kernel's own."""
    while children := psutil.Process(pid).children():
        pid = children[-1].pid
    return pid


def _parent(message: dict) -> str:
    header = message.get("parent_header")
    return header.get("msg_id", "") if isinstance(header, dict) else ""


def _size(value: Any) -> int:
    """Return the number of characters in a message, with something for each thing that holds them."""
    if isinstance(value, str):
        return len(value) + 8
    if isinstance(value, dict):
        return sum(_size(key) + _size(item) for key, item in value.items())
    if isinstance(value, list):
        return sum(map(_size, value)) + 8
    return 8
