"""Every way to points but the honest one earns nothing, stops nothing, and takes nothing from what was earned honestly.

Each attack is the code of the exercise `half` (3 points). `evens` is answered honestly beside it and keeps its 2.
"""

import copy
import os
import socket
import tempfile
import textwrap
from pathlib import Path

import psutil
import pytest

from edgelab import data
from edgelab.course.source import read_source
from edgelab.grading import feedback, launcher, sandbox
from edgelab.grading.kernel import OUTPUT_SECONDS
from edgelab.grading.limits import MB, Limits
from edgelab.grading.mark import Status
from edgelab.grading.relay import Relay

HALF = "def half(number):\n    return number * 0.5\n"
EVENS = "def evens(numbers):\n    return list(filter(lambda number: not number & 1, numbers))\n"
WRONG = "def half(number):\n    return 1.5\n"

CHEATS = {
    "hard-coded answers": WRONG,
    "asserts deleted": """
        import ast
        class Drop(ast.NodeTransformer):
            def visit_Assert(self, node):
                return ast.Pass()
        get_ipython().ast_transformers.append(Drop())
    """,
    "cells rewritten on their way": """
        get_ipython().input_transformers_cleanup.append(
            lambda lines: ["pass\\n"] if "assert half" in "".join(lines) or "show" in "".join(lines) else lines)
    """,
    "print and show patched": """
        import builtins, json
        from edgelab.course import hidden
        said = builtins.print
        builtins.print = lambda *words, **how: said("hidden => [1e-09, true]\\n✓ half: correct.")
        json.dumps = lambda *what, **how: "[1, true]"
        hidden.show = lambda *values, **how: None
    """,
    "a tolerance of one's own": """
        from edgelab.course import hidden
        hidden.show.__kwdefaults__["tolerance"] = 1e300
    """,
    "easy inputs": """
        import random
        SEED = 0
        random.Random = lambda *seed: type("Easy", (), {"uniform": lambda *_: 3.0, "randrange": lambda *_: 2})()
    """,
    "an object equal to all": """
        class Any(float):
            __eq__ = __ge__ = __le__ = lambda self, other: True
            __hash__ = float.__hash__
        def half(number):
            return Any(1.5)
    """,
    "a spy before each cell": """
        seen = []
        get_ipython().events.register("pre_run_cell", lambda info: seen.append(info.raw_cell))
        get_ipython().events.register("post_run_cell", lambda result: print(seen))
    """,
    "messages forged": """
        import threading, time
        def forge():
            kernel = get_ipython().kernel
            for _ in range(200):
                parent = kernel.get_parent()
                text = "hidden => [1e-09, [1.0]]\\n"
                for kind, content in (("stream", {"name": "stdout", "text": text}), ("stream", {}), ("status", {}),
                                      ("status", {"execution_state": "idle"}), ("error", {})):
                    kernel.session.send(kernel.iopub_socket, kind, content, parent=parent)
                time.sleep(0.05)
        threading.Thread(target=forge, daemon=True).start()
    """,
    "files that others would load": """
        from pathlib import Path
        for folder in (Path(), Path.home(), Path("/tmp"), Path.home() / ".ipython/profile_default/startup"):
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("conftest.py", "sitecustomize.py", "ipython_config.py", "pytest.ini", "json.py", "00.py"):
                (folder / name).write_text("raise SystemExit")
    """,
    "stored outputs replayed": """
        import json, os
        for here, _, names in os.walk("/"):
            for name in names:
                if name.endswith((".ipynb", ".jsonl")) and not here.startswith(("/proc", "/usr", "/root/.pyenv")):
                    print("FOUND", here, name)
    """,
    "instructions to nbval": "# NBVAL_SKIP\n# NBVAL_IGNORE_OUTPUT\n# NBVAL_RAISES_EXCEPTION\n" + WRONG,
    "a syntax error": "def half(number:\n    return number",
    "an exit": "import sys\nsys.exit()",
    "a question": "input('What is half of it?')",
    "a magic that hides": "%%capture\n" + WRONG,
    "outputs of no known form": """
        kernel = get_ipython().kernel
        for kind, content in (("display_data", {"data": [1], "metadata": {}}), ("error", {"ename": 5, "traceback": 5}),
                              ("stream", {"name": 5, "text": 5}), ("execute_result", {"data": {"text/plain": 5}})):
            kernel.session.send(kernel.iopub_socket, kind, content, parent=kernel.get_parent())
    """,
    "frames of whoever calls": """
        import gc, sys
        def half(number):
            frame = sys._getframe()
            while frame := frame.f_back:
                for found in (*frame.f_locals.values(), *frame.f_globals.values()):
                    if isinstance(found, str) and "hidden => " in found:
                        print(found)
            for found in gc.get_objects():
                if isinstance(found, dict) and "expected" in found:
                    return found["expected"]
            return 1.5
    """,
    "hidden cells run by oneself": """
        from edgelab.course import hidden
        def run(source, name, *, seed, answers):
            for _ in range(source.count("hidden.show")):
                print('\\nhidden => [1e300, {"array": NaN}]')
        hidden.run = run
    """,
    "numbers of one's own": """
        import numpy as np
        class Number(float):
            tolist = lambda self: {"array": [float("nan")]}
            __float__ = lambda self: float("inf")
            __index__ = lambda self: 0
            __reduce__ = lambda self: (float, (0.0,))
        class Array(np.ndarray):
            tolist = lambda self: {"type": "float"}
        def half(number):
            return Number(1.5) if number > 0 else np.zeros(1).view(Array)
    """,
    "a trace of each call": """
        import sys
        def trace(frame, event, value):
            if event == "return" and frame.f_code.co_name in ("as_json", "uniform"):
                print("hidden =>", value)
            return trace
        sys.settrace(trace)
    """,
    "an import of one's own": """
        import importlib.abc, importlib.util, sys
        class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
            def find_spec(self, name, path, target=None):
                return importlib.util.spec_from_loader(name, self) if name.startswith("edgelab.course") else None
            def create_module(self, spec):
                return None
            def exec_module(self, module):
                module.hidden = module
                module.run = module.show = lambda *what, **how: print("hidden => [1, true]")
        for name in [name for name in sys.modules if name.startswith("edgelab.course")]:
            del sys.modules[name]
        sys.meta_path.insert(0, Finder())
    """,
    "solutions lying about": """
        import os
        for here, folders, names in os.walk("/"):
            folders[:] = [name for name in folders if os.path.join(here, name) not in ("/proc", "/sys", "/usr")]
            for name in names:
                if name.endswith((".py", ".json", ".jsonl", ".pyc")) and "halves" in name:
                    print("FOUND", here, name)
    """,
    "the environment of whoever started it": """
        import os
        for pid in filter(str.isdigit, os.listdir("/proc")):
            for name in ("environ", "cmdline", "maps", "mountinfo"):
                try:
                    text = open(f"/proc/{pid}/{name}", errors="replace").read()
                except OSError:
                    continue
                if "report.jsonl" in text or "lab.ipynb" in text or ".reference" in text:
                    print("FOUND", pid, name)
    """,
    "another execution at the end": """
        import atexit, os, sys
        os.environ["EDGELAB_STARTED"] = "1"
        def again():
            print("hidden => [1, true]")
        atexit.register(again)
        get_ipython().user_ns["exit"] = again
        def half(number):
            get_ipython().run_cell("print('hidden => [1e-05, [1.5]]')")
            return 1.5
    """,
    "a cell of half a million statements": "x;" * 500_000 + "\n" + WRONG,
}


