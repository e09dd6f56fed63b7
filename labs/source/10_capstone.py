# Lab 10. What a learner takes from it: limits are measured, order matters, a search beats a guess, and a bound is an argument.

# %% [markdown]
# # Fit a model to a device
#
# Nobody deploys "a small model". One deploys a model that fits a **brief**: so many bytes in the flash, so many in the RAM, so
# many microseconds, and still the right answers. You have all the techniques now. This time you choose.
#
# 1. In which **order** do pruning, distillation and quantization go, and what does the wrong one cost?
# 2. How do you show that a target **cannot be met**, rather than believe it?
# 3. What does a **search** find that you did not?
# 4. Do you beat a network that others have published? And how long does the battery last?
#
# It takes about 60 minutes. You need the groups of [lab 06](06_structured_pruning.ipynb) and the teacher of
# [lab 07](07_distillation.ipynb).

# %% imports
from edgelab import data, train
from edgelab.deploy import Runner
from edgelab.explore import lab_map, progress_board, reveal, table
from edgelab.labs.lab_10_capstone import (
    battery,
    check,
    costs,
    explorers,
    rival,
    workshop,
)

dataset = data.load()

# %% map
lab_map("10_capstone")

# %% [markdown]
# You start from `resnet_tiny`. The course's baseline answers some of the training pictures and becomes its teacher. All choices
# are made by **judges**: the last training pictures. No network was trained on them. (They did choose the epoch at which the
# course's own networks stopped: a little they have been used.) The test pictures stay closed until you have chosen. Whoever
# chooses by the test has learnt from it.

# %% workshop
shop = workshop.Workshop(dataset)
print(shop)

# %% [markdown]
# ## The brief
#
# Here are two products, and what each leaves for the model. The *sensor* is updated by radio, so its file must be short; its RAM
# also holds the picture and the radio. The *camera* has a neural processor that other programs want as well.

# %% briefs
costs.brief_table(shop.costs[8, 16, 32], shop.growth)

# %% [markdown]
# The last line is the network to start from. Bytes are those of the int8 file, the arena is what TensorFlow Lite Micro allocates,
# the time is Arm's estimate for the NPU. Bytes and arena depend on shapes alone, the time nearly: the NPU's compiler packs the
# weights (lab 05), and random ones stand for yours. For the course's own pictures all three are on record; for yours they are
# measured here. (If yours have more than 32×32 pixels, the limits of RAM and time are larger in proportion.)
#
# ### Exercise 1: which limits are broken? (2 points)
#
# `measured` and `limits` have numbers by name. Return a list of the names of the limits that are broken, in the order of `limits`.
# Exactly at a limit is within it. **What was not measured is not met**: if a number is missing or `None`, that limit counts as broken.


# %% broken tags=["exercise"]
def broken(measured, limits):
    """Return the names of the limits that `measured` breaks, or has no figure for, as a list."""
    # BEGIN SOLUTION
    return [
        name
        for name, most in limits.items()
        if measured.get(name) is None or measured[name] > most
    ]
    # END SOLUTION


# %% broken-check tags=["check"] points=2
check.broken(broken)

# %% broken-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "broken")
names = ("bytes", "arena", "us", "ms")
for _ in range(20):
    limits = {name: rng.randrange(5, 9) for name in rng.sample(names, 3)}
    measured = {name: rng.choice((5, 6, 7, 8, None)) for name in rng.sample(names, 3)}
    hidden.show(broken(measured, limits))

# %% [markdown]
# Choose a brief, and a shape: the channels of the three stages. The whole network is `(8, 16, 32)`; take 4, 5, 6 or 8 for the first
# stage, 8, 10, 12 or 16 for the second, 16, 20, 24 or 32 for the third. **Which shape would you bet on?** Change both lines.

# %% choose
brief = "sensor"
mine = (6, 12, 20)
limits = shop.limits(brief)

# %% first-guess
costs.tell_broken(broken(shop.costs[mine], limits))

# %% [markdown]
# ## The order
#
# Three steps: **prune** to your shape, **distil** (three passes over the lessons, with the teacher), **quantize** to int8. Is their order
# a matter of taste?
#
# Take `distil → prune → quantize`: train well, then cut. **How many points does it lose against `prune → distil → quantize`?**

# %% predict-order
explorers.predict_order()

