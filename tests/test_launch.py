"""`edgelab lab`: the learner's work is never overwritten, and a page is served at the first try."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from edgelab.course import launch
from edgelab.errors import EdgelabError


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    """Ship two labs in two languages."""
    folder = tmp_path / "shipped"
    (folder / "es").mkdir(parents=True)
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "00_start-checkpoint.ipynb").write_text("not a lab")
    for name in ("00_start.ipynb", "01_next.ipynb", "es/00_start.ipynb", "es/01_next.ipynb"):
        (folder / name).write_text(f"{name}, version 1")
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "edge-labs"


def update(shipped: Path, name: str) -> None:
    (shipped / name).write_text(f"{name}, version 2")


def test_a_first_start_copies_every_lab(shipped: Path, mine: Path):
    copied = launch.copy_labs(mine, shipped=shipped)
    assert copied.new == ("00_start.ipynb", "01_next.ipynb", "es/00_start.ipynb", "es/01_next.ipynb")
    assert (mine / "es" / "01_next.ipynb").read_text() == "es/01_next.ipynb, version 1"
    assert (mine / ".edgelab" / "shipped.json").exists()
    assert not (mine / ".ipynb_checkpoints").exists()


def test_a_second_start_changes_nothing(shipped: Path, mine: Path):
    launch.copy_labs(mine, shipped=shipped)
    assert launch.copy_labs(mine, shipped=shipped) == launch.Copied((), (), ())


def test_an_untouched_lab_is_updated(shipped: Path, mine: Path):
    launch.copy_labs(mine, shipped=shipped)
    update(shipped, "01_next.ipynb")
    assert launch.copy_labs(mine, shipped=shipped).updated == ("01_next.ipynb",)
    assert (mine / "01_next.ipynb").read_text() == "01_next.ipynb, version 2"
    assert launch.copy_labs(mine, shipped=shipped) == launch.Copied((), (), ())


def test_a_touched_lab_is_kept_through_every_update(shipped: Path, mine: Path):
    launch.copy_labs(mine, shipped=shipped)
    (mine / "01_next.ipynb").write_text("my own work")
    assert launch.copy_labs(mine, shipped=shipped).kept == ()  # nothing newer: nothing to say
    update(shipped, "01_next.ipynb")
    for _ in range(2):
        copied = launch.copy_labs(mine, shipped=shipped)
        assert (copied.updated, copied.kept) == ((), ("01_next.ipynb",))
        assert (mine / "01_next.ipynb").read_text() == "my own work"
    assert launch.describe(copied, mine) == [
        "Your own work was kept, although newer versions exist: 01_next.ipynb.",
        f"To get a new version beside yours: edgelab lab {mine} --new 01_next",
    ]


@pytest.mark.parametrize("state", [None, b"{", b"{}"], ids=["lost", "damaged", "emptied"])
def test_a_lab_of_unknown_origin_is_kept(shipped: Path, mine: Path, state: bytes | None, capsys):
    launch.copy_labs(mine, shipped=shipped)
    record = mine / ".edgelab" / "shipped.json"
    record.unlink() if state is None else record.write_bytes(state)
    (mine / "00_start.ipynb").write_text("my own work")
    copied = launch.copy_labs(mine, shipped=shipped)
    assert copied == launch.Copied((), (), ("00_start.ipynb",))
    assert (mine / "00_start.ipynb").read_text() == "my own work"
    assert ("damaged" in capsys.readouterr().err) is (state == b"{")


def test_a_deleted_lab_comes_back_fresh(shipped: Path, mine: Path):
    launch.copy_labs(mine, shipped=shipped)
    (mine / "01_next.ipynb").unlink()
    assert launch.copy_labs(mine, shipped=shipped).new == ("01_next.ipynb",)


def test_a_new_version_lies_beside_the_learners_own(shipped: Path, mine: Path):
    launch.copy_labs(mine, shipped=shipped)
    update(shipped, "01_next.ipynb")
    written = launch.copy_new("01_next", mine, shipped=shipped) + launch.copy_new("01_next", mine, shipped=shipped)
    assert [path.relative_to(mine).as_posix() for path in written] == [
        "01_next.new.ipynb",
        "es/01_next.new.ipynb",
        "01_next.new-2.ipynb",
        "es/01_next.new-2.ipynb",
    ]
    assert written[0].read_text() == "01_next.ipynb, version 2"
    assert (mine / "01_next.ipynb").read_text() == "01_next.ipynb, version 1"


def test_an_unknown_lab_is_one_sentence(shipped: Path, mine: Path):
    with pytest.raises(EdgelabError, match=r"There is no lab 99_x. The labs are: 00_start, 01_next."):
        launch.copy_new("99_x", mine, shipped=shipped)


def test_a_folder_that_cannot_be_written_is_one_sentence(shipped: Path, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(EdgelabError, match=r"The folder .*file cannot be written .*Choose another folder\."):
        launch.copy_labs(tmp_path / "file", shipped=shipped)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_package_without_labs_is_one_sentence(tmp_path: Path, mine: Path):
    with pytest.raises(EdgelabError, match="No lab was found in"):
        launch.copy_labs(mine, shipped=tmp_path)


@pytest.fixture
def busy():
    """Return a port that another program listens on."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_busy_port_that_was_asked_for_is_refused(busy: int):
    with pytest.raises(EdgelabError, match=f"Port {busy} is busy"):
        launch.choose_port(busy)


