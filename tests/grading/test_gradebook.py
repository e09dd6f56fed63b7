"""The gradebook opens in a spreadsheet, every name intact and harmless, and has the columns that platforms import."""

import csv
import re
import zipfile
from pathlib import Path

import pytest

from edgelab.errors import EdgelabError
from edgelab.grading import gradebook
from edgelab.grading.mark import Status, in_words
from edgelab.grading.results import key
from edgelab.grading.spreadsheet import plain
from edgelab.i18n import translator

LABS = {"01_halves": {"half": 3, "evens": 2}, "02_thirds": {"third": 10}}


def row(
    learner: str, lab: str = "01_halves", user: str = "", platform: str = "", status: str = "graded", **points: int
) -> dict:
    exercises = {name: {"points": value, "possible": 3, "verdict": "", "error": ""} for name, value in points.items()}
    known = {"learner": learner, "user": user, "lab": lab, "file": "x.ipynb", "status": status, "exercises": exercises}
    return known | {"platform": platform, "reference": "abc", "grader": "edgelab 1.2.3"}


def written(folder: Path, *rows: dict, name: str = "gradebook.csv", manual: str = "") -> list[list[str]]:
    if manual:
        (folder / "manual.csv").write_text(manual)
    marks = gradebook.read_manual(folder, LABS)
    gradebook.write(folder, {key(row): row for row in rows}, LABS, marks)
    with (folder / name).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def test_a_row_a_learner_and_a_column_an_exercise(tmp_path: Path):
    header, ada, bob = written(tmp_path, row("bob", half=1, evens=0), row("ada", half=3, evens=2))
    assert header == [
        "learner",
        "user",
        "01_halves status",
        "01_halves half [3]",
        "01_halves evens [2]",
        "01_halves total [5]",
        "01_halves by hand",
        "01_halves to look at",
        "01_halves reference",
        "02_thirds status",
        "02_thirds third [10]",
        "02_thirds total [10]",
        "02_thirds by hand",
        "02_thirds to look at",
        "02_thirds reference",
        "other files",
        "grader",
    ]
    assert ada[:9] == ["ada", "", "graded", "3", "2", "5", "", "", "abc"]
    assert ada[9:] == ["not handed in", "", "", "", "", "", "", "edgelab 1.2.3"]
    assert bob[:6] == ["bob", "", "graded", "1", "0", "1"]


NAMES = {
    "a comma": ("Lovelace, A", "Lovelace, A"),
    "quotes": ('Ada "the first" L', 'Ada "the first" L'),
    "a formula": ('=HYPERLINK("http://x","y")', '\'=HYPERLINK("http://x","y")'),
    "a plus": ("+1", "'+1"),
    "a minus": ("-2+3", "'-2+3"),
    "an at": ("@SUM(A1)", "'@SUM(A1)"),
    "a tab": ("\t=1", "'\t'=1"),
    "blanks first": ("  =1", "'  =1"),
    "a full-width sign": ("\uff1d1", "'\uff1d1"),
    "another alphabet": ("Ñandú Ωμέγα 李", "Ñandú Ωμέγα 李"),
    "a line break": ("a\nb", "a\nb"),
    "a semicolon": ("a;b", "a;b"),
    "a formula behind a semicolon": ("a; =cmd|x!A0", "a;' =cmd|x!A0"),
    "a formula behind a quote": ('"=1', "\"'=1"),
}


