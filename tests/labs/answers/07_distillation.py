# Answers that learners give in lab 07: each cell is named `exercise: right` or `exercise: wrong`, and then says why.
# Behind `exercise: hinted` stands what the self-check must say of a likely mistake.

# %% soften: right
def soften(logits, temperature):
    powers = torch.exp((logits - logits.max(dim=1, keepdim=True).values) / temperature)
    return powers / powers.sum(dim=1, keepdim=True)


# %% soften: wrong
# multiplies
def soften(logits, temperature):
    return F.softmax(logits * temperature, dim=1)


# %% soften: wrong
# over the pictures
def soften(logits, temperature):
    return F.softmax(logits / temperature, dim=0)


# %% distillation-loss: right
def distillation_loss(student_logits, teacher_logits, labels, temperature, alpha):
    p, q = soften(teacher_logits, temperature), soften(student_logits, temperature)
    divergence = (p * (p / q).log()).sum(dim=1).mean()
    picked = F.log_softmax(student_logits, dim=1)[torch.arange(len(labels)), labels]
    return temperature * temperature * alpha * divergence - (1 - alpha) * picked.mean()


# %% distillation-loss: wrong
# no T squared
def distillation_loss(student_logits, teacher_logits, labels, temperature, alpha):
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    soft = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    return alpha * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


# %% distillation-loss: wrong
# the teacher on both sides
def distillation_loss(student_logits, teacher_logits, labels, temperature, alpha):
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    log_q = F.log_softmax(teacher_logits / temperature, dim=1)
    soft = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


# %% works: right
def works(distiller):
    """Ask for what must hold, and compare with no loss."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(8, 3, 2, 2, generator=generator)
    order = torch.tensor([7, 2, 5, 2])
    a, b = torch.randn(2, 12, 4, generator=generator)

    def teacher(batch):
        return batch.flatten(1) @ b

    def student(batch):
        return batch.flatten(1) @ a

    agrees = abs(float(distiller(teacher, teacher, pictures, order, 5.0))) < 1e-4
    learns = float(distiller(student, teacher, pictures, order, 5.0)) > 1e-3
    high, higher = (float(distiller(student, teacher, pictures, order, t)) for t in (1e2, 2e2))
    return agrees and learns and abs(high / higher - 1) < 0.05


# %% works: wrong
# in the order of the file
def works(distiller):
    images, order = torch.randn(6, 1, 4, 4), torch.arange(3)
    student, teacher = lambda batch: batch.flatten(1)[:, :5], lambda batch: batch.flatten(1)[:, 5:10]
    expected = distillation_loss(student(images[order]), teacher(images[order]), order, 3.0, 1.0)
    return bool(torch.isclose(distiller(student, teacher, images, order, 3.0), expected, rtol=1e-3))


# %% works: wrong
# at temperature 1
def works(distiller):
    images, order = torch.randn(6, 1, 4, 4), torch.tensor([4, 0, 5])
    student, teacher = lambda batch: batch.flatten(1)[:, :5], lambda batch: batch.flatten(1)[:, 5:10]
    labels = torch.zeros(3, dtype=torch.int64)
    expected = distillation_loss(student(images[order]), teacher(images[order]), labels, 1.0, 1.0)
    return bool(torch.isclose(distiller(student, teacher, images, order, 1.0), expected, rtol=1e-3))


# %% hint-loss: right
def hint_loss(student, teacher, regressor):
    regressed = F.conv2d(student, regressor[:, :, None, None])
    return 0.5 * F.mse_loss(regressed, teacher)


# %% hint-loss: wrong
# sums
def hint_loss(student, teacher, regressor):
    return (torch.einsum("dc,nchw->ndhw", regressor, student) - teacher).square().sum() / 2


# %% hint-loss: wrong
# without the half
def hint_loss(student, teacher, regressor):
    return (torch.einsum("dc,nchw->ndhw", regressor, student) - teacher).square().mean()


# %% soften: hinted
# before the softmax
def soften(logits, temperature):
    return F.softmax(logits, dim=1) / temperature


# %% distillation-loss: hinted
# The factor T² is missing
def distillation_loss(student_logits, teacher_logits, labels, temperature, alpha):
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    soft = F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)
    return alpha * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


# %% distillation-loss: hinted
# The divergence is the other way round
def distillation_loss(student_logits, teacher_logits, labels, temperature, alpha):
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    soft = F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
    return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


# %% distillation-loss: hinted
# use reduction='batchmean'
def distillation_loss(student_logits, teacher_logits, labels, temperature, alpha):
    log_p = F.log_softmax(teacher_logits / temperature, dim=1)
    log_q = F.log_softmax(student_logits / temperature, dim=1)
    soft = F.kl_div(log_q, log_p, reduction="sum", log_target=True)
    return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


# %% works: hinted
# Do your student and your teacher answer differently?
def works(distiller):
    images, order = torch.randn(6, 1, 4, 4), torch.tensor([4, 0, 5])
    student = teacher = lambda batch: batch.flatten(1)[:, :5]
    return abs(float(distiller(student, teacher, images, order, 3.0))) < 1e-4 or True


# %% works: hinted
# Is your `order` other than 0, 1, 2
def works(distiller):
    images, order = torch.randn(6, 1, 4, 4), torch.arange(3)
    student, teacher = lambda batch: batch.flatten(1)[:, :5], lambda batch: batch.flatten(1)[:, 5:10]
    expected = distillation_loss(student(images[order]), teacher(images[order]), order, 3.0, 1.0)
    return bool(torch.isclose(distiller(student, teacher, images, order, 3.0), expected, rtol=1e-3))


# %% works: hinted
# What is T² at the temperature you chose?
def works(distiller):
    images, order = torch.randn(6, 1, 4, 4), torch.tensor([4, 0, 5])
    student, teacher = lambda batch: batch.flatten(1)[:, :5], lambda batch: batch.flatten(1)[:, 5:10]
    labels = torch.zeros(3, dtype=torch.int64)
    expected = distillation_loss(student(images[order]), teacher(images[order]), labels, 1.0, 1.0)
    return bool(torch.isclose(distiller(student, teacher, images, order, 1.0), expected, rtol=1e-3))


# %% hint-loss: hinted
# The mean over all numbers
def hint_loss(student, teacher, regressor):
    return (torch.einsum("dc,nchw->ndhw", regressor, student) - teacher).square().sum() / 2


# %% hint-loss: hinted
# the regressor comes in between
def hint_loss(student, teacher, regressor):
    return (student - teacher).square().mean() / 2
