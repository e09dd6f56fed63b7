r"""Read a lab's source: `labs/source/NN_topic.py`, in jupytext's percent format, with line numbers for every complaint.

    # %% [markdown]                          prose, each line after "# "
    # %% name tags=["exercise"]              code; the name becomes the cell's stable id

An `exercise` holds `# BEGIN SOLUTION` ... `# END SOLUTION`; a `check` or a `hidden` cell is named after its exercise
(`name-check`, `name-hidden`, `name-hidden-empty`). A `check` has `points=2`; a `hidden` cell, which only the grader
runs, may have points of its own. A `solution` is in the reference only. Code may end in lines `# > text`: what it
prints in the reference run. What stands before the first cell is a note to maintainers.

A check that calls a function of the lab's `check` module imports it, though the source does not say so: it is the cell
that is run first, and alone, after a restart.
"""

import ast
import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from edgelab.course.address import FIRST_CELL, first_cell
from edgelab.errors import EdgelabError
from edgelab.i18n import LANGUAGES, translator

ROLES = ("exercise", "check", "hidden", "solution")
GRADED = ("check", "hidden")
BEGIN, END = "# BEGIN SOLUTION", "# END SOLUTION"

_HEADER = re.compile(
    r"# %%(?: (?P<markdown>\[markdown\]))?(?: (?P<name>[^\s=\[\]]+))?"
    r"(?: tags=(?P<tags>\[[^\]]*\]))?(?: points=(?P<points>\S+))?\s*"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # what nbformat allows as a cell id


@dataclass(frozen=True, order=True)
class Problem:
    """Something to mend, and where."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        here = Path.cwd()
        path = self.path.relative_to(here) if self.path.is_relative_to(here) else self.path
        return f"{path}:{self.line}: {self.message}"


class BuildError(EdgelabError):
    """Everything that is wrong with the sources, a line each: file, line number, what to mend."""

    def __init__(self, problems: list[Problem]):
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


@dataclass(frozen=True)
class Cell:
    """A cell of the source: `id` is stable, `line` is where it starts, `printed` what its `# > ` lines promise.

    `number` is that of the exercise which the cell is, or belongs to, counted from 1 in the lab; 0 for other cells.
    """

    kind: str
    id: str
    name: str
    role: str
    points: int
    source: str
    printed: str
    line: int
    number: int = 0

    @property
    def exercise(self) -> str:
        """The name of the exercise that this cell is, or belongs to."""
        return re.sub(rf"-{self.role}(-\w+)?$", "", self.name) if self.role in GRADED else self.name


def read_source(path: Path) -> list[Cell]:
    """Return the lab's cells, behind the one with which every lab begins: it installs the course where it is missing.

    Raises:
        BuildError: all that is malformed in the file.
        EdgelabError: no address is known to install it from.
    """
    cells = parse(path.read_text("utf-8"), path)
    return [Cell("code", FIRST_CELL, "", "", 0, first_cell(), "", cells[0].line), *cells]


def parse(text: str, path: Path) -> list[Cell]:
    r"""Return the cells of a source's `text`; `path` is what errors call it.

    >>> [cell.id for cell in parse("# %% [markdown]\n# # Title\n\n# %% setup\nimport math\n", Path("lab.py"))]
    ['text-79aeaf7b', 'setup']
    """
    problems: list[Problem] = []
    cells: list[Cell] = []
    for start, header, body in _blocks(text):
        found: list[tuple[int, str]] = []
        cell = _cell(start, header, body, problems=found)
        problems += [Problem(path, line, message) for line, message in found]
        cells.append(cell)
    problems += [Problem(path, line, message) for line, message in _between_cells(cells)]
    if not cells:
        problems.append(Problem(path, 1, "no cell: a cell starts with a line `# %%`"))
    if problems:
        raise BuildError(sorted(problems))
    return _with_numbers(_with_ids(cells), path.stem)


def _blocks(text: str) -> list[tuple[int, str, list[str]]]:
    """Return (line number, header, body lines) for each cell."""
    blocks: list[tuple[int, str, list[str]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("# %%"):
            blocks.append((number, line, []))
        elif blocks:
            blocks[-1][2].append(line)
    return blocks


def _cell(start: int, header: str, body: list[str], *, problems: list[tuple[int, str]]) -> Cell:
    """Return one cell without its id, and add what is wrong with it to `problems` as (line number, message)."""
    name, role, points, markdown = _read_header(start, header, problems)
    printed = ""
    if markdown:
        lines = [_uncomment(start + number, line, problems) for number, line in enumerate(body, start=1)]
    else:
        lines, printed = _split_printed(start, body, problems)
    source = "\n".join(lines).strip("\n")
    if not markdown:
        _check_markers(start, lines, role, problems)
        _check_syntax(start, body, problems)
    if not source.strip():
        problems.append((start, "the cell is empty"))
    return Cell("markdown" if markdown else "code", "", name, role, points, source.rstrip(), printed, start)


def _read_header(start: int, header: str, problems: list[tuple[int, str]]) -> tuple[str, str, int, bool]:
    """Return name, role, points, and whether it is prose."""
    match = _HEADER.fullmatch(header)
    if match is None:
        problems.append((start, f'cannot read {header!r}: it should be like `# %% name tags=["check"] points=2`'))
        return "", "", 0, "[markdown]" in header
    name, markdown = match["name"] or "", match["markdown"] is not None
    if name and not _NAME.fullmatch(name):
        problems.append((start, f"the name {name!r} must be letters, digits, - and _ (64 at most)"))
    try:
        tags = json.loads(match["tags"] or "[]")
    except ValueError:
        tags = []
        problems.append((start, f'tags={match["tags"]} should be like tags=["exercise"]'))
    for tag in tags:
        if tag not in ROLES:
            problems.append((start, f"unknown tag {tag!r}: choose from {', '.join(ROLES)}"))
    if len(tags) > 1:
        problems.append((start, f"one tag per cell, not {len(tags)}"))
    role = tags[0] if tags and tags[0] in ROLES else ""
    if role and not name and role != "solution":
        problems.append((start, f"this {role} cell needs a name, its stable id"))
    if role and markdown and role != "solution":
        problems.append((start, f"a {role} cell holds code, not prose"))
    return name, role, _read_points(start, match["points"], role, problems), markdown


def _read_points(start: int, points: str | None, role: str, problems: list[tuple[int, str]]) -> int:
    if role == "check" and points is None:
        problems.append((start, "a check cell needs its points: add points=1"))
    if role not in GRADED and points is not None:
        problems.append((start, "points belong to a check or hidden cell"))
    if points is None:
        return 0
    if not re.fullmatch(r"[1-9]\d*", points):
        problems.append((start, f"points={points} should be a whole number from 1"))
        return 0
    return int(points)


def _uncomment(number: int, line: str, problems: list[tuple[int, str]]) -> str:
    if line.startswith("# "):
        return line[2:]
    if line.strip() not in ("", "#"):
        problems.append((number, "a line of prose starts with `# `"))
    return ""


def _split_printed(start: int, body: list[str], problems: list[tuple[int, str]]) -> tuple[list[str], str]:
    """Return a code cell's lines without the `# > ` lines that end it, and what those say is printed."""
    end = len(body)
    while end and not body[end - 1].strip():
        end -= 1
    first = end
    while first and body[first - 1].startswith("# >"):
        first -= 1
    for number, line in enumerate(body[:first], start=1):
        if line.lstrip().startswith("# >"):
            problems.append((start + number, "`# > ` lines end a cell; there is code after this one"))
    printed = "".join(line.removeprefix("# >").removeprefix(" ") + "\n" for line in body[first:end])
    return body[:first], printed


def _check_markers(start: int, lines: list[str], role: str, problems: list[tuple[int, str]]) -> None:
    opened, solutions = 0, 0
    for number, line in enumerate(lines, start=start + 1):
        if line.strip() == BEGIN:
            if opened:
                problems.append((number, f"`{BEGIN}` inside the one that began on line {opened}"))
            opened = number
            solutions += 1
        elif line.strip() == END:
            if not opened:
                problems.append((number, f"`{END}` without `{BEGIN}`"))
            elif _indent(line) != _indent(lines[opened - start - 1]):
                problems.append((number, f"`{END}` is not indented as its `{BEGIN}` on line {opened}"))
            opened = 0
        elif re.match(r"#+\s*(BEGIN|END)\s+SOLUTION", line.strip(), re.IGNORECASE):
            problems.append((number, f"write the marker exactly as `{BEGIN}` or `{END}`"))
    if opened:
        problems.append((opened, f"`{BEGIN}` without `{END}`"))
    if solutions and role != "exercise":
        problems.append((start, f'`{BEGIN}` needs the tag "exercise"'))
    if role == "exercise" and not solutions:
        problems.append((start, f"an exercise needs `{BEGIN}` and `{END}` around what the learner writes"))


def _check_syntax(start: int, body: list[str], problems: list[tuple[int, str]]) -> None:
    """Compile the cell as it stands and as the learner gets it, unless it uses IPython's own syntax."""
    if any(line.lstrip().startswith(("%", "!", "?")) for line in body):
        return
    for what, source in (("", "\n".join(body)), ("once the solution is taken out: ", stub("\n".join(body), 1))):
        try:
            compile(source, "cell", "exec", flags=0x2000)  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, as notebooks allow
        except SyntaxError as error:
            problems.append((start + (error.lineno or 0) if not what else start, f"{what}{error.msg}"))
            return


def stub(source: str, number: int, lang: str = "en") -> str:
    r"""Return an exercise's code with each solution replaced by a line that says it is the learner's turn.

    >>> print(stub("def f(x):\n    # BEGIN SOLUTION\n    return 2 * x\n    # END SOLUTION", 3))
    def f(x):
        # YOUR CODE HERE
        raise NotImplementedError("Exercise 3: write your code here")
    """
    _ = translator(lang)
    kept, inside = [], False
    for line in source.split("\n"):
        if line.strip() == BEGIN:
            inside = True
            kept.append(f"{_indent(line)}# {_('YOUR CODE HERE')}")
            kept.append(f'{_indent(line)}raise NotImplementedError("{_complaint(number, lang)}")')
        elif line.strip() == END:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept)


