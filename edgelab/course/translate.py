"""Translations by gettext: what the sources say, what a .po file says of it, and what is missing between the two.

Only maintainers need this module (and polib): learners open finished notebooks and a compiled catalogue.
"""

import ast
import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polib

from edgelab.course.address import FIRST_CELL
from edgelab.course.code_words import words
from edgelab.course.folder import write_whole
from edgelab.course.source import BuildError, Cell, Problem, stub

_IN_EVERY_STUB = "YOUR CODE HERE"  # which the package's own catalogue has
_PLACEHOLDER = re.compile(r"%\((\w+)\)[^a-zA-Z%]*[a-zA-Z]|%%")


@dataclass(frozen=True)
class Message:
    """A text to translate, where it stands, and its plural where it has one."""

    text: str
    path: Path
    line: int
    plural: str = ""


def cell_messages(path: Path, cells: Iterable[Cell]) -> list[Message]:
    """Return what a lab's source says to learners: its prose, and the docstrings and comments of code that they see.

    A prose cell is one message: that keeps a translation coherent.
    """
    messages = []
    for cell in cells:
        if cell.kind == "markdown":
            messages.append(Message(cell.source, path, cell.line))
        elif cell.role not in ("hidden", "solution") and cell.id != FIRST_CELL:  # which the package's catalogue has
            found = (one.text for one in words(stub(cell.source, cell.number)))
            messages += [Message(text, path, cell.line) for text in found if text != _IN_EVERY_STUB]
    return messages


def package_messages(package: Path) -> list[Message]:
    """Return the texts of `_("...")`, `N_("...")` and `ngettext("...", "...", n)` in the package, and of `--help`.

    Raises:
        BuildError: such a call has a text that is not written out, so that no catalogue can hold it.
    """
    messages: list[Message] = []
    problems = []
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"), str(path))
        if path == package / "cli.py":
            messages += _help(path, tree)
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not (wanted := _texts_wanted(node)):
                continue
            constants = [argument.value for argument in node.args[:wanted] if isinstance(argument, ast.Constant)]
            texts = [text for text in constants if isinstance(text, str)]
            if len(texts) == wanted:
                messages.append(Message(texts[0], path, node.lineno, *texts[1:]))
            elif path.name != "i18n.py":
                problems.append(Problem(path, node.lineno, "a text to translate must be written out in the call"))
    if problems:
        raise BuildError(problems)
    return sorted(messages, key=lambda message: (message.path, message.line))


