"""The notebook that runs is the instructor's: of a submission, only the code of its exercise cells goes in.

Hidden cells come last, after everything whose output a learner will be shown. So no output that reaches the feedback
can hold anything of a hidden cell, whatever the learner's code listens to.
"""

import ast
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from edgelab.course.source import Cell, solved, stub
from edgelab.grading.needed import needed
from edgelab.grading.returned import Returned

# What nbval takes for an instruction, when it stands alone in a comment.
_INSTRUCTION = re.compile(r"\s*#+\s*(NBVAL_\w+|PYTEST_VALIDATE_IGNORE_OUTPUT)\s*")


def answers(returned: Returned, cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Return the learner's code by exercise, as it stood in the notebook; an exercise that is not there is left out.

    A cell belongs to the exercise whose id it has, else to the one that its metadata names. An exercise that was split
    or duplicated has several cells: all of them run, in order, but for copies that are still the untouched stub.
    """
    stubs = {cell.name: stub(cell.source, cell.name) for cell in cells if cell.role == "exercise"}
    found: dict[str, list[str]] = {}
    for cell in returned.cells:
        exercise = cell.id if cell.id in stubs else cell.name
        if exercise in stubs:
            found.setdefault(exercise, []).append(_without_instructions(cell.source))
    for exercise, parts in found.items():
        worked_on = [part for part in parts if part.strip() != stubs[exercise].strip()]
        found[exercise] = worked_on or parts[:1]
    return found


def solutions(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Return the reference's code by exercise."""
    return {cell.name: [solved(cell.source)] for cell in cells if cell.role == "exercise"}


def answer_names(cells: Sequence[Cell]) -> list[str]:
    """Return the names that exercises ask for: the functions, classes and values that their stubs define."""
    return [name for cell in cells if cell.role == "exercise" for name in defined(stub(cell.source, cell.name))]


def defined(source: str) -> list[str]:
    r"""Return the names that code defines for other cells, in order; nothing where Python cannot read it.

    >>> defined("import math\nLOW = 2\ndef half(x):\n    y = x / LOW\n    return y")
    ['LOW', 'half']
    """
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    names: list[str] = []
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(statement.name)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names += [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return names


def merge(
    cells: Sequence[Cell],
    code: Mapping[str, Sequence[str]],
    *,
    seed: int,
    expected: Mapping[str, str] | None = None,
    left_out: Collection[str] = (),
    whole: bool = False,
) -> NotebookNode:
    """Return the notebook to run: our cells, with `code` in the place of the exercises.

    Exercises that `code` lacks, or that are `left_out`, get their untouched stub. `expected` is what the reference
    printed, by id of the hidden cell; without it no cell is compared. Cells on which no graded one depends are there
    only in the `whole` notebook.
    """
    nodes = []
    for cell in cells:
        if cell.kind != "code" or cell.role in ("hidden", "solution"):
            continue
        if cell.role != "exercise":
            nodes.append(_node(cell.id, cell.source, role=cell.role, exercise=cell.exercise if cell.role else ""))
            continue
        given = () if cell.name in left_out else code.get(cell.name, ())
        for part, source in enumerate(given or [stub(cell.source, cell.name)]):
            name = cell.id if not part else f"part-{part}-{hashlib.sha256(cell.id.encode()).hexdigest()[:16]}"
            nodes.append(_node(name, source, role="exercise", exercise=cell.name))
    for cell in cells:
        if cell.role == "hidden":  # those of what is left out, too: the next one may need what they import
            node = _node(cell.id, cell.source, role="hidden", exercise=cell.exercise)
            if expected is not None:
                node.outputs = [new_output("stream", name="stdout", text=expected[cell.id])]
                node.execution_count = 1  # nbval fails a stored output that was never executed
            nodes.append(node)
    if not whole:
        graded = [node.id for node in nodes if node.metadata.edgelab.role]
        learners = [node.id for node in nodes if node.metadata.edgelab.role == "exercise"]
        kept = needed({node.id: node.source for node in nodes}, graded, learners)
        nodes = [node for node in nodes if node.id in kept]
    names = answer_names(cells)
    for node in nodes:
        if node.metadata.edgelab.role == "hidden":  # neither does it see the learner's other names, nor leave its own
            call = f"{node.source!r}, {node.id!r}, seed={seed}, answers={names!r}"
            node.source = f"from edgelab.course import hidden as _hidden\n_hidden.run({call})"
    return nbformat.from_dict(new_notebook(cells=nodes))


def _node(name: str, source: str, *, role: str = "", exercise: str = "") -> NotebookNode:
    return new_code_cell(source, id=name, metadata={"edgelab": {"role": role, "exercise": exercise}})


def _without_instructions(source: str) -> str:
    """Empty the comments that nbval would obey; lines are split as nbval splits them, and keep their number."""
    lines = source.splitlines(keepends=True)
    return "".join("#\n" if _INSTRUCTION.fullmatch(line) else line for line in lines)
