# Lab 04. What a learner takes from it: rounding can be trained through, and where that pays and where it does not.

# %% [markdown]
# # How far below 8 bits can training hold accuracy?
#
# Eight bits are cheap. A model calibrated for int8 hardly loses anything, and nobody had to train it. But a microcontroller
# with little flash would like its weights in four bits, or three. Each bit less at least doubles the step between two codes,
# and with it the error of rounding.
#
# So far the model never knew that it would be rounded. What if it did? **Quantization-aware training** (QAT) rounds the
# weights during training, so that the loss can feel it. There is one obstacle: a staircase has no slope to learn from.
#
# In this lab you will
#
# 1. see what few bits cost without training,
# 2. write the trick that sends a gradient through a staircase,
# 3. train with few bits, and find out **where it pays and where it wins nothing**.
#
# It takes about 70 minutes; break before *The whole curve*. Three cells train, for some seconds each. You need `prepare`,
# `calibrate` and `convert` of [lab 03](03_ptq.ipynb).

# %% imports
from functools import cache

import torch

from edgelab import data, models, train
from edgelab.deploy import Runner, check_parity, to_onnx
from edgelab.explore import lab_map, progress_board, reveal, table
from edgelab.labs.lab_04_qat import check, explorers, training
from edgelab.measure import compare_latency
from edgelab.quantization import QuantizationConfig, calibrate, convert, prepare

dataset = data.load()
lessons, exam = dataset.train[:12_000], dataset.test[:3_000]
image = data.normalize(exam.images[:1])

# %% map
lab_map("04_qat")

# %% [markdown]
# The whole lab uses `resnet_tiny`, a network with an eighth of the baseline's channels. It trains quickly, and it is the
# harder case: a small network has few weights to spare, so every rounding error hurts.
#
# `study` keeps the model, the images it may learn from (`lessons`) and those it is judged on (`exam`). It measures each
# accuracy once and remembers it, and a finished training too, in your folder. A training that you stop does not count: it starts
# again.

# %% study
tiny = models.load_pretrained("resnet_tiny", dataset.name)
study = training.Study(tiny, lessons, exam)

# %% [markdown]
# ## Without training
#
# Here is post-training quantization (PTQ), as lab 03 does it, with fewer and fewer bits for the weights. Activations stay
# at 8 bits. Each channel has its own scale, from the range with the least squared error (`"mse"`).

# %% untrained
study.ptq_table((8, 6, 5, 4))

# %% [markdown]
# Read the ± first. An accuracy counted on 3 000 images is known to a point, more or less. So where two rows differ by less than
# that, do not say which is better.
#
# Four bits leave 15 codes to a weight, three bits leave 7. **Which accuracy is left with three bits?**

# %% predict-untrained
training.predict_untrained()

# %% untrained-three
three_bits = study.ptq(QuantizationConfig(3, weight_observer="mse"))
reveal("ptq-3-bits", 100 * three_bits)

# %% [markdown]
# From bit to bit the step at least doubles, but the accuracy does not fall evenly. It holds for a while, and then it breaks.
#
# ## Why not simply train?
#
# Put the rounding into the network, and let gradient descent do the rest. What is the gradient of `round`?

# %% no-slope
x = torch.tensor([-0.7, 0.2, 0.4, 1.6], requires_grad=True)
torch.round(x).sum().backward()
print(x.grad)
# > tensor([0., 0., 0., 0.])

# %% [markdown]
# Zero, everywhere. That is correct: move $x$ a little, and $\text{round}(x)$ does not move. By the chain rule, everything
# before the rounding has gradient zero too. The network learns nothing.
#
# The way out is a lie that works. On the way forward, round. On the way back, pretend that nothing was rounded:
#
# $$y = \text{round}(x), \qquad \frac{\partial y}{\partial x} := 1$$
#
# This is the **straight-through estimator** (STE; Bengio, Léonard and Courville, 2013).
#
# ### Exercise 1: the straight-through estimator (2 points)
#
# Write `round_ste(x)`: its value is `torch.round(x)`, and the gradient that comes in goes out unchanged. There are two
# usual ways. One is a class with a `forward` and a `backward`, derived from `torch.autograd.Function`. The other is one line
# with `detach()`, which makes a constant of what it is called on: add to $x$ a constant that turns it into $\text{round}(x)$.


# %% round-ste tags=["exercise"]
def round_ste(x):
    """Return `x` rounded; the gradient passes as if nothing had been rounded."""
    # BEGIN SOLUTION
    return x + (torch.round(x) - x).detach()
    # END SOLUTION


