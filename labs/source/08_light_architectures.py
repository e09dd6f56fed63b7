# Lab 08. What a learner takes from it: a convolution taken apart, what each machine gives for it, and a family to choose from.

# %% [markdown]
# # What does a light architecture save?
#
# So far you made a finished network cheaper. One can also **design** it cheap. The *MobileNets* were made for phones, around one
# idea: a convolution taken apart into two.
#
# 1. What does a convolution in two parts save: in multiplications, in milliseconds, on other machines?
# 2. What does it cost, in accuracy and in memory?
# 3. How do you make such a network narrower, or its picture coarser, until it fits?
#
# It takes about 60 minutes. You need the MACs of [lab 01](01_edge_budget.ipynb) and the int8 files of [lab 03](03_ptq.ipynb).

# %% imports
from torch.nn import functional as F

from edgelab import data, models, train
from edgelab.deploy import Runner
from edgelab.explore import lab_map, progress_board, reveal, table
from edgelab.labs.lab_08_light_architectures import (
    bottleneck,
    check,
    duels,
    networks,
)

dataset = data.load()
names = ("resnet", "mobilenet_v1_025", "mobilenet_v2_050")
zoo = {name: models.load_pretrained(name, dataset.name) for name in names}
pictures = data.normalize(dataset.train.images[:64])

# %% map
lab_map("08_light_architectures")

# %% [markdown]
# ## A convolution does two things at once
#
# It looks at **places**: $k \times k$ of them. And it mixes **channels**: every output channel looks at every input channel.
# Both at once cost their product:
#
# $$\text{MACs}_\text{full} = H\,W \cdot k^2 \cdot C_\text{in} \cdot C_\text{out}$$
#
# A **depthwise** convolution looks at places only: each channel has a filter of its own, and sees no other channel
# (`groups=C_in`). A **pointwise** one mixes channels only: it is $1 \times 1$. One after the other, they are called **depthwise
# separable** (Sifre, 2014; Howard et al., 2017).
#
# ### Exercise 1: the price of the pair (2 points)
#
# How many MACs do both take together, the depthwise convolution first, from $C_\text{in}$ to $C_\text{in}$ channels, then the
# pointwise one to $C_\text{out}$? And how many times fewer is that than the full convolution takes? The output is `height` by
# `width`.


# %% separable-macs tags=["exercise"]
def separable_macs(c_in, c_out, kernel, height, width):
    """Return two numbers: the MACs of the separable pair, and how many times fewer they are than the full one's."""
    # BEGIN SOLUTION
    pair = (c_in * kernel**2 + c_in * c_out) * height * width
    full = c_in * c_out * kernel**2 * height * width
    return pair, full / pair
    # END SOLUTION


# %% separable-macs-check tags=["check"] points=2
check.separable_macs(separable_macs)

# %% separable-macs-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "separable-macs")
shapes = [
    (
        rng.randrange(3, 300),
        rng.randrange(3, 300),
        rng.choice((3, 5, 7)),
        rng.randrange(5, 99),
        rng.randrange(5, 99),
    )
    for _ in range(20)
]
hidden.show([separable_macs(*shape) for shape in shapes])

# %% [markdown]
# How much is that in a network? Here are layers with as many channels behind them as before.

# %% savings
for channels in (8, 16, 64, 256, 1024):
    macs, fewer = separable_macs(channels, channels, 3, 16, 16)
    print(f"{channels:4}: {fewer:.1f}")
# >    8: 4.2
# >   16: 5.8
# >   64: 7.9
# >  256: 8.7
# > 1024: 8.9

# %% [markdown]
# With many channels the pointwise convolution is nearly all of the work, and the saving comes close to the $k^2 = 9$ places of the
# kernel. With few, the depthwise one weighs as much.
#
# ## Does the clock agree?
#
# MACs are what one counts, time is what one waits for. We put layers of both kinds into files for ONNX Runtime, in **int8**, on
# 16×16 pixels, and let them run in turns, on one core. **How many times faster is the separable layer with 16 channels, and with
# 256?** A factor below 1 means slower.

# %% predict-few
duels.predict_few()

# %% predict-many
duels.predict_many()

# %% measure-few
few = duels.race(16)
reveal("few", few.ratio, few)

# %% measure-many
many = duels.race(256)
reveal("many", many.ratio, many)

