# Lab 07. What a learner takes from it: a teacher's doubt teaches, most of all where labels are few; and seeds decide.

# %% [markdown]
# # Does a teacher help, and when?
#
# A small network is wanted, and a large one is there that knows the task. In **knowledge distillation** the large one, the
# *teacher*, answers, and the small one, the *student*, learns from these answers and not from labels alone. It is said to
# come close to its teacher with a fraction of the parameters.
#
# Labels say *this is an 80*. A teacher says *an 80, and if not, a 30 sooner than a stop sign*.
#
# 1. What is in a teacher's answer, and how does a student learn from it?
# 2. How do you notice that a distiller is **broken**, as three that shipped were?
# 3. When does a teacher **help**: with many labels, with few, with a teacher that is bad?
#
# It takes about 60 minutes. You need softmax and cross entropy, and of earlier labs only the word *MAC*.

# %% imports
import torch
from torch.nn import functional as F

from edgelab import data, models, train
from edgelab.deploy import Runner, to_onnx
from edgelab.explore import lab_map, progress_board, reveal, table
from edgelab.labs.lab_07_distillation import check, explorers, students, tables

dataset = data.load()
teacher = models.load_pretrained("resnet", dataset.name)

# %% map
lab_map("07_distillation")

# %% [markdown]
# The teacher is the course's baseline. It answers 2 000 training pictures, our `lessons`: once, for some seconds, and then its
# answers lie in your folder. Of the signs we take those seen by day, the easier task. The student has three convolutions. `study`
# trains each student once, in a second or two, and remembers it too.

# %% study
study = students.Study(teacher, dataset)
tables.cost_table(study)

# %% [markdown]
# Mind the last line. (A step of training counts as three passes: one forward, and two for the gradients.) A teacher is not free:
# whoever praises it must look at a student that was trained for longer without one.
#
# ## What does a teacher know?
#
# Mostly the teacher is sure: it gives 99 % and more to one class. What it thinks of all others begins many decimals further down,
# and no loss would notice it. Hinton, Vinyals and Dean (2015) raise it with a **temperature** $T$:
#
# $$p_k = \frac{e^{z_k / T}}{\sum_j e^{z_j / T}}$$
#
# $z$ are the logits. $T = 1$ is the usual softmax. What comes out are **soft targets**.
#
# ### Exercise 1: soft targets (2 points)
#
# Write `soften`. Each row of the logits is a picture. `F.softmax` is there.


# %% soften tags=["exercise"]
def soften(logits, temperature):
    """Return the soft targets (N, classes) of `logits` (N, classes): each row sums to 1."""
    # BEGIN SOLUTION
    return F.softmax(logits / temperature, dim=1)
    # END SOLUTION


# %% soften-check tags=["check"] points=2
check.soften(soften)

# %% soften-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "soften")
generator = torch.Generator().manual_seed(rng.randrange(2**31))
for _ in range(6):
    logits = 3 * torch.randn(4, 7, generator=generator)
    hidden.show(soften(logits, rng.uniform(0.5, 9)))

# %% [markdown]
# The explorer has test pictures that the teacher reads correctly, but with some doubt. Raise the temperature.
#
# - Which classes come up first? Do they *look* alike?
# - Which temperature tells you most about the other classes? What is left to learn at 20?

# %% temperature-explorer
explorers.temperature_explorer(study)

# %% [markdown]
# This is **dark knowledge**: no label holds it. At a high temperature all classes draw near each other, and differences of
# logits are what remains. Too low, and it is a label again.
#
# ## The loss
#
# The student's soft answers are to match the teacher's. Their distance is the Kullback-Leibler divergence, with both softened:
#
# $$\begin{aligned} L = {} &\alpha\, T^2\, \text{KL}\big(p^\text{teacher}_T \,\|\, p^\text{student}_T\big) \\
# &+ (1 - \alpha)\, \text{cross entropy}(\text{labels}) \end{aligned}$$
#
# Why $T^2$? Divide logits by $T$, and every gradient of the soft part becomes about $T^2$ times smaller. The factor takes that
# back, so that $\alpha$ means the same at every temperature. And with $\alpha = 1$ no label is needed at all.
#
# ### Exercise 2: the distillation loss (3 points)
#
# `F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)` is $\text{KL}(p \| q)$, the mean over the batch. It takes
# *logarithms*, and the second of its arguments is the target; `F.log_softmax` makes them. The hard loss sees the student's
# logits as they are.


