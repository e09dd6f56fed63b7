# Lab 00. What a learner takes from it: a machine they know, a baseline they have measured, a clock they distrust wisely.

# %% [markdown]
# # Your machine, a model, and a clock
#
# This course makes one neural network small and fast enough for the edge: for a camera, a watch, a car. You will use the main
# techniques for that, on the same model and the same pictures, and measure each one on **this computer**. What this computer
# cannot show comes with its source, and what fails is shown too.
#
# Every lab breathes the same way: a question, **your prediction**, a measurement, an explanation, and an exercise with an
# instant check. Run a cell with `Shift + Enter`.
#
# In this lab you will answer three questions.
#
# 1. What can this machine do?
# 2. How fast is the baseline, and how would you say so in an honest way?
# 3. When is a difference between two measurements real?
#
# It takes about 55 minutes. You need Python and a little PyTorch; you need no GPU and no network. If you open it again
# another day: *Run, Run All Above Selected Cell* brings everything back that a cell needs.

# %% imports
import time

import torch

from edgelab import data, models, train
from edgelab.explore import (
    accuracy_bars,
    contact_sheet,
    lab_map,
    progress_board,
    reveal,
    table,
)
from edgelab.labs.lab_00_start import check, explorers
from edgelab.measure import compare_latency, measure_latency
from edgelab.measure.threads import torch_threads

# %% map
lab_map("00_start")

# %% [markdown]
# ## What can this machine do?
#
# A model does not run in the abstract: it runs on cores, from memory, with the instructions that a processor has. Three
# things matter most here.
#
# - **Cores.** Two cores can halve the time of a big model. They do little for a small one.
# - **Memory.** Weights and activations must fit, and moving them takes time and energy.
# - **Integer instructions.** Some processors multiply 8-bit integers several times faster than 32-bit floats: look for
#   *VNNI*, *AMX* or *dotprod* below. Lab 03 turns them into milliseconds.
#
# Before you run the next cell: how many cores do you think this computer gives you?

# %% machine-card
explorers.machine_card()

# %% [markdown]
# ## Meet the pictures
#
# The default data set is called **signs**: road signs as the camera of a moving vehicle would see them, in 32×32 pixels. A
# program draws them on your computer, so they need no download. Seven of the sixteen classes are speed limits that differ
# in their digits alone.

# %% load-data
dataset = data.load()
contact_sheet(dataset)

# %% [markdown]
# Each sign is seen under one condition: by day, at night, in fog, in motion, with noise, or with something in
# front of it. Keep that in mind: a model can be good on average and poor at night.
#
# ## Meet the baseline
#
# The baseline is a small **residual network** (He et al., 2016), of the kind used on the CIFAR-10 images. It was trained
# for you, on the training pictures only. Every lab of this course starts from it.

# %% baseline
baseline = models.load_pretrained("resnet", dataset.name)
# One picture: float32 from -1 to 1, shape (1, channels, height, width).
image = data.normalize(dataset.test.images[:1])

explorers.model_card(baseline, image)

# %% [markdown]
# A *multiply-accumulate* (MAC) is one multiplication whose product is added to a sum. Convolutions and matrix products
# are made of them, so MACs say how much arithmetic a model asks for. They do not say how long it takes. You will see in
# lab 08 how far apart the two can be.
#
# How well does the baseline read pictures that it has never seen? And **whom does it fail?**

# %% accuracy
accuracy = train.evaluate(baseline, dataset.test)
accuracy_bars(baseline, dataset)

# %% [markdown]
# The bars differ more than the average lets you guess. Whenever you make the model smaller, look at them again.
#
# ## How fast is it?
#
# A camera delivers a picture every 33 ms or so. **How long does the baseline take for one picture on one core of this
# computer?** For a scale: one core does some 2 thousand million MACs a second on a Raspberry Pi 4, and 50 to 60 thousand
# million in a server. Choose a number and press **Lock it in**. A wrong one costs nothing, and you will remember the right one
# better.

# %% predict-latency
explorers.predict_latency()


# %% measure-latency
@torch.inference_mode()
def run_baseline():
    return baseline(image)


first = measure_latency(run_baseline, repeats=100)
histogram = explorers.latency_histogram(first.samples_ms)
reveal("baseline-latency", first.p50_ms, histogram)

