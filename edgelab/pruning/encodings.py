"""What zeros cost on disk: six ways to write the weights of a layer as bytes, and to read them back exactly.

| encoding | what it writes |
| --- | --- |
| `dense` | every weight, 4 bytes each |
| `zip` | the same, deflated: what `zip` and `gzip` do |
| `bitmask` | a bit for each weight (is it there?), then those that are |
| `csr` | compressed sparse rows: where each row ends, the column of each weight that is there, the weights |
| `shared` | the bitmask, the few values that occur (the codebook), then a code of few bits for each weight |
| `huffman` | the codebook, the distance from each weight to the next, the codes: both Huffman coded |

`shared` and `huffman` need weights that share at most 256 values (`share_weights`). The last is the file format of Deep
Compression (Han, Mao and Dally, 2016, sections 2 to 4).
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.pruning import huffman

CODES = 256  # a code is a byte at most
SKIP = 255  # the longest distance that one symbol holds; it stands for 255 zeros with no weight behind them


@dataclass(frozen=True)
class Encoding:
    """Two functions that undo each other: `encode(weight) -> bytes` and `decode(bytes, shape) -> weight`.

    Weights are float32 of any shape; a -0.0 comes back as 0.0, an equal number. `decode` raises `EdgelabError` for
    bytes that are no such weight.
    """

    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes, tuple[int, ...]], np.ndarray]


class _Reader:
    """Bytes, read from the front; asking for more than there are is an error, and so is leaving some."""

    def __init__(self, data: bytes):
        self._data, self._at = data, 0

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        taken = self._data[self._at : self._at + count]
        if count < 0 or len(taken) < count:
            raise EdgelabError(_("The file is damaged: it ends too early."))
        self._at += count
        return taken

    def numbers(self, dtype: str, count: int) -> np.ndarray:
        """Return the next `count` numbers of a little-endian type."""
        return np.frombuffer(self.take(count * np.dtype(dtype).itemsize), dtype)

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._data) - self._at)

    def close(self) -> None:
        """Ask that nothing is left."""
        if self._at != len(self._data):
            raise EdgelabError(_("The file is damaged: there is more in it than it says."))


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _encode_dense(weight: np.ndarray) -> bytes:
    return weight.astype("<f4").tobytes()


def _decode_dense(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    reader = _Reader(data)
    weight = reader.numbers("<f4", _size(shape)).reshape(shape)
    reader.close()
    return weight


def _encode_zip(weight: np.ndarray) -> bytes:
    return zlib.compress(_encode_dense(weight), level=9)


def _decode_zip(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    unpacking = zlib.decompressobj()
    try:
        plain = unpacking.decompress(data, max_length=4 * _size(shape) + 1)
    except zlib.error:
        raise EdgelabError(_("The file is damaged: it cannot be unzipped.")) from None
    if unpacking.unused_data or not unpacking.eof:
        raise EdgelabError(_("The file is damaged: it cannot be unzipped."))
    return _decode_dense(plain, shape)


def _encode_bitmask(weight: np.ndarray) -> bytes:
    flat = weight.ravel()
    present = flat != 0
    return np.packbits(present).tobytes() + _encode_dense(flat[present])


def _decode_bitmask(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    reader = _Reader(data)
    present = _read_mask(reader, shape)
    weight = np.zeros(_size(shape), dtype=np.float32)
    weight[present] = reader.numbers("<f4", int(present.sum()))
    reader.close()
    return weight.reshape(shape)


def _read_mask(reader: _Reader, shape: tuple[int, ...]) -> np.ndarray:
    bits = np.unpackbits(reader.numbers("u1", -(-_size(shape) // 8)))
    if bits[_size(shape) :].any():
        raise EdgelabError(_("The file is damaged: there is more in it than it says."))
    return bits[: _size(shape)].astype(bool)


def _encode_csr(weight: np.ndarray) -> bytes:
    rows = _as_rows(weight)
    present = rows != 0
    ends = np.cumsum(present.sum(axis=1)).astype("<u4")
    columns = np.nonzero(present)[1].astype(_column_type(rows.shape[1]))
    return ends.tobytes() + columns.tobytes() + _encode_dense(rows[present])


def _decode_csr(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    reader, weight = _Reader(data), np.zeros(shape, dtype=np.float32)
    rows = _as_rows(weight)
    ends = reader.numbers("<u4", len(rows)).astype(np.int64)
    counts = np.diff(ends, prepend=0)
    if (counts < 0).any():
        raise EdgelabError(_("The file is damaged: its rows overlap."))
    total = int(ends[-1]) if len(ends) else 0
    columns = reader.numbers(_column_type(rows.shape[1]), total)
    if (columns >= rows.shape[1]).any():
        raise EdgelabError(_("The file is damaged: a weight lies outside of its row."))
    rows[np.repeat(np.arange(len(rows)), counts), columns] = reader.numbers("<f4", total)
    reader.close()
    return weight


def _as_rows(weight: np.ndarray) -> np.ndarray:
    """Return a view of a weight as a matrix with a row for each output channel, as a product of matrices uses it."""
    rows = weight.shape[0] if weight.ndim else 1
    return weight.reshape(rows, weight.size // max(1, rows))


def _column_type(columns: int) -> str:
    return "<u2" if columns <= 2**16 else "<u4"


def _encode_shared(weight: np.ndarray) -> bytes:
    flat = weight.ravel()
    codebook, codes = _look_up(flat)
    present = np.packbits(flat != 0).tobytes()
    return _write_codebook(codebook) + present + _pack(codes, _bits_for(len(codebook)))


def _decode_shared(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    reader = _Reader(data)
    codebook = _read_codebook(reader)
    present = _read_mask(reader, shape)
    bits, count = _bits_for(len(codebook)), int(present.sum())
    codes = _unpack(reader.numbers("u1", -(-count * bits // 8)), bits, count)
    reader.close()
    weight = np.zeros(_size(shape), dtype=np.float32)
    weight[present] = _values(codebook, codes)
    return weight.reshape(shape)


def _look_up(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values that occur, without zero, and for each weight that is not zero the place of its value."""
    codebook, codes = np.unique(flat[flat != 0], return_inverse=True)
    if len(codebook) > CODES:
        message = _("A layer has %(n)d different weights, and a code has room for %(most)d: share them first.")
        raise EdgelabError(message % {"n": len(codebook), "most": CODES})
    return codebook, codes.astype(np.uint8)