# %% round-ste-check tags=["check"] points=2
check.round_ste(round_ste)

# %% round-ste-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "round-ste")
for _ in range(4):
    points = torch.tensor(
        [rng.randrange(-40, 40) / rng.choice((2, 7)) for _ in range(20)],
        requires_grad=True,
    )
    incoming = torch.tensor([rng.uniform(-3, 3) for _ in range(20)])
    rounded = round_ste(points)
    rounded.backward(incoming)
    hidden.show(rounded.detach(), points.grad)

# %% [markdown]
# ## A grid has ends
#
# A grid of $b$ bits has a lowest and a highest code. What lies beyond is clipped: it *saturates*.
#
# $$q = \text{clip}\!\left(\text{round}\!\left(\frac{x}{s}\right),\ q_\text{min},\ q_\text{max}\right), \qquad \hat{x} = s\,q$$
#
# Which gradient should a saturated weight get? Push it further out, and $\hat{x}$ stays at the end of the grid. Here a slope
# of zero is no artefact of the steps: it is the truth. So the gradient is 1 inside, and 0 where the code was clipped.
#
# ### Exercise 2: fake quantization with gradients (3 points)
#
# Write $\hat{x}$, with `round_ste` for the rounding and `torch.clamp` for the clipping. `torch.clamp` brings the right
# gradient of its own, if it comes in the right place. The zero point is 0, as for all weights here. (*Fake*: $\hat{x}$ is on
# the grid, but still a float.)


# %% fake-quantize tags=["exercise"]
def fake_quantize(x, scale, qmin, qmax):
    """Return `x` on the grid, still in float; the gradient passes where nothing is clipped, and stops elsewhere."""
    # BEGIN SOLUTION
    q = torch.clamp(round_ste(x / scale), qmin, qmax)
    return q * scale
    # END SOLUTION


# %% fake-quantize-check tags=["check"] points=3
check.fake_quantize(fake_quantize)

# %% fake-quantize-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "fake-quantize")
for qmin, qmax in ((-7, 7), (-3, 3), (0, 15), (-128, 127)):
    step = rng.uniform(0.01, 0.5)
    inside = [
        rng.randrange(qmin + 1, qmax) + rng.uniform(-0.45, 0.45) for _ in range(25)
    ]
    beyond = [rng.uniform(qmax + 0.6, 2 * qmax) for _ in range(8)] + [
        rng.uniform(3 * qmin - 9, qmin - 0.6)
    ]
    points = torch.tensor(
        [step * place for place in inside + beyond], requires_grad=True
    )
    incoming = torch.tensor([rng.uniform(-3, 3) for _ in points])
    on_grid = fake_quantize(points, step, qmin, qmax)
    on_grid.backward(incoming)
    hidden.show(on_grid.detach(), points.grad, tolerance=1e-4)

# %% [markdown]
# PyTorch has this operation built in. Do ten thousand random numbers agree, forwards and backwards?

# %% against-torch
training.against_torch(fake_quantize)

# %% [markdown]
# <details><summary>Do your gradients differ from PyTorch's?</summary>
#
# Then you clip first and round afterwards, as Esser et al. (2020) write it. Both are right. The two part for numbers less than half
# a step beyond the last code. PyTorch asks whether the *code* was clipped: such a number rounds to the last code by itself, and
# its gradient passes. Esser asks whether the *number* was clipped: it lies beyond the end, and its gradient stops.
#
# </details>

# %% [markdown]
# The explorer shows the staircase, the slope, and below them the weights of a real layer. Weights in the hatched bars are
# clipped.
#
# - Set *slope* to the true one. How many weights have a gradient then?
# - Take 3 bits, straight through. Clip at 100 %, then at 25 %. What becomes finer, and who stops learning?
# - Look at the first layer and at the last. Is a range that suits one good for the other?

# %% slope-explorer
explorers.slope_explorer(tiny)

# %% [markdown]
# ## What the estimator sees
#
# The gradient of a lie: can it be any good? Take one single weight of the first layer, and walk along it. All other weights
# stay as they are. At each place we compute the real loss on some training images.
#
# - The dotted curve is the loss for the unrounded weight. It is smooth.
# - The staircase is the loss with the weight rounded. On each tread it is flat: its true slope is 0.
# - The dashed line below is the slope that the STE reports. On a whole tread it is one number: the slope of the dotted curve
#   **at the code**, the place where the loss was computed.
#
# Move the weight from left to right. A positive slope sends it down, a negative one up. Where does the STE send it towards the
# best tread, and where does it stand on the best tread and still want to leave? Compare 2 bits with 5.

