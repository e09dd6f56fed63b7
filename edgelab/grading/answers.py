"""Which code of a returned notebook answers which exercise: in its own cell, or where an honest learner may leave it.

Only sources count, never outputs, and never our own cells. Looked for are, in this order:

1. the exercise's own cell, known by its id, else by the name in its metadata; of a split or copied one all parts;
2. that cell where a stray key has made it text;
3. the learner's other cells, where the exercise's own does not define what the exercise asks for;
4. the learner's other cells again, for what such code uses and nobody else defines: an import, a helper.
"""

import ast
import builtins
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgelab.course.source import Cell, code_alone, stub
from edgelab.grading.needed import names
from edgelab.grading.returned import Returned, ReturnedCell

MAX_PARSED = 200_000  # characters: a syntax tree takes hundreds of times the memory of its source
MAX_OTHERS = 300_000  # characters of the learner's other cells, in which an answer is looked for
# Lines that IPython understands and Python does not: `%magic`, `!command`, `half?`; and `files = !ls`.
_MAGIC = re.compile(r"(?m)^[ \t]*(?:[%!?].*|[\w.*%]+\?\??[ \t]*)$")
_ASSIGNED_MAGIC = re.compile(r"(?m)=[ \t]*[%!].*$")
# What nbval takes for an instruction, when it stands alone in a comment.
_INSTRUCTION = re.compile(r"\s*#+\s*(NBVAL_\w+|PYTEST_VALIDATE_IGNORE_OUTPUT)\s*")


@dataclass(frozen=True)
class Answer:
    """The code of one exercise, cell by cell; `found` is "text" or "elsewhere" where it was not in the exercise's cell.

    `ticked` says whether the notebook, as it was handed in, shows a ✓ of the exercise's check.
    """

    parts: tuple[str, ...]
    found: str = ""
    ticked: bool = False


def answers(returned: Returned, cells: Sequence[Cell]) -> dict[str, Answer]:
    """Return the learner's answers by exercise; an exercise of which there is no trace is left out."""
    stubs = {cell.name: stub(cell.source, cell.number) for cell in cells if cell.role == "exercise"}
    asked = {name: set(defined(source)) for name, source in stubs.items()}
    ours = _Ours(cells, stubs)
    own: dict[str, list[int]] = {name: [] for name in stubs}
    others: dict[int, tuple[set[str], set[str]]] = {}
    left = MAX_OTHERS
    for place, cell in enumerate(returned.cells):
        if (exercise := ours.exercise(cell)) is not None:
            own[exercise].append(place)
        elif cell.is_code and not ours.has(cell) and len(cell.source) <= left:
            left -= len(cell.source)
            others[place] = names(_read(cell.source)[0])
    ticked = _ticked(returned.cells, cells)
    found = {}
    for exercise, source in stubs.items():
        beside = [place for name in stubs if name != exercise for place in own[name] if returned.cells[place].is_code]
        places, where = _places(own[exercise], source, asked[exercise], returned.cells, others, beside)
        if places:
            helpers = _helpers(places, returned.cells, others, ours.names)
            parts = [_without_instructions(returned.cells[place].source) for place in sorted({*places, *helpers})]
            found[exercise] = Answer(_whole(parts), where, exercise in ticked)
    return found


def answer_names(cells: Sequence[Cell]) -> list[str]:
    """Return the names that exercises ask for: the functions, classes and values that their stubs define."""
    return [name for cell in cells if cell.role == "exercise" for name in defined(stub(cell.source, cell.number))]


def untouched(code: str, source: str) -> bool:
    r"""Return whether `code` is that of the stub `source`, in whatever language its words are.

    >>> half = "def half(x):\n    # BEGIN SOLUTION\n    return x / 2\n    # END SOLUTION"
    >>> untouched(stub(half, 1, "es"), stub(half, 1)), untouched("def half(x):\n    return x / 2", stub(half, 1))
    (True, False)
    """
    if code.strip() == source.strip():
        return True
    return "NotImplementedError" in code and len(code) <= MAX_PARSED and _alone(code) == _alone(source)


