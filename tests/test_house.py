"""What the files at the root say of the course is the same everywhere."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CITATION = (ROOT / "CITATION.cff").read_text("utf-8")

SPANISH = {"README.es.md": "README.md", "labs/INSTRUCTORS.es.md": "labs/INSTRUCTORS.md"}  # and what each translates


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
    "name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "labs/AUTHORS.md", "labs/INSTRUCTORS.md", *SPANISH]
)
def test_every_file_that_a_page_links_to_is_there(name):
    page = ROOT / name
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("name", SPANISH)
def test_a_spanish_page_has_the_headings_and_commands_of_the_english_one(name):
    spanish, english = ((ROOT / page).read_text("utf-8") for page in (name, SPANISH[name]))
    assert headings(spanish) == headings(english)
    assert commands(spanish) == commands(english)
    for page, other in ((english, name), (spanish, SPANISH[name])):
        assert f"]({Path(other).name})" in page


def headings(page: str) -> list[str]:
    """Return the levels of a page's headings, in order; a `#` in a block of code is none."""
    return re.findall(r"(?m)^#+(?= )", re.sub(r"(?s)```.*?```", "", page))


def commands(page: str) -> list[str]:
    """Return the lines of a page's blocks of code that run something, without their comments."""
    blocks = re.findall(r"(?s)```(?:sh|)\n(.*?)```", page)
    lines = [re.split(r"\s+#", line)[0] for block in blocks for line in block.split("\n")]
    return [line for line in lines if re.match(r"(make|edgelab|python|EDGELAB_\w+=\S+) \S", line)]


def test_both_pages_name_every_lab():
    for page, folder in (("README.md", "labs"), ("README.es.md", "labs/es")):
        linked = re.findall(rf"\]\({folder}/(\d\d_\w+\.ipynb)\)", (ROOT / page).read_text("utf-8"))
        assert linked == sorted(path.name for path in (ROOT / folder).glob("[0-9]*.ipynb"))