def test_a_busy_default_port_gives_way_to_the_next(busy: int, monkeypatch, capsys):
    monkeypatch.setattr(launch, "FIRST_PORT", busy)
    chosen = launch.choose_port(None)
    assert busy < chosen < busy + 100
    assert capsys.readouterr().out == f"Port {busy} is busy; using {chosen}.\n"


def test_a_free_port_is_taken_as_it_is(busy: int):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    assert launch.choose_port(free) == free


def test_jupyter_serves_this_computer_only_and_keeps_its_token(mine: Path):
    arguments = launch.jupyter_arguments(mine, "es", 9000, browser=False)
    assert "--ServerApp.ip=127.0.0.1" in arguments
    assert "--LabApp.default_url=/lab/tree/es/00_start.ipynb" in arguments
    opened = launch.jupyter_arguments(mine, "es", 9000, page="es/index.md")
    assert "--LabApp.default_url=/lab/tree/es/index.md" in opened
    assert "--no-browser" in arguments
    assert "--no-browser" not in launch.jupyter_arguments(mine, "en", 9000)
    assert not any("token" in argument or "password" in argument for argument in arguments)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no root user on this system")
@pytest.mark.parametrize(("user", "allowed"), [(0, True), (1000, False)], ids=["root", "anybody else"])
def test_only_root_is_allowed_root(mine: Path, monkeypatch, user: int, allowed: bool):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert ("--allow-root" in launch.jupyter_arguments(mine, "en", 9000)) is allowed


def test_jupyterlab_defaults_ask_nothing_of_the_network():
    settings = json.loads((Path(launch.__file__).parent / "jupyterlab.json").read_text())
    notification = settings["@jupyterlab/apputils-extension:notification"]
    assert notification == {"fetchNews": "false", "checkForUpdates": False}


def test_a_page_is_served_behind_a_token(tmp_path: Path):
    labs = launch.shipped_labs()
    if not list(labs.glob("00_*.ipynb")):
        pytest.fail(f"no lab has been built in {labs}")
    folders = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "edgelab", "lab", "mine", "--no-browser", "--port", str(port)]
    log = (tmp_path / "log").open("w")
    server = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, **folders},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        address = _wait_for_address(server, tmp_path / "log", port)
        with urllib.request.urlopen(address, timeout=30) as page:
            assert page.status == 200
            assert "index.md" in page.url
        assert address.startswith(f"http://127.0.0.1:{port}/")
        with urllib.request.urlopen(address.split("?")[0], timeout=30) as page:
            assert "/login" in page.url
        assert (tmp_path / "mine" / "es" / "00_start.ipynb").exists()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        log.close()


def _wait_for_address(server: subprocess.Popen, log: Path, port: int) -> str:
    """Return the address with its token, as the server prints it a moment before it listens."""
    end = time.monotonic() + 60
    while time.monotonic() < end and server.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\S+token=\w+", log.read_text())
        with socket.socket() as client:
            if found and client.connect_ex(("127.0.0.1", port)) == 0:
                return found[0]
        time.sleep(0.1)
    raise AssertionError(f"no server: {log.read_text()}")
