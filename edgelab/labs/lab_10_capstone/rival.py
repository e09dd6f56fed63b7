"""The rival: MLPerf Tiny's ResNet-8 in int8, by its published figures and, in its shape, on the learner's pictures.

It is trained as the zoo trains, from labels, for as many multiply-accumulates as went into the network that it is
compared with: those of the tiny network's own training, of the teacher's answers, and of this lab. Those of the
teacher's training are not counted, many times as many: it was there before.
"""

import json
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from html import escape
from pathlib import Path
from textwrap import fill
from typing import Any

import torch
from torch import nn

from edgelab import data
from edgelab.deploy import Runner, to_onnx
from edgelab.explore.html import HtmlTable
from edgelab.i18n import _
from edgelab.labs.lab_10_capstone import costs
from edgelab.labs.lab_10_capstone.family import Shape
from edgelab.labs.lab_10_capstone.workshop import EPOCHS, FINALISTS, LESSONS, MODELS, Workshop
from edgelab.leaderboard import Entry, enter
from edgelab.measure import compare_latency, count_macs
from edgelab.models import load_pretrained, manifest, resnet
from edgelab.models.retrain import augment_for, held_out, options_for
from edgelab.models.zoo import RECIPES, SHAPES
from edgelab.numbers import mean_and_range, number
from edgelab.train import evaluate, fit_whole

SHAPE: Shape = (16, 32, 64)
_WIDTH = 88  # characters of a printed line: longer ones break in the middle of a word
# Of the int8 file in https://github.com/mlcommons/tiny (v1.2, image classification): its bytes, and what TensorFlow
# Lite Micro allocates for it.
PUBLISHED = {"bytes": 98_496, "arena": 55_984}


def build(dataset: data.Dataset, seed: int = 0) -> nn.Module:
    """Return an untrained network of the rival's shape for these pictures."""
    torch.manual_seed(seed)
    return resnet(SHAPE, in_channels=dataset.train.images.shape[1], num_classes=len(dataset.classes))


def fair_epochs(dataset: data.Dataset) -> int:
    """Return for how many epochs the rival trains, so that it had the multiply-accumulates that its opponent had.

    A training step costs three forward passes. Of the lab's trainings each batch counts as if it were the largest
    network's.
    """
    image, pictures = data.normalize(dataset.test.images[:1]), len(held_out(dataset)[0])
    tiny, teacher = (count_macs(load_pretrained(name, dataset.name), image) for name in ("resnet_tiny", "resnet"))
    epochs = (
        manifest(dataset.name)
        .get(f"{dataset.name}/resnet_tiny", {})
        .get("epochs", RECIPES["resnet_tiny"].epochs["signs"])
    )
    taught = min(LESSONS, pictures)
    lessons = epochs * pictures + taught * (EPOCHS["family"] + FINALISTS * EPOCHS["finish"])
    spent = 3 * tiny * lessons + teacher * taught
    return max(1, round(spent / (3 * count_macs(build(dataset).eval(), image) * pictures)))


def train(dataset: data.Dataset, *, seed: int = 0, epochs: int | None = None) -> dict[str, Any]:
    """Train the rival for `fair_epochs`, or for `epochs`; return what is to be known of it. It takes minutes."""
    model, recipe = build(dataset, seed), RECIPES["resnet_tiny"]
    lessons, chooses = held_out(dataset)
    epochs = epochs or fair_epochs(dataset)
    options: dict[str, Any] = {"augment": augment_for(dataset), **options_for(recipe, lessons)}
    fit_whole(model, lessons, val=chooses, epochs=epochs, seed=seed, **options)
    return {"dataset": dataset.name, "seed": seed, "epochs": epochs, "accuracy": evaluate(model, dataset.test)}


@lru_cache
def _record() -> dict[str, Any]:
    return json.loads(costs.RECORD.read_text("utf-8"))


def accuracies(dataset: data.Dataset, *, long: bool = False) -> list[float]:
    """Return the accuracies on record, in [0, 1]: of the fair trainings, or with `long` of those as long as a zoo's."""
    rows = [row for row in _record()["trainings"] if row["dataset"] == dataset.name]
    return [row["accuracy"] for row in rows if row["long"] is long]


def figures(dataset: data.Dataset) -> dict[str, float | None]:
    """Return what the rival's shape costs on these pictures, by the family's tools: on record, or measured now."""
    known = _record()["rivals"].get(costs.key_of(dataset))
    return dict(zip(costs.COSTS, known, strict=True)) if known else measured_costs(dataset)


