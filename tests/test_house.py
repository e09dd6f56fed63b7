"""What the files at the root say of the course is the same everywhere."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CITATION = (ROOT / "CITATION.cff").read_text("utf-8")


def listed(name: str) -> list[str]:
    """Return the items of a list in CITATION.cff."""
    return re.findall(r"^  - (.+)$", re.search(rf"(?m)^{name}:\n((?:  - .*\n)+)", CITATION)[1], re.MULTILINE)


def test_the_citation_is_of_this_version():
    assert re.findall(r"(?m)^version: (.+)$", CITATION) == [PROJECT["version"]]


def test_the_citation_has_the_projects_licence_and_keywords():
    assert listed("license") == PROJECT["license"].split(" AND ")
    assert listed("keywords") == PROJECT["keywords"]


def test_the_change_log_has_this_version_or_what_is_to_become_it():
    headings = re.findall(r"(?m)^## \[?([\w.]+)", (ROOT / "CHANGELOG.md").read_text("utf-8"))
    assert headings[0] in ("Unreleased", PROJECT["version"])


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "labs/AUTHORS.md", "labs/INSTRUCTORS.md"]
)
def test_every_file_that_a_page_links_to_is_there(name):
    page = ROOT / name
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
