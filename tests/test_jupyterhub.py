"""A class on a JupyterHub: every learner gets the labs, keeps their own work, and does not see another's."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from traitlets.config import PyFileConfigLoader

ROOT = Path(__file__).parents[1]
HUB = ROOT / "jupyterhub"
PASSWORD = "eight-or-more"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
START_SECONDS = 180
IDLE = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
WORK = """async () => {
    const notebook = jupyterapp.shell.currentWidget.content;
    const source = 'import edgelab; print(edgelab.__name__, 6 * 7)';
    notebook.model.sharedModel.insertCell(0, {cell_type: 'code', source});
    notebook.activeCellIndex = 0;
    await jupyterapp.commands.execute('notebook:run-cell');
}"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch):
    """Return the trial hub's configuration, as JupyterHub loads it; its files go to a folder of the test."""
    monkeypatch.setenv("PATH", os.environ["PATH"])  # which the configuration adds to
    monkeypatch.setenv("EDGELAB_HUB", str(tmp_path / "hub"))
    monkeypatch.setenv("EDGELAB_HUB_PASSWORD", PASSWORD)
    monkeypatch.chdir(tmp_path)  # it is started from anywhere
    return PyFileConfigLoader(str(HUB / "jupyterhub_config.py")).load_config()


def start(config, home: Path, path: str) -> subprocess.CompletedProcess:
    """Run what the hub runs to start a learner's server, with another program in the server's place."""
    environment = {**os.environ, "HOME": str(home), "PATH": path}
    command = [*config.Spawner.cmd, "--port=1234"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.fixture
def server(tmp_path: Path) -> str:
    """Return a PATH on which `jupyterhub-singleuser` says how it was called."""
    program = tmp_path / "bin" / "jupyterhub-singleuser"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "server $*"\n')
    program.chmod(0o755)
    return os.pathsep.join([str(program.parent), str(Path(sys.executable).parent), os.environ["PATH"]])


def test_a_start_copies_the_labs_and_the_next_one_overwrites_no_work(config, server: str, tmp_path: Path):
    home = tmp_path / "ada"
    home.mkdir()
    assert start(config, home, server).stdout.splitlines()[-1] == "server --port=1234"
    folder = home / config.Spawner.notebook_dir.removeprefix("~/")
    page = folder / config.Spawner.default_url.removeprefix("/lab/tree/")
    assert page.is_file()
    shipped = (ROOT / "labs" / "01_edge_budget.ipynb").read_bytes()
    assert (folder / "01_edge_budget.ipynb").read_bytes() == shipped
    (folder / "01_edge_budget.ipynb").write_text("her work")
    (folder / "es" / "00_start.ipynb").unlink()
    assert start(config, home, server).stdout.splitlines()[-1] == "server --port=1234"
    assert (folder / "01_edge_budget.ipynb").read_text() == "her work"
    assert (folder / "es" / "00_start.ipynb").is_file()


def test_a_server_starts_though_the_labs_could_not_be_copied(config, server: str, tmp_path: Path):
    home = tmp_path / "ada"
    (home / "edge-labs").mkdir(parents=True)
    (home / "edge-labs" / ".edgelab").write_text("a file where the folder must be")
    done = start(config, home, server)
    assert done.stdout.splitlines()[-1] == "server --port=1234"
    assert "cannot be written" in done.stderr


def test_a_hub_to_try_is_on_this_computer_alone_and_asks_for_a_password(config, tmp_path: Path, monkeypatch):
    assert config.JupyterHub.bind_url.startswith("http://127.0.0.1:")
    assert config.SharedPasswordAuthenticator.user_password == PASSWORD
    assert (tmp_path / "hub").stat().st_mode & 0o077 == 0
    monkeypatch.setenv("EDGELAB_HUB_PASSWORD", "short")
    with pytest.raises(SystemExit, match="EDGELAB_HUB_PASSWORD="):
        PyFileConfigLoader(str(HUB / "jupyterhub_config.py")).load_config()


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def hub(tmp_path: Path):
    """Start the trial hub in a folder of the test, and yield its address."""
    public, api, inner = free_ports(3)
    url = f"http://127.0.0.1:{public}"
    environment = os.environ | {"EDGELAB_HUB": str(tmp_path / "hub"), "EDGELAB_HUB_PASSWORD": PASSWORD}
    environment |= {"EDGELAB_HUB_URL": url}
    options = [f"--JupyterHub.hub_port={inner}", f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{api}"]
    command = [sys.executable, "-m", "jupyterhub", "-f", str(HUB / "jupyterhub_config.py"), *options]
    command.append("--Spawner.args=--LabApp.expose_app_in_browser=True")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--Spawner.args=--allow-root")
    log = tmp_path / "hub.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=out, stderr=out, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"{url}/hub/health"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)  # it stops the learners' servers, which lead groups of their own
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def log_in(browser, url: str, name: str):
    """Return a page on which the learner `name` has logged in and sees the page with all labs."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.goto(f"{url}/hub/login")
    page.fill("#username_input", name)
    page.fill("#password_input", PASSWORD)
    page.click("#login_submit")
    wait_for_lab(page)
    return page


def wait_for_lab(page) -> None:
    page.wait_for_url("**/lab/**", timeout=1000 * START_SECONDS)
    page.wait_for_selector(".jp-RenderedMarkdown h1", timeout=1000 * START_SECONDS)


def notebook_of(page, url: str, name: str, path: str):
    """Return what a learner's browser gets when it asks for a file of the learner `name`: status, text."""
    reply = page.request.get(f"{url}/user/{name}/api/contents/{path}")
    return reply.status, reply.text()


@pytest.mark.long
def test_two_learners_work_beside_each_other_in_a_browser(hub: str, tmp_path: Path):
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    artefacts = ROOT / "test-artefacts"
    artefacts.mkdir(exist_ok=True)
    homes = tmp_path / "hub" / "homes"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        ada, bob = (log_in(browser, hub, name) for name in ("ada", "bob"))
        ada.screenshot(path=artefacts / "jupyterhub-ada.png")
        shown = ada.text_content(".jp-RenderedMarkdown")
        assert "Your machine, a model, and a clock" in shown

        # Ada works: she writes a cell into a lab, runs it in her own kernel, and saves.
        ada.goto(f"{hub}/user/ada/lab/tree/01_edge_budget.ipynb")
        ada.wait_for_function(IDLE, timeout=1000 * START_SECONDS)
        ada.evaluate(WORK)
        ada.wait_for_selector(".jp-OutputArea-output:has-text('edgelab 42')", timeout=1000 * START_SECONDS)
        ada.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
        work = homes / "ada" / "edge-labs" / "01_edge_budget.ipynb"
        shipped = (ROOT / "labs" / "01_edge_budget.ipynb").read_bytes()
        deadline = time.monotonic() + 60
        while work.read_bytes() == shipped and time.monotonic() < deadline:
            time.sleep(0.2)
        ada.screenshot(path=artefacts / "jupyterhub-lab.png")
        hers = work.read_bytes()
        assert hers != shipped
        assert any(cell.get("outputs") for cell in json.loads(hers)["cells"])

        # Bob's copy is untouched, and neither gets at the other's server.
        assert (homes / "bob" / "edge-labs" / "01_edge_budget.ipynb").read_bytes() == shipped
        assert notebook_of(ada, hub, "ada", "01_edge_budget.ipynb")[0] == 200
        for page, other in ((bob, "ada"), (ada, "bob")):
            status, text = notebook_of(page, hub, other, "01_edge_budget.ipynb")
            assert status in (403, 404)
            assert "edge_budget" not in text
        bob.goto(f"{hub}/user/ada/lab")
        assert bob.locator(".jp-Notebook, #jp-main-dock-panel").count() == 0
        bob.screenshot(path=artefacts / "jupyterhub-refused.png")

        # Her server stops and starts again: her work is as she left it.
        ada.goto(f"{hub}/hub/home")
        ada.click("#stop")
        deadline = time.monotonic() + START_SECONDS
        while ada.goto(f"{hub}/hub/home") and ada.locator("#stop").is_visible():
            assert time.monotonic() < deadline, "her server does not stop"
            time.sleep(1)
        ada.goto(f"{hub}/hub/spawn/ada")
        wait_for_lab(ada)
        assert work.read_bytes() == hers
        browser.close()
