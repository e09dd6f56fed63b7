"""One model written for every runtime, and the same picture run in turns: by runtime, precision and threads."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

import torch
from torch import nn

from edgelab import data
from edgelab.bars import track
from edgelab.deploy import Runner, duel, to_litert, to_onnx
from edgelab.errors import EdgelabError
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.explore.html import HtmlTable
from edgelab.i18n import N_, _, named
from edgelab.measure.threads import torch_threads
from edgelab.numbers import number
from edgelab.quantization import calibrate, convert, prepare

THREADS = (1, 2, 4)
PYTORCH, MICRO = "PyTorch", "TensorFlow Lite Micro"
STUDENT, BASELINE = N_("student"), N_("baseline")  # what the lab calls its networks
_SUFFIXES = {"onnxruntime": "onnx", "litert": "tflite"}
Key = tuple[str, str, int]  # runtime, precision, threads


@dataclass(frozen=True)
class Written:
    """A model, the same converted to int8, and its files by runtime ("onnxruntime", "litert") and precision."""

    model: nn.Module
    codes: nn.Module
    files: Mapping[tuple[str, str], Path]


def write_all(model: nn.Module, name: str, pictures: torch.Tensor) -> Written:
    """Write `model`, in float32 and calibrated on `pictures` in int8, for ONNX Runtime and LiteRT, into `models/`."""
    codes = convert(calibrate(prepare(model), pictures))
    files = {}
    for runtime, write in {"onnxruntime": to_onnx, "litert": to_litert}.items():
        for precision, which in {"fp32": model, "int8": codes}.items():
            path = f"models/{name}-{precision}.{_SUFFIXES[runtime]}"
            files[runtime, precision] = write(which, pictures[:1], path)
    return Written(model, codes, files)


def write_zoo(networks: Mapping[str, nn.Module], pictures: torch.Tensor) -> dict[str, Written]:
    """Return each network of the zoo as `write_all` writes it, under a bar."""
    with torch_threads(1):
        return {name: write_all(model, name, pictures) for name, model in track(networks.items(), _("writing files"))}


def time_all(written: Written, image: torch.Tensor, *, micro: bool = False, seconds: float = 0.15) -> dict[Key, float]:
    """Return the ms of one inference by (runtime, precision, threads): each one's fastest run, in turns.

    With `micro`, TensorFlow Lite Micro is among them where it is installed.
    """
    runs: dict[Key, Callable[[], object]] = {}
    for count in threads():
        runs[PYTORCH, "fp32", count] = _torch_run(written.model, image, count)
        for (runtime, precision), path in written.files.items():
            runs[runtime_name(runtime), precision, count] = Runner.open(path, threads=count).once(image)
    if micro:
        try:
            runs[MICRO, "int8", 1] = Runner.open(written.files["litert", "int8"], runtime="tflm").once(image)
        except EdgelabError as error:
            print(_("%(reason)s So it is not among the runtimes timed here.") % {"reason": error})
    with torch_threads(1):
        return duel.fastest(runs, seconds=seconds)


def threads() -> tuple[int, ...]:
    """Return the numbers of threads to try: two in any case, and more where there are as many cores."""
    return tuple(count for count in THREADS if count <= max(2, os.cpu_count() or 1))


def runtime_name(runtime: str) -> str:
    """Return what a runtime of `Runner.open` is called."""
    return {"onnxruntime": "ONNX Runtime", "litert": "LiteRT"}[runtime]


def _torch_run(model: nn.Module, image: torch.Tensor, count: int) -> Callable[[], object]:
    once = Runner(model).once(image)

    def run() -> object:
        with torch_threads(count):
            return once()

    return run


def runtime_explorer(timed: Mapping[str, Mapping[Key, float]]) -> Explorer:
    """Return the ms of every runtime: choose the network (by its name in `timed`), the precision and the threads."""
    counts = sorted({threads for times in timed.values() for _runtime, _precision, threads in times})
    controls = {
        "network": choice(_("network"), {named(name): name for name in timed}),
        "precision": choice(_("numbers"), {"int8": "int8", "float32": "fp32"}),
        "count": slider(_("threads"), tuple(counts), 1),
    }
    return Explorer(partial(runtime_plot, timed), controls)


def runtime_plot(timed: Mapping[str, Mapping[Key, float]], network: str, precision: str, count: int) -> plots.Picture:
    """Return a bar for each runtime in one precision with so many threads, and a mark for one thread.

    The title says how many times as fast ONNX Runtime is with the threads as with one, and the fastest of all.
    """
    times = {key: ms for key, ms in timed[network].items() if key[1] == precision}
    names = list(dict.fromkeys(runtime for runtime, _precision, _count in times))
    with plots.figure(height=1.4 + 0.4 * len(names)) as fig:
        ax = fig.subplots()
        for row, name in enumerate(names):
            one, here = times[name, precision, 1], times.get((name, precision, count))
            if here is not None:
                ax.barh(row, here, height=0.6, color=plots.COLOURS[row], hatch=plots.HATCHES[row], ec=plots.INK, lw=0.5)
                ax.text(1.01, row, f"{here:.3f} ms", va="center", transform=ax.get_yaxis_transform())
            else:
                ax.text(1.01, row, _("one thread only"), va="center", transform=ax.get_yaxis_transform())
            label = _("one thread") if row == 0 else None
            ax.plot([one, one], [row - 0.38, row + 0.38], color=plots.INK, lw=2, label=label)
        plots.logarithmic(ax.xaxis, (1, 2, 5))
        ax.set(yticks=range(len(names)), yticklabels=names, xlabel=_("one picture (ms)"))
        ax.set_xlim(0.6 * min(timed[network].values()), 1.3 * max(timed[network].values()))
        ax.invert_yaxis()
        ax.grid(False, axis="y")
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1.12))
        title = _thread_title(times, names, precision, count)
        ax.set_title(title)
        words = "; ".join(
            f"{name} {times[name, precision, count]:.3f} ms" for name in names if (name, precision, count) in times
        )
        return plots.picture(fig, f"{title}. {words}")


def _thread_title(times: Mapping[Key, float], names: list[str], precision: str, count: int) -> str:
    here = {name: times[name, precision, count] for name in names if (name, precision, count) in times}
    best = min(here, key=lambda name: here[name])
    if count == 1:
        return _("Threads: 1. The fastest here: %(best)s") % {"best": best}
    ratios = {name: times[name, precision, 1] / ms for name, ms in here.items()}
    gains = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items())
    return _("Threads: %(n)d. Times as fast as on one: %(gains)s") % {"n": count, "gains": gains}


def runtime_table(written: Written, dataset: data.Dataset, times: Mapping[Key, float], micro: Runner) -> HtmlTable:
    """Return the int8 model in the four runtimes: bytes, accuracy, who agrees with PyTorch's, and ms on one thread.

    `micro` is in TensorFlow Lite Micro, or in what stands in for it, and the row says which. Its answers are those of
    the first 40 test pictures, the others' of the first 1,000.
    """
    few, many = dataset.test[:40], dataset.test[:1000]
    last = MICRO if micro.name == "tflm" else _("LiteRT, reference kernels")
    rows = []
    runners = {
        "ONNX Runtime": Runner.open(written.files["onnxruntime", "int8"]),
        "LiteRT": Runner.open(written.files["litert", "int8"]),
        last: micro,
    }
    for name, runner in runners.items():
        split = few if name == last else many
        images = data.normalize(split.images)
        logits, expected = runner(images), Runner(written.codes)(images)
        same = float((logits.argmax(1) == expected.argmax(1)).float().mean())
        right = float((logits.argmax(1) == split.labels).float().mean())
        ms = times.get((name, "int8", 1))
        size = written.files["onnxruntime" if name == "ONNX Runtime" else "litert", "int8"].stat().st_size
        cells = [
            number(size / 1024, ".1f"),
            f"{100 * right:.1f}",
            f"{100 * same:.1f}",
            "–" if ms is None else f"{ms:.3f}",
        ]
        rows.append([escape(name), *cells, number(len(split))])
    heads = [
        _("runtime"),
        _("file (KiB)"),
        _("accuracy (%)"),
        _("same class as int8 in PyTorch (%)"),
        _("here, one thread (ms)"),
        _("pictures"),
    ]
    return HtmlTable(list(map(escape, heads)), rows)
