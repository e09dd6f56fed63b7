"""Sources become notebooks: the same bytes each time, nothing lost, and every mistake named with its line."""

import difflib
import json
import re
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgelab.course import build
from edgelab.course.source import BuildError, code_alone, parse, read_source, solved, stub, to_write

LAB = '''\
# A note to maintainers, in no notebook.

# %% [markdown]
# # Halves
#
# What is half of a number?

# %% setup
import math

# %% [markdown]
# Write `half`.

# %% half tags=["exercise"]
def half(number):
    """Return half of `number`."""
    # BEGIN SOLUTION
    return number / 2
    # END SOLUTION


# %% half-check tags=["check"] points=2
print(half(3))
# > 1.5

# %% half-hidden tags=["hidden"] points=1
print(half(7))
# > 3.5

# %% [markdown] tags=["solution"]
# Dividing by 2 is the obvious way.

# %%
math.pi
'''


@pytest.fixture
def labs(tmp_path: Path) -> Path:
    folder = tmp_path / "labs"
    (folder / "source").mkdir(parents=True)
    (folder / "source" / "01_halves.py").write_text(LAB)
    return folder


@pytest.fixture
def source(labs: Path) -> Path:
    return labs / "source" / "01_halves.py"


def translate_all(labs: Path) -> Path:
    """Give every text of the lab a translation, and return the .po file."""
    build.update_translations(labs)
    po = build.po_path(labs / "source" / "01_halves.py", "es")
    catalogue = build.translate._load(po)
    for entry in catalogue:
        entry.msgstr = f"ES {entry.msgid}"
    catalogue.save()
    return po


def problems_of(text: str) -> list[str]:
    with pytest.raises(BuildError) as caught:
        parse(text, Path("lab.py"))
    return str(caught.value).splitlines()


def test_two_builds_give_the_same_bytes(labs: Path):
    first = {path: path.read_bytes() for path in build.build(labs)}
    assert [path.relative_to(labs).as_posix() for path in first] == ["01_halves.ipynb", "es/01_halves.ipynb"]
    assert build.build(labs) == []
    for path in first:
        path.unlink()
    assert {path: path.read_bytes() for path in build.build(labs)} == first


def test_learners_get_a_stub_and_no_hidden_or_solution_cell(source: Path):
    notebook = build.learner(source)
    ids = [re.sub("-[0-9a-f]{8}$", "", cell.id) for cell in notebook.cells]
    assert ids == ["install-edgelab", "text", "setup", "text", "half", "half-check", "code"]
    exercise = notebook.cells[4]
    assert exercise.source.splitlines()[2:] == [
        "    # YOUR CODE HERE",
        '    raise NotImplementedError("Exercise 1: write your code here")',
    ]
    assert "Dividing" not in nbformat.writes(notebook)
    assert "1.5" not in nbformat.writes(notebook)


def test_notebooks_are_valid_and_hold_no_outputs(labs: Path):
    for path in build.build(labs):
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_metadata_tells_a_grader_what_each_cell_is(source: Path):
    notebook = build.reference(source, hidden=True)
    marks = [cell.metadata.edgelab for cell in notebook.cells if "edgelab" in cell.metadata]
    assert marks == [
        {"name": "setup"},
        {"name": "half", "role": "exercise"},
        {"name": "half-check", "role": "check", "exercise": "half", "points": 2},
        {"name": "half-hidden", "role": "hidden", "exercise": "half", "points": 1},
    ]
    assert notebook.metadata.edgelab == {"lab": "01_halves", "lang": "en"}


def test_the_reference_holds_solutions_and_promised_outputs(source: Path):
    notebook = build.reference(source)
    cells = {cell.id: cell for cell in notebook.cells}
    assert cells["half"].source.endswith("    return number / 2")
    assert "half-hidden" not in cells
    assert cells["half-check"].outputs[0].text == "1.5\n"
    assert cells["half-check"].execution_count == 1
    assert cells["half-check"].metadata.tags == ["nbval-check-output"]
    assert cells["setup"].outputs == []
    bare = {cell.id: cell for cell in build.reference(source, outputs=False).cells}
    assert bare["half-check"].outputs == []