# %% measure-order
prune_first = shop.order(("prune", "distil", "quantize"), mine)
prune_last = shop.order(("distil", "prune", "quantize"), mine)
reveal("order", 100 * (prune_first - prune_last))

# %% order-table
workshop.order_table(shop, mine)

# %% [markdown]
# Pruning leaves a network that has lost channels and whose batch norms expect them. In the third row these see 256 pictures and
# take their means and variances again, without training: the network is **settled**. That gives much back, and not all. Training
# repairs the rest, if it comes *behind*. Quantization comes last, because what it returns are codes: nothing is left there to be
# cut or trained. (Training *with* simulated rounding, as in lab 04, is distilling while quantizing. It also comes behind pruning.)
#
# ## A table of 64 networks
#
# Your shape is one of $4 \cdot 4 \cdot 4 = 64$. To judge all of them one would train 64 networks. There is a cheaper way (Cai et al.,
# 2020): **train one from which all can be cut**. In every batch another shape is drawn, and the gradient goes to the weights that this
# shape has. Then each network is cut out, settled, and the judges look. That takes one training.

# %% family
networks = shop.table()

# %% [markdown]
# ### Exercise 2: a bound, not an opinion (3 points)
#
# Your client wants 99 % within the limits. "I tried, and it did not work" is an opinion. A **bound** is an argument: *of all
# networks that were measured within the limits, the best has this accuracy*.
#
# The judges are $n$ pictures out of many. The accuracy $p$ that they measure has a standard deviation of $\sqrt{p\,(1-p)/n}$. So take
# as the **ceiling**
#
# $$p + 1.96 \sqrt{\frac{p\,(1-p)}{n}}$$
#
# A target above the ceiling is out of reach for this family, trained in this way. Return both: the bound, which is 0 if no row is
# within the limits, and the ceiling. Each row of `table` has its "accuracy" and its costs by name.


# %% proof tags=["exercise"]
def proof(table, limits, images):
    """Return two numbers: the best accuracy of a row within all limits, and the ceiling of it over `images`."""
    # BEGIN SOLUTION
    within = [row["accuracy"] for row in table if not broken(row, limits)]
    bound = max(within, default=0.0)
    return bound, bound + 1.96 * (bound * (1 - bound) / images) ** 0.5
    # END SOLUTION


# %% proof-check tags=["check"] points=3
check.proof(proof)

# %% proof-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "proof")
for images in (100, 300, 1_000, 3_000, 777):
    rows = [
        {
            "accuracy": rng.uniform(0.5, 0.99),
            "bytes": rng.randrange(9),
            "us": rng.randrange(9),
        }
        for _ in range(12)
    ]
    for most in ((4, 4), (6, 3), (8, 0)):
        hidden.show(proof(rows, {"bytes": most[0], "us": most[1]}, images))

# %% [markdown]
# Now the client's 99 % can be answered:

# %% client
explorers.tell_client(0.99, proof(networks, limits, len(shop.judges)))

# %% [markdown]
# *Out of reach* is an answer with a reason: 64 networks were measured, and chance in the judges explains hardly more than the
# difference between the two numbers: 1.96 deviations are exceeded once in forty times. *Not ruled out* is no promise. (The best of
# many was lucky rather than not, so the bound is a friendly one.)
#
# ### Explorer: two limits at once
#
# 1. Make the limits tighter. Which of the two breaks first?
# 2. When is no network left at all? That is the strongest argument: the *smallest* of the family is too large already.
# 3. Is the most accurate network within the limits always the largest in bytes?

# %% family-explorer
explorers.family_explorer(networks, proof, len(shop.judges), shop.growth)

# %% [markdown]
# The bound speaks of what was measured: this family, this training. Another architecture is another table. But whoever says that the
# target can be met now owes a row.
#
# ## A search
#
# Suppose that each accuracy costs a training, and you can pay for some only. A search asks for one network at a time: that is a *look*.
# **Random** search looks anywhere. **Evolution** keeps the best so far, changes one of them a little (a stage one step wider or
# narrower), and looks at that. It needs to know which of two networks is *better*, also where both break a limit.
#
# ### Exercise 3: which is better? (3 points)
#
# Rank the rows, the best first. (The idea is Deb's, 2000. He adds up by how much each limit is broken; here the worst counts.)
#
# 1. rows within all limits come first, the most accurate one leading;
# 2. then the others, the smallest **excess** leading: the largest of the ratios cost / limit;
# 3. of rows that are equally good, the first in the table leads.
#
# Return the rows' numbers, from 0. Every cost in `limits` is known in every row.