@pytest.mark.parametrize("code", CHEATS.values(), ids=CHEATS)
def test_a_cheat_earns_nothing(mark, answer, source, code: str):
    graded = mark(
        answer(half=textwrap.dedent(code) + ("" if "def half" in code or "%%" in code else "\n" + WRONG), evens=EVENS)
    )
    assert graded.marks["half"].points == 0
    assert graded.marks["evens"].points in (0, 2) if "print" in code or "forge" in code else 2
    assert not any("FOUND" in str(cell.outputs) for cell in graded.cells)
    assert not any("SECRET" in str(cell.outputs) for cell in graded.cells)
    assert "SECRET" not in feedback.page(graded, "mal", source, read_source(source))


HARMS = {
    "os._exit": ("import os\nos._exit(0)", Status.CRASHED),
    "a crash in the function": ("import os\ndef half(number):\n    os._exit(1)", Status.CRASHED),
    "a signal": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", Status.CRASHED),
    "a crash later": (
        "import os, threading\nthreading.Timer(0.3, os._exit, [1]).start()\nimport time\ntime.sleep(3)",
        Status.CRASHED,
    ),
    "an endless loop": ("while True:\n    pass", Status.TIMED_OUT),
    "an endless loop in the function": ("def half(number):\n    while True:\n        pass", Status.TIMED_OUT),
    "a loop that ignores interrupts": (
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True:\n    pass",
        Status.TIMED_OUT,
    ),
    "a loop that swallows interrupts": (
        "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass",
        Status.TIMED_OUT,
    ),
    "a loop that prints": (
        "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "while True:\n    print('x' * 1000)\n    time.sleep(0.01)",
        Status.TIMED_OUT,
    ),
    "a memory bomb": ("block = [bytearray(2**26) for _ in range(10_000)]", Status.OUT_OF_MEMORY),
    "a list too long": ("block = bytearray(2**40)", Status.OUT_OF_MEMORY),
    "memory in many processes": (
        "import os, time\n"
        "for _ in range(20):\n"
        "    if os.fork() == 0:\n"
        "        block = bytearray(os.urandom(2**20)) * 100\n"
        "        time.sleep(60)\n"
        "time.sleep(5)",
        Status.OUT_OF_MEMORY,
    ),
    "50 MB of output": ("for _ in range(50):\n    print('x' * 2**20)", Status.TOO_MUCH_OUTPUT),
    "a flood of strange messages": (
        "import time\nkernel = get_ipython().kernel\nend = time.monotonic() + 3\n"
        "while time.monotonic() < end:\n"
        "    for kind in ('status', 'x' * 10_000, 'stream'):\n"
        "        kernel.session.send(kernel.iopub_socket, kind, {}, parent=kernel.get_parent())\n",
        Status.TOO_MUCH_OUTPUT,
    ),
    "240 MB of buffers in a message": (
        "kernel = get_ipython().kernel\ncontent = {'data': {}, 'metadata': {}, 'transient': {}}\n"
        "kernel.session.send(kernel.iopub_socket, 'display_data', content, parent=kernel.get_parent(),\n"
        "                    buffers=[bytes(240 * 2**20)])\n",
        Status.TOO_MUCH_OUTPUT,
    ),
    "a message of 240 frames": (
        "kernel = get_ipython().kernel\ncontent = {'data': {}, 'metadata': {}, 'transient': {}}\n"
        "kernel.session.send(kernel.iopub_socket, 'display_data', content, parent=kernel.get_parent(),\n"
        "                    buffers=[bytes(8 * 2**20)] * 240)\n",
        Status.TOO_MUCH_OUTPUT,
    ),
    "buffers in many small messages": (
        "kernel = get_ipython().kernel\ncontent = {'data': {}, 'metadata': {}, 'transient': {}}\n"
        "for _ in range(60):\n"
        "    kernel.session.send(kernel.iopub_socket, 'display_data', content, parent=kernel.get_parent(),\n"
        "                        buffers=[bytes(2**20)], metadata={'x': 'y' * 2**16})\n",
        Status.TOO_MUCH_OUTPUT,
    ),
    "one message of 50 MB": ("print('x' * (50 * 2**20))", Status.TOO_MUCH_OUTPUT),
}


