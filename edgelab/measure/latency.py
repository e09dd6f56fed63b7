"""Latency of any zero-argument callable, and an honest comparison of two.

One timer serves torch, ONNX Runtime and LiteRT: wrap the call in a function without arguments, and have it run
inference only (`torch.inference_mode()`), or the time of recording gradients is measured too.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from edgelab.errors import EdgelabError
from edgelab.i18n import _, named
from edgelab.measure.threads import torch_threads

Run = Callable[[], object]

# The smallest speed-up that `compare_latency` calls one. Two copies of one model differ by a per cent or two for
# good, by where their weights happen to lie in memory: that is repeatable, and it is not the model.
MARGIN = 1.03


@dataclass(frozen=True)
class Latency:
    """Repeated timings of one callable, in ms; `threads` is the torch thread count that held while it was timed."""

    samples_ms: tuple[float, ...]
    threads: int

    @property
    def p50_ms(self) -> float:
        """Return the median: half of the runs were at least as fast."""
        return percentile(self.samples_ms, 50)

    @property
    def p95_ms(self) -> float:
        """Return the time that 95 % of the runs stayed within: what a user waits on a bad day."""
        return percentile(self.samples_ms, 95)

    @property
    def mean_ms(self) -> float:
        """Return the mean, which a few interrupted runs pull upwards."""
        return statistics.fmean(self.samples_ms)

    @property
    def min_ms(self) -> float:
        """Return the fastest run: the machine with nothing in its way."""
        return min(self.samples_ms)

    def as_dict(self) -> dict[str, float]:
        """Return the summary as plain numbers, without the samples."""
        return {
            "p50_ms": self.p50_ms,
            "p95_ms": self.p95_ms,
            "mean_ms": self.mean_ms,
            "min_ms": self.min_ms,
            "repeats": len(self.samples_ms),
            "threads": self.threads,
        }


@dataclass(frozen=True)
class Comparison:
    """Whether the second of two callables is faster than the first, and how sure that is.

    `ratio` is how many times faster the second is (latency of the first over latency of the second), `low` and
    `high` its 95 % interval. `verdict` is "faster" or "slower" (the second, against the first), or "inconclusive"
    where the interval reaches into 1/`margin`..`margin`. `ratios` holds one ratio per block of interleaved runs.
    """

    names: tuple[str, str]
    ratio: float
    low: float
    high: float
    verdict: str
    margin: float
    ratios: tuple[float, ...]
    latencies: dict[str, Latency]

    def __str__(self) -> str:
        """Return the verdict as one sentence in the learner's language."""
        first, second = self.names
        words = {"first": named(first), "second": named(second), "times": f"{self.ratio:.2f}"}
        words |= {"low": f"{self.low:.2f}", "high": f"{self.high:.2f}"}
        if self.verdict == "faster":
            return _("%(second)s is %(times)s times faster than %(first)s (95 %% interval %(low)s to %(high)s)") % words
        if self.verdict == "slower":
            words |= {"times": f"{1 / self.ratio:.2f}", "low": f"{1 / self.high:.2f}", "high": f"{1 / self.low:.2f}"}
            return _("%(second)s is %(times)s times slower than %(first)s (95 %% interval %(low)s to %(high)s)") % words
        text = _("inconclusive: %(second)s against %(first)s, ratio %(times)s (95 %% interval %(low)s to %(high)s)")
        return text % words


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the value that `percent` % of the samples stay within, by linear interpolation (as numpy's default).

    >>> percentile([1, 2, 3, 4], 50), percentile([5], 95)
    (2.5, 5.0)
    """
    ordered = sorted(samples)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def ratio_interval(ratios: Sequence[float], *, draws: int = 1000) -> tuple[float, float, float]:
    """Return the median of `ratios` and its 95 % interval, `(median, low, high)`, by the moving block bootstrap.

    Each draw strings together stretches of neighbouring ratios, about the cube root of their number long, until it
    has as many as there are, and takes the median; the interval holds the middle 95 % of those medians. The draws
    are seeded: the same ratios give the same interval.

    >>> ratio_interval([2.0, 2.0, 2.0, 2.0, 9.0, 2.0, 2.0, 2.0])
    (2.0, 2.0, 2.0)
    """
    count = len(ratios)
    length = max(1, round(count ** (1 / 3)))
    starts = count - length + 1
    chance = random.Random(count)
    medians = []
    for _draw in range(draws):
        drawn: list[float] = []
        while len(drawn) < count:
            begin = chance.randrange(starts)
            drawn.extend(ratios[begin : begin + length])
        medians.append(statistics.median(drawn[:count]))
    return statistics.median(ratios), percentile(medians, 2.5), percentile(medians, 97.5)


def measure_latency(
    run: Run, *, warmup: int = 10, repeats: int = 50, threads: int = 1, max_seconds: float = 10.0
) -> Latency:
    """Return the latency of `run()` in ms, one sample per call.

    `warmup` calls come first and are not counted: they fill caches, and torch and ONNX Runtime choose kernels then.
    torch is held to `threads` threads meanwhile (other runtimes take theirs when a session is made). The garbage
    collector waits. Warm-up and measurement stop early, after 3 samples at least, when `max_seconds` have passed.

    Raises `EdgelabError` when `repeats` or `threads` is below 1.

    >>> latency = measure_latency(lambda: sum(range(1000)), repeats=20)
    >>> len(latency.samples_ms), 0 < latency.p50_ms <= latency.p95_ms
    (20, True)
    """
    if repeats < 1 or threads < 1:
        raise EdgelabError(_("repeats and threads must be 1 or more."))
    with _quiet(threads):
        start = time.perf_counter()
        for _count in range(warmup):
            run()
            if time.perf_counter() - start > max_seconds / 3:
                break
        samples: list[float] = []
        while len(samples) < repeats:
            samples.append(_time_ms(run))
            if len(samples) >= 3 and time.perf_counter() - start > max_seconds:
                break
    return Latency(tuple(samples), threads)


def compare_latency(
    runs: Mapping[str, Run], *, blocks: int = 24, threads: int = 1, margin: float = MARGIN, max_seconds: float = 20.0
) -> Comparison:
    """Return whether the second of two callables is faster than the first: `{"baseline": run, "candidate": run}`.

    They run in turns, in blocks of ABBA or BAAB at random, so that whatever else the machine does meets both, and a
    slow drift cancels within a block. Each turn starts with a call that is not timed, which brings the weights back
    into the caches, and counts as its fastest call: what the model takes when nothing interrupts it. A block gives
    one ratio; `ratio` is their median, and its 95 % interval comes from a bootstrap over stretches of neighbouring
    blocks, so that noise which outlasts a block stays in it (moving block bootstrap: Künsch, Annals of Statistics
    17(3), 1989). A verdict needs the whole interval beyond `margin`: an interval alone would cry wolf once in 20,
    and two copies of one model differ a little by their place in memory. Measuring ends early, after 12 blocks at
    least, when `max_seconds` have passed.

    Raises `EdgelabError` when `runs` does not hold exactly two callables, or `blocks` is below 6.
    """
    if len(runs) != 2:
        raise EdgelabError(_("compare_latency compares exactly two runs; %(n)d were given.") % {"n": len(runs)})
    if blocks < 6:
        raise EdgelabError(_("blocks must be 6 or more: fewer ratios make no 95 % interval."))
    baseline, candidate = runs
    names = (baseline, candidate)
    chance = random.Random(0)
    samples: dict[str, list[float]] = {name: [] for name in names}
    ratios: list[float] = []
    with _quiet(threads):
        start = time.perf_counter()
        calls = {name: _calls_per_turn(runs[name]) for name in names}
        while len(ratios) < blocks:
            first, second = names if chance.random() < 0.5 else names[::-1]
            logs: dict[str, float] = dict.fromkeys(names, 0.0)
            for name in (first, second, second, first):
                turn = _take_turn(runs[name], calls[name])
                samples[name].extend(turn)
                logs[name] += math.log(min(turn)) / 2
            ratios.append(math.exp(logs[baseline] - logs[candidate]))
            if len(ratios) >= 12 and time.perf_counter() - start > max_seconds:
                break
    ratio, low, high = ratio_interval(ratios)
    verdict = "inconclusive"
    if low > margin:
        verdict = "faster"
    elif high < 1 / margin:
        verdict = "slower"
    return Comparison(
        names=names,
        ratio=ratio,
        low=low,
        high=high,
        verdict=verdict,
        margin=margin,
        ratios=tuple(ratios),
        latencies={name: Latency(tuple(times), threads) for name, times in samples.items()},
    )


def _calls_per_turn(run: Run) -> int:
    """Return how many timed calls make a turn of 2 ms or more, 5 to 50; it also warms `run` up."""
    typical = min(_time_ms(run) for _count in range(5))
    return max(5, min(50, math.ceil(2.0 / max(typical, 1e-6))))


def _take_turn(run: Run, calls: int) -> list[float]:
    run()
    return [_time_ms(run) for _count in range(calls)]


def _time_ms(run: Run) -> float:
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e6


@contextmanager
def _quiet(threads: int) -> Iterator[None]:
    """Hold torch to `threads` threads, and the garbage collector still."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        with torch_threads(threads):
            yield
    finally:
        if collecting:
            gc.enable()