@pytest.mark.parametrize(("name", "cell"), NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("file", ["gradebook.csv", "canvas.csv", "moodle.csv"])
def test_a_name_is_intact_and_harmless(tmp_path: Path, name: str, cell: str, file: str):
    lines = written(tmp_path, row(name, half=1, evens=1), name=file)
    assert lines[-1][0] == cell
    assert {len(line) for line in lines} == {len(lines[0])}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_can_be_copied_back(tmp_path: Path, name: str):
    wanted, shown = NAMES[name]
    assert plain(shown).strip() == wanted.strip()


def test_a_files_name_is_no_formula_where_semicolons_part_cells(tmp_path: Path):
    found = row("ada", lab="", status="unknown lab") | {"file": "; =cmd|x!A0.ipynb"}
    written(tmp_path, found)
    text = (tmp_path / "gradebook.csv").read_text("utf-8-sig")
    assert not re.search(r"[;,\n\"]\s*[=+@]", text)


def test_canvas_reads_it(tmp_path: Path):
    # lib/gradebook_importer.rb: Student and ID first, both SIS columns together, Section, then assignments.
    lines = written(
        tmp_path, row("lovelaceada", user="417", platform="canvas", half=3, evens=2), row("bob"), name="canvas.csv"
    )
    assert lines[0] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "01_halves", "02_thirds"]
    assert lines[1][0].strip() == "Points Possible"
    assert lines[1][5:] == ["5", "10"]
    assert lines[2] == ["bob", "", "", "bob", "", "0", ""]
    assert lines[3] == ["lovelaceada", "417", "", "", "", "5", ""]


def test_moodle_reads_it(tmp_path: Path):
    lines = written(tmp_path, row("ada", half=3, evens=2), row("bob", status="crashed"), name="moodle.csv")
    assert lines[0] == ["Username", "01_halves", "01_halves feedback", "02_thirds", "02_thirds feedback"]
    assert lines[1:] == [["ada", "5", "", "-", ""], ["bob", "0", "crashed", "-", ""]]


def test_moodle_reads_its_own_worksheet(tmp_path: Path):
    # mod/assign/feedback/offline/importgradeslib.php: "Participant " and the number, Grade, Last modified (grade).
    lines = written(
        tmp_path, row("Ada Lovelace", user="417", platform="moodle", half=3, evens=1), name="moodle-01_halves.csv"
    )
    assert dict(zip(*lines, strict=True)) == {
        "Identifier": "Participant 417",
        "Full name": "Ada Lovelace",
        "Grade": "4",
        "Maximum Grade": "5",
        "Last modified (grade)": "-",
        "Feedback comments": "",
    }


def test_moodle_gives_each_page_back_to_its_learner(tmp_path: Path):
    rows = []
    for number, learner in enumerate(["Ada Lovelace", "Bob_B / C", "Eve"], start=417):
        page = tmp_path / "feedback" / f"{number}.html"
        page.parent.mkdir(exist_ok=True)
        page.write_text(learner)
        rows.append(row(learner, user=str(number), platform="moodle") | {"feedback": f"feedback/{number}.html"})
    (tmp_path / "feedback" / "419.html").unlink()
    written(tmp_path, *rows, row("Dan", user="420", platform="moodle", status="unreadable"))
    with zipfile.ZipFile(tmp_path / "moodle-01_halves-feedback.zip") as archive:
        found = {name: archive.read(name).decode() for name in archive.namelist()}
    # mod/assign/feedback/file/importziplib.php: the folder is a name, the number, and the plugin that exported it.
    assert {tuple(name.split("/")[0].split("_", 4)[1:4]): text for name, text in found.items()} == {
        ("417", "assignsubmission", "file"): "Ada Lovelace",
        ("418", "assignsubmission", "file"): "Bob_B / C",
    }
    assert {name.split("/")[1] for name in found} == {"01_halves.html"}


def test_words_behind_a_mark_by_hand_reach_the_learner(tmp_path: Path):
    manual = "learner,lab,exercise,points,comment\nada,01_halves,half,2,nearly\nada,01_halves,evens,1,\n"
    lines = written(tmp_path, row("ada", status="crashed"), row("bob"), name="moodle.csv", manual=manual)
    assert [line[:3] for line in lines[1:]] == [["ada", "3", "crashed; half: nearly"], ["bob", "0", ""]]


def test_a_platforms_number_is_for_that_platform_alone(tmp_path: Path):
    written(tmp_path, row("ada", half=3), row("lovelaceada", user="417", platform="canvas", half=3))
    assert not list(tmp_path.glob("moodle-*.csv"))
    lines = written(tmp_path, row("Ada Lovelace", user="417", platform="moodle", half=3), name="canvas.csv")
    assert lines[2][:2] == ["Ada Lovelace", ""]


