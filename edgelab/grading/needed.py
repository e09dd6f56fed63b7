"""Which cells a graded run can leave out: explorers, tables and pictures on which no graded cell depends.

A lab measures and draws for a minute, and its graded cells need a few seconds of that. A cell is kept if it gives a
name that a kept cell uses, the learner's own code included. That is read off the code, so it can be wrong (a cell may
write a file that another one reads): the reference is run both ways, and a lab in which they differ is graded whole.
"""

import ast
import re
import symtable
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeGuard

_WORD = re.compile(r"[^\W\d]\w*")
# Whoever says one of these may reach a name that his code does not spell.
_ANY_NAME = {"eval", "exec", "compile", "globals", "locals", "vars", "get_ipython", "__builtins__", "__globals__"}
_ANY_NAME |= {"__main__", "sys", "inspect", "importlib", "f_globals", "f_locals"}
_LONG = 100_000  # characters: nobody writes so much, and parsing it takes seconds


def needed(cells: Mapping[str, str], graded: Iterable[str], learners: Collection[str] = ()) -> set[str]:
    """Return the ids of the `graded` cells and of all that they depend on; `cells` are the sources by id.

    In the code of `learners`, text counts as well, and where it may reach any name, every word of it does: too much is
    kept sooner than too little.

    >>> sorted(needed({"a": "x = 1", "b": "y = x", "c": "z = 3", "check": "print(y)"}, ["check"]))
    ['a', 'b', 'check']
    """
    known = {name: _learners(source) if name in learners else names(source) for name, source in cells.items()}
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


def _learners(source: str) -> tuple[set[str], set[str]]:
    words = _words(source)
    if len(source) > _LONG or _ANY_NAME & words[0]:
        return words
    try:
        tree = ast.parse(source)
        said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
        said -= {statement.value.value for statement in ast.walk(tree) if _is_text(statement)}
        names_in_text = {word for text in said for word in _WORD.findall(text)}
        return words[0], names_in_text | set(_read(symtable.symtable(source, "cell", "exec")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return words


def _is_text(node: ast.AST) -> TypeGuard[Any]:
    """Tell a string that stands alone, as docstrings do: nothing reads it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _words(source: str) -> tuple[set[str], set[str]]:
    words = set(_WORD.findall(source))
    return words, words


def _read(table: symtable.SymbolTable) -> Iterator[str]:
    """Yield the module's names that code reads, in the functions and classes that it defines as well."""
    top = table.get_type() in ("module", "class")  # a class reads a name of the module until it has bound it itself
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
