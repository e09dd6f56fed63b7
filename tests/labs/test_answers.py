"""The course's own labs are graded: right answers, however they are written, get all points, and mistakes get none."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgelab import data
from edgelab.course import build
from edgelab.course.source import read_source
from edgelab.grading.limits import Limits
from edgelab.grading.mark import Status, grade
from edgelab.grading.reference import points, reference

LABS = Path(__file__).parents[2] / "labs"
SOURCES = build.sources(LABS)
SEED = 20261125
every_lab = pytest.mark.parametrize("lab", [source.stem for source in SOURCES])


def answers(lab: str) -> dict[str, dict[str, list[str]]]:
    """Return the code in `answers/<lab>.py`, by exercise and by "right" or "wrong"."""
    text = Path(__file__).with_name("answers").joinpath(f"{lab}.py").read_text()
    found: dict[str, dict[str, list[str]]] = {}
    for exercise, kind, code in re.findall(r"(?ms)^# %% ([\w-]+): (right|wrong)\n(.*?)(?=^# %% |\Z)", text):
        found.setdefault(exercise, {"right": [], "wrong": []})[kind].append(code)
    return found


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Return a function that returns the reference of one of the course's labs."""
    data.load("signs")  # a sandboxed kernel can read the cache, and not fill it
    cache = tmp_path_factory.mktemp("cache")
    return lambda lab: reference(
        LABS / "source" / f"{lab}.py", seed=SEED, limits=Limits(), cache=cache, dataset="signs"
    )


@every_lab
def test_every_exercise_has_a_second_right_answer_and_two_mistakes(lab):
    found = answers(lab)
    assert list(found) == list(points(read_source(LABS / "source" / f"{lab}.py")))
    assert all(len(kinds["right"]) == 1 and len(kinds["wrong"]) >= 2 for kinds in found.values())


@every_lab
def test_right_answers_get_all_points_and_mistakes_none(lab, references, hand_in):
    """All right, in Spanish; then the first mistake of every exercise, and the second."""
    ours, found = references(lab), answers(lab)
    assert not ours.whole  # explorers and pictures are left out of a graded run
    possible = points(ours.cells)
    assert sum(possible.values()) == 10
    right = notebook(lab, "es", {exercise: kinds["right"][0] for exercise, kinds in found.items()})
    wrong = [
        notebook(lab, "en", {exercise: kinds["wrong"][number] for exercise, kinds in found.items()})
        for number in (0, 1)
    ]
    graded = grade_all(ours, {"right": right, "mistakes 1": wrong[0], "mistakes 2": wrong[1]}, hand_in)
    assert scores(graded) == {
        "right": possible,
        **{f"mistakes {number}": dict.fromkeys(possible, 0) for number in (1, 2)},
    }
    assert {mark.verdict for mark in graded["right"].marks.values()} == {"correct"}


@pytest.mark.long
@every_lab
def test_a_mistake_costs_its_own_exercise_alone(lab, references, hand_in):
    """Each mistake behind right answers to the exercises before it, which keep their points."""
    ours, found = references(lab), answers(lab)
    possible = points(ours.cells)
    handed_in, expected = {}, {}
    for place, (exercise, kinds) in enumerate(found.items()):
        before = {earlier: found[earlier]["right"][0] for earlier in list(found)[:place]}
        for number, code in enumerate(kinds["wrong"], start=1):
            name = f"{exercise}, mistake {number}"
            handed_in[name] = notebook(lab, "en", {**before, exercise: code})
            expected[name] = {other: possible[other] if other in before else 0 for other in possible}
    assert scores(grade_all(ours, handed_in, hand_in)) == expected


def grade_all(ours, notebooks: dict[str, dict], hand_in) -> dict:
    """Return how each notebook is graded, by name: two at a time."""
    submissions = {name: hand_in(content, name, f"{ours.lab}.ipynb") for name, content in notebooks.items()}
    with ThreadPoolExecutor(2) as threads:
        graded = threads.map(lambda one: grade(one, ours, Limits(), "signs"), submissions.values())
    return dict(zip(submissions, graded, strict=True))


def scores(graded: dict) -> dict[str, dict[str, int]]:
    """Return the points by name and exercise; every notebook must have run to its end."""
    assert {one.status for one in graded.values()} == {Status.GRADED}
    return {name: {exercise: mark.points for exercise, mark in one.marks.items()} for name, one in graded.items()}


def notebook(lab: str, lang: str, code: dict[str, str]) -> dict:
    """Return the lab's notebook as it is shipped, with the code of some exercises written."""
    shipped = json.loads((LABS / ("" if lang == "en" else lang) / f"{lab}.ipynb").read_text())
    for cell in shipped["cells"]:
        cell["source"] = code.get(cell["id"], cell["source"])
    return shipped
