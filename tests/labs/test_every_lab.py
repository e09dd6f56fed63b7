"""Every lab: its solutions run under nbval and print what the text says; its stubs stop where they should.

| run | what it alone proves |
| --- | --- |
| the grader's reference, English, on `signs`, every cell | the solutions run, and print what the source promises |
| the same, Spanish, graded cells and what they need | answers depend neither on the language nor on hashing |
| a learner's untouched copy, then one with errors | a check says so, in both languages, and shows only their lines |
| answers of learners' (`test_answers.py`) | right ones earn all points, mistakes none |
| a browser, Spanish, on photographs (`test_browser.py`) | widgets move; every cell runs on other data and in Spanish |

That the notebooks of one lab have the same code, whatever they are for, is read off them.
"""

import ast
import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from edgelab.course import build
from edgelab.course.source import code_alone, read_source, stub
from edgelab.grading.merge import merge, solutions
from edgelab.grading.needed import needed

STUB, BROKEN = "NotImplementedError", "return [][1]"


def syntax(notebook):
    """Return the ids of a notebook's code cells and what each does, without its docstrings and comments."""
    return [(name, code_alone(source)) for name, source in code_cells(notebook)]


def code_cells(notebook):
    """Return the ids and sources of a notebook's code cells, in order."""
    return [(cell.id, cell.source) for cell in notebook.cells if cell.cell_type == "code"]


def run_with_nbval(notebook, folder, dataset):
    """Run a notebook under nbval in a folder of its own, as README says; return the finished process."""
    (folder / ".edgelab").mkdir()
    path = folder / "lab.ipynb"
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    command += ["--rootdir", str(folder), "--nbval-kernel-name", "python3", "--nbval-cell-timeout", "300", str(path)]
    environment = {**os.environ, "EDGELAB_DATASET": dataset}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)


def test_the_solutions_run_and_print_what_the_source_promises(source, references):
    """Run under nbval in the grader's sandbox; what fails, or prints something else, is an error with its line."""
    ours = references(source)
    code = [cell for cell in ours.cells if cell.kind == "code"]
    assert ours.seconds.keys() >= {cell.id for cell in code}
    assert all(ours.expected[cell.id].strip() for cell in code if cell.role == "hidden")
    assert not ours.whole  # explorers and pictures can be left out of a graded run


def test_exercises_are_numbered_as_their_headings_say(source):
    """✓, errors and pages of feedback name an exercise by its number alone."""
    cells = read_source(source)
    for place, cell in enumerate(cells):
        if cell.role == "exercise":
            texts = [one.source for one in cells[:place] if one.kind == "markdown"]
            assert re.findall(r"(?m)^### Exercise (\d+)", "\n".join(texts))[-1] == str(cell.number)


def test_what_labs_promise_is_there_to_hold(labs):
    """Four labs promise no line: lab 00 shows times and pictures, labs 05, 07 and 10 what came of trainings."""
    promising = {source.stem for source in build.sources(labs) if any(cell.printed for cell in read_source(source))}
    assert {source.stem for source in build.sources(labs)} - promising <= {
        "00_start",
        "05_unstructured_pruning",
        "07_distillation",
        "10_capstone",
    }


def test_every_notebook_of_a_lab_has_the_same_code(source):
    cells = read_source(source)
    graded = [
        (cell.id, cell.source)
        for cell in merge(cells, solutions(cells), seed=0, whole=True).cells
        if cell.metadata.edgelab.role != "hidden"
    ]
    stubs = code_cells(build.learner(source))
    for lang in build.TRANSLATIONS:
        assert syntax(build.reference(source, lang)) == [(name, code_alone(code)) for name, code in graded]
        assert syntax(build.learner(source, lang)) == syntax(build.learner(source))
        assert docstrings(build.learner(source, lang)).isdisjoint(docstrings(build.learner(source)))
    assert code_cells(build.reference(source)) == graded
    exercises = {cell.id for cell in cells if cell.role == "exercise"}
    solved = dict(code_cells(build.reference(source)))
    assert exercises
    assert {name for name, text in stubs if text != solved[name]} == exercises


def docstrings(notebook):
    """Return the docstrings of a notebook's exercises."""
    trees = [ast.parse(source) for name, source in code_cells(notebook) if "NotImplementedError" in source]
    functions = [node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert functions
    return {ast.get_docstring(node) for node in functions}


def errors_of(notebook, folder):
    """Run a notebook to its end in a folder of a learner's; return the lines of its errors by cell id."""
    (folder / ".edgelab").mkdir()
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, allow_errors=True, resources=where, kernel_name="python3").execute()
    outputs = [(cell.id, output) for cell in notebook.cells for output in cell.get("outputs", ())]
    return {name: output.traceback for name, output in outputs if "ename" in output}


