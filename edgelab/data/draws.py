"""Chance that is the same on every machine: random numbers made from a generator's raw bits.

NumPy promises the bits of Philox for every version and machine, and no more than that: the numbers are made of them
here, in ways that leave nothing to rounding.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F

SIDE = 32
CENTRES = (torch.arange(SIDE, dtype=torch.float32) + 0.5) * (2 / SIDE) - 1  # of the pixels, in half pictures
PIXEL = 2 / SIDE


class Draws:
    """Uniform and bell-shaped random tensors from a counter-based generator's raw bits."""

    def __init__(self, key: np.ndarray) -> None:
        """Start the stream that `key`, two uint64 numbers, stands for."""
        self._bits = np.random.Philox(key=key)

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Return float32 numbers in `[low, high)` of the given shape."""
        count = math.prod(shape)
        words = self._bits.random_raw((count + 1) // 2).astype("<u8", copy=False).view("<u4")[:count]
        unit = (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
        return torch.from_numpy(unit).reshape(shape).mul_(high - low).add_(low)

    def chance(self, probability: float, n: int) -> torch.Tensor:
        """Return `n` zeros and ones, shape `(n, 1, 1, 1)`; one comes up with `probability`."""
        return (self.uniform(0.0, 1.0, n, 1, 1, 1) < probability).float()

    def choice(self, count: int, n: int) -> torch.Tensor:
        """Return `n` int64 numbers from 0 to `count - 1`."""
        return torch.from_numpy(((self._bits.random_raw(n) >> np.uint64(32)) % np.uint64(count)).astype(np.int64))

    def bell(self, *shape: int) -> torch.Tensor:
        """Return bell-shaped numbers of mean 0 and deviation 1: the sum of four bytes, within 3.5 deviations."""
        count = math.prod(shape)
        raw = self._bits.random_raw((count + 1) // 2).astype("<u8", copy=False).view("<u4")[:count]
        pairs = (raw & np.uint32(0x00FF00FF)) + (raw >> np.uint32(8) & np.uint32(0x00FF00FF))  # two sums a word
        total = (pairs & np.uint32(0xFFFF)) + (pairs >> np.uint32(16))
        return torch.from_numpy(total.astype(np.float32)).sub_(510.0).div_(147.8).reshape(shape)

    def field(self, n: int, grid: int, *, channels: int = 1) -> torch.Tensor:
        """Return smooth noise in about [-1, 1], shape `(n, channels, SIDE, SIDE)`, with `grid` bumps a side."""
        if grid == SIDE:
            return self.uniform(-1, 1, n, channels, SIDE, SIDE)
        spread = _bicubic(grid)
        return spread @ self.uniform(-1, 1, n, channels, grid, grid) @ spread.T


@functools.cache
def _bicubic(grid: int) -> torch.Tensor:
    """Return the matrix that stretches `grid` numbers to SIDE, shape `(SIDE, grid)`."""
    rows = F.interpolate(torch.eye(grid).reshape(grid, 1, grid, 1), size=(SIDE, 1), mode="bicubic")
    return rows.reshape(grid, SIDE).T.contiguous()