# %% [markdown]
# You asked for one number and got a *distribution*. Other programs run on your computer; caches are warm or cold; the
# processor changes its frequency. The typical run and the bad run are different facts, and both matter.
#
# - **p50**, the median: half of the runs are at least as fast.
# - **p95**, the 95th percentile: 95 % of the runs stay within it. This is what a user waits on a bad day.
#
# Why not the mean? One interrupted run of 200 ms pulls the mean of a hundred runs of 5 ms up to 7 ms, a time that no run
# ever took.
#
# ### Exercise 1: two percentiles (3 points)
#
# Sort the samples $x_0 \le x_1 \le \dots \le x_{n-1}$. The percentile $q$ sits at the place
#
# $$k = (n-1)\,\frac{q}{100}$$
#
# and where $k$ falls between two samples, it is the point in between: with $i = \lfloor k \rfloor$ and $f = k - i$,
#
# $$x_i + f\,(x_{i+1} - x_i)$$
#
# Write `percentile`. Use Python alone, no numpy: it takes about five lines.
#
# (If your course is graded: in every lab the code counts that you write in the exercises, not what you change in our cells. So
# write an `import` that you need into the exercise's cell.)


# %% percentile tags=["exercise"]
def percentile(samples, q):
    """Return the percentile `q` (0 to 100) of the list `samples`, by linear interpolation."""
    # BEGIN SOLUTION
    ordered = sorted(samples)
    place = (len(ordered) - 1) * q / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
    # END SOLUTION


# %% percentile-check tags=["check"] points=3
check.percentile(percentile)

# %% percentile-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "percentile")
hidden.show(
    [
        percentile([rng.uniform(1, 9) for _ in range(size)], rng.uniform(0, 100))
        for size in (1, 2, 5, 30)
        for _ in range(5)
    ],
    [percentile([7.5, 1.25, 3.0], q) for q in (0, 50, 100)],
)

# %% [markdown]
# ### Exercise 2: your own stopwatch (3 points)
#
# How do you get the samples? Three rules make a stopwatch honest.
#
# 1. **Warm up.** The first runs are slow: memory is being allocated and caches are cold. Make them, and do not count them.
# 2. **Repeat.** One sample is an anecdote.
# 3. **Use the right clock.** `time.perf_counter()` is made for this: it returns seconds, never jumps, and tells apart times far
#    below a millisecond.
#
# Write `stopwatch`. It calls `run()` first `warmup` times without counting, then `repeats` times, and returns the time of
# each counted call **in milliseconds**.


# %% stopwatch tags=["exercise"]
def stopwatch(run, warmup, repeats):
    """Return a list of `repeats` times in ms, one for each call of `run()` after `warmup` uncounted calls."""
    # BEGIN SOLUTION
    for _ in range(warmup):
        run()
    samples = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        samples.append(1000 * (time.perf_counter() - start))
    return samples
    # END SOLUTION


# %% stopwatch-check tags=["check"] points=3
check.stopwatch(stopwatch)

# %% stopwatch-hidden tags=["hidden"]
# A clock of our own makes the times exact, and the same on every computer.
from edgelab.course import hidden
from edgelab.course.fake_clock import fake_clock

rng = hidden.rng(SEED, "stopwatch")
durations = iter([rng.uniform(0.001, 0.02) for _ in range(60)])

with fake_clock(stopwatch) as clock:

    def timed_run():
        clock.now += next(durations)

    hidden.show(stopwatch(timed_run, 5, 20), stopwatch(timed_run, 0, 3), clock.now)

# %% [markdown]
# Now watch your two functions at work on the baseline, on one thread. Several threads wait for each other, and on a busy
# computer that can take many times as long as the model itself. `measure_latency` uses one as well.

# %% stopwatch-baseline
with torch_threads(1):
    baseline_ms = stopwatch(run_baseline, warmup=10, repeats=50)
p50, p95 = percentile(baseline_ms, 50), percentile(baseline_ms, 95)
print(f"p50 {p50:.2f} ms, p95 {p95:.2f} ms")