@pytest.mark.parametrize(("code", "status"), HARMS.values(), ids=HARMS)
def test_harm_is_named_and_the_other_exercise_keeps_its_points(mark, answer, code: str, status: Status):
    graded = mark(answer(half=code, evens=EVENS))
    assert (graded.status, graded.marks["half"].points, graded.marks["evens"].points) == (status, 0, 2)


def test_one_message_that_is_too_large_is_not_waited_for(mark, answer):
    for code in (HARMS["one message of 50 MB"][0], "raise ValueError('x' * (20 * 2**20))"):
        graded = mark(answer(half=code, evens=EVENS))
        assert (graded.status, graded.marks["evens"].points) == (Status.TOO_MUCH_OUTPUT, 2)
        assert graded.seconds < OUTPUT_SECONDS


# The one place that both sides see is the kernel's sockets, in a folder of 64 kB that is inside the sandbox.
ON_THE_BORDER = {
    "folders a thousand deep": (
        "import os\nfor _ in range(1800):\n    try:\n        os.mkdir('d')\n        os.chdir('d')\n"
        "    except OSError:\n        break\nos.chdir('/')\n"
    ),
    "a large file": "try:\n    open('x', 'wb').write(bytes(2**20))\nexcept OSError:\n    pass\n",
    "files without a name": (
        "import os\nkept = []\nfor number in range(100):\n    try:\n        file = open(f'{number}', 'wb')\n"
        "        file.write(bytes(2**20))\n        file.flush()\n    except OSError:\n        pass\n"
        "    os.unlink(f'{number}')\n    kept.append(file)\n"
    ),
    "links to the host": "import os\nfor n in range(6, 9):\n    os.symlink('/run', f'k-{n}')\n",
    "strange names": "import os\nfor name in ('1²2', '-rf', '*', 'a\\nb'):\n    open(name, 'w')\n",
}


