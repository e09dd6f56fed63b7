"""What is on record, because it takes a GPU, or a compiler that is not everybody's: accuracies, and an NPU's times.

`python -m edgelab.bench light` writes the file and says how each figure is measured. Vela's estimates and the arenas
that TensorFlow Lite Micro takes depend on the file alone, not on the computer: a test computes them again.
"""

import json
from functools import lru_cache
from pathlib import Path
from statistics import fmean

from edgelab.deploy.duel import Size
from edgelab.models import manifest

RECORD = Path(__file__).with_name("record.json")


@lru_cache
def _record() -> dict:
    return json.loads(RECORD.read_text("utf-8"))


def accuracies(dataset: str, network: str, pixels: int) -> list[float]:
    """Return the accuracies, in [0, 1], of the trainings on record: one for each seed."""
    rows = _record()["trainings"]
    return [
        row["accuracy"] for row in rows if (row["dataset"], row["network"], row["pixels"]) == (dataset, network, pixels)
    ]


def mean_accuracy(dataset: str, network: str, pixels: int) -> float | None:
    """Return the mean of the accuracies on record, else that of the zoo's checkpoint, or None without either."""
    found = accuracies(dataset, network, pixels)
    if not found and pixels == (32 if dataset == "signs" else 28):
        found = [entry["accuracy"] for key, entry in manifest().items() if key == f"{dataset}/{network}"]
    return fmean(found) if found else None


def layer_cost(kind: str, size: Size) -> dict[str, float] | None:
    """Return one layer's "us" on the NPU, by Vela, and its "arena_bytes" in int8, or None where it is not on record."""
    return _record()["layers"].get(f"{kind}-{size.channels}-{size.kernel}-{size.resolution}")


def network_cost(dataset: str, network: str, pixels: int) -> dict[str, float] | None:
    """Return a network's "us" on the NPU, its "arena_bytes" and the like, or None where it is not on record."""
    return _record()["networks"].get(f"{dataset}/{network}-{pixels}")