def test_what_a_phrase_says_is_promised_in_english_alone(source: Path):
    says = source.read_text().replace("# > 1.5", "# > 1.5 is half")
    assert says != source.read_text()
    source.write_text(says)
    built = [build.reference(source, lang) for lang in ("en", "es")]
    tags = [{cell.id: cell.metadata.get("tags") for cell in notebook.cells} for notebook in built]
    assert [one["half-check"] for one in tags] == [["nbval-check-output"], None]


def test_the_reference_with_hidden_cells_has_them_in_place(source: Path):
    ids = [cell.id for cell in build.reference(source, hidden=True).cells]
    assert ids.index("half-hidden") == ids.index("half-check") + 1


def test_a_translated_notebook_has_the_same_code_and_ids(labs: Path, source: Path):
    translate_all(labs)
    english, spanish = build.learner(source), build.learner(source, "es")
    assert [cell.id for cell in english.cells] == [cell.id for cell in spanish.cells]
    for mine, theirs in zip(english.cells, spanish.cells, strict=True):
        if mine.cell_type == "code":
            assert code_alone(theirs.source) == code_alone(mine.source)
        else:
            assert theirs.source == f"ES {mine.source}"
    half = next(cell.source for cell in spanish.cells if cell.id == "half")
    assert '"""ES ' in half
    assert half.endswith('# TU CÓDIGO AQUÍ\n    raise NotImplementedError("Ejercicio 1: escribe aquí tu código")')
    assert spanish.metadata.edgelab.lang == "es"


@pytest.mark.parametrize(
    "new", ["# %% [markdown]\n# New prose.\n\n", "# %%\nprint('new')\n\n", "# %% named\n1 + 1\n\n"]
)
@pytest.mark.parametrize("place", [1, 3, 5, 9])
def test_inserting_a_cell_changes_only_its_own_lines(source: Path, new: str, place: int):
    before = build.as_bytes(build.learner(source)).decode().splitlines()
    cells = re.split("(?m)^(?=# %%)", LAB)
    cells.insert(place, new)
    source.write_text("".join(cells))
    after = build.as_bytes(build.learner(source)).decode().splitlines()
    changes = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    assert changes
    assert all(line.startswith("+") for line in changes)


def test_equal_unnamed_cells_get_different_ids():
    cells = parse("# %%\n1\n# %%\n1\n# %%\n1\n", Path("lab.py"))
    first = cells[0].id
    assert [cell.id for cell in cells] == [first, f"{first}-2", f"{first}-3"]


@given(st.lists(st.sampled_from(["1", "x = 2", "print('ñ')", "'''a\nb'''"]), min_size=1, max_size=8))
def test_any_cells_make_a_valid_notebook_with_unique_ids(bodies: list[str]):
    cells = parse("".join(f"# %%\n{body}\n\n" for body in bodies), Path("lab.py"))
    assert [cell.source for cell in cells] == bodies
    assert len({cell.id for cell in cells}) == len(bodies)


