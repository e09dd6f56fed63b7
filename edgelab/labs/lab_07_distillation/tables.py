"""What the lab shows in rows: what asking costs, what a fault costs, and what a student has of its teacher inside."""

from collections.abc import Callable
from html import escape

import torch
from torch import nn

from edgelab import data
from edgelab.bars import track
from edgelab.distillation import tapped
from edgelab.explore.html import HtmlTable
from edgelab.explore.pictures import shown_name
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.labs.lab_07_distillation import distillers
from edgelab.labs.lab_07_distillation.students import LONGER, Study, follows_teacher, pocket
from edgelab.measure import count_macs, count_params
from edgelab.numbers import number

LAB = "07_distillation"


def predict_never_seen() -> Prediction:
    """Return the prediction of how many pictures of a class it has never seen the student names, in per cent."""
    return predict(LAB, "never-seen", _("named correctly, of the class it has never seen"), unit="%", low=0.5, high=100)


def predict_few_labels() -> Prediction:
    """Return the prediction of how many points a teacher wins where labels are few."""
    return predict(LAB, "few-labels", _("points that the teacher wins"), low=0.5, high=60)


def fault_table(study: Study, distillation_loss: Callable) -> HtmlTable:
    """Return what becomes of a student under the learner's loss, and under each of the broken distillers."""

    def yours(student, teacher, images, order, temperature):
        logits = student(images[order])
        labels = torch.zeros(len(logits), dtype=torch.int64)  # of no weight
        return distillation_loss(logits, teacher(images[order]), labels, temperature, 1.0)

    names = {
        yours: _("yours"),
        distillers.teacher_on_both_sides: _("the teacher on both sides"),
        distillers.answers_of_other_images: _("answers of other images"),
        distillers.without_the_factor: _("no T²"),
    }
    rows = [
        [escape(name), f"{100 * study.trained_by(one):.1f}"]
        for one, name in track(names.items(), _("training students"))
    ]
    rows.append([escape(_("no teacher at all")), f"{100 * study.accuracy('alone'):.1f}"])
    return HtmlTable([_("distiller"), _("accuracy of its student (%)")], rows)


def way_name(way: str) -> str:
    """Return what a learner reads for one of the `WAYS`."""
    return {
        "alone": _("alone"),
        "smoothing": _("alone, labels smoothed"),
        "longer": _("alone, %(n)d times as long") % {"n": LONGER},
        "distilled": _("with the teacher"),
        "bad teacher": _("with a bad teacher"),
        "few alone": _("alone"),
        "few named": _("the teacher's answers as labels"),
        "few distilled": _("with the teacher"),
    }[way]


def class_name(study: Study, label: int) -> str:
    """Return what a learner reads for a class."""
    return shown_name(study.dataset.classes[label])


def cost_table(study: Study) -> HtmlTable:
    """Return what teacher and student cost, in parameters and MACs, and what asking the teacher once costs."""
    image, student = data.normalize(study.exam.images[:1]), pocket(study.dataset, 0).eval()
    macs = {name: count_macs(model, image) for name, model in (("teacher", study.teacher), ("student", student))}
    params = {"t": count_params(study.teacher), "s": count_params(student)}
    epochs = macs["teacher"] / (3 * macs["student"])
    rows = [
        [_("parameters"), number(params["t"]), number(params["s"]), f"{params['t'] / params['s']:.0f}×"],
        [
            _("MACs, one picture (M)"),
            *(number(macs[name] / 1e6, ".2f") for name in macs),
            f"{macs['teacher'] / macs['student']:.0f}×",
        ],
    ]
    note = _("Asking the teacher once about each picture costs as much as %(n)s epochs of the student.")
    rows.append([escape(note % {"n": number(round(epochs))}), "", "", ""])
    return HtmlTable(["", _("teacher"), _("student"), _("ratio")], rows)


def hint_table(study: Study, hint_loss: Callable) -> HtmlTable:
    """Return how near each student's features come to the teacher's through the regressor that fits best.

    `hint_loss(student, teacher, regressor)` is the learner's. Losses are fractions of that of a regressor that gives
    each channel's mean: 1 says that nothing of the teacher's features is to be seen in the student's.
    """
    images = data.normalize(study.exam.images[:128])
    with torch.no_grad(), tapped(study.teacher, ["stages.2"]) as theirs:
        study.teacher(images)
    target = theirs["stages.2"].float()
    target = target - target.mean((0, 2, 3), keepdim=True)
    students = {
        _("untrained"): pocket(study.dataset, 0).eval(),
        _("alone"): study.student("alone"),
        _("with the teacher"): study.student("distilled"),
    }
    rows = []
    for name, student in students.items():
        with torch.no_grad():
            mine = nn.Sequential(*list(student.children())[:2])(images)
        mine = mine - mine.mean((0, 2, 3), keepdim=True)
        flat, wanted = (features.movedim(1, 3).flatten(0, 2) for features in (mine, target))
        regressor = torch.linalg.lstsq(flat, wanted).solution.T
        nothing = hint_loss(mine, target, torch.zeros_like(regressor))
        rows.append([escape(name), f"{float(hint_loss(mine, target, regressor) / nothing):.2f}"])
    return HtmlTable([_("student"), _("hint loss left by the best regressor")], rows)


def likeness_table(study: Study) -> HtmlTable:
    """Return how many of each student's mistakes are what the teacher holds likeliest but for the truth."""
    shares = {way: follows_teacher(study, way) for way in ("distilled", "alone")}
    rows = [
        [escape(way_name(way)), _("no mistakes") if share is None else f"{100 * share:.0f}"]
        for way, share in shares.items()
    ]
    return HtmlTable([_("student"), _("mistakes that are the teacher's first thought beside the truth (%)")], rows)
