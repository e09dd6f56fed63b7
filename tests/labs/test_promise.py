"""A ✓ is a promise: whatever an answer looks like, the self-check and the grader's comparison come to the same verdict.

Answers run here as in a notebook, but in this process: the code of a lab up to the check, the answer in place of the
stub, the check cell, and then the hidden cells, by the function that runs them in a graded kernel. What a kernel adds
(a sandbox, nbval, a page) is tested in `tests/grading`; here the point is the number of answers.
"""

import contextlib
import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgelab.course.check import NotYet
from edgelab.course.hidden import run
from edgelab.course.source import read_source, solved
from edgelab.grading.answers import answer_names, defined
from edgelab.grading.compare import agrees
from edgelab.grading.needed import needed
from tests.labs.test_answers import SLOW, answers

# Each is put around the right answer, whose name stands for NAME. None of them changes what it gives.
DISGUISES = {
    "a lambda": "_right = NAME\nNAME = lambda *args: _right(*args)",
    "a partial": "import functools\nNAME = functools.partial(NAME)",
    "an object that can be called": """
class Callable:
    def __init__(self, right):
        self.right = right

    def __call__(self, *args):
        return self.right(*args)

NAME = Callable(NAME)
""",
    "a closure": """
def _make(right):
    def answer(*args):
        return right(*args)
    return answer
NAME = _make(NAME)
""",
    "a decorator": """
import functools
def _decorate(right):
    @functools.wraps(right)
    def wrapper(*args, **kwargs):
        return right(*args, **kwargs)
    return wrapper
NAME = _decorate(NAME)
""",
    "a default argument": "def _with(*args, right=NAME):\n    return right(*args)\nNAME = _with",
    "a method": """
class Answers:
    right = staticmethod(NAME)

    def answer(self, *args):
        return self.right(*args)

NAME = Answers().answer
""",
    "printing": "_right = NAME\ndef NAME(*args):\n    print('hidden => [1, 2]' [7:], end='')\n    return _right(*args)",
}
# Names that a learner may give to a variable, above the answer.
NAMES = {
    "a seed": "SEED = 42",
    "dict": "dict = {1: 2}",
    "list": "list = [1, 2]",
    "range": "range = (0, 1)",
    "compile": "compile = None",
    "compile, of torch": "from torch import compile",
    "exec": "exec = globals = print",
    "hidden": "hidden = rng = 3",
}
# Names of the lab's, which an answer that needs none of them may take as well.
THE_LABS = ["time", "math", "data", "models", "train", "torch", "training", "dataset", "pictures", "study", "baseline"]
# What becomes of a right result: verdicts must be the same, whatever they are.
RESULTS = {
    "an array": "numpy.array(result)",
    "an array of float32": "numpy.array(result, dtype='float32')",
    "an array of objects": "numpy.array(result, dtype=object)",
    "a tensor": "torch.tensor(result)",
    "a tensor of float64": "torch.tensor(result, dtype=torch.float64)",
    "a number of float32": "each(numpy.float32)",
    "a number of float16": "each(numpy.float16)",
    "a number of float64": "each(numpy.float64)",
    "a tensor of one": "each(torch.tensor)",
    "a list": "list(result)",
    "a tuple": "tuple(result)",
    "a generator": "(one for one in result)",
    "a map": "map(float, result)",
    "a dictionary": "dict(enumerate(result))",
    "a text": "str(result)",
    "a fraction": "fractions.Fraction(result)",
    "a float": "float(result)",
    "a whole number": "int(result)",
    "a truth value": "bool(result)",
    "a list of one": "[result]",
    "a decimal number": "decimal.Decimal(str(result))",
    "a complex number": "complex(result)",
    "rounded to 12 digits": "each(lambda one: round(one, 12))",
    "rounded to 3 digits": "each(lambda one: round(one, 3))",
    "a ten-millionth off": "result * (1 + 1e-7)",
    "a ten-thousandth off": "result * (1 + 1e-4)",
}
AROUND = """
import decimal, fractions, numpy, torch
_right = NAME
def NAME(*args):
    result = _right(*args)

    def each(change):
        return [*map(change, result)] if isinstance(result, list | tuple) else change(result)

    return EXPRESSION
"""
LAZY = {
    "the first argument": "return args[0]",
    "the last argument": "return args[-1]",
    "all arguments": "return args",
    "nothing": "pass",
    "zero": "return 0",
    "one": "return 1.0",
    "an empty list": "return []",
    "zeros of the first": "return 0 * args[0]",
    "the sum": "return sum(args)",
    "true": "return True",
    "a word": "return 'edge'",
    "itself": "return NAME",
}
CHANGES = """
_right = NAME
def NAME(*args):
    result = _right(*args)
    for value in args:
        if hasattr(value, "mul_") and value.is_floating_point():
            value.detach().mul_(1.5)
        elif isinstance(value, list) and len(value) > 1 and isinstance(value[0], int | float):
            value.sort()
            value[0], value[-1] = value[-1], value[0]
    return result
"""


