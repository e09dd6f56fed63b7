"""A model in 8 bits without training: its file, its speed, and whom it hurts."""

from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from edgelab import data, train
from edgelab.bars import track
from edgelab.deploy import Runner, onnxruntime_quantizers, operators, to_onnx
from edgelab.explore import plots
from edgelab.explore.html import HtmlTable
from edgelab.explore.pictures import shown_name, telling
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.measure import compare_latency
from edgelab.numbers import number
from edgelab.quantization import (
    calibrate,
    convert,
    prepare,
)

LAB = "03_ptq"
INTEGER_CONVOLUTIONS = ("QLinearConv", "ConvInteger")
FLOAT_CONVOLUTIONS = ("Conv", "FusedConv", "NhwcFusedConv")


def predict_size() -> Prediction:
    """Return the prediction of how many times smaller the int8 file is."""
    return predict(LAB, "size", _("times smaller"), unit="×", low=1, high=32)


def predict_speed() -> Prediction:
    """Return the prediction of how many times faster the int8 file is."""
    return predict(LAB, "speed", _("times faster"), unit="×", low=0.25, high=32)


def predict_same() -> Prediction:
    """Return the prediction of how many logits the fast and the exact kernels agree on, in per cent."""
    return predict(LAB, "saturation", _("logits that stay the same"), unit="%", low=1, high=100)


def write_int8(model: nn.Module, images: torch.Tensor, path: str | Path) -> Path:
    """Write `model`, calibrated on `images`, to `path` with int8 weights and activations; return the path."""
    return to_onnx(convert(calibrate(prepare(model), images)), images[:1], path)


def file_contents(path: str | Path) -> dict[str, int]:
    """Return what an ONNX file holds, in bytes: "weights", "biases", "scales" (with zero points), and the "graph"."""
    found = {"weights": 0, "biases": 0, "scales": 0}
    for tensor in onnx.load(path).graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.int64:
            continue  # a shape or a padding: part of the graph
        grid = tensor.name.endswith(("_scale", "_zero_point")) or "quantize" in tensor.name
        kind = "scales" if grid else "weights" if array.ndim > 1 else "biases"
        found[kind] += array.nbytes
    return {**found, "graph": Path(path).stat().st_size - sum(found.values())}


def size_table(before: str | Path, after: str | Path) -> HtmlTable:
    """Return what the float file `before` and the int8 file `after` hold, and how many times less of it."""
    names = {
        "weights": _("weights"),
        "biases": _("biases"),
        "scales": _("scales and zero points"),
        "graph": _("the graph: operators and names"),
    }
    large, small = file_contents(before), file_contents(after)
    pairs = [(names[kind], large[kind], small[kind]) for kind in names]
    pairs.append((_("the whole file"), sum(large.values()), sum(small.values())))
    rows = [
        [escape(name), number(a / 1024, ".1f"), number(b / 1024, ".1f"), f"{a / b:.2f}×" if a and b else "–"]
        for name, a, b in pairs
    ]
    return HtmlTable([_("content"), _("float32 (KiB)"), _("int8 (KiB)"), _("times smaller")], rows)


@dataclass(frozen=True)
class Examined:
    """What a learner's int8 file turned out to be.

    `int8_share` of its weights are int8; accuracies, the file's and the float model's, are in [0, 1], and so is
    `agreement`, the share of test images for which the two give the same answer.
    """

    int8_share: float
    integer_convolutions: int
    convolutions: int
    accuracy: float
    float_accuracy: float
    agreement: float


def examine(path: Path, model: nn.Module, dataset: data.Dataset) -> Examined:
    """Return what is in the file `path`, which a learner has written for `model`.

    Accuracy and agreement are counted on the first 300 test images.
    """
    weights = [t for t in onnx.load(path).graph.initializer if len(t.dims) > 1]
    total = sum(numpy_helper.to_array(tensor).size for tensor in weights)
    small = sum(numpy_helper.to_array(t).size for t in weights if t.data_type == onnx.TensorProto.INT8)
    integer, every = _convolutions(path)
    test = dataset.test[:300]
    floats, logits = train.predict(model, test), train.predict(Runner.open(path), test)
    return Examined(
        int8_share=small / total if total else 0.0,
        integer_convolutions=integer,
        convolutions=every,
        accuracy=train.accuracy(logits, test),
        float_accuracy=train.accuracy(floats, test),
        agreement=float((floats.argmax(1) == logits.argmax(1)).float().mean()),
    )


@dataclass(frozen=True)
class Kernels:
    """What one int8 file answers by ONNX Runtime's fast kernels and by its exact ones.

    `same` is the share of logits that are equal; `fast` and `exact` are accuracies. All are in [0, 1].
    """

    same: float
    fast: float
    exact: float

    def _repr_html_(self) -> str:
        heads = [_("integer kernels"), _("logits equal to the exact ones (%)"), _("accuracy (%)")]
        rows = [
            [_("exact"), "100.0", f"{100 * self.exact:.1f}"],
            [_("fast, on this processor"), f"{100 * self.same:.1f}", f"{100 * self.fast:.1f}"],
            [_("fast, on record: signs, AMD EPYC with AVX2 alone"), *(f"{value:.1f}" for value in WITHOUT_VNNI)],
        ]
        return HtmlTable(heads, rows)._repr_html_()


WITHOUT_VNNI = (25.3, 93.8)  # the baseline on signs, calibrated on 128 pictures, on an AMD EPYC with AVX2 alone


