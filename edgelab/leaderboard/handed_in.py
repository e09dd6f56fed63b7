"""A class's entries, as they came: found by the grader's `collect`, read as strangers' files, nothing run yet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgelab.deploy.measured import SUFFIXES
from edgelab.errors import EdgelabError
from edgelab.grading.collect import Submission, collect
from edgelab.grading.returned import Unreadable
from edgelab.i18n import _
from edgelab.leaderboard.entry import FILE, Entry, read

MAX_ENTRIES = 100  # of one learner


@dataclass(frozen=True)
class HandedIn:
    """What a learner handed in as an entry: the row, and the file that it is of.

    `problem` says why there is no entry, or no file of the digest that it names; `where` is the place among what was
    handed in, `user` the platform's number, and `bytes` the size of the file.
    """

    learner: str
    user: str
    where: str
    entry: Entry | None = None
    model: Submission | None = None
    problem: str = ""
    bytes: int = 0


def handed_in(path: Path) -> list[HandedIn]:
    """Return all entries in a folder or a zip, by learner; a learner without any is in it, with a problem.

    A file is known by its digest, whatever it is called: so an entry whose file was exchanged has none.

    Raises:
        EdgelabError: `path` is neither a folder nor a zip file, or holds nothing.
    """
    by_learner: dict[tuple[str, str], list[Submission]] = {}
    for item in collect(path, (".json", *SUFFIXES), _("no entry was handed in")):
        by_learner.setdefault((item.learner, item.user), []).append(item)
    return [entry for items in by_learner.values() for entry in _of_learner(items)]


def _of_learner(items: Sequence[Submission]) -> Iterator[HandedIn]:
    learner, user = items[0].learner, items[0].user
    rows = [item for item in items if _name(item).endswith(FILE)][:MAX_ENTRIES]
    if not rows:
        problem = next((item.problem for item in items if item.problem), "") or _("no entry was handed in")
        yield HandedIn(learner, user, _place(items[0]), problem=problem)
        return
    models = dict(_digests(items))
    for item in rows:
        try:
            entry = read(item.read())
        except (EdgelabError, Unreadable) as error:
            yield HandedIn(learner, user, _place(item), problem=str(error))
            continue
        model, size = models.get(entry.sha256, (None, 0))
        problem = "" if model else _("the file that was measured is not among what was handed in, or was changed")
        yield HandedIn(learner, user, _place(item), entry, model, problem, size)


def _digests(items: Sequence[Submission]) -> Iterator[tuple[str, tuple[Submission, int]]]:
    """Yield the digest of each model file, the file, and its bytes."""
    for item in items:
        if _name(item).lower().endswith(SUFFIXES):
            try:
                content = item.read()
                yield hashlib.sha256(content).hexdigest(), (item, len(content))
            except Unreadable:
                continue  # the entry that names it will say that it is missing


def _name(item: Submission) -> str:
    return PurePosixPath(item.inner or item.name).name


def _place(item: Submission) -> str:
    return f"{item.name}/{item.inner}" if item.inner else item.name
