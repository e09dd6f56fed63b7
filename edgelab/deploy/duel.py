"""Full convolution against depthwise separable: the same job of the same size, in MACs and where it runs.

A thin layer alone would be timed together with the way into the runtime and out of it. So several of them stand behind
one another, `Size.depth`, and each figure is that of one.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import nn

from edgelab.bars import track
from edgelab.deploy.chain import open_chain
from edgelab.i18n import _
from edgelab.measure.threads import torch_threads
from edgelab.models import conv_bn

KINDS = ("full", "separable")
PRECISIONS = ("fp32", "int8")
_TURNS, _SECONDS = 8, 0.1  # of each file in a sweep: at most so many, and about so long


@dataclass(frozen=True)
class Size:
    """A convolution from `channels` to as many, of `kernel` x `kernel`, on a picture of `resolution` x `resolution`."""

    channels: int
    kernel: int = 3
    resolution: int = 16

    @property
    def depth(self) -> int:
        """How many layers are timed together: the thinner they are, the more."""
        return max(1, min(8, 256 // self.channels))

    @property
    def example(self) -> torch.Tensor:
        """An input, `(1, channels, resolution, resolution)`."""
        return torch.zeros(1, self.channels, self.resolution, self.resolution)


def layers(kind: str, size: Size, depth: int | None = None) -> nn.Sequential:
    """Return `depth` layers, else `size.depth`, of one of `KINDS`, with batch norm and ReLU, in evaluation mode."""
    c, k, depth = size.channels, size.kernel, size.depth if depth is None else depth
    if kind == "full":
        return nn.Sequential(*(conv_bn(c, c, k) for _layer in range(depth))).eval()
    pairs = ((conv_bn(c, c, k, groups=c), conv_bn(c, c, 1)) for _layer in range(depth))
    return nn.Sequential(*(layer for pair in pairs for layer in pair)).eval()


def macs(kind: str, size: Size) -> int:
    """Return the MACs of one layer of `kind` (Howard et al., 2017, section 3.1)."""
    c, pixels, places = size.channels, size.resolution**2, size.kernel**2
    return c * c * places * pixels if kind == "full" else (c * places + c * c) * pixels


def sweep(sizes: Iterable[Size]) -> Iterator[tuple[Size, dict[tuple[str, str], float]]]:
    """Yield each size with the ms of one layer by (kind, precision): its fastest run among turns with the others."""
    with torch_threads(1):
        for size in track(list(sizes), _("timing sizes")):
            runs = {(kind, precision): open_layers(kind, size, precision) for precision in PRECISIONS for kind in KINDS}
            yield size, {key: ms / size.depth for key, ms in fastest(runs).items()}


def fastest(runs: dict, *, turns: int = _TURNS, seconds: float = _SECONDS) -> dict:
    """Return the ms of the fastest call of each of `runs`, functions without arguments, called in turns.

    There are three turns at least; more, up to `turns`, while `seconds` for each have not passed.
    """
    best: dict = {}
    for run in runs.values():
        run()  # kernels are chosen and memory is laid out
    start = perf_counter()
    for turn in range(turns):
        for key, run in runs.items():
            best[key] = min(best.get(key, float("inf")), _turn(run))
        if turn >= 2 and perf_counter() - start > seconds * len(runs):
            break
    return best


def _turn(run: Callable[[], object]) -> float:
    """Return the fastest of some calls in ms; the first brings the weights back into the caches."""
    times: list[float] = []
    start = perf_counter()
    while len(times) < 2 or (perf_counter() - start < 1e-3 and len(times) < 20):
        begun = perf_counter()
        run()
        times.append(1000 * (perf_counter() - begun))
    return min(times[1:])


def open_layers(kind: str, size: Size, precision: str) -> Callable[[], object]:
    """Return what runs `size.depth` layers once in ONNX Runtime, in "fp32" or "int8"."""
    return open_chain(layers(kind, size), size.example, precision)
