"""Where a row comes from: digests of the data and of edgelab's own code, and the environment. No names of people."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import edgelab
from edgelab.data import Dataset
from edgelab.doctor.machine import processor

_RUNTIMES = ("ai-edge-litert", "onnxruntime", "torch", "tflite-micro", "ethos-u-vela")
# It is drawn on each computer, and the same on all of them up to one grey level: its labels stand for it.
_DRAWN = "signs"


def dataset_sha256(dataset: Dataset) -> str:
    """Return the digest of a data set's test half: its classes, its labels, and its images, but for `signs`."""
    digest = hashlib.sha256(json.dumps([dataset.classes, list(dataset.test.images.shape)]).encode())
    digest.update(dataset.test.labels.numpy().tobytes())
    if dataset.name != _DRAWN:
        digest.update(dataset.test.images.contiguous().numpy().tobytes())
    return digest.hexdigest()


def package_sha256() -> str:
    """Return the digest of edgelab's own Python files, in the order of their paths."""
    root, digest = Path(edgelab.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()


def package_version() -> str:
    """Return edgelab's version; empty where it runs from a folder, without being installed."""
    return _version("edgelab")


def environment() -> dict[str, str]:
    """Return what latencies depend on: the processor and what it can do, its cores, the system, the runtimes."""
    found = processor()
    known = {
        "processor": found.name,
        "instructions": ", ".join(found.instructions or ()),
        "cores": str(os.cpu_count() or 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: _version(name) for name in _RUNTIMES},
    }
    return {name: text for name, text in known.items() if text}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
