# Answers that learners give in lab 00: each cell is named `exercise: right` or `exercise: wrong`, and then says why.
# Behind `exercise: hinted` stands what the self-check must say of a likely mistake.

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


# %% percentile: hinted
# the last of n samples has the place n - 1
def percentile(samples, q):
    ordered, place = sorted(samples), len(samples) * q / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


# %% percentile: hinted
# the last of n samples has the place n - 1
def percentile(samples, q):
    ordered, place = sorted(samples), len(samples) * q / 100
    below = min(int(place), len(ordered) - 1)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


# %% percentile: hinted
# That is the nearest sample
def percentile(samples, q):
    return sorted(samples)[round((len(samples) - 1) * q / 100)]


# %% percentile: hinted
# stopped with IndexError: list index out of range
def percentile(samples, q):
    ordered = sorted(samples)
    place = (len(ordered) - 1) * q / 100
    below = int(place)
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])


# %% percentile: hinted
# changes what it was given
def percentile(samples, q):
    samples.sort()
    place = (len(samples) - 1) * q / 100
    below = int(place)
    above = min(below + 1, len(samples) - 1)
    return samples[below] + (place - below) * (samples[above] - samples[below])


# %% percentile: hinted
# does not fit its parameters
def percentile(samples):
    return sorted(samples)[len(samples) // 2]


# %% stopwatch: hinted
# Take time.perf_counter
def stopwatch(run, warmup, repeats):
    times = []
    for _ in range(warmup + repeats):
        begin = time.time()
        run()
        times.append(1000 * (time.time() - begin))
    return times[warmup:]


# %% stopwatch: hinted
# reads time.monotonic
from time import monotonic


def stopwatch(run, warmup, repeats, clock=monotonic):
    times = []
    for _ in range(warmup + repeats):
        begin = clock()
        run()
        times.append(1000 * (clock() - begin))
    return times[warmup:]


# %% stopwatch: hinted
# reads time.process_time
def stopwatch(run, warmup, repeats):
    times = []
    for _ in range(warmup + repeats):
        begin = time.process_time()
        run()
        times.append(1000 * (time.process_time() - begin))
    return times[warmup:]


# %% stopwatch: hinted
# Time each call by itself
def stopwatch(run, warmup, repeats):
    for _ in range(warmup):
        run()
    begin = time.perf_counter()
    for _ in range(repeats):
        run()
    return [1000 * (time.perf_counter() - begin) / repeats] * repeats


# %% stopwatch: hinted
# perf_counter gives seconds
def stopwatch(run, warmup, repeats):
    times = []
    for _ in range(warmup + repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return times[warmup:]


# %% stopwatch: hinted
# it should be a sequence of values
def stopwatch(run, warmup, repeats):
    for number in range(warmup + repeats):
        begin = time.perf_counter()
        run()
        if number >= warmup:
            yield 1000 * (time.perf_counter() - begin)


# %% verdict: hinted
# Below 1 the bound is 1 / margin
def verdict(low, high, margin):
    return "faster" if low > margin else "slower" if high < 2 - margin else "inconclusive"


# %% judge: right
def judge(first, second, margin):
    count = len(first)
    ratios = [first[i] / second[i] for i in range(count)]
    ends = [percentile(ratios, 50 + side * 98 / count**0.5) for side in (-1, 1)]
    return verdict(*ends, margin)


# %% judge: wrong
# divides the other way round
def judge(first, second, margin):
    ratios = [b / a for a, b in zip(first, second, strict=True)]
    reach = 98 / len(ratios) ** 0.5
    return verdict(percentile(ratios, 50 - reach), percentile(ratios, 50 + reach), margin)


# %% judge: wrong
# one ratio of two medians has no interval
def judge(first, second, margin):
    ratio = percentile(first, 50) / percentile(second, 50)
    return verdict(ratio, ratio, margin)


# %% judge: hinted
# How far from 50 do the two percentiles lie?
def judge(first, second, margin):
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    return verdict(min(ratios), max(ratios), margin)
