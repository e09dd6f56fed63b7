"""What one submission takes of the machine that it shares with all others: memory that no process shows, processors,
and the time of whoever reads it. Each attack is what somebody new thought of; each is bounded, should it succeed.
"""

import json
import os
import textwrap

import pytest

from edgelab.course.source import read_source
from edgelab.grading import answers, feedback, footprint, run, seccomp
from edgelab.grading.limits import MB, Limits
from edgelab.grading.mark import Status
from edgelab.grading.returned import parse

HALF = "def half(number):\n    return number * 0.5\n"
EVENS = "def evens(numbers):\n    return [number for number in numbers if not number & 1]\n"
SMALL = Limits(wall_seconds=90, cell_seconds=20, memory=300 * MB, disk=64 * MB, processes=200)

UNSEEN = {
    "what closed sockets were told": """
        import socket, time
        listening = socket.socket(socket.AF_UNIX)
        listening.bind("/tmp/x")
        listening.listen(4096)
        for _ in range(1500):
            with socket.socket(socket.AF_UNIX) as sender:
                sender.setblocking(False)
                try:
                    sender.connect("/tmp/x")
                    while True:
                        sender.send(bytes(2**16))
                except BlockingIOError:
                    pass
        time.sleep(15)
    """,
    "what nobody reads from the network": """
        import socket, time
        listening = socket.create_server(("127.0.0.1", 0), backlog=1000)
        kept = []
        for _ in range(300):
            sender = socket.create_connection(listening.getsockname())
            sender.setblocking(False)
            try:
                while True:
                    sender.send(bytes(2**18))
            except BlockingIOError:
                kept.append(sender)
        time.sleep(15)
    """,
    "files with nothing in them": """
        import os, time
        for number in range(400_000):
            os.mknod(f"/tmp/{number}")
        time.sleep(15)
    """,
    "tables of memory with nothing in it": """
        import mmap, os, time
        for _ in range(40):
            if os.fork() == 0:
                block = mmap.mmap(-1, 6 * 2**30, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)
                for place in range(0, len(block), 2**21):
                    block[place]
                time.sleep(15)
                os._exit(0)
        time.sleep(15)
    """,
}


@pytest.mark.parametrize("code", UNSEEN.values(), ids=UNSEEN)
def test_memory_that_no_process_shows_counts(mark, answer, code: str):
    graded = mark(answer(half=textwrap.dedent(code) + HALF, evens=EVENS), SMALL)
    assert (graded.status, graded.marks["evens"].points) == (Status.OUT_OF_MEMORY, 2)


def test_a_folder_of_the_hosts_is_not_taken_for_the_sandboxs():
    """As it would be in the moment before the sandbox has folders of its own."""
    assert footprint._inodes(os.getpid()) == 0
    assert not footprint._is_inside(os.getpid())
    assert footprint._sockets(2**22 + 1) == footprint._tables(2**22 + 1) == 0  # there is no such process


# Memory, queues and doors that a filter closes: each line is tried, and prints what came of it.
PROBE = """
import ctypes, mmap, os, platform, resource, socket
libc = ctypes.CDLL(None, use_errno=True)

def attempt(name, action):
    try:
        print(name, "->", action())
    except BaseException as error:
        print(name, "->", type(error).__name__)

def by_number(x86, arm, *arguments):
    return libc.syscall(x86 if platform.machine() == "x86_64" else arm, *arguments)

def into_a_pipe():
    class Piece(ctypes.Structure):
        _fields_ = [("start", ctypes.c_void_p), ("length", ctypes.c_size_t)]
    text = ctypes.create_string_buffer(10)
    piece = Piece(ctypes.addressof(text), 10)
    return libc.vmsplice(os.pipe()[1], ctypes.byref(piece), 1, 0)

def zeros():
    with open("/dev/zero", "rb") as file:
        return file.read(3)

def map_zeros():
    with open("/dev/zero", "r+b", buffering=0) as file:
        return len(mmap.mmap(file.fileno(), 4096))

def limits_of_dumps():
    line, = (line for line in open("/proc/self/limits") if "core" in line)
    return line.split()[4:6]

attempt("the host of this machine", lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM))
attempt("the system's ciphers", lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET))
attempt("its news", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15))
attempt("a newer network", lambda: socket.socket(socket.AF_INET6))
attempt("a pair", lambda: [one.close() for one in socket.socketpair()])
attempt("a large buffer", lambda: socket.socketpair()[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**22))
attempt("nobody's memory", lambda: len(mmap.mmap(-1, 4096)))
attempt("memory of one's own", lambda: len(mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)))
attempt("zeros", zeros)
attempt("zeros as memory", map_zeros)
attempt("pages in a pipe", into_a_pipe)
attempt("everyone's queue", lambda: by_number(206, 0, 1, ctypes.byref(ctypes.c_ulong(0))))
attempt("the system's log", lambda: libc.klogctl(3, ctypes.create_string_buffer(99), 99))
attempt("core dumps", limits_of_dumps)
attempt("core dumps again", lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))
"""
FOUND = """
the host of this machine -> OSError
the system's ciphers -> OSError
its news -> OSError
a newer network -> OSError
a pair -> [None, None]
a large buffer -> PermissionError
nobody's memory -> PermissionError
memory of one's own -> 4096
zeros -> b'\\x00\\x00\\x00'
zeros as memory -> OSError
pages in a pipe -> -1
everyone's queue -> -1
the system's log -> -1
core dumps -> ['1', '1']
core dumps again -> ValueError
"""


