"""Two searches over a table that is measured already, so that they can be repeated until chance no longer decides.

A *look* asks for the accuracy of one network, which outside of a table costs a training. Source of such tables: Ying et
al., "NAS-Bench-101", 2019; of the evolution: Real et al., "Regularized Evolution", 2019, here without the ageing.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from edgelab.labs.lab_10_capstone.family import Shape, neighbours

RUNS = 200
PARENTS, FIRST = 6, 8  # how many may have children; how many networks chance chooses at the beginning
Search = Callable[[Sequence[Shape], dict[Shape, int], random.Random], list[Shape]]


def random_search(every: Sequence[Shape], places: dict[Shape, int], rng: random.Random) -> list[Shape]:
    """Return all shapes in the order of the looks: by chance."""
    return rng.sample(every, len(every))


def evolution(every: Sequence[Shape], places: dict[Shape, int], rng: random.Random) -> list[Shape]:
    """Return all shapes in the order of the looks: children of the best so far, each a step from its parent.

    `places` ranks the shapes, 0 for the best; only those looked at are asked for. When no parent has a child left that
    was not looked at, chance sends in a stranger.
    """
    looked = rng.sample(every, FIRST)
    while len(looked) < len(every):
        parents = sorted(looked, key=places.__getitem__)[:PARENTS]
        rng.shuffle(parents)
        children = [child for parent in parents for child in neighbours(parent) if child not in looked]
        first = [child for child in neighbours(parents[0]) if child not in looked]
        looked.append(rng.choice(first or children or [shape for shape in every if shape not in looked]))
    return looked


SEARCHES: dict[str, Search] = {"random": random_search, "evolution": evolution}


@dataclass(frozen=True)
class Outcome:
    """What a search found, over many runs of it.

    `best[run][look]` is the place in the ranking of the best network after so many looks, 0 for the best of all;
    `looks` how many were needed to find that one, on average.
    """

    best: list[list[int]]

    @property
    def looks(self) -> float:
        """Return after how many looks the best of all was found, on average."""
        return fmean(1 + run.index(0) for run in self.best)

    def found(self, looks: int) -> float:
        """Return the share of runs that have found the best of all after so many looks."""
        return fmean(run[looks - 1] == 0 for run in self.best)


def repeat(search: Search, ranked: Sequence[Shape], runs: int = RUNS) -> Outcome:
    """Return the outcome of many runs, each with its own seed; `ranked` are all shapes, the best first."""
    places = {shape: place for place, shape in enumerate(ranked)}
    every = sorted(ranked)
    best = []
    for seed in range(runs):
        so_far, trace = len(ranked), []
        for shape in search(every, places, random.Random(seed)):
            so_far = min(so_far, places[shape])
            trace.append(so_far)
        best.append(trace)
    return Outcome(best)
