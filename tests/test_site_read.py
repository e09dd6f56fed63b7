"""The whole site, as a reader has it: no solution in it, no dead link, nothing fetched, and what axe-core finds.

It takes as long as executing every lab in both languages, unless that is kept from before.
"""

import html
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from edgelab.course import build
from edgelab.site.pages import solution_lines

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[1]
ARTEFACTS = ROOT / "test-artefacts"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PAGES = ("index.html", "labs/01_edge_budget.html", "labs/03_ptq.html", "glossary.html", "reference/index.html")


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Make the site of all labs, and return the folder of its pages."""
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-m", "edgelab.site", "--out", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return out / "html"


def test_no_line_of_a_solution_is_in_a_page(site):
    labs = build.sources(ROOT / "labs")
    given = "\n".join(cell.source for lab in labs for cell in build.learner(lab).cells)  # what another lab hands out
    lines = {line for lab in labs for line in solution_lines(lab) if line not in given}
    assert len(lines) > 50
    assert shown_lines(site, lines) == []


def test_every_link_within_the_site_leads_somewhere(site):
    checked, broken = links(site)
    assert checked > 1000
    assert broken == []


def test_a_reader_in_chromium_meets_no_barrier(site):
    found, asked, wide = read(site, [*PAGES, *(f"es/{page}" for page in PAGES)])
    assert found == []
    assert asked == []
    assert wide == []


def shown_lines(site: Path, lines: set[str]) -> list[tuple[str, str]]:
    """Return each page that shows one of `lines` of code, with that line."""
    found = []
    for path in sorted(site.rglob("*.html")):
        text = html.unescape(re.sub(r"<[^>]*>", "", path.read_text("utf-8")))
        found += [(str(path.relative_to(site)), line) for line in sorted(lines) if line in text]
    return found


def links(site: Path) -> tuple[int, list[tuple[str, str]]]:
    """Return how many links of the pages stay within the site, and those that lead nowhere, each with its page."""
    soups = {
        path: BeautifulSoup(path.read_text("utf-8"), "html.parser")
        for path in site.rglob("*.html")
        if "_static" not in path.parts
    }
    places = {
        path: {node["id"] for node in soup.find_all(id=True)}
        | {node["name"] for node in soup.find_all("a", attrs={"name": True})}
        for path, soup in soups.items()
    }
    checked, broken = 0, []
    for path, soup in soups.items():
        for node in soup.find_all(["a", "link", "img", "script"]):
            address = node.get("href") or node.get("src") or ""
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or not address:
                continue
            checked += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            fragment = unquote(parts.fragment)
            if not target.is_file() or (fragment and target in places and fragment not in places[target]):
                broken.append((str(path.relative_to(site)), address))
    return checked, sorted(set(broken))


def read(site: Path, pages: list[str]) -> tuple[list[tuple], list[str], list[tuple]]:
    """Read pages in both themes, wide and on a phone: return what axe finds serious, what is fetched, what is cut."""
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
    if chromium is None:
        pytest.skip("no chromium on this machine: the site was not read in a browser (apt-get install chromium)")
    ARTEFACTS.mkdir(exist_ok=True)
    found, asked, wide = [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for width in (1280, 390):
            for theme in ("light", "dark"):
                context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)
                tab = context.new_page()
                tab.set_default_timeout(120_000)
                tab.on("request", lambda request: asked.append(request.url))
                for name in pages:
                    tab.goto((site / name).as_uri())
                    assert tab.locator("html").get_attribute("data-theme") == theme
                    response = Axe().run(tab).response
                    assert any(one["id"] == "color-contrast" for one in response["passes"])  # it has looked
                    for violation in response["violations"]:
                        if violation["impact"] in ("serious", "critical"):
                            places = [node["target"] for node in violation["nodes"]][:3]
                            found.append((name, width, theme, violation["id"], len(violation["nodes"]), places))
                    if tab.evaluate("document.documentElement.scrollWidth") > width:
                        wide.append((name, width))
                    shot = ARTEFACTS / f"site-{name.replace('/', '-')}-{width}-{theme}.png"
                    tab.screenshot(path=shot, full_page=True)
                context.close()
        browser.close()
    return found, [url for url in asked if not url.startswith(("file:", "data:", "blob:"))], wide