def measured_costs(dataset: data.Dataset) -> dict[str, float | None]:
    """Return what the rival's shape costs for the pictures of a data set, untrained."""
    images = data.normalize(dataset.train.images[:16])
    with tempfile.TemporaryDirectory() as folder:
        return costs.measure(costs.write_int8(build(dataset).eval(), images, Path(folder, "rival.tflite")))


def duel_table(shop: Workshop, shape: Shape, tflite: str | Path, accuracy: float) -> HtmlTable:
    """Return the rival as published, its shape on the learner's pictures, and the learner's network beside them."""
    theirs, mine = figures(shop.dataset), measured(shop, shape, tflite)
    rows = [
        [escape(_("ResNet-8, as published (CIFAR-10)")), *_cells(PUBLISHED), "–"],
        [escape(_("the same shape on these pictures")), *_cells(theirs), _percent(accuracies(shop.dataset))],
        [escape(_("yours")), *_cells(mine), f"{100 * accuracy:.2f}"],
    ]
    ratios = [_times(theirs[name], mine[name]) for name in costs.COSTS]
    rows.append([escape(_("times less than the same shape here")), *ratios, ""])
    return HtmlTable([_("network"), *map(escape, costs.cost_names().values()), _("accuracy (%)")], rows)


def measured(shop: Workshop, shape: Shape, tflite: str | Path) -> dict[str, float | None]:
    """Return what the file of a network of the family costs; what needs an extra that is missing, as for its shape."""
    found = costs.measure(tflite)
    if not costs.has_micro():
        found["arena"] = shop.costs[shape]["arena"]
    return {**found, "us": found["us"] if found["us"] is not None else shop.costs[shape]["us"]}


def long_rival(dataset: data.Dataset) -> str:
    """Return in words what the rival reaches when it is trained as long as the zoo trains, where that is on record."""
    fair, patient = accuracies(dataset), accuracies(dataset, long=True)
    if not fair:
        return _("The rival is not on record for these pictures: rival.train(dataset) trains it here, in some minutes.")
    epochs = {row["long"]: row["epochs"] for row in _record()["trainings"] if row["dataset"] == dataset.name}
    text = _("On record for the rival's shape: %(fair)s (epochs: %(few)d, seeds: %(seeds)d).")
    line = text % {"fair": _percent(fair, " %"), "few": epochs[False], "seeds": len(fair)}
    if patient:
        longer = {"patient": _percent(patient, " %"), "many": epochs[True]}
        line += " " + _("Trained for longer: %(patient)s (epochs: %(many)d).") % longer
    cut = [row for row in _record()["cut"] if row["dataset"] == dataset.name]
    if cut:
        text = _(
            "Taught by two networks for 160 epochs: %(whole)s. Cut after that, and taught for %(epochs)d more: "
            "%(int8)s in int8, with %(bytes)s bytes and an arena of %(arena)s (seeds: %(seeds)d)."
        )
        first = {name: number(cut[0][name]) for name in ("bytes", "arena")}
        line += "\n" + text % {
            "whole": _percent([cut[0]["whole"]], " %"),
            "int8": _percent([row["int8"] for row in cut], " %"),
            "epochs": cut[0]["epochs"],
            "seeds": len(cut),
            **first,
        }
    return "\n".join(fill(part, _WIDTH) for part in line.split("\n"))


def _times(theirs: float | None, mine: float | None) -> str:
    return f"{theirs / mine:.1f}×" if theirs and mine else "–"


def _cells(known: Mapping[str, float | None]) -> list[str]:
    return ["–" if (one := known.get(name)) is None else number(one, ".0f") for name in costs.COSTS]


def _percent(found: list[float], unit: str = "") -> str:
    """Return the mean in per cent, and behind it the smallest and the largest, where there are several."""
    return mean_and_range([100 * one for one in found], ".2f", unit) if found else "–"


def race(shop: Workshop, onnx: str | Path) -> object:
    """Return how many times faster a file is than the rival's shape in ONNX Runtime, both in int8 and in turns.

    The time of a network does not depend on its weights: the rival's are untrained here.
    """
    model = shop.quantized(build(shop.dataset).eval())
    theirs = to_onnx(model, shop.image, Path(MODELS, "rival-shape.onnx"))
    runs = {
        _("the rival's shape"): Runner.open(theirs).once(shop.image),
        _("yours"): Runner.open(onnx).once(shop.image),
    }
    return compare_latency(runs, max_seconds=3)


def enter_leader_board(path: str | Path, dataset: data.Dataset, name: str) -> Entry:
    """Enter a file on the leader board, and return its row: in the open division where the data are the learner's."""
    division = "closed" if dataset.name in SHAPES else "open"
    return enter(path, name=name, division=division, dataset=dataset)
