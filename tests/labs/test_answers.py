"""The course's own labs are graded: right answers, however they are written, get all points, and mistakes get none."""

import json
import re
from pathlib import Path

import pytest

from edgelab.course.source import read_source
from edgelab.grading.collect import Submission
from edgelab.grading.limits import Limits
from edgelab.grading.mark import Status, grade
from edgelab.grading.reference import points

# Seconds for each answer: they meet the corpus of answers alone.
SLOW = {"quantize-model", "train-quantized", "export-and-compare"}


def answers(lab: str) -> dict[str, dict[str, list[str]]]:
    """Return the code in `answers/<lab>.py`, by exercise and by "right" or "wrong"."""
    text = Path(__file__).with_name("answers").joinpath(f"{lab}.py").read_text()
    found: dict[str, dict[str, list[str]]] = {}
    for exercise, kind, code in re.findall(r"(?ms)^# %% ([\w-]+): (right|wrong)\n(.*?)(?=^# %% |\Z)", text):
        found.setdefault(exercise, {"right": [], "wrong": []})[kind].append(code)
    return found


def test_every_exercise_has_a_second_right_answer_and_two_mistakes(source):
    found = answers(source.stem)
    assert list(found) == list(points(read_source(source)))
    assert all(len(kinds["right"]) == 1 and len(kinds["wrong"]) >= 2 for kinds in found.values())


def test_right_answers_get_all_points_and_mistakes_none(source, references, labs, hand_in):
    """All right, in Spanish; then a mistake in every exercise: the first, and the second where `test_promise` has none.

    There every mistake meets its hidden cells in one process, but for those whose answers take seconds.
    """
    ours, found = references(source), answers(source.stem)
    possible = points(ours.cells)
    assert sum(possible.values()) == 10
    spanish, english = (labs / folder / f"{source.stem}.ipynb" for folder in ("es", "."))
    right = answered(spanish, {exercise: kinds["right"][0] for exercise, kinds in found.items()})
    wrong = {
        f"mistakes {number}": answered(english, {exercise: kinds["wrong"][number] for exercise, kinds in found.items()})
        for number in range(2 if SLOW & set(found) else 1)
    }
    graded = grade_all(ours, {"right": right, **wrong}, hand_in)
    assert scores(graded) == {"right": possible, **dict.fromkeys(wrong, dict.fromkeys(possible, 0))}
    assert {mark.verdict for mark in graded["right"].marks.values()} == {"correct"}


@pytest.mark.long
def test_a_mistake_costs_its_own_exercise_alone(source, references, labs, hand_in):
    """Each mistake behind right answers to the exercises before it, which keep their points."""
    ours, found = references(source), answers(source.stem)
    possible = points(ours.cells)
    handed_in, expected = {}, {}
    for place, (exercise, kinds) in enumerate(found.items()):
        before = {earlier: found[earlier]["right"][0] for earlier in list(found)[:place]}
        for number, code in enumerate(kinds["wrong"], start=1):
            name = f"{exercise}, mistake {number}"
            handed_in[name] = answered(labs / f"{source.stem}.ipynb", {**before, exercise: code})
            expected[name] = {other: possible[other] if other in before else 0 for other in possible}
    assert scores(grade_all(ours, handed_in, hand_in)) == expected


@pytest.fixture
def hand_in(tmp_path: Path):
    """Return a function that hands in a notebook, as JSON, under a name."""

    def hand_in(notebook: dict, learner: str, lab: str) -> Submission:
        path = tmp_path / learner / f"{lab}.ipynb"
        path.parent.mkdir()
        path.write_text(json.dumps(notebook))
        return Submission(learner, "", lab, tmp_path, f"{learner}/{path.name}")

    return hand_in


def grade_all(ours, notebooks: dict[str, dict], hand_in) -> dict:
    """Return how each notebook is graded, by name."""
    return {
        name: grade(hand_in(content, name, ours.lab), ours, Limits(), "signs") for name, content in notebooks.items()
    }


def scores(graded: dict) -> dict[str, dict[str, int]]:
    """Return the points by name and exercise; every notebook must have run to its end."""
    assert {one.status for one in graded.values()} == {Status.GRADED}
    return {name: {exercise: mark.points for exercise, mark in one.marks.items()} for name, one in graded.items()}


def answered(path: Path, code: dict[str, str]) -> dict:
    """Return a notebook as it is shipped, with the code of some exercises written."""
    notebook = json.loads(path.read_text("utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = code.get(cell["id"], cell["source"])
    return notebook
