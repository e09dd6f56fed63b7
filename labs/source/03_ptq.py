# Lab 03. What a learner takes from it: int8 in four steps and no training, why each step is there, and when it fails.

# %% [markdown]
# # How good is int8 without training?
#
# In lab 02 you computed one layer in integers. Now a whole network. Nothing is trained: we show the finished model a few
# hundred pictures without their labels, and write a new file. This is **post-training quantization** (PTQ).
#
# 1. How much **smaller** does the model get, how much **faster**, and how many answers change?
# 2. Where do the ranges come from, and does it matter which method finds them?
# 3. When does it **fail**, which layer is to blame, and what helps?
#
# It takes about 75 minutes; break before *A network that collapses*. You need scale, zero point and SQNR of [lab 02](02_quantization.ipynb).

# %% imports
import torch

from edgelab import data, models, train
from edgelab.deploy import Runner, operators, to_onnx
from edgelab.explore import lab_map, progress_board, reveal, table
from edgelab.labs.lab_03_ptq import calibration, channels, check, files, preparing
from edgelab.measure import compare_latency
from edgelab.quantization import calibrate, convert, correct_bias, equalize, prepare

dataset = data.load()
baseline = models.load_pretrained("resnet", dataset.name)
image = data.normalize(dataset.test.images[:1])
pictures = data.normalize(
    dataset.train.images[:256]
)  # what we calibrate on: training pictures, no labels

# %% map
lab_map("03_ptq")

# %% [markdown]
# ## First the answer, then how it is made
#
# We are going to write the baseline twice for ONNX Runtime, a program that runs models fast on CPUs: in 32-bit floats and in
# 8-bit integers. **How many times smaller is the second file, and how many times faster does it run on one core?** A factor
# below 1 means larger, or slower.

# %% predict-size
files.predict_size()

# %% predict-speed
files.predict_speed()

# %% write-files
float_file = to_onnx(baseline, image, "models/baseline.onnx")
int8_file = files.write_int8(baseline, pictures, "models/baseline-int8.onnx")

# %% measure-size
reveal("size", float_file.stat().st_size / int8_file.stat().st_size)

# %% measure-speed
runs = {
    "float32": Runner.open(float_file).once(image),
    "int8": Runner.open(int8_file).once(image),
}
race = compare_latency(runs)
reveal("speed", race.ratio, race)

# %% [markdown]
# A quarter of the bits, so a quarter of the bytes? Not quite. **What is in the file besides the weights?**

# %% size-table
files.size_table(float_file, int8_file)

# %% [markdown]
# The weights did become four times smaller. The biases did not: the integer kernel adds them to a 32-bit accumulator, so they stay
# 32 bits wide. Every channel brings a scale of its own, and the graph now says where to round.
#
# <details><summary>And the speed?</summary>
#
# With the **VNNI** instructions one instruction on 512 bits multiplies 64 pairs of 8-bit numbers; its float counterpart
# multiplies 16. If your processor has none of this, your factor is smaller, perhaps close to 1. The machine card of lab 00 tells.
#
# </details>
#
# Does the runtime really compute in integers? Ask it. `QLinearConv` is a convolution on 8-bit codes; `QuantizeLinear` and
# `DequantizeLinear` are the way into the integers and out of them.

# %% operators
for name, onnx_file in {"float32": float_file, "int8": int8_file}.items():
    print(name, dict(operators(onnx_file)))

# %% [markdown]
# ## Whom did it hurt?
#
# Smaller and faster is easy if the answers may be wrong. Look at the second line of the title as well. **Can an average stay the
# same while answers change?**

# %% whom-it-hurt
files.whom_it_hurt(float_file, int8_file, dataset)

# %% [markdown]
# On signs and on clothes the average hardly moves, and still some answers change, in both directions: where the float model was
# undecided, a small rounding error decides.
#
# That is how far PTQ gets. Now take it apart, in four steps.

