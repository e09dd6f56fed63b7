"""A folder of your own images as a data set: all that Pillow reads, and a line on what was left out and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgelab.bars import Bar, track
from edgelab.data.storage import Dataset, Split
from edgelab.errors import EdgelabError
from edgelab.i18n import _

if TYPE_CHECKING:
    from PIL import Image

SIDE = 32
HALVES = ("train", "test")


@dataclass(frozen=True)
class Found:
    """The image files of a folder by half and class, and by path why others were left out."""

    folder: Path
    classes: tuple[str, ...]
    halves: dict[str, dict[str, list[Path]]]
    left_out: dict[Path, str]

    def files(self) -> list[Path]:
        """Return all image files."""
        return [path for half in self.halves.values() for paths in half.values() for path in paths]


def load_folder(folder: Path) -> Dataset:
    """Return the images of `folder`, RGB, resized to 32x32: of `train/<class>/` and `test/<class>/`, at any depth.

    One line is printed that says what was left out and why.

    Raises:
        EdgelabError: if a half or all images are missing, there is but one class, or files are unreadable.
    """
    found, broken = find_images(folder), list[Path]()
    train, test = read_images(found, SIDE, broken)
    if broken:
        message = _("%(n)d image files cannot be read (%(files)s): repair or remove them.")
        names = ", ".join(str(path) for path in broken[:3]) + (", ..." if len(broken) > 3 else "")
        raise EdgelabError(message % {"n": len(broken), "files": names})
    must_have_images(folder, train, test)
    _say_what_was_left_out(found.left_out)
    return Dataset(str(folder), found.classes, train, test)


def find_images(folder: Path) -> Found:
    """Return the image files of `folder`; none is opened.

    Raises:
        EdgelabError: if a half or all images are missing, or there is but one class.
    """
    for half in HALVES:
        if not (folder / half).is_dir():
            message = _("%(folder)s has no folder `%(half)s`: put the images in %(half)s/<class>/*.png or *.jpg.")
            raise EdgelabError(message % {"folder": folder, "half": half})
    left_out: dict[Path, str] = {}
    found = {half: _list_images(folder / half, left_out) for half in HALVES}
    for half, images in found.items():
        if not any(images.values()):
            raise _no_images(folder, half)
    classes = tuple(name for name, paths in found["train"].items() if paths)
    if len(classes) < 2:
        message = _("%(folder)s holds one class (%(name)s): a classifier needs two or more.")
        raise EdgelabError(message % {"folder": folder / "train", "name": classes[0]})
    strangers = [name for name, paths in found["test"].items() if paths and name not in classes]
    if strangers:
        message = _("%(folder)s has a class that train/ has no images of: %(name)s.")
        raise EdgelabError(message % {"folder": folder / "test", "name": strangers[0]})
    return Found(folder, classes, found, left_out)


def must_have_images(folder: Path, train: Split, test: Split) -> None:
    """Raise `EdgelabError` for a half of which no image could be read."""
    for half, split in zip(HALVES, (train, test), strict=True):
        if not len(split):
            raise _no_images(folder, half)


def _no_images(folder: Path, half: str) -> EdgelabError:
    message = _("%(folder)s holds no images: put them in %(half)s/<class>/*.png or *.jpg.")
    return EdgelabError(message % {"folder": folder / half, "half": half})


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


def shorter_sides(found: Found) -> list[int]:
    """Return the shorter side of each image in pixels; what cannot be opened is passed over."""
    from PIL import Image

    sides = []
    for path in track(found.files(), _("looking at images")):
        try:
            with Image.open(path) as file:  # reads no more than its head
                sides.append(min(file.size))
        except _unreadable():
            continue
    return sides


def read_images(found: Found, side: int, broken: list[Path]) -> tuple[Split, Split]:
    """Return both halves, RGB, `side` pixels wide and high, in the order of the classes.

    What cannot be read is added to `broken`, what has no known range to `left_out`.
    """
    with Bar(len(found.files()), _("reading images"), unit=_("image")) as bar:
        train, test = (_read_half(found, half, side, broken, bar) for half in HALVES)
    return train, test


def _read_half(found: Found, half: str, side: int, broken: list[Path], bar: Bar) -> Split:
    from PIL import Image, ImageOps

    images, labels = [], []
    for label, name in enumerate(found.classes):
        for path in found.halves[half].get(name, []):
            bar.update()
            try:
                with Image.open(path) as file:
                    file.draft("RGB", (2 * side, 2 * side))  # a JPEG photograph is decoded no larger than it need be
                    image = _in_eight_bits(ImageOps.exif_transpose(file))
            except _unreadable():
                broken.append(path)
                continue
            if image is None:
                found.left_out[path] = _("its pixels are numbers of no known range")
                continue
            if image.size != (side, side):
                image = image.resize((side, side), Image.Resampling.BILINEAR)
            images.append(np.array(image))
            labels.append(label)
    pixels = np.stack(images) if images else np.zeros((0, side, side, 3), np.uint8)
    return Split(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels, dtype=torch.int64))


def _unreadable() -> tuple[type[BaseException], ...]:
    """Return what Pillow raises for a file that is no image, or half of one."""
    from PIL import Image

    return OSError, ValueError, SyntaxError, Image.DecompressionBombError


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
