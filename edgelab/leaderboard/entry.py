"""An entry: what was measured of one file, on what, by which edgelab, where. A file of JSON, and the model beside it.

An entry that was handed in is somebody else's text: each field is read by its kind and within limits, and whatever does
not fit is refused in one sentence.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from html import escape
from typing import Any
from unicodedata import category

from edgelab.data import NAMES
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.leaderboard.gate import DIVISIONS, gate, passes
from edgelab.numbers import NO_BREAK, number

FORMAT = 1
FILE = "entry.json"
OWN = "own/"  # begins the name of data that are no course's
_NAME = re.compile(r"[\w][\w .+-]{0,59}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOST = 2**53  # whole numbers that JSON can hold exactly
_MAX_TEXT = 300
_MAX_ITEMS = 50


@dataclass(frozen=True)
class Figures:
    """What was measured of a file: accuracy in [0, 1], bytes, MACs of one inference, ms, microseconds, joules.

    `p50_ms` is the median latency of each process; `times_faster` how many times as fast as the baseline's float file
    it ran there, in the same runtime and in turns (empty on data that has no baseline). `arena_bytes` and `npu_us` are
    None where they are not known, and `unmeasured` says why.
    """

    accuracy: float
    bytes: int
    params: int
    macs: int
    peak_bytes: int
    energy_j: float
    runtime: str
    p50_ms: tuple[float, ...]
    times_faster: tuple[float, ...] = ()
    baseline_bytes: int | None = None
    arena_bytes: int | None = None
    npu_us: float | None = None
    unmeasured: dict[str, str] = field(default_factory=dict)

    @property
    def latency_ms(self) -> float:
        """Return the median of the processes' medians."""
        return statistics.median(self.p50_ms)

    @property
    def speed(self) -> float | None:
        """Return how many times as fast as the baseline it is: the median of the processes."""
        return statistics.median(self.times_faster) if self.times_faster else None

    @property
    def times_smaller(self) -> float | None:
        """Return how many times smaller than the baseline's float file of the same format it is."""
        return None if self.baseline_bytes is None else self.baseline_bytes / self.bytes


@dataclass(frozen=True)
class Entry:
    """A row of the leader board; in a notebook, the row as a table.

    Attributes:
        name: what its maker calls it.
        division: "closed" or "open".
        dataset: the name of the data set; `own/` and the folder's name for a folder of one's own.
        file: the model's file name, beside the entry.
        sha256: of the model's file.
        dataset_sha256: of the test images, see `edgelab.leaderboard.origin`.
        edgelab: the version that measured, and `edgelab_sha256` its code.
        environment: the processor, the system and the runtimes, by name.
        figures: what was measured.
    """

    name: str
    division: str
    dataset: str
    file: str
    sha256: str
    dataset_sha256: str
    edgelab: str
    edgelab_sha256: str
    environment: dict[str, str]
    figures: Figures

    @property
    def passes(self) -> bool | None:
        """Return whether its accuracy is on the good side of the gate; None where there is no gate."""
        return passes(self.figures.accuracy, self.dataset)

    def as_json(self) -> bytes:
        """Return the entry as `read` takes it."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, ensure_ascii=False).encode()

    def __str__(self) -> str:
        """Return the row as lines of text, for the terminal."""
        return "\n".join(f"{head}: {text}" for head, text in zip(headings(), cells(self), strict=True) if text)

    def _repr_html_(self) -> str:
        from edgelab.explore.html import HtmlTable  # with its widgets and plots, which no timed process needs

        heads, texts = headings(), cells(self)
        kept = [place for place, text in enumerate(texts) if text]
        return HtmlTable(
            [escape(heads[place]) for place in kept], [[escape(texts[place]) for place in kept]]
        )._repr_html_()


def must_be_a_name(name: str) -> None:
    """Raise `EdgelabError` for a name that cannot be a folder's on every computer."""
    if not _NAME.fullmatch(name) or name.endswith((".", " ")):
        raise EdgelabError(
            _("%(name)r cannot be the name of an entry: take up to 60 letters, digits, spaces, or . _ + -")
            % {"name": name[:80]}
        )


def must_be_a_division(division: str) -> None:
    """Raise `EdgelabError` for a division that there is not."""
    if division not in DIVISIONS:
        known = ", ".join(DIVISIONS)
        raise EdgelabError(
            _("There is no division %(name)r. There are: %(known)s.") % {"name": division, "known": known}
        )


def headings() -> list[str]:
    """Return the columns of an entry, with their units, in the learner's language."""
    return [
        _("entry"),
        _("division"),
        _("accuracy (%)"),
        _("gate"),
        _("size (KiB)"),
        _("times smaller than the baseline"),
        _("latency, five processes (ms)"),
        _("times as fast as the baseline"),
        _("runtime"),
        _("arena in TensorFlow Lite Micro (KiB)"),
        _("NPU, estimated (µs)"),
    ]


