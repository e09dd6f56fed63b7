"""Lab 05: a matrix of zeros times a vector, by a kernel that skips them and by one that does not."""

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from edgelab.bars import track
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, slider
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.measure.threads import torch_threads
from edgelab.numbers import number

LAB = "05_unstructured_pruning"
LEFT = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)  # the share of weights that are not zero
COLUMNS = (1, 8, 64)  # how many vectors are multiplied at once; a convolution has one for each pixel of its output


def predict_crossing() -> Prediction:
    """Return the prediction of the share of weights left at which a CSR product overtakes a dense one, in per cent."""
    return predict(LAB, "crossing", _("weights left when CSR begins to win"), unit="%", low=0.5, high=100)


@dataclass(frozen=True)
class Race:
    """Times in ms: `dense[columns]`, and `sparse[columns, left]` for the same product in CSR."""

    shape: tuple[int, int]
    dense: Mapping[int, float]
    sparse: Mapping[tuple[int, float], float]

    def crossing(self, columns: int) -> float:
        """Return the largest share of weights left at which CSR is as fast as dense, in per cent.

        Between two measured shares it is read off a straight line in logarithms. Where CSR wins everywhere or nowhere
        it is the end of the range.
        """
        gains = [self.dense[columns] / self.sparse[columns, left] for left in LEFT]
        winning = next((place for place, gain in enumerate(gains) if gain >= 1), None)
        if winning is None:
            return 100 * LEFT[-1]
        if winning == 0:
            return 100 * LEFT[0]
        slow, fast = torch.tensor(gains[winning - 1 : winning + 1]).log().tolist()
        part = -slow / (fast - slow)
        return 100 * LEFT[winning - 1] * (LEFT[winning] / LEFT[winning - 1]) ** part


def race(weight: torch.Tensor) -> Race:
    """Return the times of products with `weight`, as a matrix of its output channels, on one core."""
    matrix = weight.detach().flatten(1).contiguous()
    dense, sparse = {}, {}
    generator = torch.Generator().manual_seed(0)
    with torch_threads(1):
        for columns in track(COLUMNS, _("multiplying")):
            x = torch.randn(matrix.shape[1], columns, generator=generator)
            dense[columns] = _milliseconds(matrix, x)
            for left in LEFT:
                sparse[columns, left] = _milliseconds(as_csr(_keep(matrix, left)), x)
    return Race((len(matrix), matrix.shape[1]), dense, sparse)


def _keep(matrix: torch.Tensor, left: float) -> torch.Tensor:
    """Return `matrix` with only its `left` largest weights."""
    kept = max(1, round(left * matrix.numel()))
    threshold = matrix.abs().flatten().kthvalue(matrix.numel() - kept + 1).values
    return torch.where(matrix.abs() >= threshold, matrix, 0.0)


def as_csr(matrix: torch.Tensor) -> torch.Tensor:
    """Return `matrix` in compressed sparse rows."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return matrix.to_sparse_csr()


def _milliseconds(matrix: torch.Tensor, x: torch.Tensor) -> float:
    """Return the fastest of some products in ms: what one takes when nothing interrupts it.

    `measure_latency` puts Python's memory in order before each measurement, which takes longer than all these products.
    """
    times = []
    for _count in range(30):
        start = time.perf_counter()
        _product = matrix @ x
        times.append(1000 * (time.perf_counter() - start))
    return min(times)


def race_explorer(measured: Race) -> Explorer:
    """Return the times of the dense product and of the sparse one over the weights left: choose the columns."""
    return Explorer(lambda columns: race_plot(measured, columns), {"columns": slider(_("columns"), COLUMNS, 64)})


def race_plot(measured: Race, columns: int) -> plots.Picture:
    """Return both times over the share of weights left, and where CSR overtakes."""
    shares: Sequence[float] = [100 * left for left in LEFT]
    times = [measured.sparse[columns, left] for left in LEFT]
    crossing = measured.crossing(columns)
    ideal = [measured.dense[columns] * left for left in LEFT]
    with plots.figure(height=3.6) as fig:
        ax = fig.subplots()
        ax.axhline(measured.dense[columns], color=plots.INK, ls="--", label=_("dense: all products"))
        ax.plot(shares, times, color=plots.VERMILION, marker="s", lw=2, label=_("CSR: products that count"))
        ax.plot(shares, ideal, color=plots.BLUE, ls=":", label=_("if time went with the weights"))
        ax.axvline(crossing, color=plots.GREEN, lw=1)
        plots.logarithmic(ax.xaxis, (1, 2, 5))
        plots.logarithmic(ax.yaxis, (1, 2, 5))
        ax.invert_xaxis()
        ax.set(xlabel=_("weights left (%)"), ylabel=_("time (ms)"))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        rows, inner = measured.shape
        title = _("%(rows)s × %(inner)s times %(inner)s × %(columns)d: %(verdict)s")
        sizes = {"rows": number(rows), "inner": number(inner), "columns": columns}
        title %= {**sizes, "verdict": verdict(measured, columns)}
        ax.set_title(title)
        return plots.picture(fig, title)


def verdict(measured: Race, columns: int) -> str:
    """Return in words where CSR overtakes the dense product."""
    crossing = measured.crossing(columns)
    if crossing >= 100 * LEFT[0]:
        return _("CSR wins with half of the weights, or earlier")
    if crossing <= 100 * LEFT[-1]:
        return _("CSR does not win here")
    return _("CSR wins below %(left).2g %% of the weights") % {"left": crossing}