@dataclass
class Verdicts:
    """What the two say of one answer, and the words of the check where it refuses."""

    check: bool
    grader: bool
    said: str


class Bench:
    """One lab, ready for answers to any of its exercises."""

    def __init__(self, source: Path):
        self.cells = read_source(source)
        self.solutions = {cell.name: solved(cell.source) for cell in self.cells if cell.role == "exercise"}
        self.functions = {
            name: [one for one in defined(code) if one in answer_names(self.cells)][-1]
            for name, code in self.solutions.items()
        }
        code = {cell.id: cell.source for cell in self.cells if cell.kind == "code" and not cell.role}
        checks = {cell.id: cell.source for cell in self.cells if cell.role == "check"}
        kept = needed({**code, **checks}, checks)
        self.space: dict = {"__name__": "__main__"}
        with contextlib.redirect_stdout(io.StringIO()):
            for name in code:
                if name in kept or name == "imports":
                    exec(code[name], self.space)
        self.expected: dict[str, list[str]] = {}

    def judge(self, exercise: str, code: str, above: str = "") -> Verdicts:
        """Return the verdicts on `code`, an answer to the exercise; `above` stands in a cell before it.

        A warning is none of its faults: in a notebook it is shown, and under pytest it would be an error.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._judge(exercise, code, above)

    def _judge(self, exercise: str, code: str, above: str) -> Verdicts:
        if exercise not in self.expected:
            self.expected[exercise] = self._hidden(exercise, self._learner(exercise, self.solutions[exercise]))
        space = self._learner(exercise, code, above)
        space["check"] = self.space["check"]
        said = ""
        for cell in self.cells:
            if cell.role == "check" and cell.exercise == exercise:
                try:
                    with contextlib.redirect_stdout(io.StringIO()):
                        exec(
                            cell.source, {**self.space, **{name: space[name] for name in self._own() if name in space}}
                        )
                except NotYet as error:
                    said = str(error)
        shown = self._hidden(exercise, space)
        return Verdicts(not said, all(map(agrees, self.expected[exercise], shown)), said)

    def _own(self) -> list[str]:
        return answer_names(self.cells)

    def _learner(self, exercise: str, code: str, above: str = "") -> dict:
        """Return the names of a notebook in which the exercises up to this one have been written."""
        space = dict(self.space)
        with contextlib.redirect_stdout(io.StringIO()):
            for name, solution in self.solutions.items():
                if name == exercise:
                    break
                exec(solution, space)
            exec(code, space)
            exec(above, space)
        return space

    def _hidden(self, exercise: str, space: dict) -> list[str]:
        shown = []
        for cell in self.cells:
            if cell.role == "hidden" and cell.exercise == exercise:
                space |= {"_run": run, "_cell": (cell.source, cell.id), "_names": self._own()}
                out = io.StringIO()
                with contextlib.redirect_stdout(out), contextlib.suppress(Exception):
                    exec("_run(*_cell, seed=77, answers=_names)", space)
                    shown.append(out.getvalue())
                    continue
                shown.append("")
        return shown


@pytest.fixture(scope="module")
def benches(tmp_path_factory):
    """Return a function that returns a lab's bench, made once."""
    made: dict[Path, Bench] = {}
    folder = tmp_path_factory.mktemp("learner")
    (folder / ".edgelab").mkdir()

    def bench(source: Path) -> Bench:
        with contextlib.chdir(folder):
            if source not in made:
                made[source] = Bench(source)
            return made[source]

    bench.folder = folder
    return bench


