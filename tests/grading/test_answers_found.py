"""Notebooks as honest learners hand them in: edited, split, converted, renamed. What they wrote earns its points."""

import copy
import json
import os
import zipfile
from pathlib import Path

import pytest

from edgelab.course.source import read_source
from edgelab.grading import session
from edgelab.grading.answers import answers
from edgelab.grading.collect import collect
from edgelab.grading.limits import Limits
from edgelab.grading.mark import Status
from edgelab.grading.results import Results
from edgelab.grading.returned import parse

HALF = "def half(number):\n    return number / 2"
EVENS = "def evens(numbers):\n    return [number for number in numbers if number % 2 == 0]"
RIGHT = {"half": HALF, "evens": EVENS}


def cell(source: str, kind: str = "code", **more) -> dict:
    """Return a cell as JupyterLab makes a new one: with an id of its own, and no mark of ours."""
    extra = {"outputs": [], "execution_count": 1} if kind == "code" else {}
    return {"cell_type": kind, "id": f"new-{len(source)}", "metadata": {}, "source": source, **extra, **more}


def place(notebook: dict, name: str) -> int:
    return next(number for number, one in enumerate(notebook["cells"]) if one.get("id") == name)


def below(notebook: dict, name: str, *cells: dict) -> dict:
    at = place(notebook, name) + 1
    notebook["cells"][at:at] = cells
    return notebook


def as_text(notebook: dict, kind: str) -> dict:
    for one in notebook["cells"]:
        if one.get("id") in RIGHT:
            one["cell_type"] = kind
            one.pop("outputs", None)
            one.pop("execution_count", None)
    return notebook


def stripped(notebook: dict, *, metadata: bool) -> dict:
    for one in notebook["cells"]:
        one.pop("id", None)
        if metadata:
            one["metadata"] = {}
    if metadata:
        notebook["metadata"] = {}
    return notebook


def split(notebook: dict, name: str, line: int, *, mark: bool) -> dict:
    at = place(notebook, name)
    lines = notebook["cells"][at]["source"].splitlines(keepends=True)
    second = copy.deepcopy(notebook["cells"][at]) if mark else cell("")
    second |= {"id": "second", "source": "".join(lines[line:])}
    notebook["cells"][at]["source"] = "".join(lines[:line])
    return below(notebook, name, second)


def merged(notebook: dict) -> dict:
    """As by Jupyter's "merge cells": one cell is left, with the first one's id."""
    second = notebook["cells"].pop(place(notebook, "evens"))
    notebook["cells"][place(notebook, "half")]["source"] += f"\n\n\n{second['source']}"
    return notebook


def ending(notebook: dict, line: str) -> dict:
    notebook["cells"][place(notebook, "half")]["source"] += f"\n\n{line}"
    return below(notebook, "half", cell("def half(number):\n    return 0"))


HELPER = "def by_two(number):\n    return number / TWO"
# Each takes a notebook in which both exercises are answered, or none is.
ANSWERED = {
    "as it was": lambda it: it,
    "in markdown": lambda it: as_text(it, "markdown"),
    "in raw cells": lambda it: as_text(it, "raw"),
    "without ids": lambda it: stripped(it, metadata=False),
    "without ids and metadata": lambda it: stripped(it, metadata=True),
    "split at the first line": lambda it: split(it, "half", 1, mark=True),
    "split, the second half new": lambda it: split(it, "half", 1, mark=False),
    "a scratch cell that calls it": lambda it: below(
        it, "half", cell("%timeit half(3)"), cell("x = half(2)\nprint(x)")
    ),
    "merged into one cell": merged,
    "with a question, and a first try below": lambda it: ending(it, "half?"),
    "with a command's output, and a first try below": lambda it: ending(it, "files = !ls"),
    "with a time taken, and a first try below": lambda it: ending(it, "time = %timeit -n1 -r1 -o half(3)"),
    "a wrong copy elsewhere": lambda it: below(it, "half", cell("def half(number):\n    return 0")),
}
UNTOUCHED = {
    "below the stubs": lambda it: below(below(it, "half", cell(HALF)), "evens", cell(EVENS)),
    "in one new cell": lambda it: below(it, "evens-check", cell(f"{HALF}\n\n\n{EVENS}")),
    "a second try below the first": lambda it: below(
        it, "half", cell("def half(n): return n"), cell(HALF), cell(EVENS)
    ),
    "with the time taken": lambda it: below(it, "half", cell(f"%%time\n{HALF}"), cell(EVENS)),
}