MALFORMED = {
    "nested markers": (
        '# %% a tags=["exercise"]\n# BEGIN SOLUTION\n# BEGIN SOLUTION\nx = 1\n# END SOLUTION\n',
        "lab.py:3: `# BEGIN SOLUTION` inside the one that began on line 2",
    ),
    "unclosed marker": ('# %% a tags=["exercise"]\n# BEGIN SOLUTION\nx = 1\n', "lab.py:2: `# BEGIN SOLUTION` without"),
    "end without begin": ('# %% a tags=["exercise"]\nx = 1\n# END SOLUTION\n', "lab.py:3: `# END SOLUTION` without"),
    "markers missing": ('# %% a tags=["exercise"]\nx = 1\n', "lab.py:1: an exercise needs `# BEGIN SOLUTION`"),
    "misspelt marker": (
        '# %% a tags=["exercise"]\n# Begin Solution\nx = 1\n# END SOLUTION\n',
        "lab.py:2: write the marker exactly",
    ),
    "marker outside an exercise": (
        "# %%\n# BEGIN SOLUTION\nx = 1\n# END SOLUTION\n",
        'lab.py:1: `# BEGIN SOLUTION` needs the tag "exercise"',
    ),
    "uneven markers": (
        '# %% a tags=["exercise"]\nif True:\n    # BEGIN SOLUTION\n    x = 1\n# END SOLUTION\n',
        "lab.py:5: `# END SOLUTION` is not indented as",
    ),
    "unknown tag": ('# %% a tags=["excercise"]\nx = 1\n', "lab.py:1: unknown tag 'excercise'"),
    "two tags": ('# %% a tags=["hidden", "check"] points=1\n1\n', "lab.py:1: one tag per cell"),
    "tags that are no list": ("# %% a tags=[check]\n1\n", "lab.py:1: tags=[check] should be like"),
    "unreadable header": ("# %% a colour=red\n1\n", "lab.py:1: cannot read '# %% a colour=red'"),
    "a name that is no id": ("# %% a.b\n1\n", "lab.py:1: the name 'a.b' must be"),
    "a name taken": ("# %% a\n1\n# %% a\n2\n", "lab.py:3: the name 'a' is taken by the cell on line 1"),
    "a nameless check": ('# %% tags=["check"] points=1\n1\n', "lab.py:1: this check cell needs a name"),
    "a check without points": ('# %% a-check tags=["check"]\n1\n', "lab.py:1: a check cell needs its points"),
    "points without a check": ("# %% a points=1\n1\n", "lab.py:1: points belong to a check"),
    "points that are no number": ('# %% a-check tags=["check"] points=two\n1\n', "lab.py:1: points=two should be"),
    "a check of nothing": ('# %% a-check tags=["check"] points=1\n1\n', "lab.py:1: 'a-check' belongs to no exercise"),
    "an exercise without a check": (
        '# %% a tags=["exercise"]\n# BEGIN SOLUTION\n1\n# END SOLUTION\n',
        "lab.py:1: the exercise 'a' has no check",
    ),
    "a check in prose": ('# %% [markdown] a-check tags=["check"] points=1\n# x\n', "lab.py:1: a check cell holds code"),
    "prose without its comment sign": ("# %% [markdown]\n# one\ntwo\n", "lab.py:3: a line of prose starts with `# `"),
    "output before the end": ("# %%\n1\n# > 1\n2\n", "lab.py:3: `# > ` lines end a cell"),
    "a syntax error": ("# %%\nx = 1\n\nx = = 2\n", "lab.py:4: invalid syntax"),
    "a stub that is no code": (
        '# %% a tags=["exercise"]\nx = [\n    # BEGIN SOLUTION\n    1,\n    # END SOLUTION\n]\n',
        "lab.py:1: once the solution is taken out: ",
    ),
    "an empty cell": ("# %% a\n\n# %%\n1\n", "lab.py:1: the cell is empty"),
    "no cell": ("x = 1\n", "lab.py:1: no cell"),
}