def _help(path: Path, tree: ast.Module) -> Iterator[Message]:
    """Yield what `--help` shows: the docstring of each command, and each text that stands behind `help=`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "help" and isinstance(node.value, ast.Constant):
            yield Message(str(node.value.value), path, node.value.lineno)
        elif isinstance(node, ast.FunctionDef) and node.decorator_list and (text := ast.get_docstring(node)):
            yield Message(text, path, node.lineno)


def _texts_wanted(call: ast.Call) -> int:
    """Return how many texts a call gives to gettext: one, two with a plural, none if it calls something else."""
    return {"_": 1, "N_": 1, "ngettext": 2}.get(call.func.id, 0) if isinstance(call.func, ast.Name) else 0


def translations(path: Path) -> dict[str, str]:
    """Return the finished translations in a .po file, by original; none where there is no file."""
    if not path.exists():
        return {}
    return {entry.msgid: entry.msgstr for entry in _load(path) if entry.translated()}


def translation_problems(path: Path, messages: list[Message]) -> list[Problem]:
    """Return what is missing, fuzzy, left over or inconsistent in the .po file at `path`."""
    if not path.exists():
        return [Problem(path, 1, "there is no such translation: run `edgelab build --update-po`, then translate")]
    try:
        entries = {entry.msgid: entry for entry in _load(path)}
    except BuildError as error:
        return error.problems
    problems = []
    for message in _once(messages):
        entry = entries.pop(message.text, None)
        if entry is None or entry.obsolete:
            problems.append(Problem(message.path, message.line, f"not in {path.name}: run `edgelab build --update-po`"))
        elif entry.fuzzy:
            problems.append(Problem(path, entry.linenum, "fuzzy: the original changed; review it, remove `fuzzy`"))
        elif not entry.translated():
            problems.append(Problem(path, entry.linenum, "not translated"))
        else:
            problems += _placeholder_problems(path, entry)
    for entry in entries.values():
        text = "left over: no source has this text; run `edgelab build --update-po`"
        problems.append(Problem(path, entry.linenum, text))
    return problems


def _placeholder_problems(path: Path, entry: polib.POEntry) -> list[Problem]:
    """Return a problem where a translated message lacks a placeholder of the original, or has another."""
    wanted = set(_PLACEHOLDER.findall(entry.msgid)) if "python-format" in entry.flags else None
    texts = entry.msgstr_plural.values() if entry.msgid_plural else [entry.msgstr]
    if wanted is None or all(set(_PLACEHOLDER.findall(text)) == wanted for text in texts):
        return []
    return [Problem(path, entry.linenum, "the placeholders %(...) differ from the original's")]


def update(path: Path, messages: list[Message], *, root: Path) -> str:
    """Write the .po file at `path` for these messages, and return in words what changed.

    A translation stays with its text. Where a text changed, the translation of the most similar one that is gone is
    kept for review, marked fuzzy. References are relative to `root`.
    """
    old = {entry.msgid: entry for entry in _load(path)} if path.exists() else {}
    texts = {message.text for message in messages}
    gone = {msgid: entry for msgid, entry in old.items() if msgid not in texts and entry.msgstr and not entry.obsolete}
    new = polib.POFile(wrapwidth=110)
    new.metadata = {
        "Content-Type": "text/plain; charset=UTF-8",
        "Content-Transfer-Encoding": "8bit",
        "Language": "es",
        "Plural-Forms": "nplurals=2; plural=(n != 1);",
    }
    reviews = 0
    for message in _once(messages):
        entry = polib.POEntry(msgid=message.text, msgid_plural=message.plural)
        _take_translation(entry, old.get(message.text))
        if message.text not in old and (similar := difflib.get_close_matches(message.text, gone, 1, 0.6)):
            source = gone.pop(similar[0])
            _take_translation(entry, source)
            entry.flags, entry.previous_msgid = ["fuzzy"], source.msgid
            reviews += 1
        if path.stem == "edgelab" and "%(" in message.text:
            entry.flags = [*(flag for flag in entry.flags if flag != "python-format"), "python-format"]
        entry.occurrences = [
            (other.path.relative_to(root).as_posix(), str(other.line))
            for other in messages
            if other.text == message.text
        ]
        new.append(entry)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, str(new).encode())
    name = path.relative_to(root) if path.is_relative_to(root) else path
    missing = len(new.untranslated_entries())
    return f"{name}: {len(new)} texts, {missing} to translate, {reviews} newly fuzzy, {len(gone)} dropped"


def _take_translation(entry: polib.POEntry, source: polib.POEntry | None) -> None:
    if source is not None:
        entry.flags = list(source.flags)
        entry.previous_msgid = source.previous_msgid
        entry.msgstr = source.msgstr
        entry.msgstr_plural = source.msgstr_plural if entry.msgid_plural else {}
    if entry.msgid_plural and not entry.msgstr_plural:
        entry.msgstr_plural = {0: "", 1: ""}


def compiled(path: Path) -> bytes:
    """Return the compiled catalogue (.mo) of a .po file: the same bytes on every run."""
    return _load(path).to_binary()


def _once(messages: list[Message]) -> list[Message]:
    return list({message.text: message for message in reversed(messages)}.values())[::-1]


def _load(path: Path) -> polib.POFile:
    try:
        return polib.pofile(str(path), encoding="utf-8", wrapwidth=110, check_for_duplicates=True)
    except (OSError, ValueError) as error:
        line = re.search(r"line (\d+)", str(error))
        raise BuildError([Problem(path, int(line[1]) if line else 1, f"cannot be read: {error}")]) from error
