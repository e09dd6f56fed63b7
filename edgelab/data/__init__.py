"""The data sets: `load()` gives one by name, with uint8 images and int64 labels.

`signs` is drawn on your own machine and needs no network; `fashion-mnist`, `cifar10` and your own folder of images are
real. `EDGELAB_DATASET` changes what `load()` gives, `EDGELAB_DATA` where files are looked for and kept.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch.nn import functional as F

from edgelab.data import adopted, folder, loaders, signs
from edgelab.data.storage import Dataset, Split, data_dir
from edgelab.errors import EdgelabError
from edgelab.i18n import _

__all__ = ["NAMES", "Dataset", "Split", "available", "data_dir", "load", "normalize", "resize"]

NAMES = ("signs", "fashion-mnist", "cifar10")


def load(name: str | os.PathLike[str] | None = None) -> Dataset:
    """Return a data set.

    Args:
        name: one of `NAMES`, or the path of a folder with `train/<class>/` and `test/<class>/`, full of images; None
            stands for the environment's `EDGELAB_DATASET`, else for `signs`.

    Raises:
        EdgelabError: if there is no such data set, it cannot be fetched, or it is damaged.
    """
    name = os.fspath(name or os.environ.get("EDGELAB_DATASET") or "signs")
    by_name = {"signs": signs.load, "fashion-mnist": loaders.load_fashion_mnist, "cifar10": loaders.load_cifar10}
    if name in by_name:
        return by_name[name]()
    place = Path(name).expanduser()
    if place.is_dir():
        return adopted.load(place) or folder.load_folder(place)
    message = _("There is no data set `%(name)s`: use %(names)s, or the path of a folder with train/ and test/ in it.")
    raise EdgelabError(message % {"name": name, "names": ", ".join(NAMES)})


def available() -> dict[str, Path | None]:
    """Return where each of `NAMES` is on this machine, None where it is not; nothing is drawn or downloaded.

    `signs` is always here: as images once drawn, and before that as templates.
    """
    cache = signs.cache_path()
    return {
        "signs": cache if cache.is_file() else signs.template_dir(),
        "fashion-mnist": loaders.find_fashion_mnist(),
        "cifar10": loaders.find_cifar10(),
    }


def normalize(images: torch.Tensor) -> torch.Tensor:
    """Return `images / 128 - 1` as float32, so that uint8 0..255 fills -1..1; the shape stays.

    Not 127.5: a step of 1/128 has an exact code, `pixel - 128`, in int8 with scale 1/128 and zero point 0.

    >>> normalize(torch.tensor([0, 128, 192], dtype=torch.uint8))
    tensor([-1.0000,  0.0000,  0.5000])
    """
    return images.float() / 128 - 1


def resize(images: torch.Tensor, pixels: int) -> torch.Tensor:
    """Return uint8 images `(N, C, H, W)` as `(N, C, pixels, pixels)`: each pixel the weighted mean of what it covers.

    >>> resize(torch.tensor([[[[0, 100], [100, 200]]]], dtype=torch.uint8), 1)
    tensor([[[[100]]]], dtype=torch.uint8)
    """
    if images.shape[-2:] == (pixels, pixels):
        return images
    shrunk = F.interpolate(images.float(), size=(pixels, pixels), mode="bilinear", antialias=True)
    return shrunk.round().clamp(0, 255).to(torch.uint8)
