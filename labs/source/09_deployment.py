# Lab 09. What a learner takes from it: one model in four runtimes, how to tell whether it still is one model, and what it takes.

# %% [markdown]
# # The same model, four times?
#
# A trained model is a file on your disk. It is of use when something *runs* it: a program on a phone, on a camera, in the firmware
# of a sensor. Such a program is called a **runtime**, and each has its own file format and its own arithmetic.
#
# | runtime | at home on | its file |
# | --- | --- | --- |
# | **ONNX Runtime** | servers, PCs, phones | `.onnx` |
# | **LiteRT** (TensorFlow Lite until 2024) | phones, small computers with Linux | `.tflite` |
# | **TensorFlow Lite Micro** | microcontrollers, without an operating system | the same, as an array in C |
# | an **NPU**, a processor for networks (Ethos-U) | newer microcontrollers | the same, compiled once more |
#
# **Which one, how, and is it still the same model?** We take the course's smallest network through three, and ask the fourth
# one's compiler.
#
# It takes about 80 minutes; break before *int8 at the door*. You need the int8 files of [lab 03](03_ptq.ipynb), and the peak of
# activations of [lab 01](01_edge_budget.ipynb).

# %% imports
import numpy as np
import torch

from edgelab import data, models, train
from edgelab.deploy import Runner, to_litert, to_onnx
from edgelab.explore import lab_map, progress_board, reveal, table
from edgelab.labs.lab_09_deployment import (
    check,
    cortex,
    doors,
    graphs,
    layers,
    memory,
    runtimes,
    threads,
)

dataset = data.load()
student = models.load_pretrained("resnet_tiny", dataset.name)
baseline = models.load_pretrained("resnet", dataset.name)
image = data.normalize(dataset.test.images[:1])
pictures = data.normalize(dataset.train.images[:64])  # to calibrate on
tests = data.normalize(dataset.test.images[:200])

# %% map
lab_map("09_deployment")

# %% [markdown]
# ## Two files, and a proof
#
# An export is a translation, and translations have faults. Of 200 failures of ONNX converters that were studied, a third gave a
# model that runs and answers wrongly (Jajal et al., 2024). So run both, and compare: equal answers are called **parity**.
#
# ### Exercise 1: export and compare (3 points)
#
# `codes` is an int8 model, as `convert` of lab 03 gives it, and `model` is the one in floats that it was made from. Write `codes`
# to `model.onnx` and to `model.tflite` in `folder`, by `to_onnx` and `to_litert`. They take a model, an example of **one** image,
# and a path. `Runner.open(path)` is then a function from images to logits, whatever the file.
#
# For both files, compare its logits on `images` with those of `model`: the **largest** absolute difference, and the share of images,
# from 0 to 1, that get the same class.


# %% export-and-compare tags=["exercise"]
def export_and_compare(codes, model, images, folder):
    """Write both files; return {"onnx": (largest, share), "tflite": (largest, share)}."""
    # BEGIN SOLUTION
    found = {}
    with torch.no_grad():
        expected = model(images)
    for kind, write in {"onnx": to_onnx, "tflite": to_litert}.items():
        got = Runner.open(write(codes, images[:1], f"{folder}/model.{kind}"))(images)
        same = (got.argmax(1) == expected.argmax(1)).float().mean()
        found[kind] = float((got - expected).abs().max()), float(same)
    return found
    # END SOLUTION


# %% export-and-compare-check tags=["check"] points=3
check.export_and_compare(export_and_compare)

# %% export-and-compare-hidden tags=["hidden"]
from pathlib import Path
from tempfile import mkdtemp

from edgelab.course import hidden
from edgelab.deploy import Runner
from edgelab.labs.lab_09_deployment.trial import small_network

