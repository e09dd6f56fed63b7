# Lab 01. What a learner takes from it: four limits, what each of them asks of a model, and the habit of doing the sums.

# %% [markdown]
# # What can an edge device afford?
#
# A phone, a watch and a road-side camera have something in common: nobody can put a server inside them. A model that runs
# there lives under four limits.
#
# | limit | why it hurts |
# | --- | --- |
# | **memory** | a microcontroller has a megabyte or so of flash, for the weights, and a few hundred KB of RAM, for activations |
# | **latency** | a vehicle at 50 km/h moves 14 m in a second: it cannot wait |
# | **energy** | a battery holds what it holds, and every operation and every byte moved takes some of it |
# | **bandwidth** | sending pictures away costs time, energy and privacy |
#
# **Which of them does our baseline break, and on which device?** (We count memory twice, as flash and as RAM. Bandwidth comes
# last, when we ask whether to send the picture away.) In this lab you will write the sums that answer that, and check each of
# them against the real model.
#
# It takes about 60 minutes. You need the baseline and the words *MAC*, *p50* and *p95* of [lab 00](00_start.ipynb).

# %% imports
import math

from edgelab import data, models, train
from edgelab.explore import lab_map, number, progress_board, reveal, table
from edgelab.labs.lab_01_edge_budget import check, explorers
from edgelab.measure import count_macs, count_params, layer_costs, peak_activations

dataset = data.load()
baseline = models.load_pretrained("resnet", dataset.name)
image = data.normalize(dataset.test.images[:1])

# %% map
lab_map("01_edge_budget")

# %% [markdown]
# Here are the devices that we shall ask. Every figure has a source: hover over it, or look at `device.sources`. What follows
# from a datasheet by arithmetic, such as multiply-accumulates per second, is an upper bound. Real programs stay below it.

# %% devices
explorers.device_table()

# %% [markdown]
# ## Memory, part one: the weights
#
# The weights of a model lie in flash and do not change. How many bytes are they?
#
# ### Exercise 1: from parameters to bytes (2 points)
#
# A model has $n$ parameters of $b$ bits each. Bits are packed without gaps, and a file has a whole number of bytes:
#
# $$\text{bytes} = \left\lceil \frac{n\,b}{8} \right\rceil$$


# %% weight-bytes tags=["exercise"]
def weight_bytes(params, bits):
    """Return the bytes, a whole number, that `params` parameters of `bits` bits each take."""
    # BEGIN SOLUTION
    return math.ceil(params * bits / 8)
    # END SOLUTION


# %% weight-bytes-check tags=["check"] points=2
check.weight_bytes(weight_bytes)

# %% weight-bytes-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "weight-bytes")
hidden.show(
    [
        weight_bytes(rng.randrange(1, 10**8), rng.choice((1, 2, 3, 4, 8, 16, 32)))
        for _ in range(40)
    ]
)

# %% [markdown]
# How large is the baseline in 32-bit floats, and how large would it be in 8-bit and in 4-bit integers?

# %% baseline-bytes
for bits in (32, 8, 4):
    kib = weight_bytes(count_params(baseline), bits) / 1024
    print(f"{bits:2} bits: {number(kib, '.1f'):>7} KiB")
# > 32 bits: 4 801.3 KiB
# >  8 bits: 1 200.3 KiB
# >  4 bits:   600.2 KiB

# %% [markdown]
# Look back at the flash column of the table. In floats the baseline does not fit into three of the four microcontrollers. In
# 8 bits it is still too large for the smallest one, by a little. Keep this in mind: *a quarter of the size* is much, and may
# not be enough.

# %% [markdown]
# ## Arithmetic: multiply-accumulates
#
# What a layer puts out is called its **activation**. After a convolution it is a stack of **feature maps**: one picture of
# numbers, $H \times W$, for each output channel.
#
# A convolution with a $k \times k$ kernel computes each of these numbers as a sum of $k^2$ products for every input channel
# that it looks at. It looks at all $C_\text{in}$ of them, or, when the channels are split into $g$ groups, at $C_\text{in}/g$.
#
# ### Exercise 2: the MACs of a convolution (2 points)
#
# There are $C_\text{out} \times H \times W$ outputs, so
#
# $$\text{MACs} = C_\text{out}\, H\, W \cdot \frac{C_\text{in}}{g}\, k^2$$
#
# where $H \times W$ is the size of the **output**. We do not count the addition of a bias. It is one operation beside
# $C_\text{in}k^2/g$ of them: beside 9 or 27 in the baseline's first layer, beside 64 and more in all others.


