"""A folder of images that the course was taught: what was read of it is kept beside the images, ready for the labs.

`FOLDER/edgelab/images.npz` holds the pictures as the models see them, in an order drawn by lot, so that the first
hundred are of all classes; `about.json` says what was read, and `report.txt` names what was left out. The labs use
these pictures and no others: to read thousands of photographs anew would cost them minutes, and a model is judged on
the pictures that were set aside when it was trained.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import random
import statistics
import tempfile
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from edgelab.data.folder import HALVES, Found, find_images, must_have_images, read_images, shorter_sides
from edgelab.data.storage import Dataset, Split, atomic_write, data_dir
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.numbers import number

PLACE = "edgelab"  # beside train/ and test/
FEWEST_PIXELS, MOST_PIXELS, PHOTO_PIXELS = 24, 96, 32
MOST_CLASSES = 200
MOST_BYTES = {"train": 200_000_000, "test": 50_000_000}  # of pixels: a lab may take 1.5 GB in all
_SEED = 20_240


@dataclass(frozen=True)
class About:
    """What was read of a folder.

    `pixels` is the side of a picture, `channels` 1 (grey) or 3; `train` and `test` count the images of each class, in
    the order of `classes`. `left_out` says by file why it is not among them, and `no_room` how many more would not have
    fitted into memory. `files` is the fingerprint of the folder's files, `digest` that of the pictures.
    """

    classes: list[str]
    pixels: int
    channels: int
    train: list[int]
    test: list[int]
    left_out: dict[str, str]
    no_room: int
    files: str
    digest: str


def adopted_dir(dataset: str) -> Path:
    """Return where the checkpoints for a data set of the learner's lie, and the pictures of a folder; it may be new."""
    return data_dir() / "adopted" / dataset if dataset == "cifar10" else Path(dataset).expanduser() / PLACE


