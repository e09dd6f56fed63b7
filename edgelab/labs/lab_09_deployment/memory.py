"""The arena of a microcontroller: when each buffer is alive, what the interpreter really takes, and a C array."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

import torch
from matplotlib.ticker import MaxNLocator
from torch import nn

from edgelab import data
from edgelab.bars import track
from edgelab.deploy import Arena, Lifetime, arena, c_array, lifetimes, to_litert
from edgelab.deploy.file_costs import file_costs
from edgelab.errors import EdgelabError
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, slider
from edgelab.explore.html import HtmlTable
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _, named
from edgelab.labs.lab_08_light_architectures import record
from edgelab.measure.threads import torch_threads
from edgelab.models import load_pretrained
from edgelab.numbers import number
from edgelab.quantization import calibrate, convert, prepare

LAB = "09_deployment"
_SEEN = 60  # characters of a line of C that are seen whole on half a screen
NAMES = {
    "resnet_tiny": "ResNet tiny",
    "mobilenet_v1_025": "MobileNetV1 0.25",
    "mobilenet_v2_050": "MobileNetV2 0.5",
    "resnet": "ResNet",
}


@torch_threads(1)
def write_micro(dataset: data.Dataset, pictures: torch.Tensor) -> dict[str, tuple[str, Path]]:
    """Write the zoo's networks for a microcontroller, in int8; return each one's name in the zoo and its file."""
    files = {}
    for name in track(NAMES, _("writing files")):
        codes = convert(calibrate(prepare(load_pretrained(name, dataset.name)), pictures))
        files[NAMES[name]] = name, to_litert(codes, pictures[:1], f"models/{name}-micro.tflite")
    return files


def with_files(files: dict[str, tuple[str, Path]], dataset: data.Dataset) -> dict[str, tuple[str, nn.Module, Path]]:
    """Return the files of `write_micro` with the networks that they were written from."""
    return {shown: (name, load_pretrained(name, dataset.name), path) for shown, (name, path) in files.items()}


def as_tuples(path: str | Path) -> list[tuple[int, int, int]]:
    """Return the buffers of a `.tflite` file as (bytes, first, last): the operators that need each of them."""
    return [(one.bytes, one.first, one.last) for one in lifetimes(path)]


def predict_arena() -> Prediction:
    """Return the prediction of how many KiB of arena TensorFlow Lite Micro takes for the student."""
    return predict(LAB, "arena", _("arena of the student"), unit="KiB", low=5, high=500)


@dataclass(frozen=True)
class Taken:
    """The bytes of arena that a file takes; of them its activations, where the interpreter itself was asked."""

    bytes: int
    activations: int | None
    words: str = ""

    def _repr_html_(self) -> str:
        parts = [self.words] if self.words else []
        if self.activations is not None:
            text = _("activations %(activations)s KiB, the interpreter's records %(records)s KiB")
            kib = [f"{part / 1024:.1f}" for part in (self.activations, self.bytes - self.activations)]
            parts.append(text % {"activations": kib[0], "records": kib[1]})
        return "".join(f"<p>{escape(part)}</p>" for part in parts)

    @property
    def kib(self) -> float:
        """Return the whole arena in KiB."""
        return self.bytes / 1024


def taken(path: str | Path, name: str, dataset: data.Dataset) -> Taken:
    """Return the arena of a `.tflite` file, the network `name` of the zoo: the interpreter's own count.

    Where the interpreter is not installed, what is on record stands in, or else, for pictures of the learner's own, the
    activations counted in the file; the words say which.
    """
    try:
        found: Arena = arena(path)
        return Taken(found.bytes, found.activations)
    except EdgelabError as error:
        kept = record.network_cost(dataset.name, name, dataset.test.images.shape[-1])
        if kept is None:
            text = _("%(reason)s Until then activations stand in, counted in the file: what comes on top is missing.")
            return Taken(file_costs(path).peak_bytes, None, text % {"reason": error})
        text = _("%(reason)s Until then what it once took, which is on record, stands in.") % {"reason": error}
        return Taken(int(kept["arena_bytes"]), None, text)


def arena_table(files: dict[str, tuple[str, Path]], dataset: data.Dataset, by_hand: Callable) -> HtmlTable:
    """Return the arena of each file beside the learner's sum; `files` has, by the name to show, zoo name and path."""
    rows, words = [], ""
    for shown, (name, path) in files.items():
        ours, whole = by_hand(as_tuples(path)), taken(path, name, dataset)
        words = whole.words or words
        size = Path(path).stat().st_size
        cells = [size, ours, whole.bytes, whole.bytes - ours]
        rows.append([escape(named(shown)), *(number(cell / 1024, ".1f") for cell in cells)])
    if words:
        print(words)
    heads = [
        _("network, int8"),
        _("C array, in flash (KiB)"),
        _("activations, by your sum (KiB)"),
        _("arena, in RAM (KiB)"),
        _("what you did not count (KiB)"),
    ]
    return HtmlTable(list(map(escape, heads)), rows)


def lifetime_explorer(path: str | Path, by_hand: Callable) -> Explorer:
    """Return the lifetimes of a file's buffers: choose an operator, and see who is alive while it runs."""
    buffers = lifetimes(path)
    steps = range(1 + max(one.last for one in buffers))
    whole = by_hand([(one.bytes, one.first, one.last) for one in buffers])
    return Explorer(partial(lifetime_plot, buffers, whole), {"step": slider(_("operator"), steps, 0)})


def lifetime_plot(buffers: Sequence[Lifetime], whole: int, step: int) -> plots.Picture:
    """Return a bar for each buffer over the operators that need it; those alive at `step` are filled and summed."""
    alive = [one for one in buffers if one.first <= step <= one.last]
    with plots.figure(height=0.9 + 0.17 * len(buffers)) as fig:
        ax = fig.subplots()
        for row, one in enumerate(buffers):
            here = one in alive
            look = {"color": plots.BLUE} if here else {"fc": "none", "ec": plots.INK, "lw": 0.7}
            ax.barh(row, one.last - one.first + 1, left=one.first - 0.5, height=0.75, **look)
            ax.text(one.last + 0.65, row, number(one.bytes), va="center", fontsize=8)
        ax.axvline(step, color=plots.VERMILION, ls="--", lw=1)
        ax.set(yticks=(), xlabel=_("operator"), ylabel=_("buffer"), xlim=(-0.7, buffers[-1].last + 3.5))
        ax.invert_yaxis()
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(False, axis="y")
        text = _("Operator %(step)d: %(count)d buffers alive, %(now)s bytes (your peak: %(peak)s)")
        words = {"step": step, "count": len(alive), "now": number(sum(one.bytes for one in alive))}
        title = text % {**words, "peak": number(whole) if isinstance(whole, int) else whole}
        ax.set_title(title)
        return plots.picture(fig, title)


def show_c_array(path: str | Path, name: str, lines: int = 6) -> None:
    """Print the beginning of the C source of a file, its end, and how many characters stand for how many bytes."""
    source = c_array(path, name).source
    kept = [line if len(line) <= _SEEN else f"{line[:_SEEN]} …" for line in source.splitlines()]
    print("\n".join([*kept[:lines], "  ...", *kept[-3:]]))
    sizes = {"source": number(len(source)), "bytes": number(Path(path).stat().st_size)}
    print(_("%(source)s characters of source, %(bytes)s bytes in flash") % sizes)
