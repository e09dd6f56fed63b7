"""The self-checks of lab 07."""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional as F

from edgelab.course.check import Case, Mistake, ask, check_function, check_that, exercise, must_take
from edgelab.i18n import _
from edgelab.labs.lab_07_distillation import distillers

LAB = "07_distillation"


def soften(answer: Callable) -> None:
    """Check `soften(logits, temperature)`."""
    with exercise(LAB, "soften"):
        logits = torch.tensor([[2.3, -0.7, 0.41], [0.2, 5.1, 3.3]])
        cases = [Case((logits, t), F.softmax(logits / t, 1)) for t in (1.0, 3.7, 0.6)]
        mistakes = [
            Mistake(
                lambda logits, t: F.softmax(logits * t, 1),
                _("You multiply by the temperature: that makes it surer. Divide."),
            ),
            Mistake(
                lambda logits, t: F.softmax(logits / t, 0),
                _("Your columns sum to 1. Each picture, a row, has probabilities of its own: dim=1."),
            ),
            Mistake(lambda logits, t: F.softmax(logits, 1), _("Where is the temperature?")),
            Mistake(
                lambda logits, t: F.softmax(logits, 1) / t,
                _("Divide the logits, before the softmax: these rows no longer sum to 1."),
            ),
            Mistake(
                lambda logits, t: F.log_softmax(logits / t, 1),
                _("Those are logarithms. Probabilities are asked for."),
            ),
            Mistake(
                lambda logits, t: F.softmax(logits, 1) ** t / (F.softmax(logits, 1) ** t).sum(1, keepdim=True),
                _("You raise to the power T; dividing logits by T is the power 1 / T."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def distillation_loss(answer: Callable) -> None:
    """Check `distillation_loss(student, teacher, labels, temperature, alpha)`."""
    with exercise(LAB, "distillation-loss"):
        student = torch.tensor([[1.2, -0.3, 0.7, 0.1], [0.4, 2.2, -1.1, 0.9], [-0.6, 0.3, 1.8, 0.2]])
        teacher = torch.tensor([[4.1, 0.2, 2.3, -1.0], [-0.5, 3.3, 0.1, 2.9], [0.8, -1.2, 2.6, 1.9]])
        labels = torch.tensor([0, 1, 3])
        cases = [
            Case((student, teacher, labels, t, alpha), _loss(student, teacher, labels, t, alpha))
            for t, alpha in ((3.7, 1.0), (3.7, 0.0), (2.3, 0.8), (1.0, 0.3))
        ]

        def wrong(**change: object) -> Callable:
            return lambda *args: _loss(*args, **change)

        mistakes = [
            Mistake(wrong(power=0), _("The factor T² is missing.")),
            Mistake(wrong(power=1), _("The factor is T², and not T.")),
            Mistake(wrong(factor_on_all=True), _("T² belongs to the soft loss alone.")),
            Mistake(wrong(swap=True), _("alpha weighs the soft loss, and 1 - alpha the hard one.")),
            Mistake(
                wrong(reverse=True),
                _("The divergence is the other way round. kl_div takes the student's logarithms first."),
            ),
            Mistake(wrong(reduction="mean"), _("You average over the classes too: use reduction='batchmean'.")),
            Mistake(wrong(reduction="sum"), _("You sum over the pictures: use reduction='batchmean'.")),
            Mistake(wrong(teacher_t=False), _("Soften the teacher's logits too.")),
            Mistake(wrong(student_t=False), _("Soften the student's logits too.")),
            Mistake(wrong(hard_t=True), _("The hard loss is that of the student at T = 1: logits as they are.")),
            Mistake(
                wrong(both="teacher"), _("The student's logits are not in the soft loss: the teacher is on both sides.")
            ),
            Mistake(
                wrong(teachers_label=True),
                _("The hard loss asks for the labels, not for what the teacher holds likeliest."),
            ),
            Mistake(
                wrong(cross_entropy=True),
                _("That is the cross entropy of the two: it is larger than the divergence by the teacher's own doubt."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _loss(
    student,
    teacher,
    labels,
    temperature,
    alpha,
    *,
    power=2,
    factor_on_all=False,
    swap=False,
    reverse=False,
    reduction="batchmean",
    teacher_t=True,
    student_t=True,
    hard_t=False,
    both="",
    teachers_label=False,
    cross_entropy=False,
):
    """Return the loss, or what becomes of it with one mistake."""
    if swap:
        alpha = 1 - alpha
    log_p = F.log_softmax(teacher / (temperature if teacher_t else 1), 1)
    log_q = F.log_softmax(student / (temperature if student_t else 1), 1)
    if both == "teacher":
        log_q = log_p
    if reverse:
        log_p, log_q = log_q, log_p
    soft = F.kl_div(log_q, log_p, reduction=reduction, log_target=True)
    if cross_entropy:
        soft = -(log_p.exp() * log_q).sum(1).mean()
    hard = F.cross_entropy(
        student / temperature if hard_t else student, teacher.argmax(1) if teachers_label else labels
    )
    factor = temperature**power
    if factor_on_all:
        return factor * (alpha * soft + (1 - alpha) * hard)
    return alpha * factor * soft + (1 - alpha) * hard


def works(answer: Callable) -> None:
    """Check `works(distiller)`: right ones pass, and each of the three broken ones is caught."""
    with exercise(LAB, "works"):
        must_take(answer, distillers.RIGHT[0])
        refused = {
            distillers.asks_as_it_goes: _(
                "it refuses a distiller that is right: it asks the teacher about each batch."
            ),
            distillers.keeps_answers: _(
                "it refuses a distiller that is right: it asks the teacher once about all images, and looks its "
                "answers up. Is what you give it as `teacher` a function of images, whichever they are?"
            ),
            distillers.sums_by_hand: _("it refuses a distiller that is right: it writes the divergence out as a sum."),
        }
        passed = {
            distillers.teacher_on_both_sides: _(
                "a distiller with the teacher on both sides passes. Do your student and your teacher answer "
                "differently?"
            ),
            distillers.answers_of_other_images: _(
                "a distiller that takes the teacher's answers of other images passes. Is your `order` other than 0, 1, "
                "2, ..., and does your teacher answer each image differently?"
            ),
            distillers.without_the_factor: _("a distiller without T² passes. What is T² at the temperature you chose?"),
        }
        for expected, sentences in ((True, refused), (False, passed)):
            for distiller, sentence in sentences.items():
                verdict = distillers.mostly(partial(ask, answer, call="works(distiller)"), distiller)
                check_that(verdict is not None, _("your function gives None. Did you forget `return`?"))
                check_that(isinstance(verdict, bool), _("return True or False."))
                check_that(verdict is expected, sentence)


def hint_loss(answer: Callable) -> None:
    """Check `hint_loss(student, teacher, regressor)`."""
    with exercise(LAB, "hint-loss"):
        generator = torch.Generator().manual_seed(3)
        cases = []
        for images, few, many, side in ((2, 3, 5, 4), (1, 2, 3, 2), (2, 3, 3, 2)):
            student = torch.randn(images, few, side, side, generator=generator)
            teacher = torch.randn(images, many, side, side, generator=generator)
            regressor = torch.randn(many, few, generator=generator)
            cases.append(Case((student, teacher, regressor), _hint(student, teacher, regressor)))
        mistakes = [
            Mistake(lambda s, t, r: 2 * _hint(s, t, r), _("Half of it: the ½ is missing.")),
            Mistake(lambda s, t, r: t.numel() * _hint(s, t, r), _("You sum. The mean over all numbers is asked for.")),
            Mistake(
                lambda s, t, r: t.numel() / len(t) * _hint(s, t, r),
                _("You average over the pictures alone. The mean over all numbers is asked for."),
            ),
            Mistake(
                lambda s, t, r: (_regressed(s, r) - t).abs().mean() / 2,
                _("Those are absolute differences. Square them."),
            ),
            Mistake(
                lambda s, t, r: (_regressed(s, r) - t).mean() ** 2 / 2,
                _("Square first, and average then: differences of both signs cancel."),
            ),
            Mistake(
                lambda s, t, r: torch.einsum("cd,nchw->ndhw", r, s),
                _("The regressor has the teacher's channels first, and the student's second."),
            ),
            Mistake(
                lambda s, t, r: (s - t).square().mean() / 2,
                _("Student and teacher have different numbers of channels: the regressor comes in between."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _regressed(student, regressor):
    return torch.einsum("dc,nchw->ndhw", regressor, student)


def _hint(student, teacher, regressor):
    return (_regressed(student, regressor) - teacher).square().mean() / 2