rng = hidden.rng(SEED, "export-and-compare")
codes, model, images = small_network(rng.randrange(2**31))
place = mkdtemp()
hidden.show(export_and_compare(codes, model, images, place), tolerance=1e-3)
for kind in ("onnx", "tflite"):
    hidden.show(Runner.open(Path(place, f"model.{kind}"))(images), tolerance=1e-3)

# %% [markdown]
# Now `resnet_tiny`, with a sixtieth of the baseline's weights. (This lab calls it the *student*, though nobody taught it.) Both
# networks are written in both precisions, for both runtimes: eight files.

# %% write
both_networks = {"student": student, "baseline": baseline}
deployed = runtimes.write_zoo(both_networks, pictures)

# %% prove
proof = export_and_compare(deployed["student"].codes, student, tests, "models")
for which, (apart, alike) in proof.items():
    print(f"{which:6} {apart:.2f}, {100 * alike:.1f} %")

# %% [markdown]
# The logits moved; of signs and clothes hardly one changed its class: that is the price of int8 (lab 03). Both files cost nearly
# the same: they hold the same codes and scales.
#
# ## What the runtime makes of your file
#
# A file says *what* to compute. *How* is up to the runtime. When ONNX Runtime opens a file, it rewrites the graph: operators that
# follow one another become one kernel (**fusion**), so that numbers between them never go to memory. There are three levels of that,
# *basic*, *extended* and *all*.
#
# In an int8 file each layer stands between a `DequantizeLinear` and a `QuantizeLinear`: it is float arithmetic on rounded numbers.
# Integers come about by fusion alone.
#
# 1. Choose int8 and *none*. Which operators compute in integers? And in *basic*, *extended*?
# 2. Where did the `Relu` go? And the `Add` of the residual blocks? What about float32?
# 3. Is int8 without optimisation faster than float32 with it?

# %% graph-explorer
onnx_files = {
    precision: deployed["student"].files["onnxruntime", precision]
    for precision in ("fp32", "int8")
}
graphs.graph_explorer(onnx_files, image)

# %% [markdown]
# <details><summary>Answers</summary>
#
# 1. With *none* and *basic* no layer does: the file is a float model that rounds a great deal. With *extended* `QLinearConv` appears.
# 2. A ReLU cuts off at 0. Where the zero point is the lowest code, saturation does that for nothing. The `Add` became a
#    `QLinearAdd`. In float32 the convolution takes in the ReLU, and on x86 processors the `Add` as well.
# 3. The title says. Without fusion int8 pays for its roundings and gets nothing for them.
#
# </details>
#
# ## Two threads
#
# Where a device has several cores, a runtime can share each layer among several **threads**. The student in int8 takes a
# fraction of a millisecond on one. **How many times faster is it on two?** Below 1 means slower.

# %% predict-threads
threads.predict_threads()

# %% measure-threads
thread_race = threads.race_threads(onnx_files["int8"], image)
reveal("threads", thread_race.ratio, thread_race)

# %% [markdown]
# Twice, in the ideal. But a layer is done only when its slowest thread is, and waking a thread and waiting for it takes
# microseconds. (What is very little, ONNX Runtime leaves on one thread: a factor near 1.) **From how much work on do two threads
# pay here?** Does it matter whether the numbers are int8?

# %% thread-explorer
threads.thread_explorer()

# %% [markdown]
# On signs the student's largest layers have about half a million MACs, the baseline's 64 times as many. The next explorer has both, in every
# runtime of this computer. The mark is one thread.
#
# 1. For which of the two do threads pay, and in which runtime?
# 2. Which runtime is the fastest for the student, which one for the baseline?
# 3. Does int8 pay in each runtime?

# %% runtime-explorer
timed = {
    name: runtimes.time_all(one, image, micro=name == "student")
    for name, one in deployed.items()
}
runtimes.runtime_explorer(timed)