# %% distillation-loss tags=["exercise"]
def distillation_loss(student_logits, teacher_logits, labels, temperature, alpha):
    """Return the loss of a batch: alpha weighs the soft part, 1 - alpha the cross entropy with `labels` (N,)."""
    # BEGIN SOLUTION
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    soft = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    hard = F.cross_entropy(student_logits, labels)
    return alpha * temperature**2 * soft + (1 - alpha) * hard
    # END SOLUTION


# %% distillation-loss-check tags=["check"] points=3
check.distillation_loss(distillation_loss)

# %% distillation-loss-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "distillation-loss")
generator = torch.Generator().manual_seed(rng.randrange(2**31))
for _ in range(8):
    mine, theirs = 2 * torch.randn(2, 5, 6, generator=generator)
    labels = torch.randint(0, 6, (5,), generator=generator)
    hidden.show(
        distillation_loss(
            mine, theirs, labels, rng.uniform(1.5, 8), rng.uniform(0.1, 1)
        )
    )

# %% [markdown]
# ## Three distillers that shipped broken
#
# Each of these faults was in code that many learn from; further reading says where:
#
# 1. the **teacher on both sides**: its logits are compared with its own;
# 2. **answers of other images**: they were kept in one order, and the batches came in another;
# 3. **no $T^2$**: $\alpha$ then means something else at each temperature.
#
# None of them stops with an error. Will you notice? A test does, if its inputs can tell right from wrong.
#
# ### Exercise 3: a test for distillers (3 points)
#
# A distiller is a function `distiller(student, teacher, images, order, temperature)` that returns the soft loss of one batch: only
# the part with $T^2$. `student` and `teacher` are functions from images to logits; `order` holds the places of the images in this
# batch. So the right loss is that of `student(images[order])` and `teacher(images[order])`.
#
# Write `works(distiller)`: call it once on inputs of your own, compare with what it should give, and return `True` or `False`.
# Make up some images, and two functions that answer differently. **Which `order` and which temperature would let a broken one
# slip through?**


# %% works tags=["exercise"]
def works(distiller):
    """Return whether `distiller` gives the soft loss that it should, as True or False."""

    # BEGIN SOLUTION
    def student(batch):
        return batch.flatten(1)[:, :5]

    def teacher(batch):
        return 2 * batch.flatten(1)[:, 5:10]

    images, order = torch.randn(6, 1, 4, 4), torch.tensor([4, 0, 5])
    mine, theirs = student(images[order]), teacher(images[order])
    labels = torch.zeros(3, dtype=torch.int64)
    expected = distillation_loss(mine, theirs, labels, 3.0, alpha=1.0)
    got = distiller(student, teacher, images, order, 3.0)
    return bool(torch.isclose(got, expected, rtol=1e-3))
    # END SOLUTION


# %% works-check tags=["check"] points=3
check.works(works)

# %% works-hidden tags=["hidden"]
from edgelab.course import hidden
from edgelab.labs.lab_07_distillation import distillers

rng = hidden.rng(SEED, "works")
kinds = [*distillers.RIGHT, *distillers.BROKEN] * 4
rng.shuffle(kinds)
hidden.show([distillers.mostly(works, one) for one in kinds])

# %% [markdown]
# What would have happened without a test? The same student learns from the same pictures and labels ($\alpha = 0.9$,
# $T = 4$), with your loss and with each fault. **Which faults would you have seen in the accuracy?**

# %% fault-table
tables.fault_table(study, distillation_loss)

# %% [markdown]
# Compare with the last row, a student that had labels and no teacher. On signs and on clothes one fault is a disaster, and you
# would have seen it. The other two look like a worse student. In fact they take smaller steps: where the teacher is on both
# sides, only the labels' tenth of the loss is left, and without $T^2$ about a sixth. Nobody looks for a fault there: one
# concludes that distillation gives nothing.
#
# ## A class it never saw
#
# Here is an experiment of Hinton's, on our pictures. We take **one class out of the lessons**: the limit of 80 on the signs, the
# shirt on Fashion-MNIST, the last class of other data. The teacher knows it. The student learns from soft targets of the other
# pictures alone ($\alpha = 1$). Nobody ever shows it one of these.
#
# **How many of that class in the test will it name?**

