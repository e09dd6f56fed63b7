"""What a learner has done: checks passed and predictions made, in `progress.json`, and the board that adds them up."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from edgelab.course.folder import edit, read, shipped_labs, state_dir
from edgelab.i18n import language

FILE = "progress.json"


@dataclass(frozen=True)
class LabProgress:
    """One row of the board: points got out of those that the lab's self-checks give, and what the lab says of itself.

    `minutes` is what it takes; `questions` are those that its first cell lists, none where its title is the question.
    """

    lab: str
    title: str
    points: int
    possible: int
    minutes: int | None
    questions: tuple[str, ...]


def record_check(lab: str, exercise: str, passed: bool) -> None:
    """Count one attempt at an exercise. A check once passed stays passed.

    Raises:
        EdgelabError: the learner's folder cannot be written.
    """
    with edit(_file()) as state:
        record = state.setdefault("checks", {}).setdefault(lab, {}).setdefault(exercise, {})
        record["attempts"] = record.get("attempts", 0) + 1
        record["passed"] = passed or record.get("passed", False)


def passed(lab: str, state: Path | None = None) -> set[str]:
    """Return the names of the lab's exercises whose check has passed, in the learner's folder `state`."""
    checks = read((state or state_dir()) / FILE).get("checks", {}).get(lab, {})
    return {exercise for exercise, record in checks.items() if record.get("passed")}


def record_prediction(lab: str, name: str, value: float) -> float:
    """Commit to a prediction and return the one on record: the first stays, since a later one has seen the answer.

    Raises:
        EdgelabError: the learner's folder cannot be written.
    """
    with edit(_file()) as state:
        return state.setdefault("predictions", {}).setdefault(lab, {}).setdefault(name, value)


def predictions(lab: str) -> dict[str, float]:
    """Return the lab's predictions on record, by name."""
    return dict(read(_file()).get("predictions", {}).get(lab, {}))


def board(state: Path | None = None, lang: str = "") -> list[LabProgress]:
    """Return a row per shipped lab, in the order of the course, titled in `lang`, or in the learner's language.

    `state` is the learner's `.edgelab`, where it is not that of the working directory.
    """
    labs = sorted(shipped_labs().glob("[0-9][0-9]_*.ipynb"))
    return [_row(path, state, lang or language()) for path in labs]


def points(lab: str) -> dict[str, int]:
    """Return the points of the lab's self-checks by exercise, as its shipped notebook states them."""
    path = shipped_labs() / f"{lab}.ipynb"
    return _points(_notebook(path)) if path.exists() else {}


def exercise_number(lab: str, exercise: str) -> int | None:
    """Return the number of an exercise in its lab, from 1; None where no shipped notebook has it."""
    path = shipped_labs() / f"{lab}.ipynb"
    order = _exercises(_notebook(path)) if path.exists() else []
    return order.index(exercise) + 1 if exercise in order else None


def _row(path: Path, state: Path | None, lang: str) -> LabProgress:
    translated = path.parent / lang / path.name
    possible, done = points(path.stem), passed(path.stem, state)
    text = _prose(_notebook(translated if translated.exists() else path))
    title = re.search(r"(?m)^# (.*)", text)
    minutes = re.search(r"(\d+) minut", text)  # in English and in Spanish
    return LabProgress(
        lab=path.stem,
        title=title[1].strip() if title else path.stem,
        points=sum(value for exercise, value in possible.items() if exercise in done),
        possible=sum(possible.values()),
        minutes=int(minutes[1]) if minutes else None,
        questions=_questions(text.partition("\n## ")[0]),
    )


def _points(notebook: dict) -> dict[str, int]:
    return {mark["exercise"]: mark["points"] for mark in _marks(notebook) if mark.get("role") == "check"}


def _exercises(notebook: dict) -> list[str]:
    return [mark["name"] for mark in _marks(notebook) if mark.get("role") == "exercise"]


def _marks(notebook: dict) -> list[dict]:
    return [cell["metadata"].get("edgelab", {}) for cell in notebook["cells"]]


def _questions(text: str) -> tuple[str, ...]:
    """Return the items of the first numbered list, each on one line, if they ask something."""
    items = re.search(r"(?m)^1\. (?:.+\n?)+", text)
    found = re.split(r"(?m)^\d\. ", items[0])[1:] if items else []
    return tuple(" ".join(item.split()) for item in found if item.rstrip().endswith("?"))


def _prose(notebook: dict) -> str:
    return "\n".join("".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown")


def _notebook(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def _file() -> Path:
    return state_dir() / FILE
