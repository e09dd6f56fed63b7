"""A small lab, written into a temporary folder, and what a test needs to hand it in and have it graded."""

import copy
import json
import shutil
from pathlib import Path

import polib
import pytest

from edgelab.course import build
from edgelab.grading.collect import Submission
from edgelab.grading.limits import MB, Limits
from edgelab.grading.mark import grade
from edgelab.grading.reference import reference

LAB = '''\
# %% [markdown]
# # Halves and evens

# %% setup
import math
import os
from pathlib import Path

# %% [markdown]
# ### Exercise 1: halves (3 points)
#
# Write `half`: half of a number, $n/2$.


# %% half tags=["exercise"]
def half(number):
    """Return half of `number`."""
    # BEGIN SOLUTION
    return number / 2
    # END SOLUTION


# %% half-check tags=["check"] points=2
assert half(3) == 1.5, "Half of 3 is 1.5."
print("✓ half: correct.")

# %% half-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "half")
hidden.show([half(rng.uniform(1, 9)) for _ in range(5)])  # SECRET-HALF

# %% half-hidden-negative tags=["hidden"] points=1
from edgelab.course import hidden

rng = hidden.rng(SEED, "half")
hidden.show([half(-rng.uniform(1, 9)) for _ in range(5)])

# %% use-half
print(half(10))

# %% [markdown]
# ### Exercise 2: evens (2 points)


# %% evens tags=["exercise"]
def evens(numbers):
    """Return the even ones of `numbers`, in order."""
    # BEGIN SOLUTION
    return [number for number in numbers if number % 2 == 0]
    # END SOLUTION


# %% evens-check tags=["check"] points=2
assert evens([1, 2, 4]) == [2, 4], "The even ones of 1, 2, 4 are 2 and 4."
print("✓ evens: correct.")

# %% evens-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "evens")
hidden.show(evens([rng.randrange(100) for _ in range(50)]))
'''
LIMITS = Limits(wall_seconds=90, cell_seconds=8, memory=600 * MB, disk=64 * MB, processes=200)


def needs_bubblewrap() -> None:
    if shutil.which("bwrap") is None:
        pytest.fail("the tests of grading need bubblewrap: apt-get install bubblewrap")


@pytest.fixture(scope="session")
def labs(tmp_path_factory) -> Path:
    """Return a labs folder with the one lab, built in English and Spanish."""
    folder = tmp_path_factory.mktemp("course") / "labs"
    (folder / "source").mkdir(parents=True)
    source = folder / "source" / "01_halves.py"
    source.write_text(LAB)
    build.update_translations(folder)
    po = build.po_path(source, "es")
    catalogue = polib.pofile(str(po))
    for entry in catalogue:
        entry.msgstr = entry.msgid.replace("Halves and evens", "Mitades y pares").replace("half of a", "la mitad de un")
    catalogue.save()
    build.build(folder)
    return folder


@pytest.fixture(scope="session")
def source(labs: Path) -> Path:
    return labs / "source" / "01_halves.py"


@pytest.fixture(scope="session")
def lab_reference(source: Path, tmp_path_factory):
    needs_bubblewrap()
    return reference(source, seed=11, limits=LIMITS, cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def notebook(labs: Path) -> dict:
    """Return the learner's untouched notebook, as JSON."""
    return json.loads((labs / "01_halves.ipynb").read_text())


@pytest.fixture
def hand_in(tmp_path: Path):
    """Return a function that hands in a notebook (a dict, or a file's content)."""

    def hand_in(content: dict | bytes, learner: str = "ada", name: str = "01_halves.ipynb") -> Submission:
        folder = tmp_path / "back" / learner
        folder.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / name).write_bytes(data)
        return Submission(learner, "", name.removesuffix(".ipynb"), tmp_path / "back", f"{learner}/{name}")

    return hand_in


@pytest.fixture
def mark(lab_reference, hand_in):
    """Return a function that hands in a notebook and returns how it was graded."""
    return lambda content, limits=LIMITS: grade(hand_in(content), lab_reference, limits)


def answered(notebook: dict, **code: str) -> dict:
    """Return the notebook with the code of some exercises written, as a learner would."""
    done = copy.deepcopy(notebook)
    for cell in done["cells"]:
        if cell.get("id") in code:
            cell["source"] = code[cell["id"]]
    return done


@pytest.fixture
def answer(notebook: dict):
    """Return a function that returns the notebook with these exercises answered."""
    return lambda **code: answered(notebook, **code)