def _complaint(number: int, lang: str) -> str:
    """Return what an untouched exercise says when it is called."""
    _ = translator(lang)
    return _("Exercise %(number)d: write your code here") % {"number": number}


def to_write(text: str) -> int:
    """Return the number of the exercise that says `text`, in any language, while it is untouched; 0 for other texts.

    >>> to_write("Exercise 3: write your code here"), to_write("a shape does not fit")
    (3, 0)
    """
    found = re.search(r"\d{1,3}", text)
    number = int(found[0]) if found else 0
    return number if any(text == _complaint(number, lang) for lang in LANGUAGES) else 0


def code_alone(source: str) -> str:
    r"""Return what a cell's code does, as text: without comments, docstrings and layout, which languages differ in.

    >>> code_alone("def f(x):\n    'Half.'\n    return x / 2") == code_alone("def f(x):  # medio\n    return x / 2")
    True

    Raises:
        SyntaxError: it is no Python.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node):
            del node.body[0]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (number := to_write(node.value)):
            node.value = _complaint(number, "en")
    return ast.dump(tree)


def solved(source: str) -> str:
    """Return an exercise's code with its solution, without the markers."""
    return "\n".join(line for line in source.split("\n") if line.strip() not in (BEGIN, END))


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _between_cells(cells: list[Cell]) -> list[tuple[int, str]]:
    """Return what is wrong between cells: a name used twice, a check with no exercise, an exercise with no check."""
    problems: list[tuple[int, str]] = []
    first: dict[str, int] = {}
    for cell in cells:
        if cell.name and cell.name in first:
            problems.append((cell.line, f"the name {cell.name!r} is taken by the cell on line {first[cell.name]}"))
        first.setdefault(cell.name, cell.line)
    exercises = {cell.name for cell in cells if cell.role == "exercise"}
    checked = {cell.exercise for cell in cells if cell.role in GRADED}
    for cell in cells:
        if cell.role in GRADED and cell.exercise not in exercises:
            wanted = f"name it after its exercise, as `some-exercise-{cell.role}`"
            problems.append((cell.line, f"{cell.name!r} belongs to no exercise: {wanted}"))
        if cell.role == "exercise" and cell.name not in checked:
            problems.append((cell.line, f"the exercise {cell.name!r} has no check: add a cell {cell.name}-check"))
    return problems


def _with_ids(cells: list[Cell]) -> list[Cell]:
    """Give each cell its id: its name, or a digest of its text, so that inserting a cell leaves the others' alone."""
    taken = {cell.name for cell in cells if cell.name}
    done = []
    for cell in cells:
        chosen = cell.name
        if not chosen:
            digest = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
            base = chosen = f"{'text' if cell.kind == 'markdown' else 'code'}-{digest}"
            copy = 1
            while chosen in taken:
                copy += 1
                chosen = f"{base}-{copy}"
            taken.add(chosen)
        done.append(replace(cell, id=chosen))
    return done


def _with_numbers(cells: list[Cell], lab: str) -> list[Cell]:
    """Number the exercises, each with its graded cells, and let checks import what they call."""
    order = [cell.name for cell in cells if cell.role == "exercise"]
    done = []
    for cell in cells:
        number = order.index(cell.exercise) + 1 if cell.exercise in order and cell.role else 0
        source = cell.source
        if cell.role == "check" and re.search(r"(?m)^check\.", source):
            source = f"from edgelab.labs.lab_{lab} import check\n\n{source}"
        done.append(replace(cell, number=number, source=source))
    return done
