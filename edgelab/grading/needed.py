"""Which cells a graded run can leave out: explorers, tables and pictures on which no graded cell depends.

A lab measures and draws for a minute, and its graded cells need a few seconds of that. A cell is kept if it gives a
name that a kept cell uses, the learner's own code included. That is read off the code, so it can be wrong (a cell may
write a file that another one reads): the reference is run both ways, and a lab in which they differ is graded whole.
"""

import ast
import re
import symtable
from collections.abc import Collection, Iterable, Iterator, Mapping

_WORD = re.compile(r"[^\W\d]\w*")


def needed(cells: Mapping[str, str], graded: Iterable[str], learners: Collection[str] = ()) -> set[str]:
    """Return the ids of the `graded` cells and of all that they depend on; `cells` are the sources by id.

    The code of `learners` is not parsed: every word in it counts as a name that it uses.

    >>> sorted(needed({"a": "x = 1", "b": "y = x", "c": "z = 3", "check": "print(y)"}, ["check"]))
    ['a', 'b', 'check']
    """
    known = {name: _words(source) if name in learners else names(source) for name, source in cells.items()}
    kept: set[str] = set()
    new = set(graded)
    while new:
        kept |= new
        used = set().union(*(known[name][1] for name in new))
        new = {name for name, (gives, _uses) in known.items() if name not in kept and gives & used}
    return kept


def names(source: str) -> tuple[set[str], set[str]]:
    """Return the names that a cell gives to others, and those that it takes from others."""
    gives: set[str] = set()
    uses: set[str] = set()
    try:
        for statement in ast.parse(source).body:
            table = symtable.symtable(ast.unparse(statement), "cell", "exec")
            uses |= {*_read(table), *_changed(statement)} - gives - set(_loop_variables(statement))
            gives |= {*_written(table), *_changed(statement)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # a magic, or no Python at all
        return _words(source)
    return gives, uses


def _words(source: str) -> tuple[set[str], set[str]]:
    words = set(_WORD.findall(source))
    return words, words


def _read(table: symtable.SymbolTable) -> Iterator[str]:
    """Yield the module's names that a statement reads, in the functions that it defines as well."""
    top = table.get_type() == "module"
    yield from (
        symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced() and (top or symbol.is_global())
    )
    for inner in table.get_children():
        yield from _read(inner)


def _written(table: symtable.SymbolTable) -> Iterator[str]:
    """Yield the module's names that a statement binds; a function can do it with `global`."""
    for symbol in table.get_symbols():
        binds = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
        if binds and (table.get_type() == "module" or symbol.is_declared_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _written(inner)


def _changed(statement: ast.stmt) -> Iterator[str]:
    """Yield the names whose value a statement changes without binding them anew: `x += 1`, `x.y = 1`, `x[0] = 1`."""
    for node in ast.walk(statement):
        if isinstance(node, ast.AugAssign):
            changed: ast.expr = node.target
        elif isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            changed = node.value
        else:
            continue
        yield from (part.id for part in ast.walk(changed) if isinstance(part, ast.Name))


def _loop_variables(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a `for` or a `with` binds before its body reads them."""
    if isinstance(statement, ast.For):
        yield from (node.id for node in ast.walk(statement.target) if isinstance(node, ast.Name))
    if isinstance(statement, ast.With):
        for item in statement.items:
            if item.optional_vars is not None:
                yield from (node.id for node in ast.walk(item.optional_vars) if isinstance(node, ast.Name))
