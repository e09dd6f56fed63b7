"""The data sets that are not drawn here and that others have made: Fashion-MNIST and CIFAR-10.

A file counts only when its digest is right; a download becomes visible only when it is whole.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import socket
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import platformdirs
import torch

from edgelab.data.storage import Dataset, Split, data_dir, make_data_dir
from edgelab.errors import EdgelabError
from edgelab.i18n import _

FASHION_CLASSES = (
    *("T-shirt", "trousers", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
# sha256 of what is inside each .gz: Debian compresses the same bytes anew, so that the .gz files themselves differ.
FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")
_NETWORK_SECONDS = 30  # a silent server is given up after this long


def load_fashion_mnist() -> Dataset:
    """Return Fashion-MNIST: 60,000 + 10,000 grey images, shape `(N, 1, 28, 28)`, 10 classes.

    Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms", 2017.

    Raises:
        EdgelabError: if it is neither here nor to be downloaded, or a file is damaged.
    """
    folder = find_fashion_mnist() or _download_fashion_mnist()
    arrays = [_read_idx(folder / name, digest) for name, digest in FASHION_FILES.items()]
    images, labels = arrays[0::2], arrays[1::2]
    train, test = (
        Split(torch.from_numpy(image).unsqueeze(1), torch.from_numpy(label.astype(np.int64)))
        for image, label in zip(images, labels, strict=True)
    )
    return Dataset("fashion-mnist", FASHION_CLASSES, train, test)


def find_fashion_mnist() -> Path | None:
    """Return the first folder that holds the four files, or None; nothing is downloaded, no digest computed."""
    roots = dict.fromkeys((data_dir(), Path(platformdirs.user_cache_dir("edgelab"))))
    folders = [root / place for root in roots for place in ("fashion-mnist", "FashionMNIST/raw", ".")]
    for folder in (*folders, DEBIAN_FASHION):
        if all((folder / name).is_file() for name in FASHION_FILES):
            return folder
    return None


def _read_idx(path: Path, digest: str) -> np.ndarray:
    """Return the uint8 array of one gzipped idx file whose content has the sha256 `digest`."""
    try:
        payload = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, _("it is cut short or not a gzip file")) from error
    if hashlib.sha256(payload).hexdigest() != digest:
        raise _damaged(path, _("its checksum is wrong"))
    dimensions = payload[3]  # idx: two zero bytes, the type (8: uint8), the number of dimensions, then their sizes
    shape = np.frombuffer(payload, ">u4", count=dimensions, offset=4)
    return np.frombuffer(payload, np.uint8, offset=4 + 4 * dimensions).reshape(shape).copy()


def _damaged(path: Path, reason: str) -> EdgelabError:
    message = _("%(file)s is damaged (%(reason)s): delete it and load the data set again, so that it is fetched anew.")
    return EdgelabError(message % {"file": path, "reason": reason})


def _download_fashion_mnist() -> Path:
    """Fetch what is missing of the four files, as torchvision would, and return their folder."""
    from torchvision.datasets import FashionMNIST
    from torchvision.datasets.utils import download_url

    folder = make_data_dir() / "fashion-mnist"
    with _download_folder() as temporary:
        for name, md5 in FashionMNIST.resources:
            if (folder / name).is_file():
                continue
            for mirror in FashionMNIST.mirrors:
                try:
                    download_url(mirror + name, str(temporary), name, md5)
                    break
                except (OSError, RuntimeError):  # no network; the wrong checksum
                    continue
            else:
                raise EdgelabError(
                    _(
                        "Fashion-MNIST is not on this machine and could not be downloaded: install it with "
                        "`apt-get install dataset-fashion-mnist` (Debian, Ubuntu) or connect once so that it is "
                        "downloaded; the data set `signs` needs neither."
                    )
                )
            folder.mkdir(exist_ok=True)
            os.replace(temporary / name, folder / name)
    return folder


@contextmanager
def _download_folder() -> Iterator[Path]:
    """Give a folder inside the data folder that is gone afterwards, and a network that never hangs."""
    before = socket.getdefaulttimeout()
    temporary = Path(tempfile.mkdtemp(dir=make_data_dir(), prefix=".download-"))
    try:
        socket.setdefaulttimeout(_NETWORK_SECONDS)
        yield temporary
    finally:
        socket.setdefaulttimeout(before)
        shutil.rmtree(temporary, ignore_errors=True)


def load_cifar10() -> Dataset:
    """Return CIFAR-10: 50,000 + 10,000 colour images, shape `(N, 3, 32, 32)`, 10 classes; 170 MB when downloaded.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009.

    Raises:
        EdgelabError: if it is neither here nor to be downloaded, or a file is damaged.
    """
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity

    root = find_cifar10() or _download_cifar10()
    files = [*CIFAR10.train_list, *CIFAR10.test_list, [CIFAR10.meta["filename"], CIFAR10.meta["md5"]]]
    for name, md5 in files:
        path = root / CIFAR10.base_folder / name
        if not check_integrity(str(path), md5):
            raise _damaged(path.parent, _("%(file)s is missing or its checksum is wrong") % {"file": name})
    halves = [CIFAR10(str(root), train=train) for train in (True, False)]
    train, test = (
        Split(torch.from_numpy(half.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(half.targets))
        for half in halves
    )
    return Dataset("cifar10", tuple(halves[0].classes), train, test)


def find_cifar10() -> Path | None:
    """Return the folder that holds CIFAR-10's folder of batches, or None; nothing is downloaded."""
    roots = dict.fromkeys((data_dir(), Path(platformdirs.user_cache_dir("edgelab"))))
    for folder in (root / place for root in roots for place in ("cifar10", ".")):
        if (folder / "cifar-10-batches-py").is_dir():
            return folder
    return None


def _download_cifar10() -> Path:
    """Fetch and unpack CIFAR-10 as torchvision would, and return the folder that holds its folder of batches."""
    from torchvision.datasets import CIFAR10

    folder = make_data_dir() / "cifar10"
    with _download_folder() as temporary:
        try:
            CIFAR10(str(temporary), download=True)
        except (OSError, RuntimeError) as error:
            message = _(
                "CIFAR-10 is not on this machine and could not be downloaded: connect once so that it is downloaded "
                "(170 MB); the data set `signs` needs no network."
            )
            raise EdgelabError(message) from error
        folder.mkdir(exist_ok=True)
        try:
            os.replace(temporary / CIFAR10.base_folder, folder / CIFAR10.base_folder)
        except OSError:  # another process was first
            if not (folder / CIFAR10.base_folder).is_dir():
                raise
    return folder
