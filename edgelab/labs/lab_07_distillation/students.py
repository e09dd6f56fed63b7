"""Students of one teacher, each trained once: with labels, with the teacher, without a class, with a bad teacher."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from edgelab import data
from edgelab.bars import track
from edgelab.distillation import distillation_loss
from edgelab.i18n import _
from edgelab.measure.seeds import Gain, paired_gain
from edgelab.measure.threads import torch_threads
from edgelab.models import conv_bn, load_pretrained
from edgelab.quantization import QuantizationConfig, calibrate, convert, prepare
from edgelab.train import evaluate, fit, predict, remembered, remembering

LAB = "07_distillation"
LESSONS, FEW, EXAM = 2_000, 100, 1_000  # training images, how many of them keep their label, test images
EPOCHS, LONGER, PATIENT = 5, 2, 14  # LONGER is a factor; PATIENT is for the class left out
SEEDS = (0, 1, 2, 3, 4)
TEMPERATURE, ALPHA = 4.0, 0.9
MODELS = "models"  # in the learner's folder: what was trained or asked lies there, and is not done again
ASKED = 500  # test pictures that the teacher is asked about: it is slow
LEFT_OUT = {"signs": "limit 80", "fashion-mnist": "shirt"}


def pocket(dataset: data.Dataset, seed: int) -> nn.Sequential:
    """Return an untrained student of three convolutions, each of which halves the picture, and a linear layer."""
    torch.manual_seed(seed)
    _images, channels, height, width = dataset.train.images.shape
    places = -(-height // 8) * -(-width // 8)
    return nn.Sequential(
        conv_bn(channels, 12, stride=2),
        conv_bn(12, 24, stride=2),
        conv_bn(24, 32, stride=2),
        nn.Flatten(),
        nn.Linear(32 * places, len(dataset.classes)),
    )


def daylight(dataset: data.Dataset, split: data.Split) -> data.Split:
    """Return the pictures taken by day, where it is known when: the easier task, which small students learn quickly."""
    if split.conditions is None or "day" not in dataset.condition_names:
        return split
    day = split.conditions == dataset.condition_names.index("day")
    return data.Split(split.images[day], split.labels[day])


def bad_teacher(dataset: data.Dataset) -> nn.Module:
    """Return `resnet_tiny` with weights of 3 bits and no training: lab 04 saw how little of it that leaves."""
    tiny = load_pretrained("resnet_tiny", dataset.name)
    config = QuantizationConfig(3, weight_observer="mse")
    return convert(calibrate(prepare(tiny, config), data.normalize(dataset.train.images[:256])))


@dataclass(frozen=True)
class Way:
    """A way of training: what is seen, who teaches, by which loss, and how long (`epochs` of all lessons)."""

    images: int = LESSONS
    teacher: str = ""
    loss_fn: Callable[..., torch.Tensor] = F.cross_entropy
    epochs: int = EPOCHS


def as_labels(logits: torch.Tensor, answers: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy with the class that the teacher names: its answer without its doubt."""
    return F.cross_entropy(logits, answers.argmax(1))


_SOFT = partial(distillation_loss, temperature=TEMPERATURE, alpha=ALPHA)
_UNLABELLED = partial(distillation_loss, temperature=TEMPERATURE, alpha=1.0)
WAYS = {
    "alone": Way(),
    "smoothing": Way(loss_fn=partial(F.cross_entropy, label_smoothing=0.1)),
    "longer": Way(epochs=LONGER * EPOCHS),
    "distilled": Way(teacher="teacher", loss_fn=_SOFT),
    "bad teacher": Way(teacher="bad", loss_fn=_SOFT),
    "few alone": Way(images=FEW),
    "few named": Way(teacher="teacher", loss_fn=as_labels),
    "few distilled": Way(teacher="teacher", loss_fn=_UNLABELLED),
}