# %% [markdown]
# ## Step one: fold the batch norm
#
# A convolution in our network is followed by a **batch norm**. Once training is over, that is nothing but a multiplication
# and an addition for each channel $c$:
#
# $$y_c = \gamma_c\, \frac{x_c - \mu_c}{\sqrt{\sigma_c^2 + \varepsilon}} + \beta_c$$
#
# Here $\mu_c$ and $\sigma_c^2$ are the mean and the variance that it gathered in training, $\gamma_c$ and $\beta_c$ were learnt,
# and $\varepsilon$ is a small constant. The convolution before it is linear. So it can do the batch norm's work in passing, with
# other weights and another bias. For integers that is a must: the numbers between the two would have to be rounded as well.
#
# ### Exercise 1: fold a batch norm (3 points)
#
# Let $x_c = W_c * \text{input} + b_c$. ($*$ is the convolution.) Put that into the formula above and sort the terms. With
# $f_c = \gamma_c / \sqrt{\sigma_c^2 + \varepsilon}$ you should arrive at
#
# $$W'_c = f_c\, W_c \qquad b'_c = (b_c - \mu_c)\, f_c + \beta_c$$
#
# The weight has the shape (output channels, input channels, height, width); everything else has one number for each output
# channel. Take care that $f$ runs along the *first* axis: `reshape(-1, 1, 1, 1)` helps.


# %% fold tags=["exercise"]
def fold(weight, bias, mean, var, gamma, beta, eps):
    """Return the tensors (weight, bias) of the convolution that does the batch norm's work as well."""
    # BEGIN SOLUTION
    factor = gamma / torch.sqrt(var + eps)
    return weight * factor.reshape(-1, 1, 1, 1), (bias - mean) * factor + beta
    # END SOLUTION


# %% fold-check tags=["check"] points=3
check.fold(fold)

# %% fold-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "fold")
generator = torch.Generator().manual_seed(rng.randrange(2**31))
for _ in range(3):
    weight = torch.randn(3, 3, 3, 3, generator=generator)
    bias, mean, gamma, beta = torch.randn(4, 3, generator=generator)
    var, eps = 0.05 + torch.rand(3, generator=generator), rng.uniform(0.01, 0.1)
    hidden.show(fold(weight, bias, mean, var, gamma, beta, eps), tolerance=1e-4)

# %% [markdown]
# Is the network still the same? The next cell folds every convolution of the baseline with your function, feeds both with
# noise, and compares. Float arithmetic alone makes differences of less than $10^{-6}$ here.
#
# The last two columns compare the largest channel of each layer with the one in the middle: their **spread**. The batch norm has
# its own factor for every channel, and folding writes these factors into the weights. **Does it make the channels more alike, or
# less?**

# %% fold-baseline
preparing.fold_table(baseline, fold)

# %% [markdown]
# More in some, less in others: nothing in training asks the channels to agree.

# %% [markdown]
# ## Step two: watch the activations
#
# Weights lie in the file: we know their ranges. Activations depend on the picture. So we put an **observer** behind every
# layer, show the float model some pictures, and let each observer decide on a range. That is **calibration**.
#
# Which range? A **percentile** observer takes the range that holds, say, 99.9 % of the values. The rest is clipped to its
# ends, and the values inside get finer steps. With 100 % nothing is clipped: that is the **min-max** observer.
#
# ### Exercise 2: an observer (2 points)
#
# `percent` of all values shall lie inside the range, and half of the rest beyond either end. The share beyond one end is then
#
# $$t = \frac{1 - \text{percent}/100}{2}$$
#
# and the ends are the quantiles $t$ and $1 - t$ of *all* values together. They arrive in batches, tensors of any shape:
# `torch.cat` joins flat tensors, and `torch.quantile` finds quantiles as `percentile` did in lab 00.


# %% percentile-range tags=["exercise"]
def percentile_range(batches, percent):
    """Return (low, high): the range of the middle `percent` % of all values in a list of tensors."""
    # BEGIN SOLUTION
    values = torch.cat([batch.flatten() for batch in batches])
    tail = (1 - percent / 100) / 2
    return float(torch.quantile(values, tail)), float(torch.quantile(values, 1 - tail))
    # END SOLUTION


