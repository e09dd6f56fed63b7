# Lab 02. What a learner takes from it: a grid of few numbers, the price of each bit in dB, and a layer that knows only integers.

# %% [markdown]
# # What does rounding cost?
#
# A weight of the baseline is a float of 32 bits: one of some four billion numbers. 8 bits can tell apart 256 numbers. Every
# weight and every activation must then be **rounded** to one of 256. That is **quantization**.
#
# 1. Which 256 numbers? Where do *scale* and *zero point* come from?
# 2. What does the rounding cost, and what is one more bit worth?
# 3. Can a layer of the network compute with integers alone?
#
# It takes about 75 minutes; break before *One weight too many*. You need the words *activation* and *weight* of [lab 01](01_edge_budget.ipynb).

# %% imports
import torch

from edgelab import data, models, train
from edgelab.deploy import Runner, operators, to_onnx
from edgelab.explore import lab_map, number, progress_board, reveal, table
from edgelab.labs.lab_02_quantization import check, explorers, rounding
from edgelab.measure import compare_latency
from edgelab.quantization import (
    QuantizationConfig,
    calibrate,
    convert,
    fold_batchnorm,
    prepare,
)

dataset = data.load()
baseline = models.load_pretrained("resnet", dataset.name)
images = data.normalize(dataset.train.images[:256])

# %% map
lab_map("02_quantization")

# %% [markdown]
# ## A ruler with few marks
#
# Think of a ruler whose marks lie a distance $s$ apart, the **scale**. We number its marks $q = 0, 1, \dots, 2^b - 1$: these
# are the **codes** of $b$ bits. The mark that stands for the real number 0 has the code $z$, the **zero point**. Then
#
# $$\text{real} = (q - z)\, s$$
#
# and two numbers, $s$ and $z$, say everything about the ruler. Codes that are laid over the real numbers like this are called
# **affine**.
#
# How should we choose $s$ and $z$ for a tensor whose values run from `min_val` to `max_val`? Two wishes decide.
#
# - The marks should **reach** from the smallest value to the largest, and be no further apart than that needs.
# - Zero should lie **exactly** on a mark. A network is full of zeros: a ReLU makes them, and so does the padding at the
#   border of a picture. An error in every zero would be an error with a direction, and would add up.

# %% [markdown]
# ### Exercise 1: choose the scale and the zero point (2 points)
#
# First extend the range, so that it contains 0:
#
# $$\text{low} = \min(\texttt{min\_val}, 0) \qquad \text{high} = \max(\texttt{max\_val}, 0)$$
#
# Between $2^b$ marks there are $2^b - 1$ steps. Zero lies $-\text{low}/s$ steps above the lowest mark, and the zero point is the
# nearest whole number to that:
#
# $$s = \frac{\text{high} - \text{low}}{2^b - 1} \qquad z = \text{round}\left(\frac{-\text{low}}{s}\right)$$
#
# A tie goes to the even neighbour, as Python's `round` does it. If the range is nothing but 0, return the scale 1.0 and the zero
# point 0.
#
# Before you write it: can $z$ ever fall outside the codes?


# %% choose-qparams tags=["exercise"]
def choose_qparams(min_val, max_val, bits):
    """Return (scale, zero_point): a float and an int, for unsigned codes of `bits` bits."""
    # BEGIN SOLUTION
    low, high = min(min_val, 0.0), max(max_val, 0.0)
    if low == high:
        return 1.0, 0
    scale = (high - low) / (2**bits - 1)
    return scale, round(-low / scale)
    # END SOLUTION


# %% choose-qparams-check tags=["check"] points=2
check.choose_qparams(choose_qparams)

# %% choose-qparams-hidden tags=["hidden"]
from edgelab.course import hidden
from edgelab.course.comparison import is_whole

