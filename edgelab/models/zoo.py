"""The models that travel with the course: their recipes, their checkpoints, and how to load them.

A checkpoint is a safetensors file in `checkpoints/`; `manifest.json` beside it says how it was trained (recipe, seed),
what it reached on the test images, and the sha256 by which a damaged file is recognised.
`python -m edgelab.models.retrain` trains any of them again. For other data, `edgelab adopt` trains them, and keeps
checkpoints and manifest with the data.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from edgelab.data.adopted import adopted_dir
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.models.mobilenet import mobilenet_v1, mobilenet_v2
from edgelab.models.resnet import resnet

CHECKPOINTS = Path(__file__).parent / "checkpoints"
SHAPES = {"signs": {"in_channels": 3, "num_classes": 16}, "fashion-mnist": {"in_channels": 1, "num_classes": 10}}


@dataclass(frozen=True)
class Recipe:
    """How a model is built and trained.

    `epochs` says how long, by data set; `options` go to `train.fit`. Convolutions start from torch's own weights, not
    from He's fan-out: batch norm undoes their scale, and large weights would only turn more slowly.
    """

    build: Callable[..., nn.Module]
    epochs: dict[str, int]
    options: dict[str, Any] = field(default_factory=lambda: {"lr": 0.15})


_MOBILE = {"lr": 0.15, "weight_decay": 1e-4}
RECIPES = {
    "resnet": Recipe(resnet, {"signs": 24, "fashion-mnist": 12}),
    "resnet_tiny": Recipe(partial(resnet, (8, 16, 32)), {"signs": 16, "fashion-mnist": 4}),
    "mobilenet_v1_025": Recipe(partial(mobilenet_v1, 0.25), {"signs": 24, "fashion-mnist": 4}, _MOBILE),
    "mobilenet_v2_050": Recipe(partial(mobilenet_v2, 0.5), {"signs": 24, "fashion-mnist": 2}, _MOBILE),
}


def manifest(dataset: str = "signs") -> dict[str, dict]:
    """Return what is known of every checkpoint, by its key `"<dataset>/<name>"`.

    They are those that ship, and those that `edgelab adopt` has trained on `dataset`.
    """
    shipped = json.loads((CHECKPOINTS / "manifest.json").read_text("utf-8"))
    return shipped | {f"{dataset}/{name}": entry for name, entry in adopted_manifest(dataset).items()}


def adopted_manifest(dataset: str) -> dict[str, dict]:
    """Return what is known of the checkpoints trained on data of the learner's, by the model's name."""
    path = adopted_dir(dataset) / "manifest.json"
    return json.loads(path.read_text("utf-8")) if dataset not in SHAPES and path.exists() else {}


def load_pretrained(name: str, dataset: str = "signs") -> nn.Module:
    """Return the model `name` with the weights trained on `dataset`, in evaluation mode.

    `dataset` is the name of a `data.Dataset`: one of `SHAPES`, or what `edgelab adopt` was given.

    Raise `EdgelabError` for a name or data set that has no checkpoint, and for a file that is damaged.
    """
    entries, shipped = manifest(dataset), dataset in SHAPES
    entry = entries.get(f"{dataset}/{name}")
    train = f"edgelab adopt {dataset} --models {name}"
    if entry is None and name in RECIPES and not shipped:
        text = _("There is no checkpoint of %(name)r for %(dataset)r yet: train it with `%(command)s`.")
        raise EdgelabError(text % {"name": name, "dataset": dataset, "command": train})
    if entry is None:
        raise EdgelabError(
            _("There is no checkpoint of %(name)r for %(dataset)r. There are: %(known)s.")
            % {"name": name, "dataset": dataset, "known": ", ".join(sorted(entries))}
        )
    path = (CHECKPOINTS if shipped else adopted_dir(dataset)) / entry["file"]
    if not path.exists() or sha256(path) != entry["sha256"]:
        retrain = f"python -m edgelab.models.retrain {name} --dataset {dataset}" if shipped else f"{train} --again"
        raise EdgelabError(
            _("The checkpoint %(path)s is damaged or missing: install edgelab again, or train it with %(command)s.")
            % {"path": path, "command": retrain}
        )
    model = RECIPES[name].build(**(SHAPES[dataset] if shipped else entry["shape"]))
    model.load_state_dict(load_file(path))
    return model.eval()


def sha256(path: str | Path) -> str:
    """Return the sha256 of a file as hexadecimal text."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
