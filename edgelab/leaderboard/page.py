"""The board as a table for a spreadsheet, and as a page for people, in the language of whoever merges.

What learners handed in is text that anyone may have made up: it is escaped, and cut.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from edgelab.html_page import BOTH_THEMES, html_page
from edgelab.i18n import N_, _, language, named
from edgelab.leaderboard.entry import Entry, Figures, division_in_words, spread
from edgelab.leaderboard.front import front_picture
from edgelab.leaderboard.gate import gate
from edgelab.leaderboard.origin import environment
from edgelab.leaderboard.ranks import CLAIMED, MEASURED, NOT_MEASURED, REFUSED, UNREADABLE, Line
from edgelab.numbers import number

_MAX_TEXT = 200
_ENVIRONMENT = (N_("processor"), N_("instructions"), N_("cores"), N_("system"))  # to be found by `named`
_DIGITS = 12  # of a digest, on the page; the table has all of them
_COLUMNS = [
    *("data", "division", "rank by size", "rank by speed", "learner", "user", "entry", "state", "why", "same file as"),
    *("accuracy", "gate", "bytes", "times smaller", "latency ms", "lowest", "highest"),
    *("times as fast", "lowest ratio", "highest ratio", "runtime", "MACs", "parameters", "peak bytes", "arena bytes"),
    *("NPU us", "energy J", "sha256 of the file", "sha256 of the data", "edgelab", "sha256 of edgelab"),
    *("environment", "where"),
]
_STYLE = (
    BOTH_THEMES
    + """
.below td { color: var(--faint); }
td.entry { min-width: 9rem; }
td.faint { min-width: 18rem; font-size: .8rem; }
code { font-size: .85em; }
svg { max-width: 46rem; min-width: 28rem; }
"""
)


def state_in_words(state: str) -> str:
    """Return a line's state in the learner's language."""
    return {
        CLAIMED: _("as handed in"),
        MEASURED: _("measured again here"),
        NOT_MEASURED: _("could not be measured here"),
        REFUSED: _("refused"),
        UNREADABLE: _("no entry that can be read"),
    }[state]


def table(lines: Iterable[Line]) -> Iterator[Sequence]:
    """Yield a header, and a line for each entry, with all that is known of it."""
    yield _COLUMNS
    for line in lines:
        entry, found = line.entry, line.figures
        data = [entry.dataset, entry.division] if entry else ["", ""]
        ranks = [line.by_size, line.by_speed]
        who = [line.learner, line.user, entry.name if entry else "", line.state]
        row: list = [*data, *ranks, *who, "; ".join(line.reasons), "; ".join(line.twins)]
        if entry is None or found is None:
            yield [*row, *[None] * (len(_COLUMNS) - len(row) - 1), line.where]
            continue
        row += [found.accuracy, gate(entry.dataset), found.bytes, found.times_smaller, *_three(found.p50_ms)]
        row += [*_three(found.times_faster), found.runtime, found.macs, found.params, found.peak_bytes]
        row += [found.arena_bytes, found.npu_us, found.energy_j, entry.sha256, entry.dataset_sha256]
        row += [entry.edgelab, entry.edgelab_sha256, _in_words(entry.environment), line.where]
        yield row


def page(lines: Sequence[Line], *, remeasured: bool) -> str:
    """Return the board as a page: a part for each data set and division, then what was refused, and why."""
    title = _("Leader board")
    body = [f"<h1>{html.escape(title)}</h1>"]
    said = (
        _("Every file was measured again on this computer, in five fresh processes; what was handed in does not count.")
        if remeasured
        else _("As handed in: only the files' digests and sizes were checked. Measure again before you give a prize.")
    )
    body.append(f"<p>{html.escape(said)}</p>")
    if remeasured:
        body.append(f'<p class="faint">{_text(_spoken(environment()))}</p>')
    shown = [line for line in lines if line.state in (CLAIMED, MEASURED)]
    for dataset, division in dict.fromkeys((line.entry.dataset, line.entry.division) for line in shown if line.entry):
        body += _part(dataset, division, [line for line in shown if line.entry and _is_of(line, dataset, division)])
    body += _left_out([line for line in lines if line.state not in (CLAIMED, MEASURED)])
    return html_page(title, body, lang=language(), style=_STYLE)


def _is_of(line: Line, dataset: str, division: str) -> bool:
    return line.entry is not None and (line.entry.dataset, line.entry.division) == (dataset, division)


def _part(dataset: str, division: str, lines: Sequence[Line]) -> Iterator[str]:
    words = {"dataset": dataset, "division": division_in_words(division)}
    yield f"<h2>{_text(_('%(dataset)s, %(division)s division') % words)}</h2>"
    least = gate(dataset)
    if least is None:
        yield f"<p>{_text(_('There is no baseline for these data, so no gate, and no size or speed counts.'))}</p>"
    else:
        said = _(
            "The gate: %(gate)s %% of the test images, a point below the baseline. Above it sizes and speeds count."
        )
        yield f"<p>{_text(said % {'gate': f'{100 * least:.2f}'})}</p>"
    picture = front_picture(lines)
    if picture is not None:
        yield f'<div class="wide">{picture.svg}</div>'
    yield from _rows(lines)


def _rows(lines: Sequence[Line]) -> Iterator[str]:
    columns = _columns()
    head = "".join(f'<th scope="col" class="{kind}">{_text(text)}</th>' for text, kind, _of in columns)
    yield f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>'
    for line in lines:
        assert line.entry is not None and line.figures is not None  # a line of this state has both
        cells = (f'<td class="{kind}">{of(line, line.entry, line.figures)}</td>' for _head, kind, of in columns)
        yield f'<tr class="{"" if line.counts else "below"}">{"".join(cells)}</tr>'
    yield "</tbody></table></div>"


def _columns() -> list[tuple[str, str, Callable[[Line, Entry, Figures], str]]]:
    """Return each column's heading, its class, and its text, which is HTML already."""
    return [
        (_("rank by size"), "number", lambda line, entry, found: str(line.by_size or "")),
        (_("rank by speed, in its runtime"), "number", lambda line, entry, found: str(line.by_speed or "")),
        (_("learner"), "entry", lambda line, entry, found: _text(line.learner)),
        (_("entry"), "entry", lambda line, entry, found: _text(entry.name) + _twins(line)),
        (_("accuracy (%)"), "number", lambda line, entry, found: f"{100 * found.accuracy:.2f}"),
        (_("points above the gate"), "number", lambda line, entry, found: _above(found.accuracy, gate(entry.dataset))),
        (_("size (KiB)"), "number", lambda line, entry, found: number(found.bytes / 1024, ".1f")),
        (_("times smaller"), "number", lambda line, entry, found: _or_nothing(found.times_smaller, ".1f")),
        (_("latency (ms)"), "number", lambda line, entry, found: spread(found.p50_ms, "{:.3f}")),
        (_("times as fast"), "number", lambda line, entry, found: spread(found.times_faster, "{:.2f}")),
        (_("runtime"), "", lambda line, entry, found: _text(found.runtime)),
        (_("arena (KiB)"), "number", lambda line, entry, found: _or_nothing(_kib(found.arena_bytes), ".1f")),
        (_("NPU, estimated (µs)"), "number", lambda line, entry, found: _or_nothing(found.npu_us, ".0f")),
        (_("file, data, edgelab"), "", lambda line, entry, found: _digests(entry)),
        (_("measured by its maker on"), "faint", lambda line, entry, found: _text(_spoken(entry.environment))),
    ]