def kernels(path: str | Path, dataset: data.Dataset) -> Kernels:
    """Return how the fast integer kernels differ from the exact ones on the first 500 test images."""
    split, threads = dataset.test[:500], torch.get_num_threads()
    runs = (Runner.open(path, threads=threads, exact=exact) for exact in (False, True))
    fast, exact = (train.predict(run, split) for run in runs)
    same = float((fast == exact).float().mean())
    return Kernels(same, train.accuracy(fast, split), train.accuracy(exact, split))


def contest(floating: str | Path, ours: str | Path, images: torch.Tensor, dataset: data.Dataset) -> HtmlTable:
    """Return ONNX Runtime's own quantizers beside the files `floating` and `ours`: size, speed, and who agrees.

    Static ones are calibrated on `images`. Times are ratios to the float file on one core, with their 95 % interval;
    answers are those for the first 500 test images.
    """
    folder = Path(floating).parent
    static, signed = folder / "ort-static.onnx", folder / "ort-signed.onnx"
    files = {
        _("float32"): Path(floating),
        _("int8, edgelab"): Path(ours),
        _("int8, ONNX Runtime, static"): onnxruntime_quantizers.quantize_static(floating, static, images),
        _("int8, ONNX Runtime, static, its defaults for activations"): onnxruntime_quantizers.quantize_static(
            floating, signed, images, unsigned=False
        ),
        _("int8, ONNX Runtime, dynamic"): onnxruntime_quantizers.quantize_dynamic(
            floating, folder / "ort-dynamic.onnx"
        ),
    }
    test, image = dataset.test[:500], data.normalize(dataset.test.images[:1])
    reference, rows = None, []
    for name, path in track(files.items(), _("racing")):
        logits = train.predict(Runner.open(path, threads=torch.get_num_threads()), test)
        reference = logits if reference is None else reference
        same = float((logits.argmax(1) == reference.argmax(1)).float().mean())
        integer, every = _convolutions(path)
        size = path.stat().st_size
        cells = [
            f"{number(size / 1024, '.0f')} ({Path(floating).stat().st_size / size:.2f}×)",
            _speed(floating, path, image),
        ]
        cells += [f"{integer} / {every}", f"{100 * train.accuracy(logits, test):.1f}", f"{100 * same:.1f}"]
        rows.append([escape(name), *map(escape, cells)])
    heads = [
        _("file"),
        _("size (KiB)"),
        _("times faster than float32"),
        _("convolutions in integers"),
        _("accuracy (%)"),
        _("same answer as float32 (%)"),
    ]
    return HtmlTable(list(map(escape, heads)), rows)


def _speed(before: str | Path, after: str | Path, image: torch.Tensor) -> str:
    """Return how many times faster the file `after` is, as text with the interval."""
    if Path(before) == Path(after):
        return "1"
    pair = {"before": Runner.open(before).once(image), "after": Runner.open(after).once(image)}
    race = compare_latency(pair, blocks=16, max_seconds=2)
    return f"{race.ratio:.2f} ({race.low:.2f}–{race.high:.2f})"


def _convolutions(path: str | Path) -> tuple[int, int]:
    """Return how many convolutions of a file run in integers, and how many there are."""
    found = operators(path)
    integer = sum(found[name] for name in INTEGER_CONVOLUTIONS)
    return integer, integer + sum(found[name] for name in FLOAT_CONVOLUTIONS)


def whom_it_hurt(before: str | Path, after: str | Path, dataset: data.Dataset) -> plots.Picture:
    """Return the change in accuracy from the file `before` to the file `after`, by condition, or by class without any.

    Counted on the first 2,000 test images. The title also says how many single answers changed, in either direction.
    """
    split, threads = dataset.test[:2000], torch.get_num_threads()
    old, new = (train.predict(Runner.open(path, threads=threads), split).argmax(1) for path in (before, after))
    was, now = old == split.labels, new == split.labels
    if split.conditions is not None and dataset.condition_names:
        groups, names = split.conditions, dataset.condition_names
    else:
        groups, names = split.labels, dataset.classes
    change = {
        shown_name(name): 100 * float(now[groups == index].float().mean() - was[groups == index].float().mean())
        for index, name in enumerate(names)
    }
    ordered = list(telling(change).items())[::-1]
    with plots.figure(height=1.2 + 0.28 * len(ordered)) as fig:
        ax = fig.subplots()
        for row, (_name, points) in enumerate(ordered):
            worse = points < 0
            colour, hatch = (plots.VERMILION, "///") if worse else (plots.BLUE, "")
            ax.barh(row, points, color=colour, hatch=hatch, ec=plots.INK, lw=0.6)
            side = -4 if worse else 4
            ax.annotate(
                f"{points:+.2f}", (points, row), (side, 0), textcoords="offset points", va="center",
                ha="right" if worse else "left",
            )  # fmt: skip
        ax.set_yticks(range(len(ordered)), [name for name, _points in ordered])
        ax.axvline(0, color=plots.INK, lw=1)
        ax.grid(False, axis="y")
        ax.margins(x=0.2)
        ax.set(xlabel=_("change in accuracy (points)"))
        text = _(
            "%(n)s images: %(before).2f %% → %(after).2f %%\n"
            "%(changed)d answers changed: %(lost)d from right to wrong, %(won)d from wrong to right, "
            "%(other)d from one wrong answer to another"
        )
        numbers = {
            "n": number(len(split)),
            "before": 100 * float(was.float().mean()),
            "after": 100 * float(now.float().mean()),
        }
        numbers |= {"changed": int((old != new).sum()), "lost": int((was & ~now).sum()), "won": int((now & ~was).sum())}
        wrong = int(((old != new) & ~was & ~now).sum())
        title_numbers = {**numbers, "other": wrong}
        title = text % title_numbers
        ax.set_title(title)
        return plots.picture(fig, title.replace("\n", "; "))
