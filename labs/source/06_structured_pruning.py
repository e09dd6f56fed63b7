# Lab 06. What a learner takes from it: channels are removed in groups, and a processor pays for shapes, not for MACs.

# %% [markdown]
# # What does removing channels buy?
#
# Lab 05 set single weights to zero, and the model became no faster. **Structured pruning** removes whole channels: what is
# left is a smaller dense network, which any runtime can run.
#
# 1. How much **faster** does a model get with each channel that goes?
# 2. **Which** channels can go, and what else must go with them?
# 3. If half of the multiply-accumulates (MACs) are gone, is half of the **time** gone?
#
# It takes about 60 minutes. You need convolutions and residual blocks; at the end comes the quantization of
# [lab 03](03_ptq.ipynb).

# %% imports
import torch

from edgelab import data, models
from edgelab.deploy import Runner, to_onnx
from edgelab.explore import lab_map, progress_board, reveal, table
from edgelab.labs.lab_06_structured_pruning import check, groups, stairs, trade
from edgelab.measure import compare_latency, count_macs, measure_latency
from edgelab.pruning import (
    channel_importance,
    choose_latency,
    choose_macs,
    find_dependencies,
    remove_channels,
    zero_channels,
)
from edgelab.quantization import calibrate, convert, prepare

dataset = data.load()
baseline = models.load_pretrained("resnet", dataset.name)
lessons, exam = dataset.train[:512], dataset.test[:250]
image = data.normalize(exam.images[:1])

# %% map
lab_map("06_structured_pruning")

# %% [markdown]
# ## One channel
#
# The first layers of the baseline have 64 channels. We remove **one of the 64**, and all that belongs to it. The model has then
# fewer weights and fewer MACs, and computes what it did with that channel at zero. **How many times faster is it** in ONNX Runtime?
# A factor below 1 means slower.

# %% predict-one
stairs.predict_one()

# %% one-channel
dependencies = find_dependencies(baseline, image)
one_less = remove_channels(dependencies, {"stem.0": [0]})
whole = Runner.open(to_onnx(baseline, image, "models/baseline.onnx")).once(image)
less = Runner.open(to_onnx(one_less, image, "models/one-less.onnx")).once(image)
race = compare_latency({"64 channels": whole, "63 channels": less})
saved = 1 - count_macs(one_less, image) / count_macs(baseline, image)
reveal("one-channel", race.ratio, race, f"MACs: -{100 * saved:.1f} %")

# %% [markdown]
# Fewer MACs, and yet on the processors where we tried it, it is **slower**. Why? A processor does not multiply numbers one by one. One instruction
# takes 4, 8 or 16 of them side by side, and the runtime lays channels out in blocks of such a size. A block that is not full
# costs as much as a full one, and a layout that does not fit is given up for a slower one.
#
# So let us measure all widths from 32 to 72, in floats and in int8. The explorer shows one 3×3 convolution with as many channels
# going in as coming out. Find out:
#
# 1. Where does the curve fall although there are *more* channels?
# 2. From which width to which does int8 cost the same?
# 3. Which multiple would you round to, on this computer? Try 4, 8 and 16, in floats: the right one has a square at the end of
#    every stair, and nowhere else.

# %% staircase
stairs.staircase_explorer(stairs.measure_stairs())

# %% [markdown]
# We observe a staircase. Its steps are as wide as the blocks that the runtime uses on this processor. Your own may have other
# steps than those of your neighbour. Whoever prunes must round to the step. The cell after the exercise sets it, and `round_to`
# takes it in all that follows.
#
# ### Exercise 1: round to the step (2 points)
#
# A fraction `ratio` of `size` channels shall go. Return how many **stay**: $(1 - \text{ratio}) \cdot \text{size}$, rounded to the
# nearest multiple of `step`. One step stays at least (no layer here is narrower).


# %% kept-channels tags=["exercise"]
def kept_channels(size, ratio, step):
    """Return how many of `size` channels stay when a fraction `ratio` shall go: a multiple of `step`."""
    # BEGIN SOLUTION
    return step * max(1, round((1 - ratio) * size / step))
    # END SOLUTION


# %% kept-channels-check tags=["check"] points=2
check.kept_channels(kept_channels)

