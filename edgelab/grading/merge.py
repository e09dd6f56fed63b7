"""The notebook that runs is the instructor's: of a submission, only the code of its exercise cells goes in.

Hidden cells come last, after everything whose output a learner will be shown. So no output that reaches the feedback
can hold anything of a hidden cell, whatever the learner's code listens to.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from edgelab.course.source import Cell, solved, stub
from edgelab.grading.answers import answer_names
from edgelab.grading.needed import needed


def solutions(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Return the reference's code by exercise."""
    return {cell.name: [solved(cell.source)] for cell in cells if cell.role == "exercise"}


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
        for part, source in enumerate(given or [stub(cell.source, cell.number)]):
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
        # Hidden cells see the functions of exercises and nothing else of the notebook: they need no other cell.
        hidden = {node.id for node in nodes if node.metadata.edgelab.role == "hidden"}
        shown = {node.id: node for node in nodes if node.id not in hidden}
        graded = [name for name, node in shown.items() if node.metadata.edgelab.role]
        learners = [name for name, node in shown.items() if node.metadata.edgelab.role == "exercise"]
        kept = hidden | needed({name: node.source for name, node in shown.items()}, graded, learners)
        nodes = [node for node in nodes if node.id in kept]
    names = answer_names(cells)
    for node in nodes:
        if node.metadata.edgelab.role == "hidden":  # neither does it see the learner's other names, nor leave its own
            call = f"{node.source!r}, {node.id!r}, seed={seed}, answers={names!r}"
            node.source = f"from edgelab.course import hidden as _hidden\n_hidden.run({call})"
    return nbformat.from_dict(new_notebook(cells=nodes))


def _node(name: str, source: str, *, role: str = "", exercise: str = "") -> NotebookNode:
    return new_code_cell(source, id=name, metadata={"edgelab": {"role": role, "exercise": exercise}})
