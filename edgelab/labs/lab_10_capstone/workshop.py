"""A small network's way to a device, step by step and in any order; and the family, judged network by network."""

import copy
from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from edgelab import data
from edgelab.bars import track
from edgelab.deploy import Runner, to_litert, to_onnx
from edgelab.distillation import distillation_loss
from edgelab.errors import EdgelabError
from edgelab.explore.html import HtmlTable
from edgelab.i18n import _
from edgelab.labs.lab_10_capstone import costs
from edgelab.labs.lab_10_capstone.family import WHOLE, Family, Shape, settle, shapes
from edgelab.models import load_pretrained
from edgelab.models.retrain import held_out
from edgelab.numbers import number
from edgelab.quantization import calibrate, convert, prepare
from edgelab.train import evaluate, fit, predict, remembered, remembering

MODELS = "models"  # in the learner's folder: what was trained or asked lies there, and is not done again
LESSONS, JUDGES = 3_000, 1_000  # training images; those that choose, which no training has seen
EPOCHS = {"family": 5, "distil": 3, "finish": 8}
LEARNING_RATE = {"family": 0.015, "distil": 0.03, "finish": 0.03}  # a family soon forgets at a higher one
TAUGHT = partial(distillation_loss, temperature=4.0, alpha=0.9)
FINALISTS = 2  # networks at the head of a ranking that are finished, before the judges choose among them
CALIBRATION = 256
AnyModel = TypeVar("AnyModel", bound=nn.Module)
ORDERS = (
    ("prune", "distil", "quantize"),
    ("distil", "prune", "quantize"),
    ("distil", "prune", "settle", "quantize"),  # what of the loss is the batch norms' alone
    ("prune", "quantize", "distil"),
)