# %% [markdown]
# ## How noisy is this computer?
#
# The next cell times 220 runs without a warm-up. Then move the sliders; the arrow keys work too.
#
# - What do the first runs do to p95? Set *first runs left out* to 0, and count 5 runs. (The baseline has run many times by
#   now, so it is hardly cold. In a fresh kernel the first run took twice as long on one Xeon.)
# - How much do p50 and p95 move when you count 5 runs, then 200?
# - Press **Measure again** a few times. Which of the two numbers is the steadier one?

# %% latency-explorer
explorers.latency_explorer(run_baseline)

# %% [markdown]
# We observe that p50 settles after some tens of runs, and that p95 keeps jumping: it depends on the few worst runs, and
# those are other programs' doing more than the model's. That is why this course compares models by p50 and reports p95
# beside it.
#
# ## When is a difference real?
#
# Suppose that you optimise the baseline, measure before and after, and find it 2 % faster. Is it?
#
# Here is a test of the *clock*, not of the model. We make an exact copy of the baseline, and measure both, 100 runs each, one
# after the other. We do so five times. **By how many per cent will the two p50 differ, in the worst of the five?**

# %% predict-noise
explorers.predict_noise()

# %% measure-noise
twin = models.load_pretrained("resnet", dataset.name)


@torch.inference_mode()
def run_twin():
    return twin(image)


differences = explorers.twin_differences(run_baseline, run_twin)
reveal("noise", max(differences), explorers.listed(differences))

# %% [markdown]
# Two equal models, two different numbers, and another difference each time. If you had called one of them *optimised*, you
# would have reported that difference as a result.

# %% [markdown]
# A fairer race lets the two run **in turns**: A, B, B, A. Whatever else the computer does then meets both, and a slow drift
# cancels out. Each block of turns gives one ratio of latencies. Many blocks give many ratios, and from those we can
# say how sure we are: the *bootstrap* draws ratios from the list at random, with replacement, a thousand times, takes the
# median each time, and looks at how much these medians scatter (Efron, 1979). The middle 95 % of them are the
# **95 % interval**. Neighbouring blocks are drawn together, because noise may last longer than one block (Künsch, 1989).
#
# `compare_latency` does all of this. Let it judge two pairs: the baseline against its twin, and the baseline against a
# network with an eighth of its channels.

# %% compare
tiny = models.load_pretrained("resnet_tiny", dataset.name)


@torch.inference_mode()
def run_tiny():
    return tiny(image)


twins = compare_latency({"baseline": run_baseline, "twin": run_twin}, blocks=48)
small = compare_latency({"baseline": run_baseline, "tiny": run_tiny}, blocks=48)
print(twins)
print(small)

# %% difference-explorer
explorers.difference_explorer({"baseline / twin": twins, "baseline / tiny": small})

# %% [markdown]
# Move the slider from few blocks to many, for both pairs. More blocks make the interval narrower. For the twins it stays close
# to 1: within the grey band. A clear difference is clear after six blocks.
#
# That band is a *margin* of 3 %. Two copies of a model can differ a little for good: their weights lie at different places in
# memory. No number of repeats takes that away, so we do not call it a difference.
#
# ### Exercise 3: a verdict (2 points)
#
# The ratio is how many times faster the second model is: latency of the first, divided by latency of the second. Its
# interval goes from `low` to `high`. With a margin $m$ such as 1.03, the verdict is
#
# - `"faster"` if the whole interval lies above $m$,
# - `"slower"` if the whole interval lies below $1/m$,
# - `"inconclusive"` otherwise.


# %% verdict tags=["exercise"]
def verdict(low, high, margin):
    """Return "faster", "slower" or "inconclusive" for the interval from `low` to `high` of a ratio."""
    # BEGIN SOLUTION
    if low > margin:
        return "faster"
    if high < 1 / margin:
        return "slower"
    return "inconclusive"
    # END SOLUTION


# %% verdict-check tags=["check"] points=2
check.verdict(verdict)

# %% verdict-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "verdict")
for _ in range(60):
    margin, middle = rng.uniform(1.02, 2), rng.uniform(0.4, 2.2)
    hidden.show(
        verdict(middle * rng.uniform(0.9, 1), middle * rng.uniform(1, 1.1), margin)
    )

# %% [markdown]
# *Inconclusive* is an answer, and often the right one. It does not say that two models are equally fast. It says that this
# clock, with this many runs, cannot tell them apart.

