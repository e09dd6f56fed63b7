"""MobileNetV4's block: two switches, and what each of their positions costs on this computer."""

from dataclasses import dataclass
from functools import partial
from itertools import product

import torch

from edgelab.bars import track
from edgelab.deploy import duel
from edgelab.deploy.chain import open_chain
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.i18n import _
from edgelab.measure import count_macs, peak_activation_bytes
from edgelab.measure.threads import torch_threads
from edgelab.models import UniversalInvertedBottleneck

CHANNELS, PIXELS = 64, 16
KERNELS, EXPAND = (0, 3, 5), (2, 4, 6)


@dataclass(frozen=True)
class Block:
    """A position of the switches: kernels of the two depthwise convolutions (0 is none), and how far it expands."""

    start: int
    middle: int
    expand_ratio: int


@dataclass(frozen=True)
class Cost:
    """MACs of a block, its peak of activations in int8 bytes, its ms by precision, and how far an output sees."""

    macs: int
    peak_bytes: int
    ms: dict[str, float]
    reach: int


def kind(block: Block) -> str:
    """Return what the block of these switches is called."""
    names = {
        (False, False): _("feed-forward (FFN)"),
        (False, True): _("inverted bottleneck"),
        (True, False): "ConvNeXt",
        (True, True): "ExtraDW",
    }
    return names[bool(block.start), bool(block.middle)]


def bottleneck_explorer() -> Explorer:
    """Return MACs against milliseconds of every block: choose the two kernels, the expansion, and the precision."""
    costs = measure()
    kernels = {_("none"): 0, "3×3": 3, "5×5": 5}
    controls = {
        "start": choice(_("depthwise at the start"), kernels),
        "middle": choice(_("depthwise in the middle"), kernels, 5),
        "expand_ratio": slider(_("expand"), EXPAND, 4, "×"),
        "precision": choice(_("numbers"), {"int8": "int8", "float32": "fp32"}),
    }
    return Explorer(partial(bottleneck_plot, costs), controls)


def measure(blocks: list[Block] | None = None) -> dict[Block, Cost]:
    """Return what each block costs, of `CHANNELS` channels on `PIXELS` x `PIXELS` pixels, on one core.

    The addition of the input is not timed: it is the same in all.
    """
    blocks = blocks or [Block(*switches) for switches in product(KERNELS, KERNELS, EXPAND)]
    example, costs = torch.zeros(1, CHANNELS, PIXELS, PIXELS), {}
    with torch_threads(1):
        for block in track(blocks, _("timing blocks")):
            model = build(block)
            runs = {precision: open_chain(model.body, example, precision) for precision in duel.PRECISIONS}
            costs[block] = Cost(
                macs=count_macs(model, example),
                peak_bytes=peak_activation_bytes(model, example, fused=True) // 4,
                ms=duel.fastest(runs, seconds=0.1),
                reach=1 + sum(kernel - 1 for kernel in (block.start, block.middle) if kernel),
            )
    return costs


def build(block: Block) -> UniversalInvertedBottleneck:
    """Return the untrained block, in evaluation mode."""
    switches = {"start_kernel": block.start, "middle_kernel": block.middle}
    return UniversalInvertedBottleneck(CHANNELS, CHANNELS, 1, block.expand_ratio, **switches).eval()


def bottleneck_plot(
    costs: dict[Block, Cost], start: int, middle: int, expand_ratio: int, precision: str
) -> plots.Picture:
    """Return the ms of every block over its MACs, the kinds told apart, and the chosen one marked and described."""
    chosen = Block(start, middle, expand_ratio)
    kinds: dict[str, list[Cost]] = {}
    for block, cost in costs.items():
        kinds.setdefault(kind(block), []).append(cost)
    with plots.figure(height=3.6) as fig:
        ax = fig.subplots()
        for number, (name, members) in enumerate(kinds.items()):
            x, y = [cost.macs / 1e6 for cost in members], [cost.ms[precision] for cost in members]
            ax.plot(x, y, ls="", marker=plots.MARKERS[number], color=plots.COLOURS[number], ms=7, label=name)
        here = costs[chosen]
        ax.plot(here.macs / 1e6, here.ms[precision], ls="", marker="o", ms=16, mfc="none", mec=plots.INK, mew=1.5)
        ax.set(xlabel=_("MACs (M)"), ylabel=_("one block (ms)"), xlim=(0, None), ylim=(0, None))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        text = _(
            "%(kind)s: %(macs).1f M MACs, %(ms).3f ms, %(rate).1f MACs in a nanosecond\n"
            "peak of activations %(kib).0f KiB in int8; an output sees %(reach)d×%(reach)d pixels"
        )
        title = text % {
            "kind": kind(chosen),
            "macs": here.macs / 1e6,
            "ms": here.ms[precision],
            "rate": here.macs / here.ms[precision] / 1e6,
            "kib": here.peak_bytes / 1024,
            "reach": here.reach,
        }
        ax.set_title(title)
        return plots.picture(fig, title.replace("\n", "; "))