def test_doors_that_nobody_needs_are_closed(mark, answer):
    if not seccomp.program():
        pytest.skip("no filter for this machine")
    graded = mark(answer(half=PROBE + HALF, evens=EVENS))
    printed = next(cell for cell in graded.cells if cell.id == "half").printed
    assert printed.splitlines() == FOUND.strip().splitlines()
    assert graded.marks["half"].points == 3


def test_processors_that_others_keep_busy_cost_nobody_points(mark, answer):
    """Half a second's work, which takes many while others have the processors: a cell's time does not pass then."""
    code = """
        import os, signal, time
        others = []
        for _ in range(min(150, 12 * os.cpu_count())):
            if (pid := os.fork()) == 0:
                os.setsid()
                end = time.monotonic() + 40
                while time.monotonic() < end:
                    pass
                os._exit(0)
            others.append(pid)
        while time.process_time() < 0.5 + START:
            pass
        for pid in others:
            os.kill(pid, signal.SIGKILL)
    """
    begin = "import time\nSTART = time.process_time()\n"
    graded = mark(
        answer(half=begin + textwrap.dedent(code) + HALF, evens=EVENS), Limits(wall_seconds=90, cell_seconds=2)
    )
    assert (graded.status, graded.marks["half"].points) == (Status.GRADED, 3)


def test_a_run_that_was_kept_waiting_is_no_zero(mark, answer, monkeypatch):
    """A minute's work in a day's time is nobody's fault; a loop that had its minute is."""
    slow = answer(half="while True:\n    pass", evens=EVENS)
    limits = Limits(wall_seconds=6, cell_seconds=60)
    monkeypatch.setattr(footprint, "waited", lambda pid: 1000.0)
    monkeypatch.setattr(run, "_processor_seconds", lambda process: 0.1)
    with pytest.raises(run.InfrastructureError, match="processors"):
        mark(slow, limits)
    monkeypatch.setattr(run, "_processor_seconds", lambda process: 5.0)
    assert mark(slow, limits).status == Status.TIMED_OUT


STUBBORN = {
    "replies that nobody waits for": """
        import time
        kernel = get_ipython().kernel
        socket = kernel.shell_stream.socket
        ident = kernel._parent_ident["shell"]
        while True:  # in this thread: a socket that two threads use at once ends the kernel, now and then
            kernel.session.send(socket, "execute_reply", {"status": "ok"}, parent={"header": {}}, ident=ident)
            time.sleep(0.02)
    """,
}


@pytest.mark.parametrize("code", STUBBORN.values(), ids=STUBBORN)
def test_a_cells_time_has_an_end(mark, answer, code: str):
    graded = mark(answer(half=textwrap.dedent(code), evens=EVENS), Limits(wall_seconds=90, cell_seconds=3))
    assert (graded.status, graded.marks["evens"].points) == (Status.TIMED_OUT, 2)
    assert graded.seconds < 90, "not the cell's time, but the whole notebook's had to end"


