"""What a learner has done: checks passed and predictions made, in `progress.json`, and the board that adds them up."""

import json
from dataclasses import dataclass
from pathlib import Path

from edgelab.course.folder import edit, read, shipped_labs, state_dir
from edgelab.i18n import language


@dataclass(frozen=True)
class LabProgress:
    """One row of the board: points got out of those that the lab's self-checks give."""

    lab: str
    title: str
    points: int
    possible: int


def record_check(lab: str, exercise: str, passed: bool) -> None:
    """Count one attempt at an exercise. A check once passed stays passed.

    Raises:
        EdgelabError: the learner's folder cannot be written.
    """
    with edit(_file()) as state:
        record = state.setdefault("checks", {}).setdefault(lab, {}).setdefault(exercise, {})
        record["attempts"] = record.get("attempts", 0) + 1
        record["passed"] = passed or record.get("passed", False)


def passed(lab: str) -> set[str]:
    """Return the names of the lab's exercises whose check has passed."""
    checks = read(_file()).get("checks", {}).get(lab, {})
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


def board() -> list[LabProgress]:
    """Return a row per shipped lab, in the order of the course, titled in the learner's language."""
    return [_row(path) for path in sorted(shipped_labs().glob("[0-9][0-9]_*.ipynb"))]


def points(lab: str) -> dict[str, int]:
    """Return the points of the lab's self-checks by exercise, as its shipped notebook states them."""
    path = shipped_labs() / f"{lab}.ipynb"
    return _points(_notebook(path)) if path.exists() else {}


def _row(path: Path) -> LabProgress:
    translated = path.parent / language() / path.name
    possible, done = points(path.stem), passed(path.stem)
    return LabProgress(
        lab=path.stem,
        title=_title(_notebook(translated if translated.exists() else path)) or path.stem,
        points=sum(value for exercise, value in possible.items() if exercise in done),
        possible=sum(possible.values()),
    )


def _points(notebook: dict) -> dict[str, int]:
    marks = (cell["metadata"].get("edgelab", {}) for cell in notebook["cells"])
    return {mark["exercise"]: mark["points"] for mark in marks if mark.get("role") == "check"}


def _title(notebook: dict) -> str:
    """Return the notebook's first heading."""
    lines = (line for cell in notebook["cells"] if cell["cell_type"] == "markdown" for line in cell["source"])
    return next((line.removeprefix("# ").strip() for line in lines if line.startswith("# ")), "")


def _notebook(path: Path) -> dict:
    return json.loads(path.read_text("utf-8"))


def _file() -> Path:
    return state_dir() / "progress.json"