# %% [markdown]
# Micro's time says nothing about a microcontroller: here run its portable kernels, plain loops.
#
# ## One file, two kernels
#
# LiteRT has two sets of kernels for the same file: those of *XNNPACK*, fast ones written for each kind of processor, and the
# **reference kernels**, plain loops that say what is meant. Micro's are made after these.
#
# All weights and activations are integers, and sums of integers are exact in any order. We show 200 pictures to both. **How many
# per cent of the logits are the same code?**

# %% predict-kernels
layers.predict_kernels()

# %% measure-kernels
litert_file = deployed["student"].files["litert", "int8"]
both_kernels = layers.two_kernels(litert_file, tests)
reveal("kernels", 100 * both_kernels.same_codes, both_kernels)

# %% [markdown]
# The same file, the same picture, integers, and other answers. Who is wrong? If a model misbehaves on a device, there are three
# suspects: the **quantizer** (which chose the codes), the **converter** (which wrote the file), and the **kernel** (which runs it).
#
# The way to tell is to change as little as possible at a time. (A converter can't be tried without a kernel.)

# %% suspects
suspects = layers.suspects(
    student, deployed["student"].codes, onnx_files["int8"], litert_file, tests[:32]
)
layers.suspect_table(suspects, litert_file)

# %% [markdown]
# The quantizer's row is the largest: that is rounding to 8 bits. The others are small: a code or two on signs and clothes. Where
# two converters and two kernels hardly part (last row), both files hold the right codes.
#
# The output tells *that* two runs part. To see **where**, every tensor inside both files is compared. The first layer that differs
# is where to look: all behind it merely inherits.
#
# 1. At which layer do the two kernels of LiteRT part? By how many codes?
# 2. Follow the share from there to the end. Does it grow?
# 3. Which pairs hardly part? What would you test firmware against?

# %% layer-explorer
layers.layer_explorer(suspects)

# %% [markdown]
# Here two camps appear: ONNX Runtime and XNNPACK on one side, the reference kernels (and Micro, on Linux) on the other. Why?
#
# A convolution adds up products: exactly, in all. Then its sum of 32 bits must become a code of 8: times
# $M = s_x s_w / s_\text{out}$, rounded. The reference kernels multiply by a whole number of 31 bits and shift, as processors without
# floats must (Jacob et al., 2018). The others multiply by a float. Close to a tie the two round to different neighbours.
#
# Neither is wrong: LiteRT's specification says what a code *means*, not which way a tie falls. A difference of **one** code that
# begins at some layer points to a kernel, **many** codes at *one* layer to a fault in a converter. And firmware is tested against
# the reference kernels.
#
# ## int8 at the door
#
# The LiteRT file takes int8 and gives int8: on a microcontroller there is nobody in front of it who likes floats. So what `normalize`
# does to a picture, and what a softmax does to logits, becomes *your* code, and a mistake in it raises no error.
#
# ### Exercise 2: pixels to codes (2 points)
#
# The model was trained on $x = p / 128 - 1$, for a pixel $p$ from 0 to 255. Its input has a scale $s$ and a zero point $z$. Return the
# codes
#
# $$q = \text{saturate}\left(\text{round}\left(\frac{x}{s}\right) + z\right)$$
#
# in int8, from −128 to 127. Ties go to the even number, as `np.round` has it.


# %% to-codes tags=["exercise"]
def to_codes(pixels, scale, zero_point):
    """Return the int8 codes of `pixels`, a NumPy array of uint8 in any shape."""
    # BEGIN SOLUTION
    real = pixels / 128 - 1
    return np.clip(np.round(real / scale) + zero_point, -128, 127).astype(np.int8)
    # END SOLUTION


# %% to-codes-check tags=["check"] points=2
check.to_codes(to_codes)

# %% to-codes-hidden tags=["hidden"]
import numpy as np

from edgelab.course import hidden