# %% [markdown]
# ### Exercise 4: decide from raw samples (2 points)
#
# Now nobody computes the interval for you. You get the latencies of two models, taken in turns: `first[i]` and `second[i]`
# were measured one right after the other, with the computer in the same state. How would you use that?
#
# There is an interval for the median without any bootstrap. Half of all ratios lie below the true median, as half of all
# tosses of a coin show heads. Of $n$ tosses some $n/2$ show heads, with a standard deviation of $\sqrt n/2$. Twice that (1.96
# times) to either side is, in per cent of $n$, $98/\sqrt n$. So among $n$ ratios the true median lies, about 95 times in 100,
# between the percentiles
#
# $$50 - \frac{98}{\sqrt n} \qquad \text{and} \qquad 50 + \frac{98}{\sqrt n}$$
#
# of the ratios. (It takes each turn for a fresh toss. Where noise lasts over several turns, it is too narrow: that is why
# `compare_latency` draws neighbours together.) Write `judge`, with your own `percentile` and `verdict`. There are 16 samples of
# each model or more.


# %% judge tags=["exercise"]
def judge(first, second, margin):
    """Return the verdict on `second` against `first`: lists of latencies taken in turns."""
    # BEGIN SOLUTION
    ratios = [one / other for one, other in zip(first, second, strict=True)]
    reach = 98 / len(ratios) ** 0.5
    low, high = percentile(ratios, 50 - reach), percentile(ratios, 50 + reach)
    return verdict(low, high, margin)
    # END SOLUTION


# %% judge-check tags=["check"] points=2
check.judge(judge)

# %% judge-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "judge")
for _ in range(60):
    size, ratio = rng.randrange(16, 60), rng.uniform(0.7, 1.5)
    mood = [rng.uniform(1, 3) for _ in range(size)]
    first = [4 * ratio * one * rng.uniform(0.85, 1.15) for one in mood]
    second = [4 * one * rng.uniform(0.85, 1.15) for one in mood]
    hidden.show(judge(first, second, rng.uniform(1.02, 1.2)))

# %% [markdown]
# Let it judge the two pairs, 40 turns each. (A turn is the faster of two calls.) Which verdicts do you expect?

# %% judge-pairs
for run_other in (run_twin, run_tiny):
    first, second = explorers.turns(run_baseline, run_other, 40)
    print(judge(first, second, 1.03))

# %% [markdown]
# ## The first row of your table
#
# The whole course fills one table: a row for each model that you make. Here is its first row, the model that all others
# will be compared with. It is kept in your folder, so it will be here tomorrow.

# %% claim-table
table.add("baseline", baseline, dataset, accuracy=accuracy)
table.show(dataset, without=("peak", "energy"))

# %% [markdown]
# Below is the picture that the table will turn into. Each point is a model: the further up, the more accurate; the further to
# the left, the smaller. A model that no other one beats on both counts is on the **Pareto front**. Today the front is one
# point. Ten labs from now it will be a curve, and you will have made nearly every point of it.

# %% pareto
table.pareto(dataset, without=("peak", "energy"))

# %% [markdown]
# ## Where you are

# %% progress-board
progress_board()

# %% [markdown]
# ## Summary
#
# - A latency is a distribution. Report p50 and p95, the number of runs, and the number of threads.
# - Warm up before you measure, and do not count the warm-up.
# - Two measurements of the same model differ. Compare models in turns, with an interval, and accept *inconclusive*.
# - An average hides whom a model fails.
#
# **Next:** [lab 01](01_edge_budget.ipynb) asks what an edge device can afford, and which of its limits the baseline breaks.
#
# ### Further reading
#
# - K. He, X. Zhang, S. Ren, J. Sun. *Deep Residual Learning for Image Recognition.* CVPR 2016. Section 4.2 describes the
#   networks for small images.
# - B. Efron. *Bootstrap Methods: Another Look at the Jackknife.* The Annals of Statistics 7 (1), 1979.
# - H. R. Künsch. *The Jackknife and the Bootstrap for General Stationary Observations.* The Annals of Statistics 17 (3), 1989.
# - V. J. Reddi et al. *MLPerf Inference Benchmark.* ISCA 2020. How an industry agreed on what to report.
