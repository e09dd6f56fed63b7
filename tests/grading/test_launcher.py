"""Each run is a process of its own, however it was started, and nothing outlives who asked for it."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from edgelab.grading import launcher
from edgelab.grading.launcher import Forked, Spawned

ASK = ["--version"]
WORDS = ["-c", os.devnull, "-p", "no:cacheprovider", "--capture=no", "--grade-report", "report"]
ENVIRONMENT = {"PATH": os.defpath, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
SECONDS = 60


def server():
    """Return the process that forks for this one."""
    return next(child for child in psutil.Process().children() if launcher.__name__ in child.cmdline())


def alive(pid):
    """Return whether a process runs; one that nobody has asked for its end does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def soon(condition):
    """Return whether a condition comes true within a minute."""
    deadline = time.monotonic() + SECONDS
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return true


def ended(started):
    assert started.wait(SECONDS)
    started.kill()
    return started.code


@pytest.mark.parametrize("start", [Forked, Spawned])
def test_it_writes_to_the_log_of_its_own_folder(start, tmp_path):
    assert ended(start(ASK, tmp_path, {"PATH": os.defpath})) == "0"
    assert (tmp_path / "log.txt").read_text() == f"pytest {pytest.__version__}\n"


@pytest.mark.parametrize("start", [Forked, Spawned])
def test_its_environment_and_folder_are_its_own(start, tmp_path):
    (tmp_path / "here.py").write_text("import os\nprint(os.getcwd(), os.environ['HOME'], os.environ.get('USER'))\n")
    words = [*WORDS, "--rootdir", str(tmp_path), "here.py"]
    assert ended(start(words, tmp_path, {**ENVIRONMENT, "HOME": "/nowhere"})) == "5"  # there is no test in it
    assert f"{tmp_path} /nowhere None" in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize("start", [Forked, Spawned])
def test_it_can_be_killed(start, tmp_path):
    (tmp_path / "sleeps.py").write_text("import time\ntime.sleep(600)\n")
    started = start([*WORDS, "--rootdir", str(tmp_path), "sleeps.py"], tmp_path, ENVIRONMENT)
    assert not started.wait(0.2)
    assert alive(started.pid)
    started.kill()
    assert soon(lambda: not alive(started.pid))


def test_several_threads_may_ask_at_once(tmp_path):
    folders = [tmp_path / str(number) for number in range(8)]
    for folder in folders:
        folder.mkdir()
    with ThreadPoolExecutor(8) as threads:
        started = list(threads.map(lambda folder: Forked(ASK, folder, {}), folders))
    assert [ended(one) for one in started] == ["0"] * 8
    assert len({one.pid for one in started}) == 8
    assert all((folder / "log.txt").read_text().startswith("pytest") for folder in folders)


def test_as_many_may_run_as_there_are_threads(tmp_path):
    (tmp_path / "sleeps.py").write_text("import time\ntime.sleep(600)\n")
    words = [*WORDS, "--rootdir", str(tmp_path), str(tmp_path / "sleeps.py")]
    many = [Forked(words, tmp_path, ENVIRONMENT) for _ in range(45)]  # beyond socketserver's own limit
    assert all(alive(one.pid) for one in many)
    for one in many:
        one.kill()
    assert soon(lambda: not any(alive(one.pid) for one in many))


def test_a_server_that_has_gone_is_started_again(tmp_path):
    ended(Forked(ASK, tmp_path, {}))
    first = server()
    first.kill()
    first.wait()
    assert ended(Forked(ASK, tmp_path, {})) == "0"
    assert server() != first


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_grader_leaves_no_process_and_no_folder(end, tmp_path):
    (tmp_path / "sleeps.py").write_text("import time\ntime.sleep(600)\n")
    (tmp_path / "grader.py").write_text(
        "from pathlib import Path\n"
        "from edgelab.grading import launcher\n"
        f"started = launcher.Forked({[*WORDS, 'sleeps.py']}, Path({str(tmp_path)!r}), {ENVIRONMENT})\n"
        "print(started.pid, launcher._server[0].pid, launcher._server[1], flush=True)\n"
        "started.wait(600)\n"
    )
    command = [sys.executable, str(tmp_path / "grader.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as grader:
        assert grader.stdout is not None
        *pids, socket = grader.stdout.readline().split()
        assert all(alive(int(pid)) for pid in pids) and os.path.exists(socket)
        grader.send_signal(end)
    assert soon(lambda: not any(alive(int(pid)) for pid in pids))
    assert soon(lambda: not os.path.exists(os.path.dirname(socket)))


def test_a_servers_folder_is_held_and_no_other_grader_sweeps_it(tmp_path):
    ended(Forked(ASK, tmp_path, {}))
    with pytest.raises(BlockingIOError):
        launcher.hold(Path(launcher._server[1]).parent)


def test_where_there_are_no_process_groups_the_process_itself_is_ended(tmp_path, monkeypatch):
    """As on Windows, where nothing else is known of what a program has started."""
    (tmp_path / "here.py").write_text("import time\ntime.sleep(600)\n")
    started = Spawned([*WORDS, "--rootdir", str(tmp_path), "here.py"], tmp_path, ENVIRONMENT)
    monkeypatch.setattr(launcher, "os", SimpleNamespace(name="nt"))  # to the launcher alone
    assert not started.wait(0)
    started.kill()
    assert not alive(started.pid)
