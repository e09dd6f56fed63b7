"""A graded run leaves out what no graded cell depends on, and nothing else."""

import dataclasses

import pytest

from edgelab.course.source import read_source
from edgelab.grading import merge
from edgelab.grading.needed import needed


def kept(*cells: str, graded: str = "print(x)") -> str:
    """Return the letters of the cells that are kept for a graded cell."""
    sources = dict(zip("abcdef", cells, strict=False)) | {"graded": graded}
    return "".join(sorted(needed(sources, ["graded"]) - {"graded"}))


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["x = 1", "y = 2"], "a"),
        (["import math as x", "import math"], "a"),
        (["from os import path, sep as x"], "a"),
        (["import x.y"], "a"),
        (["def x():\n    return y", "y = 1", "z = 1"], "ab"),
        (["class x:\n    z = y", "y = 1"], "ab"),
        (["x = [y for y in z]", "y = 1", "z = []"], "ac"),
        (["x = 0", "x += y", "y = 1"], "abc"),
        (["x = {}", "x['k'] = 1", "print(x)"], "ab"),
        (["x = y = z = 1", "x.attribute = 2"], "ab"),
        (["for x in range(3):\n    print(x)"], "a"),
        (["with open('f') as x:\n    pass"], "a"),
        (["def f():\n    global x\n    x = y", "y = 1"], "ab"),
        (["(x, y), *z = w", "w = 1"], "ab"),
        (["if (x := y):\n    pass", "y = 1"], "ab"),
        (["%matplotlib inline\nx = 1"], "a"),
        (["y = x", "print(y)"], ""),
    ],
)
def test_a_cell_is_kept_for_the_names_it_gives(cells, expected):
    assert kept(*cells) == expected


def test_a_loop_that_brings_its_own_variable_needs_no_other_cell():
    assert kept("b = 1", "for b in range(3):\n    c = b", graded="for b in (1, 2):\n    print(b)") == ""


def test_a_function_parameter_is_not_a_name_of_the_module():
    assert kept("bits = 1", graded="def f(bits):\n    return bits") == ""


@pytest.mark.parametrize(
    "code",
    [
        "def half(x: return y",
        "try:\n    import missing as y\nexcept ImportError:\n    z = y + x",
        "for y in y:\n    print(x)",
        "class C:\n    y = y + x",
        "eval('x' + str(y))",
        "# x and y\nimport sys\nsys.modules['__main__']",
        "print(['x', 'y'])",
        "def f():\n    def g():\n        return x + y\n    return g",
        "x;y;" * 500_000,
    ],
    ids=["a slip", "a condition", "a loop", "a class", "eval", "any name", "text", "closures", "a megabyte"],
)
def test_every_name_that_a_learner_may_reach_counts(code):
    cells = {"a": "x = 1", "b": "y = 2", "c": "z = 3", "half": code}
    assert needed(cells, ["half"], learners=["half"]) == {"a", "b", "half"}


def test_what_a_learner_only_writes_about_does_not_count():
    code = 'def half(x):\n    """Return half of `y`."""\n    z = x / 2  # not y\n    return z'
    assert needed({"x": "x = 1", "y": "y = 2", "z": "z = 3", "half": code}, ["half"], learners=["half"]) == {"half"}


def test_a_hidden_cell_needs_no_cell_of_the_lab(source):
    cells = [
        dataclasses.replace(cell, source=f"for _ in (1,):\n    number = 1\n    print(number)\n{cell.source}")
        if cell.role == "hidden"
        else dataclasses.replace(cell, source="number = 2")
        if cell.name == "use-half"
        else cell
        for cell in read_source(source)
    ]
    assert "use-half" not in {cell.id for cell in merge.merge(cells, {}, seed=1).cells}


def test_the_learners_own_code_counts(source):
    cells = read_source(source)
    assert "use-half" not in {cell.id for cell in merge.merge(cells, {}, seed=1).cells}
    assert "use-half" in {cell.id for cell in merge.merge(cells, {}, seed=1, whole=True).cells}
    with_os = merge.merge(cells, {"half": ["def half(number):\n    return number / len(os.sep + '/')"]}, seed=1)
    assert "setup" in {cell.id for cell in with_os.cells}