rng = hidden.rng(SEED, "to-codes")
for step in (64, 64, 128, 256, 32, 64):  # powers of two: many ties, some saturate
    shape = [[rng.randrange(256) for _ in range(15)] for _ in range(3)]
    zero_point = 2 * rng.randrange(-60, 60) + 1
    hidden.show(to_codes(np.array(shape, np.uint8), 1 / step, zero_point))

# %% [markdown]
# ### Exercise 3: codes to probabilities (1 point)
#
# Behind the model you find one int8 code for each class. Return the probabilities: the softmax of the real numbers $(q - z)\,s$ that
# the codes stand for. One trap: what is 127 − (−47) in int8?


# %% to-probabilities tags=["exercise"]
def to_probabilities(codes, scale, zero_point):
    """Return the probability of each class; `codes` is a NumPy array of int8, one for each class."""
    # BEGIN SOLUTION
    logits = (codes.astype(np.int32) - zero_point) * scale
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()
    # END SOLUTION


# %% to-probabilities-check tags=["check"] points=1
check.to_probabilities(to_probabilities)

# %% to-probabilities-hidden tags=["hidden"]
import numpy as np

from edgelab.course import hidden

rng = hidden.rng(SEED, "to-probabilities")
for _ in range(8):
    logits = [rng.randrange(-128, 128) for _ in range(rng.randrange(3, 17))]
    logits[1] = 127
    grid = rng.uniform(0.005, 0.05), rng.randrange(-128, -1)
    hidden.show(to_probabilities(np.array(logits, np.int8), *grid))

# %% [markdown]
# Does it match, to the code? The next cell compares your codes and your probabilities with the package's.

# %% doors
doors.try_doors(litert_file, dataset, to_codes, to_probabilities)

# %% [markdown]
# Look at the first line: scale 1/128 and zero point 0. All of the pre-processing is then $q = p - 128$: **flip one bit** of each
# pixel. Had the course divided by 127.5, the zero point would have to be −0.5, which is no code.
#
# And behind the model? The largest code *is* the largest logit, and the most probable class. Who needs the class alone needs no
# softmax, no scale, and no float.
#
# ## No files, no malloc
#
# A microcontroller has no file system. The model becomes an array of constants in the program, and stays in flash.

# %% c-array
memory.show_c_array(litert_file, "student")

# %% [markdown]
# Nor does TensorFlow Lite Micro ask for memory while it runs (C's `malloc`): what can fail after three weeks in the field does. All
# that changes lies in one block of RAM that you set aside, the **arena** of lab 08. If it is too small, the model does not load.
#
# So how large? You know the answer from lab 01: the peak of what is alive at once.
#
# ### Exercise 4: the arena by hand (2 points)
#
# You get a list of tuples `(bytes, first, last)`: a buffer is needed from operator `first` to operator `last`, **both included**.
# Each begins at an address that 16 divides, so its bytes are rounded *up* to a multiple of 16. Return the largest sum of bytes that
# are alive at one operator.


