"""Observers watch a tensor during calibration, and choose the range of real numbers its codes will cover.

The whole range loses nothing at its ends, but one outlier makes the step between codes large for all other values.
Clipping trades a large error on a few values for a smaller step on all: at 8 bits it gains when tails are long, at 4
bits and fewer nearly always. It loses where the rare large values are what the network decides by: compare accuracy.
"""

import math

import torch
from torch.nn import functional as F

from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.quantization.affine import QParams, QSpec, choose_qparams

Range = tuple[torch.Tensor, torch.Tensor]  # min_val and max_val, `()` or `(C,)`


class Observer:
    """Sees the batches of one tensor, and then names its range.

    `observe(x)` takes float tensors of any shape, any number of times; empty ones teach it nothing. `range()` returns
    `min_val, max_val`, `()` or `(C,)` along `spec.axis`. Raise `EdgelabError` for infinities and NaN, and where nothing
    was observed.
    """

    def __init__(self, spec: QSpec):
        self.spec = spec
        self.forget()

    def forget(self) -> None:
        """Begin anew, as if nothing had been observed."""
        self._seen: Range | None = None

    def observe(self, x: torch.Tensor) -> None:
        """Learn from the float tensor `x`."""
        if x.numel() == 0:
            return
        x = x.detach().float()
        # NaN and infinity are among the extremes of what holds them: no second pass over x.
        axis = self.spec.axis
        low, high = _in_memory_order(x).aminmax() if axis is None else _channels(x, axis).aminmax(dim=1)
        if not (torch.isfinite(low).all() and torch.isfinite(high).all()):
            raise EdgelabError(_("The observed tensor holds infinities or NaN: no range contains them."))
        self._seen = (low, high) if self._seen is None else self._merged(self._seen, (low, high))
        self._count(x)

    def range(self) -> Range:
        """Return `min_val, max_val`, `()` or `(C,)`."""
        if self._seen is None:
            raise EdgelabError(_("No calibration data ever reached this place: an observer has seen nothing."))
        return self._seen

    def qparams(self) -> QParams:
        """Return the `QParams` that spread the codes of `spec` over the range."""
        return choose_qparams(*self.range(), self.spec)

    def _merged(self, seen: Range, new: Range) -> Range:
        return torch.minimum(seen[0], new[0]), torch.maximum(seen[1], new[1])

    def _count(self, x: torch.Tensor) -> None:
        """Note more of `x` than its extremes."""


class MinMax(Observer):
    """The smallest and the largest value ever seen: nothing is clipped, and one outlier rules.

    >>> from edgelab.quantization import QSpec
    >>> observer = MinMax(QSpec())
    >>> for batch in torch.tensor([[-1.0, 2.0], [0.0, 3.0]]):
    ...     observer.observe(batch)
    >>> observer.range()
    (tensor(-1.), tensor(3.))
    """


class MovingAverage(Observer):
    """The average over batches of their extremes, in which the past fades: what is rare counts little.

    min_val += constant * (batch's minimum - min_val), and so for max_val. Source: Jacob et al., 2018, section 3.1; the
    constant 0.01 is that of torch's `MovingAverageMinMaxObserver`. It is meant for the thousands of steps of training:
    after 8 batches, 93 % of the range is still that of the first.
    """

    def __init__(self, spec: QSpec, constant: float = 0.01):
        super().__init__(spec)
        self.constant = constant

    def _merged(self, seen: Range, new: Range) -> Range:
        low, high = seen
        return low + self.constant * (new[0] - low), high + self.constant * (new[1] - high)


