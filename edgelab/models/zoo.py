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
from torch import nn

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
    options: dict[str, float] = field(default_factory=lambda: {"lr": 0.15})


_MOBILE = {"lr": 0.15, "weight_decay": 1e-4}
RECIPES = {
    "resnet": Recipe(resnet, {"signs": 24, "fashion-mnist": 12}),
    "resnet_tiny": Recipe(partial(resnet, (8, 16, 32)), {"signs": 16, "fashion-mnist": 4}),
    "mobilenet_v1_025": Recipe(partial(mobilenet_v1, 0.25), {"signs": 24, "fashion-mnist": 4}, _MOBILE),
    "mobilenet_v2_050": Recipe(partial(mobilenet_v2, 0.5), {"signs": 24, "fashion-mnist": 2}, _MOBILE),
}


def manifest() -> dict[str, dict]:
    """Return what is known of every checkpoint, by its key `"<dataset>/<name>"`."""
    return json.loads((CHECKPOINTS / "manifest.json").read_text())


def load_pretrained(name: str, dataset: str = "signs") -> nn.Module:
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


def sha256(path: str | Path) -> str:
    """Return the sha256 of a file as hexadecimal text."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
