"""Rows of the leader board as tests need them: true in their form, made up in their figures."""

import dataclasses

from edgelab.leaderboard.entry import Entry, Figures
from edgelab.leaderboard.origin import environment, package_sha256, package_version
from edgelab.leaderboard.ranks import CLAIMED, Line


def figures(**changes) -> Figures:
    usual = {"accuracy": 0.96, "bytes": 100_000, "params": 90_000, "macs": 3_000_000, "peak_bytes": 98_304}
    usual |= {"energy_j": 3e-5, "runtime": "ONNX Runtime", "p50_ms": (0.21, 0.2, 0.22, 0.2, 0.21)}
    usual |= {"times_faster": (10.0, 10.5, 9.8, 10.1, 10.2), "baseline_bytes": 5_000_000}
    return Figures(**{**usual, **changes})


def entry(found: Figures | None = None, **changes) -> Entry:
    usual = {"name": "mine", "division": "closed", "dataset": "signs", "file": "mine.onnx"}
    usual |= {"sha256": "a" * 64, "dataset_sha256": "b" * 64, "edgelab": package_version()}
    usual |= {"edgelab_sha256": package_sha256(), "environment": environment()}
    return Entry(**{**usual, **changes}, figures=found or figures())


def line(learner: str, state: str = CLAIMED, found: Figures | None = None, **changes) -> Line:
    row = entry(found, **changes)
    return Line(learner, "", f"{learner}/entry.json", row, state, row.figures)


def changed(row: Entry, **changes) -> Entry:
    """Return an entry some of whose figures are other ones."""
    return dataclasses.replace(row, figures=dataclasses.replace(row.figures, **changes))
