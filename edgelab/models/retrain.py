"""Train the zoo's checkpoints again: `python -m edgelab.models.retrain resnet --dataset signs`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import save

from edgelab import data
from edgelab.data.storage import atomic_write
from edgelab.models.zoo import CHECKPOINTS, RECIPES, SHAPES, Recipe, sha256
from edgelab.train import evaluate, fit_whole, mirror, shift, usual_batch

VAL_IMAGES = 1000


def _signs(images: torch.Tensor) -> torch.Tensor:
    return shift(images, pixels=3)


def _clothes(images: torch.Tensor) -> torch.Tensor:
    """A mirrored shoe is a shoe; a mirrored sign would be another one."""
    return mirror(shift(images, pixels=2))


def _photographs(images: torch.Tensor) -> torch.Tensor:
    return mirror(shift(images, pixels=4))


def _moved(images: torch.Tensor) -> torch.Tensor:
    """Pictures of the learner's: a twelfth of their side, and not mirrored, for they may hold words or digits."""
    return shift(images, pixels=max(2, images.shape[-1] // 12))


AUGMENT = {"signs": _signs, "fashion-mnist": _clothes, "cifar10": _photographs}


def retrain(
    name: str, dataset: str, *, seed: int = 0, epochs: int | None = None, folder: Path = CHECKPOINTS
) -> dict[str, Any]:
    """Train a model of the zoo by its recipe; write the checkpoint and its manifest entry; return the entry.

    The last `VAL_IMAGES` training images choose the epoch; the test images are looked at once, at the end.
    """
    epochs = epochs or RECIPES[name].epochs[dataset]
    entry = train_checkpoint(name, data.load(dataset), folder / f"{name}-{dataset}.safetensors", epochs, seed=seed)
    record(folder, f"{dataset}/{name}", entry)
    return entry


def train_checkpoint(
    name: str, loaded: data.Dataset, file: Path, epochs: int, *, seed: int = 0, resume: Path | None = None
) -> dict[str, Any]:
    """Train a model of the zoo on any data set by its recipe, write its weights to `file`, return its manifest entry.

    With `resume`, a path, it goes on where it was stopped: see `train.fit`.
    """
    recipe = RECIPES[name]
    torch.manual_seed(seed)
    model = recipe.build(**shape(loaded))
    train, val = held_out(loaded)
    options = options_for(recipe, train)
    augment = augment_for(loaded)
    history = fit_whole(model, train, val=val, epochs=epochs, seed=seed, augment=augment, resume=resume, **options)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(file) as out:
        out.write(save(weights))
    return {
        "file": file.name,
        "accuracy": round(evaluate(model, loaded.test), 4),
        "seed": seed,
        "val_accuracy": max(history.val_accuracy),
        "epochs": epochs,
        "options": options,
        "seconds": round(history.seconds[-1]),
        "sha256": sha256(file),
    }


def augment_for(loaded: data.Dataset) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return how pictures of a data set are changed at random before a model learns from them, for `train.fit`."""
    return AUGMENT.get(loaded.name, _moved)


def options_for(recipe: Recipe, train: data.Split) -> dict[str, float]:
    """Return a recipe's options for `fit`; where batches are smaller than 128, as of large pictures, so is the step.

    In proportion: Goyal et al., 2017, "Accurate, large minibatch SGD".
    """
    share = usual_batch(train.images) / 128
    return recipe.options if share == 1 else {**recipe.options, "lr": recipe.options["lr"] * share}


def shape(loaded: data.Dataset) -> dict[str, int]:
    """Return what a model must be built with to fit a data set."""
    return {"in_channels": loaded.train.images.shape[1], "num_classes": len(loaded.classes)}


def held_out(loaded: data.Dataset) -> tuple[data.Split, data.Split]:
    """Return the training images to learn from, and the last ones, which choose the epoch and are not learnt from."""
    held = validation_images(loaded)
    return loaded.train[:-held], loaded.train[-held:]


def validation_images(loaded: data.Dataset) -> int:
    """Return how many training images choose the epoch: `VAL_IMAGES`, and of a small data set a tenth."""
    return max(1, min(VAL_IMAGES, len(loaded.train) // 10))


def record(folder: Path, key: str, entry: dict[str, Any]) -> None:
    """Write an entry into the manifest of a folder of checkpoints."""
    path = folder / "manifest.json"
    entries = json.loads(path.read_text("utf-8")) if path.exists() else {}
    entries = dict(sorted({**entries, key: entry}.items()))
    with atomic_write(path) as out:
        out.write((json.dumps(entries, indent=2) + "\n").encode())


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