rng = hidden.rng(SEED, "choose-qparams")
lows = [
    *(rng.uniform(-9, 9) for _ in range(20)),
    *(rng.uniform(-60, -30) for _ in range(5)),
]  # some all below 0
ranges = [(low, rng.uniform(0.1, 20), rng.randrange(2, 9)) for low in lows]
found = [choose_qparams(low, low + width, bits) for low, width, bits in ranges]
hidden.show(found, [is_whole(zero_point) for _scale, zero_point in found])
step = 2.0 ** rng.randrange(-4, 4)  # the zero point of each of these ranges is a tie
hidden.show(
    [
        choose_qparams(-(code + 0.5) * step, (14.5 - code) * step, 4)
        for code in range(15)
    ]
)
hidden.show(choose_qparams(0.0, 0.0, rng.randrange(2, 9)))

# %% [markdown]
# It cannot: zero lies inside the extended range, so its code lies between the first and the last.
#
# Look at the ruler for two real tensors. `seen` holds what the network computes from 256 training images, among others in front
# of its last layer (`flatten`) and at its output (`classifier`).

# %% real-ranges
seen = rounding.activations(baseline, images)
for place in ("flatten", "classifier"):
    low, high = (float(value) for value in seen[place].aminmax())
    scale, zero_point = choose_qparams(low, high, 8)
    print(f"{place:10} {low:7.3f} … {high:.3f}:  s = {scale:.5f}  z = {zero_point}")

# %% [markdown]
# What comes from a ReLU is never negative, so its zero point is 0 and all the codes are spent on one side. The output of the last
# layer has no ReLU: its zero lies somewhere in between.
#
# ## There and back
#
# ### Exercise 2: quantize (2 points)
#
# To find the code of a real number $x$, count its steps from zero, **round** them to a whole number, and add the zero point.
# A number beyond the last mark gets the code of the last mark: it **saturates**.
#
# $$q = \text{clip}\big(\text{round}(x / s) + z,\; 0,\; 2^b - 1\big)$$
#
# `torch.round` takes ties to the even neighbour, as the standard asks (ONNX, *QuantizeLinear*). torch has no type of 4 bits, so
# return every code in 8: `.to(torch.uint8)`.


# %% quantize tags=["exercise"]
def quantize(x, scale, zero_point, bits):
    """Return the codes of the float tensor `x`, in its shape, as torch.uint8."""
    # BEGIN SOLUTION
    q = torch.round(x / scale) + zero_point
    return q.clamp(0, 2**bits - 1).to(torch.uint8)
    # END SOLUTION


# %% quantize-check tags=["check"] points=2
check.quantize(quantize)

# %% quantize-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "quantize")
for _ in range(6):
    bits, step = rng.randrange(2, 9), 2.0 ** rng.randrange(-6, 3)
    halves = [
        [rng.randrange(-(2**bits), 2**bits) for _ in range(20)] for _ in range(4)
    ]  # many ties, some saturate
    zero_point = (
        2 * rng.randrange(2 ** (bits - 1)) + 1
    )  # odd: adding it before the rounding moves the ties
    codes = quantize(torch.tensor(halves) / 2 * step, step, zero_point, bits)
    hidden.show([codes, str(codes.dtype)])

# %% [markdown]
# ### Exercise 3: dequantize (1 point)
#
# The way back is the formula that we began with, $(q - z)\, s$. One trap lies in it: the codes are *unsigned* integers of 8
# bits. What is 2 - 3 in those?


# %% dequantize tags=["exercise"]
def dequantize(q, scale, zero_point):
    """Return the real numbers (float32) that the codes `q` (torch.uint8) stand for."""
    # BEGIN SOLUTION
    return (q.int() - zero_point) * scale
    # END SOLUTION


# %% dequantize-check tags=["check"] points=1
check.dequantize(dequantize)

# %% dequantize-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "dequantize")
for _ in range(5):
    codes = torch.tensor(
        [[rng.randrange(256) for _ in range(20)] for _ in range(3)], dtype=torch.uint8
    )
    hidden.show(dequantize(codes, rng.uniform(0.001, 2), rng.randrange(256)))

# %% [markdown]
# Put the three functions together, for 4 bits and a range from -1 to 2.75. That makes a step of 0.25. Which two of these six
# numbers will come back changed the most?

