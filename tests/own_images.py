"""Folders of images as learners bring them, made from the signs: other sizes, other classes, grey or colour."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from edgelab.data.signs import generate


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
