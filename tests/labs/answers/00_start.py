# Answers that learners give in lab 00: each cell is named `exercise: right` or `exercise: wrong`, and then says why.

# %% percentile: right
def percentile(samples, q):
    ranked, place = sorted(samples), (len(samples) - 1) * q / 100
    weights = [max(0.0, 1 - abs(place - rank)) for rank in range(len(ranked))]
    return sum(weight * sample for weight, sample in zip(weights, ranked, strict=True))


# %% percentile: wrong
# the sample just below
def percentile(samples, q):
    ordered = sorted(samples)
    return ordered[int((len(ordered) - 1) * q / 100)]


# %% percentile: wrong
# not sorted
def percentile(samples, q):
    place = (len(samples) - 1) * q / 100
    below = int(place)
    above = min(below + 1, len(samples) - 1)
    return samples[below] + (place - below) * (samples[above] - samples[below])


# %% stopwatch: right
from time import perf_counter


def stopwatch(run, warmup, repeats):
    times = []
    for number in range(warmup + repeats):
        begin = perf_counter()
        run()
        end = perf_counter()
        if number >= warmup:
            times.append((end - begin) * 1e3)
    return times


# %% stopwatch: wrong
# the warm-up is counted
def stopwatch(run, warmup, repeats):
    samples = []
    for _ in range(warmup + repeats):
        start = time.perf_counter()
        run()
        samples.append(1000 * (time.perf_counter() - start))
    return samples


# %% stopwatch: wrong
# the clock is started once
def stopwatch(run, warmup, repeats):
    for _ in range(warmup):
        run()
    start, samples = time.perf_counter(), []
    for _ in range(repeats):
        run()
        samples.append(1000 * (time.perf_counter() - start))
    return samples


# %% verdict: right
def verdict(low, high, margin):
    return "faster" if low > margin else "slower" if high * margin < 1 else "inconclusive"


# %% verdict: wrong
# compares with 1
def verdict(low, high, margin):
    return "faster" if low > 1 else "slower" if high < 1 else "inconclusive"


# %% verdict: wrong
# the middle of the interval alone
def verdict(low, high, margin):
    middle = (low + high) / 2
    return "faster" if middle > margin else "slower" if middle < 1 / margin else "inconclusive"
