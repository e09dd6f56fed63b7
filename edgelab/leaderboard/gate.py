"""The gate: a size or a speed counts only where the accuracy holds.

MLPerf Tiny sets one accuracy for each task, a little below its reference model's, and counts what passes (Banbury et
al., 2021, "MLPerf Tiny Benchmark"). So here: the baseline's accuracy on the same test images, less one point.

Closed division: the model that the course gives, on data that it gives, made smaller by whatever means. Open division:
any model, or data of one's own. On the course's data both divisions have the same gate. On other data nobody has a
baseline, and so there is no gate, and no claim.
"""

from edgelab.models.zoo import manifest

DIVISIONS = ("closed", "open")
BASELINE = "resnet"
POINT = 0.01
_ROUNDING = 1e-4  # the manifest's accuracies have four digits


def baseline_accuracy(dataset: str) -> float | None:
    """Return the baseline's accuracy on the test images of a data set, in [0, 1]; None where it has none."""
    known = manifest().get(f"{dataset}/{BASELINE}")
    return None if known is None else float(known["accuracy"])


def gate(dataset: str) -> float | None:
    """Return the least accuracy with which a size or a speed counts on a data set, in [0, 1]; None: no gate, no claim.

    >>> round(gate("signs"), 4), gate("my-own-images")
    (0.9503, None)
    """
    baseline = baseline_accuracy(dataset)
    return None if baseline is None else baseline - POINT


def passes(accuracy: float, dataset: str) -> bool | None:
    """Return whether an accuracy is on the good side of the gate; None where there is no gate."""
    least = gate(dataset)
    return None if least is None else accuracy >= least - _ROUNDING / 2
