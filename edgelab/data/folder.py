"""A folder of your own images as a data set: all that Pillow reads, and a line on what was left out and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgelab.data.storage import Dataset, Split
from edgelab.errors import EdgelabError
from edgelab.i18n import _

if TYPE_CHECKING:
    from PIL import Image

SIDE = 32


def load_folder(folder: Path) -> Dataset:
    """Return the images of `folder`, RGB, resized to 32x32: of `train/<class>/` and `test/<class>/`, at any depth.

    One line is printed that says what was left out and why.

    Raises:
        EdgelabError: if a half or all images are missing, there is but one class, or files are unreadable.
    """
    for half in ("train", "test"):
        if not (folder / half).is_dir():
            message = _("%(folder)s has no folder `%(half)s`: put the images in %(half)s/<class>/*.png or *.jpg.")
            raise EdgelabError(message % {"folder": folder, "half": half})
    left_out: dict[Path, str] = {}
    found = {half: _list_images(folder / half, left_out) for half in ("train", "test")}
    for half, images in found.items():
        if not any(images.values()):
            message = _("%(folder)s holds no images: put them in %(half)s/<class>/*.png or *.jpg.")
            raise EdgelabError(message % {"folder": folder / half, "half": half})
    classes = tuple(name for name, paths in found["train"].items() if paths)
    if len(classes) < 2:
        message = _("%(folder)s holds one class (%(name)s): a classifier needs two or more.")
        raise EdgelabError(message % {"folder": folder / "train", "name": classes[0]})
    strangers = [name for name, paths in found["test"].items() if paths and name not in classes]
    if strangers:
        message = _("%(folder)s has a class that train/ has no images of: %(name)s.")
        raise EdgelabError(message % {"folder": folder / "test", "name": strangers[0]})
    broken: list[Path] = []
    train, test = (_read_images(found[half], classes, broken, left_out) for half in ("train", "test"))
    if broken:
        message = _("%(n)d image files cannot be read (%(files)s): repair or remove them.")
        names = ", ".join(str(path) for path in broken[:3]) + (", ..." if len(broken) > 3 else "")
        raise EdgelabError(message % {"n": len(broken), "files": names})
    for half, split in (("train", train), ("test", test)):
        if not len(split):
            message = _("%(folder)s holds no images: put them in %(half)s/<class>/*.png or *.jpg.")
            raise EdgelabError(message % {"folder": folder / half, "half": half})
    _say_what_was_left_out(left_out)
    return Dataset(str(folder), classes, train, test)


def _list_images(folder: Path, left_out: dict[Path, str]) -> dict[str, list[Path]]:
    """Return the image files of each class folder, at any depth, both in alphabetical order; hidden ones do not count.

    What is no image is added to `left_out`, with the reason.
    """
    known = _suffixes()
    found: dict[str, list[Path]] = {}
    for path in sorted(_visible(folder)):
        if path.is_dir():
            files = sorted(_files_below(path))
            found[path.name] = [file for file in files if file.suffix.lower() in known]
            others = [file for file in files if file.suffix.lower() not in known]
            left_out |= dict.fromkeys(others, _("no kind of image that Pillow reads"))
        else:
            left_out[path] = _("it lies in no class folder")
    return found


def _files_below(folder: Path) -> Iterator[Path]:
    for path in _visible(folder):
        if path.is_dir():
            yield from _files_below(path)
        else:
            yield path


def _visible(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _suffixes() -> set[str]:
    """Return the endings of the files that Pillow opens, in lower case."""
    from PIL import Image

    endings = Image.registered_extensions()  # which makes Pillow look for all its kinds
    return {ending for ending, kind in endings.items() if kind in Image.OPEN}


def _read_images(
    found: dict[str, list[Path]], classes: tuple[str, ...], broken: list[Path], left_out: dict[Path, str]
) -> Split:
    """Return the images as a split; what cannot be read is added to `broken`, what has no known range to `left_out`."""
    from PIL import Image, ImageOps

    images, labels = [], []
    for label, name in enumerate(classes):
        for path in found.get(name, []):
            try:
                with Image.open(path) as file:
                    image = _in_eight_bits(ImageOps.exif_transpose(file))
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                broken.append(path)
                continue
            if image is None:
                left_out[path] = _("its pixels are numbers of no known range")
                continue
            if image.size != (SIDE, SIDE):
                image = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            images.append(np.array(image))
            labels.append(label)
    pixels = np.stack(images) if images else np.zeros((0, SIDE, SIDE, 3), np.uint8)
    return Split(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels, dtype=torch.int64))


def _in_eight_bits(image: Image.Image) -> Image.Image | None:
    """Return an image as RGB, or None where nobody knows what its numbers mean.

    Grey values of 16 bits are scaled: Pillow's own conversion would clip all above 255, and most pictures be white.
    """
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        if image.mode == "F" or values.size == 0 or values.min() < 0 or values.max() > 65535:
            return None
        image = Image.fromarray((values.astype(np.uint32) * 255 // 65535).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # as Pillow advises
    return image.convert("RGB")


def _say_what_was_left_out(left_out: dict[Path, str]) -> None:
    """Print one line that counts and names the files that are not in the data set, with the reason of each."""
    if left_out:
        named = ", ".join(f"{path} ({why})" for path, why in list(left_out.items())[:3])
        more = ", ..." if len(left_out) > 3 else ""
        print(_("%(n)d files were left out: %(files)s.") % {"n": len(left_out), "files": named + more})