@pytest.mark.parametrize(
    ("lang", "untouched", "stopped"),
    [
        ("en", "exercise %d is still to be written", "stopped with"),
        ("es", "el ejercicio %d está todavía por escribir", "se ha detenido con"),
    ],
    ids=["en", "es"],
)
def test_checks_of_untouched_and_broken_exercises_show_nothing_of_their_own(
    source, labs, tmp_path, monkeypatch, lang, untouched, stopped
):
    """As the first "Run All" shows them, and then as someone sees them whose function has an error in it."""
    monkeypatch.setenv("EDGELAB_LANG", lang)
    notebook = nbformat.read(labs / ("" if lang == "en" else lang) / f"{source.stem}.ipynb", as_version=4)
    cells = {cell.id: cell for cell in read_source(source) if cell.role in ("check", "exercise")}
    kept = needed(dict(code_cells(notebook)), cells)
    notebook.cells = [cell for cell in notebook.cells if cell.id in kept]
    for cell in cells.values():
        code = re.sub(r"raise NotImplementedError\(.*\)", BROKEN, stub(cell.source, cell.number))
        notebook.cells.append(new_code_cell(code, id=f"broken-{cell.id}"[:64]))
    errors = errors_of(notebook, tmp_path)
    checks = [cell for cell in cells.values() if cell.role == "check"]
    assert checks
    for cell in checks:
        (line,) = errors.pop(cell.id)
        assert untouched % cell.number in line
        first, *frames = "\n".join(errors.pop(f"broken-{cell.id}"[:64])).split("\n")
        assert f"{stopped} IndexError: list index out of range" in first
        assert "(" in first
        shown = "\n".join(frames)
        assert BROKEN in re.sub(r"\x1b\[[0-9;]*m", "", shown)
        assert not re.search(r"check\.py|Case\(|Mistake|mistakes|site-packages|edgelab", shown), shown
    assert all(STUB in error[-1] for error in errors.values()), errors


def test_a_lab_gives_ten_points_in_three_to_five_exercises(source):
    checks = [cell for cell in read_source(source) if cell.role in ("check", "hidden")]
    assert sum(cell.points for cell in checks) == 10
    assert 3 <= len({cell.exercise for cell in checks}) <= 5


def prose(source):
    """Return the words of a lab's texts, without formulas, code, what is folded away, further reading."""
    text = "\n".join(cell.source for cell in read_source(source) if cell.kind == "markdown")
    text = text.split("### Further reading")[0]
    for left_out in (r"(?s)<details>.*?</details>", r"(?s)```.*?```", r"(?s)\$\$.*?\$\$", r"\$[^$]*\$", r"\]\([^)]*\)"):
        text = re.sub(left_out, " ", text)
    return re.findall(r"[^\W\d_][\w'’-]*", text)


def test_a_lab_is_short(source):
    assert len(prose(source)) <= 2_000


def minutes(source):
    """Return for how many minutes a lab keeps a learner, by labs/AUTHORS.md: words, code, exercises, what one tries."""
    cells = [cell for cell in read_source(source) if cell.role != "hidden"]
    texts = [cell.source.split("### Further reading")[0] for cell in cells if cell.kind == "markdown"]
    code = [cell.source for cell in cells if cell.kind == "code"]
    words = sum(len(re.findall(r"[^\W\d_][\w'’-]*", text)) for text in texts)
    lines = sum(bool(line.strip()) for text in code for line in text.split("\n"))
    exercises = sum(cell.role == "exercise" for cell in cells)
    predictions = sum(bool(re.search(r"(?m)^\w+\.predict_", text)) for text in code)
    explorers = sum(bool(re.search(r"(?m)^\w+\.\w*explorer\w*\(", text)) for text in code)
    return words / 150 + lines / 15 + 6.5 * exercises + 1.5 * predictions + 3 * explorers + 2


@pytest.mark.parametrize("lang", ["en", *build.TRANSLATIONS])
def test_a_lab_promises_the_minutes_that_it_takes_and_a_break_where_they_are_more_than_an_hour(source, lang):
    first = next(cell.source for cell in build.learner(source, lang).cells if cell.cell_type == "markdown")
    (promised,) = map(int, re.findall(r"(\d+) minut", first))
    assert minutes(source) - 5 <= promised <= minutes(source) + 10
    breaks = re.findall({"en": r"break before\s\*(.+?)\*", "es": r"descanso antes de\s\*(.+?)\*"}[lang], first)
    assert len(breaks) == (promised > 60)
    headings = [line for cell in build.learner(source, lang).cells for line in cell.source.split("\n")]
    assert all(f"## {heading}" in headings for heading in breaks)