def _left_out(lines: Sequence[Line]) -> Iterator[str]:
    if not lines:
        return
    yield f"<h2>{_text(_('Not on the board'))}</h2>"
    heads = [_("learner"), _("entry"), _("state"), _("why")]
    yield '<div class="wide"><table><thead><tr>'
    yield "".join(f'<th scope="col">{_text(head)}</th>' for head in heads) + "</tr></thead><tbody>"
    for line in lines:
        name = line.entry.name if line.entry else line.where
        why = "<br>".join(_text(reason) for reason in line.reasons)
        cells = [_text(line.learner), _text(name), _text(state_in_words(line.state)), why]
        yield "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    yield "</tbody></table></div>"


def _twins(line: Line) -> str:
    if not line.twins:
        return ""
    said = _("the same file as that of %(names)s") % {"names": ", ".join(line.twins)}
    return f'<br><span class="faint">{_text(said)}</span>'


def _digests(entry: Entry) -> str:
    found = (entry.sha256, entry.dataset_sha256, entry.edgelab_sha256)
    return "<br>".join(f'<code title="{digest}">{digest[:_DIGITS]}</code>' for digest in found)


def _in_words(environment: Mapping[str, str]) -> str:
    return "; ".join(f"{name} {text}" for name, text in environment.items())


def _spoken(environment: Mapping[str, str]) -> str:
    return ", ".join(f"{named(name)} {text}" for name, text in environment.items())


def _text(text: str) -> str:
    return html.escape(text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…")


def _or_nothing(value: float | None, form: str) -> str:
    return "" if value is None else number(value, form)


def _above(accuracy: float, least: float | None) -> str:
    """Return by how many points an accuracy is above the gate, with its sign; nothing without a gate."""
    return "" if least is None else f"{100 * (accuracy - least):+.2f}".replace("-", "−")


def _kib(value: int | None) -> float | None:
    return None if value is None else value / 1024


def _three(values: tuple[float, ...]) -> list[float | None]:
    """Return the median, the lowest and the highest of some measurements."""
    if not values:
        return [None, None, None]
    return [sorted(values)[len(values) // 2], min(values), max(values)]
