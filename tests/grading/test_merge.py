"""The notebook that runs is ours; a submission's exercise cells go in, and nothing else of it."""

import copy
from pathlib import Path

import pytest
from nbval.plugin import find_comment_markers

from edgelab.course.source import parse as parse_source
from edgelab.course.source import read_source
from edgelab.grading import merge
from edgelab.grading.answers import answers
from edgelab.grading.returned import Returned, ReturnedCell, Unreadable, lab_of, parse


@pytest.fixture
def cells(source):
    return read_source(source)


def merged(cells, *returned: tuple[str, str, str], **options):
    """Merge code cells given as (id, name, source)."""
    notebook = Returned(tuple(ReturnedCell(*cell) for cell in returned), "01_halves", "en", "")
    return merge.merge(
        cells, {name: answer.parts for name, answer in answers(notebook, cells).items()}, seed=3, **options
    )


def sources(notebook) -> dict[str, str]:
    return {cell.id: cell.source for cell in notebook.cells}


def test_only_exercise_cells_are_taken(cells):
    found = sources(merged(cells, ("half", "half", "A"), ("half-check", "half-check", "B"), ("new", "", "C")))
    assert found["half"] == "A"
    assert "assert half(3)" in found["half-check"]
    assert not {"B", "C"} & set(found.values())


def test_hidden_cells_come_last_and_have_the_seed_to_themselves(cells):
    found = sources(merged(cells))
    ids = list(found)
    assert ids[-3:] == ["half-hidden", "half-hidden-negative", "evens-hidden"]
    assert {name for name, source in found.items() if "seed=3, answers=['half', 'evens']" in source} == set(ids[-3:])


def test_the_id_decides_then_the_name(cells):
    found = sources(merged(cells, ("x", "half", "by name"), ("evens", "half", "by id")))
    assert (found["half"], found["evens"]) == ("by name", "by id")


def test_a_missing_exercise_gets_its_stub(cells):
    assert "NotImplementedError" in sources(merged(cells))["half"]


def test_a_split_exercise_runs_in_its_parts(cells):
    notebook = merged(cells, ("y", "half", "first = 1"), ("half", "half", "second = 2"))
    own = [cell.source for cell in notebook.cells if cell.metadata.edgelab.exercise == "half"]
    assert own[:2] == ["first = 1", "second = 2"]
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_an_untouched_copy_below_the_answer_does_not_undo_it(cells):
    untouched = sources(merged(cells))["half"]
    notebook = merged(cells, ("half", "half", "def half(x): return x / 2"), ("copy", "half", untouched))
    own = [cell.source for cell in notebook.cells if cell.metadata.edgelab.role == "exercise"]
    assert own[0] == "def half(x): return x / 2"
    assert own[1].startswith("def evens")


def test_what_is_left_out_gets_its_stub(cells):
    found = sources(merged(cells, ("half", "half", "A"), ("evens", "evens", "B"), left_out=["half"]))
    assert "NotImplementedError" in found["half"]
    assert found["evens"] == "B"


@pytest.mark.parametrize("sign", ["#", "##", " # ", "#\t"])
@pytest.mark.parametrize("word", ["NBVAL_SKIP", "NBVAL_IGNORE_OUTPUT", "PYTEST_VALIDATE_IGNORE_OUTPUT"])
@pytest.mark.parametrize("end", ["\n", "\x0b", "\x0c", "\x1c", "\u2028", "\r"], ids=repr)
def test_instructions_to_nbval_are_dropped(cells, sign: str, word: str, end: str):
    code = f"x = 1{end}{sign}{word}{end}y = 2"
    (found,) = answers(Returned((ReturnedCell("half", "", code),), "", "en", ""), cells)["half"].parts
    assert list(find_comment_markers(code)) != []
    assert list(find_comment_markers(found)) == []
    assert len(found.splitlines()) == 3


def test_a_solution_cell_is_not_run():
    text = '# %% a tags=["exercise"]\n# BEGIN SOLUTION\n1\n# END SOLUTION\n# %% tags=["solution"]\nsecret\n'
    cells = parse_source(text + '# %% a-check tags=["check"] points=1\n1\n', Path("lab.py"))
    assert "secret" not in sources(merge.merge(cells, merge.solutions(cells), seed=1)).values()


def test_expected_outputs_are_stored_for_hidden_cells_alone(cells):
    expected = {"half-hidden": "a", "half-hidden-negative": "b", "evens-hidden": "c"}
    notebook = merged(cells, expected=expected)
    assert {cell.id: cell.outputs[0].text for cell in notebook.cells if cell.outputs} == expected


# --- what comes back


def test_a_saved_notebook_is_read(notebook, answer):
    import json

    found = parse(json.dumps(answer(half="x = 1")).encode())
    assert ReturnedCell("half", "half", "x = 1") in found.cells
    assert (found.lab, found.lang) == ("01_halves", "en")


def as_version_3(notebook: dict) -> dict:
    cells = copy.deepcopy(notebook["cells"])
    for cell in cells:
        if cell["cell_type"] == "code":
            cell["input"] = cell.pop("source")
        cell.pop("id")
    return {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": cells}]}


def test_version_3_is_read(notebook):
    import json

    names = [cell.name for cell in parse(json.dumps(as_version_3(notebook)).encode()).cells]
    assert {"half", "evens"} <= set(names)


BROKEN = {
    "empty": b"",
    "not JSON": b"PK\x03\x04",
    "half a file": b'{"cells": [',
    "a list": b"[]",
    "no cells": b'{"metadata": {}}',
    "not UTF-8": b'{"cells": ["\xff"]}',
    "nested too deeply": b"[" * 200_000,
    "too large": b" " * (17 * 2**20),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_unreadable_and_nothing_worse(content: bytes):
    with pytest.raises(Unreadable):
        parse(content)


STRANGE = [
    b'{"cells": []}',
    b'{"cells": [1, null, {"cell_type": 3}, {"cell_type": "code"}]}',
    b'{"cells": [{"cell_type": "code", "source": 7, "metadata": [], "id": {}}], "metadata": 5}',
    b'{"cells": [{"cell_type": "code", "source": ["a", 1, "b"], "metadata": {"edgelab": {"name": ["x"]}}}]}',
    b'\xef\xbb\xbf{"cells": [{"cell_type": "code", "source": "\\ud800"}]}',
    b'{"worksheets": [3, {"cells": 4}]}',
]


@pytest.mark.parametrize("content", STRANGE, ids=range(len(STRANGE)))
def test_a_strange_file_is_read_as_far_as_it_goes(content: bytes):
    assert all(isinstance(cell.source.encode(), bytes) for cell in parse(content).cells)


@pytest.mark.parametrize(
    ("name", "lab"),
    [
        ("01_halves.ipynb", "01_halves"),
        ("01_halves-1.ipynb", "01_halves"),
        ("01_halves (2).ipynb", "01_halves"),
        ("01_halves.new.ipynb", "01_halves"),
        ("lovelaceada_LATE_12_345_01_halves-2.ipynb", "01_halves"),
        ("lovelaceada_12345_67890_01_Halves.ipynb", "01_halves"),
        ("halves.ipynb", ""),
        ("01_halves.pdf", ""),
    ],
)
def test_the_lab_in_a_files_name(name: str, lab: str):
    assert lab_of(name) == lab
