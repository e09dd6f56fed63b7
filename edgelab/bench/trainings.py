"""The figures of long trainings, in a file that grows with each."""

import json
from pathlib import Path

from edgelab.data.storage import atomic_write


def read(path: Path) -> dict:
    """Return the content of a JSON file, nothing where there is none."""
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def write(path: Path, content: dict) -> None:
    """Write a JSON file, all of it or nothing."""
    with atomic_write(path) as out:
        out.write((json.dumps(content, indent=1) + "\n").encode())