# %% [markdown]
# The formula promised 5.8 and 8.7. With few channels little is left of that, or nothing: on some machines the separable layer
# *loses*. Three things are not in the formula.
#
# - **Two layers instead of one.** Each starts a kernel, reads a tensor, and writes one.
# - **Little work for each number.** A full convolution uses a pixel once for each of $k^2 C_\text{out}$ weights, a depthwise one
#   for $k^2$ alone. The time goes into fetching and storing numbers, not into multiplying them. (Lab 01's roofline counted
#   weights. Here it is the activations.)
# - **Kernels that add up channels.** Integer instructions sum products of neighbouring channels. In a depthwise convolution there is
#   nothing to sum across channels.
#
# ### Explorer: channels × kernel × resolution × precision
#
# Both kinds were timed in 36 sizes. The dotted line is the formula: the promise. The green one is a neural processor, Arm's
# *Ethos-U55*, as Arm's compiler Vela estimates it.
#
# 1. From how many channels on does the separable layer win here in int8? And in float32?
# 2. Take 5×5. The promise grows to almost 23, of 25 at most. Which machine keeps it?
# 3. On which machine, and where, would a full convolution be the better choice?
# 4. The orange line is the RAM that the layer needs on a microcontroller. Does the separable layer ever need less?

# %% duel-explorer
duels.duel_explorer()

# %% [markdown]
# <details><summary>An answer to the last two questions</summary>
#
# On the NPU, with 3×3 kernels and 16×16 pixels: with 8 channels the separable layer takes longer than the full one, with 16
# about as long. The NPU computes many channels at a time, and a depthwise convolution leaves most of it idle. So does a
# processor with VNNI: on a Xeon, in int8, the separable layer took 1.13 times as long with 8 channels, and 1.04 times with 16.
#
# The RAM never falls. Weights lie in flash, and what lies between the two layers needs as much room as before; a second layer
# also needs a record of its own. With 8 channels and 8×8 pixels it is 1.6 times as much.
#
# </details>
#
# ## Build it
#
# ### Exercise 2: MobileNetV1's block (3 points)
#
# Write it as a function of its input `x`, `(N, C, H, W)`. `depthwise` and `pointwise` are pairs, a weight and a bias, with the batch
# norm folded in as in lab 03. A ReLU stands behind each of the two convolutions. The depthwise one takes the `stride`, and its
# padding is half of the kernel, rounded down, so that with stride 1 the picture keeps its size; its weight has the shape `(C, 1, k,
# k)`.
#
# `F.conv2d(x, weight, bias, stride, padding, groups=…)` computes either.


# %% separable tags=["exercise"]
def separable(x, depthwise, pointwise, stride):
    """Return the output of MobileNetV1's block; `depthwise` and `pointwise` are pairs (weight, bias)."""
    # BEGIN SOLUTION
    weight, bias = depthwise
    padding = weight.shape[-1] // 2
    x = F.relu(F.conv2d(x, weight, bias, stride, padding, groups=len(weight)))
    return F.relu(F.conv2d(x, *pointwise))
    # END SOLUTION


# %% separable-check tags=["check"] points=3
check.separable(separable)

# %% separable-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "separable")
generator = torch.Generator().manual_seed(rng.randrange(2**31))
for kernel, stride, channels in ((3, 1, 5), (5, 1, 3), (3, 2, 4), (5, 2, 6)):
    x = 2 * torch.randn(1, 3, 6, 6, generator=generator)
    depthwise = (
        torch.randn(3, 1, kernel, kernel, generator=generator),
        torch.randn(3, generator=generator),
    )
    pointwise = (
        torch.randn(channels, 3, 1, 1, generator=generator),
        torch.randn(channels, generator=generator),
    )
    hidden.show(separable(x, depthwise, pointwise, stride), tolerance=1e-4)

# %% [markdown]
# The trained MobileNetV1 of the course has 13 such blocks. Does your function compute what they compute?

# %% try-separable
networks.try_separable(zoo["mobilenet_v1_025"], pictures[:8], separable)
# > ✓ 13 of 13 blocks give what your function gives.

# %% [markdown]
# ## What does it cost in accuracy?
#
# The pair cannot compute all that a full convolution can: its filters are the same for every output channel, up to a factor. **How
# many points does that cost?** The paper trained MobileNetV1 on ImageNet with both: 71.7 % with full convolutions, 70.6 % with
# separable ones, at 8.6 times fewer MACs (Howard et al., 2017, table 4).
#
# Here are the course's MobileNets beside the same networks with full convolutions. V1 was trained both ways, with two or three
# seeds; it took a GPU, so its accuracies are on record.

# %% accuracy-table
networks.accuracy_table(dataset)

