"""The gradebook: one row a learner, as a spreadsheet for people and in the columns that Canvas and Moodle import.

Formats: Canvas, "How do I import grades in the Gradebook?" (columns Student, ID, SIS User ID, SIS Login ID, Section,
then one for each assignment, and a row "Points Possible"); Moodle, "Grade import" (any column, mapped by hand to a user
field or a grade item) and, for an assignment's own grading worksheet, Identifier, Grade and Last modified (grade).
Which feedback file is whose, Moodle tells by the folder it lies in (mod/assign/feedback/file/importziplib.php).
"""

import csv
import io
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgelab.course.folder import write_whole
from edgelab.errors import EdgelabError
from edgelab.grading import class_report, feedback
from edgelab.grading.mark import Status, in_words
from edgelab.grading.results import Key
from edgelab.grading.spreadsheet import csv_content, plain
from edgelab.i18n import _, language, translator

MANUAL = "manual.csv"
_MANUAL_COLUMNS = ("learner", "user", "lab", "exercise", "points", "comment")
_UNGRADED = (Status.NOT_GRADED, Status.UNKNOWN_LAB, Status.ANOTHER_LAB)


@dataclass(frozen=True)
class ManualMark:
    """Points that a person gave, which stand whatever the grader says."""

    points: float
    comment: str


Manual = Mapping[tuple[str, str, str, str], ManualMark]  # by learner, user, lab, exercise
Labs = Mapping[str, Mapping[str, int]]  # lab -> exercise -> points that it can give


def read_manual(folder: Path, labs: Labs) -> Manual:
    """Return the marks of `manual.csv`. A missing file is made, with its header alone.

    The column `user` tells namesakes apart; where it is empty, a mark counts for everyone of that name.

    Raises:
        EdgelabError: it is not in UTF-8, or a line of it names no exercise, or no number of points.
    """
    path = folder / MANUAL
    if not path.exists():
        write_whole(path, csv_content([_MANUAL_COLUMNS], "utf-8-sig"))
        return {}
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        message = _("%(path)s is not in UTF-8. Save it as “CSV UTF-8”.")
        raise EdgelabError(message % {"path": path}) from error
    first = text.partition("\n")[0]
    separator = ";" if first.count(";") > first.count(",") else ","  # as spreadsheets save it in much of the world
    marks = {}
    for number, row in enumerate(csv.DictReader(io.StringIO(text), delimiter=separator), start=2):
        where = {"path": path, "line": number}
        learner, user, lab, exercise, points, comment = (plain(row.get(column)) for column in _MANUAL_COLUMNS)
        if not any((learner, lab, exercise, points)):
            continue
        if lab in labs and exercise not in labs[lab]:
            message = _("%(path)s, line %(line)d: lab %(lab)r has no exercise %(exercise)r.")
            raise EdgelabError(message % {**where, "lab": lab, "exercise": exercise})
        if not re.fullmatch(r"[0-9]{1,9}([.,][0-9]{1,9})?", points):
            message = _("%(path)s, line %(line)d: %(points)r is no number of points.")
            raise EdgelabError(message % {**where, "points": points})
        marks[learner, user, lab, exercise] = ManualMark(float(points.replace(",", ".")), comment)
    return marks


def by_hand(row: dict, exercise: str, manual: Manual) -> ManualMark | None:
    """Return the mark that a person gave for an exercise, if one did: for this very user, else for the name."""
    learner, user, lab = row["learner"], row["user"], row["lab"]
    return manual.get((learner, user, lab, exercise)) or manual.get((learner, "", lab, exercise))


def write(folder: Path, rows: Mapping[Key, dict], labs: Labs, manual: Manual) -> list[Path]:
    """Write every gradebook, and return the files. The same rows give the same bytes, in whatever order they came."""
    _onto_the_pages(folder, rows, labs, manual)
    learners: dict[tuple[str, str], dict[str, dict]] = {}
    for (learner, user, lab), row in sorted(rows.items()):
        learners.setdefault((learner, user), {})[lab] = row
    files = {
        "gradebook.csv": csv_content(_for_people(learners, labs, manual), "utf-8-sig"),  # Excel asks for the mark
        "canvas.csv": csv_content(_for_canvas(learners, labs, manual)),
        "moodle.csv": csv_content(_for_moodle(learners, labs, manual)),
    }
    for lab in labs:
        worksheet = list(_moodle_worksheet(learners, labs, lab, manual))
        if len(worksheet) > 1:
            files[f"moodle-{lab}.csv"] = csv_content(worksheet)
            files[f"moodle-{lab}-feedback.zip"] = _moodle_feedback(folder, rows, lab)
    files["class.csv"] = csv_content(class_report.table(rows.values(), labs), "utf-8-sig")
    files["class.html"] = class_report.page(rows.values(), labs).encode("utf-8", "replace")
    for name, content in files.items():
        write_whole(folder / name, content)
    return [folder / name for name in files]


def exercise_points(row: dict, exercise: str, manual: Manual) -> float | None:
    """Return what an exercise got, by hand or by the grader; None where nobody has graded it."""
    mark = by_hand(row, exercise, manual)
    if mark is not None:
        return mark.points
    if row["status"] in _UNGRADED:
        return None
    return row["exercises"].get(exercise, {}).get("points", 0)


def total(row: dict | None, possible: Mapping[str, int], manual: Manual) -> float | None:
    """Return a lab's points; None where it was not handed in, or any part of it is not graded."""
    if row is None:
        return None
    found = [exercise_points(row, exercise, manual) for exercise in possible]
    points = [number for number in found if number is not None]
    return sum(points) if len(points) == len(found) else None