# %% loss-explorer
explorers.loss_explorer(tiny, lessons)

# %% [markdown]
# With 5 bits the dashed slope follows the smooth one closely. With 2 bits it is one number for a third of the way: measured
# at the code, and used for weights far from it. On the best tread it is hardly ever zero, so the weight moves on, falls over
# the edge, is sent back, and may swing to and fro without end (Nagel et al., 2022). A small learning rate keeps the swings
# small.
#
# ## Train
#
# The recipe has three steps, and edgelab has a function for each.
#
# 1. `prepare(model, config)` folds batch norm into the convolutions and puts a fake quantizer at every weight and every
#    activation that will be an integer.
# 2. `calibrate(prepared, images)` shows it normalised images, fixes every scale, and switches the rounding on.
# 3. `train.fit(prepared, lessons, ...)` trains it, in place. The optimizer moves the float weights; the loss sees the
#    rounded ones.
#
# **How many of the points that 3 bits lost will training win back, in one pass over the lessons?**

# %% predict-won-back
training.predict_won_back()

# %% [markdown]
# ### Exercise 3: train with few bits (3 points)
#
# Write `train_quantized(model, lessons, bits)`. It returns the trained model. Use
#
# - `QuantizationConfig(weight_bits=..., weight_observer="mse")`,
# - some of the lessons, through `data.normalize`, for calibration: a few hundred will do,
# - `epochs=1, lr=0.001` for training.
#
# <details><summary>Why so small a learning rate, when the float model was trained with 150 times that?</summary>
#
# Batch norm is folded away. It made the
# scale of the weights harmless, and nothing does that any more. (You may try 0.01 later, and see.)
#
# </details>
#
# The check trains with 4 bits, and for a moment with 2. That takes some seconds.


# %% train-quantized tags=["exercise"]
def train_quantized(model, lessons, bits):
    """Return `model` trained on `lessons` with weights of `bits` bits and activations of 8."""
    # BEGIN SOLUTION
    prepared = prepare(
        model, QuantizationConfig(weight_bits=bits, weight_observer="mse")
    )
    calibrate(prepared, data.normalize(lessons.images[:256]))
    train.fit(prepared, lessons, epochs=1, lr=0.001)
    return prepared
    # END SOLUTION


# %% train-quantized-check tags=["check"] points=3
check.train_quantized(train_quantized, study)

# %% train-quantized-hidden tags=["hidden"]
# Short trainings, told by how many codes a channel uses and by what the model then answers.
from edgelab import data, models, train
from edgelab.course import hidden
from edgelab.labs.lab_04_qat.training import distinct_weights

rng = hidden.rng(SEED, "train-quantized")
dataset = data.load()
for bits in (2, 3):
    first = rng.randrange(max(1, len(dataset.train) - 2_048))
    start = models.load_pretrained("resnet_tiny", dataset.name)
    model = train_quantized(start, dataset.train[first : first + 2_048], bits)
    hidden.show(distinct_weights(model))
    hidden.show(train.predict(model, dataset.test[:64]), tolerance=0.1)

# %% [markdown]
# And three bits? The next cell trains again.

# %% won-back
three = study.outcome(train_quantized, bits=3)
reveal("won-back-3-bits", 100 * (three.trained - three.untrained), three)

# %% [markdown]
# ## The whole curve
#
# Now for all bits. The next cell trains twice more, with 8 bits and with 2, and measures what is missing without training.
# Before you run it: **what will training win at 8 bits?**

# %% bits-explorer
explorers.bits_explorer(study, train_quantized)

# %% [markdown]
# The bars are the 95 % interval of an accuracy counted on the images of `exam`. Read the picture with them.
#
# - **At 8 bits** there was next to nothing to win back. If the two points differ, compare the difference with the bars. And
#   any model gains or loses a little when it is trained for one more epoch: that has nothing to do with rounding.
# - **The fewer the bits, the more training wins.** Where is the point at which you would start to train?
# - **At 2 bits** only three codes are left: minus one step, zero, plus one step. How much accuracy does training keep there?
# - Switch *untrained scales* to the range of the extremes (min-max), and to one scale for the whole tensor. At few bits the
#   choice of the range moves the accuracy by many points. Is the least squared error always the better range?
# - Switch *against* to KiB. This is the trade that a microcontroller asks for.
#
# ## Does a large network need it too?
#
# The baseline has sixty times as many weights. **Will four bits hurt it more than `resnet_tiny`, or less?** No training here,
# and fewer test images, because it is slow.

# %% baseline
resnet = models.load_pretrained("resnet", dataset.name)
large = training.Study(resnet, lessons, dataset.test[:1_000])
large.ptq_table((4, 3))

