"""Where two runs of one model part: float and codes, model and file, and one file in two kernels."""

from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path

import torch
from torch import nn

from edgelab.bars import track
from edgelab.deploy import Agreement, Runner, compare
from edgelab.deploy.litert_runner import LiteRTRunner
from edgelab.errors import EdgelabError
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice
from edgelab.explore.html import HtmlTable
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.measure.threads import torch_threads

LAB = "09_deployment"


@dataclass(frozen=True)
class Suspect:
    """Two runs of a model, what has changed between them, and how far they are apart."""

    changed: str
    between: str
    found: Agreement


def open_micro(path: str | Path) -> Runner:
    """Return a `.tflite` file in TensorFlow Lite Micro, or in the reference kernels, with a sentence that says so."""
    try:
        return Runner.open(path, runtime="tflm")
    except EdgelabError as error:
        print(_("%(reason)s LiteRT's reference kernels stand in for it.") % {"reason": error})
        return Runner.open(path, runtime="litert-reference")


def predict_kernels() -> Prediction:
    """Return the prediction of how many per cent of the logits are the same code in two kernels."""
    return predict(LAB, "kernels", _("logits that are the same code"), unit="%", low=1, high=100)


@dataclass(frozen=True)
class TwoKernels:
    """Two kernels on one file: the share of logits with the same code, of images with the same class, and the rest.

    `largest` is the largest difference of a logit, in codes.
    """

    same_codes: float
    same_class: float
    largest: float
    images: int

    def __str__(self) -> str:
        """Return it as one sentence in the learner's language."""
        text = _("%(n)d images: logits up to %(largest).0f codes apart, the same class for %(share).1f %% of them")
        return text % {"n": self.images, "largest": self.largest, "share": 100 * self.same_class}


def two_kernels(path: str | Path, images: torch.Tensor) -> TwoKernels:
    """Return how far XNNPACK's kernels and the reference kernels are apart on one `.tflite` file."""
    fast, plain = (LiteRTRunner(Path(path), reference=reference) for reference in (False, True))
    ours, theirs = fast(images), plain(images)
    codes = (ours - theirs).abs() / plain.output.scale
    return TwoKernels(
        same_codes=float((codes < 0.5).float().mean()),
        same_class=float((ours.argmax(1) == theirs.argmax(1)).float().mean()),
        largest=float(codes.max()),
        images=len(images),
    )


@torch_threads(1)
def suspects(
    model: nn.Module, codes: nn.Module, onnx_file: str | Path, litert_file: str | Path, images: torch.Tensor
) -> dict[str, Suspect]:
    """Return pairs of runs between which as little as possible has changed, by a short name.

    A converter is never tried without a kernel: the last pair, of both converters and both kernels, tells them apart.
    `codes` is `model` converted to int8, and the files are written from it.
    """
    plain, micro = Runner.open(litert_file, runtime="litert-reference"), open_micro(litert_file)
    pairs: dict[str, tuple[str, str, nn.Module | Runner, nn.Module | Runner]] = {
        "quantizer": (_("the quantizer"), _("float model, int8 model in PyTorch"), model, codes),
        "onnx": (
            _("the converter to ONNX, and a kernel"),
            _("int8 model in PyTorch, ONNX Runtime"),
            codes,
            Runner.open(onnx_file),
        ),
        "litert": (
            _("the converter to LiteRT, and a kernel"),
            _("int8 model in PyTorch, reference kernels"),
            codes,
            plain,
        ),
        "xnnpack": (_("the kernel"), _("reference kernels, XNNPACK"), plain, Runner.open(litert_file)),
        "micro": (_("the kernel again"), _("reference kernels, TensorFlow Lite Micro"), plain, micro),
        "both": (
            _("both converters, both kernels"),
            _("ONNX Runtime, XNNPACK"),
            Runner.open(onnx_file),
            Runner.open(litert_file),
        ),
    }
    if micro.name != "tflm":
        del pairs["micro"]  # what stands in for it is the other run of the pair
    found = {}
    for name, (changed, between, first, second) in track(pairs.items(), _("comparing")):
        found[name] = Suspect(changed, between, compare(first, second, images))
    return found


def suspect_table(found: dict[str, Suspect], litert_file: str | Path) -> HtmlTable:
    """Return a row for each pair: how far apart, in codes of the output, and where it begins."""
    scale, rows = LiteRTRunner(Path(litert_file)).output.scale, []
    for one in found.values():
        first = one.found.first_apart
        where = "–" if not one.found.layers else _("nowhere") if first is None else first.name
        cells = [one.between, f"{one.found.largest / scale:.1f}", f"{100 * one.found.agreement:.1f}", where]
        rows.append([escape(one.changed), *map(escape, cells)])
    heads = [
        _("what changes"),
        _("between"),
        _("largest difference of a logit (codes)"),
        _("same class (%)"),
        _("first layer apart"),
    ]
    return HtmlTable(list(map(escape, heads)), rows)


def layer_explorer(found: dict[str, Suspect]) -> Explorer:
    """Return how far two runs are apart layer by layer: choose the pair, and what to see."""
    pairs = {one.between: name for name, one in found.items() if one.found.layers}
    shown = {_("share of numbers that differ"): "share", _("largest difference"): "largest"}
    controls = {"pair": choice(_("between"), pairs, "xnnpack"), "show": choice(_("show"), shown)}
    return Explorer(partial(layer_plot, found), controls)


def layer_plot(found: dict[str, Suspect], pair: str, show: str) -> plots.Picture:
    """Return a bar for each layer, the first one that differs marked; the title names it."""
    one = found[pair]
    layers, first = one.found.layers, one.found.first_apart
    values = [100 * layer.share if show == "share" else layer.largest for layer in layers]
    with plots.figure(height=1.1 + 0.19 * len(layers)) as fig:
        ax = fig.subplots()
        colours = [plots.VERMILION if layer is first else plots.BLUE for layer in layers]
        ax.barh(range(len(layers)), values, color=colours, hatch=["///" if layer is first else "" for layer in layers])
        ax.set_yticks(range(len(layers)), [_short(layer.name) for layer in layers], fontsize=8)
        ax.invert_yaxis()
        ax.grid(False, axis="y")
        ax.set(xlim=(0, 1.08 * max([*values, 0.5])))
        ax.set_xlabel(_("numbers that differ (%)") if show == "share" else _("largest difference (codes)"))
        if first is None:
            title = _("%(between)s: the same in every layer") % {"between": one.between}
        else:
            text = _("%(between)s: they part at %(layer)s, by %(largest).1f codes; %(share).2f %% of its numbers")
            words = {"between": one.between, "layer": first.name, "largest": first.largest, "share": 100 * first.share}
            title = text % words
        ax.set_title(title)
        return plots.picture(fig, title)


def _short(name: str) -> str:
    """Return a layer's name as far as a picture has room for it: its end tells it from others."""
    return name if len(name) <= 28 else "…" + name[-27:]
