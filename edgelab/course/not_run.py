"""What a learner is told who runs a cell before the cells above it, as after a restart: one sentence, and no traceback.

A name that is missing is looked for in the notebooks that ship, of the labs whose own modules are loaded. If a cell of
theirs gives that name, it is the cell that was not run; any other missing name is a mistake, and shown as Python does.
"""

import json
import re
import symtable
import sys
from collections.abc import Iterator
from functools import cache
from types import TracebackType
from typing import Any

from edgelab.course.folder import shipped_labs
from edgelab.i18n import _


def sentence(error: BaseException) -> str:
    """Return what to do about `error`, if it is for a name that a cell above gives; nothing for any other error."""
    name = getattr(error, "name", None)
    if not isinstance(error, NameError) or not any(name in _given(lab) for lab in _labs()):
        return ""
    text = _("`%(name)s` comes from a cell above, which has not run or stopped before its end. In the menu: %(menu)s.")
    return text % {"name": name, "menu": _("Run, Run All Above Selected Cell")}


def explain_in_notebooks() -> None:
    """Say the sentence where a cell stops for a missing name, in place of the traceback."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        shell.set_custom_exc((NameError,), _show)


def _show(shell: Any, kind: type, error: BaseException, trace: TracebackType, tb_offset: int | None = None) -> None:
    if text := sentence(error):
        error._render_traceback_ = lambda: [text]  # type: ignore[attr-defined]  # IPython asks errors for their own
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset, running_compiled_code=True)


def _labs() -> list[str]:
    loaded = (re.fullmatch(r"edgelab\.labs\.lab_(\d\d_\w+)", name) for name in list(sys.modules))
    return [found[1] for found in loaded if found]


@cache
def _given(lab: str) -> set[str]:
    """Return the names that the code cells of a shipped lab give: imports, functions, variables."""
    path = shipped_labs() / f"{lab}.ipynb"
    if not path.exists():
        return set()
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return {name for cell in cells if cell["cell_type"] == "code" for name in _bound("".join(cell["source"]))}


def _bound(source: str) -> Iterator[str]:
    try:
        table = symtable.symtable(source, "cell", "exec")
    except SyntaxError:  # a magic
        return
    for symbol in table.get_symbols():
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace():
            yield symbol.get_name()