# %% percentile-range-check tags=["check"] points=2
check.percentile_range(percentile_range)

# %% percentile-range-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "percentile-range")
generator = torch.Generator().manual_seed(rng.randrange(2**31))
for _ in range(5):
    batches = [
        torch.randn(8, size, generator=generator).exp() - 1 for size in (3, 30, 9)
    ]  # lopsided, around 0
    hidden.show(percentile_range(batches, rng.uniform(60, 99)), tolerance=1e-4)

# %% [markdown]
# Now real activations: what the first residual block produces for 32 pictures. The legend gives the SQNR of lab 02: higher is
# better. **Which range wins with 8 bits? And with 4?**

# %% real-ranges
batches = preparing.activations(baseline, "stages.0.activation", pictures[:32])
minmax, percentile = (percentile_range(batches, percent) for percent in (100, 99.9))
preparing.range_plot(batches, minmax, percentile)

# %% [markdown]
# Two errors pull in opposite directions. **Rounding** costs more as the steps grow, and so it wants a narrow range.
# **Clipping** wants a wide one. With 256 codes the steps are fine anyway, and the few clipped values weigh more. With 16 codes the
# steps decide. So there is no best percentile: it depends on the bits.

# %% [markdown]
# ### Explorer: how many pictures, and which method?
#
# One can also search for the range of least squared error, or for the one whose rounded distribution is most like the real one
# (*entropy*, a least divergence; Migacz, 2017), or average the extremes over the batches. The explorer tries five methods with
# up to 128 pictures, on the whole model in 8 bits. Then find out:
#
# 1. How many pictures are enough? What is a single picture worth?
# 2. Which method is best in decibels? Does the accuracy see the difference? (One picture in 200 is half a point.)
# 3. Why does the moving average hardly change with more pictures?

# %% calibration-explorer
calibration.calibration_explorer(baseline, pictures, dataset)

# %% [markdown]
# <details><summary>The third answer</summary>
#
# Each batch moves its range by one part in a hundred, so that it takes hundreds of batches to forget the first.
#
# </details>

# %% [markdown]
# ## Steps three and four: convert and export
#
# Here are the tools. You know by now what is inside each of them.
#
# | call | what it does |
# | --- | --- |
# | `prepare(model)` | returns a copy: batch norm folded, an observer behind every tensor that integers will hold |
# | `calibrate(prepared, images)` | shows it the images, then fixes every scale and zero point |
# | `convert(prepared)` | returns a model that holds exactly the numbers that its integers stand for |
# | `to_onnx(converted, image, path)` | writes the file; `image` is one picture, `(1, C, H, W)`, to show the shape |
#
# ### Exercise 3: quantize a model (2 points)
#
# Put them together. The check lets your function write a file and looks into it: are the weights int8, do all convolutions
# run in integers, and is the accuracy still there?


# %% quantize-model tags=["exercise"]
def quantize_model(model, images, path):
    """Write `model` to the file `path` in int8, calibrated on `images`, and return the path."""
    # BEGIN SOLUTION
    prepared = prepare(model)
    calibrate(prepared, images)
    return to_onnx(convert(prepared), images[:1], path)
    # END SOLUTION


# %% quantize-model-check tags=["check"] points=2
check.quantize_model(quantize_model, baseline, pictures[:128], dataset)

# %% quantize-model-hidden tags=["hidden"]
# What is in the file: the operators that run, every scale (they tell what it was calibrated on), and what it answers.
from pathlib import Path

import onnx

from edgelab import data, models, train
from edgelab.course import hidden
from edgelab.deploy import Runner, operators

rng = hidden.rng(SEED, "quantize-model")
dataset = data.load()
small, first = models.load_pretrained("resnet_tiny", dataset.name), rng.randrange(256)
pictures, path = (
    data.normalize(dataset.train.images[first : first + 200]),
    Path("models", "hidden-int8.onnx"),
)
hidden.show(str(quantize_model(small, pictures, path)), dict(operators(path)))
scales = [
    onnx.numpy_helper.to_array(one)
    for one in onnx.load(path).graph.initializer
    if one.name.endswith("scale")
]
hidden.show(
    sorted(float(value) for scale in scales for value in scale.flat), tolerance=1e-3
)
answers = train.predict(Runner.open(path), dataset.test[first : first + 64])
hidden.show(answers, tolerance=0.03)

