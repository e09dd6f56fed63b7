"""`edgelab leaderboard`: a class's entries merged into one table and one page, re-measured on this computer if asked.

Files of learners are opened in processes of their own alone, as `edgelab measure` opens them.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from edgelab import data
from edgelab.bars import track
from edgelab.course.folder import edit, make_folder, read, write_whole
from edgelab.errors import EdgelabError
from edgelab.grading.returned import Unreadable
from edgelab.grading.spreadsheet import csv_content
from edgelab.i18n import _
from edgelab.leaderboard import page
from edgelab.leaderboard.checking import contradictions
from edgelab.leaderboard.entry import Entry, Figures, read_figures
from edgelab.leaderboard.handed_in import HandedIn, handed_in
from edgelab.leaderboard.origin import dataset_sha256, environment, package_sha256
from edgelab.leaderboard.ranks import CLAIMED, MEASURED, NOT_MEASURED, REFUSED, STATES, UNREADABLE, Line, ranked
from edgelab.leaderboard.scoring import baseline_file, score

KEPT = "remeasured.json"


@dataclass(frozen=True)
class Bench:
    """What it takes to measure again: folders, and what `data.load` takes for data of somebody's own, "" for none.

    `kept` holds what was measured already, so that who stops goes on from there; `folder` is for files meanwhile.
    """

    kept: Path
    folder: Path
    own_data: str = ""


def merge(submissions: Path, out: Path, *, remeasure: bool = False, own_data: str = "") -> list[Path]:
    """Write `leaderboard.csv` and `leaderboard.html` into `out`, and return them.

    Args:
        submissions: a folder or a zip, as `edgelab grade` takes it: a folder for each learner, Moodle's, Canvas'.
        out: where the table goes, and what was measured again.
        remeasure: whether every file is scored anew on this computer. A row that this contradicts is refused.
        own_data: the folder of images that entries of the open division were measured on, where that is not the
            course's.

    Interrupted, the same command goes on with the files that are left.

    Raises:
        EdgelabError: there is nothing to merge, or the folder cannot be written.
    """
    found = handed_in(submissions)
    make_folder(out)
    lines = [_checked(item) for item in found]
    if remeasure:
        with tempfile.TemporaryDirectory() as temporary:
            bench = Bench(out / KEPT, Path(temporary), own_data)
            todo = list(zip(lines, found, strict=True))
            lines = [_again(line, item, bench) for line, item in track(todo, _("measuring again"), unit=_("entries"))]
    lines = ranked(lines)
    files = {
        "leaderboard.csv": csv_content(page.table(lines), "utf-8-sig"),
        "leaderboard.html": page.page(lines, remeasured=remeasure).encode("utf-8", "replace"),
    }
    for name, content in files.items():
        write_whole(out / name, content)
    for state, count in sorted(Counter(line.state for line in lines).items(), key=lambda item: STATES.index(item[0])):
        print(f"{count:6d}  {page.state_in_words(state)}")
    return [out / name for name in files]


def _checked(item: HandedIn) -> Line:
    """Return the line of an entry from what can be told without running anything."""
    line = (item.learner, item.user, item.where, item.entry)
    if item.entry is None:
        return Line(*line, UNREADABLE, reasons=(item.problem,))
    if item.model is None:
        return Line(*line, REFUSED, item.entry.figures, reasons=(item.problem,))
    claimed = item.entry.figures.bytes
    if item.bytes != claimed:
        words = {"said": claimed, "seen": item.bytes}
        reason = _("the bytes of the file: %(said)d was handed in, and it has %(seen)d") % words
        return Line(*line, REFUSED, item.entry.figures, reasons=(reason,))
    return Line(*line, CLAIMED, item.entry.figures)


def _again(line: Line, item: HandedIn, bench: Bench) -> Line:
    """Return a line whose file was scored on this computer; refused where that contradicts it."""
    entry = line.entry
    if line.state != CLAIMED or entry is None:
        return line
    who = (line.learner, line.user, line.where, entry)
    try:
        name, digest = _data(entry, bench)
    except EdgelabError as error:
        return Line(*who, NOT_MEASURED, entry.figures, reasons=(str(error),))
    if digest != entry.dataset_sha256:
        reason = _("it was measured on other test images than those of %(dataset)s") % {"dataset": name}
        return Line(*who, REFUSED, entry.figures, reasons=(reason,))
    try:
        figures = _figures(entry, item, name, bench)
    except (EdgelabError, Unreadable) as error:
        return Line(*who, REFUSED, entry.figures, reasons=(str(error),))
    against = tuple(contradictions(entry, figures))
    return Line(*who, REFUSED if against else MEASURED, figures, reasons=against)


def _data(entry: Entry, bench: Bench) -> tuple[str, str]:
    """Return what `data.load` takes for an entry's data, and the digest of the data here.

    The name in an entry is a stranger's text: it is looked up among the course's, and never taken for a path.
    """
    if entry.dataset in data.NAMES:
        return entry.dataset, _digest(entry.dataset)
    if not bench.own_data:
        raise EdgelabError(
            _("its data, %(dataset)s, are not here: name their folder with --dataset") % {"dataset": entry.dataset}
        )
    return bench.own_data, _digest(bench.own_data)


@lru_cache
def _digest(dataset: str) -> str:
    return dataset_sha256(data.load(dataset))


def _figures(entry: Entry, item: HandedIn, dataset: str, bench: Bench) -> Figures:
    """Return what the file of an entry scores here; what was measured before, by the same code, is not done again."""
    here = " ".join([package_sha256(), *environment().values()])
    key = f"{entry.sha256} {entry.dataset_sha256} {hashlib.sha256(here.encode()).hexdigest()}"
    known = read(bench.kept).get(key)
    if known is not None:
        return read_figures(known)
    assert item.model is not None  # else the line is refused
    path = bench.folder / f"{entry.sha256}{Path(entry.file).suffix}"
    path.write_bytes(item.model.read())
    try:
        figures = score(path, dataset, baseline_file(dataset, path.suffix, bench.folder))
    except EdgelabError as error:  # it names a file of ours, and is read by others
        raise EdgelabError(str(error).replace(str(path), entry.file).replace(path.name, entry.file)) from None
    finally:
        path.unlink()
    with edit(bench.kept) as state:
        state[key] = asdict(figures)
    return figures
