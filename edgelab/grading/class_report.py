"""How a class did: the points of each exercise, and what most often stood in the way; a page, and the table behind it.

What a check said comes from a kernel in which a learner's code ran, so it is text that anyone may have made up: it is
counted, cut and escaped, and nothing else.
"""

import html
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from edgelab.html_page import BOTH_THEMES, html_page
from edgelab.i18n import _, language

Labs = Mapping[str, Mapping[str, int]]
_MAX_TEXT = 200
_COLUMNS = [
    *("lab", "exercise", "possible", "handed in", "mean", "full", "none", "untouched"),
    *("most often", "how often", "next", "how often next", "median seconds of a lab's run", "longest"),
]

_STYLE = (
    BOTH_THEMES
    + """
body { max-width: 60rem; }
.bar { background: var(--line); width: 8rem; height: .8rem; margin-top: .35rem; }
.bar div { background: #0072b2; height: 100%; }
td.said { color: var(--faint); min-width: 14rem; }
"""
)


def table(rows: Iterable[Mapping], labs: Labs) -> Iterator[Sequence]:
    """Yield a header, and a line for each exercise of each lab that somebody handed in."""
    yield _COLUMNS
    for lab, possible in labs.items():
        graded = [row for row in rows if row["lab"] == lab and row["exercises"]]
        times = [row["seconds"] for row in graded if row.get("seconds")]
        clock = (round(statistics.median(times), 1), round(max(times), 1)) if times else ("", "")
        for exercise, most in possible.items():
            marks = [row["exercises"][exercise] for row in graded if exercise in row["exercises"]]
            points = [mark["points"] for mark in marks]
            said = [*_reasons(marks).most_common(2), ("", ""), ("", "")]
            line: list = [lab, exercise, most, len(marks), round(statistics.fmean(points), 2) if points else ""]
            line += [points.count(most), points.count(0), sum(mark["verdict"] == "untouched" for mark in marks)]
            yield [*line, *said[0], *said[1], *clock]


def page(rows: Iterable[Mapping], labs: Labs) -> str:
    """Return the table as a page for people, in the language of whoever grades."""
    _header, *lines = table(list(rows), labs)
    title = _("How the class did")
    body = [f"<h1>{html.escape(title)}</h1>"]
    for lab in labs:
        own = [line for line in lines if line[0] == lab and line[3]]
        if own:
            body += _section(lab, own)
    return html_page(title, body, lang=language(), style=_STYLE)


def _section(lab: str, lines: Sequence[Sequence]) -> Iterator[str]:
    median, longest = lines[0][-2:]
    yield f"<h2>{html.escape(lab)}</h2>"
    words = {"n": lines[0][3], "median": median, "longest": longest}
    yield f"<p>{html.escape(_('Graded: %(n)d. A run took %(median)s s, the longest %(longest)s s.') % words)}</p>"
    heads = [_("exercise"), _("points, mean"), "", _("all points"), _("no points")]
    heads.append(_("what stood in the way, and how often"))
    kinds = ["", "number", "", "number", "number", ""]
    cells = zip(heads, kinds, strict=True)
    head = "".join(f'<th scope="col" class="{kind}">{html.escape(text)}</th>' for text, kind in cells)
    yield f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>'
    for _lab, exercise, most, _count, mean, full, none, _untouched, *said in lines:
        reasons = [f"{count} × {text}" for text, count in ((said[0], said[1]), (said[2], said[3])) if count]
        yield (
            f"<tr><td>{html.escape(exercise)}</td><td class='number'>{mean:.1f} / {most}</td>"
            f"<td><div class='bar'><div style='width: {100 * mean / (most or 1):.0f}%'></div></div></td>"
            f"<td class='number'>{full}</td><td class='number'>{none}</td>"
            f"<td class='said'>{'<br>'.join(map(html.escape, reasons))}</td></tr>"
        )
    yield "</tbody></table></div>"


def _reasons(marks: Iterable[Mapping]) -> Counter[str]:
    """Count why points were lost: by the check's hint, else by what it said, else by the verdict."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}
    for mark in marks:
        if mark["points"] == mark["possible"]:
            continue
        text = _reason(mark)
        key = re.sub(r"-?\d+([.,]\d+)*(e[+-]?\d+)?", "#", text)  # answers differ in their numbers
        counts[examples.setdefault(key, text)] += 1
    return counts


def _reason(mark: Mapping) -> str:
    if mark["verdict"] in ("untouched", "missing"):
        return _("nothing was written") if mark["verdict"] == "untouched" else _("the exercise is missing")
    if mark.get("module"):
        return _("the package %(name)s, which the course does not have") % {"name": mark["module"]}
    *_before, last = str(mark.get("said", "")).strip().split("\n")
    if last:
        return last[:_MAX_TEXT]
    if mark.get("error"):
        return str(mark["error"])
    return _failed(mark["verdict"])


def _failed(verdict: str) -> str:
    """Return what became of an answer of which its check said nothing."""
    words = {
        "crashed": _("it brought Python down"),
        "memory": _("it took more memory than there is"),
        "time": _("it did not come to an end in time"),
        "output": _("it printed far too much"),
    }
    return words.get(verdict, _("its check was content, and other inputs were not"))