# %% by-hand
values = torch.tensor([-1.0, -0.3, 0.0, 0.375, 1.0, 9.0])
scale, zero_point = choose_qparams(-1.0, 2.75, bits=4)
codes = quantize(values, scale, zero_point, bits=4)
print(codes.tolist())
print([f"{value:.2f}" for value in dequantize(codes, scale, zero_point).tolist()])
# > [0, 3, 4, 6, 8, 15]
# > ['-1.00', '-0.25', '0.00', '0.50', '1.00', '2.75']

# %% [markdown]
# The 9 has saturated: it lies beyond the last mark. The 0.375 lay half-way between two marks, and went to the even one. And 0
# comes back as 0.
#
# Now send the input of the last layer there and back, in 8 bits. **How large can the error be, at most, in steps?**

# %% round-trip
x = seen["flatten"]
scale, zero_point = choose_qparams(float(x.min()), float(x.max()), 8)
codes = quantize(x, scale, zero_point, 8)
back = dequantize(codes, scale, zero_point)
for before, code, after in zip(x[0, :4], codes[0, :4], back[0, :4], strict=True):
    print(f"{before:.5f} -> {code:3d} -> {after:.5f}")
print(f"{(x - back).abs().max() / scale:.3f} s")

# %% [markdown]
# Half a step $s$, as long as nothing saturates. The *step* is what rounding costs, and the range decides its length.

# %% [markdown]
# ## Clip the range, or keep it?
#
# A long range has long steps. A short range has short ones, but what lies outside saturates. The explorer shows a tensor (the
# share of its values, on an axis that shows the infrequent ones too) over the marks that it is rounded to. Below is the error
# at every value. Blue marks lie within the tensor's values, orange ones beyond. The hatched part saturates.
#
# Its title says how large the error is beside the tensor.
#
# 1. Take the *weights* at 3 bits. Which part of the range gives the smallest error? And at 8 bits?
# 2. Take *after the first ReLU*, and change the grid from affine to symmetric. What happens to half of the marks?
# 3. Take the *pixels* at 8 bits. Why is there no error at all?

# %% number-line
folded = fold_batchnorm(baseline)
tensors = rounding.example_tensors(folded, seen, images)
explorers.number_line_explorer(tensors)

# %% [markdown]
# <details><summary>Answers</summary>
#
# 1. With few bits it pays to clip the large, infrequent values; with 8 bits that only loses quality. Lab 03 makes a method of it.
# 2. Half of the marks stand for negative numbers, which never come after a ReLU.
# 3. The pixels came as 256 different numbers in the first place. `normalize` divides them by 128, so each has a code of its own.
#
# (`fold_batchnorm` has merged each batch normalisation with the convolution before it, as most runtimes do. How, is an
# exercise of lab 03.)
#
# </details>

# %% [markdown]
# ## What is a bit worth?
#
# The **signal-to-quantization-noise ratio** compares the power of a tensor with the power of the error that rounding has made:
#
# $$\text{SQNR} = 10 \log_{10} \frac{\sum x^2}{\sum (x - \hat{x})^2} \;\text{dB}$$
#
# At 20 dB the power of the error is a hundredth of the signal's; at 40 dB it is a ten-thousandth; at 0 dB the two are equal.
#
# **How many decibels does one more bit add?**

# %% predict-bit
rounding.predict_bit()

# %% [markdown]
# The next cell rounds the weights of every layer to 2, 3, ... 8 bits, and measures the SQNR. The number it reveals is the mean
# over the layers, from 4 bits to 8.

# %% measure-bit
curves = rounding.sqnr_by_bits(folded)
reveal("bit", rounding.gain_per_bit(curves["per-tensor"]))

# %% [markdown]
# One bit more means twice as many marks, and steps half as long. The error is half as large, and its power a quarter:
#
# $$10 \log_{10} 4 = 6.02 \;\text{dB}$$
#
# <details><summary>Why a little more here?</summary>
#
# From 4 bits to 8 the steps get $127/7$ times shorter, because the lowest code is left out. That makes 6.29 dB for each bit. The
# 6.02 are as old as digital telephony (Bennett, 1948).
#
# </details>
#
# Look at all the layers. Then change *scales* from one per tensor to one per channel.

