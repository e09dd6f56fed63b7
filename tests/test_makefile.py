"""`make`: which Python it takes, what a learner sees of pip, and the pins that it installs."""

import re
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from edgelab.doctor import diagnosis

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
VERSIONS = [word for line in PROJECT["classifiers"] for word in re.findall(r"Python :: (3\.\d+)", line)]


@pytest.fixture
def folder(tmp_path):
    """Return a checkout in which `make` sees the programs in bin/, and of the system's only what recipes use."""
    root = tmp_path / "año nuevo"
    (root / "bin").mkdir(parents=True)
    for name in ("cat", "mkdir", "rm", "tee", "touch"):
        (root / "bin" / name).symlink_to(shutil.which(name))
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    return root


def script(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def python(path: Path, version: str, *, ensurepip: bool = True, venv: bool = True) -> None:
    script(
        path,
        f'case "$*" in *version_info*) echo {version} ;; *ensurepip*) {str(ensurepip).lower()} ;;\n'
        f'"-m venv .venv") mkdir .venv; echo "$0" > .venv/maker; {str(venv).lower()} ;; esac',
    )


def make(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    command = [shutil.which("make"), *words]
    env = {"PATH": str(folder / "bin"), **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def sentence(done: subprocess.CompletedProcess) -> str:
    """Return the one line that is said before make's own."""
    said, own = done.stderr.splitlines()
    assert (done.returncode, done.stdout, own.startswith("make: ***")) == (2, "", True)
    return said


# Which Python


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (("python3.11", "python3.12", "python3.14", "python3"), "python3.14"),
        (("python3.11", "python3.12", "python3"), "python3.12"),
        (("python3.11", "python3"), "python3.11"),
        (("python3",), "python3"),
        (("python",), "python"),
    ],
    ids=["the newest", "the newest of two", "a named one", "python3", "python"],
)
def test_which_python_is_taken(folder, there, taken):
    for name in there:
        python(folder / "bin" / name, name.removeprefix("python") if "." in name else "3.13")
    assert make(folder, ".venv/bin-ready").returncode == 0
    assert (folder / ".venv" / "maker").read_text() == f"{folder}/bin/{taken}\n"


def test_a_python_that_does_not_answer_or_makes_no_environment_is_passed_over(folder):
    script(folder / "bin" / "python3.14", "echo 'pyenv: python3.14: command not found' >&2; exit 127")
    python(folder / "bin" / "python3.11", "3.11", ensurepip=False)
    python(folder / "bin" / "python3.13", "3.10")
    python(folder / "bin" / "python3.12", "3.12")
    done = make(folder, ".venv/bin-ready")
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / ".venv" / "maker").read_text().endswith("python3.12\n")


@pytest.mark.parametrize("by_environment", [False, True], ids=["argument", "environment"])
def test_a_python_that_is_named_wins(folder, by_environment):
    python(folder / "bin" / "python3.11", "3.11")
    other = folder / "my own" / "python"
    python(other, "3.13")
    words, environment = ((), {"PYTHON": str(other)}) if by_environment else ((f"PYTHON={other}",), {})
    assert make(folder, *words, ".venv/bin-ready", **environment).returncode == 0
    assert (folder / ".venv" / "maker").read_text() == f"{other}\n"


@pytest.mark.parametrize(
    ("name", "version", "found"),
    [("python3", "3.10", " (python3 is 3.10)"), ("python3", "3.15", " (python3 is 3.15)"), ("perl", "5", "")],
    ids=["too old", "too new", "none"],
)
def test_no_python_is_one_sentence(folder, name, version, found):
    python(folder / "bin" / name, version)
    assert sentence(make(folder, ".venv/bin-ready")) == (
        f"edgelab needs Python 3.11 to 3.14 and finds none{found}; name one with: make PYTHON=/path/to/python lab"
    )
    assert not (folder / ".venv").exists()


def test_no_other_python_stands_in_for_a_named_one(folder):
    python(folder / "bin" / "python3.11", "3.11")
    assert "finds none;" in sentence(make(folder, "PYTHON=/no/such/python", ".venv/bin-ready"))


def test_debian_without_python3_venv_is_told_what_to_install(folder):
    python(folder / "bin" / "python3", "3.11", ensurepip=False)
    said = sentence(make(folder, ".venv/bin-ready"))
    assert said.endswith("on Debian and Ubuntu: sudo apt-get install python3.11-venv")
    assert not (folder / ".venv").exists()


def test_no_half_made_environment_is_left(folder):
    python(folder / "bin" / "python3.11", "3.11", venv=False)
    assert make(folder, ".venv/bin-ready").returncode == 2
    assert not (folder / ".venv").exists()


# What a learner sees of pip