@pytest.mark.parametrize("code", ON_THE_BORDER.values(), ids=ON_THE_BORDER)
def test_the_border_is_small_and_nothing_there_harms(mark, answer, monkeypatch, code: str):
    scratch = Path(tempfile.mkdtemp(dir=launcher.SCRATCH))
    monkeypatch.setattr(launcher, "SCRATCH", scratch)
    graded = mark(answer(half=f"import os\nos.chdir('/run/kernel')\n{code}{HALF}", evens=EVENS))
    assert {name: one.points for name, one in graded.marks.items()} == {"half": 3, "evens": 2}
    scratch.rmdir()  # nothing is left in it


def test_a_socket_that_was_replaced_by_a_link_is_not_followed(tmp_path):
    """Not to another socket of the host's, which would be told things, either."""
    with socket.socket(socket.AF_UNIX) as precious:
        precious.bind(str(tmp_path / "precious"))
        precious.listen()
        inside = tmp_path / "inside"
        inside.mkdir()
        (inside / "k-1").symlink_to(tmp_path / "precious")
        (inside / "k-2").write_text("a file")
        with socket.socket(socket.AF_UNIX) as kernels:
            kernels.bind(str(inside / "k-3"))
            kernels.listen()
            relay = Relay(tmp_path / "r", inside / "k", os.getpid(), [1, 2, 3])
            relay.allow(10)
            for port in (1, 2):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(f"{tmp_path}/r-{port}")
                    assert client.recv(1) == b""
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"{tmp_path}/r-3")
                theirs, _address = kernels.accept()
                with theirs:
                    client.sendall(b"x" * 1000)
                    assert len(theirs.recv(1000, socket.MSG_WAITALL)) == 1000
                    theirs.sendall(b"12345")
                    assert client.recv(5, socket.MSG_WAITALL) == b"12345"
                    assert not relay.overflowed
                    theirs.sendall(b"123456")
                    assert client.recv(1) == b""
                    assert relay.overflowed
            relay.close()
        precious.settimeout(0)
        with pytest.raises(BlockingIOError):
            precious.accept()


def test_many_cells_print_no_more_than_a_run_may(mark, answer):
    """150 copies of an exercise's cell, each within what a cell may print."""
    notebook = answer(half=f"{HALF}\nprint('x' * 1_900_000)", evens=EVENS)
    at = next(place for place, cell in enumerate(notebook["cells"]) if cell.get("id") == "half")
    copies = [{**copy.deepcopy(notebook["cells"][at]), "id": f"copy-{number}"} for number in range(150)]
    notebook["cells"][at + 1 : at + 1] = copies
    graded = mark(notebook, Limits(wall_seconds=90))
    kept = sum(len(str(cell.outputs)) for cell in graded.cells)
    assert kept < 1.5 * Limits().outputs
    assert graded.status == Status.TOO_MUCH_OUTPUT


def test_a_page_has_an_end(mark, answer, source):
    notebook = answer(half=f"{HALF}\nfor n in range(70):\n    print('x' * 19_000)", evens=EVENS)
    at = next(place for place, cell in enumerate(notebook["cells"]) if cell.get("id") == "half")
    copies = [{**copy.deepcopy(notebook["cells"][at]), "id": f"copy-{number}"} for number in range(90)]
    notebook["cells"][at + 1 : at + 1] = copies
    page = feedback.page(mark(notebook), "ada", source, read_source(source))
    assert len(page) < 2 * feedback.MAX_PAGE