class Histogram:
    """Counts of float32 numbers by their first 19 bits: sign, exponent, and 10 of the fraction.

    The bits of a float are its address in a histogram: every octave [2^e, 2^(e+1)) is cut into 1,024 equal bins, so
    that no bin is wider than a thousandth of its values. It needs no range in advance, nothing is merged when an
    outlier arrives, and the order of the batches does not matter. `torch.histc` takes twice as long.
    """

    BITS = 19

    def __init__(self) -> None:
        # Of half a million bins some ten thousands are ever occupied: only those are kept.
        self.bins = self.counts = torch.zeros(0, dtype=torch.int64)

    def add(self, x: torch.Tensor) -> None:
        """Count every element of the finite float32 tensor `x`."""
        total = torch.zeros(2**self.BITS, dtype=torch.int64)
        total[self.bins] = self.counts
        # By pieces that stay in the cache: twice as fast as all at once.
        for piece in _in_memory_order(x).split(2**20):
            # The shift keeps the sign: negative numbers get -2^18 to -1, and the sum moves all to 0 and above.
            address = (piece.view(torch.int32) >> (32 - self.BITS)) + 2 ** (self.BITS - 1)
            total += torch.bincount(address, minlength=2**self.BITS)
        self.bins = total.nonzero().squeeze(1)
        self.counts = total[self.bins]

    def points(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the middles of the occupied bins, ascending, and how many values each holds: `(K,)`, `(K,)`."""
        start = (self.bins - 2 ** (self.BITS - 1)) << (32 - self.BITS)
        middle = (start + 2 ** (31 - self.BITS)).to(torch.int32).view(torch.float32)
        # Exact zeros are frequent and must stay exact; numbers too small to be normal join them.
        middle = torch.where(middle.abs() < torch.finfo(torch.float32).tiny, 0.0, middle)
        middle, order = middle.sort()
        return middle, self.counts[order]


class HistogramObserver(Observer):
    """An observer that keeps a `Histogram` of one whole tensor."""

    def __init__(self, spec: QSpec):
        super().__init__(spec)
        if spec.axis is not None:
            raise EdgelabError(
                _("The observer %(name)s finds one range for a whole tensor, not one for each channel.")
                % {"name": type(self).__name__}
            )

    def forget(self) -> None:
        super().forget()
        self.histogram = Histogram()

    def _count(self, x: torch.Tensor) -> None:
        self.histogram.add(x)


class Percentile(HistogramObserver):
    """The range of the middle `percentile` % of all values; half of the rest is clipped at either end.

    The result is that of `numpy.percentile` to 0.1 %. One value in ten thousand, the default, is clipped: so a single
    outlier is out of it only among many thousands of values. 99.99 % is among the percentiles of Wu et al., 2020,
    "Integer Quantization for Deep Learning Inference". Per-tensor only.
    """

    def __init__(self, spec: QSpec, percentile: float = 99.99):
        super().__init__(spec)
        self.percentile = percentile

    def range(self) -> Range:
        least, most = super().range()
        points, counts = self.histogram.points()
        reached = counts.cumsum(0)
        cut = (1 - self.percentile / 100) / 2

        def quantile(fraction: float) -> torch.Tensor:
            position = fraction * (int(reached[-1]) - 1)
            neighbours = torch.tensor([math.floor(position), math.ceil(position)])
            before, after = points[torch.searchsorted(reached, neighbours, right=True)].double()
            return torch.lerp(before, after, position % 1).float().clamp(least, most)

        return quantile(cut), quantile(1 - cut)


class MSE(Observer):
    """The range whose codes have the least mean squared error, found by shrinking the extremes.

    Values inside the range lose up to half a step, about step^2 / 12 on average; those outside lose their distance to
    its end. Symmetric ranges shrink as a whole, affine ones at each end too. A far outlier stays in the range if its
    square outweighs what all others lose: this is the best squared error, not the best accuracy. Per-channel, all data
    are kept: it is meant for weights. Source: Nagel et al., 2021, "A White Paper on Neural Network Quantization", 3.1.
    """

    def forget(self) -> None:
        super().forget()
        self.histogram = Histogram()
        self.batches: list[torch.Tensor] = []  # per-channel: (C, K) each

    def _count(self, x: torch.Tensor) -> None:
        if self.spec.axis is None:
            self.histogram.add(x)
        else:
            self.batches.append(_channels(x, self.spec.axis).clone())  # x may change before the range is asked for

    def range(self) -> Range:
        low, high = super().range()
        if self.spec.axis is not None:
            data = torch.cat(self.batches, 1).sort(dim=1).values
            return _range_of_least_error(data, torch.ones(()), low, high, self.spec)
        points, counts = self.histogram.points()
        low, high = _range_of_least_error(points[None], counts, low.reshape(1), high.reshape(1), self.spec)
        return low.squeeze(0), high.squeeze(0)


def _range_of_least_error(
    points: torch.Tensor, counts: torch.Tensor, low: torch.Tensor, high: torch.Tensor, spec: QSpec
) -> Range:
    """Return the ends `(C,)` of least error for `points` `(C, K)`, ascending, of which there are `counts`."""
    counts = counts.expand_as(points).double()
    moments = torch.stack([counts, counts * points, counts * points.double().square()]).cumsum(-1)
    moments = F.pad(moments, (1, 0))
    ends = torch.stack([low.clamp(max=0), high.clamp(min=0)])  # (2, C)
    shrink = torch.ones_like(ends)
    least = _squared_error(points, moments, choose_qparams(ends[0], ends[1], spec))
    moved = [[1, 1]] if spec.symmetric else [[1, 1], [1, 0], [0, 1]]
    # First from 1 down to 2e-4, then finely around the best.
    for exponents in (torch.arange(1, 40.0), torch.linspace(-1, 1, 21)):
        for which in torch.tensor(moved, dtype=torch.float32)[:, :, None]:
            before = shrink
            for exponent in exponents:
                candidate = (before * 0.8 ** (exponent * which)).clamp(max=1)
                low, high = candidate * ends
                error = _squared_error(points, moments, choose_qparams(low, high, spec))
                shrink = torch.where(error < least, candidate, shrink)
                least = torch.minimum(error, least)
    low, high = shrink * ends
    return low, high


def _squared_error(points: torch.Tensor, moments: torch.Tensor, qparams: QParams) -> torch.Tensor:
    """Return, `(C,)`, the sum of (x - v)^2 over all x, where v is the value of the code nearest to x.

    Between two edges, half-way between codes, all x share one v, and the sum of (x - v)^2 is S2 - 2 v S1 + v^2 S0, with
    S0, S1, S2 the count, sum and sum of squares between them: differences of `moments`, `(3, C, K + 1)`, which are
    cumulative. So a candidate costs two look-ups a code, however many values there are.
    """
    codes = torch.arange(qparams.spec.qmin, qparams.spec.qmax + 1)
    values = (codes - qparams.zero_point[:, None]) * qparams.scale[:, None]
    inner = torch.searchsorted(points, (values[:, 1:] + values[:, :-1]) / 2)
    edges = F.pad(F.pad(inner, (1, 0)), (0, 1), value=points.shape[1])
    s0, s1, s2 = moments.gather(2, edges.expand(3, -1, -1)).diff(dim=2)
    v = values.double()
    return (s2 - 2 * v * s1 + v.square() * s0).sum(1)


class Entropy(HistogramObserver):
    """The range whose codes tell most about the distribution of the values: least Kullback-Leibler divergence.

    Of |x| in 2,048 equal bins, the distribution clipped at a threshold is compared with what is left of it when its
    bins are pooled into as many levels as there are codes; the best threshold bounds both ends. Source: Migacz, 2017,
    "8-bit Inference with TensorRT". Exact zeros are left out: they have a code of their own and lose nothing. It sees
    no values, only bins: an outlier so large that all others share the first bin stays in the range, because pooling
    them changes nothing there. Per-tensor only.
    """

    BINS = 2048

    def range(self) -> Range:
        low, high = super().range()
        top = float(torch.maximum(low.abs(), high.abs()))
        if top < torch.finfo(torch.float32).tiny:
            return low, high
        points, counts = self.histogram.points()
        # The power of two above all |x|, so that every bin of the histogram lies in one of these.
        width = 2.0 ** (math.frexp(top)[1]) / self.BINS
        bins = torch.bincount((points.abs() / width).long(), counts * (points != 0), minlength=self.BINS)
        occupied = int(top / width) + 1
        levels = round(top / float(choose_qparams(low, high, self.spec).scale)) + 1
        # From the whole range down, so that among equals it wins.
        sizes = range(occupied, levels - 1, -4)
        best = min(sizes, key=lambda size: divergence(bins[:occupied], size, levels))
        threshold = top if best == occupied else best * width
        return low.clamp(min=-threshold), high.clamp(max=threshold)


def divergence(bins: torch.Tensor, size: int, levels: int) -> float:
    """Return the Kullback-Leibler divergence of `bins`, clipped to the first `size`, from itself in `levels` levels.

    `bins` are counts, float64 `(B,)`. In P, all that is clipped lies in the last bin. In Q it is missing, and the bins
    of a level share its counts equally, those that are empty in P apart.
    """
    kept = bins[:size]
    if not kept.any():
        return math.inf
    p = kept.clone()
    p[-1] += bins[size:].sum()
    occupied = p > 0
    level = torch.arange(size) * levels // size
    share = torch.bincount(level, kept) / torch.bincount(level, occupied.double())
    # Half a count stands for none: log(p / 0) would forbid all clipping.
    p, q = p[occupied], share[level][occupied].clamp(min=0.5)
    p, q = p / p.sum(), q / q.sum()
    return float((p * (p / q).log()).sum())


def _channels(x: torch.Tensor, axis: int) -> torch.Tensor:
    return x.movedim(axis, 0).flatten(1)


def _in_memory_order(x: torch.Tensor) -> torch.Tensor:
    """Return the elements of `x` as `(N,)` in the order of the memory: no copy, whatever the memory format."""
    return x.permute(sorted(range(x.dim()), key=x.stride, reverse=True)).reshape(-1)


OBSERVERS: dict[str, type[Observer]] = {
    "min-max": MinMax,
    "moving-average": MovingAverage,
    "percentile": Percentile,
    "mse": MSE,
    "entropy": Entropy,
}
