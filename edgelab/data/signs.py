"""`signs`, the data set that needs no network: road signs as a vehicle's camera sees them, 32x32, 16 classes.

Small templates (`datasets/signs/*.png`) go through the camera of `edgelab.data.camera`; the result is kept in the data
folder under a name that holds the recipe's digest, so that a changed recipe never meets an old file.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from edgelab.bars import track
from edgelab.data import camera, draws
from edgelab.data.storage import Dataset, Split, atomic_write, data_dir, make_data_dir
from edgelab.errors import EdgelabError
from edgelab.i18n import _

CLASSES = (
    *(f"limit {speed}" for speed in (20, 30, 50, 60, 80, 100, 120)),
    *("stop", "yield", "no entry", "priority road"),
    *("pedestrians", "children", "curve", "roadworks", "roundabout"),
)
_TEMPLATES = tuple(name.replace(" ", "_") + ".png" for name in CLASSES)
TRAIN_SIZE, TEST_SIZE = 12_000, 3_000
SEED = 20_240

# Day, the usual case, comes up in five rounds of fifteen; every other condition in two.
_HARD = [camera.NIGHT, camera.FOG, camera.MOTION, camera.NOISE, camera.OCCLUSION]
_ROUNDS = torch.tensor([*(kind for hard in _HARD for kind in (camera.DAY, hard)), *_HARD])
_BATCH = len(CLASSES) * len(_ROUNDS)  # every class in every round: each batch is balanced by itself
_SHUFFLE = 1 << 40  # number of the stream that shuffles; the batches' streams stay below


def load() -> Dataset:
    """Return the data set, generated in a few seconds where no cached copy is found.

    Raises:
        EdgelabError: if the templates are missing from the installation.
    """
    path = cache_path()
    arrays = _read(path)
    if arrays is None:
        arrays = generate(TRAIN_SIZE, TEST_SIZE)
        _keep(path, arrays)
    train, test = (
        Split(*(torch.from_numpy(arrays[f"{half}_{part}"]) for part in ("images", "labels", "conditions")))
        for half in ("train", "test")
    )
    return Dataset("signs", CLASSES, train, test, camera.CONDITION_NAMES)


def cache_path() -> Path:
    """Return where the generated images are kept; the name changes with templates, code, sizes and seed."""
    recipe = hashlib.sha256(repr((CLASSES, TRAIN_SIZE, TEST_SIZE, SEED, _ROUNDS.tolist())).encode())
    for module in ("camera", "draws", "scenery"):
        recipe.update(Path(__file__).with_name(f"{module}.py").read_bytes().replace(b"\r\n", b"\n"))
    for file in _TEMPLATES:
        recipe.update((template_dir() / file).read_bytes())
    return data_dir() / f"signs-{recipe.hexdigest()[:12]}.npz"


def generate(train_size: int, test_size: int) -> dict[str, np.ndarray]:
    """Return images (uint8, `(N, 3, 32, 32)`), labels and conditions (int64) of both halves, by name."""
    templates = load_templates()
    jobs = [(0, start, min(_BATCH, train_size - start)) for start in range(0, train_size, _BATCH)]
    jobs += [(1, start, min(_BATCH, test_size - start)) for start in range(0, test_size, _BATCH)]
    # Many small batches, each on one thread, fill the cores better than one batch on all of them.
    threads = torch.get_num_threads()
    workers = ThreadPoolExecutor(min(4, os.cpu_count() or 1))
    try:
        torch.set_num_threads(1)
        batches = workers.map(lambda job: _batch(templates, *job), jobs)
        done = list(track(batches, _("drawing road signs"), total=len(jobs)))
    finally:
        workers.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
    arrays = {}
    for half, name, size in ((0, "train", train_size), (1, "test", test_size)):
        order = np.argsort(np.random.Philox(key=_key(half, _SHUFFLE)).random_raw(size), kind="stable")
        parts = [batch for job, batch in zip(jobs, done, strict=True) if job[0] == half]
        for number, part in enumerate(("images", "labels", "conditions")):
            arrays[f"{name}_{part}"] = torch.cat([batch[number] for batch in parts]).numpy()[order]
    return arrays


def template_dir() -> Path:
    """Return the templates' folder: in an installed package beside `edgelab/data`, in a checkout beside `edgelab`.

    Raises:
        EdgelabError: if a template is missing.
    """
    package = Path(__file__).resolve().parents[1]
    folders = [root / "datasets" / "signs" for root in (package, package.parent)]
    for folder in folders:
        if all((folder / file).is_file() for file in _TEMPLATES):
            return folder
    message = _("The road-sign templates are missing from %(folder)s: install edgelab again.")
    raise EdgelabError(message % {"folder": folders[0]})


def load_templates() -> torch.Tensor:
    """Return the templates in the order of `CLASSES`, RGBA multiplied by alpha, float32 in [0, 1], `(16, 4, 64, 64)`.

    Raises:
        EdgelabError: if one is missing or damaged.
    """
    from PIL import Image

    pictures = []
    for path in (template_dir() / file for file in _TEMPLATES):
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGBA"))
        except OSError as error:
            message = _("The road-sign template %(file)s is damaged: install edgelab again.")
            raise EdgelabError(message % {"file": path}) from error
        pictures.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255)
    rgba = torch.stack(pictures)
    return camera.halve(torch.cat((rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]), dim=1))


def _key(half: int, stream: int) -> np.ndarray:
    return np.array([SEED + half, stream], dtype=np.uint64)


def _batch(templates: torch.Tensor, half: int, start: int, count: int) -> tuple[torch.Tensor, ...]:
    """Return images, labels and conditions of one batch; it depends on nothing but its arguments."""
    index = torch.arange(count)
    labels = index % len(CLASSES)
    conditions = _ROUNDS[index // len(CLASSES) % len(_ROUNDS)]
    images = camera.photograph(templates[labels], conditions, draws.Draws(_key(half, start)))
    return images, labels, conditions


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """Return the cached arrays, or None where there are none or they are damaged (the file carries checksums)."""
    if not path.exists():
        return None
    try:
        with path.open("rb") as stream, np.load(stream) as file:
            arrays = {name: file[name] for name in file.files}
        sizes = {half: len(arrays[f"{half}_images"]) for half in ("train", "test")}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        print(_("The cached file %(file)s is damaged: drawing the signs again.") % {"file": path}, file=sys.stderr)
        return None
    return arrays if sizes == {"train": TRAIN_SIZE, "test": TEST_SIZE} else None


def _keep(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the cache; a folder that cannot be written to costs a few seconds at every start, and no more."""
    try:
        make_data_dir()
        with atomic_write(path) as file:
            np.savez(file, allow_pickle=False, **arrays)
    except (OSError, EdgelabError):
        message = _("Cannot keep the signs in %(folder)s: they will be drawn again at every start.")
        print(message % {"folder": path.parent}, file=sys.stderr)