# What the code can reach: each line is tried, and prints what came of it.
PROBE = """
import os, socket, subprocess, ctypes, sys
from pathlib import Path

def attempt(name, action):
    try:
        print(name, "->", action())
    except BaseException as error:
        print(name, "->", type(error).__name__)

def strange(folder):
    # what is seen there, and leads to nothing that the sandbox exposes on purpose
    names = os.listdir(folder) if os.path.isdir(folder) else ()
    return [name for name in names if not any(Path(path).is_relative_to(Path(folder, name)) for path in EXPOSED)]

def secrets_of_the_parent():
    try:
        return Path("/proc/1/environ").read_bytes().count(b"SECRET")
    except PermissionError:
        return 0

def is_root():
    try:
        os.setuid(0)
    except OSError:
        pass
    return os.getuid() == 0

attempt("user", os.getuid)
attempt("root's home", lambda: strange("/root"))
attempt("the grader's home", lambda: strange("GRADER"))
attempt("homes", lambda: strange("/home"))
attempt("passwords", lambda: Path("/etc/shadow").read_text())
attempt("the host's /tmp", lambda: [name for name in strange("/tmp") if not name.startswith("edgelab-grade-")])
notebooks = Path("/tmp").rglob("*.ipynb")
attempt("the notebook", lambda: [path for path in notebooks if not any(map(path.is_relative_to, EXPOSED))])
attempt("the data sets", lambda: any(name.startswith("signs") for name in os.listdir(os.environ["EDGELAB_DATA"])))
attempt("the package", lambda: bool(__import__("edgelab.course.hidden")))
attempt("the course", lambda: os.listdir(Path(sys.modules["edgelab"].__file__).parent.parent))
attempt("writing the package", lambda: (Path(sys.modules["edgelab"].__file__).parent / "x").write_text("x"))
attempt("writing the root", lambda: Path("/x").write_text("x"))
attempt("the network", lambda: socket.create_connection(("127.0.0.1", PORT), 1))
attempt("another host", lambda: socket.create_connection(("192.0.2.1", 80), 1))
attempt("a name", lambda: socket.getaddrinfo("example.org", 80))
attempt("interfaces", lambda: [name for _, name in socket.if_nameindex()])
attempt("the environment", lambda: sorted(name for name in os.environ if "SECRET" in name))
attempt("the parent's environment", secrets_of_the_parent)
attempt("processes", lambda: len([name for name in os.listdir("/proc") if name.isdigit()]) < 20)
attempt("becoming root", is_root)
attempt("su", lambda: subprocess.run(["su", "-c", "true"], capture_output=True, input=b"").returncode != 0)
libc = ctypes.CDLL(None, use_errno=True)
attempt("a user namespace", lambda: libc.unshare(0x10000000))
attempt("shared memory", lambda: libc.shmget(0, 4096, 0o1600))
attempt("a file in memory", lambda: os.memfd_create("x"))
attempt("tracing", lambda: libc.ptrace(0, 0, 0, 0))
attempt("disk", lambda: [Path(f"/tmp/{n}").write_bytes(bytes(2**24)) for n in range(40)] and "full")
attempt("a large file", lambda: Path.home().joinpath("x").write_bytes(bytes(2**28)))
attempt("the devices' folder", lambda: Path("/dev/x").write_bytes(b"x"))

def bomb():
    children = []
    try:
        for _ in range(400):
            child = os.fork()
            if child == 0:
                import time
                time.sleep(30)
                os._exit(0)
            children.append(child)
    except OSError as error:
        return f"{type(error).__name__} below 400"
    finally:
        for child in children:
            os.kill(child, 9)
attempt("a fork bomb", bomb)
"""
FOUND = """
root's home -> []
the grader's home -> []
homes -> ['learner']
passwords -> FileNotFoundError
the host's /tmp -> []
the notebook -> []
the data sets -> True
the package -> True
writing the package -> OSError
writing the root -> OSError
the network -> ConnectionRefusedError
another host -> OSError
a name -> gaierror
interfaces -> ['lo']
the environment -> []
the parent's environment -> 0
processes -> True
becoming root -> False
su -> True
a user namespace -> -1
shared memory -> -1
a file in memory -> OSError
tracing -> -1
disk -> OSError
a large file -> OSError
the devices' folder -> OSError
a fork bomb -> BlockingIOError below 400
"""