# %% [markdown]
# Compare with the curve above. A sum over many channels averages rounding errors out, and a large network has weights to
# spare: it breaks later. So before you train for few bits, ask whether calibration already does it.
#
# ## Is it still the same model?
#
# The training only *imitated* integers, in float. `convert` puts every weight on its grid, and the export writes the codes. What
# does ONNX Runtime make of them, with real integer arithmetic?


# %% deploy
@cache
def deployed(bits):
    """Return the model that was trained with `bits`, converted, and the file that it was written to."""
    model = convert(study.trained(train_quantized, bits))
    return model, to_onnx(model, image, f"models/tiny-{bits}-bits.onnx")


four, path = deployed(4)
runner = Runner.open(path)
parity = check_parity(four, runner, data.normalize(exam.images[:500]))
trained = study.accuracy(train_quantized, 4)
converted, running = train.evaluate(four, exam), train.evaluate(runner, exam)
training.parity_table(parity, trained, converted, running)

# %% [markdown]
# From the converted model to the file nothing is lost: the integers compute what the float imitation computed. If a logit
# differs on your machine, some number lay half-way between two codes, and was rounded to the other side.
#
# <details><summary>Has converting changed the class of a few images?</summary>
#
# It rounds the biases as well, to whole steps of the accumulator. Such a step is the input's scale times the weight's: with
# fewer bits the weights' steps are larger, and so are these.
#
# </details>
#
# ## What did four bits buy?
#
# Half the bits of int8: half the size, and faster as well? Let us look.

# %% bytes-and-time
files = {f"{bits} bits": (deployed(bits)[1], bits) for bits in (8, 4)}
print(
    compare_latency(
        {name: Runner.open(path).once(image) for name, (path, bits) in files.items()}
    )
)
training.file_table(files, tiny)

# %% [markdown]
# A smaller file? The codes are smaller, but each of them still lies in a byte: ONNX Runtime's integer convolution reads int8.
# Only `zip` notices that a byte of weights takes no more than 15 values. And faster? Where the verdict is *inconclusive*, this
# clock sees no difference, and there is no reason for one: the processor multiplies bytes either way.
#
# <details><summary>Is it faster here all the same?</summary>
#
# Then this processor has no VNNI. There edgelab asks ONNX Runtime for its exact kernels (lab 03), which are slower. But where no
# code lies beyond ±64, a sum of two products reaches $2 \cdot 255 \cdot 64 = 32\,640$ at most, and 16 bits hold that: then the fast
# kernel is exact, and runs. Seven bits are enough for it. On an AMD EPYC with AVX2 alone we measured 1.15 times.
#
# </details>
#
# So four bits buy something **where something is made of them**: in flash if the program unpacks them, over the air if the
# file is compressed, in time and energy if the chip has 4-bit arithmetic, as NVIDIA's Turing has. The last column of the
# table says what the weights would take then.

# %% [markdown]
# ## Must every layer have the same bits?
#
# Suppose that the weights may take as many KiB as three bits for each of them. One layer holds nearly half of all weights, and
# others a hundredth; some are sensitive, and others are not. **How would you spend the budget?**
#
# `noise[layer][bits]` says how much noise the logits have, as a share of their power, when the weights of that layer alone have
# so many bits. `sizes[layer]` is the number of its weights.
#
# ### Exercise 4: spend a budget (2 points)
#
# Start with 8 bits everywhere. As long as the weights take more than `budget` bits altogether, take one bit from one layer: from
# the one in which that adds **least noise for each weight** of it: a bit taken from a layer saves as many bits as it has weights. A
# layer keeps 2 bits at least.
#
# Return a dictionary: the bits of each layer.


# %% spend tags=["exercise"]
def spend(sizes, noise, budget):
    """Return the bits of each layer, by its name, so that all weights fit into `budget` bits."""

    # BEGIN SOLUTION
    def price(layer):
        few = bits[layer] - 1
        return (noise[layer][few] - noise[layer][few + 1]) / sizes[layer]

    bits = dict.fromkeys(sizes, 8)
    while sum(sizes[layer] * bits[layer] for layer in sizes) > budget:
        bits[min((layer for layer in sizes if bits[layer] > 2), key=price)] -= 1
    return bits
    # END SOLUTION


# %% spend-check tags=["check"] points=2
check.spend(spend)

