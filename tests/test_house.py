"""What the files at the root say of the course is the same everywhere."""

import ast
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


def text_without_encoding(code: str) -> list[int]:
    """Return the lines of `code` on which a text file is opened in the encoding that the system happens to have."""
    found = []
    for call in ast.walk(ast.parse(code)):
        if not isinstance(call, ast.Call) or any(word.arg == "encoding" for word in call.keywords):
            continue
        name = getattr(call.func, "attr", None) or getattr(call.func, "id", None)
        mode = next(
            (one.value for one in call.args if isinstance(one, ast.Constant) and isinstance(one.value, str)), ""
        )
        as_path = isinstance(call.func, ast.Attribute) and re.fullmatch("[rwax]t?[+]?", mode)  # path.open("a")
        if (
            (name == "read_text" and not call.args)
            or (name == "write_text" and len(call.args) < 2)
            or (name == "open" and as_path)
            or (isinstance(call.func, ast.Name) and name == "open" and "b" not in mode)
        ):
            found.append(call.lineno)
    return found


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("path.read_text()", [1]),
        ("path.read_text('utf-8')", []),
        ("\npath.write_text(text)", [2]),
        ("path.write_text(text, encoding='utf-8')", []),
        ("open(name)", [1]),
        ("open(name, 'rb')", []),
        ("path.open('a')", [1]),
        ("Image.open(path), path.open('rb')", []),
    ],
)
def test_what_opens_a_text_in_any_encoding_is_found(code: str, lines: list[int]):
    assert text_without_encoding(code) == lines


def test_the_package_reads_and_writes_text_as_utf_8():
    """Windows' own encoding is another one, and would read our accents, or a learner's, as something else."""
    files = [*sorted((ROOT / "edgelab").rglob("*.py")), ROOT / "hatch_build.py"]
    found = {path.relative_to(ROOT).as_posix(): text_without_encoding(path.read_text("utf-8")) for path in files}
    assert {path: lines for path, lines in found.items() if lines} == {}