def test_the_sandbox_holds(mark, answer, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "x")
    data.load("signs")
    with socket.create_server(("127.0.0.1", 0)) as server:
        # This checkout, Python and the data sets may lie in /tmp, or in the grader's home.
        exposed = [str(path) for path in sandbox.exposed()]
        code = PROBE.replace("PORT", str(server.getsockname()[1])).replace("GRADER", str(Path.home()))
        code = code.replace("EXPOSED", repr(exposed))
        graded = mark(answer(half=code + HALF, evens=EVENS), Limits(cell_seconds=90, disk=64 * MB, processes=200))
    printed = next(cell for cell in graded.cells if cell.id == "half").printed
    lines = dict(line.split(" -> ") for line in printed.splitlines())
    assert int(lines.pop("user")) > 0
    assert not {"labs", "tests", ".git", "shared"} & set(
        lines.pop("the course").strip("[]").replace("'", "").split(", ")
    )
    assert lines == dict(line.split(" -> ") for line in FOUND.strip().splitlines())
    assert [mark.points for mark in graded.marks.values()] == [3, 2]


def test_no_process_outlives_its_run(mark, answer):
    code = "import subprocess\nfor _ in range(3):\n    subprocess.Popen(['sleep', '98765'], start_new_session=True)\n"
    assert mark(answer(half=code + HALF, evens=EVENS)).marks["half"].points == 3
    left = [process for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == ["sleep", "98765"]]
    assert left == []


# --- notebooks that were tampered with


def code_cells(notebook: dict) -> list[dict]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def forge_outputs(notebook: dict) -> None:
    for cell in code_cells(notebook):
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "✓ half: correct."}]
        cell["execution_count"] = 7


def edit_checks(notebook: dict) -> None:
    for cell in code_cells(notebook):
        if cell["id"].endswith("-check"):
            cell["source"] = "print('✓')"


def add_hidden_cells(notebook: dict) -> None:
    for name in ("half-hidden", "half-hidden-negative", "edgelab-seed", "setup"):
        cell = copy.deepcopy(code_cells(notebook)[0])
        mark = {"name": name, "role": "hidden", "exercise": "half", "points": 100}
        cell |= {"id": name, "source": "print('x')", "metadata": {"edgelab": mark, "tags": ["nbval-skip"]}}
        notebook["cells"].append(cell)


def raise_points(notebook: dict) -> None:
    for cell in notebook["cells"]:
        cell["metadata"].setdefault("edgelab", {})["points"] = 1000
        cell["metadata"]["tags"] = ["nbval-ignore-output", "raises-exception", "nbval-skip"]


def delete_all(notebook: dict) -> None:
    notebook["cells"] = []


TAMPERED = {
    "outputs forged": (forge_outputs, Status.GRADED),
    "checks edited": (edit_checks, Status.GRADED),
    "hidden cells of one's own": (add_hidden_cells, Status.GRADED),
    "points raised": (raise_points, Status.GRADED),
    "an empty notebook": (delete_all, Status.MISSING),
    "untouched": (lambda notebook: None, Status.GRADED),
}


@pytest.mark.parametrize(("tamper", "status"), TAMPERED.values(), ids=TAMPERED)
def test_tampering_earns_nothing(mark, notebook, tamper, status: Status):
    tamper(notebook)
    graded = mark(notebook)
    assert (graded.status, [mark.points for mark in graded.marks.values()]) == (status, [0, 0])


# --- and the other way: what deserves its points gets them


def as_it_is(notebook: dict) -> dict:
    return notebook


def without_ids(notebook: dict) -> dict:
    for cell in notebook["cells"]:
        del cell["id"]
    return notebook


def reordered(notebook: dict) -> dict:
    notebook["cells"].reverse()
    return notebook