# %% rank tags=["exercise"]
def rank(table, limits):
    """Return the numbers of all rows as a list, the best first."""

    # BEGIN SOLUTION
    def key(number):
        row = table[number]
        excess = max(row[name] / most for name, most in limits.items())
        return (0, -row["accuracy"]) if excess <= 1 else (1, excess)

    return sorted(range(len(table)), key=key)
    # END SOLUTION


# %% rank-check tags=["check"] points=3
check.rank(rank)

# %% rank-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "rank")
for most in (3, 5, 7, 9):
    rows = [
        {
            "accuracy": rng.uniform(0.5, 0.99),
            "bytes": rng.uniform(1, 9),
            "us": rng.uniform(10, 90),
        }
        for _ in range(12)
    ]
    hidden.show(rank(rows + rows[:2], {"bytes": most, "us": 8 * most}))

# %% [markdown]
# The table is complete, so we can let each search run 200 times, and no look costs anything. Random search needs 32 or 33 looks on
# average to find the best of 64. **How many does evolution need?**

# %% predict-looks
explorers.predict_looks()

# %% measure-looks
by_rank = explorers.ranked_shapes(networks, rank, limits)
outcomes = explorers.searches(by_rank)
reveal("looks", outcomes["evolution"].looks)

# %% search-explorer
explorers.search_explorer(outcomes)

# %% [markdown]
# Evolution uses that neighbours are alike. Where they are not, or where the table is small, chance does as well: always run it beside
# your search. And what did the search find that you did not?

# %% finding
explorers.finding_table(networks, mine, by_rank, limits)

# %% [markdown]
# ## The rival
#
# MLPerf Tiny's image classifier is a ResNet-8 in int8 (Banbury et al., 2021). Its file has 98 496 bytes, and TensorFlow Lite
# Micro takes an arena of 55 984 for it. Its data is CIFAR-10. For signs and for clothes a network of its shape was trained.
# Fairly? By the recipe of the course's own models, for as many multiply-accumulates as went into yours: the tiny network's
# training, the teacher's answers, and this lab. Not counted is the training of the teacher, on signs fifty times all of that: it
# was there already. Who has to train one first has no such bargain.
#
# Who stands against it? The family's judges saw networks that share their weights, and the first few are hardly apart. So the
# first **two** are finished: `resnet_tiny` is pruned to each shape, and taught by the teacher on its own, without the family.
# **Will the first of the ranking still be the first?**

# %% finals
finals = shop.finals(by_rank)
explorers.finals_table(networks, finals, len(shop.judges))

# %% [markdown]
# What is smaller than the ± may be chance in the pictures. Another seed of the training moves a network as well: the rival's two
# on signs lie six points apart. One training each names a favourite, not a winner. And weights that are shared can rank networks
# by something else than their worth (K. Yu et al., 2020): so they only named the candidates.
#
# Does one of these lie above your ceiling? That spoke of the family's training, and this is another one, which owes a bound of
# its own. *Out of reach* never means more than: by what was tried.
#
# The judges' favourite is quantized and written for both runtimes. Then the test pictures are opened, once.

# %% finish
champion = max(finals, key=finals.get)
final_model, onnx_file, tflite_file = shop.finish(champion)
opened = dataset.test[:3000]
workshop.agreement(onnx_file, tflite_file, opened)

# %% duel
runner = Runner.open(onnx_file, threads=2)
tested = train.evaluate(runner, opened)
has = rival.measured(shop, champion, tflite_file)
costs.tell_broken(broken(has, limits))
rival.duel_table(shop, champion, tflite_file, tested)

# %% race
print(rival.race(shop, onnx_file))

# %% long-rival
print(rival.long_rival(dataset))

# %% [markdown]
# Read the last lines, too: where the rival is on record, they say for how long it was trained. A larger network has room to learn
# more when it is trained for longer, and then the comparison is another one. (For signs there is a line more: who learns for long
# *first* and is cut *then* needs half of the bytes for nearly the same.) **A claim of size or speed counts only with its
# accuracy**, and an accuracy only with what it cost to train.
#
# ## How long does the battery last?
#
# MLPerf Tiny has the energy of one inference *measured*. For ResNet-8, on a Cortex-M4 (STM32L4R5), it is 5 496 µJ. One picture a second,
# nothing drawn in between, a coin cell of 225 mAh at 3 V. **For how many days?**

