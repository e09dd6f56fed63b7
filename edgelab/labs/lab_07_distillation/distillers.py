"""Distillers that work, and three that shipped broken: one step of distillation, each with the same parameters.

A distiller is asked `distiller(student, teacher, images, order, temperature)`. `student` and `teacher` are functions
from images `(N, C, H, W)` to logits `(N, classes)`; `order` `(B,)` holds the places of the images in this batch. It
returns the soft loss of the batch, T² times the mean divergence.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from edgelab.course.comparison import as_json

Distiller = Callable[..., torch.Tensor]


def _soft_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    log_p, log_q = F.log_softmax(teacher / temperature, 1), F.log_softmax(student / temperature, 1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)


def asks_as_it_goes(student, teacher, images, order, temperature):
    """Ask the teacher about each batch."""
    batch = images[order]
    return _soft_loss(student(batch), teacher(batch), temperature)


def keeps_answers(student, teacher, images, order, temperature):
    """Ask the teacher once about all images, and look its answers up."""
    kept = teacher(images)
    return _soft_loss(student(images[order]), kept[order], temperature)


def sums_by_hand(student, teacher, images, order, temperature):
    """Write the divergence out as a sum."""
    p, q = (F.softmax(model(images[order]) / temperature, 1) for model in (teacher, student))
    return temperature**2 * (p * (p.log() - q.log())).sum(1).mean()


def teacher_on_both_sides(student, teacher, images, order, temperature):
    """Compare the teacher with itself: the loss is 0 and teaches nothing."""
    batch = images[order]
    student(batch)
    return _soft_loss(teacher(batch), teacher(batch), temperature)


def answers_of_other_images(student, teacher, images, order, temperature):
    """Take the kept answers in the order of the file, and the images in that of the batch."""
    kept = teacher(images)
    return _soft_loss(student(images[order]), kept[: len(order)], temperature)


def without_the_factor(student, teacher, images, order, temperature):
    """Forget T²: the soft loss hardly counts."""
    return asks_as_it_goes(student, teacher, images, order, temperature) / temperature**2


RIGHT: tuple[Distiller, ...] = (asks_as_it_goes, keeps_answers, sums_by_hand)
BROKEN: tuple[Distiller, ...] = (teacher_on_both_sides, answers_of_other_images, without_the_factor)


def anonymous(distiller: Distiller) -> Distiller:
    """Return the same distiller without a name that tells what it is."""
    return lambda student, teacher, images, order, temperature: distiller(student, teacher, images, order, temperature)


def mostly(works: Callable[[Distiller], Any], distiller: Distiller) -> Any:
    """Return what `works` says of the distiller two times out of three, as JSON has it.

    Whoever tests on random inputs meets a broken one once in some hundreds of times whose loss is right by chance.
    """
    verdicts = [as_json(works(anonymous(distiller))) for _time in range(3)]
    return max(verdicts, key=verdicts.count)
