"""`edgelab new-lab`: a lab of one's own, small and complete, to be built, graded and written further."""

import re
from pathlib import Path

from edgelab.course.folder import make_folder, write_whole
from edgelab.errors import EdgelabError
from edgelab.i18n import _

_SOURCE = '''\
# A note to those who maintain this lab: what a learner takes from it.

# %% [markdown]
# # {title}
#
# Which question will be answered here?

# %% imports
import math

# %% [markdown]
# ### Exercise 1: the mean (2 points)
#
# Write `mean`: the sum of the samples, divided by how many there are. The mean of no samples is `nan`.


# %% mean tags=["exercise"]
def mean(samples):
    """Return the mean of the list `samples`, nan where it is empty."""
    # BEGIN SOLUTION
    return sum(samples) / len(samples) if samples else math.nan
    # END SOLUTION


# %% mean-check tags=["check"] points=1
assert mean([1, 2, 6]) == 3, "The mean of 1, 2 and 6 is 3."
print("✓ mean: correct.")

# %% mean-hidden tags=["hidden"]
# Only the grader runs this. It shows what the learner's function gives; the solution says what that should be.
from edgelab.course import hidden

rng = hidden.rng(SEED, "mean")
hidden.show([mean([rng.uniform(-5, 5) for _ in range(size)]) for size in (1, 2, 10)])

# %% mean-hidden-empty tags=["hidden"] points=1
from edgelab.course import hidden

hidden.show(mean([]))

# %% [markdown]
# ## Summary
#
# What was the answer?
'''


def new_lab(name: str, labs: Path) -> Path:
    """Write the source of a new lab, `labs/source/NN_name.py`, with the next free number, and return its path.

    Raises:
        EdgelabError: the name cannot be a lab's.
    """
    topic = re.sub(r"^\d\d_", "", name)
    if not re.fullmatch(r"[a-z0-9_]+", topic):
        raise EdgelabError(
            _("A lab's name has small letters, digits and _ alone, as in edge_budget; not %(name)r.") % {"name": name}
        )
    folder = make_folder(labs / "source")
    taken = {int(path.stem[:2]) for path in folder.glob("[0-9][0-9]_*.py")}
    number = int(name[:2]) if topic != name else max(taken, default=0) + 1
    path = folder / f"{number:02d}_{topic}.py"
    if number in taken or number > 99:
        raise EdgelabError(_("The number %(number)02d is taken in %(folder)s.") % {"number": number, "folder": folder})
    write_whole(path, _SOURCE.format(title=topic.replace("_", " ").capitalize()).encode())
    return path
