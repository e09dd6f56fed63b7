# A note to those who maintain this lab: what a learner takes from it.

# %% [markdown]
# # TITLE
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

# %% mean-hidden tags=["hidden"] points=1
# Only the grader runs this. It shows what the learner's function gives; the solution says what that should be.
# Its point is for who forgets the special case below; the check's is for who has both right.
from edgelab.course import hidden

rng = hidden.rng(SEED, "mean")
hidden.show([mean([rng.uniform(-5, 5) for _ in range(size)]) for size in (1, 2, 10)])

# %% mean-hidden-empty tags=["hidden"]
# A special case stands among ordinary ones, so that an answer that is always nan is worth nothing.
from edgelab.course import hidden

rng = hidden.rng(SEED, "mean-empty")
hidden.show([mean([rng.uniform(-5, 5) for _ in range(size)]) for size in (0, 3, 0, 7)])

# %% [markdown]
# ## Summary
#
# What was the answer?
