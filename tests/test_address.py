"""The course has one address: labs install themselves from it where they are missing, and the READMEs link to it."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from edgelab.course import address, build
from edgelab.errors import EdgelabError

ROOT = Path(__file__).parents[1]
NOTEBOOKS = [path for folder in (ROOT / "labs", ROOT / "labs" / "es") for path in sorted(folder.glob("[0-9]*.ipynb"))]
OTHER = "https://github.com/someone/a-fork"


@pytest.fixture
def fork(tmp_path: Path, monkeypatch) -> Path:
    """Return the root of a checkout whose address is another one."""
    (tmp_path / "edgelab").mkdir()
    (tmp_path / "pyproject.toml").write_text(f"[project]\n[project.urls]\nRepository = '{OTHER}'\n")
    for name in address.PAGES:
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(address, "PACKAGE", tmp_path / "edgelab")
    return tmp_path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_lab_begins_with_the_cell_that_installs_the_course(path: Path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "code"
    assert ast.dump(ast.parse(first.source)) == ast.dump(ast.parse(address.first_cell()))
    assert f"git+{address.repository()}" in first.source


def run(*sources: str, folder: Path) -> list:
    """Run code cells in a fresh kernel, and return the outputs of each."""
    cells = [new_code_cell(source) for source in sources]
    notebook = new_notebook(cells=cells)
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources=where, allow_errors=True).execute()
    return [cell.outputs for cell in notebook.cells]


# A kernel in which edgelab is missing until `pip` has run, and `pip` says what it was asked for.
MISSING = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "edgelab":
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
def pip(line):
    print("pip", line)
    {after}
get_ipython().register_magic_function(pip)
"""


def test_the_cell_installs_what_is_missing_and_then_imports_it(tmp_path: Path):
    arrange = MISSING.format(after="del sys.meta_path[0]")
    _arranged, printed, version = run(arrange, address.first_cell(), "edgelab.__name__", folder=tmp_path)
    (line,) = "".join(output.text for output in printed).splitlines()
    assert line.startswith("pip install ")
    assert line.endswith(f'"edgelab[mcu] @ git+{address.repository()}"')
    assert version[0].data["text/plain"] == "'edgelab'"


def test_an_installation_that_failed_stops_the_cell(tmp_path: Path):
    arrange = MISSING.format(after="pass")
    _arranged, outputs = run(arrange, address.first_cell(), folder=tmp_path)
    assert outputs[-1].ename == "ModuleNotFoundError"


def test_the_cell_does_nothing_where_the_course_is_there(tmp_path: Path):
    spy = "def pip(line):\n    raise SystemError\nget_ipython().register_magic_function(pip)"
    assert run(spy, address.first_cell(), folder=tmp_path) == [[], []]


def test_a_fork_changes_one_line_and_everything_follows(fork: Path):
    assert address.repository() == OTHER
    assert f'git+{OTHER}"' in address.first_cell()
    pages = address.pages(fork)
    assert {path.name for path in pages} == set(address.PAGES)
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]
    name = ours.removeprefix("https://github.com/").encode()
    assert all(name not in content and content.count(b"someone/a-fork") == 4 for content in pages.values())


def test_the_address_is_written_by_hand_in_one_place():
    name = address.repository().removeprefix("https://github.com/").encode()
    command = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().strip("\0").split("\0")
    files = [path for path in listed if (ROOT / path).is_file() and name in (ROOT / path).read_bytes()]
    built = {path.relative_to(ROOT).as_posix() for path in NOTEBOOKS} | set(address.PAGES)
    assert set(files) - built == {"pyproject.toml"}
    assert (ROOT / "pyproject.toml").read_bytes().count(name) == 1


def test_links_that_lead_elsewhere_are_stale(fork: Path):
    assert [problem.path.name for problem in build._stale_pages(fork)] == list(address.PAGES)
    for path, content in address.pages(fork).items():
        path.write_bytes(content)
    assert build._stale_pages(fork) == []


@pytest.mark.parametrize("name", address.PAGES)
def test_links_of_a_page_open_a_lab_that_is_there(name: str):
    page = (ROOT / name).read_text("utf-8")
    links = dict(re.findall(r"(?m)^\[(\w+)\]: (\S+)$", page))
    assert links == address.links(address.PAGES[name])
    assert all(f"][{place}]" in page for place in links)
    lab = parse_qs(urlsplit(links["binder"]).query)["urlpath"][0].removeprefix("lab/tree/")
    assert (ROOT / unquote(lab)).is_file()
    assert links["colab"].endswith(f"/blob/main/{lab}")
    assert links["kaggle"].endswith(f"/blob/main/{lab}")


@pytest.mark.parametrize("urls", ["", "[project.urls]\nRepository = 'github.com/x/y'\n"], ids=["none", "no address"])
def test_without_an_address_the_build_says_what_to_write(fork: Path, urls: str):
    (fork / "pyproject.toml").write_text("[project]\n" + urls)
    with pytest.raises(EdgelabError, match=r"\[project.urls\] Repository = \"https://github.com/owner/name\""):
        address.first_cell()


def test_a_page_without_its_links_is_named(fork: Path):
    page = fork / "README.md"
    page.write_text(page.read_text("utf-8").replace("[colab]: ", "colab "))
    with pytest.raises(EdgelabError, match=r"README.md lacks its line \[colab\]"):
        address.pages(fork)


def test_an_installed_course_knows_its_address_too(tmp_path: Path, monkeypatch):
    class Metadata:
        def get_all(self, name: str) -> list[str]:
            return {"Project-URL": ["Documentation, https://example.org", f"Repository, {OTHER}"]}[name]

    monkeypatch.setattr(address, "PACKAGE", tmp_path / "edgelab")
    monkeypatch.setattr(address, "metadata", lambda name: Metadata())
    assert address.repository() == OTHER
