# Lab 05. What a learner takes from it: most weights can be zero, and a zero saves nothing until something makes use of it.

# %% [markdown]
# # How many weights can go, and what does that buy?
#
# Quantization keeps every weight and writes it in fewer bits. **Pruning** takes weights away. *Unstructured* pruning does it
# one by one, wherever they lie: the network keeps its shape, and has zeros in it.
#
# 1. **How many** weights can be zero before the answers suffer, and which ones?
# 2. Nine weights in ten are then zero. How much **faster** is the model, and how much **smaller**?
# 3. Who makes something of the zeros: a file format, a kernel, a chip?
#
# It takes about 75 minutes; break before *One mask, four bills*. You need PyTorch tensors; weight sharing also builds on the codes
# of [lab 02](02_quantization.ipynb).

# %% imports
import numpy as np
import torch

from edgelab import data, models, train
from edgelab.deploy import Runner, to_onnx
from edgelab.explore import lab_map, progress_board, reveal, table
from edgelab.labs.lab_05_unstructured_pruning import (
    bills,
    check,
    explorers,
    flash,
    products,
    training,
)
from edgelab.measure import compare_latency

dataset = data.load()
baseline = models.load_pretrained("resnet", dataset.name)
lessons, exam = dataset.train, dataset.test[:200]
image = data.normalize(exam.images[:1])

# %% map
lab_map("05_unstructured_pruning")

# %% [markdown]
# ## Which weights?
#
# The baseline has more than a million weights, and most are close to zero. If we set the smallest ones to exactly zero, no sum
# should change much. This criterion is called **magnitude** (Han et al., 2015). The share of zeros is the **sparsity**, from 0
# to 1.
#
# No training yet. **How many per cent of the baseline's weights can go before it loses five points of accuracy?**

# %% predict-free
explorers.predict_free()

# %% [markdown]
# ### Exercise 1: a mask for a layer (2 points)
#
# A **mask** has the shape of the weight. It is `True` where a weight stays, and `False` where it goes. Of $n$ weights
# `round(sparsity * n)` go: those of smallest absolute value.
#
# `torch.topk(values, k, largest=False)` finds the places of the $k$ smallest values of a flat tensor.


# %% layer-mask tags=["exercise"]
def layer_mask(weight, sparsity):
    """Return a mask of bool with the shape of `weight`: False for the share `sparsity` of smallest magnitude."""
    # BEGIN SOLUTION
    gone = round(sparsity * weight.numel())
    places = torch.topk(weight.abs().flatten(), gone, largest=False).indices
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[places] = False
    return mask.reshape(weight.shape)
    # END SOLUTION


# %% layer-mask-check tags=["check"] points=2
check.layer_mask(layer_mask)

# %% layer-mask-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "layer-mask")
generator = torch.Generator().manual_seed(rng.randrange(2**31))
for shape in ((7, 11), (3, 5, 3, 3), (101,), (4, 1, 3, 3)):
    weight = torch.randn(shape, generator=generator)
    sparsity = (rng.randrange(weight.numel()) + rng.uniform(-0.4, 0.4)) / weight.numel()
    hidden.show(layer_mask(weight, max(0.0, sparsity)))

# %% [markdown]
# ## The same share everywhere?
#
# A layer of 600 000 weights may have more to spare than one of a thousand. Let all weights of the network compete: whoever is among
# the smallest of *all* goes, wherever it lies.
#
# ### Exercise 2: masks for the whole network (2 points)
#
# `weights` is a dictionary, from the name of a layer to its weight. Return a dictionary of masks with the same names. Every mask
# has the shape of its weight, and together they drop `round(sparsity * n)` of all $n$ weights.
#
# `torch.cat` joins flat tensors, `split(sizes)` cuts one into pieces.


