"""The words in a cell's code, its docstrings and comments: they are translated, and the code stays as it is."""

import ast
import inspect
import io
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass

_QUOTED = re.compile(r"(?s)([rRuU]?)(\"\"\"|'''|\"|')(.*)\2")


@dataclass(frozen=True)
class Words:
    """A docstring, or comments on lines that follow each other: the text, and where it stands.

    `begin` and `end` are (line from 1, column from 0), the quotes and the first `#` included.
    """

    text: str
    begin: tuple[int, int]
    end: tuple[int, int]
    opening: str = ""  # what stands around the text of a docstring: quotes, and the line that the last ones may have
    closing: str = ""

    @property
    def is_comment(self) -> bool:
        return not self.opening


def words(source: str) -> list[Words]:
    r"""Return the docstrings and comments of a cell's code, in order; none where it is no plain Python.

    >>> [one.text for one in words('def half(x):\n    "Return half of it."\n    return x / 2  # a float')]
    ['Return half of it.', 'a float']
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a magic
        return []
    docstrings = {
        (node.body[0].lineno, node.body[0].col_offset)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node)
    }
    found: list[Words] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.STRING and token.start in docstrings and (quoted := _QUOTED.fullmatch(token.string)):
            prefix, quotes, inner = quoted.groups()
            closing = inner[len(inner.rstrip()) :] + quotes
            found.append(Words(inspect.cleandoc(inner), token.start, token.end, prefix + quotes, closing))
        elif token.type == tokenize.COMMENT:
            text, alone = token.string.lstrip("#").strip(), token.line.lstrip().startswith("#")
            last = found[-1] if found else None
            if alone and last and last.is_comment and (last.end[0] + 1, last.begin[1]) == token.start:
                found[-1] = Words(f"{last.text}\n{text}", last.begin, token.end)
            else:
                found.append(Words(text, token.start, token.end))
    return [one for one in found if re.search(r"[^\W\d_]", one.text)]  # what has no letter needs no translation


def reworded(source: str, translations: Mapping[str, str]) -> str:
    r"""Return a cell's code with each of its texts that `translations` has in place of the original.

    >>> print(reworded('def half(x):\n    "Half."\n    return x / 2', {"Half.": "La mitad."}))
    def half(x):
        "La mitad."
        return x / 2
    """
    lines = source.split("\n")
    for one in reversed(words(source)):
        if one.text not in translations:
            continue
        (first, left), (last, right) = one.begin, one.end
        margin = "\n" + " " * left
        new = translations[one.text].split("\n")
        if one.is_comment:
            text = margin.join(f"# {line}".rstrip() for line in new)
        else:
            text = one.opening + re.sub(r"(?m)^ +$", "", margin.join(new)) + one.closing
        whole = lines[first - 1][:left] + text + lines[last - 1][right:]
        lines[first - 1 : last] = whole.split("\n")
    return "\n".join(lines)