def split(notebook: dict) -> dict:
    place = next(place for place, cell in enumerate(notebook["cells"]) if cell["id"] == "half")
    first = copy.deepcopy(notebook["cells"][place])
    first |= {"id": "0a1b2c3d", "source": "factor = 0.5"}
    notebook["cells"][place]["source"] = "def half(number):\n    return number * factor"
    notebook["cells"].insert(place, first)
    return notebook


def checks_deleted(notebook: dict) -> dict:
    notebook["cells"] = [cell for cell in notebook["cells"] if not cell["metadata"].get("edgelab", {}).get("points")]
    return notebook


def with_debugging(notebook: dict) -> dict:
    for cell in notebook["cells"]:
        if cell["id"] == "half":
            cell["source"] = HALF.replace("    return", "    print('half of', number, end=' ')\n    return")
    return notebook


def with_marks(notebook: dict) -> dict:
    for cell in notebook["cells"]:
        if cell["id"] == "half":
            cell["source"] = HALF.replace("    return", "    print('=> ', number / 2)\n    return")
    return notebook


def with_names_of_hidden_cells(notebook: dict) -> dict:
    for cell in notebook["cells"]:
        if cell["id"] == "half":
            cell["source"] = "def rng(number):\n    return number / 2\n\n\ndef half(number):\n    return rng(number)"
    return notebook


HONEST = {
    "a pool of processes": """
        import multiprocessing
        def _one(number):
            return number / 2
        def half(number):
            with multiprocessing.get_context("fork").Pool(2) as pool:
                return pool.map(_one, [number])[0]
    """,
    "another process": """
        import subprocess, sys
        def half(number):
            done = subprocess.run([sys.executable, "-c", f"print({number!r} / 2)"], capture_output=True, text=True)
            return float(done.stdout)
    """,
    "a thread": """
        from concurrent.futures import ThreadPoolExecutor
        def half(number):
            with ThreadPoolExecutor() as threads:
                return threads.submit(lambda: number / 2).result()
    """,
    "an object that is called": """
        class Half:
            def __call__(self, number):
                return number / 2
        half = Half()
    """,
    "a progress bar": """
        def half(number):
            for step in range(30):
                print(f"\\r{step} of 30", end="")
            return number / 2
    """,
    "another character for each letter": """
        def ｈａｌｆ(número):
            return número / 2
    """,
    "await": """
        import asyncio
        await asyncio.sleep(0)
        def half(number):
            return number / 2
    """,
    "a command and its output": """
        files = !ls /
        def half(number):
            return number / 2
        !echo done
    """,
    "lines as on Windows": "def half(number):\r\n    return number / 2\r\n",
}


@pytest.mark.parametrize("code", HONEST.values(), ids=HONEST)
def test_unusual_dress_costs_nothing(mark, answer, code: str):
    graded = mark(answer(half=textwrap.dedent(code), evens=EVENS))
    assert [mark.points for mark in graded.marks.values()] == [3, 2], [cell.outputs for cell in graded.cells]


@pytest.mark.parametrize(
    "change",
    [as_it_is, without_ids, reordered, split, checks_deleted, with_debugging, with_marks, with_names_of_hidden_cells],
    ids=lambda change: change.__name__.replace("_", " "),
)
def test_a_correct_solution_gets_all_points(mark, answer, change):
    graded = mark(change(answer(half=HALF, evens=EVENS)))
    assert (graded.status, [mark.points for mark in graded.marks.values()]) == (Status.GRADED, [3, 2])


@pytest.mark.parametrize(
    ("code", "points", "verdict"),
    [
        ("def half(number):\n    return abs(number) / 2", 0, "partly"),
        ("def half(number):\n    return number // 2 + 0.5", 0, "wrong"),
        ("def half(number):\n    return number / 2 if number < 0 else 1.5", 1, "partly"),
        ("def half(number):\n    return number.half", 0, "error"),
        ("half = 1.5", 0, "error"),
    ],
    ids=["negative numbers", "whole numbers", "negative numbers alone", "an error", "no function"],
)
def test_a_mistake_scores_what_it_should(mark, answer, code: str, points: int, verdict: str):
    graded = mark(answer(half=code, evens=EVENS))
    assert (graded.marks["half"].points, graded.marks["half"].verdict) == (points, verdict)
    assert graded.marks["evens"].verdict == "correct"
