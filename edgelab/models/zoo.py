"""The models that travel with the course: their recipes, their checkpoints, and how to load them.

A checkpoint is a safetensors file in `checkpoints/`; `manifest.json` beside it says how it was trained (recipe, seed),
what it reached on the test images, and the sha256 by which a damaged file is recognised.
`python -m edgelab.models.retrain` trains any of them again.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from safetensors.torch import load_file

from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.models.mobilenet import mobilenet_v2
from edgelab.models.resnet import resnet

CHECKPOINTS = Path(__file__).parent / "checkpoints"
SHAPES = {"signs": {"in_channels": 3, "num_classes": 16}, "fashion-mnist": {"in_channels": 1, "num_classes": 10}}


@dataclass(frozen=True)
class Recipe:
    """How a model is built and trained.

    `cycles` says, by data set, for how many epochs each cycle of the learning rate lasts; every cycle after the first
    starts from half of the peak before (warm restarts: Loshchilov and Hutter, 2017). On the data sets in `erase`, the
    first cycle also blanks a square of each image. `options` go to `train.fit`.
    """

    build: Callable
    cycles: dict[str, tuple[int, ...]]
    options: dict = field(default_factory=dict)
    erase: tuple[str, ...] = ()


_MOBILE = {"lr": 0.1, "weight_decay": 1e-4}
RECIPES = {
    "resnet": Recipe(resnet, {"signs": (16, 6), "fashion-mnist": (6, 5)}, erase=("signs",)),
    "resnet_tiny": Recipe(partial(resnet, (8, 16, 32)), {"signs": (16,), "fashion-mnist": (3,)}),
    "mobilenet_v2_050": Recipe(partial(mobilenet_v2, 0.5), {"signs": (8,), "fashion-mnist": (1,)}, _MOBILE, ("signs",)),
}


def manifest():
    """Return what is known of every checkpoint, by its key `"<dataset>/<name>"`."""
    return json.loads((CHECKPOINTS / "manifest.json").read_text())


def load_pretrained(name, dataset="signs"):
    """Return the model `name` with the weights trained on `dataset`, in evaluation mode.

    Raise `EdgelabError` for a name or data set that has no checkpoint, and for a file that is damaged.
    """
    entries = manifest()
    entry = entries.get(f"{dataset}/{name}")
    if entry is None:
        raise EdgelabError(
            _("There is no checkpoint of %(name)r for %(dataset)r. There are: %(known)s.")
            % {"name": name, "dataset": dataset, "known": ", ".join(sorted(entries))}
        )
    path = CHECKPOINTS / entry["file"]
    if not path.exists() or sha256(path) != entry["sha256"]:
        raise EdgelabError(
            _("The checkpoint %(path)s is damaged or missing: install edgelab again, or train it with %(command)s.")
            % {"path": path, "command": f"python -m edgelab.models.retrain {name} --dataset {dataset}"}
        )
    model = RECIPES[name].build(**SHAPES[dataset])
    model.load_state_dict(load_file(path))
    return model.eval()


def sha256(path):
    """Return the sha256 of a file as hexadecimal text."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