@pytest.mark.parametrize("change", ANSWERED.values(), ids=ANSWERED)
def test_an_answer_counts_however_its_cell_came_back(answer, mark, change):
    graded = mark(change(answer(**RIGHT)))
    assert {name: found.points for name, found in graded.marks.items()} == {"half": 3, "evens": 2}
    assert graded.status == Status.GRADED


def test_an_editor_may_save_in_another_encoding(answer, source):
    text = json.dumps(answer(**RIGHT))
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        returned = parse(text.encode(encoding))
        assert answers(returned, read_source(source))["half"].parts == (HALF,), encoding


@pytest.mark.parametrize("change", UNTOUCHED.values(), ids=UNTOUCHED)
def test_an_answer_in_another_cell_counts_and_is_told(answer, mark, change):
    graded = mark(change(answer()))
    assert {name: found.points for name, found in graded.marks.items()} == {"half": 3, "evens": 2}
    assert {found.found for found in graded.marks.values()} == {"elsewhere"}


def test_helpers_in_cells_of_the_learners_own_come_along(answer, mark):
    notebook = answer(half="def half(number):\n    return by_two(number)", evens=EVENS)
    notebook["cells"].insert(1, cell("import math as m\nTWO = m.sqrt(4)"))
    notebook["cells"].insert(2, cell(HELPER))
    assert mark(notebook).marks["half"].points == 3


def found(notebook: dict, source: Path) -> dict[str, tuple[str, ...]]:
    return {name: one.parts for name, one in answers(parse(json.dumps(notebook).encode()), read_source(source)).items()}


def test_only_what_is_used_comes_along_and_nothing_of_ours(answer, source):
    notebook = below(answer(**RIGHT), "half", cell("number = 3"), cell("import os\nunused = 1"), cell("sorted = max"))
    setup = next(one for one in notebook["cells"] if one.get("id") == "setup")
    setup["source"] = "import evil"
    notebook = below(notebook, "half", cell(HALF, outputs=[{"output_type": "stream", "text": "✓ half"}]))
    assert found(notebook, source) == {"half": (HALF,), "evens": (EVENS,)}


def test_code_that_no_one_can_parse_is_an_answer_all_the_same(answer, source):
    for code in ("def half(:", "x = " + "(" * 5000, "-" * 100_000 + "1", "a" * 300_000, "\x00"):
        notebook = below(answer(half=code), "half", cell(code))
        assert found(notebook, source)["half"] == (code,), code[:20]


def test_a_tick_in_the_notebook_is_noted_beside_our_own_verdict(answer, mark):
    notebook = answer(half="import pandas_of_mine\n" + HALF, evens=EVENS)
    for name in ("half-check", "evens-check"):
        output = {"output_type": "stream", "name": "stdout", "text": [f"✓ {name}: correct.\n"]}
        notebook["cells"][place(notebook, name)]["outputs"] = [output]
    marks = mark(notebook).marks
    assert (marks["half"].points, marks["half"].ticked, marks["half"].module) == (0, True, "pandas_of_mine")
    assert (marks["evens"].points, marks["evens"].ticked, marks["evens"].module) == (2, True, "")


# --- whose file is it, and which lab is in it