# Messages in no known form, which a grader has to read all the same, and cells that are judged by them.
FORGE = """
import json
kernel = get_ipython().kernel
kernel.session.pack = lambda what: json.dumps(what, default=str).encode()
def send(kind, content, **more):
    kernel.session.send(kernel.iopub_socket, kind, content, parent=kernel.get_parent(), **more)
"""
FORGED = {
    "a stream with no name": "send('stream', {'name': ['x'], 'text': 'y'})",
    "a stream of numbers": "send('stream', {'name': 5, 'text': 5})\nsend('stream', {'name': 'stdout', 'text': 7})",
    "half a character": "send('stream', {'name': 'stdout', 'text': chr(0xd800)})",
    "a status of a list": "send('status', b'[1]')\nsend('status', {'execution_state': {}})",
    "no message at all": "kernel.iopub_socket.send(b'x')\nkernel.iopub_socket.send(b'<IDS|MSG>')",
    "lists in lists": "send('display_data', {'data': eval('[' * 90 + ']' * 90), 'metadata': {}})",
    "a picture that is none": (
        "send('display_data', {'data': {'image/png': '\"><script>alert(1)</script><!-- by hand: half -->'},"
        " 'metadata': {}})"
    ),
}


@pytest.mark.parametrize("code", FORGED.values(), ids=FORGED)
def test_no_message_stops_the_grader(mark, answer, source, code: str):
    graded = mark(answer(half=FORGE + code + "\n" + HALF, evens=EVENS))
    assert [one.points for one in graded.marks.values()] == [3, 2], [cell.outputs for cell in graded.cells]
    page = feedback.page(graded, "ada", source, read_source(source))
    page.encode()
    assert "<script" not in page
    assert page.count("<!-- by hand: half -->") == 1


def test_a_frame_that_promises_gigabytes_takes_none(mark, answer):
    """The learner's code takes the place of the kernel's socket, and announces more than the grader may have."""
    code = """
        import json, os, socket, threading, time
        port = json.load(open("/run/connection.json"))["iopub_port"]
        path = f"/run/kernel/k-{port}"
        os.unlink(path)
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen()
        def serve():
            while True:
                there, _ = server.accept()
                there.sendall(b"\\xff" + bytes(8) + b"\\x7f\\x03\\0" + b"NULL".ljust(20, b"\\0") + bytes(32))
                there.recv(64, socket.MSG_WAITALL)
                ready = b"\\x05READY\\x0bSocket-Type\\0\\0\\0\\x03PUB"
                there.sendall(b"\\x04" + bytes([len(ready)]) + ready)
                time.sleep(0.2)
                there.sendall(b"\\x02" + (3_800_000_000).to_bytes(8, "big") + b"x" * 1000)
                kept.append(there)
        kept = []
        threading.Thread(target=serve, daemon=True).start()
        for name in os.listdir("/proc/self/fd"):
            try:
                one = socket.socket(fileno=os.dup(int(name)))
                if one.getsockname() == path:
                    one.shutdown(socket.SHUT_RDWR)
            except (OSError, ValueError):
                pass
        time.sleep(2)
    """
    graded = mark(answer(half=textwrap.dedent(code), evens=EVENS), Limits(wall_seconds=90, cell_seconds=5))
    assert (graded.marks["half"].points, graded.marks["evens"].points) == (0, 2)


def test_a_chain_of_helpers_is_read_once(lab_reference, monkeypatch):
    """Read again for each link, 1,500 cells took minutes, in the one process that all wait for."""
    chain = [f"def h{number}(n):\n    return h{number + 1}(n)" for number in range(1500)]
    cells = [{"cell_type": "code", "id": "half", "source": "def half(n):\n    return h0(n)"}]
    cells += [{"cell_type": "code", "source": source} for source in chain]
    reads = []
    read = answers._read
    monkeypatch.setattr(answers, "_read", lambda source: reads.append(source) or read(source))
    found = answers.answers(parse(json.dumps({"cells": cells}).encode()), lab_reference.cells)
    assert len(found["half"].parts) == 1501
    assert len(reads) < 10 * len(cells)


def test_no_more_code_is_searched_than_anyone_writes(lab_reference):
    """A large cell, of data say, is passed over, and the next one is not."""
    half = {"cell_type": "code", "source": "def half(n):\n    return n / 2"}
    large = {"cell_type": "code", "source": "#" * (answers.MAX_OTHERS + 1)}
    many = [{"cell_type": "code", "source": f"# {number}".ljust(answers.MAX_OTHERS // 50)} for number in range(50)]
    for cells, found in (([large, half], True), ([*many, half], False)):
        returned = parse(json.dumps({"cells": cells}).encode())
        assert ("half" in answers.answers(returned, lab_reference.cells)) == found