# %% predict-never-seen
tables.predict_never_seen()

# %% [markdown]
# One thing must be mended first. The class was never the answer, so the student has learnt that it is improbable: the bias of its
# logit is too low. We add to this logit what makes the class come up as often as if all classes were equally frequent, among
# pictures of all classes *without looking at their labels*.

# %% never-seen
taught = study.student_without(study.left_out, taught=True)
bias = students.bias_that_fits(train.predict(taught, study.lessons), study.left_out)
logits = train.predict(taught, study.exam)
own, every = students.named(logits, study.exam.labels, study.left_out, bias)
reveal("never-seen", 100 * own)

# %% [markdown]
# What is it without the bias? And what of a student that learnt the same pictures from their *labels*? Move the slider, and
# change the student.

# %% never-seen-explorer
explorers.never_seen_explorer(study)

# %% [markdown]
# Labels say nothing of a class that is not there. A bias then finds what is unlike all the others: on signs and clothes fewer of
# the class, at a higher price for the rest. The teacher has said of every 30 how much it looks like an 80, and of every pullover how much like
# a shirt. From that the student knows what to look for.
#
# ## When does it help?
#
# Now the question that matters. Suppose that only **100 of the 2 000 pictures have a label**. The student alone learns from
# these. With the teacher it learns from all 2 000, without any label ($\alpha = 1$). Both see ten thousand pictures: the one 100
# a hundred times each, the other 2 000 five times. (Our teacher was trained on these pictures with their labels, so here it is as
# good as a teacher can be. On pictures new to it, it would be right less often.) **How many points does the teacher win?**

# %% predict-few-labels
tables.predict_few_labels()

# %% [markdown]
# One student of each kind proves little: another seed, and the difference is another one. So we train **five of each**, compare
# pair by pair, and ask how far chance may have moved the mean: the 95 % interval is a bootstrap, made wider for so few pairs.

# %% few-labels
few = study.gain("few distilled", over="few alone")
reveal("few-labels", few.mean, few)

# %% [markdown]
# On signs and on clothes that is clear. And with a label for every picture? There are controls as well, so that the teacher is not praised for
# what others do:
#
# - **labels smoothed**: 10 % of the probability is spread over all classes, by nobody who knows anything;
# - **twice as long**: five more passes, a small part of what the teacher's answers cost (see the first table);
# - **a bad teacher**: the tiny ResNet with weights of 3 bits, not trained again, from lab 04.
#
# Where labels are few there is one control more, the teacher's **answers as labels**: the student learns the class that it names,
# and nothing of its doubt. The next cell trains some thirty students. Before you look: which intervals will leave out zero?

# %% seeds-explorer
explorers.seeds_explorer(study)

# %% [markdown]
# Read it one interval at a time. If one contains zero, five seeds cannot tell that way from training alone. If a control wins
# as much as the teacher, it was not the teacher's knowledge that won.
#
# - With few labels the teacher replaces the labels that are missing. What its doubt adds to that is the distance between the two
#   rows.
# - With many, what it wins is smaller, and depends on data, student and patience.
# - A bad teacher hands its mistakes on. The student is asked to repeat them in nine parts of ten.
#
# ## Does a student take after its teacher?
#
# Here are the most frequent mistakes on 500 test pictures. **Whose are more like the teacher's?**

# %% confusion-explorer
explorers.confusion_explorer(study)

# %% likeness
tables.likeness_table(study)

# %% [markdown]
# If the two shares are near each other, the student has not taken after its teacher: what looks alike confuses everyone.
#
# ## Hints: learn from the inside
#
# A student can be asked to resemble its teacher *inside* as well. The features $v$ of one of its layers are compared with those
# of the teacher, $u$. It has fewer channels, so a **regressor** $R$, a $1 \times 1$ convolution, comes in between (after FitNets;
# Romero et al., 2015):
#
# $$L = \tfrac{1}{2}\, \text{mean}\big((R\,v - u)^2\big)$$
#
# ### Exercise 4: the hint loss (2 points)
#
# `regressor` is a matrix, (teacher's channels, student's channels). It acts on the channels of each pixel: with indices
# `d` and `c` for them, that is `torch.einsum("dc,nchw->ndhw", ...)`.