# %% predict-days
battery.predict_days()

# %% [markdown]
# ### Exercise 4: days (2 points)
#
# A battery of `mah` at `volts` holds `mah / 1000` ampere hours; an hour has 3 600 seconds, and watt seconds are joules. It is emptied
# by inferences of `joules` each, `per_second` of them, and by `watts` that are drawn all the time. A day has 86 400 seconds.


# %% days tags=["exercise"]
def days(mah, volts, joules, per_second, watts):
    """Return for how many days the battery lasts."""
    # BEGIN SOLUTION
    energy = mah / 1000 * 3600 * volts
    power = joules * per_second + watts
    return energy / power / 86_400
    # END SOLUTION


# %% days-check tags=["check"] points=2
check.days(days)

# %% days-hidden tags=["hidden"]
from edgelab.course import hidden

rng = hidden.rng(SEED, "days")
for _ in range(20):
    mah, volts = rng.uniform(90, 5_000), rng.uniform(1.2, 12.6)
    joules, per_second = rng.uniform(1e-4, 9e-3), rng.uniform(0.01, 20)
    hidden.show(days(mah, volts, joules, per_second, rng.uniform(0, 3e-3)))

# %% measure-days
reveal("days", battery.on_coin_cell(days))

# %% battery-table
battery.table(days, final_model, shop.image)

# %% [markdown]
# The same network, three boards: on one of them the battery lasts more than five times as long as on another, as if the network had a fifth of
# its MACs. (Yours in proportion to its MACs is a guess, as lab 08 showed. And a coin cell gives less than its label at the currents
# of an inference.)
#
# 1. On which board can the coin cell last a year, and at how many pictures a minute?
# 2. From where on does sleeping cost more than thinking?

# %% battery-explorer
battery.battery_explorer(days)

# %% [markdown]
# ## What the lesson claims, and what you measured
#
# **The claim:** with pruning, distillation and quantization a network fits a small device.
#
# **What you saw:** it does, in the right order, under limits that were measured, and up to a bound that you can name.
#
# Your network enters the table of the whole course, and the leader board, where five fresh processes measure its file.

# %% claim-table
written = {"accuracy": tested, "pictures": len(opened), "precision": "int8"}
table.add("capstone", final_model, dataset, **written, file=onnx_file)
table.show(dataset)

# %% leader-board
rival.enter_leader_board(onnx_file, dataset, "capstone")

# %% pareto
table.pareto(dataset)

# %% progress
progress_board()

# %% [markdown]
# ## Summary
#
# - A brief is a list of limits in measured quantities. What was not measured is not met.
# - Prune first, train behind it, quantize last.
# - Choose by judges, not by the test.
# - A bound from measured rows is an argument. Trying and failing is not.
# - One training can serve a family, and a search then needs only looks. Finish a few before you crown one; let chance compete.
# - Compare at equal accuracy, and say what each training cost.
#
# **If you want more:** change one thing at a time. Take the other brief. Let evolution keep more parents: import `search` from this
# lab's modules, and set `search.PARENTS = 12`. Then write the final network's training with simulated rounding, as in lab 04.
#
# This was the last lab. The table is yours: the front that you see is the one that you made.
#
# ### Further reading
#
# - C. Banbury et al. *MLPerf Tiny Benchmark.* NeurIPS Datasets and Benchmarks, 2021. Results: *mlcommons/tiny_results_v1.3* on GitHub.
# - H. Cai et al. *Once-for-All: Train One Network and Specialize it for Efficient Deployment.* ICLR 2020.
# - J. Yu et al. *Slimmable Neural Networks.* ICLR 2019.
# - K. Yu et al. *Evaluating the Search Phase of Neural Architecture Search.* ICLR 2020. What a ranking by shared weights is worth.
# - C. Ying et al. *NAS-Bench-101.* ICML 2019. A table of networks, made so that searches can be compared.
# - E. Real et al. *Regularized Evolution for Image Classifier Architecture Search.* AAAI 2019.
# - K. Deb. *An Efficient Constraint Handling Method for Genetic Algorithms.* 2000.
# - L. Li, A. Talwalkar. *Random Search and Reproducibility for Neural Architecture Search.* UAI 2019. Why chance must run beside.
# - J. Lin et al. *MCUNet: Tiny Deep Learning on IoT Devices.* NeurIPS 2020.