# %% global-masks tags=["exercise"]
def global_masks(weights, sparsity):
    """Return {name: mask}: False for the share `sparsity` of smallest magnitude among all weights together."""
    # BEGIN SOLUTION
    every = torch.cat([weight.flatten() for weight in weights.values()])
    sizes = [weight.numel() for weight in weights.values()]
    parts = layer_mask(every, sparsity).split(sizes)
    return {
        name: part.reshape(weight.shape)
        for (name, weight), part in zip(weights.items(), parts, strict=True)
    }
    # END SOLUTION


# %% global-masks-check tags=["check"] points=2
check.global_masks(global_masks)

# %% global-masks-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "global-masks")
generator = torch.Generator().manual_seed(rng.randrange(2**31))
for sparsity in (0.31, 0.62, 0.93):
    weights = {}
    for number in range(5):
        shape = (rng.choice((3, 5, 7)), rng.choice((1, 3)), 3, 3)
        weights[f"layer {number}"] = rng.uniform(0.2, 3) * torch.randn(
            shape, generator=generator
        )
    hidden.show(global_masks(weights, sparsity))

# %% [markdown]
# Now prune the baseline with your functions, and ask it again each time. The third way is chance: what any criterion must beat.

# %% scan
scan = explorers.scan(baseline, exam, layer_mask, global_masks)

# %% measure-free
reveal("free", scan.free())

# %% [markdown]
# ### Explorer: what stays
#
# 1. Where does *at random* break, and where does magnitude?
# 2. Choose *smallest of all weights* at 80 %. Which layers lose most, and which hardly any?
# 3. Is it the large layers that have most to spare?

# %% scan-explorer
explorers.scan_explorer(scan)

# %% [markdown]
# We observe that magnitude holds far longer than chance. On signs and clothes, global masks spare the stem and the classifier,
# whose weights are large, and nearly empty the largest layer. In between, size does not decide. Then the accuracy falls off a
# cliff: not because the network could not work with so few weights, but because the remaining ones have never worked without the
# others.
#
# ### Explorer: one layer at a time
#
# Here only one layer is pruned, and the others stay whole. Each cell says how many per cent of the answers change.
# **Which layer would you rather not touch?**

# %% layer-explorer
explorers.layer_explorer(baseline, data.normalize(lessons.images[:48]))

# %% [markdown]
# Add up what each layer bears alone, and you get more than all of them bear together: errors add up from layer to layer.

# %% [markdown]
# ## Train what is left
#
# A pruned network that is trained again finds its way around the gaps. And it need not lose everything at once: prune a little,
# train, prune more. Zhu and Gupta (2017) let the sparsity grow fast at first, while there is much to spare, and slowly at the
# end:
#
# $$s_t = s_f + (s_i - s_f)\left(1 - \frac{t}{n}\right)^3$$
#
# with the initial sparsity $s_i$, the final one $s_f$, and step $t$ of $n$.
#
# ### Exercise 3: the cubic schedule (2 points)


# %% cubic tags=["exercise"]
def cubic(step, steps, initial, final):
    """Return the sparsity at `step` of `steps`: `initial` at step 0, `final` at the last."""
    # BEGIN SOLUTION
    return final + (initial - final) * (1 - step / steps) ** 3
    # END SOLUTION


# %% cubic-check tags=["check"] points=2
check.cubic(cubic)

# %% cubic-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "cubic")
for _ in range(20):
    steps = rng.randrange(3, 20)
    initial = rng.uniform(0, 0.4)
    hidden.show(cubic(rng.randrange(steps + 1), steps, initial, rng.uniform(0.5, 1)))

# %% [markdown]
# The next cell takes the baseline to 90 % zeros in three steps of your schedule, with your masks, and trains on 480 pictures after
# each. The masks stay on meanwhile: a weight that is gone stays gone. Beside it, a copy is cut to 90 % at once, and trains on the
# same pictures. **How much of what was lost will come back, and will the steps have helped?**

