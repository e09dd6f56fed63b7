"""Whether a row is true: what its file costs nobody can argue about, and what it takes is measured again, here.

What must be equal, and what may differ between two honest computers:

- Bytes, parameters, MACs, peak, arena and Arm's estimate are counted: they are equal, or the row was edited.
- Accuracy may differ by `ACCURACY` of the test images: kernels of two processors round differently, and an image on the
  edge between two classes falls to the other side.
- Times differ. After re-measuring none that was claimed counts; but a claim much better than what is seen here was made
  up: `SAME` times as fast, against the baseline in turns, on a processor of the same name (on a busy one four honest
  medians of a tiny file were 31 to 52 times the baseline's), `OTHER` times on another one (int8 runs 1.0 or 3.7 times
  as fast as float32, by the processor's instructions alone).
"""

from __future__ import annotations

from collections.abc import Iterator

from edgelab.i18n import _
from edgelab.leaderboard.entry import Entry, Figures
from edgelab.leaderboard.origin import environment, package_sha256, package_version
from edgelab.numbers import number

ACCURACY = 0.002
SAME, OTHER = 3.0, 6.0
_COUNTED = ("bytes", "params", "macs", "peak_bytes", "arena_bytes", "npu_us")


def contradictions(entry: Entry, found: Figures) -> list[str]:
    """Return a sentence for each figure of an entry that what was measured here contradicts; none for a true row."""
    return [*_counted(entry, found), *_accuracy(entry, found), *_times(entry, found)]


def _counted(entry: Entry, found: Figures) -> Iterator[str]:
    claimed = entry.figures
    if claimed.runtime != found.runtime:
        yield _differs(_("the runtime"), claimed.runtime, found.runtime)
    for name in _COUNTED:
        said, seen = getattr(claimed, name), getattr(found, name)
        if None in (said, seen) or said == seen:  # None: a tool is missing, there or here
            continue
        text = _differs(in_words(name), number(said), number(seen))
        if entry.edgelab_sha256 != package_sha256():
            words = {"there": entry.edgelab, "here": package_version()}
            text += " " + _("(by other code: edgelab %(there)s there, %(here)s here)") % words
        yield text


def _accuracy(entry: Entry, found: Figures) -> Iterator[str]:
    said, seen = entry.figures.accuracy, found.accuracy
    if abs(said - seen) > ACCURACY:
        yield _differs(_("the accuracy"), f"{100 * said:.2f} %", f"{100 * seen:.2f} %")


def _times(entry: Entry, found: Figures) -> Iterator[str]:
    claimed = entry.figures
    same = entry.environment.get("processor") == environment().get("processor")
    if claimed.speed and found.speed and claimed.speed > (SAME if same else OTHER) * found.speed:
        yield _differs(_("the speed beside the baseline"), f"{claimed.speed:.2f}×", f"{found.speed:.2f}×")
    if claimed.latency_ms * OTHER < found.latency_ms:
        yield _differs(_("the latency"), f"{claimed.latency_ms:.3f} ms", f"{found.latency_ms:.3f} ms")


def _differs(what: str, said: str, seen: str) -> str:
    return _("%(what)s: %(said)s was handed in, %(seen)s was measured here") % {
        "what": what,
        "said": said,
        "seen": seen,
    }


def in_words(name: str) -> str:
    """Return a counted figure's name in the learner's language."""
    return {
        "bytes": _("the bytes of the file"),
        "params": _("the parameters"),
        "macs": _("the MACs"),
        "peak_bytes": _("the peak memory in bytes"),
        "arena_bytes": _("the arena in bytes"),
        "npu_us": _("the NPU's microseconds"),
    }[name]