# %% hint-loss tags=["exercise"]
def hint_loss(student, teacher, regressor):
    """Return half the mean squared difference of features (N, C, H, W), regressed, and (N, D, H, W)."""
    # BEGIN SOLUTION
    regressed = torch.einsum("dc,nchw->ndhw", regressor, student)
    return (regressed - teacher).square().mean() / 2
    # END SOLUTION


# %% hint-loss-check tags=["check"] points=2
check.hint_loss(hint_loss)

# %% hint-loss-hidden tags=["hidden"]
import torch

from edgelab.course import hidden

rng = hidden.rng(SEED, "hint-loss")
generator = torch.Generator().manual_seed(rng.randrange(2**31))
for _ in range(6):
    few, many, side = rng.randrange(2, 5), rng.randrange(5, 9), rng.randrange(2, 6)
    mine = torch.randn(3, few, side, side, generator=generator)
    theirs = torch.randn(3, many, side, side, generator=generator)
    hidden.show(hint_loss(mine, theirs, torch.randn(many, few, generator=generator)))

# %% [markdown]
# Our students never got a hint. Do they resemble the teacher inside all the same? For each of them we look for the regressor that
# fits best. 1 means that nothing of the teacher's features is to be found in the student's.

# %% hint-table
tables.hint_table(study, hint_loss)

# %% [markdown]
# ## What the lesson claims, and what you measured
#
# **The claim:** a student comes close to its teacher with a fraction of the parameters.
#
# **What you saw:** with few labels the teacher of signs or of clothes wins many points, clear of chance. With many labels look at your interval. And
# *close* depends on the student: this one is small, and stays well behind.
#
# The student goes into your table, as a file for ONNX Runtime. There it is judged on **all** test pictures: on the signs on
# those of night and fog as well, which it has never seen.

# %% claim-table
student = study.student("distilled")
image = data.normalize(dataset.test.images[:1])
path = to_onnx(student, image, "models/distilled.onnx")
written = {"accuracy": train.evaluate(Runner.open(path), dataset.test), "file": path}
table.add("distilled student", student, dataset, **written)
table.show(dataset)

# %% pareto
table.pareto(dataset)

# %% progress
progress_board()

# %% [markdown]
# ## Summary
#
# - A temperature shows what a teacher thinks of the wrong classes. That is what a label cannot say.
# - The loss is a divergence times $T^2$. Test your distiller on inputs that can tell: faults do not stop with an error.
# - A student can name what it has never seen, if its teacher knew it.
# - Several seeds, pairs, an interval, and controls decide whether a teacher helped.
# - Few labels and many pictures: there it helps most. The **student** needs no label at all; its teacher did.
#
# **If you want more:** change one thing at a time. Raise the temperature to 8 in a loss of your own. Then let two different
# teachers answer (`Ensemble` of `edgelab.distillation`). Last, take `decoupled_loss` of the same module.
#
# **Next:** [lab 08](08_light_architectures.ipynb) builds networks that are light from the start.
#
# ### Further reading
#
# - G. Hinton, O. Vinyals, J. Dean. *Distilling the Knowledge in a Neural Network.* arXiv:1503.02531, 2015. Section 3 leaves a
#   class out.
# - A. Romero et al. *FitNets: Hints for Thin Deep Nets.* ICLR 2015.
# - S. Zagoruyko, N. Komodakis. *Paying More Attention to Attention.* ICLR 2017.
# - W. Park, D. Kim, Y. Lu, M. Cho. *Relational Knowledge Distillation.* CVPR 2019.
# - L. Beyer et al. *Knowledge Distillation: A Good Teacher Is Patient and Consistent.* CVPR 2022.
# - B. Zhao et al. *Decoupled Knowledge Distillation.* CVPR 2022.
# - The three faults, on GitHub: *labmlai/annotated_deep_learning_paper_implementations*, issue 66 (2021);
#   *haitongli/knowledge-distillation-pytorch*, issues 4 and 9 (2018); *IntelLabs/distiller*, issue 122 (2019). In
#   *keras-team/keras-io*, pull request 870 (2022), the author answers that the factor was left out on purpose, for simplicity.
# - T. Hesterberg. *What Teachers Should Know About the Bootstrap.* The American Statistician, 2015. Why few values need a
#   wider interval.
