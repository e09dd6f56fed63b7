"""What has been graded so far: a line of JSON for each submission, on the disk before the next one is begun."""

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgelab.course import locks
from edgelab.errors import EdgelabError
from edgelab.i18n import _

FILE = "results.jsonl"
Key = tuple[str, str, str]


class Results:
    """The rows of one grading folder, the last one for each key; those of former gradings stay in the file."""

    def __init__(self, folder: Path):
        self._path = folder / FILE
        self.rows: dict[Key, dict] = {}
        content = self._path.read_bytes() if self._path.exists() else b""
        whole, _newline, half = content.rpartition(b"\n")
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = json.loads(line)
                self.rows[key(row)] = row
            except (ValueError, KeyError, TypeError) as error:
                message = _("Line %(number)d of %(path)s is damaged. Remove it, and what it told is graded again.")
                raise EdgelabError(message % {"number": number, "path": self._path}) from error
        if half:  # the grader was killed while it wrote this line
            with self._path.open("r+b") as file:
                file.truncate(len(content) - len(half))

    def add(self, row: dict) -> None:
        """Keep a row, and return when it is on the disk."""
        self.rows[key(row)] = row  # first: stopped between the two, a gradebook must have what the file has
        with self._path.open("a", encoding="ascii") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def forget(self, keys: Iterable[Key]) -> None:
        """Leave these rows out from now on; the file keeps them."""
        for where in list(keys):
            del self.rows[where]


def key(row: dict) -> Key:
    """Return what a row is about: the learner, the platform's number for them, and the lab (the file, if unknown)."""
    return row["learner"], row["user"], row["lab"] or row["file"]


@contextmanager
def only_grader(folder: Path) -> Iterator[None]:
    """Hold the grading folder for this process.

    Raises:
        EdgelabError: another grader is at work in it.
    """
    with (folder / ".lock").open("ab") as file:
        try:
            locks.try_lock(file)
        except BlockingIOError as error:
            message = _("Another `edgelab grade` is at work in %(folder)s. Wait for it, or choose another --out.")
            raise EdgelabError(message % {"folder": folder}) from error
        yield