# %% train
steps = [cubic(step, 3, 0, 0.9) for step in range(1, 4)]
pruned = training.prune_and_train(baseline, lessons, steps, global_masks)
at_once = training.prune_and_train(baseline, lessons, [0.9] * 3, global_masks)
training.accuracy_table(baseline, pruned, at_once, exam, global_masks)

# %% [markdown]
# On signs and clothes some seconds of training bring most of it back, with a tenth of the weights. Steps are made for trainings of thousands of batches
# (Zhu and Gupta, 2017). In one as short as this, most of the time goes by before the last cut: compare the last two rows. (Longer
# training brings more; and 200 pictures tell accuracies apart only by some points.)


# %% [markdown]
# ## Most products are with a zero
#
# Nine weights in ten are zero, and with them about three products in four, on signs and clothes: the layers that keep their
# weights use each of them most often. Those products need not be computed. **How many times faster is the model with 90 % zeros
# on this computer**, in ONNX Runtime, on one core?

# %% predict-speed
training.predict_speed()

# %% write-files
dense_file = to_onnx(baseline, image, "models/baseline.onnx")
zeros_file = to_onnx(pruned, image, "models/pruned-90.onnx")

# %% measure-speed
runs = {
    "dense": Runner.open(dense_file).once(image),
    "90 % zeros": Runner.open(zeros_file).once(image),
}
race = compare_latency(runs, max_seconds=6)
reveal("speed", race.ratio, race)

# %% [markdown]
# The dense kernel multiplies zeros as carefully as any other number. To skip one it would have to look, and looking costs more
# than multiplying: vector instructions take 4, 8 or 16 products at a time, and all of them would have to be zero.
#
# ## A kernel that skips
#
# In **compressed sparse rows** (CSR) only the weights that are there are stored, each with the number of its column. A product
# then visits those alone, but jumps through memory as it does. A convolution is a product of matrices, with a column for each
# pixel of its output. The largest layer of the baseline has 256 × 2304 weights. **With 64 columns (8×8 pixels), how many per cent
# of the weights may be left when CSR begins to beat the dense product on this computer?**

# %% predict-crossing
products.predict_crossing()

# %% measure-crossing
largest = baseline.stages[2].body[1][0].weight
products_race = products.race(largest)
reveal("crossing", products_race.crossing(64), products.verdict(products_race, 64))

# %% [markdown]
# Try one column, and eight. **Does CSR always begin to win at the same place?** No: it has to beat a dense kernel that is very good at
# some shapes and less good at others.

# %% race-explorer
products.race_explorer(products_race)

# %% [markdown]
# ## One mask, four bills
#
# So much for time. And the file? An ONNX file stores every weight in four bytes, zero or not. **Zip finds the zeros. How many
# times smaller does it make the file of 90 % zeros?**

# %% predict-zip
bills.predict_zip()

# %% measure-zip
reveal("zip", zeros_file.stat().st_size / bills.zipped(zeros_file))

# %% [markdown]
# So the zeros were there for the taking. But a zipped file has to be unpacked as a whole before it is of any use, and a
# microcontroller has no room for that. It wants to find one layer, or one weight, on its own.
#
# ### Exercise 4: a bitmask (2 points)
#
# Store one bit for each weight: 1 if it is there. Behind the bits come the weights that are not zero, in their order. With $n$
# weights of 4 bytes and the sparsity $s$ this takes
#
# $$\left\lceil \frac{n}{8} \right\rceil + 4\,(1 - s)\,n \text{ bytes}$$
#
# `weight` is a NumPy array of any shape. `flatten` puts its numbers in a row, `np.packbits` makes bytes of a row of bits.


# %% bitmask tags=["exercise"]
def bitmask(weight):
    """Return (bits, values): uint8 with eight bits to a byte, and the weights that are not zero."""
    # BEGIN SOLUTION
    flat = weight.flatten()
    return np.packbits(flat != 0), flat[flat != 0]
    # END SOLUTION


# %% bitmask-check tags=["check"] points=2
check.bitmask(bitmask)

# %% bitmask-hidden tags=["hidden"]
import numpy as np