# %% spend-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "spend")
for _ in range(8):
    sizes = {f"layer {number}": rng.randrange(100, 9_000) for number in range(6)}
    noise = {}
    for layer in sizes:
        loud = rng.uniform(0.01, 3)
        noise[layer] = {
            bits: loud * rng.uniform(3.5, 4.5) ** -bits for bits in range(2, 9)
        }
    for few in (3, 4.5):
        hidden.show(spend(sizes, noise, few * sum(sizes.values())))

# %% [markdown]
# The same budget twice, and no training. What will the second plan win?

# %% spending
sizes, noise = study.layer_sizes(), study.layer_noise()
own = spend(sizes, noise, 3 * sum(sizes.values()))
training.spending_table(study, dict.fromkeys(sizes, 3), own)

# %% [markdown]
# The small layers are nearly for free, and the large ones pay for it. Deciding where the bits go won most of what training
# does: 24 of 26 points on signs, 13 of 19 on clothes. Your plan may take fewer KiB: the last bit came off a whole layer. (It
# is a plan, and no proof that none is better.)
#
# Add your model to the table of the course, beside the float one that it came from, in the same runtime.

# %% claim-table
accuracy = train.evaluate(tiny, dataset.test)
written = {"accuracy": accuracy, "file": to_onnx(tiny, image, "models/tiny.onnx")}
table.add("ResNet tiny", tiny, dataset, **written)

four, path = deployed(4)
accuracy = train.evaluate(Runner.open(path), dataset.test)
written = {"accuracy": accuracy, "file": path, "precision": "int8"}
table.add("4-bit QAT", four, dataset, **written)
table.show(dataset)

# %% pareto
table.pareto(dataset)

# %% [markdown]
# ## What the lesson claims, and what you measured
#
# **The claim:** training that knows of the rounding holds accuracy at fewer bits than calibration alone.
#
# **What you saw:** how much it wins depends on the bits. Look at your curve: where nothing was lost, nothing can be won back.
# And a number format saves bytes and time only in a runtime that was made for it.

# %% progress
progress_board()

# %% [markdown]
# ## Summary
#
# - `round` has slope 0 almost everywhere. The straight-through estimator passes the gradient on as if nothing were rounded.
# - Clipping stops the gradient, and rightly so: a saturated weight that is pushed further does not move the output.
# - QAT: prepare, calibrate, train with a small learning rate, convert. The optimizer moves float weights; the loss sees
#   rounded ones.
# - What was converted is what runs: the exported integers compute what the model computed.
# - The fewer the bits, the more training wins. At 8 bits calibration is mostly enough.
#
# <details><summary><b>If you want more</b> (not graded)</summary>
#
# Change one thing at a time, at 2 bits. First train for three epochs instead of one. Then let the scales be trained as well, by a
# gradient of their own (LSQ; Esser et al., 2020): put `learn_steps(prepared)` of `edgelab.quantization` before `train.fit`. **Which of
# the two wins more?**
#
# <details><summary>What we saw on the road signs</summary>
#
# 54 % after one epoch, 74 % after three, and 76 % with learned steps as well: nearly all of it is the epochs'.
#
# </details>
#
# Last, write the gradient of the step by hand. Take $\hat{x} = s \cdot \text{clip}(\text{round}(x/s))$, let the rounding pass
# straight through, and derive with respect to $s$:
#
# $$\frac{\partial \hat{x}}{\partial s} = \begin{cases} \text{round}(x/s) - x/s & \text{inside the grid} \\ q_\text{min} \text{ or } q_\text{max} & \text{beyond its ends} \end{cases}$$
#
# Let `step_gradient(x, step, qmin, qmax)` return that for each number of `x`, and compare:
#
# ```python
# from edgelab.labs.lab_04_qat import further
#
# further.against_learned_step(step_gradient)
# ```
#
# </details>
#
# **Next:** [lab 05](05_unstructured_pruning.ipynb) takes weights away altogether.
#
# ### Further reading
#
# - Y. Bengio, N. Léonard, A. Courville. *Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
#   Computation.* arXiv:1308.3432, 2013. It names the straight-through estimator, an idea from a lecture of Hinton's (2012).
# - B. Jacob et al. *Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference.* CVPR 2018.
# - S. K. Esser et al. *Learned Step Size Quantization.* ICLR 2020.
# - P. Yin et al. *Understanding Straight-Through Estimator in Training Activation Quantized Neural Nets.* ICLR 2019. Why the
#   lie works.
# - M. Nagel et al. *Overcoming Oscillations in Quantization-Aware Training.* ICML 2022.
# - M. Nagel et al. *A White Paper on Neural Network Quantization.* arXiv:2106.08295, 2021.
# - NVIDIA. *Turing GPU Architecture.* White paper, 2018. Tensor cores for 8-bit and 4-bit integers.
