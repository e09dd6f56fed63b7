"""Train the zoo's checkpoints again: `python -m edgelab.models.retrain resnet --dataset signs`."""

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import save

from edgelab import data
from edgelab.data.storage import atomic_write
from edgelab.models.zoo import CHECKPOINTS, RECIPES, SHAPES, sha256
from edgelab.train import evaluate, fit, mirror, shift

VAL_IMAGES = 1000


def _signs(images: torch.Tensor) -> torch.Tensor:
    return shift(images, pixels=3)


def _clothes(images: torch.Tensor) -> torch.Tensor:
    """A mirrored shoe is a shoe; a mirrored sign would be another one."""
    return mirror(shift(images, pixels=2))


AUGMENT = {"signs": _signs, "fashion-mnist": _clothes}


def retrain(
    name: str, dataset: str, *, seed: int = 0, epochs: int | None = None, folder: Path = CHECKPOINTS
) -> dict[str, Any]:
    """Train a model of the zoo by its recipe; write the checkpoint and its manifest entry; return the entry.

    The last `VAL_IMAGES` training images choose the epoch; the test images are looked at once, at the end.
    """
    recipe, loaded = RECIPES[name], data.load(dataset)
    torch.manual_seed(seed)
    model = recipe.build(**SHAPES[dataset])
    epochs = epochs or recipe.epochs[dataset]
    train, val = loaded.train[:-VAL_IMAGES], loaded.train[-VAL_IMAGES:]
    history = fit(model, train, val=val, epochs=epochs, seed=seed, augment=AUGMENT[dataset], **recipe.options)
    if history.interrupted:
        raise KeyboardInterrupt
    file = f"{name}-{dataset}.safetensors"
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / file) as out:
        out.write(save(weights))
    entry = {
        "file": file,
        "accuracy": round(evaluate(model, loaded.test), 4),
        "seed": seed,
        "val_accuracy": max(history.val_accuracy),
        "epochs": epochs,
        "options": recipe.options,
        "seconds": round(history.seconds[-1]),
        "sha256": sha256(folder / file),
    }
    path = folder / "manifest.json"
    entries = json.loads(path.read_text()) if path.exists() else {}
    entries = dict(sorted({**entries, f"{dataset}/{name}": entry}.items()))
    with atomic_write(path) as out:
        out.write((json.dumps(entries, indent=2) + "\n").encode())
    return entry


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Models to train; all of them when none is named.")] = None,
    dataset: Annotated[str, typer.Option(help="signs or fashion-mnist.")] = "signs",
    seed: Annotated[int, typer.Option(help="Seed of the weights, the order of images and the augmentation.")] = 0,
    epochs: Annotated[int | None, typer.Option(help="So many epochs, instead of the recipe's.")] = None,
    folder: Annotated[Path, typer.Option(help="Where checkpoints and manifest.json are written.")] = CHECKPOINTS,
) -> None:
    """Train models of the zoo by their recipes and write their checkpoints and manifest."""
    if dataset not in SHAPES or not RECIPES.keys() >= set(names or ()):
        raise typer.BadParameter(f"models are {', '.join(RECIPES)}; data sets are {', '.join(SHAPES)}.")
    for name in names or RECIPES:
        entry = retrain(name, dataset, seed=seed, epochs=epochs, folder=folder)
        typer.echo(f"{dataset}/{name}: accuracy {entry['accuracy']:.2%}, {entry['seconds']} s")


if __name__ == "__main__":
    typer.run(main)