@pytest.mark.parametrize("status", ["crashed", "timed out", "unreadable", "missing exercise"])
def test_what_a_learner_did_earns_what_it_earned(tmp_path: Path, status: str):
    earned = {} if status == "unreadable" else {"evens": 2}
    (_, line) = written(tmp_path, row("ada", status=status, **earned))
    assert line[2:6] == [status, "0", str(earned.get("evens", 0)), str(earned.get("evens", 0))]


def test_what_the_infrastructure_did_is_never_a_zero(tmp_path: Path):
    (_, line) = written(tmp_path, row("ada", status="not graded"))
    assert line[2:6] == ["not graded", "", "", ""]
    assert written(tmp_path, row("ada", status="not graded"), name="canvas.csv")[2][5] == ""


def test_an_unknown_file_is_named(tmp_path: Path):
    (_, line) = written(tmp_path, row("ada", lab="", status="unknown lab"))
    assert line[2] == "not handed in"
    assert line[-2] == "x.ipynb: unknown lab"


@pytest.mark.parametrize("separator", [",", ";"])
def test_marks_by_hand_stand(tmp_path: Path, separator: str):
    manual = "\ufefflearner,lab,exercise,points,comment\nada,01_halves,half,2.5,a good idea\n,,,,\n"
    (_, line) = written(tmp_path, row("ada", half=0, evens=2), manual=manual.replace(",", separator))
    assert line[3:7] == ["2.5", "2", "4.5", "half (a good idea)"]


def test_a_mark_by_hand_makes_up_for_what_was_not_graded(tmp_path: Path):
    manual = "learner,lab,exercise,points,comment\nada,01_halves,half,1,\nada,01_halves,evens,2,\n"
    (_, line) = written(tmp_path, row("ada", status="not graded"), manual=manual)
    assert line[3:6] == ["1", "2", "3"]


def test_a_name_copied_from_the_gradebook_is_understood(tmp_path: Path):
    manual = "learner,lab,exercise,points,comment\n'=B,01_halves,half,1,\n"
    (_, line) = written(tmp_path, row("=B", half=0, evens=0), manual=manual)
    assert line[3] == "1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ada,01_halves,haf,1,", r"manual.csv, line 2: lab '01_halves' has no exercise 'haf'"),
        ("ada,01_halves,half,two,", r"manual.csv, line 2: 'two' is no number"),
        ("ada,01_halves,half,,", r"manual.csv, line 2: '' is no number"),
        (f"ada,01_halves,half,{'9' * 400},", r"manual.csv, line 2: '9+' is no number"),
        ("ada,01_halves,half,²,", r"manual.csv, line 2: '²' is no number"),
    ],
)
def test_a_wrong_line_by_hand_is_named(tmp_path: Path, line: str, message: str):
    (tmp_path / "manual.csv").write_text(f"learner,lab,exercise,points,comment\n{line}\n")
    with pytest.raises(EdgelabError, match=message):
        gradebook.read_manual(tmp_path, LABS)


def test_a_file_for_marks_by_hand_is_there(tmp_path: Path):
    written(tmp_path, row("ada"))
    assert (tmp_path / "manual.csv").read_text("utf-8-sig").strip().replace(
        '"', ""
    ) == "learner,user,lab,exercise,points,comment"


def test_a_mark_by_hand_for_one_of_two_namesakes(tmp_path: Path):
    manual = "learner,user,lab,exercise,points,comment\nada,2,01_halves,half,3,\nada,,01_halves,evens,1,\n"
    (_, *lines) = written(tmp_path, *(row("ada", user=user, half=0, evens=0) for user in ("1", "2")), manual=manual)
    assert [line[3:5] for line in lines] == [["0", "1"], ["3", "1"]]