# %% [markdown]
# ## Are we any good? Ask somebody else
#
# ONNX Runtime brings its own quantizers. The **static** one calibrates as we do. The **dynamic** one needs no pictures: the range
# of each activation is measured while the model runs. **Which rows will be fast, and is there one slower than float32?**

# %% contest
files.contest(float_file, int8_file, pictures[:64], dataset)

# %% [markdown]
# Three things to observe.
#
# - The static quantizer, told to use unsigned activations, arrives at the same kind of graph as ours, and a like gain.
# - With its **defaults** (signed activations), on x86 many convolutions stay in float, and much of the gain is gone. The file
#   is just as small. Nothing warns you.
# - **Dynamic** quantization has to find the range of every activation for every picture, and its integer convolution is not the
#   optimised one.
#
# *Int8* on a label says what a file holds. It does not say what runs.

# %% [markdown]
# ## The same file on another processor
#
# On an x86 processor without VNNI, ONNX Runtime's fast integer kernel adds two products of 8 bits in 16 bits. What is too
# large is cut off without a word: it **saturates**. With VNNI the sum goes into 32 bits. **On how many per cent of the logits
# do this kernel and an exact one agree, on your processor?**

# %% predict-saturation
files.predict_same()

# %% saturation
measured = files.kernels(int8_file, dataset)
reveal("saturation", 100 * measured.same, measured)

# %% [markdown]
# *Evaluated* is not always *deployed*: look at the last row. Where sums saturate, edgelab asks for the exact kernels, and so
# must your own program: set the session's entry `session.x64quantprecision` to 1.
#
# <details><summary>Why 16 bits are too few</summary>
#
# A code of 0 … 255 times one of −127 … 127, twice: that reaches $2 \cdot 255 \cdot 127 = 64\,770$, and 16 bits end at 32 767.
# So it depends on how often large codes meet large weights. On an AMD EPYC that has AVX2 alone, one logit in a thousand
# changes on the clothes of Fashion-MNIST, and on signs three in four.
#
# Where the fast kernels are exact, do not ask for others: on a Xeon with VNNI the same setting made the baseline about four
# times slower.
#
# </details>

# %% [markdown]
# ## Which layer is the most sensitive?
#
# With 8 bits nothing much is lost. What if we want fewer? The next explorer rounds the weights of **one layer at a time** and
# leaves all else in float. A long bar means that the answers hardly change.
#
# Guess first: which layer is the most sensitive one at 4 bits? The largest? The first? The last?

# %% sensitivity-explorer
calibration.sensitivity_explorer(baseline, pictures[:16])

# %% [markdown]
# A bit less costs 6 dB on average, and below 4 bits more. One layer's steps are uneven. Compare the bars with the shares: the
# layer that suffers most need not be the one that holds most weights. So one can *mix* precisions. In lab 04 you will.

# %% [markdown]
# ## A network that collapses
#
# MobileNets are made of **depthwise** convolutions: one small filter for each channel, and no sum over the others (lab 08
# tells more). Papers report that they break under PTQ when a layer has one scale for all its channels (**per tensor**). Nagel
# et al. (2019) saw MobileNetV2 fall from 71.7 % to 0.1 % on ImageNet.
#
# We have one that does: MobileNetV2 at half width, trained on the photographs of clothes of **Fashion-MNIST**. One scale per
# tensor costs it more than ten points. **You are to find out which layer is to blame.**
#
# One scale has to reach the largest weight of the layer. A channel whose weights are 50 times smaller is then left with two or
# three codes on either side of zero.
#
# ### Exercise 4: how far apart are the channels? (1 point)
#
# Let the range of a channel be its largest absolute weight, $r_c = \max |W_c|$, over all weights of output channel $c$. The
# **spread** of a layer is
#
# $$\text{spread} = \frac{\max_c r_c}{\text{median}_c\, r_c}$$