# %% sqnr-explorer
explorers.sqnr_explorer(curves)

# %% [markdown]
# From 4 bits on, all layers gain about 6 dB with a bit, but some start out poorer. **Why would one layer be harder to round
# than another?** On the left below are the weights of each output channel, and the range that the codes must reach. On the
# right is how often each code is used.
#
# - Look at the `stem`, the first layer, with one scale per tensor. Which channels suffer?
# - Give each channel its own scale. What happens to the codes, and to the SQNR?

# %% weights-explorer
explorers.weights_explorer(folded)

# %% [markdown]
# With one scale for all, the channel with the largest weights sets the step for everybody. A channel of small weights has to
# make do with a few codes around 0. One scale for each output channel costs a few bytes, and repairs that: it is called
# **per-channel** quantization.

# %% [markdown]
# ## One weight too many
#
# How sensitive is *per-tensor*? Take a layer of the baseline, and make **one** of its weights 20 times as large as the
# largest. All its other weights stay as they are, and so does the number of bits: 8.
#
# **How many decibels of SQNR do the other weights lose?** We leave the outlier out of the count. It has a large power of
# its own, and would flatter the ratio.

# %% predict-outlier
rounding.predict_outlier()

# %% measure-outlier
per_tensor, per_channel = (
    rounding.outlier_loss(folded, each) for each in (False, True)
)
reveal("outlier", per_tensor)

# %% [markdown]
# The step has become 20 times as long, and $20 \log_{10} 20 = 26$ dB. A single weight among thousands costs as much as
# **four bits** and a bit more.
#
# And with one scale per channel? The SQNR of the layer as a whole falls there, too. But look at *who* has lost.

# %% outlier-explorer
print(f"{per_tensor:.1f} dB → {per_channel:.1f} dB")
explorers.outlier_explorer(folded)

# %% [markdown]
# Per channel, the damage stays in channel 0; all others are as good as before. One number for the layer hides that.

# %% [markdown]
# ### Exercise 4: who is to blame? (2 points)
#
# Here is the question the other way round. A layer does badly with one scale for the whole tensor. **Which output channel is to
# blame, and how many bits does it take from all others?**
#
# The channel with the largest absolute weight sets the step. Without it, the second largest would. Each doubling of the step
# costs the others one bit. Return the number of the channel, and the bits.


# %% to-blame tags=["exercise"]
def to_blame(weight):
    """Return (channel, bits) for `weight` (O, ...), O > 1: who sets the step, at what cost."""
    # BEGIN SOLUTION
    ranges = weight.abs().flatten(1).amax(1)
    largest, second = ranges.sort(descending=True).values[:2]
    return int(ranges.argmax()), float(torch.log2(largest / second))
    # END SOLUTION


# %% to-blame-check tags=["check"] points=2
check.to_blame(to_blame)

# %% to-blame-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "to-blame")
generator = torch.Generator().manual_seed(rng.randrange(2**31))
for channels in (2, 5, 9, 16, 24):
    size = torch.randn(channels, 1, 1, 1, generator=generator).exp()
    weight = size * torch.randn(channels, 4, 3, 3, generator=generator)
    hidden.show(to_blame(weight), tolerance=1e-4)

# %% [markdown]
# Who is to blame in the baseline, and who in a real MobileNet, which was trained on Fashion-MNIST? For each, the cell names the
# layer that suffers most, the channel, and the bits.

# %% blame
mobilenet = models.load_pretrained("mobilenet_v2_050", "fashion-mnist")
for name, model in {"ResNet": baseline, "MobileNetV2 0.5": mobilenet}.items():
    layers = rounding.weights(fold_batchnorm(model))
    worst = max(layers, key=lambda layer: to_blame(layers[layer])[1])
    channel, bits = to_blame(layers[worst])
    print(f"{name:16} {worst:20} {channel:3} {bits:.2f}")