from edgelab.course import hidden

rng = hidden.rng(SEED, "bitmask")
random = np.random.default_rng(rng.randrange(2**31))
for shape in ((3, 7), (5, 2, 3, 3), (1, 21), (4, 4)):
    weight = random.normal(size=shape).astype(np.float32)
    weight[random.random(shape) < rng.uniform(0.2, 0.9)] = 0
    hidden.show(bitmask(weight))

# %% own-bytes
bills.bitmask_table(explorers.weights_of(pruned), bitmask)

# %% [markdown]
# Here is the same mask in four kinds of file. **Which row would you show to somebody who sells you sparsity?**

# %% bills
bills.bill_table(baseline, pruned, dense_file, zeros_file)

# %% [markdown]
# Dense weights get *larger* as a bitmask or in CSR: a format for zeros needs zeros. CSR spends two bytes on the column of each
# weight, and the bitmask one bit on each place, also where nothing is for miles. That is where zip saves: your global masks have
# left the largest layer nearly empty, and a long run of zeros costs zip next to nothing.
#
# ## Flash shrinks, and RAM explodes
#
# On a microcontroller the model lies in flash, and the interpreter reads the weights from there. It cannot compute with a bitmask: it
# decodes each layer into RAM before it runs it. An **NPU**, a chip beside the processor, can decode on the way. The next table
# writes int8 files of both models and asks TensorFlow Lite Micro, whose answers stay the same to the last bit, and Arm's compiler Vela
# for an Ethos-U55. **What will happen to the RAM, and how much faster will the NPU be?**

# %% flash
flash.flash_table(baseline, pruned, data.normalize(lessons.images[:64]))

# %% [markdown]
# We observe that the decoded weights need more RAM than all activations of a small picture did: this interpreter keeps several layers in it at once.
# The NPU reads its own compressed stream, and its flash shrinks at no cost in RAM. It gains little time: it waits for fewer
# weights, but still multiplies by every zero.
#
# ## Weights that share a value
#
# A weight that is there still takes 32 bits. In lab 02 a code stood for a mark of an even grid. A **codebook** need not be even: it
# holds the values that suit this layer, and each weight a code that says which. Finding them is *k-means*: every value belongs to
# the centroid it is nearest to, and every centroid moves to the mean of its values, over and over (Lloyd, 1982; Han et al., 2016).
#
# ### Exercise 5: a step of k-means (2 points)
#
# Both arguments are flat tensors. A centroid that no value is nearest to stays where it is.


# %% kmeans-step tags=["exercise"]
def kmeans_step(values, codebook):
    """Return the codebook after one step: each centroid at the mean of the `values` that are nearest to it."""
    # BEGIN SOLUTION
    codes = (values[:, None] - codebook).abs().argmin(1)
    moved = codebook.clone()
    for code in codes.unique():
        moved[code] = values[codes == code].mean()
    return moved
    # END SOLUTION


# %% kmeans-step-check tags=["check"] points=2
check.kmeans_step(kmeans_step)

# %% kmeans-step-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "kmeans-step")
generator = torch.Generator().manual_seed(rng.randrange(2**31))
for count in (2, 3, 5, 8):
    values = torch.randn(30, generator=generator)
    codebook = torch.cat([values[:count], torch.tensor([rng.uniform(50, 90)])])
    hidden.show(kmeans_step(values, codebook.sort().values))

# %% [markdown]
# Four bits name 15 values besides zero. Then comes the last step of the chain that Han et al. called *Deep Compression*: **Huffman
# coding** gives short codes to what is frequent, both to the weights' codes and to the distances from one weight to the next.

# %% chain
shared = bills.shared(pruned, kmeans_step, bits=4)
bills.chain_table(baseline, pruned, shared, exam, bits=4)

# %% [markdown]
# Every file in this table was written, and gives the very same weights back. No number was left out of the count.