# %% conv-macs tags=["exercise"]
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    """Return the MACs of a convolution whose output is `height` by `width`."""
    # BEGIN SOLUTION
    return c_out * height * width * (c_in // groups) * kernel**2
    # END SOLUTION


# %% conv-macs-check tags=["check"] points=2
check.conv_macs(conv_macs)

# %% conv-macs-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "conv-macs")
shapes = [
    (
        rng.randrange(3, 99),
        rng.randrange(3, 99),
        rng.choice((1, 3, 5)),
        rng.randrange(5, 99),
        rng.randrange(5, 99),
    )
    for _ in range(10)
]
hidden.show(
    [conv_macs(*shape) for shape in shapes],
    [
        conv_macs(8 * c_in, 8 * c_out, *rest, groups)
        for c_in, c_out, *rest in shapes
        for groups in (2, 4, 8)
    ],
)

# %% [markdown]
# Does your formula agree with the real model? The next cell asks every convolution of the baseline for its shape, applies
# your function, and compares the total with what edgelab counts while the model runs.

# %% conv-macs-baseline
total = 0
for layer in layer_costs(baseline, image):
    if layer.kind == "Conv2d":
        conv = baseline.get_submodule(layer.name)
        _, c_out, height, width = layer.out_shape
        total += conv_macs(
            conv.in_channels, c_out, conv.kernel_size[0], height, width, conv.groups
        )

classifier = baseline.classifier.in_features * baseline.classifier.out_features
print(number(total + classifier), "=", number(count_macs(baseline, image)), "MAC")

# %% [markdown]
# Here is the network that you will work with in the whole course, layer by layer.

# %% layers
explorers.layer_table(baseline, image)

# %% [markdown]
# ## Memory, part two: what is alive
#
# Weights are not all. While the model runs, each layer reads an input and writes an output, and both lie in RAM. A
# tensor can be forgotten after its last reader. What counts is the **peak**: the largest sum of tensors alive at once.
#
# A residual block makes this interesting: `body.0`, then `body.1`, then the block's **input** is added. (Where a block halves
# the picture, a `shortcut` shrinks that input first.) So the input must stay alive while both convolutions run.
#
# Batch norm and ReLU write over their input (*in place*), as in most runtimes: they need no tensor of their own (`fused=True`
# below). With the table above and a pencil: **how many KiB of activations does the baseline need at its peak?**

# %% predict-peak
explorers.predict_peak()

# %% measure-peak
peak = peak_activations(baseline, image, fused=True)
reveal("peak", peak.bytes / 1024, peak.layer)

# %% [markdown]
# With road signs the first block works on 64 channels of 32×32 numbers of 4 bytes: 256 KiB for each tensor. (On Fashion-MNIST it is
# 28×28, and 196 KiB.) Three of them are alive when the second convolution writes its output: the block's input, the convolution's input, and the output. Most of the *weights*, on
# the other hand, lie in the last stage, where the feature maps are small.

# %% [markdown]
# The explorer below shows the bytes alive at every step. Before you touch it, answer in your head: MobileNetV2 at half width
# has little more than half of the baseline's weights. **Does it also need less RAM?**

# %% memory-explorer
explorers.memory_explorer()

# %% [markdown]
# Set *model* to MobileNetV2 and *width* to 0.5.

# %% smallest-file
wide, narrow = models.resnet(), models.mobilenet_v2(0.5)
for name, model in {"ResNet": wide, "MobileNetV2 0.5": narrow}.items():
    example = data.normalize(data.load("signs").test.images[:1])
    weights = weight_bytes(count_params(model), 32)
    alive = peak_activations(model, example, fused=True).bytes
    print(f"{name:16} {number(weights / 1024, '.0f')} KiB, {alive / 1024:.0f} KiB")
# > ResNet           4 801 KiB, 768 KiB
# > MobileNetV2 0.5  2 766 KiB, 832 KiB

# %% [markdown]
# Weights on the left, the peak of activations on the right. **The smaller file does not have the smaller peak.** MobileNetV2
# first *expands* each tensor to six times its channels and only then filters it, and it does so where the feature maps are
# still large. Few weights, many activations. On a microcontroller the activations are often what does not fit, and people have
# built networks around that (MCUNet; Lin et al., 2020).

# %% [markdown]
# ## Energy
#
# Every operation moves charge. Mark Horowitz published how much, for a chip made in a 45 nm process (ISSCC 2014, figure
# 1.1.9):
#
# | operation | energy (pJ) |
# | --- | --- |
# | 8-bit integer: add / multiply | 0.03 / 0.2 |
# | 32-bit integer: add / multiply | 0.1 / 3.1 |
# | 32-bit float: add / multiply | 0.9 / 3.7 |
# | read 64 bits from an 8 KiB cache | 10 |
# | read 64 bits from DRAM | 1 300 to 2 600 |
#
# A picojoule is $10^{-12}$ J. Newer chips need less for the arithmetic. Two proportions of this table are worth knowing by
# heart: a float multiplication costs **18 times** an 8-bit one, and a number fetched from DRAM costs **hundreds of times**
# what it costs to compute with it.
#
# ### Exercise 3: joules per inference (2 points)
#
# Write the estimate: $\text{MACs}$ times the energy of one MAC, plus the bytes moved from memory times the energy of one
# byte. The energies are given in picojoules; return joules.


# %% inference-energy tags=["exercise"]
def inference_energy(macs, bytes_moved, pj_per_mac, pj_per_byte):
    """Return the energy of one inference in joules."""
    # BEGIN SOLUTION
    return (macs * pj_per_mac + bytes_moved * pj_per_byte) * 1e-12
    # END SOLUTION


# %% inference-energy-check tags=["check"] points=2
check.inference_energy(inference_energy)

# %% inference-energy-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "inference-energy")
hidden.show(
    [
        inference_energy(
            rng.uniform(1e5, 1e9),
            rng.uniform(1e3, 1e8),
            rng.uniform(0.1, 9),
            rng.uniform(50, 300),
        )
        for _ in range(20)
    ]
)

# %% [markdown]
# One float MAC is a multiplication and an addition: $3.7 + 0.9 = 4.6$ pJ. An int8 MAC multiplies 8-bit numbers and adds to a
# 32-bit sum: $0.2 + 0.1 = 0.3$ pJ. We take 1 300 pJ for 64 bits of DRAM, the lower end of Horowitz's
# range, and let every weight be fetched once.

# %% energy-baseline
macs, params = count_macs(baseline, image), count_params(baseline)
dram = 1300 / 8  # pJ per byte
for name, bits, pj_per_mac in (("float32", 32, 4.6), ("int8", 8, 0.3)):
    moved = weight_bytes(params, bits)
    sums, memory = (
        1e3 * inference_energy(macs, 0, pj_per_mac, dram),
        1e3 * inference_energy(0, moved, pj_per_mac, dram),
    )
    print(f"{name:7}  {sums:.3f} + {memory:.3f} = {sums + memory:.3f} mJ")
# > float32  0.896 + 0.799 = 1.695 mJ
# > int8     0.058 + 0.200 = 0.258 mJ

# %% [markdown]
# Arithmetic plus memory. On paper int8 costs a small fraction of float32. But the table leaves out the instructions around the
# arithmetic, and an idle chip also draws power. That is why it is called an *estimate*, here and wherever it appears in your
# table.
#
# How far is it from a real device? One way to see: take the **power** that a device draws while it computes, and multiply it
# by the time that it takes. That counts more than the arithmetic: for a microcontroller the whole chip, for a Raspberry Pi the
# whole board. So do the tables of devices below. The column of your own table stays the estimate.

# %% [markdown]
# ## All limits at once
#
# The explorer puts a model on a device and asks for four limits at once: flash, RAM, latency and energy. A bar beyond the line
# goes over its limit.
#
# Latency is the larger of two times: the time for the arithmetic, and the time to bring the weights from where they lie (the
# *roofline* of Williams et al., 2009). So it is a bound: a real program takes longer. Energy is the device's power, for that
# long.
#
# Try to answer:
#
# 1. Which limits does the baseline (ResNet, width 1, 32 px, fp32) exceed on the smallest device, and which one by most?
# 2. Now choose the ESP32-S3. Is there a width at which it fits? What if the numbers are int8?
# 3. Double the resolution. Which limits move, and which one does not?

# %% budget-explorer
explorers.budget_explorer()

# %% [markdown]
# Here is the baseline on every device at once, with 33 ms for a picture of 32×32 pixels and 5 mJ of energy.

# %% verdicts
explorers.verdict_table(deadline_ms=33, energy_mj=5)

# %% [markdown]
# <details><summary>Answers to the three questions</summary>
#
# 1. On the Arduino all four: flash, RAM, latency and energy. Latency by most, more than a hundredfold.
# 2. In fp32 there is none: at 0.25 the energy alone is too high, 7.9 of 5 mJ. In int8 width 1 exceeds the energy alone, and 0.5
#    fits.
# 3. RAM grows fourfold, as the pixels do, and so do latency and energy where the arithmetic takes longest. On the ESP32-S3 in
#    int8 fetching the weights takes longest: from 16 to 32 px its latency does not move. Flash stays, because the number of
#    weights does not depend on the picture.
#
# </details>
#
# And the estimate? For the arithmetic and the memory alone a picture of that size takes less than 2 mJ. The Arduino would take
# at least 60.2 mJ: more than thirty times as much, for a whole chip that is switched on for six seconds or more.

# %% [markdown]
# ## Or send it away?
#
# Why not send the picture to a server, and let that do the work? Because a radio needs energy too, for every bit.
#
# ### Exercise 4: edge or cloud (2 points)
#
# Sending costs $8\,B \cdot e$ joules, for a picture of $B$ bytes and a radio that takes $e$ joules per bit. The answer comes back
# in a few bytes; leave it out. Which is cheaper **for the device's battery**? Return `"edge"` if computing takes less energy than
# sending, else `"cloud"`, **and** the energy of the cheaper one, in joules.


# %% edge-or-cloud tags=["exercise"]
def edge_or_cloud(compute_joules, image_bytes, joules_per_bit):
    """Return ("edge" or "cloud", joules): where one picture costs the device less, and how much."""
    # BEGIN SOLUTION
    sending = 8 * image_bytes * joules_per_bit
    return ("edge", compute_joules) if compute_joules < sending else ("cloud", sending)
    # END SOLUTION


# %% edge-or-cloud-check tags=["check"] points=2
check.edge_or_cloud(edge_or_cloud)

# %% edge-or-cloud-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "edge-or-cloud")
radios = [(rng.uniform(1_000, 50_000), rng.uniform(1e-9, 1e-6)) for _ in range(30)]
hidden.show(
    [
        edge_or_cloud(8 * size * bit * rng.uniform(0.1, 3), size, bit)
        for size, bit in radios
    ]
)

# %% [markdown]
# ### Exercise 5: who begins to compute for itself? (2 points)
#
# A model that becomes cheaper may change the answer. For every device you get a tuple: its name, the joules for one inference
# **before** the model is made smaller, the joules **after**, and the joules to **send** the picture.
#
# Return the list of the names whose answer changes from cloud to edge, in their order.


# %% moved-home tags=["exercise"]
def moved_home(devices):
    """Return the names of the devices (name, before, after, sending) that begin to compute for themselves."""
    # BEGIN SOLUTION
    return [
        name for name, before, after, sending in devices if after < sending <= before
    ]
    # END SOLUTION


# %% moved-home-check tags=["check"] points=2
check.moved_home(moved_home)

# %% moved-home-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "moved-home")
for _ in range(12):
    names = [f"device {number}" for number in range(8)]
    joules = [[rng.uniform(0.001, 0.1) for _ in range(3)] for _ in names]
    hidden.show(
        moved_home([(name, *three) for name, three in zip(names, joules, strict=True)])
    )

# %% [markdown]
# Now the real devices. Six of the eight have a radio on board. **On which of them does int8 change the answer from cloud to
# edge?** Decide before you run the cell. To send our picture takes 0.85 mJ by Bluetooth, 10.2 mJ by Wi-Fi and 16.0 mJ by LTE;
# the speed and the power of each device are in the first table.

# %% who-moves
costs = explorers.radio_joules()
moved_home([(name, *joules) for name, joules in costs.items()])

# %% radios
explorers.radio_table(edge_or_cloud)

# %% [markdown]
# Making a model smaller moves work from the cloud to the edge: on the ESP32-S3 and on the Raspberry Pi 5. Elsewhere it does
# not, for three reasons. Bluetooth over a short way is so cheap that the Arduino had better send. The Raspberry Pi Zero 2 W
# and 4 have no instruction that sums products of 8 bits in 32: int8 halves their energy, and that is not enough. And the phone
# computes for itself in float32 already. All this is for a slow line of 1 Mbit/s behind the access point. From 1.4 Mbit/s on
# the ESP32-S3 had better send; the Raspberry Pi 5 stays at the edge.
#
# Now look at the last column. There the arithmetic goes as fast as a published benchmark really did on that kind of device (on
# the ESP32-S3, on one of its two cores), and not as fast as its datasheet allows. (A dash: we know of none for that device.)
# **On the ESP32-S3 the answer turns round again.** A bound tells what is impossible. What is possible has to be measured.
#
# The table leaves out that a radio must wake up, and stays awake for a while after it has sent. That tail has been measured on
# a phone, at about 40 mJ for Wi-Fi, four times what the bits of our picture cost, and at more than 12 J for LTE (Huang et al.,
# 2012). For a single picture by Wi-Fi it changes the list: now int8 brings the Raspberry Pi 4 to the edge, and the Pi 5 has
# always been there.

# %% [markdown]
# ## What the lesson claims, and what you measured
#
# **The claim:** energy, latency, memory and bandwidth make the edge hard.
#
# **What you saw:** which of them decides depends on the device *and* on the model. Weights, activations and arithmetic are three
# different budgets, and a model can be small in one and large in another.
#
# Add a second model to your table, to see that: MobileNetV2 at half width. Two columns are new, the peak of activations and the
# estimated energy. In the plot below, choose what the accuracy is set *against*: **who is on the front depends on it.**

# %% claim-table
mobilenet = models.load_pretrained("mobilenet_v2_050", dataset.name)
accuracy = train.evaluate(mobilenet, dataset.test)
table.add("MobileNetV2 0.5", mobilenet, dataset, accuracy=accuracy)
table.show(dataset)

# %% pareto
table.pareto(dataset)

# %% progress
progress_board()

# %% [markdown]
# ## Summary
#
# - Weights lie in flash: $n\,b/8$ bytes. Activations lie in RAM: what counts is the peak of what is alive at once.
# - MACs count arithmetic: $C_\text{out} H W \cdot C_\text{in} k^2 / g$ for a convolution.
# - Fetching a number costs far more energy than computing with it.
# - Sending a picture costs energy as well. Edge or cloud is a sum, not a belief.
#
# **Next:** [lab 02](02_quantization.ipynb) asks what happens to the numbers themselves when 32 bits become 8.
#
# ### Further reading
#
# - M. Horowitz. *Computing's Energy Problem (and What We Can Do About It).* ISSCC 2014.
# - J. Lin et al. *MCUNet: Tiny Deep Learning on IoT Devices.* NeurIPS 2020.
# - S. Williams, A. Waterman, D. Patterson. *Roofline: An Insightful Visual Performance Model.* Communications of
#   the ACM, vol. 52, no. 4, 2009.
# - J. Huang et al. *A Close Examination of Performance and Power Characteristics of 4G LTE Networks.* MobiSys 2012. Where the
#   joules of Wi-Fi and LTE come from.
# - C. Banbury et al. *MLPerf Tiny Benchmark.* NeurIPS Datasets and Benchmarks 2021.
