# Lab NN, as `edgelab new-lab` makes it: small and complete. Replace it piece by piece; labs/AUTHORS.md says how.
# What a learner takes from it: a network's weights and its work lie in different layers.

# %% [markdown]
# # Which layers are heavy?
#
# A network is a pile of layers. Who wants a smaller file must change the layers that hold the weights. Who wants a faster
# model must change those that do the arithmetic. **Are they the same layers?**
#
# You will ask the course's baseline. It takes about 35 minutes.

# %% imports
from edgelab import data, models, train
from edgelab.explore import progress_board, reveal, table
from edgelab.labs.lab_NN_topic import check, explorers
from edgelab.measure import layer_costs

dataset = data.load()
baseline = models.load_pretrained("resnet", dataset.name)
layers = layer_costs(baseline, data.normalize(dataset.test.images[:1]))
print(f"{len(layers)} layers")
# > 19 layers

# %% [markdown]
# `layers` has an entry for each layer that holds weights: its `name`, its `params`, and its `macs` (multiply-accumulates) for
# one picture.
#
# ### Exercise 1: shares (3 points)
#
# Thousands and millions are hard to compare, percentages are not. Write `shares`: how many per cent of the sum of all amounts
# each amount is.


# %% shares tags=["exercise"]
def shares(amounts):
    """Return a list with the percentage that each of `amounts` is of their sum, in the same order."""
    # BEGIN SOLUTION
    total = sum(amounts)
    return [100 * amount / total for amount in amounts]
    # END SOLUTION


# %% shares-check tags=["check"] points=3
check.shares(shares)

# %% shares-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "shares")
hidden.show([shares([rng.uniform(1, 1000) for _ in range(size)]) for size in (1, 2, 5, 20)])

# %% [markdown]
# If the 19 layers were alike, each would hold 5 % of the weights. **How many per cent does the largest one hold?** Remember how
# many weights a convolution has: input channels times output channels times the places of its kernel.

# %% predict-largest
explorers.predict_largest()

# %% measure-largest
weights = shares([layer.params for layer in layers])
reveal("largest", max(weights))

# %% [markdown]
# Nearly half of the network is one convolution. Wherever a picture is halved, the channels are doubled, on both sides of a
# convolution: its weights are quadrupled. So the last stage outweighs all that comes before it.
#
# In the explorer, go from weights to MACs. **Which layers leave the list, and which ones come?** Then choose the MobileNet.

# %% largest-explorer
explorers.largest_explorer()

# %% [markdown]
# ### Exercise 2: how many layers? (4 points)
#
# How many layers must you change to reach half of the weights, and how many to reach nearly all of them? Write `layers_for`: the
# smallest number of layers that hold at least `percent` per cent together. Take the largest ones first.


# %% layers-for tags=["exercise"]
def layers_for(shares, percent):
    """Return the smallest number of layers whose `shares`, in per cent, add up to `percent` or more."""
    # BEGIN SOLUTION
    reached = 0
    for count, share in enumerate(sorted(shares, reverse=True), start=1):
        reached += share
        if reached >= percent:
            return count
    return len(shares)
    # END SOLUTION


# %% layers-for-check tags=["check"] points=4
check.layers_for(layers_for)

# %% layers-for-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "layers-for")
for _ in range(20):
    amounts = [rng.uniform(1, 1000) for _ in range(rng.randrange(5, 30))]
    hidden.show(layers_for([100 * amount / sum(amounts) for amount in amounts], rng.uniform(20, 95)))

# %% layers-for-baseline
for percent in (50, 90, 99):
    print(f"{percent} % of the weights: {layers_for(weights, percent)} layers")
# > 50 % of the weights: 2 layers
# > 90 % of the weights: 5 layers
# > 99 % of the weights: 8 layers

# %% [markdown]
# The next explorer answers the same question for any percentage. In both models, half of the MACs lie in more layers than
# half of the weights. **Is that still so at 99 %?**

# %% coverage-explorer
explorers.coverage_explorer()

# %% [markdown]
# ### Exercise 3: how often a weight is used (3 points)
#
# A layer with few weights can do much arithmetic, if it uses each weight often. Write `reuse`: how many multiply-accumulates
# a layer does, on average, with each of its weights.


# %% reuse tags=["exercise"]
def reuse(macs, params):
    """Return how often each of a layer's `params` is used in its `macs`, on average."""
    # BEGIN SOLUTION
    return macs / params
    # END SOLUTION


# %% reuse-check tags=["check"] points=3
check.reuse(reuse)

# %% reuse-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "reuse")
hidden.show([reuse(rng.randrange(10**6), rng.randrange(1, 10**4)) for _ in range(20)])

# %% [markdown]
# Here are the stages of the baseline, from the picture to the answer.

# %% stages
for stage in ("stem", "stages.0", "stages.1", "stages.2", "classifier"):
    inside = [layer for layer in layers if layer.name.startswith(stage)]
    macs, params = sum(layer.macs for layer in inside), sum(layer.params for layer in inside)
    held = 100 * params / sum(layer.params for layer in layers)
    work = 100 * macs / sum(layer.macs for layer in layers)
    print(f"{stage:10} weights {held:4.1f} %, MACs {work:4.1f} %, MACs per weight {reuse(macs, params):4.0f}")
# > stem       weights  0.2 %, MACs  0.9 %, MACs per weight  953
# > stages.0   weights  6.0 %, MACs 38.8 %, MACs per weight 1020
# > stages.1   weights 18.7 %, MACs 30.2 %, MACs per weight  255
# > stages.2   weights 74.8 %, MACs 30.2 %, MACs per weight   64
# > classifier weights  0.3 %, MACs  0.0 %, MACs per weight    1

# %% [markdown]
# A convolution uses each weight once for every pixel of its output. The first stage sees the whole picture, the last one a
# picture of a quarter of the width and height: a sixteenth of the pixels.
#
# ## What is claimed, and what you measured
#
# **The claim:** make the largest layers smaller, and the network becomes small and fast.
#
# **What you saw:** small, yes. The last stage holds three quarters of the weights, but does less than a third of the
# arithmetic. The first stage does more, with a sixteenth of the weights.
#
# Add to your table the same network with an eighth of the channels in every layer. It has about a sixtieth of the weights.

# %% claim-table
tiny = models.load_pretrained("resnet_tiny", dataset.name)
table.add("ResNet tiny", tiny, dataset, accuracy=train.evaluate(tiny, dataset.test))
table.show(dataset)

# %% pareto
table.pareto(dataset)

# %% progress
progress_board()

# %% [markdown]
# ## Summary
#
# - Weights grow with the channels, squared. Arithmetic grows with the pixels as well.
# - So the layers that make a file large are not the layers that make a network slow.
# - Look before you optimise: two of nineteen layers hold half of this network's weights.
#
# ### Further reading
#
# - K. He, X. Zhang, S. Ren, J. Sun. *Deep Residual Learning for Image Recognition.* CVPR 2016. Section 4.2 describes the
#   networks for small images.