def _write_codebook(codebook: np.ndarray) -> bytes:
    return np.array([len(codebook)], dtype="<u2").tobytes() + _encode_dense(codebook)


def _read_codebook(reader: _Reader) -> np.ndarray:
    return reader.numbers("<f4", int(reader.numbers("<u2", 1)[0]))


def _values(codebook: np.ndarray, codes: np.ndarray) -> np.ndarray:
    if len(codes) and codes.max() >= len(codebook):
        raise EdgelabError(_("The file is damaged: a code names no value."))
    return codebook[codes] if len(codes) else np.zeros(0, dtype=np.float32)


def _bits_for(values: int) -> int:
    """Return how many bits tell so many values apart.

    >>> [_bits_for(n) for n in (0, 1, 2, 15, 16, 17, 256)]
    [0, 0, 1, 4, 4, 5, 8]
    """
    return max(0, values - 1).bit_length()


def _pack(codes: np.ndarray, bits: int) -> bytes:
    """Return codes of so many bits each, one behind the other, the highest bit first."""
    return np.packbits(np.unpackbits(codes[:, None], axis=1)[:, 8 - bits :]).tobytes()


def _unpack(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
    if bits == 0:
        return np.zeros(count, dtype=np.uint8)
    columns = np.unpackbits(packed)[: count * bits].reshape(count, bits)
    return np.packbits(np.pad(columns, ((0, 0), (8 - bits, 0))), axis=1)[:, 0]


def _encode_huffman(weight: np.ndarray) -> bytes:
    flat = weight.ravel()
    codebook, codes = _look_up(flat)
    steps = np.diff(np.flatnonzero(flat), prepend=-1) - 1  # how many zeros stand before each weight
    skips, rests = steps // SKIP, steps % SKIP
    distances = np.full(len(steps) + int(skips.sum()), SKIP, dtype=np.uint8)
    distances[np.arange(len(steps)) + np.cumsum(skips)] = rests
    written = huffman.encode(distances)
    head = np.array([len(codes), len(distances), len(written)], dtype="<u4").tobytes()
    return _write_codebook(codebook) + head + written + huffman.encode(codes)


def _decode_huffman(data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    reader = _Reader(data)
    codebook = _read_codebook(reader)
    count, symbols, length = map(int, reader.numbers("<u4", 3))
    if symbols > 8 * length or count > symbols:
        raise EdgelabError(_("The file is damaged: its Huffman codes do not fit."))
    distances = huffman.decode(reader.take(length), symbols).astype(np.int64)
    ends = distances != SKIP
    if ends.sum() != count:
        raise EdgelabError(_("The file is damaged: its Huffman codes do not fit."))
    places = (np.cumsum(np.where(ends, distances + 1, SKIP)) - 1)[ends]
    if count and places[-1] >= _size(shape):
        raise EdgelabError(_("The file is damaged: a weight lies outside of its row."))
    weight = np.zeros(_size(shape), dtype=np.float32)
    weight[places] = _values(codebook, huffman.decode(reader.rest(), count))
    return weight.reshape(shape)


ENCODINGS = {
    "dense": Encoding(_encode_dense, _decode_dense),
    "zip": Encoding(_encode_zip, _decode_zip),
    "bitmask": Encoding(_encode_bitmask, _decode_bitmask),
    "csr": Encoding(_encode_csr, _decode_csr),
    "shared": Encoding(_encode_shared, _decode_shared),
    "huffman": Encoding(_encode_huffman, _decode_huffman),
}
