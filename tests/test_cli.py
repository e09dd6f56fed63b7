"""The command line: quick to answer, one sentence for a mistake, exit codes that scripts can rely on."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgelab import cli
from edgelab.course import launch
from edgelab.errors import EdgelabError

COMMANDS = ("lab", "adopt", "doctor", "measure", "table", "enter", "leaderboard", "build", "grade", "new-lab")
LAB = "# %% [markdown]\n# # Title\n\n# %% one\nprint(1)\n#> 1\n"


@pytest.fixture
def run(monkeypatch, tmp_path: Path):
    """Run `edgelab` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(cli.app, list(words), prog_name="edgelab")


@pytest.fixture
def labs(tmp_path: Path) -> Path:
    (tmp_path / "labs" / "source").mkdir(parents=True)
    (tmp_path / "labs" / "source" / "01_x.py").write_text(LAB)
    return tmp_path / "labs"


@pytest.fixture
def started(monkeypatch) -> list:
    """Keep the arguments that JupyterLab would have started with."""
    calls: list = []
    monkeypatch.setattr(launch, "start", calls.append)
    return calls


def test_help_names_every_command(run):
    result = run("--help")
    assert result.exit_code == 0
    assert all(f" {command} " in result.output for command in COMMANDS)


def test_help_is_quick_and_loads_nothing_heavy():
    code = (
        "import sys, time; from typer.testing import CliRunner; from edgelab import cli; "
        "CliRunner().invoke(cli.app, ['lab', '--help']); "
        "print(sorted({'torch', 'numpy', 'jupyterlab', 'nbformat', 'ipywidgets'} & set(sys.modules))); "
        "print(time.process_time())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy, seconds = done.stdout.splitlines()
    assert heavy == "[]"
    assert float(seconds) < 2  # of a core: 0.2 on an idle machine


def test_python_dash_m_is_the_same_command(tmp_path: Path):
    done = subprocess.run([sys.executable, "-m", "edgelab", "--version"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.count(".") >= 2


def test_lab_copies_and_starts(run, started, tmp_path: Path):
    result = run("lab", "mine", "--lang", "es", "--no-browser")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (tmp_path / "mine" / "es" / "00_start.ipynb").exists()
    (arguments,) = started
    assert "--LabApp.default_url=/lab/tree/es/index.md" in arguments
    assert f"--ServerApp.root_dir={tmp_path / 'mine'}" in arguments


def test_lab_writes_a_new_version_and_does_not_start(run, started, tmp_path: Path):
    result = run("lab", "mine", "--new", "00_start")
    assert result.exit_code == 0
    assert (tmp_path / "mine" / "00_start.new.ipynb").exists()
    assert started == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["lab", "--lang", "fr"], "Choose --lang en or --lang es; there is no 'fr'.\n"),
        (["lab", "file"], "The folder file cannot be written (File exists). Choose another folder.\n"),
        (["build", "no"], "no/source holds no lab source (NN_topic.py). Name the folder that has them.\n"),
    ],
    ids=["unknown language", "folder is a file", "no sources"],
)  # fmt: skip
def test_a_mistake_is_one_sentence_and_exit_code_2(run, started, tmp_path: Path, words: list[str], sentence: str):
    (tmp_path / "file").write_text("")
    result = run(*words)
    assert (result.exit_code, result.stderr, started) == (2, sentence, [])


def test_ctrl_c_is_one_line_and_exit_code_130(run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "copy_labs", interrupted)
    result = run("lab")
    assert (result.exit_code, result.stderr) == (130, "Stopped.\n")


def test_build_writes_then_has_nothing_to_do(run, labs: Path):
    first = run("build")
    assert (first.exit_code, first.output.split()) == (0, ["labs/01_x.ipynb", "labs/es/01_x.ipynb"])
    assert run("build").output == "Everything is up to date.\n"


def test_build_check_lists_each_problem_and_exits_1(run, labs: Path):
    run("build")
    result = run("build", "--check")
    assert result.exit_code == 1
    assert result.output.startswith("labs/locale/es/01_x.po:1: there is no such translation")


def test_build_check_passes_when_all_is_done(run, labs: Path):
    updated = run("build", "--update-po")
    assert "labs/locale/es/01_x.po: 1 texts, 1 to translate" in updated.output
    po = labs / "locale" / "es" / "01_x.po"
    po.write_text(po.read_text().replace('msgid "# Title"\nmsgstr ""', 'msgid "# Title"\nmsgstr "# Título"'))
    run("build")
    result = run("build", "--check")
    assert (result.exit_code, result.output) == (0, "Notebooks and translations are up to date.\n")
    assert "# Título" in (labs / "es" / "01_x.ipynb").read_text()


def test_build_names_a_malformed_source(run, labs: Path):
    (labs / "source" / "01_x.py").write_text("# %% a points=1\n1\n")
    result = run("build")
    assert (result.exit_code, result.stderr) == (
        1,
        "labs/source/01_x.py:1: points belong to a check or hidden cell\n",
    )


def test_build_writes_references(run, labs: Path, tmp_path: Path):
    result = run("build", "--reference", "reference")
    assert result.exit_code == 0
    assert (tmp_path / "reference" / "es" / "01_x.ipynb").exists()
    assert not (labs / "01_x.ipynb").exists()


@pytest.fixture
def in_spanish(tmp_path: Path):
    """Run `edgelab` in a Spanish terminal."""
    environment = {"PATH": "/usr/bin", "LANG": "es_ES.UTF-8", "PYTHONUTF8": "1", "COLUMNS": "200"}
    return lambda *words: subprocess.run(
        [sys.executable, "-m", "edgelab", *words], capture_output=True, text=True, cwd=tmp_path, env=environment
    )


@pytest.mark.parametrize(
    "words",
    [[], ["lab"], ["adopt"], ["measure"], ["table"], ["enter"], ["leaderboard"], ["grade"], ["build"]],
    ids=" ".join,
)
def test_help_is_in_spanish_throughout(in_spanish, words: list[str]):
    done = in_spanish(*words, "--help")
    assert done.returncode == 0
    assert f"Uso: edgelab {' '.join(words)}".rstrip() in done.stdout
    assert "Mostrar esta ayuda y terminar." in done.stdout
    english = re.findall(
        r"\b(?:Usage|Options|Arguments|Commands|OPTIONS|default:|required|Show|the|and|of|your)\b", done.stdout
    )
    assert english == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["grade"], "Falta SUBMISSIONS. Más: edgelab grade --help\n"),
        (["grade", "folder"], "Falta --out. Más: edgelab grade --help\n"),
        (["lab", "--foo"], "No existe la opción --foo. Más: edgelab lab --help\n"),
        (["lab", "--port", "x"], "Este valor no sirve para --port. Más: edgelab lab --help\n"),
        (["nosuch"], f"No existe la orden nosuch. Hay estas: {', '.join(COMMANDS)}.\n"),
    ],
    ids=["argument missing", "option missing", "no such option", "no number", "no such command"],
)
def test_what_is_mistyped_is_one_sentence_in_the_terminals_language(in_spanish, words: list[str], sentence: str):
    done = in_spanish(*words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)


def test_messages_follow_the_terminals_language(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "edgelab", "lab", "--lang", "fr"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": "/usr/bin", "LANG": "es_ES.UTF-8", "PYTHONUTF8": "1"},
    )
    assert (done.returncode, done.stderr) == (2, "Elige --lang en o --lang es; no hay 'fr'.\n")


def test_a_mistake_in_the_package_is_an_edgelab_error():
    assert issubclass(EdgelabError, Exception)
    assert not issubclass(EdgelabError, (ValueError, OSError))
