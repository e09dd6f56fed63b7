"""A new lab is complete and green from its first minute; what is there already is never touched."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell
from typer.testing import CliRunner

from edgelab import cli
from edgelab.course import build
from edgelab.course.check import NotYet
from edgelab.course.new_lab import TEMPLATE, new_lab
from edgelab.course.source import read_source, solved
from edgelab.grading.compare import agrees
from edgelab.grading.reference import points

ROOT = Path(__file__).parents[1]
FILES = [
    "edgelab/labs/lab_07_rivers/__init__.py",
    "edgelab/labs/lab_07_rivers/check.py",
    "edgelab/labs/lab_07_rivers/explorers.py",
    "labs/locale/es/07_rivers.po",
    "labs/source/07_rivers.py",
    "tests/labs/answers/07_rivers.py",
    "tests/labs/test_07_rivers.py",
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """Return a copy of the checkout without its labs."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("edgelab", "datasets"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests").mkdir()
    for file in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / file, root / file)
    return root


@pytest.fixture(scope="module")
def printed(checkout: Path) -> str:
    """Return what `edgelab new-lab` printed as it made the lab."""
    return python(checkout, "-m", "edgelab", "new-lab", "07_rivers").stdout


@pytest.fixture(scope="module")
def course(checkout: Path, printed: str) -> Path:
    """Return the copy with the new lab in it."""
    return checkout


def python(checkout: Path, *words: str) -> subprocess.CompletedProcess:
    """Run Python in a checkout, whose package it imports."""
    return subprocess.run(
        [sys.executable, *words], cwd=checkout, env=environment(checkout), capture_output=True, text=True
    )


def environment(checkout: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(checkout), "EDGELAB_DATASET": "signs"}


def source(checkout: Path) -> Path:
    return checkout / "labs" / "source" / "07_rivers.py"


def test_all_its_files_are_made_and_the_next_command_is_named(course, printed):
    assert printed.splitlines() == [*FILES, "Next: edgelab build"]
    assert all((course / file).is_file() for file in FILES)


@pytest.mark.parametrize("file", FILES)
def test_no_placeholder_is_left(course, file):
    assert not re.search(r"NN|TITLE", (course / file).read_text("utf-8"))


def test_it_builds_and_nothing_is_left_to_translate(course):
    po = course / "labs" / "locale" / "es" / "07_rivers.po"
    made = po.read_text("utf-8")
    updated = python(course, "-m", "edgelab", "build", "--update-po").stdout.splitlines()
    assert len([line for line in updated if "0 to translate, 0 newly fuzzy, 0 dropped" in line]) == 2
    assert updated[2:] == ["labs/07_rivers.ipynb", "labs/es/07_rivers.ipynb"]
    assert po.read_text("utf-8") == made
    check = python(course, "-m", "edgelab", "build", "--check")
    assert (check.returncode, check.stdout) == (0, "Notebooks and translations are up to date.\n")


def test_its_style_is_the_houses_however_long_its_name(tmp_path):
    (tmp_path / "edgelab" / "labs").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert len(new_lab("energy_of_a_radio_that_sleeps_and_wakes", tmp_path / "labs")) == len(FILES)
    for words in (["check"], ["format", "--check"]):
        done = python(tmp_path, "-m", "ruff", *words, "--no-cache", ".")
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_gives_ten_points_in_three_exercises_each_with_hidden_inputs(course):
    cells = read_source(source(course))
    assert points(cells) == {"shares": 3, "layers-for": 4, "reuse": 3}
    for role in ("check", "hidden"):
        assert {cell.exercise for cell in cells if cell.role == role} == set(points(cells))


def test_it_runs_with_its_solutions_and_hidden_cells_and_prints_what_it_promises(course, tmp_path):
    cells = {cell.id: cell for cell in read_source(source(course))}
    notebook = build.reference(source(course), hidden=True, outputs=False)
    notebook.cells.insert(0, new_code_cell("SEED = 3"))
    (tmp_path / ".edgelab").mkdir()
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    with client.setup_kernel(env=environment(course)):
        for number, cell in enumerate(notebook.cells):
            client.execute_cell(cell, number)
        client.set_widgets_metadata()
    for cell in notebook.cells[1:]:
        printed = "".join(output.get("text", "") for output in cell.get("outputs", ()))
        ours = cells[cell.id]
        assert not ours.printed or printed == ours.printed
        assert ours.role != "check" or re.match(rf"✓ ({ours.exercise}|Exercise {ours.number}): correct", printed)
        assert ours.role != "hidden" or "hidden => " in printed
    widgets = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"].state.values()
    kinds = Counter(kind for widget in widgets for kind in widget.state.get("_dom_classes", ()))
    assert kinds["edgelab-explorer"] >= 2
    assert kinds["edgelab-prediction"] >= 1