# %% channel-spread tags=["exercise"]
def channel_spread(weight):
    """Return the largest channel range of `weight` (C, I, H, W) divided by the median channel range."""
    # BEGIN SOLUTION
    ranges = weight.abs().flatten(1).amax(1)
    return float(ranges.max() / ranges.median())
    # END SOLUTION


# %% channel-spread-check tags=["check"] points=1
check.channel_spread(channel_spread)

# %% channel-spread-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "channel-spread")
generator = torch.Generator().manual_seed(rng.randrange(2**31))
for channels_out in (5, 9, 15, 31):  # odd, so that there is one channel in the middle
    size = torch.randn(channels_out, 1, 1, 1, generator=generator).exp()
    hidden.show(
        channel_spread(size * torch.randn(channels_out, 7, 3, 3, generator=generator))
    )

# %% [markdown]
# Here is your function on three networks, layer after layer, batch norm folded. **Where in MobileNetV2 would you look first?**

# %% spreads
mobilenet = models.load_pretrained("mobilenet_v1_025", dataset.name)
suspect = models.load_pretrained("mobilenet_v2_050", "fashion-mnist")
networks = {"ResNet": baseline, "MobileNetV1": mobilenet, "MobileNetV2": suspect}
channels.spread_plot(networks, channel_spread)

# %% [markdown]
# ### Exercise 5: which layers break? (2 points)
#
# A grid of $b$ bits has $2^{b-1} - 1$ codes on each side of zero. With one scale for all, the channel in the middle is left with
# this many of them, divided by the spread. Let us say that a layer **breaks** where fewer than two are left.
#
# `weights` is a dictionary: the name of each layer, and its weights. Return the list of the names that break, in their order.


# %% breaking tags=["exercise"]
def breaking(weights, bits):
    """Return the names of the layers of `weights` that one scale of `bits` bits breaks."""
    # BEGIN SOLUTION
    codes = 2 ** (bits - 1) - 1
    return [
        name for name, weight in weights.items() if codes / channel_spread(weight) < 2
    ]
    # END SOLUTION


# %% breaking-check tags=["check"] points=2
check.breaking(breaking)

# %% breaking-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "breaking")
generator = torch.Generator().manual_seed(rng.randrange(2**31))
for bits in (3, 4, 5, 6, 7, 8):
    weights = {}
    for number in range(8):
        shape, factor = (rng.choice((5, 9, 15)), 3, 3, 3), rng.uniform(0.1, 2) * 2**bits
        weights[f"layer {number}"] = torch.randn(shape, generator=generator)
        weights[f"layer {number}"][rng.randrange(5)] *= factor / 4
    hidden.show(breaking(weights, bits))

# %% [markdown]
# Now ask it for the network that collapses, in 8 bits.

# %% diagnosis
blamed = breaking(channels.folded_weights(suspect), bits=8)
print(blamed)
# > ['features.1.body.0.0']

# %% [markdown]
# One layer of 52, a depthwise one. Is it really to blame? Each row below is a way to quantize the network without training. In the
# second one only the layers that you named stay in floats. Two cures from the paper are in the last.
#
# <details><summary>The two cures</summary>
#
# - `equalize`: for positive $s$, $\text{relu}(s\,x) = s\,\text{relu}(x)$. So a channel may be divided by $s$ in one layer and
#   multiplied by $s$ in the next. The network computes the same, and $s$ makes the channels of both alike. (A ReLU6 would clip
#   at another place: `equalize` makes it a ReLU first.)
# - `correct_bias`: rounded weights shift the mean of every output. The mean shift over some pictures is known, and the bias takes
#   it back.
#
# </details>

# %% cures
channels.cure_table(suspect, blamed)

# %% [markdown]
# The collapse is real, and one layer makes it: leave that one alone, and the points are back. Scales per channel and the two cures
# bring them back as well. It is not depthwise layers that collapse. It is **channels of different
# range**, and depthwise layers have them more often: each of their channels sees only its own input, and nothing makes one
# like another.

