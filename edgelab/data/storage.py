"""The records every data set is handed over in, and the one folder where files are looked for and kept."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import platformdirs
import torch

from edgelab.errors import EdgelabError
from edgelab.i18n import _


@dataclass(frozen=True)
class Split:
    """One half of a data set.

    Attributes:
        images: uint8, shape `(N, channels, height, width)`.
        labels: int64, shape `(N,)`, index into `Dataset.classes`.
        conditions: int64, shape `(N,)`, index into `Dataset.condition_names`; None where nobody wrote them down.
    """

    images: torch.Tensor
    labels: torch.Tensor
    conditions: torch.Tensor | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, images: slice) -> Split:
        """Return the split of some images: `split[:100]` holds the first 100."""
        conditions = None if self.conditions is None else self.conditions[images]
        return Split(self.images[images], self.labels[images], conditions)

    def to(self, device: torch.device | str) -> Split:
        """Return the split with its tensors on `device`, as `Tensor.to` does: itself where they are there already."""
        conditions = None if self.conditions is None else self.conditions.to(device)
        return Split(self.images.to(device), self.labels.to(device), conditions)


@dataclass(frozen=True)
class Dataset:
    """Images to learn from and images to be judged on.

    Attributes:
        name: as given to `edgelab.data.load`.
        classes: one name per label.
        train: what a model is fitted on.
        test: what its accuracy is measured on.
        condition_names: what `Split.conditions` counts; empty where nobody wrote them down.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    condition_names: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Return what a learner reads: the name, and of a folder's path the last part."""
        return Path(self.name).name


def data_dir() -> Path:
    """Return the folder for data files: `EDGELAB_DATA`, else the user's cache; it need not exist yet."""
    chosen = os.environ.get("EDGELAB_DATA")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("edgelab"))


def make_data_dir() -> Path:
    """Return `data_dir()`, created if need be.

    Raises:
        EdgelabError: if it cannot be created.
    """
    folder = data_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = _("Cannot use %(folder)s for data (%(reason)s): set EDGELAB_DATA to a folder you may write to.")
        raise EdgelabError(message % {"folder": folder, "reason": error.strerror}) from error
    return folder


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Give a file to write; only when all went well does it take the name `path`, and at one stroke.

    Whoever reads `path` meanwhile, in whichever process, sees the old file or the new one. An error or Ctrl-C leaves
    the old one and no rubbish.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