# %% arena-by-hand tags=["exercise"]
def arena_by_hand(tensors):
    """Return the bytes that must be there at the worst operator; each of `tensors` is (bytes, first, last)."""
    # BEGIN SOLUTION
    steps = range(1 + max(last for _, _, last in tensors))
    return max(
        sum(
            -(-size // 16) * 16 for size, first, last in tensors if first <= now <= last
        )
        for now in steps
    )
    # END SOLUTION


# %% arena-by-hand-check tags=["check"] points=2
check.arena_by_hand(arena_by_hand)

# %% arena-by-hand-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "arena-by-hand")
for _ in range(20):
    buffers = [
        (rng.randrange(1, 9000), first, first + rng.randrange(4)) for first in range(12)
    ]
    hidden.show(arena_by_hand(buffers))

# %% lifetime-explorer
memory.lifetime_explorer(litert_file, arena_by_hand)

# %% [markdown]
# Go to the operator where your peak lies: three buffers, as in lab 01. The block's input waits for the addition.
#
# **How many KiB of arena does the interpreter really take for the student?**

# %% predict-arena
memory.predict_arena()

# %% measure-arena
student_arena = memory.taken(litert_file, "resnet_tiny", dataset)
reveal("arena", student_arena.kib, student_arena)

# %% [markdown]
# The activations were right, but for a few per cent that kernels use as working space. The rest are **records**: what the
# interpreter keeps of each tensor and operator, and for each channel a multiplier and a shift, 8 bytes. (Pointers have 8 bytes
# on this computer and 4 on a Cortex-M: there it is less.)
#
# In the student that is about a fifth, on signs and clothes. What about networks with many channels and small feature maps?

# %% arena-table
micro_files = memory.write_micro(dataset, pictures)
memory.arena_table(micro_files, dataset, arena_by_hand)

# %% [markdown]
# The MobileNets have many channels, and pay for each. With an arena for the activations alone none of the four would load.
# So: count to choose a network, and ask the interpreter before you ship.
#
# ## How long on a real Cortex-M4?
#
# Its clock is known, and what a network computes is as well. What is missing is one number: **cycles per MAC**. A published result
# of another network on the same kind of core gives it away.
#
# ### Exercise 5: milliseconds from MACs (2 points)
#
# `known` is `(macs, ms, clock_hz)` of the published result. Return two numbers: its clock cycles per MAC, and the milliseconds of a
# network of `macs` MACs at `clock_hz`, at the same cycles per MAC.


# %% cortex-ms tags=["exercise"]
def cortex_ms(macs, clock_hz, known):
    """Return (cycles, ms): the cycles for a MAC in `known`, and the time of `macs` MACs at `clock_hz`."""
    # BEGIN SOLUTION
    known_macs, known_ms, known_clock_hz = known
    cycles = known_ms / 1000 * known_clock_hz / known_macs
    return cycles, 1000 * macs * cycles / clock_hz
    # END SOLUTION


# %% cortex-ms-check tags=["check"] points=2
check.cortex_ms(cortex_ms)

# %% cortex-ms-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "cortex-ms")
for _ in range(20):
    published = rng.uniform(1e6, 2e7), rng.uniform(10, 900), rng.uniform(4e7, 5e8)
    hidden.show(cortex_ms(rng.uniform(1e5, 2e8), rng.uniform(4e7, 5e8), published))

# %% [markdown]
# *MLPerf Tiny* is the benchmark of this class of devices. On a board with a Cortex-M4 at 120 MHz its network for keywords, 2.66 million
# MACs, was published with 43.4 ms in int8, in the software of the chip's maker. From that your function predicts
# **ResNet-8**, a network like our student with twice the channels.

# %% from-keywords
keyword_result = cortex.macs_of(cortex.KEYWORDS), 43.4, 120e6
its_cycles, guessed_ms = cortex_ms(
    cortex.macs_of(cortex.RESNET_8), 120e6, keyword_result
)
print(f"{its_cycles:.2f} cycles, {guessed_ms:.0f} ms")
# > 1.96 cycles, 204 ms

# %% [markdown]
# The keyword network is made of depthwise separable convolutions, ResNet-8 of full ones. **What was published for ResNet-8 on
# this board, in the same software?**

# %% predict-cortex
cortex.predict_cortex()

# %% measure-cortex
published_result = cortex.published(cortex.RESNET_8)
reveal("cortex", published_result.ms, cortex.published_table())

# %% [markdown]
# (*Measured here* is what was published.) The estimate was a quarter too high. Are separable networks dear, then? Look at the
# MobileNet's row: it has the fewest cycles per MAC. Among these three the method errs by a factor of 1.4 at most: often
# enough to know whether a network has a chance.
#
# But look at ResNet-8's two rows. **One network, one chip, more than four times as long**: TensorFlow Lite Micro as it was
# in 2021, against the maker's newer library. Before you buy a faster chip, look for faster kernels. And half a cycle,
# the datasheet's peak of 2 MACs in a cycle (lab 01), is far from both.
#
# The course's networks on that board, by your function, and on an **NPU** of 500 MHz, by its compiler's estimate:

# %% device-table
zoo = memory.with_files(micro_files, dataset)
cortex.device_table(zoo, dataset, cortex_ms)

# %% [markdown]
# ## Which one?

# %% runtime-table
micro_runner = layers.open_micro(litert_file)
runtimes.runtime_table(deployed["student"], dataset, timed["student"], micro_runner)

# %% [markdown]
# ## What the lesson claims, and what you measured
#
# **The claim:** LiteRT is the usual runtime of phones and embedded systems, with built-in PTQ and very small files; ONNX
# Runtime is efficient, and runs everywhere.
#
# **What you saw:** one set of codes runs in all that you tried, with the same class for nearly every picture, if somebody proves
# it. The LiteRT file is smaller. Who is faster depends on the network and on the threads. On a microcontroller the kernels make a
# factor of four.
#
# Two rows come into your table.

# %% claim-table
judged = dataset.test[:3000]
for row_file, row_name in {
    onnx_files["int8"]: "student int8, ONNX Runtime",
    litert_file: "student int8, LiteRT",
}.items():
    reached = train.evaluate(Runner.open(row_file), judged)
    row = {"accuracy": reached, "pictures": len(judged), "precision": "int8"}
    table.add(row_name, student, dataset, **row, file=row_file)
table.show(dataset)

# %% pareto
table.pareto(dataset)

# %% progress
progress_board()

# %% [markdown]
# ## Summary
#
# - An export is a claim. Parity proves it: the largest difference of a logit, and the share of equal classes.
# - Integers come about when the runtime fuses the graph. Look at what runs.
# - Two threads need work for two. A small network may be slower on them.
# - One file gives other codes in other kernels. Change little at a time, and look for the first layer apart.
# - Arena = activations + records. Time = MACs × cycles per MAC / clock, and the software makes the cycles.
#
# <details><summary><b>If you want more</b> (not graded)</summary>
#
# Three files of the student come from a converter with a fault. In which layer is it, and could you have told by the classes alone?
#
# ```python
# from edgelab.deploy import compare
# from edgelab.labs.lab_09_deployment import further
#
# faulty = further.faulty_file(deployed["student"].codes, image, case=1)  # or 2, or 3
# apart = compare(deployed["student"].codes, faulty, tests)
# print(apart.agreement, next(one for one in apart.layers if one.largest > 10))
# ```
#
# </details>
#
# **Next:** in [lab 10](10_capstone.ipynb), the capstone, you choose a device and make a model fit.
#
# ### Further reading
#
# - R. David et al. *TensorFlow Lite Micro: Embedded Machine Learning for TinyML Systems.* MLSys 2021. It describes the arena.
# - B. Jacob et al. *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference.* CVPR 2018. Section
#   2.2: the multiplier and the shift.
# - C. Banbury et al. *MLPerf Tiny Benchmark.* NeurIPS Datasets and Benchmarks 2021. Results:
#   https://github.com/mlcommons/tiny_results_v1.3
# - LiteRT. *8-bit quantization specification.* https://ai.google.dev/edge/litert/models/quantization_spec
# - ONNX Runtime. *Graph optimizations.* https://onnxruntime.ai/docs/performance/model-optimizations/graph-optimizations.html
# - P. Jajal et al. *Interoperability in Deep Learning: A User Survey and Failure Analysis of ONNX Model Converters.* ISSTA 2024.
# - Google. *XNNPACK*, `src/params-init.c`: how a sum becomes a code, with floats. https://github.com/google/XNNPACK
# - L. Lai, N. Suda, V. Chandra. *CMSIS-NN: Efficient Neural Network Kernels for Arm Cortex-M CPUs.* arXiv:1801.06601, 2018.