def cells(entry: Entry) -> list[str]:
    """Return an entry's row as text; what is not known is empty."""
    found = entry.figures
    smaller = found.times_smaller
    return [
        entry.name,
        division_in_words(entry.division),
        f"{100 * found.accuracy:.2f}",
        gate_in_words(found.accuracy, entry.dataset),
        number(found.bytes / 1024, ".1f"),
        "" if smaller is None else f"{smaller:.1f}",
        spread(found.p50_ms, "{:.3f}"),
        spread(found.times_faster, "{:.2f}"),
        found.runtime,
        "" if found.arena_bytes is None else number(found.arena_bytes / 1024, ".1f"),
        "" if found.npu_us is None else number(found.npu_us, ".0f"),
    ]


def division_in_words(division: str) -> str:
    """Return a division in the learner's language."""
    return {"closed": _("closed"), "open": _("open")}[division]


def gate_in_words(accuracy: float, dataset: str) -> str:
    """Return on which side of the gate an accuracy is, and by how many points."""
    least = gate(dataset)
    if least is None:
        return _("no gate: there is no baseline for these data, so no size or speed counts")
    words = {"gate": f"{100 * least:.2f}", "points": f"{abs(100 * (accuracy - least)):.2f}"}
    if passes(accuracy, dataset):
        return _("passed: %(points)s points above %(gate)s %%") % words
    return _("not passed: %(points)s points below %(gate)s %%") % words


def spread(values: tuple[float, ...], form: str) -> str:
    """Return the median of some measurements, and the smallest and the largest: "0.21 (0.20–0.24)".

    >>> spread((2.0, 1.0, 4.0), "{:.1f}").replace(NO_BREAK, " ")
    '2.0 (1.0–4.0)'
    """
    if not values:
        return ""
    low, middle, high = (form.format(value) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle}{NO_BREAK}({low}–{high})"


def read(content: bytes) -> Entry:
    """Return the entry that a file holds, whoever wrote it.

    Raises:
        EdgelabError: it is no JSON, of another format, or a field is missing or is not what it should be.
    """
    try:
        found = json.loads(content, parse_constant=lambda name: math.nan)
    except (ValueError, RecursionError) as error:
        raise EdgelabError(_("it is no JSON (%(reason)s)") % {"reason": type(error).__name__}) from None
    if not isinstance(found, dict):
        raise EdgelabError(_("it is no entry"))
    if found.get("format") != FORMAT:
        raise EdgelabError(_("it is of another format than %(format)s: measure it again") % {"format": FORMAT})
    entry = _record(Entry, found)
    must_be_a_name(entry.name)
    must_be_a_division(entry.division)
    for name in ("sha256", "dataset_sha256", "edgelab_sha256"):
        if not _SHA256.fullmatch(getattr(entry, name)):
            raise _wrong(name)
    if entry.dataset not in NAMES and not entry.dataset.startswith(OWN):
        raise _wrong("dataset")
    if not entry.figures.accuracy <= 1:
        raise _wrong("accuracy")
    if not entry.figures.p50_ms or not entry.figures.bytes:
        raise _wrong("p50_ms" if entry.figures.bytes else "bytes")
    return entry


def read_figures(found: object) -> Figures:
    """Return the figures that a JSON object holds; raise `EdgelabError` for a field that is not what it should be."""
    if not isinstance(found, dict):
        raise _wrong("figures")
    return _record(Figures, found)


def _record(kind: type, found: Mapping[str, Any]) -> Any:
    """Return a record of `kind`, each field of which has its type; what is not asked for is left out."""
    values = {}
    for one in fields(kind):
        try:
            values[one.name] = _KINDS[str(one.type)](found[one.name])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise _wrong(one.name) from None
    return kind(**values)


def _wrong(name: str) -> EdgelabError:
    return EdgelabError(_("its field %(name)s is missing, or is not what it should be") % {"name": name})


def _text(value: object) -> str:
    # No control characters, none that turn the direction of writing, no half of a pair.
    if not isinstance(value, str) or len(value) > _MAX_TEXT or any(category(sign)[0] == "C" for sign in value):
        raise ValueError
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST:
        raise ValueError
    return value


def _amount(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError
    return float(value)


def _texts(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > _MAX_ITEMS:
        raise ValueError
    return {_text(key): _text(text) for key, text in value.items()}


def _amounts(value: object) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) > _MAX_ITEMS:
        raise ValueError
    amounts = tuple(_amount(one) for one in value)
    if not all(amounts):
        raise ValueError
    return amounts


_KINDS: dict[str, Any] = {
    "str": _text,
    "int": _whole,
    "float": _amount,
    "dict[str, str]": _texts,
    "tuple[float, ...]": _amounts,
    "int | None": lambda value: None if value is None else _whole(value),
    "float | None": lambda value: None if value is None else _amount(value),
    "Figures": read_figures,
}