# %% [markdown]
# In V1 one full convolution stands for each pair, in V2 for each depthwise convolution. The saving in *parameters* is about as large
# as that in MACs.
#
# ## MobileNetV2: thin between the blocks, wide inside
#
# The pointwise convolutions now do most of the work, $C_\text{in} C_\text{out}$ for each pixel. So V2 (Sandler et al., 2018) makes the
# tensors *between* the blocks thin, and each block widens them for itself:
#
# 1. **expand**: a pointwise convolution to six times the channels, ReLU6;
# 2. filter: a **depthwise** convolution, ReLU6;
# 3. **project**: a pointwise convolution back to few channels, *without* an activation: it would throw away information of which
#    there is little;
# 4. **add** the input, if the output has its shape.
#
# In large ResNets a residual block is wide between and thin inside. Hence the name: **inverted residual**.
#
# ### Exercise 3: an inverted residual (3 points)
#
# Again a function, and `expand`, `depthwise` and `project` are pairs (weight, bias). `F.relu6` clips at 0 and at 6.


# %% inverted-residual tags=["exercise"]
def inverted_residual(x, expand, depthwise, project, stride):
    """Return the output of MobileNetV2's block; each of the three convolutions is a pair (weight, bias)."""
    # BEGIN SOLUTION
    weight, bias = depthwise
    padding = weight.shape[-1] // 2
    y = F.relu6(F.conv2d(x, *expand))
    y = F.relu6(F.conv2d(y, weight, bias, stride, padding, groups=len(weight)))
    y = F.conv2d(y, *project)
    return x + y if y.shape == x.shape else y
    # END SOLUTION


# %% inverted-residual-check tags=["check"] points=3
check.inverted_residual(inverted_residual)

# %% inverted-residual-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "inverted-residual")
generator = torch.Generator().manual_seed(rng.randrange(2**31))


def layer(*shape):
    return torch.randn(shape, generator=generator), torch.randn(
        shape[0], generator=generator
    )


for kernel, stride, channels in ((3, 1, 4), (5, 1, 4), (3, 2, 4), (3, 1, 6), (5, 2, 3)):
    x = 2 * torch.randn(1, 4, 6, 6, generator=generator)
    three = layer(8, 4, 1, 1), layer(8, 1, kernel, kernel), layer(channels, 8, 1, 1)
    hidden.show(inverted_residual(x, *three, stride), tolerance=1e-4)

# %% try-inverted
networks.try_inverted(zoo["mobilenet_v2_050"], pictures[:8], inverted_residual)
# > ✓ 16 of 16 blocks give what your function gives.

# %% [markdown]
# (V2 has 17 blocks; the first one does not expand.)
#
# Few MACs, few weights. And the memory of a microcontroller? There, int8 activations live in one block of RAM, the **arena**. **Which
# of these networks needs the largest one?**

# %% memory-table
networks.memory_table(zoo, dataset)

# %% [markdown]
# **Fewer MACs, more RAM.** V2 has a sixth to a seventh of the baseline's MACs and little more than half of its weights, and asks
# for *more* memory: where the picture is still large, it widens a tensor to six times its channels, and both are alive at once. On
# the signs, on a device with 256 KiB, that decides. (The arena also holds the interpreter's notes, eight bytes for each channel of
# a layer among them.)
#
# ## MobileNetV4: one block, two switches
#
# V3 (2019) added *squeeze-and-excitation*, which weighs each channel, and cheaper activations; a computer searched for the best
# arrangement. V4 (Qin et al., 2024) asked what runs well on *all* kinds of machines, and found one block with two switches: a
# depthwise convolution **before** the expansion, one **behind** it, both, or neither.
#
# The explorer has all settings, timed here on 64 channels. If time followed MACs, the points would lie on a line.
#
# 1. Which switch sees as much of the picture for less time? Why? (Where are the channels few?)
# 2. Which of the four kinds does most MACs in a nanosecond, in int8?

# %% bottleneck-explorer
bottleneck.bottleneck_explorer()

# %% [markdown]
# <details><summary>Answers</summary>
#
# 1. The start: before the expansion there are 64 channels to filter, behind it up to 384.
# 2. Those without a depthwise convolution, or with one at the start: pointwise convolutions are products of matrices, for which every
#    machine is built.
#
# </details>
#
# ## Two dials: width and resolution
#
# A family needs sizes. The **width multiplier** $\alpha$ scales the channels of all layers, the **resolution multiplier** $\rho$ the
# picture. MACs fall with nearly $\alpha^2$, and with $\rho^2$.
#
# But $0.35 \times 32$ channels are 11.2, and kernels like multiples of 8, as you saw in lab 06.
#
# ### Exercise 4: channels that kernels like (2 points)
#
# Round `channels` to the **nearest** multiple of `divisor`; of two that are as near, take the upper one. There is at least one
# `divisor`. And if more than a tenth of the channels would be lost, that is, if less than `0.9 * channels` is left, add one `divisor`.