# %% [markdown]
# ## A pattern that hardware can use
#
# Some chips do skip zeros, if they know where to look. NVIDIA's sparse tensor cores ask for **2:4**: of every four neighbouring
# input channels, two weights are zero. Then two bits say where each weight that stays belongs, and the chip does half of the
# products, up to twice as fast (Mishra et al., 2021). A pattern costs freedom: not the smallest half goes, but the smaller two of
# four. **Does the accuracy see the difference?** (No training in this table. And of 200 pictures, four are two points.)

# %% pattern
training.pattern_table(baseline, exam)

# %% [markdown]
# Dense kernels multiply by these zeros as well, as you measured above. A pattern is an offer to hardware that takes it.
#
# ## What the lesson claims, and what you measured
#
# **The claim:** most weights are redundant. Unstructured pruning removes them one by one, but needs special hardware to be any
# faster.
#
# **What you saw:** on signs and clothes nine in ten can go, at the price of some points, if the rest is trained for seconds.
# Dense kernels gain nothing. A kernel for sparse matrices may gain, where few weights are left and the shape suits it. Files
# shrink as soon as they are written for it, and only then.
#
# Add the dense file and the pruned one to the table of the course. (The accuracy of the second is counted on the first 1 000 test
# images at most, to save time. The last column says on how many, and by how much chance may have moved it: ± half the 95 % interval.)

# %% claim-table
recorded = models.manifest(dataset.name)[f"{dataset.name}/resnet"]["accuracy"]
written = {"accuracy": recorded, "file": dense_file}
table.add("baseline in ONNX Runtime", baseline, dataset, **written)

runner = Runner.open(zeros_file, threads=torch.get_num_threads())
judged = dataset.test[:1_000]
written = {"accuracy": train.evaluate(runner, judged), "pictures": len(judged)}
table.add("90 % zeros", pruned, dataset, **written, file=zeros_file)
table.show(dataset)

# %% pareto
table.pareto(dataset)

# %% [markdown]
# The new row has the size and the memory of the dense model, and on signs and clothes it is less accurate. The table counts what a dense runtime makes of it,
# and so it is beaten by size. (Should it be on the front by latency, that is chance: rows are not measured in turns.)

# %% progress
progress_board()

# %% [markdown]
# ## Summary
#
# - Magnitude is a good criterion: small weights can go, and most are small. Let all weights compete; look at single layers before.
# - Train what is left, with the masks on. Steps, fast at first and slow at the end, are for long trainings: compare them with one
#   cut.
# - A zero saves no time in a dense kernel. Whether CSR wins depends on the shape of the product, and on how few weights are left.
# - A zero saves no byte in a dense file. Zip finds the zeros; a bitmask finds them one layer at a time; a codebook makes the rest
#   small.
# - Prune, share, Huffman: each step makes the next one better.
#
# **If you want more:** change one thing at a time. Prune to 95 %. Train on 960 pictures a step. Leave the first layer and the last
# one dense.
#
# **Next:** [lab 06](06_structured_pruning.ipynb) takes whole channels away, so that what is left is a smaller dense network.
#
# ### Further reading
#
# - S. Han, J. Pool, J. Tran, W. J. Dally. *Learning both Weights and Connections for Efficient Neural Networks.* NeurIPS 2015.
# - S. Han, H. Mao, W. J. Dally. *Deep Compression: Compressing Deep Neural Networks with Pruning, Trained Quantization and Huffman
#   Coding.* ICLR 2016.
# - M. Zhu, S. Gupta. *To Prune, or Not to Prune: Exploring the Efficacy of Pruning for Model Compression.* arXiv:1710.01878, 2017.
# - J. Frankle, M. Carbin. *The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural Networks.* ICLR 2019.
# - A. Mishra et al. *Accelerating Sparse Deep Neural Networks.* arXiv:2104.08378, 2021. The 2:4 pattern.
# - D. Blalock et al. *What Is the State of Neural Network Pruning?* MLSys 2020. How results should be reported, and are not.