class Study:
    """A teacher, the pictures it teaches on (`lessons`) and those that judge (`exam`): each figure is measured once.

    `answers` are the teacher's logits for the lessons, `(N, classes)`. Trainings and answers are kept on disk as well,
    and one that was interrupted is none.
    """

    def __init__(self, teacher: nn.Module, dataset: data.Dataset):
        self.dataset, self.teacher = dataset, teacher
        self.lessons, self.exam = daylight(dataset, dataset.train)[:LESSONS], daylight(dataset, dataset.test)[:EXAM]
        self.answers = remembered(teacher, self.lessons, MODELS)
        self._teachers = {"teacher": self.answers}
        self._students: dict[tuple, nn.Module] = {}
        self._accuracies: dict[tuple, float] = {}

    @property
    def left_out(self) -> int:
        """Return the label of the class that one student never sees."""
        classes = self.dataset.classes
        return classes.index(LEFT_OUT.get(self.dataset.name, classes[-1]))

    def student(self, way: str, seed: int = 0) -> nn.Module:
        """Return the student that was trained in one of the `WAYS`, from the weights of `seed`."""
        if (way, seed) not in self._students:
            recipe = WAYS[way]
            seen = self.lessons[: recipe.images]
            options = {"loss_fn": recipe.loss_fn, "teacher": self._taught_by(recipe.teacher)}
            epochs = recipe.epochs * len(self.lessons) // len(seen)  # as many pictures seen, however many there are
            self._students[way, seed] = self._trained(seen, seed, epochs=epochs, **options)
        return self._students[way, seed]

    def student_without(self, left_out: int, *, taught: bool) -> nn.Module:
        """Return a student from whose lessons all pictures of one class were taken: taught, or alone with labels."""
        key = ("without", left_out, taught)
        if key not in self._students:
            kept = self.lessons.labels != left_out
            seen = data.Split(self.lessons.images[kept], self.lessons.labels[kept])
            way = {"loss_fn": _UNLABELLED, "teacher": self.answers[kept]} if taught else {}
            self._students[key] = self._trained(seen, 0, epochs=PATIENT, **way)
        return self._students[key]

    def accuracy(self, way: str, seed: int = 0) -> float:
        """Return the accuracy of that student on the exam, in [0, 1]."""
        if (way, seed) not in self._accuracies:
            self._accuracies[way, seed] = evaluate(self.student(way, seed), self.exam)
        return self._accuracies[way, seed]

    def accuracies(self, way: str) -> list[float]:
        """Return the accuracies of all seeds, in per cent."""
        return [100 * self.accuracy(way, seed) for seed in track(SEEDS, _("training students"))]

    def gain(self, way: str, over: str) -> Gain:
        """Return what one way wins over another in points, seed by seed."""
        return paired_gain(self.accuracies(over), self.accuracies(way))

    def trained_by(self, distiller: Callable) -> float:
        """Return the accuracy of a student that learns from labels and from a distiller, in [0, 1]."""
        student, everything = (
            pocket(self.dataset, 0),
            torch.arange(len(self.lessons))[:, None],
        )  # each picture is its place here

        def loss_fn(logits: torch.Tensor, places: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            def teacher(which: torch.Tensor) -> torch.Tensor:
                return self.answers[which[:, 0]]

            soft = distiller(lambda _batch: logits, teacher, everything, places[:, 0], TEMPERATURE)
            return ALPHA * soft + (1 - ALPHA) * F.cross_entropy(logits, labels)

        with remembering(MODELS), torch_threads(1):
            fit(student, self.lessons, epochs=EPOCHS, lr=0.05, batch_size=64, teacher=everything, loss_fn=loss_fn)
        return evaluate(student, self.exam)

    def _taught_by(self, teacher: str) -> torch.Tensor | None:
        if teacher == "bad" and teacher not in self._teachers:
            self._teachers[teacher] = predict(bad_teacher(self.dataset), self.lessons)
        return self._teachers.get(teacher)

    def _trained(self, seen: data.Split, seed: int, **options: Any) -> nn.Module:
        student = pocket(self.dataset, seed)
        with remembering(MODELS), torch_threads(1):
            fit(student, seen, seed=seed, lr=0.05, batch_size=64, progress=False, **options)
        return student


def bias_that_fits(logits: torch.Tensor, left_out: int) -> float:
    """Return what to add to a logit so that the class is named for as many of the pictures as is its share.

    `logits` `(N, classes)` are of pictures of all classes alike; their labels are not needed.
    """
    others = logits.clone()
    others[:, left_out] = -torch.inf
    missing = others.amax(1) - logits[:, left_out]  # what this picture would need to be named so
    return float(missing.sort().values[round(len(logits) / logits.shape[1])])


def named(logits: torch.Tensor, labels: torch.Tensor, label: int, bias: float = 0.0) -> tuple[float, float]:
    """Return the share of `label` and that of all pictures named correctly, in [0, 1], with `bias` on its logit."""
    shifted = logits.clone()
    shifted[:, label] += bias
    right = shifted.argmax(1) == labels
    return float(right[labels == label].float().mean()), float(right.float().mean())


def follows_teacher(study: Study, way: str) -> float | None:
    """Return the share of a student's mistakes that are what the teacher holds likeliest but for the truth.

    None for a student without mistakes.
    """
    split = study.exam[:ASKED]
    theirs = remembered(study.teacher, split, MODELS).scatter(1, split.labels[:, None], -torch.inf).argmax(1)
    mine = predict(study.student(way), split).argmax(1)
    wrong = mine != split.labels
    return float((mine[wrong] == theirs[wrong]).float().mean()) if wrong.any() else None