# > ResNet           stages.0.body.1.0      7 0.27
# > MobileNetV2 0.5  features.1.body.0.0   12 4.52

# %% [markdown]
# In the baselines of both data sets no channel takes a third of a bit. In the MobileNet, channel 12 of one layer takes four
# and a half bits from its neighbours. (Trained on signs, it has no outlier.) So outliers are real, and lab 03 shows what this
# one does.

# %% [markdown]
# ## Is the zero point worth its trouble?
#
# A **symmetric** grid has no zero point: 0 has the code 0, and the codes run from $-(2^{b-1})$ to $2^{b-1}-1$. In the **narrow**
# range the lowest code is dropped, so that with each $q$ there is a $-q$. What does each of them waste?

# %% schemes
rounding.scheme_table(tensors, bits=8)

# %% [markdown]
# Weights lie evenly around 0: symmetric costs them next to nothing. After a ReLU it wastes half of the codes, one bit.
#
# In an integer layer, a zero point of the weights would cost time for every picture. That is why LiteRT, Google's runtime for
# phones and microcontrollers, asks for **symmetric weights** and allows **affine activations**.
#
# <details><summary>Why it costs time</summary>
#
# Write out the product of two affine numbers, summed up over a layer:
#
# $$\sum (q_x - z_x)(q_w - z_w) = \sum q_x q_w - z_w \sum q_x - z_x \sum q_w + n\, z_x z_w$$
#
# The second sum depends on the input, and would have to be computed each time. With $z_w = 0$ it is gone. The third one holds
# only weights: it is known beforehand.
#
# </details>

# %% [markdown]
# ## A layer that knows only integers
#
# So far we have rounded, and then computed in floats. On a device the arithmetic itself should be done in integers. Take a linear
# layer, $y = W x + b$, and write its numbers as codes:
#
# $$x = s_x (q_x - z_x) \qquad W = s_w\, q_w \qquad b = s_x s_w\, q_b$$
#
# The bias gets the scale of the products, $s_x s_w$. Then everything on the right is a sum of integers, the **accumulator**, times
# one real number:
#
# $$y = s_x s_w \Big( \underbrace{\sum (q_x - z_x)\, q_w + q_b}_{\text{accumulator}} \Big)$$

# %% [markdown]
# How wide must the accumulator be? Our classifier adds up 256 products: in the worst case $256 \cdot 255 \cdot 127$, more than
# eight million: far too much for 16 bits, and no trouble for 32. So it is an **int32**.

# %% [markdown]
# The next layer wants codes of 8 bits again, so divide by the scale of the output and round. That is called to **requantize**:
#
# $$q_y = \text{clip}\big(\text{round}(M \cdot \text{accumulator}) + z_y,\; 0,\; 255\big) \qquad M = \frac{s_x s_w}{s_y}$$
#
# $M$ is known before the model runs. It is the only real number that is left. (Even that can be an integer and a shift: Jacob et al., 2018.)

# %% [markdown]
# This is the way of the integers through the layer:
#
# ```
# q_x, uint8 ─► − z_x ─┐
#                      ├─► × ─► Σ ─► + q_b ─┐
# q_w, int8 ───────────┘          int32     │
#    ┌──────────────────────────────────────┘
#    └─► × M ─► round ─► + z_y ─► clip ─► q_y, uint8
# ```
#
# ### Exercise 5: an integer linear layer (3 points)
#
# Write it. Convert the codes to `int` (32 bits) before you subtract or multiply: in 8 bits they would overflow.


# %% integer-linear tags=["exercise"]
def integer_linear(q_x, z_x, q_weight, q_bias, multiplier, z_y):
    """Return the output codes, torch.uint8, shape (N, O).

    `q_x` is uint8 (N, I), `q_weight` int8 (O, I) with zero point 0, `q_bias` int32 (O,); `multiplier` is M, a float.
    """
    # BEGIN SOLUTION
    accumulator = (q_x.int() - z_x) @ q_weight.int().T + q_bias
    q_y = torch.round(accumulator * multiplier) + z_y
    return q_y.clamp(0, 255).to(torch.uint8)
    # END SOLUTION