@pytest.mark.parametrize("lang", ["en", *build.TRANSLATIONS])
def test_no_number_is_broken_at_its_thousands(source, lang):
    """A thin no-break space stands there; at any other a line may end."""
    texts = [cell.source for cell in build.learner(source, lang).cells if cell.cell_type == "markdown"]
    assert [found for text in texts for found in re.findall(r"(?<![\d.])\d{1,3}[ \u2009]\d{3}(?![\d.])", text)] == []


@pytest.mark.parametrize("lang", ["en", *build.TRANSLATIONS])
def test_no_year_begins_a_line_and_becomes_the_number_of_a_list(source, lang):
    prose = [cell.source for cell in build.learner(source, lang).cells if cell.cell_type == "markdown"]
    assert [line for text in prose for line in text.splitlines() if re.match(r" *\d{2,}[.)] ", line)] == []


@pytest.mark.parametrize("lang", ["en", *build.TRANSLATIONS])
def test_no_row_of_a_table_is_broken_into_two(source, lang):
    """Markdown makes a row of each line."""
    lines = [line for cell in build.learner(source, lang).cells if cell.cell_type == "markdown"
             for line in cell.source.split("\n")]  # fmt: skip
    assert [line for line in lines if line.startswith("|") != line.rstrip().endswith("|")] == []


def test_code_fits_beside_another_window(source):
    """At 960 pixels a line of 88 characters is seen whole; docstrings of exercises are prose."""
    lines = [
        line
        for cell in read_source(source)
        if cell.kind == "code" and cell.role != "hidden"
        for line in cell.source.split("\n")
    ]
    assert [line for line in lines if len(line) > 88 and '"""' not in line and line.strip()[:1] != "`"] == []


def test_nothing_but_the_reveal_shows_what_was_predicted(source):
    """A cell that reveals prints nothing and ends there, and the cell before it in which one predicts is there."""
    cells = [cell.source for cell in read_source(source) if cell.kind == "code"]
    revealing = [cell for cell in cells if "reveal(" in cell]
    assert revealing
    for cell in revealing:
        assert "print(" not in cell
        assert re.search(r"(?m)^reveal\(", cell)
        assert cell[cell.index("reveal(") :].rstrip().endswith(")")
        earlier = cells[: cells.index(cell)]
        assert any(re.fullmatch(r"\w+\.predict_\w+\(\)", before.strip()) for before in earlier)


def test_lab_00_does_not_tell_the_peak_that_lab_01_asks_for(labs):
    code = "\n".join(cell.source for cell in read_source(labs / "source" / "00_start.py") if cell.kind == "code")
    for shown in re.findall(r"table\.(?:show|pareto)\(.*\)", code):
        assert 'without=("peak", "energy")' in shown


def test_a_lab_says_where_it_stands_what_it_needs_and_where_to_go_on(source, labs):
    cells = read_source(source)
    assert any(cell.source.strip() == f'lab_map("{source.stem}")' for cell in cells)
    first, *_rest, last = [cell.source for cell in cells if cell.kind == "markdown"]
    assert "You need" in first
    number = int(source.stem[:2])
    following = [path.stem for path in sorted((labs / "source").glob("*.py")) if int(path.stem[:2]) == number + 1]
    assert all(f"({name}.ipynb)" in last for name in following)


def test_a_reference_notebook_is_green_under_plain_nbval(labs, tmp_path):
    """As an author runs it by hand: no sandbox, no grader. The shortest lab stands for all."""
    notebook = build.reference(labs / "source" / "01_edge_budget.py")
    assert any("nbval-check-output" in cell.metadata.get("tags", ()) for cell in notebook.cells)
    result = run_with_nbval(notebook, tmp_path, "signs")
    assert result.returncode == 0, result.stdout
    assert f"{len(code_cells(notebook))} passed" in result.stdout


@pytest.mark.long
@pytest.mark.parametrize(
    ("dataset", "lang"), [("signs", lang) for lang in build.TRANSLATIONS] + [("fashion-mnist", "en")]
)
def test_the_whole_lab_is_green_under_plain_nbval(source, lang, dataset, tmp_path, needs_fashion_mnist):
    """The two that the sandboxed run (English, signs) and the browser's (Spanish, Fashion-MNIST) leave out."""
    notebook = build.reference(source, lang, outputs=dataset == "signs")
    result = run_with_nbval(notebook, tmp_path, dataset)
    assert result.returncode == 0, result.stdout


@pytest.mark.long
def test_a_whole_untouched_copy_stops_only_at_not_implemented(source, labs, tmp_path):
    notebook = nbformat.read(labs / f"{source.stem}.ipynb", as_version=4)
    errors = errors_of(notebook, tmp_path)
    assert errors
    expected = (STUB, "is still to be written", "comes from a cell above", "has no row")  # that cell stopped, too
    assert [lines for lines in errors.values() if not any(words in lines[-1] for words in expected)] == []


def test_committed_notebooks_and_translations_are_up_to_date(labs):
    assert build.check(labs) == []