def about(folder: Path) -> About | None:
    """Return what was read of `folder`, None where nothing was yet or the record of it is damaged."""
    try:
        return About(**json.loads((adopted_dir(str(folder)) / "about.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def load(folder: Path) -> Dataset | None:
    """Return the pictures that were taken of `folder`, or None where none were.

    A line says when the folder's files are no longer those that were read.

    Raises:
        EdgelabError: if what was kept of them is damaged.
    """
    known = about(folder)
    if known is None:
        return None
    path = adopted_dir(str(folder)) / "images.npz"
    try:
        with path.open("rb") as stream, np.load(stream) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files}
        train, test = (Split(arrays[f"{half}_images"], arrays[f"{half}_labels"]) for half in HALVES)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        text = _("%(file)s is damaged or missing: read the images again with %(command)s.")
        raise EdgelabError(text % {"file": path, "command": f"edgelab adopt {folder} --again"}) from error
    if fingerprint(folder) != known.files:
        text = _("The files in %(folder)s have changed; the labs go on with those that were read. To read them again:")
        print(text % {"folder": folder}, f"edgelab adopt {folder} --again")
    return Dataset(str(folder.resolve()), tuple(known.classes), train, test)


def fingerprint(folder: Path) -> str:
    """Return a digest of the names and sizes of the files in train/ and test/ but hidden ones; none is opened."""
    digest = hashlib.sha256()
    for half in HALVES:
        for root, below, names in os.walk(folder / half):
            below.sort()
            for path in (Path(root, name) for name in sorted(names) if not name.startswith(".")):
                digest.update(f"{path.relative_to(folder).as_posix()} {path.lstat().st_size}\n".encode())
    return digest.hexdigest()


def take(folder: Path, pixels: int | None = None) -> About:
    """Read the images of `folder`, keep them beside it, `pixels` wide and high, and return what was read.

    Without `pixels`, pictures that are small stay as large as most of them are, and photographs become 32x32. They stay
    grey where all are. Files that cannot be read are left out; so is, by lot, what would not fit into memory. What was
    trained on other pictures, read here before, is removed.

    Raises:
        EdgelabError: as `find_images`; for more than 200 classes; for a folder that cannot be written to.
    """
    everything, broken = find_images(folder), list[Path]()
    if len(everything.classes) > MOST_CLASSES:
        text = _("%(folder)s holds %(n)d classes: the course takes %(most)d at most.")
        raise EdgelabError(text % {"folder": folder / "train", "n": len(everything.classes), "most": MOST_CLASSES})
    _must_be_writable(folder)
    files, side = fingerprint(folder), pixels or usual_side(everything)
    found = with_room(everything, side)
    read = read_images(found, side, broken)
    must_have_images(folder, *read)
    grey = all(_is_grey(half.images) for half in read)
    halves = {name: _drawn(half, grey) for name, half in zip(HALVES, read, strict=True)}
    counts = {name: half.labels.bincount(minlength=len(found.classes)).tolist() for name, half in halves.items()}
    reasons = found.left_out | dict.fromkeys(broken, _("it cannot be read"))
    known = About(
        classes=list(found.classes),
        pixels=side,
        channels=1 if grey else 3,
        train=counts["train"],
        test=counts["test"],
        left_out={path.relative_to(folder).as_posix(): why for path, why in sorted(reasons.items())},
        no_room=len(everything.files()) - len(found.files()),
        files=files,
        digest=pictures_digest(halves["train"], halves["test"]),
    )
    _write(adopted_dir(str(folder)), known, halves)
    return known


def with_room(found: Found, side: int) -> Found:
    """Return the files that fit into memory as pictures of `side` pixels: of each class the same share, by lot."""
    halves = {}
    for name, by_class in found.halves.items():
        share = MOST_BYTES[name] / (3 * side * side * max(1, sum(map(len, by_class.values()))))
        lot = random.Random(_SEED)
        halves[name] = {
            label: paths if share >= 1 else sorted(lot.sample(paths, math.ceil(share * len(paths))))
            for label, paths in by_class.items()
        }
    return dataclasses.replace(found, halves=halves)


def usual_side(found: Found) -> int:
    """Return how large the pictures shall be: as most of them are, or 32 where those are photographs.

    A multiple of 4, because the networks halve it twice or more.
    """
    sides = shorter_sides(found)
    usual = int(statistics.median(sides)) if sides else PHOTO_PIXELS
    return max(FEWEST_PIXELS, usual // 4 * 4) if usual <= MOST_PIXELS else PHOTO_PIXELS


def pictures_digest(train: Split, test: Split) -> str:
    """Return the sha256 of all pictures and labels."""
    digest = hashlib.sha256()
    for split in (train, test):
        for tensor in (split.images, split.labels):
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def kind(channels: int) -> str:
    """Return what a learner reads for pictures of so many channels."""
    return _("grey") if channels == 1 else _("colour")


def report(folder: Path, known: About) -> list[str]:
    """Return in sentences what was read of a folder, and what was not."""
    sizes = {
        "train": number(sum(known.train)),
        "test": number(sum(known.test)),
        "pixels": known.pixels,
        "n": len(known.classes),
    }
    text = _(
        "%(folder)s: classes: %(n)d; images to train on: %(train)s, to test with: %(test)s; %(pixels)d px, %(kind)s."
    )
    lines = [text % {**sizes, "folder": folder, "kind": kind(known.channels)}]
    if known.left_out:
        named = ", ".join(f"{path} ({why})" for path, why in list(known.left_out.items())[:3])
        more = ", ..." if len(known.left_out) > 3 else ""
        lines.append(_("%(n)d files were left out: %(files)s.") % {"n": len(known.left_out), "files": named + more})
    if known.no_room:
        text = _("%(n)d images more were left out by lot: beside a lab there is no room for them in memory.")
        lines.append(text % {"n": known.no_room})
    untested = [name for name, count in zip(known.classes, known.test, strict=True) if not count]
    if untested:
        lines.append(_("Classes without a test image: %(names)s.") % {"names": ", ".join(untested)})
    return lines


def _write(place: Path, known: About, halves: dict[str, Split]) -> None:
    """Write what was read; `about.json` comes last, so that half of it is nothing."""
    before = about(place.parent)
    (place / "about.json").unlink(missing_ok=True)
    if before is None or before.digest != known.digest:
        for name in ("manifest.json", "*.safetensors", "*.training", ".*.part"):
            for path in place.glob(name):
                path.unlink()
    arrays = {f"{name}_images": half.images.numpy() for name, half in halves.items()}
    arrays |= {f"{name}_labels": half.labels.numpy() for name, half in halves.items()}
    with atomic_write(place / "images.npz") as file:
        np.savez(file, allow_pickle=False, **arrays)
    counts = zip(known.classes, known.train, known.test, strict=True)
    lines = [
        *report(place.parent, known),
        *("", _("class: images to train on, to test with")),
        *(f"{name}: {train}, {test}" for name, train, test in counts),
        *("", _("left out")),
        *(f"{path}: {why}" for path, why in known.left_out.items()),
    ]
    with atomic_write(place / "report.txt") as file:
        file.write(("\n".join(lines) + "\n").encode())
    with atomic_write(place / "about.json") as file:
        file.write(json.dumps(asdict(known), indent=1, ensure_ascii=False).encode())


def _must_be_writable(folder: Path) -> None:
    """Raise `EdgelabError` now, not after an hour, where nothing can be kept beside the images."""
    place = folder / PLACE
    inside = {path.name for path in place.iterdir() if not path.name.startswith(".")} if place.is_dir() else set()
    if inside and not inside & {"images.npz", "about.json"}:
        text = _("%(place)s is a folder of yours: rename it, for the course keeps its models in a folder of that name.")
        raise EdgelabError(text % {"place": place})
    try:
        place.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        text = _("%(folder)s cannot be written (%(reason)s): models lie beside their images, so copy them elsewhere.")
        raise EdgelabError(text % {"folder": folder, "reason": error.strerror}) from error


def _is_grey(images: torch.Tensor) -> bool:
    """Return whether all three channels of `(N, 3, H, W)` are the same."""
    return bool((images == images[:, :1]).all())


def _drawn(half: Split, grey: bool) -> Split:
    """Return the images of a half in an order drawn by lot, with one channel where they are grey."""
    order = torch.randperm(len(half), generator=torch.Generator().manual_seed(_SEED))
    images = half.images[:, :1] if grey else half.images
    return Split(images[order].contiguous(), half.labels[order])