def test_marks_by_hand_are_on_the_pages_and_in_the_zip_and_leave_with_their_line(tmp_path: Path):
    page = tmp_path / "feedback" / "ada.html"
    page.parent.mkdir()
    page.write_text("<h2>half</h2><!-- by hand: half --><!-- end --><h2>evens</h2><!-- by hand: evens --><!-- end -->")
    before = page.read_text()
    ada = row("Ada", user="417", platform="moodle", half=0) | {"feedback": "feedback/ada.html", "lang": "es"}
    header = "learner,user,lab,exercise,points,comment\n"
    written(tmp_path, ada, manual=f"{header}Ada,,01_halves,half,2.5,good <idea>\n")
    assert "Puntos puestos a mano: 2.5." in page.read_text()
    assert "good &lt;idea&gt;" in page.read_text()
    with zipfile.ZipFile(tmp_path / "moodle-01_halves-feedback.zip") as archive:
        assert archive.read(archive.namelist()[0]).decode() == page.read_text()
    once = page.read_text()
    written(tmp_path, ada)
    assert page.read_text() == once
    written(tmp_path, ada, manual=header)
    assert page.read_text() == before


def test_a_tick_that_earned_nothing_is_worth_a_look(tmp_path: Path):
    found = row("ada", half=0, evens=3)
    found["exercises"]["half"] |= {"ticked": True, "module": "pandas", "verdict": "error", "found": "elsewhere"}
    found["exercises"]["evens"] |= {"ticked": True}
    (_, line) = written(tmp_path, found)
    assert line[7] == "half: found in another cell, ✓ in the notebook, 0 of 3 here (no module pandas)"


def test_the_class_report_counts_what_stood_in_the_way(tmp_path: Path):
    rows = []
    for number, said in enumerate(["f(1) gives 2; it should be 3.\nHint: Add <b>one</b>."] * 3 + ["f(7) gives 1."] * 2):
        rows.append(row(f"learner {number}", half=0, evens=2) | {"seconds": 2.0 + number})
        rows[-1]["exercises"]["half"] |= {"said": said, "verdict": "wrong"}
    rows[0]["exercises"]["half"]["points"] = 3
    rows[4]["exercises"]["half"]["said"] = "f(12.5) gives -3e-4."
    header, half, *_ = written(tmp_path, *rows, name="class.csv")
    assert dict(zip(header, half, strict=True)) == {
        "lab": "01_halves", "exercise": "half", "possible": "3", "handed in": "5", "mean": "0.6", "full": "1",
        "none": "4", "untouched": "0", "most often": "Hint: Add <b>one</b>.", "how often": "2",
        "next": "f(7) gives 1.", "how often next": "2", "median seconds of a lab's run": "4", "longest": "6",
    }  # fmt: skip
    page = (tmp_path / "class.html").read_text()
    assert "2 × Hint: Add &lt;b&gt;one&lt;/b&gt;." in page
    assert "<script" not in page
    assert "02_thirds" not in page


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path):
    rows = [row("ada", half=1), row("bob", half=2), row("ada", lab="02_thirds", third=7)]
    written(tmp_path, *rows)
    first = (tmp_path / "gradebook.csv").read_bytes()
    written(tmp_path, *reversed(rows))
    assert (tmp_path / "gradebook.csv").read_bytes() == first


def test_half_a_character_costs_nobody_the_book(tmp_path: Path):
    found = row("ada", half=0)
    found["exercises"]["half"] |= {"said": "it said \ud800", "verdict": "wrong"}
    assert written(tmp_path, found, name="class.csv")[1][8] == "it said ?"


def test_marks_by_hand_in_another_encoding_are_one_sentence(tmp_path: Path):
    (tmp_path / "manual.csv").write_bytes(
        "learner,lab,exercise,points,comment\nJosé,01_halves,half,1,\n".encode("cp1252")
    )
    with pytest.raises(EdgelabError, match=r"manual.csv is not in UTF-8"):
        gradebook.read_manual(tmp_path, LABS)


def test_other_copies_are_told(tmp_path: Path):
    (_, line) = written(tmp_path, row("ada", half=3, evens=2) | {"copies": 3})
    assert line[7] == "3 copies were handed in, and this one counts: x.ipynb"


def test_every_status_has_words_of_its_own_in_spanish():
    words = {status: in_words(status, translator("es")) for status in Status}
    assert len(set(words.values())) == len(Status)
    assert not [status for status, text in words.items() if text == status]
    assert all(in_words(status, translator("en")) == status for status in Status)