@pytest.fixture
def bench(benches, source, monkeypatch) -> Bench:
    """Return the lab's bench, in a folder of a learner's."""
    found = benches(source)
    monkeypatch.chdir(benches.folder)
    return found


def around(bench: Bench, exercise: str, wrapper: str) -> str:
    """Return the solution with something around it."""
    return f"{bench.solutions[exercise]}\n{wrapper.replace('NAME', bench.functions[exercise])}"


def quick(bench: Bench) -> list[str]:
    """Return the exercises whose answers take no seconds."""
    return [name for name in bench.solutions if name not in SLOW]


def test_answers_written_out_get_one_verdict(bench, source):
    for exercise, kinds in answers(source.stem).items():
        if exercise not in SLOW:
            one_verdict(bench, exercise, kinds)


@pytest.mark.long
def test_slow_answers_written_out_get_one_verdict(bench, source):
    for exercise, kinds in answers(source.stem).items():
        if exercise in SLOW:
            one_verdict(bench, exercise, kinds)


def one_verdict(bench: Bench, exercise: str, kinds: dict[str, list[str]]) -> None:
    for kind in ("right", "wrong"):
        for code in kinds[kind]:
            found = bench.judge(exercise, code)
            assert found.check == found.grader == (kind == "right"), (exercise, code, found)


def test_likely_mistakes_are_told_from_each_other(bench, source):
    """Each stands in `answers/<lab>.py` behind what the check must say."""
    text = Path(__file__).with_name("answers").joinpath(f"{source.stem}.py").read_text()
    found = re.findall(r"(?ms)^# %% ([\w-]+): hinted\n# ([^\n]+)\n(.*?)(?=^# %% |\Z)", text)
    assert found
    for exercise, words, code in found:
        verdicts = bench.judge(exercise, code)
        assert words in verdicts.said, (code, verdicts)
        assert not verdicts.grader, (code, verdicts)


def test_solutions_in_disguise_are_right(bench):
    for exercise in quick(bench):
        for disguise, wrapper in DISGUISES.items():
            found = bench.judge(exercise, around(bench, exercise, wrapper))
            assert found.check, (exercise, disguise, found)
            assert found.grader, (exercise, disguise, found)


def test_names_of_variables_cost_nothing(bench):
    for exercise in quick(bench):
        free = [name for name in THE_LABS if name not in bench.solutions[exercise]]
        for name, line in {**NAMES, "the lab's": f"{' = '.join(free)} = None"}.items():
            if set(defined(line)) & set(re.findall(r"\w+", bench.solutions[exercise])):
                continue  # the answer itself needs that name
            found = bench.judge(exercise, bench.solutions[exercise], line)
            assert found.grader, (exercise, name, found)
            assert found.check, (exercise, name, found)


def test_results_of_any_type_get_one_verdict(bench):
    for exercise in quick(bench):
        for name, expression in RESULTS.items():
            found = bench.judge(exercise, around(bench, exercise, AROUND.replace("EXPRESSION", expression)))
            assert found.check == found.grader, (exercise, name, found)


def test_lazy_answers_get_nothing(bench):
    for exercise in quick(bench):
        name = bench.functions[exercise]
        for lazy, body in LAZY.items():
            found = bench.judge(exercise, f"def {name}(*args):\n    {body.replace('NAME', name)}")
            assert not found.check, (exercise, lazy)
            assert not found.grader, (exercise, lazy)


def test_an_answer_that_changes_its_arguments_is_told_so(bench):
    for exercise in quick(bench):
        found = bench.judge(exercise, around(bench, exercise, CHANGES))
        assert found.check == found.grader, (exercise, found)
        assert found.check or "changes what it was given" in found.said, (exercise, found)