# %% kept-channels-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "kept-channels")
hidden.show(
    [
        kept_channels(
            rng.randrange(64, 513), rng.uniform(0.2, 0.9), rng.choice((3, 5, 8, 16))
        )
        for _ in range(30)
    ],
    [
        kept_channels(rng.randrange(64, 99), rng.uniform(0.97, 0.999), step)
        for step in (8, 12, 16)
    ],
)

# %% shown
print([kept_channels(64, ratio, 8) for ratio in (0.1, 0.3, 0.5, 0.99)])
# > [56, 48, 32, 8]

# %% step
step = 8  # or what your staircase says

# %% [markdown]
# ## Which channels?
#
# A **criterion** gives each channel a score. The simplest looks at the filter that makes the channel: the sum of its absolute
# weights, its *L1 norm* (Li et al., 2017). Another asks the batch norm behind it for its scale $|\gamma|$ (Liu et al., 2017).
#
# Both look at weights alone. The loss knows more. Let the filter's weights $w_i$ fade to zero together. To first order, that
# changes the loss by the sum of slope times distance, which is
#
# $$\left|\sum_i w_i \frac{\partial L}{\partial w_i}\right|$$
#
# the **first-order Taylor** score (Molchanov et al., 2019). A weight may be large where the loss does not care. (The batch norm
# behind the filter is left as it is. We come back to that.)
#
# ### Exercise 2: the Taylor score (2 points)
#
# `weight` and `gradient` have the shape (output channels, input channels, height, width). Return one score for each output
# channel.


# %% taylor tags=["exercise"]
def taylor(weight, gradient):
    """Return |sum of w dL/dw| for each filter of `weight` (C, I, H, W), as a tensor of shape (C,)."""
    # BEGIN SOLUTION
    return (weight * gradient).flatten(1).sum(1).abs()
    # END SOLUTION


# %% taylor-check tags=["check"] points=2
check.taylor(taylor)

# %% taylor-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "taylor")
generator = torch.Generator().manual_seed(rng.randrange(2**31))
for size in (2, 5, 9):
    weight, gradient = torch.randn(2, size, 3, 3, 3, generator=generator)
    hidden.show(taylor(weight, gradient), tolerance=1e-4)

# %% [markdown]
# Take a quarter of the channels away, in every set of layers that must shrink together (the next section says which): those with
# the lowest scores. Train nothing. The last row draws lots, five times: a criterion is worth what it wins over that. **Which
# criteria are clear of chance?**

# %% criteria
trade.criterion_table(dependencies, taylor, lessons[:64], exam)

# %% [markdown]
# Which criterion wins depends on the network, and 250 pictures tell accuracies apart by some six points only. What does not
# change: without the control at the bottom, nobody could say what a criterion is worth. And what counts in the end is the
# accuracy after a training. (Your Taylor was asked about the first convolution of each set, the others about all of its layers.)

# %% [markdown]
# ## What else must go?
#
# Say channel 5 of the stem goes. Three things follow.
#
# - Its **batch norm** loses a scale, a shift, a mean and a variance.
# - Every layer that **reads** it loses an input.
# - Where it is **added** to another layer's output, channel 5 of that other layer must go too: numbers can only be added
#   channel by channel.
#
# The third rule spreads. If the sum is added to a third layer, that one joins in. Such a set is a **dependency group**.
#
# ### Exercise 3: who goes together? (3 points)
#
# `additions` is a list of pairs of layers whose outputs are added. Layers are in one group if a chain of additions connects them.
# Return the groups as a list of lists: names sorted inside each group, and the groups sorted as well.


# %% together tags=["exercise"]
def together(additions):
    """Return the groups of layers that a chain of `additions`, pairs of names, connects: a sorted list of lists."""
    # BEGIN SOLUTION
    groups = []
    for pair in additions:
        met = [group for group in groups if group & set(pair)]
        groups = [group for group in groups if group not in met]
        groups.append(set(pair).union(*met))
    return sorted(sorted(group) for group in groups)
    # END SOLUTION


# %% together-check tags=["check"] points=3
check.together(together)