# %% integer-linear-check tags=["check"] points=3
check.integer_linear(integer_linear)

# %% integer-linear-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "integer-linear")
for _ in range(6):
    q_x = torch.tensor(
        [[rng.randrange(256) for _ in range(16)] for _ in range(5)], dtype=torch.uint8
    )
    q_weight = torch.tensor(
        [[rng.randrange(-127, 128) for _ in range(16)] for _ in range(6)],
        dtype=torch.int8,
    )
    q_bias = torch.tensor(
        [rng.randrange(-40_000, 40_000) for _ in range(6)], dtype=torch.int32
    )
    multiplier = 1 / (
        2 * rng.randrange(150, 700) + 1
    )  # one over an odd number: no product is near a tie
    codes = integer_linear(
        q_x, rng.randrange(1, 256), q_weight, q_bias, multiplier, rng.randrange(30, 220)
    )
    hidden.show([codes, str(codes.dtype)])

# %% [markdown]
# Now the classifier of the baseline. ONNX Runtime has an integer kernel for it, *QGemm*, written by other people, with vector
# instructions. **Will it give the same codes as your few lines?**

# %% against-onnxruntime
weight, bias = baseline.classifier.weight.detach(), baseline.classifier.bias.detach()
s_x, z_x = choose_qparams(float(x.min()), float(x.max()), 8)
s_y, z_y = choose_qparams(
    float(seen["classifier"].min()), float(seen["classifier"].max()), 8
)
s_w = float(weight.abs().max()) / 127

q_x = quantize(x, s_x, z_x, 8)
q_weight = torch.round(weight / s_w).to(torch.int8)
q_bias = torch.round(bias / (s_x * s_w)).to(torch.int32)

mine = integer_linear(q_x, z_x, q_weight, q_bias, s_x * s_w / s_y, z_y)
theirs = rounding.onnxruntime_linear(q_x, s_x, z_x, q_weight, s_w, q_bias, s_y, z_y)
logits = dequantize(mine, s_y, z_y)
rounding.agreement_table(mine, theirs, logits, seen["classifier"])

# %% [markdown]
# Your three lines compute what an integer kernel computes.
#
# <details><summary>Is a code different here?</summary>
#
# By 1: $M \cdot \text{accumulator}$ lay so close to a tie that the last bit of a float decided. By more: look for a mistake in
# your function. (On x86 processors without VNNI the fast kernels lose part of a sum. edgelab asks for exact ones there; lab 03
# measures the difference.)
#
# </details>
#
# ## Weights only: a smaller file, and what else?
#
# Round the **weights** of the whole baseline to 8 bits, with one scale per channel, and leave the activations in floats. edgelab
# does that in three steps: `prepare` marks what is to be rounded, `calibrate` fixes every scale, `convert` rounds. `to_onnx`
# writes the result as a file with int8 weights in it.
#
# How much smaller will the file be, how much faster, and at what cost in accuracy?

# %% weight-only
example = data.normalize(dataset.test.images[:1])
prepared = prepare(baseline, QuantizationConfig(weight_bits=8, activation_bits=None))
int8_weights = convert(calibrate(prepared, images))
float_file = to_onnx(baseline, example, "models/baseline.onnx")
int8_file = to_onnx(int8_weights, example, "models/int8-weights.onnx")
for file in (float_file, int8_file):
    print(f"{file.name:18} {number(file.stat().st_size / 1024, '.0f')} KiB")

# %% compare-latency
files = (float_file, int8_file)
runs = {file.name: Runner.open(file).once(example) for file in files}
print(compare_latency(runs, max_seconds=8))
for file in files:
    print(f"{file.name:18} {dict(operators(file).most_common(4))}")