def defined(source: str) -> list[str]:
    r"""Return the names that code defines for other cells, in order; nothing where Python cannot read it.

    >>> defined("import math\nLOW = 2\ndef half(x):\n    y = x / LOW\n    return y")
    ['LOW', 'half']
    """
    found: list[str] = []
    for statement in _read(source)[1] or ():
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(statement.name)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            found += [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return found


class _Ours:
    """What tells our own cells, and the exercises', from the learner's."""

    def __init__(self, cells: Sequence[Cell], stubs: dict[str, str]):
        code = [cell for cell in cells if cell.kind == "code" and cell.role != "exercise"]
        self._stubs = stubs
        self._ids = {cell.id for cell in code}
        self._sources = {cell.source.strip() for cell in code}
        self._commented = {_alone(cell.source) for cell in code if "#" in cell.source}  # in any language
        given = [names(cell.source)[0] for cell in code if cell.role != "hidden"]
        self.names = set(dir(builtins)).union(*given, *map(defined, stubs.values()))

    def has(self, cell: ReturnedCell) -> bool:
        if cell.id in self._ids or cell.source.strip() in self._sources or not cell.source.strip():
            return True
        return "#" in cell.source and len(cell.source) <= MAX_PARSED and _alone(cell.source) in self._commented

    def exercise(self, cell: ReturnedCell) -> str | None:
        """Return the exercise whose own cell it is: by its id, else by its name; if it has neither, by its stub."""
        if cell.id in self._stubs:
            return cell.id
        if cell.name in self._stubs:
            return cell.name
        found = (name for name, source in self._stubs.items() if cell.is_code and untouched(cell.source, source))
        return next(found, None)


def _places(
    own: Sequence[int],
    source: str,
    asked: set[str],
    cells: Sequence[ReturnedCell],
    others: dict[int, tuple[set[str], set[str]]],
    beside: Sequence[int],
) -> tuple[list[int], str]:
    """Return the cells of an answer, and where they were found; `beside` are the own cells of other exercises.

    Jupyter's "merge cells" leaves several answers in one of these.
    """
    code = [place for place in own if cells[place].is_code]
    worked_on = [place for place in code if not untouched(cells[place].source, source)]
    text = [place for place in own if not cells[place].is_code and not untouched(cells[place].source, source)]
    if not worked_on and text:
        return text, "text"
    if asked <= set(defined("\n".join(cells[place].source for place in worked_on))):
        return worked_on, ""
    for candidates in (others, beside):
        elsewhere = [place for place in candidates if asked & set(defined(cells[place].source))]
        if elsewhere:
            return [*worked_on, elsewhere[-1]], "elsewhere"
    if worked_on and _read(cells[worked_on[-1]].source)[1] is None and worked_on[-1] + 1 in others:
        rest = [*worked_on, worked_on[-1] + 1]  # split in the middle of a function
        if asked <= set(defined("\n".join(cells[place].source for place in rest))):
            return rest, "elsewhere"
    return worked_on or list(own[:1]), ""


def _helpers(
    places: Iterable[int],
    cells: Sequence[ReturnedCell],
    others: dict[int, tuple[set[str], set[str]]],
    known: set[str],
) -> set[int]:
    """Return the learner's other cells that give what the cells of an answer use, and nobody else gives."""
    giving: dict[str, set[int]] = {}
    for place, (gives, _uses) in others.items():
        for name in gives:
            giving.setdefault(name, set()).add(place)
    given = set(known)
    kept: set[int] = set()
    new = set(places)
    while new:  # each cell is looked at once: a chain of a thousand helpers is no reason to wait
        kept |= new
        found = [others.get(place) or names(_read(cells[place].source)[0]) for place in new]
        given.update(*(gives for gives, _uses in found))
        wanted = set().union(*(uses for _gives, uses in found)) - given
        new = set().union(*(giving.get(name, ()) for name in wanted)) - kept
    return kept - set(places)


def _ticked(returned: Sequence[ReturnedCell], cells: Sequence[Cell]) -> set[str]:
    """Return the exercises with a check that says ✓."""
    checks = {cell.id: cell.exercise for cell in cells if cell.role == "check"}
    sources = {cell.source.strip(): cell.exercise for cell in cells if cell.role == "check"}
    said = {checks.get(cell.id) or sources.get(cell.source.strip()) for cell in returned if cell.ticked}
    return {exercise for exercise in said if exercise}


def _whole(parts: list[str]) -> tuple[str, ...]:
    """Return the parts of an answer as cells to run: as one, where a split has left parts that are no code alone."""
    if len(parts) > 1 and any(_read(part)[1] is None for part in parts):
        joined = "\n".join(parts)
        if _read(joined)[1] is not None:
            return (joined,)
    return tuple(parts)


def _alone(source: str) -> str:
    try:
        return code_alone(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return source.strip()


def _read(source: str) -> tuple[str, list[ast.stmt] | None]:
    """Return code that Python can read, if need be without what only IPython understands, and its statements.

    Where there is none, they are nothing and None.
    """
    if len(source) > MAX_PARSED:
        return "", None
    for with_magics in (True, False):
        text = source if with_magics else _ASSIGNED_MAGIC.sub("= None", _MAGIC.sub("", source))
        try:
            return text, ast.parse(text).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return "", None


def _without_instructions(source: str) -> str:
    """Empty the comments that nbval would obey; lines are split as nbval splits them, and keep their number."""
    lines = source.splitlines(keepends=True)
    return "".join("#\n" if _INSTRUCTION.fullmatch(line) else line for line in lines)
