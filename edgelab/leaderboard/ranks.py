"""The lines of a board, and their ranks: by size and by speed, behind the gate.

Ranks are given within one data set and one division. Equal sizes share a rank. Speeds are compared within one runtime,
as times the baseline's in turns, and share a rank where the ranges of their processes overlap: what five runs cannot
tell apart is no victory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edgelab.leaderboard.entry import OWN, Entry, Figures
from edgelab.leaderboard.gate import passes

CLAIMED, MEASURED, NOT_MEASURED, REFUSED, UNREADABLE = "claimed", "measured", "not measured", "refused", "unreadable"
STATES = (CLAIMED, MEASURED, NOT_MEASURED, REFUSED, UNREADABLE)


@dataclass(frozen=True)
class Line:
    """A line of the board.

    Attributes:
        learner: whose it is; `user` is the platform's number.
        where: its place among what was handed in.
        entry: the row as handed in, None where it cannot be read.
        state: "claimed" (the file is the one that was measured, and its bytes are right), "measured" here again,
            "not measured" (it could not be, through no fault of the row), "refused" or "unreadable".
        figures: those that count: measured here, or else as claimed.
        reasons: why it is not measured, refused or unreadable.
        twins: who else handed in an entry of the same file.
        by_size: its rank, None without one.
        by_speed: its rank within its runtime, None without one.
    """

    learner: str
    user: str
    where: str
    entry: Entry | None
    state: str
    figures: Figures | None = None
    reasons: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    by_size: int | None = None
    by_speed: int | None = None

    @property
    def counts(self) -> bool:
        """Return whether its size and speed count: nothing stands against it, and its accuracy passes the gate."""
        if self.entry is None or self.figures is None or self.state not in (CLAIMED, MEASURED):
            return False
        return passes(self.figures.accuracy, self.entry.dataset) is True


def ranked(lines: Sequence[Line]) -> list[Line]:
    """Return the lines with their ranks and twins, in the order in which a board shows them."""
    counting: dict[tuple[str, str], list[Figures]] = {}
    for line in lines:
        if line.counts and line.figures:
            counting.setdefault(_group(line), []).append(line.figures)
    found = [replace(_with_ranks(line, counting), twins=_twins(line, lines)) for line in lines]
    return sorted(found, key=_order)


def _with_ranks(line: Line, counting: Mapping[tuple[str, str], Sequence[Figures]]) -> Line:
    """Return a line with its ranks among the figures that count in its group, where its own do."""
    own = line.figures
    if own is None or not line.counts:
        return line
    others = counting[_group(line)]
    by_size = 1 + sum(other.bytes < own.bytes for other in others)
    if not own.times_faster:
        return replace(line, by_size=by_size)
    rivals = [other.times_faster for other in others if other.runtime == own.runtime and other.times_faster]
    return replace(line, by_size=by_size, by_speed=speed_rank(own.times_faster, rivals))


def speed_rank(own: Sequence[float], rivals: Sequence[Sequence[float]]) -> int:
    """Return the rank of some ratios among all: one more than there are rivals whose slowest run beats its fastest.

    >>> all_ratios = [(2.0, 2.2), (4.0, 4.4), (3.9, 4.1), (1.0, 1.1)]
    >>> [speed_rank(own, all_ratios) for own in all_ratios]
    [3, 1, 1, 4]
    """
    return 1 + sum(min(rival) > max(own) for rival in rivals)


def _group(line: Line) -> tuple[str, str]:
    return (line.entry.dataset, line.entry.division) if line.entry else ("", "")


def _twins(line: Line, lines: Sequence[Line]) -> tuple[str, ...]:
    if line.entry is None:
        return ()
    digest, own = line.entry.sha256, (line.learner, line.user)
    same = (other for other in lines if other.entry and other.entry.sha256 == digest)
    return tuple(sorted({other.learner for other in same if (other.learner, other.user) != own}))


def _order(line: Line) -> tuple:
    """Return where a line stands: the course's data first, by division, ranked ones first, by accuracy, by name."""
    accuracy = line.figures.accuracy if line.figures else 0.0
    own = line.entry is None or line.entry.dataset.startswith(OWN)
    return (own, *_group(line), line.by_size or 10**9, line.by_speed or 10**9, -accuracy, line.learner, line.where)