@pytest.mark.parametrize(("text", "expected"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_source_is_named_with_its_line(text: str, expected: str):
    found = problems_of(text)
    assert any(problem.startswith(expected) for problem in found), found


def test_all_mistakes_are_reported_at_once(labs: Path, source: Path):
    source.write_text('# %% a tags=["x"]\n1\n# %% a\n2\n')
    source.with_name("02_other.py").write_text("# %%\n")
    with pytest.raises(BuildError) as caught:
        build.build(labs)
    assert [(problem.path.name, problem.line) for problem in caught.value.problems] == [
        ("01_halves.py", 1),
        ("01_halves.py", 3),
        ("02_other.py", 1),
    ]
    assert not list(labs.glob("*.ipynb"))


def test_a_folder_without_sources_is_one_sentence(tmp_path: Path):
    with pytest.raises(build.EdgelabError, match="holds no lab source"):
        build.build(tmp_path)


def test_a_source_with_another_name_is_refused(labs: Path, source: Path):
    source.rename(source.with_name("halves.py"))
    with pytest.raises(BuildError, match=r"halves.py:1: a source is called NN_topic.py"):
        build.build(labs)


def test_a_finished_folder_passes_the_check(labs: Path):
    translate_all(labs)
    build.build(labs)
    assert build.check(labs) == []


@pytest.mark.parametrize("name", ["01_halves.ipynb", "es/01_halves.ipynb"])
def test_an_edited_notebook_is_found_with_its_line(labs: Path, name: str):
    translate_all(labs)
    build.build(labs)
    path = labs / name
    path.write_text(path.read_text().replace("import math", "import maths"))
    line = path.read_text().splitlines().index('    "import maths"') + 1
    (problem,) = build.check(labs)
    assert (problem.path, problem.line) == (path, line)
    assert "differs from its source" in problem.message


def test_a_missing_and_an_orphaned_notebook_are_found(labs: Path):
    translate_all(labs)
    build.build(labs)
    (labs / "01_halves.ipynb").rename(labs / "02_gone.ipynb")
    assert [problem.message.split(":")[0] for problem in build.check(labs)] == ["not built", "has no source"]


def test_a_malformed_source_fails_the_check(labs: Path, source: Path):
    source.write_text("# %% a points=1\n1\n")
    assert [str(problem.line) + problem.message[:6] for problem in build.check(labs)] == ["1points"]


def test_references_are_laid_out_as_the_labs_are(labs: Path, tmp_path: Path):
    written = build.write_references(labs, tmp_path / "reference")
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "reference/01_halves.ipynb",
        "reference/es/01_halves.ipynb",
    ]
    notebook = json.loads(written[1].read_text())
    assert notebook["metadata"]["edgelab"]["lang"] == "es"


def test_a_stub_keeps_the_indentation_and_the_code_around():
    code = "for x in y:\n        # BEGIN SOLUTION\n        pass\n        # END SOLUTION\nprint(1)"
    assert stub(code, 4).splitlines() == [
        "for x in y:",
        "        # YOUR CODE HERE",
        '        raise NotImplementedError("Exercise 4: write your code here")',
        "print(1)",
    ]
    assert solved(code) == "for x in y:\n        pass\nprint(1)"


@pytest.mark.parametrize("lang", ["en", *build.TRANSLATIONS])
def test_the_complaint_of_a_stub_is_known_in_every_language(lang: str):
    code = stub("# BEGIN SOLUTION\n# END SOLUTION", 12, lang)
    assert to_write(re.search('"(.*)"', code)[1]) == 12
    assert to_write("Exercise caution") == to_write("Exercise 1: write") == to_write("9" * 5_000) == 0


def test_exercises_are_numbered_with_their_cells_and_a_check_imports_what_it_calls():
    code = "# BEGIN SOLUTION\nx = 1\n# END SOLUTION"
    cells = [f'# %% {name} tags=["exercise"]\n{code}\n# %% {name}-check tags=["check"] points=1\n' for name in "ab"]
    text = cells[0] + "check.a(x)\n# %%\n1\n" + cells[1] + "assert x\n"
    found = parse(text, Path("07_rivers.py"))
    assert [cell.number for cell in found] == [1, 1, 0, 2, 2]
    assert found[1].source == "from edgelab.labs.lab_07_rivers import check\n\ncheck.a(x)"
    assert found[4].source == "assert x"


def test_what_a_cell_prints_keeps_blank_lines_and_indents():
    (cell,) = parse("# %%\nprint()\n# > a\n# >\n# >   b\n", Path("lab.py"))
    assert (cell.source, cell.printed) == ("print()", "a\n\n  b\n")


def test_cells_know_where_they_stand(source: Path):
    lines = LAB.splitlines()
    assert all(lines[cell.line - 1].startswith("# %%") for cell in read_source(source))