def _for_people(learners: Mapping, labs: Labs, manual: Manual) -> Iterable[Sequence]:
    header = ["learner", "user"]
    for lab, possible in labs.items():
        header += [f"{lab} status", *(f"{lab} {name} [{points}]" for name, points in possible.items())]
        header += [f"{lab} total [{sum(possible.values())}]", f"{lab} by hand", f"{lab} to look at", f"{lab} reference"]
    yield [*header, "other files", "grader"]
    for (learner, user), found in learners.items():
        line: list = [learner, user]
        for lab, possible in labs.items():
            row = found.get(lab)
            given = [
                f"{name} ({mark.comment})" if mark.comment else name
                for name in possible
                if (mark := by_hand(row or {"learner": learner, "user": user, "lab": lab}, name, manual))
            ]
            points = [exercise_points(row, name, manual) if row else None for name in possible]
            line += [row["status"] if row else "not handed in", *points, total(row, possible, manual)]
            line += ["; ".join(given), "; ".join(_to_look_at(row)) if row else "", row["reference"] if row else ""]
        others = [_other(row) for lab, row in found.items() if lab not in labs]
        yield [*line, "; ".join(others), " ".join(sorted({row["grader"] for row in found.values()}))]


def _to_look_at(row: dict) -> Iterable[str]:
    """Yield what is worth a look: another copy, an answer found elsewhere, a ✓ that earned nothing here."""
    words = {"text": "found in a text cell", "elsewhere": "found in another cell"}
    if row.get("copies", 1) > 1:
        yield f"{row['copies']} copies were handed in, and this one counts: {row['file']}"
    for name, mark in row["exercises"].items():
        remarks = [words[mark["found"]]] if mark.get("found") else []
        if mark.get("ticked") and mark["points"] < mark["possible"]:
            why = f"no module {mark['module']}" if mark.get("module") else mark.get("error") or mark["verdict"]
            remarks.append(f"✓ in the notebook, {mark['points']} of {mark['possible']} here ({why})")
        if remarks:
            yield f"{name}: {', '.join(remarks)}"


def _onto_the_pages(folder: Path, rows: Mapping[Key, dict], labs: Labs, manual: Manual) -> None:
    """Write marks by hand onto the feedback pages, and take off what no longer stands."""
    for row in rows.values():
        page = folder / row.get("feedback", "")
        if not page.is_file():
            continue
        before = page.read_text("utf-8")
        found = {name: by_hand(row, name, manual) for name in labs.get(row["lab"], ())}
        marks = {name: (mark.points, mark.comment) for name, mark in found.items() if mark}
        after = feedback.with_marks_by_hand(before, marks, row.get("lang", "en"))
        if after != before:
            write_whole(page, after.encode("utf-8", "replace"))


def _other(row: dict) -> str:
    """Return what a file is that counts for no lab of this grading."""
    return f"{row['file']}: {row['status']}" + (f" ({row['detail']})" if row["status"] == Status.ANOTHER_LAB else "")


def _for_canvas(learners: Mapping, labs: Labs, manual: Manual) -> Iterable[Sequence]:
    yield ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", *labs]
    yield ["    Points Possible", "", "", "", "", *(sum(possible.values()) for possible in labs.values())]
    for (learner, user), found in learners.items():
        totals = [total(found.get(lab), possible, manual) for lab, possible in labs.items()]
        number = user if _platform(found) == "canvas" else ""
        yield [learner, number, "", "" if user else learner, "", *totals]


def _for_moodle(learners: Mapping, labs: Labs, manual: Manual) -> Iterable[Sequence]:
    yield ["Username", *(column for lab in labs for column in (lab, f"{lab} feedback"))]
    for (learner, _user), found in learners.items():
        line: list = [learner]
        for lab, possible in labs.items():
            points = total(found.get(lab), possible, manual)
            line += ["-" if points is None else points, _comment(found.get(lab), possible, manual)]
        yield line


def _moodle_worksheet(learners: Mapping, labs: Labs, lab: str, manual: Manual) -> Iterable[Sequence]:
    """The number in the names of Moodle's zip is the participant's in this assignment, and this is where it counts."""
    yield ["Identifier", "Full name", "Grade", "Maximum Grade", "Last modified (grade)", "Feedback comments"]
    for (learner, user), found in learners.items():
        points = total(found.get(lab), labs[lab], manual)
        if _platform(found) == "moodle" and points is not None:
            identifier = f"Participant {user}"
            comment = _comment(found[lab], labs[lab], manual)
            yield [identifier, learner, points, sum(labs[lab].values()), "-", comment]


def _moodle_feedback(folder: Path, rows: Mapping[Key, dict], lab: str) -> bytes:
    """Return the learners' pages as a zip: Moodle looks for the number behind the first underscore of a folder."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for (learner, user, _where), row in sorted(rows.items()):
            page = folder / row.get("feedback", "")
            if (row["platform"], row["lab"]) == ("moodle", lab) and page.is_file():
                name = re.sub(r"[_/\\]", " ", learner)
                where = zipfile.ZipInfo(f"{name}_{user}_assignsubmission_file_/{lab}.html")  # the same date every time
                archive.writestr(where, page.read_bytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def _platform(rows: Mapping[str, dict]) -> str:
    """Return where a learner's files came from; empty where they tell nothing."""
    return next(iter(rows.values()))["platform"]


def _comment(row: dict | None, possible: Mapping[str, int], manual: Manual) -> str:
    """Return what a learner is told beside the points: what went wrong, and the words behind a mark by hand."""
    if row is None:
        return ""
    given = ((name, by_hand(row, name, manual)) for name in possible)
    said = [f"{name}: {mark.comment}" for name, mark in given if mark and mark.comment]
    status = in_words(row["status"], translator(row.get("lang") or language()))
    return "; ".join(said if row["status"] == Status.GRADED else [status, *said])