# %% [markdown]
# ## What the lesson claims, and what you measured
#
# **The claim:** int8 makes a model four times smaller and several times faster at no cost.
#
# **What you saw:** nearly four. Several times, where processor and runtime have integer kernels *and* the file makes use of
# them. At hardly any cost, for a network whose ranges are benign, and you know how to look.
#
# Three rows come into your table: the float file, for a fair comparison in one runtime; MobileNetV1 at a quarter of its width, in
# int8 with both cures; and the file of your own `quantize_model`.

# %% mobilenet-int8
equalized = calibrate(prepare(equalize(mobilenet)), pictures[:128])
mended = convert(correct_bias(equalized, pictures[:128]))
mobilenet_file = to_onnx(mended, image, "models/mobilenet-int8.onnx")
accuracy = train.evaluate(Runner.open(mobilenet_file, threads=2), dataset.test)
written = {"accuracy": accuracy, "file": mobilenet_file, "precision": "int8"}
table.add("MobileNet int8", mobilenet, dataset, **written)

# %% baseline-int8
recorded = models.manifest(dataset.name)[f"{dataset.name}/resnet"]["accuracy"]
written = {"accuracy": recorded, "file": float_file}
table.add("baseline in ONNX Runtime", baseline, dataset, **written)

own_file = quantize_model(baseline, pictures, "models/int8-ptq.onnx")
accuracy = train.evaluate(Runner.open(own_file, threads=2), dataset.test)
written = {"accuracy": accuracy, "file": own_file, "precision": "int8"}
table.add("int8 PTQ", baseline, dataset, **written)

# %% claim-table
table.show(dataset)

# %% [markdown]
# Who is on the front? It depends on the cost. If you did lab 02: by **size**, its "int8 weights" and your int8 file are nearly
# equal, and a few KiB or a few pictures decide which of them beats the other. But the one computes in floats, and the other in
# integers: choose **latency** and **energy**, and look again.

# %% pareto
table.pareto(dataset)

# %% progress
progress_board()

# %% [markdown]
# ## Summary
#
# - PTQ is four steps: fold, observe, convert, export. It needs a few hundred pictures, no labels, and seconds.
# - Weights shrink fourfold; biases, scales and the graph do not, so the file shrinks a little less.
# - Speed comes from integer kernels. Look at the operators that really run: the same *int8* can be fast, or slower than
#   float.
# - Narrow ranges clip, wide ranges round coarsely. Which error is worse depends on the bits.
# - Channels of different range are what breaks PTQ. Scales per channel and equalization help; measure before you believe in a
#   collapse.
#
# <details><summary><b>If you want more</b> (not graded)</summary>
#
# Write `search(values, bits)`: it returns the range (low, high) in which rounding `values` makes the least squared error. The values
# come from a ReLU, so `low` is 0; try a hundred ends between nothing and the largest value. In a new cell:
#
# ```python
# from edgelab.labs.lab_03_ptq import further
#
# further.least_error(search, baseline, pictures[:32])
# ```
#
# The table sets your range beside min-max, and beside edgelab's own search. At how many bits does searching begin to pay?
#
# </details>
#
# **Next:** [lab 04](04_qat.ipynb) goes below 8 bits, where rounding alone is no longer enough, and trains the network to live with it.
#
# ### Further reading
#
# - B. Jacob et al. *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference.* CVPR 2018.
#   Section 3.2 folds the batch norm.
# - R. Krishnamoorthi. *Quantizing Deep Convolutional Networks for Efficient Inference: A Whitepaper.* arXiv:1806.08342, 2018.
# - S. Migacz. *8-bit Inference with TensorRT.* GPU Technology Conference, 2017. Calibration by entropy.
# - M. Nagel et al. *Data-Free Quantization Through Weight Equalization and Bias Correction.* ICCV 2019.
# - H. Wu et al. *Integer Quantization for Deep Learning Inference: Principles and Empirical Evaluation.* 2020,
#   arXiv:2004.09602. Percentiles and other calibrations, compared on many networks.
# - ONNX Runtime. *Quantize ONNX Models.* https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