# %% make-divisible tags=["exercise"]
def make_divisible(channels, divisor):
    """Return `channels` as a multiple of `divisor`: the nearest one that keeps nine tenths of them."""
    # BEGIN SOLUTION
    rounded = max(divisor, int((channels + divisor / 2) // divisor) * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
    # END SOLUTION


# %% make-divisible-check tags=["check"] points=2
check.make_divisible(make_divisible)

# %% make-divisible-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "make-divisible")
wanted = [(rng.uniform(1, 99), rng.choice((4, 8, 16))) for _ in range(30)]
ties = [(16 * rng.randrange(3, 20) + 4, 8) for _ in range(6)]
hidden.show([make_divisible(*both) for both in wanted + ties])

# %% [markdown]
# MobileNetV1's widths, by your function:

# %% widths
for width in (0.25, 0.35, 0.5, 0.75):
    wanted = (32, 64, 128, 256, 512, 1024)
    print(width, *(make_divisible(channels * width, 8) for channels in wanted))
# > 0.25 8 16 32 64 128 256
# > 0.35 16 24 48 88 176 360
# > 0.5 16 32 64 128 256 512
# > 0.75 24 48 96 192 384 768

# %% [markdown]
# Which dial should one turn? Below are three widths at three resolutions. The title says what half of each saves. **Is it the same dial
# on every machine?**

# %% pareto-explorer
networks.pareto_explorer(dataset)

# %% [markdown]
# On this computer both dials save. On the NPU the resolution saves hardly any time: Vela has the weights come out of flash, and all of
# them come for a small picture, too. There the width is the dial. The resolution does shrink the activations, and RAM with them.
#
# ## One table, three machines
#
# Now three networks of the course. **If time followed MACs, each of the two columns of MACs per time would hold one number.**

# %% machine-table
networks.machine_table(zoo, pictures, dataset)

# %% [markdown]
# With signs and with clothes the NPU does 80 to 90 of the baseline's MACs in a cycle, of 128 that it could, and only some 20 of
# MobileNetV2's. For two reasons: depthwise layers leave much of it idle, and the weights come out of flash. V2 has more than half
# as many as the baseline, and uses each for a quarter of the MACs. So with less than a sixth of the MACs it takes more than half
# of the time. (Vela's figures are the compiler's estimate.) How much of the saving arrives, only the machine knows.
#
# ## What the lesson claims, and what you measured
#
# **The claim:** depthwise separable convolutions need drastically fewer multiply-adds at similar accuracy.
#
# **What you saw:** true, for multiply-adds; in accuracy, one point or two at a quarter of the width. Time follows from afar: well
# with many channels, badly with few, and each machine in its own way. Memory may even grow.
#
# One row comes into your table: MobileNetV2 in int8. Its accuracy is that on the first 3 000 test pictures, where there are more.

# %% claim-table
mobilenet_file = "models/mobilenet_v2_050-int8.onnx"
runner = Runner.open(mobilenet_file, threads=2)
judged = dataset.test[:3000]
written = {"accuracy": train.evaluate(runner, judged), "pictures": len(judged)}
written |= {"file": mobilenet_file, "precision": "int8"}
table.add("MobileNetV2 int8", zoo["mobilenet_v2_050"], dataset, **written)
table.show(dataset)

# %% pareto
table.pareto(dataset)

# %% progress
progress_board()

# %% [markdown]
# ## Summary
#
# - Depthwise looks at places, pointwise mixes channels. The pair takes up to $k^2$ times fewer MACs than a full convolution.
# - The clock gives back less than the formula promises: two kernels, little work for each number, nothing to sum across channels.
# - An inverted residual is thin between and wide inside: few MACs, much RAM.
# - Width and resolution are two dials on the same network. Which one is better depends on the machine and on the limit.
# - MACs are for paper. Measure on the machine that will run it.
#
# **Next:** you have all the techniques now: fewer bits, fewer weights, a teacher, a lighter design. [Lab 09](09_deployment.ipynb) takes
# one model to the runtimes of phones and of microcontrollers.
#
# ### Further reading
#
# - A. Howard et al. *MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications.* arXiv:1704.04861, 2017.
# - M. Sandler et al. *MobileNetV2: Inverted Residuals and Linear Bottlenecks.* CVPR 2018.
# - A. Howard et al. *Searching for MobileNetV3.* ICCV 2019. J. Hu et al. *Squeeze-and-Excitation Networks.* CVPR 2018.
# - D. Qin et al. *MobileNetV4: Universal Models for the Mobile Ecosystem.* ECCV 2024.
# - L. Sifre. *Rigid-Motion Scattering for Image Classification.* PhD thesis, École Polytechnique, 2014. Where separable convolutions
#   come from.
# - J. Lin et al. *MCUNet: Tiny Deep Learning on IoT Devices.* NeurIPS 2020.
