"""A model's weights in one file, each by the encoding that suits it; damage is found before a weight is believed.

The file is a magic word, the length of a header, the header (JSON: for each tensor its name, type, shape, encoding and
bytes), the bytes of the tensors one behind the other, and at the end the SHA-256 of all that.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from edgelab.data.storage import atomic_write
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.pruning.encodings import ENCODINGS

MAGIC = b"edgelab sparse 1\n"
LARGEST = 2**28  # weights of a file, 1 GiB as float32: what it says is no reason to run out of memory
_DIGEST = hashlib.sha256().digest_size
_COUNTERS = "int64"  # the type of batch norm's number of batches; written as it is


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: how it is written, and in how many bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    encoding: str
    bytes: int


def save_sparse(
    state: Mapping[str, torch.Tensor], path: str | Path, *, encoding: str | Mapping[str, str] = "bitmask"
) -> Path:
    """Write `state`, a `state_dict`, to the file `path`, and return the path.

    `encoding`, a name of `ENCODINGS` or one for each tensor's name, is for what has two dimensions or more; biases,
    batch norms and what a mapping does not name are written dense.

    Raise `EdgelabError` for an unknown encoding, tensors of another type than float32 (or int64), and weights that are
    still computed (masks, codebooks): remove those first. Nothing is written then.
    """
    tensors, parts = [], []
    for name, tensor in state.items():
        if ".parametrizations." in name:
            message = _("%(name)s is only what a weight is computed from: take the masks or the sharing off first.")
            raise EdgelabError(message % {"name": name})
        chosen = encoding if isinstance(encoding, str) else encoding.get(name, "dense")
        if chosen not in ENCODINGS:
            known = ", ".join(ENCODINGS)
            raise EdgelabError(
                _("There is no encoding %(name)r. There are: %(known)s.") % {"name": chosen, "known": known}
            )
        if tensor.dtype not in (torch.float32, torch.int64):
            message = _("%(name)s holds %(type)s, and this file takes float32.")
            raise EdgelabError(message % {"name": name, "type": str(tensor.dtype).removeprefix("torch.")})
        array = tensor.detach().cpu().numpy()
        if array.dtype == np.int64:
            chosen, part = "dense", array.astype("<i8").tobytes()
        else:
            chosen = chosen if array.ndim > 1 else "dense"
            part = ENCODINGS[chosen].encode(array)
        tensors.append(Stored(name, str(array.dtype), array.shape, chosen, len(part)))
        parts.append(part)
    header = json.dumps([asdict(tensor) for tensor in tensors], separators=(",", ":")).encode()
    content = b"".join([MAGIC, len(header).to_bytes(4, "little"), header, *parts])
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(content + hashlib.sha256(content).digest())
    return path


def load_sparse(path: str | Path) -> dict[str, torch.Tensor]:
    """Return what `save_sparse` has written to `path`, every number as it was.

    Raise `EdgelabError` for a file that is missing, of another kind, cut off, or changed.
    """
    tensors, body = _read(path)
    state, at = {}, 0
    for tensor in tensors:
        part = body[at : at + tensor.bytes]
        at += tensor.bytes
        if tensor.dtype == _COUNTERS:
            if len(part) != 8 * math.prod(tensor.shape):
                raise EdgelabError(_("The file is damaged: it ends too early."))
            array = np.frombuffer(part, "<i8").reshape(tensor.shape)
        else:
            array = ENCODINGS[tensor.encoding].decode(part, tensor.shape)
        state[tensor.name] = torch.from_numpy(array.copy())  # of one's own, not of the file's bytes
    return state


def contents(path: str | Path) -> list[Stored]:
    """Return what is in a file that `save_sparse` has written: a `Stored` for each tensor, in order."""
    return _read(path)[0]


def _read(path: str | Path) -> tuple[list[Stored], bytes]:
    """Return the header and the bytes of a file that is whole."""
    path = Path(path)
    if not path.exists():
        raise EdgelabError(_("There is no model file %(path)s.") % {"path": path})
    whole = path.read_bytes()
    if not whole.startswith(MAGIC):
        raise EdgelabError(_("%(path)s is no file of sparse weights.") % {"path": path})
    content, digest = whole[:-_DIGEST], whole[-_DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise EdgelabError(_("%(path)s is damaged: it was cut off or changed.") % {"path": path})
    start = len(MAGIC) + 4
    end = start + int.from_bytes(content[len(MAGIC) : start], "little")
    try:
        tensors = [Stored(**{**entry, "shape": tuple(entry["shape"])}) for entry in json.loads(content[start:end])]
        sound = (
            all(map(_is_sound, tensors))
            and len({tensor.name for tensor in tensors}) == len(tensors)
            and sum(tensor.bytes for tensor in tensors) == len(content) - end
            and sum(math.prod(tensor.shape) for tensor in tensors) <= LARGEST
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        sound = False
    if not sound:
        raise EdgelabError(_("%(path)s is damaged: its header does not fit.") % {"path": path})
    return tensors, content[end:]


def _is_sound(tensor: Stored) -> bool:
    return (
        isinstance(tensor.name, str)
        and tensor.dtype in ("float32", _COUNTERS)
        and tensor.encoding in ENCODINGS
        and all(isinstance(size, int) and size >= 0 for size in (*tensor.shape, tensor.bytes))
    )
