"""Folders of images as learners bring them, made from the signs: other sizes, other classes, grey or colour."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from edgelab import data
from edgelab.data import adopted
from edgelab.data.signs import generate
from edgelab.models import load_pretrained
from edgelab.models.retrain import record, shape
from edgelab.models.zoo import RECIPES, sha256
from edgelab.train import evaluate


def noise_folder(folder: Path, *, classes: int, side: int, grey: bool = False, each: int = 12) -> Path:
    """Write a folder whose classes differ in their mean grey alone, `each` images to train on and a third to test."""
    generator = np.random.default_rng(0)
    for half, count in (("train", each), ("test", max(1, each // 3))):
        for label in range(classes):
            place = folder / half / f"class {label:02d}"
            place.mkdir(parents=True)
            for number in range(count):
                shape = (side, side) if grey else (side, side, 3)
                pixels = generator.integers(0, 56, shape) + 200 * label // classes
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
    return folder


def signs_folder(folder: Path, *, classes: int, side: int, grey: bool, train: int, test: int) -> Path:
    """Write the first `classes` road signs as images `side` pixels wide, under names of their own."""
    arrays = generate(train * 16 // classes, test * 16 // classes)
    for half in ("train", "test"):
        images, labels = (torch.from_numpy(arrays[f"{half}_{part}"]) for part in ("images", "labels"))
        kept = labels < classes
        pixels = torch.nn.functional.interpolate(images[kept].float(), size=(side, side), mode="bilinear")
        pixels = pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
        for number, (label, one) in enumerate(zip(labels[kept].tolist(), pixels, strict=True)):
            place = folder / half / f"kind {label:02d}"
            place.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(one)
            (picture.convert("L") if grey else picture).save(place / f"{number:05d}.png")
    return folder


def graft(folder: Path) -> dict[str, float]:
    """Give a folder of `signs_folder` the zoo's own weights for signs, as `adopt` would have left them; no training.

    The rows of the classes that the folder has are kept of the last layer; grey adds up the colours' weights; and batch
    norms see some of the pictures, which are of another size. Returns the accuracies on the test images, by model.
    """
    known = adopted.take(folder)
    loaded = data.load(folder)
    seen = data.normalize(loaded.train.images[:512])
    found = {}
    for name, recipe in RECIPES.items():
        model = recipe.build(**shape(loaded))
        theirs = load_pretrained(name, "signs").state_dict()
        for key, mine in model.state_dict().items():
            whole = theirs[key]
            if mine.shape != whole.shape:
                whole = whole.sum(1, keepdim=True) if mine.dim() == 4 else whole[: len(mine)]
            theirs[key] = whole
        model.load_state_dict(theirs)
        _settle(model, seen)
        file = adopted.adopted_dir(str(folder)) / f"{name}.safetensors"
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, file)
        found[name] = evaluate(model, loaded.test)
        entry = {"file": file.name, "accuracy": found[name], "epochs": recipe.epochs["signs"], "seed": 0}
        record(file.parent, name, {**entry, "sha256": sha256(file), "shape": shape(loaded), "data": known.digest})
    return found


def _settle(model: torch.nn.Module, images: torch.Tensor) -> None:
    """Let the batch norms of `model` see `images`, and the mean of all batches be what they keep."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    with torch.no_grad():
        for batch in images.split(128):
            model(batch)
    model.eval()
