"""The labs as a learner sees them: JupyterLab in a real Chromium, every cell run, every control moved.

Screenshots are written to `test-artefacts/` for people to look at.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from edgelab.course import build

ROOT = Path(__file__).parents[2]
ARTEFACTS = ROOT / "test-artefacts"
CHROMIUM_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--disable-quic"),
]
# Ten thousand photographs take a slow processor a minute for every accuracy; a lab's cells run as well on fewer.
FEW_IMAGES = """
from dataclasses import replace
from edgelab import data
def _few(name=None, load=data.load):
    dataset = load(name)
    return replace(dataset, test=dataset.test[:1500])
data.load = _few
"""
ERRORS = """() => jupyterapp.shell.currentWidget.content.model.sharedModel.cells
    .filter(cell => cell.cell_type === 'code')
    .flatMap(cell => cell.getOutputs().filter(output => output.output_type === 'error')
        .map(output => `${cell.getId()}: ${output.ename}: ${output.evalue}`))"""
# What each cell shows, its descriptions for screen readers and its tooltips included.
SHOWN = """() => [...document.querySelectorAll('.jp-Notebook .jp-Cell')].map((cell, place) => {
    const source = jupyterapp.shell.currentWidget.content.model.sharedModel.cells[place].getSource();
    const area = cell.querySelector('.jp-OutputArea');
    const said = area ? [...area.querySelectorAll('[aria-label], [title]')] : [];
    const words = said.flatMap(node => [node.getAttribute('aria-label'), node.getAttribute('title')]);
    const waits = !!cell.querySelector('.edgelab-waiting');
    return {text: [area?.textContent, ...words].join(' '), waits, key: /reveal\\("([\\w-]+)"/.exec(source)?.[1]};
})"""
# What a clock measures: another number in each run, which any other may happen to be. Its unit must stand beside it.
CLOCKED = {"baseline-latency", "noise", "speed", "crossing", "one-channel", "half-the-macs", "few", "many", "threads"}
MEASURED = r"(?:Measured here|Medido aquí): (?P<number>[\d.\s]*\d)\s?(?P<unit>%|×|[^\W\d]+)?"
WAITING = """() => jupyterapp.shell.currentWidget.content.model.sharedModel.cells
    .filter(cell => cell.cell_type === 'code' && cell.getSource() && cell.execution_count === null).length"""


@pytest.fixture(scope="module")
def chromium():
    """Return the path of a Chromium or Chrome on this machine; without one, skip, or fail where CI=true."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if found is None:
        message = "no chromium on this machine: the labs were not opened in a browser (apt-get install chromium)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    return found


@contextlib.contextmanager
def served(folder, source, dataset, *, first=""):
    """Start `edgelab lab` on a folder with a lab's reference notebooks, and yield the address of its server.

    A kernel runs the code `first` before anything else.
    """
    labs, jupyter = folder / "learner", folder / "jupyter"
    for lang in ("en", *build.TRANSLATIONS):  # where the labs would be copied: present files are kept
        path = labs / ("" if lang == "en" else lang) / f"{source.stem}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(build.as_bytes(build.reference(source, lang)))
    private = {f"JUPYTER_{kind}_DIR": str(jupyter / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    private |= {f"JUPYTERLAB_{kind}_DIR": str(jupyter / kind.lower()) for kind in ("SETTINGS", "WORKSPACES")}
    (jupyter / "config").mkdir(parents=True)
    exposed = {"LabApp": {"expose_app_in_browser": True}}  # the tests steer JupyterLab by its own commands
    (jupyter / "config" / "jupyter_lab_config.json").write_text(json.dumps(exposed))
    startup = jupyter / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "first.py").write_text(first)
    private["IPYTHONDIR"] = str(jupyter / "ipython")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (jupyter / "log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "edgelab", "lab", str(labs), "--no-browser", "--port", str(port)],
        env={**os.environ, **private, "JUPYTER_TOKEN": "test", "EDGELAB_DATASET": dataset},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=test", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, (jupyter / "log").read_text()
                assert time.monotonic() < deadline, "JupyterLab did not answer within two minutes"
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
        log.close()


@pytest.fixture
def page(chromium):
    """Yield a page of a browser of its own: Playwright's loop would be in the way of other tests of this process."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)
        yield page
        browser.close()


def open_and_run(page, server, notebook):
    """Open a notebook, run all of its cells, and wait until the last one is done."""
    page.goto(f"{server}/lab/tree/{notebook}?token=test&reset")
    page.wait_for_function("() => window.jupyterapp !== undefined")
    page.evaluate("async () => { await jupyterapp.started; await jupyterapp.restored; }")
    page.wait_for_function("() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
    page.wait_for_function(f"() => ({WAITING})() === 0 || ({ERRORS})().length > 0", timeout=600_000)
    page.wait_for_function("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'")


def move_every_control(page, explorer):
    """Move each control of an explorer by keyboard or choice; return how many there were."""
    picture = explorer.locator(".edgelab-picture").first
    picture.scroll_into_view_if_needed()
    handles, lists = explorer.locator(".noUi-handle"), explorer.locator("select")
    for index in range(handles.count()):
        before = picture.inner_html()
        handles.nth(index).focus()
        at_end = handles.nth(index).get_attribute("aria-valuenow") == handles.nth(index).get_attribute("aria-valuemax")
        page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")
        wait_for_change(picture, before)
    for index in range(lists.count()):
        before = picture.inner_html()
        lists.nth(index).select_option(index=1)
        wait_for_change(picture, before)
    assert "⚠" not in picture.inner_text()
    return handles.count() + lists.count()


def wait_for_change(picture, before):
    deadline = time.monotonic() + 60
    while picture.inner_html() == before:
        assert time.monotonic() < deadline, f"the picture did not change: {picture.inner_text()[:200]}"
        time.sleep(0.05)


def test_a_learner_can_run_the_lab_in_spanish_on_photographs(page, source, tmp_path, needs_fashion_mnist):
    with served(tmp_path, source, "fashion-mnist", first=FEW_IMAGES) as server:
        assert work_through(page, server, source, "es") == "Fijar"


@pytest.mark.long
def test_a_learner_can_run_the_lab_on_signs_in_english(page, source, tmp_path):
    with served(tmp_path, source, "signs") as server:
        assert work_through(page, server, source, "en") == "Lock it in"


def work_through(page, server, source, lang):
    """Run the notebook, move every control, lock every prediction, take pictures; return the label of the lock."""
    open_and_run(page, server, f"{source.stem}.ipynb" if lang == "en" else f"{lang}/{source.stem}.ipynb")
    name = f"{source.stem}-{lang}"
    ARTEFACTS.mkdir(exist_ok=True)
    try:
        assert page.evaluate(ERRORS) == []
        before = page.evaluate(SHOWN)
        explorers = page.locator(".edgelab-explorer")
        assert explorers.count() >= 2
        for index in range(explorers.count()):
            assert move_every_control(page, explorers.nth(index)) >= 1
            explorers.nth(index).screenshot(path=ARTEFACTS / f"{name}-explorer-{index + 1}.png")

        waiting = page.locator(".edgelab-waiting")
        locked = page.locator(".edgelab-prediction button")
        assert locked.count() >= 1
        for index in range(locked.count()):
            locked.nth(index).press("Enter")
        page.wait_for_function("() => document.querySelectorAll('.edgelab-waiting').length === 0")
        assert waiting.count() == 0
        assert page.evaluate(ERRORS) == []
        nothing_told_the_answers(before, page.evaluate(SHOWN))
        return page.locator(".edgelab-prediction button").first.inner_text()
    finally:
        photograph(page, name)


def nothing_told_the_answers(before, after):
    """Ask that no cell up to a reveal showed what was measured, in the state before anything was locked.

    With its unit any number counts; without, one of three digits or more.
    """
    revealing = [place for place, cell in enumerate(before) if cell["waits"]]
    assert revealing
    for place in revealing:
        assert before[place]["key"], f"cell {place} waits, and reveals nothing by name"
        measured = re.search(MEASURED, after[place]["text"])
        assert measured, after[place]["text"][:200]
        number, unit = re.sub(r"\s", "", measured["number"]), measured["unit"] or ""
        figures = len(re.sub(r"\D", "", number).lstrip("0"))
        unit = "(?:×|times|veces)" if unit in ("×", "times", "veces") else unit
        alone = figures >= 3 and before[place]["key"] not in CLOCKED
        if (number, unit) == ("100", "%") or not (alone or unit):  # a number that anything may show
            continue
        # Three figures are shown, less the zeros at their end: 0.9 may have been 0.8997, and is not told by 0.91.
        longer = r"\d*" if figures >= 3 else r"0*"
        digits = re.escape(number) + (longer if "." in number else r"(?:\.0+)?(?![.\d])")
        told = re.compile(rf"(?<![\d.]){digits}" + ("" if alone else rf"\s?{unit}(?!\w)"))
        for earlier in range(place + 1):
            text = re.sub(r"(?<=\d)\s(?=\d)", "", before[earlier]["text"])
            assert not told.search(text), f"cell {earlier} tells {measured[0]!r} of cell {place}: {text[:400]}"


def photograph(page, name):
    """Write the whole notebook as tall pictures: a wide window and a narrow one, the light theme and the dark one."""
    for width in (960, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        height = page.evaluate("() => document.querySelector('.jp-WindowedPanel-outer').scrollHeight")
        page.set_viewport_size({"width": width, "height": min(int(height) + 120, 16_000)})
        for theme in ("Dark", "Light"):
            page.evaluate(
                f"() => jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})"
            )
            page.wait_for_function(f"() => document.body.dataset.jpThemeName === 'JupyterLab {theme}'")
            page.locator("#jupyterlab-splash").wait_for(state="hidden")
            page.evaluate("() => document.querySelector('.jp-WindowedPanel-outer').scrollTo(0, 0)")
            page.screenshot(path=ARTEFACTS / f"{name}-{width}-{theme.lower()}.png")
    page.set_viewport_size({"width": 1280, "height": 900})