@pytest.fixture
def graded(labs: Path, tmp_path: Path, lab_reference):
    """Return a function that plans the grading of a folder: (learner, lab, status) of rows, (learner, lab) of jobs."""
    sources = {"01_halves": labs / "source" / "01_halves.py", "02_other": tmp_path / "source" / "02_other.py"}
    sources["02_other"].parent.mkdir()
    text = sources["01_halves"].read_text().replace("half", "third").replace("evens", "odds")
    sources["02_other"].write_text(text)

    def graded(folder: Path, only: str = "") -> tuple[list, list]:
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        import dataclasses

        made = session.plan(
            collect(folder),
            sources,
            lambda lab: dataclasses.replace(lab_reference, lab=lab),
            Results(out),
            only=only,
            limits=Limits(),
            out=out,
        )
        rows = [(row["learner"], row["lab"], row["status"]) for row in made.known]
        return rows, [(job.submission.learner, job.reference.lab) for job in made.jobs]

    return graded


def handed_in(folder: Path, files: dict[str, dict | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


def test_what_a_notebook_holds_beats_its_files_name(answer, graded, tmp_path):
    files = {
        "ada/02_other.ipynb": answer(**RIGHT),
        "bob/02_other.ipynb": stripped(answer(**RIGHT), metadata=True),
        "cid/lab.ipynb": stripped(answer(**RIGHT), metadata=False),
        "dan/02_other.ipynb": {"cells": [cell("x = 1")]},
    }
    rows, jobs = graded(handed_in(tmp_path / "back", files))
    assert rows == []
    assert sorted(jobs) == [("ada", "01_halves"), ("bob", "01_halves"), ("cid", "01_halves"), ("dan", "02_other")]


def test_nobody_who_handed_in_anything_is_missing_from_the_book(answer, graded, tmp_path):
    files = {"ada/01_halves.ipynb": answer(**RIGHT), "bob/02_other.ipynb": answer(**RIGHT)}
    rows, jobs = graded(handed_in(tmp_path / "back", files), only="02_other")
    assert jobs == []
    assert rows == [("ada", "", "another lab"), ("bob", "", "another lab")]
    rows, jobs = graded(tmp_path / "back", only="01_halves")
    assert (rows, sorted(jobs)) == ([], [("ada", "01_halves"), ("bob", "01_halves")])


def zipped(**files: bytes) -> bytes:
    import io

    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return content.getvalue()


@pytest.mark.parametrize("whole", [False, True], ids=["folder", "zip"])
def test_a_zip_in_a_submission_is_looked_into(answer, tmp_path, whole):
    notebook = json.dumps(answer(**RIGHT)).encode()
    files = {
        "ada/work.zip": zipped(**{"lab__01_halves.ipynb": notebook, "__MACOSX__._01_halves.ipynb": b"x"}),
        "bob/work.zip": zipped(**{"notes.pdf": b"%PDF"}),
        "cid/work.zip": b"PK not a zip",
        "dan/work.zip": zipped(**{"..__01_halves.ipynb": notebook}),
        "eve/work.zip": zipped(**{"01_halves.ipynb": b" " * (15 * 2**20)}),
        "fay/work.zip": zipped(**{"inner.zip": zipped(**{"01_halves.ipynb": notebook})}),
        "gus/01_halves.ipynb": notebook,
    }
    folder = handed_in(tmp_path / "back", files)
    if whole:
        with zipfile.ZipFile(tmp_path / "back.zip", "w") as archive:
            for name in files:
                archive.write(folder / name, name)
        folder = tmp_path / "back.zip"
    found = {item.learner: item for item in collect(folder)}
    assert {name: item.problem for name, item in found.items()} == {
        "ada": "",
        "bob": "no notebook",
        "cid": found["cid"].problem,
        "dan": "its path leads out of the archive",
        "eve": "packed suspiciously tightly",
        "fay": "no notebook",
        "gus": "",
    }
    assert "cannot be read" in found["cid"].problem
    assert (found["ada"].lab, found["ada"].read()) == ("01_halves", notebook)


# --- who is who


def test_every_learner_has_a_row_whatever_they_and_their_files_are_called(answer, graded, tmp_path):
    notebook = json.dumps(answer(**RIGHT)).encode()
    names = [
        b"1\xc2\xb22.ipynb", b"9" * 200 + b".ipynb", b"-rf.ipynb", b"a\nb.ipynb", b"\xff.ipynb", b"x" * 200 + b".ipynb",
    ]  # fmt: skip
    folder = tmp_path / "back"
    for number, name in enumerate(names):
        place = bytes(folder) + b"/learner %d" % number
        os.makedirs(place)
        with open(place + b"/" + name, "wb") as file:
            file.write(notebook)
    for name in (b"Jos\xe9", b"Jos\xe8", b"1\xc2\xb22", b"9" * 200):
        os.makedirs(bytes(folder) + b"/" + name)
        with open(bytes(folder) + b"/" + name + b"/01_halves.ipynb", "wb") as file:
            file.write(notebook)
    rows, jobs = graded(folder)
    assert len({learner for learner, *_rest in [*rows, *jobs]}) == len(list(folder.iterdir())) == 10
    assert ("Jos\\xe9", "01_halves") in jobs


def test_copies_that_were_worked_on_are_counted(answer, labs, lab_reference, tmp_path):
    """Work that does not count is told of: it may be another learner's, in a folder around all of theirs."""
    files = {f"all/{name}/01_halves.ipynb": answer(half=HALF) for name in ("ada", "bob", "cid")}
    files |= {"dan/01_halves.ipynb": answer(), "dan/es/01_halves.ipynb": answer(**RIGHT)}
    files |= {"eve/01_halves.ipynb": b"not JSON", "eve/es/01_halves.ipynb": answer(**RIGHT)}
    sources = {"01_halves": labs / "source" / "01_halves.py"}
    found = collect(handed_in(tmp_path / "back", files))
    made = session.plan(found, sources, lambda _: lab_reference, Results(tmp_path), limits=Limits(), out=tmp_path)
    assert [(job.submission.name, job.copies) for job in made.jobs] == [
        ("all/cid/01_halves.ipynb", 3),
        ("dan/es/01_halves.ipynb", 1),
        ("eve/es/01_halves.ipynb", 2),
    ]


def test_one_name_in_two_forms_of_unicode_is_one_learner(answer, graded, tmp_path):
    files = {f"{name}/01_halves.ipynb": answer(**RIGHT) for name in ("Jos\u00e9", "Jose\u0301")}
    assert graded(handed_in(tmp_path / "back", files)) == ([], [("Jos\u00e9", "01_halves")])


def test_backslashes_in_an_archive_are_folders(answer, tmp_path):
    with zipfile.ZipFile(tmp_path / "back.zip", "w") as archive:
        for name in ("win\\01_halves.ipynb", "bob\\sub\\01_halves.ipynb", "ada/01_halves.ipynb"):
            where = zipfile.ZipInfo("x")
            where.filename = name
            archive.writestr(where, json.dumps(answer(**RIGHT)))
    found = collect(tmp_path / "back.zip")
    assert [(item.learner, item.lab) for item in found] == [
        ("ada", "01_halves"),
        ("bob", "01_halves"),
        ("win", "01_halves"),
    ]
    assert all(item.read() for item in found)


def test_a_folder_that_names_its_learner_is_never_stripped(answer, tmp_path):
    name = "Ada Lovelace_417_assignsubmission_file_/bob/01_halves.ipynb"
    with zipfile.ZipFile(tmp_path / "back.zip", "w") as archive:
        archive.writestr(name, json.dumps(answer(**RIGHT)))
    (found,) = collect(tmp_path / "back.zip")
    assert (found.learner, found.user, found.platform) == ("Ada Lovelace", "417", "moodle")


def test_a_submission_that_brings_a_reader_down_is_its_own_row(answer, graded, tmp_path, monkeypatch):
    files = {f"{name}/01_halves.ipynb": answer(**RIGHT) for name in ("ada", "bob")}
    before = session.parse

    def parse_or_fail(content: bytes):
        if b"evil" in content:
            raise ZeroDivisionError
        return before(content)

    files["bob/01_halves.ipynb"]["cells"].append(cell("evil"))
    monkeypatch.setattr(session, "parse", parse_or_fail)
    rows, jobs = graded(handed_in(tmp_path / "back", files))
    assert rows == [("bob", "01_halves", "unreadable")]
    assert jobs == [("ada", "01_halves")]