# %% together-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "together")
for size in (4, 8, 12, 20, 30):
    names = [f"layer{number}" for number in range(size)]
    hidden.show(together([tuple(rng.sample(names, 2)) for _ in range(size // 2 + 1)]))

# %% [markdown]
# In the baseline, the stem and the first block are added; each later block adds its second convolution and its shortcut.

# %% own-groups
additions = [("stem.0", "stages.0.body.1.0")]
additions += [
    (f"stages.{stage}.body.1.0", f"stages.{stage}.shortcut.0") for stage in (1, 2)
]
for group in together(additions):
    print(group)

# %% [markdown]
# edgelab finds the groups of a network by running it on the *names* of its channels: what concatenates, splits or shuffles
# channels does the same to their names. (Where it cannot, it says why.) A group is a list of `(layer, direction, indices)`.

# %% one-group
print(dependencies.groups["stem.0"])

# %% [markdown]
# And here they are in the graph. Find the group whose layers do most of the work, and the one that must stay.

# %% group-explorer
groups.group_explorer(dependencies)

# %% [markdown]
# ## The cut
#
# ### Exercise 4: remove channels (3 points)
#
# Two convolutions in a row, a batch norm between them. `keep` lists the channels between them that stay. Weights have the shape
# (output channels, input channels, height, width). `norm` has the shape (4, channels): its rows are $\gamma$, $\beta$, mean and
# variance. Return the three smaller tensors.


# %% cut tags=["exercise"]
def cut(first, norm, second, keep):
    """Return (first, norm, second) with only the channels in the list `keep` between the two convolutions."""
    # BEGIN SOLUTION
    return first[keep], norm[:, keep], second[:, keep]
    # END SOLUTION


# %% cut-check tags=["check"] points=3
check.cut(cut)

# %% cut-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "cut")
generator = torch.Generator().manual_seed(rng.randrange(2**31))
for size in (4, 6, 9):
    keep = sorted(rng.sample(range(size), size // 2 + 1))
    hidden.show(
        cut(
            torch.randn(size, 2, 1, 3, generator=generator),
            torch.randn(4, size, generator=generator),
            torch.randn(3, size, 1, 1, generator=generator),
            keep,
        ),
        tolerance=1e-4,
    )

# %% [markdown]
# How can one know that nothing else was cut? By a second model of full size, in which the same channels are **zero**. Both must
# give the same logits, up to the order of the additions.

# %% exact
smaller, zeroed = (
    make(dependencies, {"stem.0": [0, 5, 9], "stages.2.body.1.0": range(64)})
    for make in (remove_channels, zero_channels)
)
print(groups.difference(zeroed, smaller, data.normalize(exam.images[:8])) < 1e-4)
# > True

# %% [markdown]
# ## Half of the MACs
#
# Now remove channels until half of the MACs are gone. In each round `step` channels go from the group that loses least importance
# for each MAC that it saves. The score is Taylor's again, asked this time of the batch norm's $\gamma$ and $\beta$. With both at
# zero the channel is off. A filter at zero is not enough: the batch norm behind it still adds a constant. **How many times faster
# is the model then?**

# %% predict-half
trade.predict_half()

# %% half-macs
scores = channel_importance(dependencies, "taylor", lessons[:256])
half = choose_macs(dependencies, scores, count_macs(baseline, image) / 2, round_to=step)
half_model = remove_channels(dependencies, half)
half_run = Runner.open(to_onnx(half_model, image, "models/half.onnx")).once(image)
race = compare_latency({"baseline": whole, "half of the MACs": half_run})
reveal("half-the-macs", race.ratio, race)

# %% half-counts
trade.counts(half, dependencies)

# %% [markdown]
# MACs count multiplications, and the clock counts everything: fetching weights, adding shortcuts, reading and writing
# activations, and how well each shape fills the processor. So two models of the same MACs may differ in time, in either
# direction.
#
# The next cell measures each layer of the baseline at a few widths, alone, in ONNX Runtime. Choose a group, and compare the two
# curves. **Which group saves most time for each MAC? Which one hardly any?**

# %% trade-explorer
whole_ms = measure_latency(whole, max_seconds=1).min_ms
times = trade.quick_times(dependencies, whole_ms)
sizes = {name: len(group) for name, group in dependencies.groups.items()}
trade.trade_explorer(trade.trade_grid(dependencies, times), sizes)

# %% [markdown]
# ## Prune to a time, not to MACs
#
# A camera asks for milliseconds. So we give the search the table of layer times instead of MACs: it stops when the sum of the
# layers reaches half of the baseline's. The sum is an estimate, scaled so that the whole baseline comes out right, and the clock
# has the last word.
#
# Accuracy needs a repair as well: both models are **fine-tuned** for two short passes.

# %% to-latency
fast = choose_latency(dependencies, scores, whole_ms / 2, times, round_to=step)
fast_model = trade.fine_tune(remove_channels(dependencies, fast), lessons)
half_model = trade.fine_tune(half_model, lessons)
fast_file = to_onnx(fast_model, image, "models/pruned.onnx")

# %% outcome
trade.outcome_table(
    {
        "baseline": (baseline, whole),
        "half of the MACs": (half_model, half_run),
        "half of the time": (fast_model, Runner.open(fast_file).once(image)),
    },
    exam,
    image,
    {
        "baseline": whole_ms,
        "half of the MACs": times.predict(half),
        "half of the time": times.predict(fast),
    },
)

# %% [markdown]
# Compare the two columns of factors: the nearer they are, the more the table can be trusted here. (A layer that is measured alone
# pays for bringing its input into the runtime's order, which layers in a network share.) And compare the accuracies with the
# baseline's: what two short passes do not bring back, a longer training may.

# %% [markdown]
# ## Pruned, then quantized
#
# What came out is an ordinary small network. So the path of lab 03 takes it as it is: fold, calibrate, convert, export.

# %% pruned-int8
pictures = data.normalize(lessons.images[:64])
int8_model = convert(calibrate(prepare(fast_model), pictures))
int8_file = to_onnx(int8_model, image, "models/pruned-int8.onnx")

# %% claim-table
judged = dataset.test[:1_000]
for name, file, precision in (
    ("pruned channels", fast_file, "fp32"),
    ("pruned channels, int8", int8_file, "int8"),
):
    accuracy = trade.accuracy_of(file, judged)
    written = {"accuracy": accuracy, "pictures": len(judged), "precision": precision}
    table.add(name, fast_model, dataset, **written, file=file)
table.show(dataset)

# %% [markdown]
# (Accuracy in these rows is counted on 1 000 test images at most, to save time: the last column says on how many.)
#
# ## What the lesson claims, and what you measured
#
# **The claim:** structured pruning leaves a smaller dense model, which ordinary hardware runs faster.
#
# **What you saw:** it does, if widths fit the processor. One channel less can cost time. Half of the MACs need not be half of the
# time. And what is left can still be quantized: the table says what that adds here.

# %% pareto
table.pareto(dataset)

# %% progress
progress_board()

# %% [markdown]
# ## Summary
#
# - A channel goes with its filter, its batch norm, the inputs that read it, and all that is added to it: a group.
# - The proof of a cut: the smaller model computes what the original does with the same channels at zero.
# - Latency over channels is a staircase. Measure its step, and round to it.
# - A criterion is worth what it wins over chance.
# - Prune for the quantity that you need: milliseconds, from a table measured where the model will run.
#
# **If you want more:** change one thing at a time. Set `step = 1`, and measure again. Take `"l1"` for the criterion. Take
# `scope="layer"` in `choose_macs`. Find the groups of a torchvision model: which of its layers must stay, and why?
#
# **Next:** [lab 07](07_distillation.ipynb) lets a large model teach a small one.
#
# ### Further reading
#
# - H. Li et al. *Pruning Filters for Efficient ConvNets.* ICLR 2017.
# - Z. Liu et al. *Learning Efficient Convolutional Networks through Network Slimming.* ICCV 2017.
# - P. Molchanov et al. *Importance Estimation for Neural Network Pruning.* CVPR 2019.
# - G. Fang et al. *DepGraph: Towards Any Structural Pruning.* CVPR 2023. Dependency groups.
# - M. Shen et al. *Structural Pruning via Latency-Saliency Knapsack.* NeurIPS 2022. Pruning to a latency, with a table.
# - Z. Liu et al. *Rethinking the Value of Network Pruning.* ICLR 2019. Is it the weights that matter, or the shape that is left?