PIP = """
echo "WARNING: Location 'file:///x/torch/' is ignored: it is neither a file nor a directory."
echo "Requirement already satisfied: six"
echo "  Downloading six-1.17.0-py2.py3-none-any.whl (11 kB)"
echo "  Downloading https://download.example/whl/torch-2.13.0%2Bcpu-cp311-cp311-linux_x86_64.whl (191.8 MB)"
echo "Collecting nvidia-cublas==13.1.1.3"
echo "Collecting nvidia-cufft==12.0.0.61"
echo "Installing collected packages: six, torch"
"""


@pytest.fixture
def install(folder):
    """Return a function that makes .venv/lab, with a pip that prints `PIP` and then does as told."""

    def run(end: str, *, index: bool = False) -> subprocess.CompletedProcess:
        (folder / ".venv" / "bin").mkdir(parents=True)
        (folder / ".venv" / "bin-ready").touch()
        asked = f'case "$*" in *urlopen*) {str(index).lower()} ; exit ;; esac; echo "$*"'
        script(folder / ".venv" / "bin" / "python", f"{asked}\n{PIP}\n{end}")
        return make(folder, ".venv/lab")

    return run


def test_of_a_good_installation_only_what_takes_time_is_shown(install, folder):
    done = install("exit 0")
    first, *rest = done.stdout.splitlines()
    assert (done.returncode, done.stderr, (folder / ".venv" / "lab").exists()) == (0, "", True)
    assert first.startswith("Installing edgelab")
    assert [line.split()[0] for line in rest] == ["torch", "CUDA", "unpacking,"]
    assert rest[0] == "  torch (191.8 MB)"


def test_of_a_failed_installation_all_is_shown(install, folder):
    done = install("echo 'ERROR: No matching distribution found' >&2; exit 1")
    assert done.returncode == 2
    assert "six-1.17.0" in done.stderr
    assert "ERROR: No matching distribution found" in done.stderr
    assert not (folder / ".venv" / "lab").exists()


@pytest.mark.parametrize("index", [True, False], ids=["answers", "does not"])
def test_pytorchs_own_index_is_used_where_it_answers(install, folder, index):
    install("exit 0", index=index)
    assert ("--extra-index-url https://download.pytorch" in (folder / ".venv" / "pip.log").read_text()) is index


# The pins


def on_linux(python: str) -> dict[str, str]:
    """Return what the markers of packages ask of a Python on Linux."""
    return {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux", "extra": ""}


def pins(python: str) -> dict[str, str]:
    """Return the versions that constraints.txt has for a Python on Linux, by normalised name."""
    system = on_linux(python)
    here = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(system)]
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in here)
    versions = {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in here}
    assert len(versions) == len(here), "a package is pinned twice"
    return versions


@pytest.mark.parametrize("python", VERSIONS)
def test_every_dependency_is_pinned_for(python):
    pinned = pins(python)
    extras = PROJECT["optional-dependencies"].values()
    wanted = [Requirement(line) for line in (*PROJECT["dependencies"], *(line for extra in extras for line in extra))]
    names = {each.name for each in wanted}
    assert {"torch", "packaging", "distributed", "pytest-xdist"} <= names
    for each in wanted:
        if each.marker is not None and not each.marker.evaluate(on_linux(python)):
            continue
        assert each.name == "edgelab" or pinned[canonicalize_name(each.name)] in each.specifier, each


def test_what_is_installed_accepts_the_oldest_python_that_it_is_pinned_for():
    checked = 0
    for name, version in pins("3.11").items():
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if found.version.partition("+")[0] == version:
            checked += 1
            assert "3.11.0" in SpecifierSet(found.metadata.get("Requires-Python", "")), name
    assert checked > 100


def test_what_the_pins_require_is_pinned_too():
    pinned, system = pins("3.11"), {"extra": ""}
    for name in pinned:
        try:
            needed = [Requirement(line) for line in metadata.requires(name) or ()]
        except metadata.PackageNotFoundError:
            continue
        names = {canonicalize_name(each.name) for each in needed if not each.marker or each.marker.evaluate(system)}
        assert {each for each in names - pinned.keys() if not re.match(r"(cuda|nvidia)-|triton", each)} == set(), name


def test_cuda_is_nowhere_asked_for():
    assert [pin.name for pin in PINS if re.match(r"cuda|nvidia|triton", pin.name)] == []


def test_one_range_of_pythons_everywhere():
    makefile = (ROOT / "Makefile").read_text()
    tried = re.findall(r"python(3\.\d+)", re.search(r"^PYTHONS := (.*)", makefile, re.MULTILINE)[1])
    assert tried == sorted(VERSIONS, key=lambda version: int(version[2:]), reverse=True)
    assert re.search(r"case \$\$version in (.*?)\)", makefile)[1] == " | ".join(VERSIONS)
    assert diagnosis.PYTHON == (3, 11)  # what CI proves it with
    assert ".".join(map(str, diagnosis.NEWEST)) == VERSIONS[-1]
    assert PROJECT["requires-python"] == f">={VERSIONS[0]}"
    assert f"Python {VERSIONS[0]} to {VERSIONS[-1]}" in (ROOT / "README.md").read_text()
