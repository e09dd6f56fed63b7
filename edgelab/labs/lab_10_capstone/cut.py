"""A network cut from one of the rival's shape that was taught for long: half of its bytes, and what it reads then.

`python -m edgelab.bench.distillation_training` makes the whole one. Its channels go by the Taylor criterion, and the
whole one teaches what is left, by the very crops that it sees (Beyer et al., 2022). Half an hour a seed on one core.
"""

import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from edgelab import data
from edgelab.deploy import Runner
from edgelab.distillation import distill
from edgelab.labs.lab_10_capstone import costs, rival
from edgelab.measure import count_macs
from edgelab.models.retrain import augment_for, held_out
from edgelab.pruning import channel_importance, choose_macs, find_dependencies, remove_channels
from edgelab.train import evaluate, whole

MACS = 0.45  # of the whole network's: that is half of its bytes
EPOCHS = 40
ROUND_TO = 2  # channels: few are left, and eights would leave too many
JUDGED, CALIBRATED = 4_000, 512  # training images for the criterion, and for the scales


def cut(dataset: data.Dataset, weights: str | Path, *, seed: int = 0) -> dict[str, Any]:
    """Cut the network whose weights lie in `weights`, have it taught, write it in int8; return its row.

    The row holds the accuracies on the test images in [0, 1], of the whole network and of the cut one, in float and by
    its int8 file, and what that file costs, by `costs.COSTS`. Images that it does not learn from choose the epoch.
    """
    teacher = rival.build(dataset)
    teacher.load_state_dict(load_file(weights))
    lessons, chooses = held_out(dataset)
    student = smaller(teacher.eval(), lessons)
    options: dict[str, Any] = {"epochs": EPOCHS, "lr": 0.1, "batch_size": 256, "augment": augment_for(dataset)}
    whole(distill(student, teacher, lessons, val=chooses, seed=seed, **options))
    with tempfile.TemporaryDirectory() as folder:
        path = costs.write_int8(student.eval(), data.normalize(lessons.images[:CALIBRATED]), Path(folder, "cut.tflite"))
        accuracies = {
            name: evaluate(network, dataset.test)
            for name, network in (("whole", teacher), ("float", student), ("int8", Runner.open(path)))
        }
        return {"dataset": dataset.name, "seed": seed, "epochs": EPOCHS, **accuracies, **costs.measure(path)}


def smaller(network: nn.Module, lessons: data.Split) -> nn.Module:
    """Return a copy of a network without the channels that the Taylor criterion would miss least."""
    example: torch.Tensor = data.normalize(lessons.images[:1])
    dependencies = find_dependencies(network, example)
    scores = channel_importance(dependencies, "taylor", lessons[:JUDGED])
    channels = choose_macs(dependencies, scores, MACS * count_macs(network, example), round_to=ROUND_TO)
    return remove_channels(dependencies, channels)