class Workshop:
    """The course's tiny network, a teacher's answers, pictures to learn from, and pictures that choose.

    What chooses are the last of the training images, on which nothing of the zoo was trained, and nothing is here; the
    test images are for what was chosen. Trainings and answers are kept on disk, and one that was interrupted is none.
    """

    def __init__(self, dataset: data.Dataset):
        self.dataset = dataset
        lessons, judges = held_out(dataset)
        self.lessons, self.judges = lessons[:LESSONS], judges[-JUDGES:]
        self.image = data.normalize(dataset.test.images[:1])
        self.tiny = load_pretrained("resnet_tiny", dataset.name)
        self.answers = remembered(load_pretrained("resnet", dataset.name), self.lessons, MODELS)
        self.costs, self.growth = costs.family_costs(dataset), costs.growth_of(self.image)
        self._orders: dict[tuple, float] = {}

    def __str__(self) -> str:
        """Return in words how many pictures there are for what."""
        parts = {"lessons": self.lessons, "judges": self.judges, "tests": self.dataset.test}
        text = _("pictures to learn from: %(lessons)s; judges: %(judges)s; test pictures: %(tests)s")
        return text % {name: number(len(split)) for name, split in parts.items()}

    def limits(self, brief: str) -> dict[str, float]:
        """Return the limits of a brief for these pictures.

        Raise `EdgelabError` for one that there is not, or whose costs cannot be measured on this computer.
        """
        if brief not in costs.BRIEFS:
            text = _("There is no brief %(name)r. There are: %(known)s.")
            raise EdgelabError(text % {"name": brief, "known": ", ".join(costs.BRIEFS)})
        limits = costs.limits_of(brief, self.growth)
        unknown = [name for name in limits if self.costs[WHOLE][name] is None]
        if unknown:
            text = _('%(brief)s: %(cost)s cannot be measured here. Take another brief, or pip install "edgelab[mcu]".')
            raise EdgelabError(text % {"brief": costs.brief_names()[brief], "cost": costs.cost_names()[unknown[0]]})
        return limits

    def order(self, steps: Sequence[str], shape: Shape) -> float:
        """Return the accuracy on the judges, in [0, 1], of the tiny network after these steps, one after the other.

        Raise `EdgelabError` for an order that cannot be, saying why.
        """
        if (*steps, shape) not in self._orders:
            model: nn.Module = self.tiny
            for step in steps:
                model = self._step(step, model, shape)
            self._orders[*steps, shape] = evaluate(model, self.judges)
        return self._orders[*steps, shape]

    def _step(self, step: str, model: nn.Module, shape: Shape) -> nn.Module:
        if step == "prune":
            return self.family(model).cut(shape)
        if step == "settle":
            return settle(model, self.lessons.images)
        return self.distilled(model, "distil") if step == "distil" else self.quantized(model)

    def family(self, model: nn.Module) -> Family:
        """Return the family inside a network, in its weights."""
        return Family(model, self.image, len(self.dataset.classes))

    def distilled(self, model: AnyModel, stage: str) -> AnyModel:
        """Return a copy of the network after a short training with the teacher's answers, as the `stage` has it."""
        model = copy.deepcopy(model)
        taught: dict[str, Any] = {"teacher": self.answers, "loss_fn": TAUGHT, "batch_size": 64}
        with remembering(MODELS):
            fit(model, self.lessons, epochs=EPOCHS[stage], lr=LEARNING_RATE[stage], **taught)
        return model

    def quantized(self, model: nn.Module) -> nn.Module:
        """Return the network in integers of 8 bits, calibrated on some of the lessons."""
        return convert(calibrate(prepare(model), data.normalize(self.lessons.images[:CALIBRATION])))

    def table(self) -> list[dict]:
        """Return a row for each network of the family: its "shape", "accuracy" on the judges, and its costs.

        The family is trained as one, by the teacher; each network is then cut out, settled and judged in float.
        """
        trained = self.distilled(self.family(self.tiny), "family")
        rows = []
        for shape in track(shapes(), _("judging networks")):
            judged = evaluate(settle(trained.cut(shape), self.lessons.images), self.judges)
            rows.append({"shape": shape, "accuracy": judged, **self.costs[shape]})
        return rows

    def finals(self, ranked: Sequence[Shape]) -> dict[Shape, float]:
        """Return the accuracy on the judges, in [0, 1], of the first of a ranking, each pruned and taught by itself."""
        return {shape: evaluate(self._finished(shape), self.judges) for shape in ranked[:FINALISTS]}

    def _finished(self, shape: Shape) -> nn.Module:
        return self.distilled(settle(self.family(self.tiny).cut(shape), self.lessons.images), "finish")

    def finish(self, shape: Shape) -> tuple[nn.Module, Path, Path]:
        """Return the network of this shape, pruned and taught by itself, and its int8 files for both runtimes."""
        model = self._finished(shape)
        quantized = self.quantized(model)
        paths = Path(MODELS, "capstone.onnx"), Path(MODELS, "capstone.tflite")
        return model, to_onnx(quantized, self.image, paths[0]), to_litert(quantized, self.image, paths[1])


def order_table(shop: Workshop, shape: Shape) -> HtmlTable:
    """Return what each order of the steps gives, or why it cannot be."""
    rows = []
    for steps in ORDERS:
        words = " → ".join(step_name(step) for step in steps)
        try:
            rows.append([escape(words), f"{100 * shop.order(steps, shape):.1f}"])
        except EdgelabError as error:
            rows.append([escape(words), escape(_("refused: %(why)s") % {"why": error})])
    return HtmlTable([_("order"), _("accuracy (%)")], rows)


def step_name(step: str) -> str:
    """Return what a learner reads for a step."""
    names = {"prune": _("prune"), "distil": _("distil"), "settle": _("settle"), "quantize": _("quantize")}
    return names[step]


def agreement(onnx: str | Path, tflite: str | Path, split: data.Split) -> HtmlTable:
    """Return accuracy in each runtime, and for how many pictures it names the same class as ONNX Runtime does."""
    runs = {"ONNX Runtime": Runner.open(onnx, threads=torch.get_num_threads())}
    runs["LiteRT"] = Runner.open(tflite)
    rows, first = [], None
    for name, run in runs.items():
        named = predict(run, split).argmax(1)
        first = named if first is None else first
        right, same = (named == split.labels).float().mean(), (named == first).float().mean()
        rows.append([escape(name), f"{100 * right:.2f}", f"{100 * same:.2f}"])
    return HtmlTable([_("runtime"), _("accuracy (%)"), _("same class as in ONNX Runtime (%)")], rows)
