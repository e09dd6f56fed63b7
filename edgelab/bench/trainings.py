"""Trainings whose figures are reported: all of one, or none; and their figures in a file that grows with each."""

import json
from pathlib import Path
from typing import Any

from edgelab.data.storage import atomic_write
from edgelab.train import History, fit


def fit_whole(*args: Any, **options: Any) -> History:
    """Train as `edgelab.train.fit` does. One that Ctrl-C or a limit of time has cut short is no result: it ends all."""
    return whole(fit(*args, **options))


def whole(history: History) -> History:
    """Return `history`; raise `KeyboardInterrupt` where its training was interrupted."""
    if history.interrupted:
        raise KeyboardInterrupt
    return history


def read(path: Path) -> dict:
    """Return the content of a JSON file, nothing where there is none."""
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def write(path: Path, content: dict) -> None:
    """Write a JSON file, all of it or nothing."""
    with atomic_write(path) as out:
        out.write((json.dumps(content, indent=1) + "\n").encode())
