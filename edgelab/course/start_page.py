"""The page that `edgelab lab` opens: every lab with its question, minutes and points, as Markdown.

It is written anew at each start, so it shows the progress of that moment; the labs themselves show the latest.
"""

import hashlib
from pathlib import Path

from edgelab.course import progress
from edgelab.course.folder import STATE, edit, make_folder, write_whole
from edgelab.i18n import LANGUAGES, translator
from edgelab.numbers import NO_BREAK

NAME = "index.md"


def write(target: Path, lang: str) -> str:
    """Write the page of each language into the learner's folder `target`, and return the path of the one in `lang`.

    A file of that name that is the learner's own is left alone; the path returned is then empty.
    """
    left = set()
    with edit(target / STATE / "shipped.json") as written:
        for chosen in LANGUAGES:
            name = NAME if chosen == "en" else f"{chosen}/{NAME}"
            path, content = target / name, page(target, chosen).encode()
            if path.exists() and _digest(path.read_bytes()) != written.get(name):
                left.add(chosen)
                continue
            make_folder(path.parent)
            write_whole(path, content)
            written[name] = _digest(content)
    return "" if lang in left else (NAME if lang == "en" else f"{lang}/{NAME}")


def page(target: Path, lang: str) -> str:
    """Return the page for the learner's folder `target`; its links are to the notebooks beside it."""
    _ = translator(lang)
    rows = progress.board(target / STATE, lang)
    heads = [_("lab"), _("minutes"), _("points")]
    lines = [
        f"# {_('Make a neural network small and fast enough for the edge')}",
        "",
        _("Each lab can be taken alone. In their order they tell one story, on one model, and fill one table: yours."),
        "",
        f"| | {' | '.join(heads)} |",
        "| --- | --- | --- | --- |",
    ]
    for row in rows:
        done = "✓" if row.possible and row.points == row.possible else "…" if row.points else ""
        link = f"{row.lab[:2]} · [{row.title}]({row.lab}.ipynb)" + "".join(f"<br>{text}" for text in row.questions)
        lines.append(f"| {done} | {link} | {row.minutes or ''} | {row.points} / {row.possible} |")
    points, possible = sum(row.points for row in rows), sum(row.possible for row in rows)
    lines += [
        f"| | **{_('all')}** | {sum(row.minutes or 0 for row in rows)} | **{points}{NO_BREAK}/{NO_BREAK}{possible}** |",
        "",
        _("Click a title. In a lab, `Shift + Enter` runs a cell and goes to the next one."),
        _("Your work is saved in this folder, and no update overwrites it."),
        _("The points are those of the last start; at the end of each lab you see them as they are."),
        "",
    ]
    return "\n".join(lines)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