# %% [markdown]
# The file is almost four times smaller, and **nothing is faster**; it may well be slower. The operators that really run tell
# why. Both files run *float* convolutions. In one of them every inference begins by turning the weights back into floats:
# `DequantizeLinear`, once for each layer. Nor can weights that come so late be laid out beforehand as the fast convolution
# wants them. Int8 weights do not make the arithmetic int8: for that *both* sides have to be integers.
#
# Where does it pay, then? Where the weights must fit into a small flash or come over a network, and where **fetching** them is
# what costs: see the energy in the table below. The arithmetic stays that of floats; only the bytes fetched from slow memory
# become a quarter.

# %% [markdown]
# ## What the lesson claims, and what you measured
#
# **The claim:** 8 bits are enough for inference, and one scale and one zero point per tensor are all that it takes.
#
# **What you saw:** from 8 bits to 4, each bit costs 6 dB, but the range decides where you start. One outlier takes four bits
# away from a whole tensor, and a scale for each channel keeps the damage in one.
#
# Put the two files into your table.

# %% claim-table
recorded = models.manifest(dataset.name)[f"{dataset.name}/resnet"]["accuracy"]
table.add(
    "baseline in ONNX Runtime",
    baseline,
    dataset,
    accuracy=recorded,
    file=float_file,
)
accuracy = train.evaluate(int8_weights, dataset.test)
table.add(
    "int8 weights",
    int8_weights,
    dataset,
    accuracy=accuracy,
    file=int8_file,
    precision="fp32",
)
table.show(dataset)

# %% pareto
table.pareto(dataset)

# %% progress
progress_board()

# %% [markdown]
# ## Summary
#
# - $\text{real} = (q - z)\, s$. The range gives the scale; that 0 must have a code gives the zero point.
# - Round, ties to even, then saturate. The error is at most half a step, unless something saturates.
# - From 4 bits on, one bit is worth about 6 dB. One outlier can cost four bits, per tensor; per channel it costs one channel.
# - Symmetric suits weights. After a ReLU it wastes half of the codes.
# - A layer in integers: int8 products, an int32 accumulator, one multiplier, saturation. It equals what a runtime computes.
# - Weights alone in int8 make the file smaller; here they made the model no faster.
#
# <details><summary><b>If you want more</b> (not graded)</summary>
#
# 1. **A whole network.** A convolution is a linear layer on patches of the picture. So your `integer_linear` can run a network, from
#    its pixels to its answers. In a new cell:
#
#    ```python
#    from edgelab.labs.lab_02_quantization import further
#
#    further.whole_network(integer_linear, dataset)
#    ```
#
#    This trains a small network for some seconds, sends 200 pictures through your integers alone, and compares the codes with those
#    of ONNX Runtime. How many differ? Then read `_layer` in that module: where is the ReLU, and what is the border padded with?
# 2. **No float at all.** $M$ is the last real number. Write it as $M = 2^{-n} M_0$, with $M_0$ from 0.5 to 1. Then
#    $\text{round}(2^{31} M_0)$ is an integer, the **mantissa**, and $n$ is a shift (Jacob et al., 2018, section 2.2). Let
#    `fixed_point(M)` return the two, and check it with `further.multipliers(fixed_point)`. The last number in that table has a trap.
#
# </details>
#
# **Next:** [lab 03](03_ptq.ipynb) puts the activations into integers too, without any training, and measures what that buys in milliseconds.
#
# ### Further reading
#
# - W. R. Bennett. *Spectra of Quantized Signals.* Bell System Technical Journal 27 (3), 1948. Where the 6 dB come from.
# - B. Jacob et al. *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference.* CVPR 2018.
#   Scale, zero point, and the integer layer.
# - M. Nagel, M. van Baalen, T. Blankevoort, M. Welling. *Data-Free Quantization Through Weight Equalization and Bias Correction.*
#   ICCV 2019.
# - T. Dettmers, M. Lewis, Y. Belkada, L. Zettlemoyer. *LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale.*
#   NeurIPS 2022.
# - ONNX. *QuantizeLinear.* Operator specification: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html
# - ONNX Runtime. *Quantize ONNX models*: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
