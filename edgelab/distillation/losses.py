"""Losses between the answers of a student and of a teacher: what the student is to match, and how much of it.

All take logits `(N, classes)` and return one number, the mean over the batch. The teacher gets no gradient.
"""

import torch
from torch.nn import functional as F

from edgelab.errors import EdgelabError
from edgelab.i18n import _


def soft_targets(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return `softmax(logits / temperature)`, shape `(N, classes)`: the higher the temperature, the more even.

    Source: Hinton, Vinyals and Dean, 2015, "Distilling the Knowledge in a Neural Network", equation 1. Raise
    `EdgelabError` for a temperature that is not above 0.

    >>> soft_targets(torch.tensor([[0.0, 2.0]]), 1000.0)
    tensor([[0.4995, 0.5005]])
    """
    _must_be_above_zero(temperature)
    return F.softmax(logits / temperature, dim=1)


def distillation_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    labels: torch.Tensor | None,
    *,
    temperature: float,
    alpha: float,
) -> torch.Tensor:
    """Return `alpha * T² * KL(teacher, student at temperature T) + (1 - alpha) * cross entropy with the labels`.

    The gradient of the soft part shrinks as 1 / T²; the factor T² keeps its weight when the temperature changes
    (Hinton, Vinyals and Dean, 2015, section 2). With `alpha=1` no label is looked at, and `labels` may be None: so
    images without labels teach as well.

    Raise `EdgelabError` for a temperature that is not above 0, an `alpha` outside [0, 1], and where teacher and student
    do not answer the same images with the same classes.
    """
    _must_be_above_zero(temperature)
    if not 0 <= alpha <= 1:
        raise EdgelabError(_("alpha is the weight of the soft loss, from 0 to 1, not %(alpha)s.") % {"alpha": alpha})
    _must_match(student_logits, teacher_logits)
    soft = temperature**2 * _divergence(teacher_logits / temperature, student_logits / temperature)
    if alpha == 1:
        return soft
    if labels is None:
        raise EdgelabError(_("Without labels there is no hard loss: use alpha=1."))
    return alpha * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


def decoupled_loss(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    labels: torch.Tensor,
    *,
    temperature: float,
    target_weight: float = 1.0,
    others_weight: float = 2.0,
) -> torch.Tensor:
    """Return `cross entropy + T² * (target_weight * TCKD + others_weight * NCKD)`: decoupled distillation.

    Hinton's divergence is `TCKD + (1 - p) * NCKD`, where p is the teacher's probability of the label. TCKD compares how
    sure the two are of the label, NCKD what they think of all other classes: a sure teacher silences the second, and
    most of the dark knowledge lies there. Here both have a weight of their own, alpha and beta in the source: Zhao et
    al., 2022, "Decoupled Knowledge Distillation", equations 6 and 7. The paper takes a beta from 1 to 8, larger for a
    surer teacher.

    Raise `EdgelabError` as `distillation_loss`.
    """
    _must_be_above_zero(temperature)
    _must_match(student_logits, teacher_logits)
    student, teacher = student_logits / temperature, teacher_logits / temperature
    target = _divergence(_label_or_not(teacher, labels), _label_or_not(student, labels))
    others = _divergence(_without_label(teacher, labels), _without_label(student, labels))
    soft = target_weight * target + others_weight * others
    return F.cross_entropy(student_logits, labels) + temperature**2 * soft


def _divergence(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """Return KL(teacher, student) of the softmax of two sets of logits, the mean over the batch."""
    log_p, log_q = F.log_softmax(teacher.detach(), dim=1), F.log_softmax(student, dim=1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def _without_label(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the logits of all classes but the label's, shape `(N, classes - 1)`."""
    kept = F.one_hot(labels, logits.shape[1]) == 0
    return logits[kept].reshape(len(logits), -1)


def _label_or_not(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return two logits for each image, shape `(N, 2)`, whose softmax is (p, 1 - p), p the probability of its label."""
    label = logits.gather(1, labels[:, None])
    return torch.cat([label, _without_label(logits, labels).logsumexp(dim=1, keepdim=True)], dim=1)


def _must_be_above_zero(temperature: float) -> None:
    if not temperature > 0:
        raise EdgelabError(_("A temperature is above 0, not %(t)s.") % {"t": temperature})


def _must_match(student: torch.Tensor, teacher: torch.Tensor) -> None:
    if student.shape != teacher.shape:
        raise EdgelabError(
            _("The student's logits are %(student)s and the teacher's %(teacher)s: they must answer the same images.")
            % {"student": tuple(student.shape), "teacher": tuple(teacher.shape)}
        )
