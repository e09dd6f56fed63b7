"""Huffman coding: frequent symbols get short codes.

Source: Huffman, 1952, "A Method for the Construction of Minimum-Redundancy Codes". The codes are canonical: their
lengths alone define them, so a file stores one byte a symbol instead of a tree.
"""

import heapq
from collections.abc import Sequence

import numpy as np

from edgelab.errors import EdgelabError
from edgelab.i18n import _


def code_lengths(counts: Sequence[int]) -> list[int]:
    """Return the bits of each symbol's code, where symbol s occurs `counts[s]` times; 0 where it never does.

    >>> code_lengths([5, 2, 1, 0])
    [1, 2, 2, 0]
    """
    lengths = [0] * len(counts)
    heap = [(count, symbol, [symbol]) for symbol, count in enumerate(counts) if count > 0]
    if len(heap) == 1:
        lengths[heap[0][1]] = 1  # a code of no bits could not be counted
    heapq.heapify(heap)
    while len(heap) > 1:
        (count, _first, left), (other, order, right) = heapq.heappop(heap), heapq.heappop(heap)
        for symbol in left + right:  # one level further from the root
            lengths[symbol] += 1
        heapq.heappush(heap, (count + other, order, left + right))
    return lengths


def canonical_codes(lengths: Sequence[int]) -> list[str]:
    """Return the code of each symbol as text of 0 and 1: in order of length, then of symbol, counted upwards.

    Raise `EdgelabError` for lengths that no prefix code has (Kraft, 1949).

    >>> canonical_codes([1, 2, 2, 0])
    ['0', '10', '11', '']
    """
    if sum(2.0**-length for length in lengths if length) > 1:
        raise EdgelabError(_("The file is damaged: its Huffman codes overlap."))
    codes, code, before = [""] * len(lengths), 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        code <<= length - before
        codes[symbol] = f"{code:0{length}b}"
        code, before = code + 1, length
    return codes


def encode(symbols: np.ndarray) -> bytes:
    """Return whole numbers from 0 to 255, shape `(n,)`, as bytes: how many lengths, the lengths, and the bits."""
    counts = np.bincount(symbols) if len(symbols) else np.zeros(1, dtype=int)
    lengths = code_lengths(counts.tolist())
    codes = canonical_codes(lengths)
    bits = "".join(codes[symbol] for symbol in symbols.tolist())
    packed = np.packbits(np.frombuffer(bits.encode(), dtype=np.uint8) - ord("0"))
    return bytes([len(lengths) - 1, *lengths]) + packed.tobytes()


def decode(data: bytes, count: int) -> np.ndarray:
    """Return the `count` symbols that `encode` has written, as uint8.

    Raise `EdgelabError` where `data` ends too early, or holds a code that there is not.
    """
    first = 1 + (data[0] + 1 if data else 0)
    if len(data) < first:
        raise EdgelabError(_("The file is damaged: it ends too early."))
    symbol_of = {code: symbol for symbol, code in enumerate(canonical_codes(list(data[1:first]))) if code}
    longest = max(map(len, symbol_of), default=0)
    bits = "".join(map("{:08b}".format, data[first:]))
    symbols, start = np.empty(count, dtype=np.uint8), 0
    for place in range(count):
        end = start + 1
        while bits[start:end] not in symbol_of:
            end += 1
            if end > len(bits) or end - start > longest:
                raise EdgelabError(_("The file is damaged: its Huffman codes do not fit."))
        symbols[place], start = symbol_of[bits[start:end]], end
    if not 0 <= len(bits) - start < 8:
        raise EdgelabError(_("The file is damaged: there is more in it than it says."))
    return symbols