def test_its_own_tests_pass(course):
    done = python(course, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/labs", "edgelab/labs/lab_07_rivers")
    assert done.returncode == 0, done.stdout


@pytest.fixture
def checks(course, learners_folder):
    """Return the module of the new lab's self-checks."""
    path = course / "edgelab" / "labs" / "lab_07_rivers" / "check.py"
    specification = importlib.util.spec_from_file_location("lab_07_rivers_check", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def answers(path: Path) -> list[tuple[str, str, str]]:
    """Return (exercise, "right" or "wrong", code) for every answer in a file of answers."""
    return re.findall(r"(?ms)^# %% ([\w-]+): (right|wrong)\n(.*?)(?=^# %% |\Z)", path.read_text("utf-8"))


def shown(cells, exercise: str, code: str, capsys) -> list[str]:
    """Return what the hidden cells of an exercise print once `code` has run."""
    printed = []
    for cell in cells:
        if cell.role == "hidden" and cell.exercise == exercise:
            names = {"SEED": 3}
            exec(f"import math\n{code}\n", names)
            capsys.readouterr()
            exec(cell.source, names)
            printed.append(capsys.readouterr().out)
    return printed


def test_checks_and_hidden_cells_tell_right_answers_from_mistakes(course, checks, capsys):
    cells = read_source(source(course))
    solutions = {cell.name: solved(cell.source) for cell in cells if cell.role == "exercise"}
    given = answers(course / "tests" / "labs" / "answers" / "07_rivers.py")
    assert Counter(given_to[:2] for given_to in given) == {
        (exercise, kind): number for exercise in solutions for kind, number in (("right", 1), ("wrong", 2))
    }
    for exercise, kind, code in given:
        wanted = shown(cells, exercise, solutions[exercise], capsys)
        got = shown(cells, exercise, code, capsys)
        assert all(map(agrees, wanted, got)) == (kind == "right"), code
        name = exercise.replace("-", "_")
        exec(code, names := {})
        if kind == "right":
            getattr(checks, name)(names[name])
        else:
            with pytest.raises(NotYet, match="Hint: "):
                getattr(checks, name)(names[name])


def test_elsewhere_it_is_one_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["new-lab", "edge_budget"])
    assert (done.exit_code, done.output.split("\n")[:2]) == (
        0,
        ["labs/source/01_edge_budget.py", "Next: edgelab build"],
    )
    assert "# # Edge budget" in Path("labs/source/01_edge_budget.py").read_text()
    done = CliRunner().invoke(cli.app, ["new-lab", "battery", "--folder", "labs"])
    assert done.output.startswith("labs/source/02_battery.py\n")
    built = build.build(Path("labs"))
    assert [path.as_posix() for path in built] == [
        *("labs/01_edge_budget.ipynb", "labs/es/01_edge_budget.ipynb"),
        *("labs/02_battery.ipynb", "labs/es/02_battery.ipynb"),
    ]


def test_in_the_labs_folder_itself_the_course_is_found(tmp_path, monkeypatch):
    (tmp_path / "edgelab" / "labs").mkdir(parents=True)
    (tmp_path / "labs").mkdir()
    monkeypatch.chdir(tmp_path / "labs")
    assert len(new_lab("rivers", Path())) == len(FILES)
    assert (tmp_path / "edgelab" / "labs" / "lab_01_rivers" / "check.py").is_file()


@pytest.mark.parametrize(
    ("answer", "agreeing"),
    [
        ("sum(samples) / len(samples) if samples else math.nan", [True, True]),
        ("sum(samples) / max(1, len(samples))", [True, False]),
        ("math.nan", [False, False]),
        ("0.0", [False, False]),
    ],
    ids=["right", "the empty list forgotten", "always nan", "always 0"],
)
def test_no_constant_agrees_with_a_hidden_cell_of_the_small_lab(tmp_path, capsys, answer, agreeing):
    (path,) = new_lab("means", tmp_path / "labs")
    cells = read_source(path)
    (solution,) = (solved(cell.source) for cell in cells if cell.role == "exercise")
    wanted = shown(cells, "mean", solution, capsys)
    got = shown(cells, "mean", f"def mean(samples):\n    return {answer}", capsys)
    assert list(map(agrees, wanted, got)) == agreeing


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Edge Budget", "A lab's name has small letters, digits and _ alone, as in edge_budget; not 'Edge Budget'.\n"),
        ("../x", "A lab's name has small letters, digits and _ alone, as in edge_budget; not '../x'.\n"),
        ("07_", "A lab's name has small letters, digits and _ alone, as in edge_budget; not '07_'.\n"),
        ("07_lakes", "The number 07 is taken in labs/source.\n"),
    ],
    ids=["capitals and a space", "a path", "no topic", "a number taken"],
)
def test_a_name_that_cannot_be_a_labs_is_one_sentence(tmp_path, monkeypatch, name, sentence):
    monkeypatch.chdir(tmp_path)
    new_lab("07_rivers", Path("labs"))
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(cli.app, ["new-lab", name])
    assert (done.exit_code, done.stderr) == (2, sentence)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("file", FILES)
def test_nothing_is_written_where_a_file_is_there_already(tmp_path, monkeypatch, file):
    (tmp_path / "edgelab" / "labs").mkdir(parents=True)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("mine")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["new-lab", "07_rivers"])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / file]
    assert (tmp_path / file).read_text() == "mine"


def test_the_templates_text_is_translated_as_it_stands():
    """A change of the template is followed by its Spanish; `translate.update` writes the file, a person the words."""
    template = TEMPLATE / "course" / "labs" / "source" / "NN_topic.py"
    messages = build.translate.cell_messages(template, read_source(template))
    problems = build.translate.translation_problems(build.po_path(template, "es"), messages)
    assert [str(problem) for problem in problems] == []
