"""Lab 05: what zeros cost in files, one way of writing them after the other."""

import copy
import zlib
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path

import numpy as np
import torch
from torch import nn

from edgelab import data
from edgelab.bars import track
from edgelab.explore.html import HtmlTable
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.numbers import number
from edgelab.pruning import prunable, save_sparse
from edgelab.train import evaluate

LAB = "05_unstructured_pruning"
MODELS = "models"  # in the learner's folder
KMEANS_STEPS = 10


def predict_zip() -> Prediction:
    """Return the prediction of how many times smaller zip makes the file of 90 % zeros."""
    return predict(LAB, "zip", _("the zipped file is smaller by"), unit="×", low=1, high=20)


def zipped(path: str | Path) -> int:
    """Return the bytes of a file as zip would write them."""
    return len(zlib.compress(Path(path).read_bytes(), 9))


def size_as(model: nn.Module, encoding: str) -> int:
    """Return the bytes of the file of all of a model's weights in an encoding of `edgelab.pruning`."""
    return save_sparse(model.state_dict(), Path(MODELS, f"lab-05-{encoding}.sparse"), encoding=encoding).stat().st_size


def bill_table(dense: nn.Module, zeros: nn.Module, dense_file: str | Path, zeros_file: str | Path) -> HtmlTable:
    """Return what the same zeros cost in each kind of file, beside the dense model."""
    files = [
        (_("ONNX file"), Path(dense_file).stat().st_size, Path(zeros_file).stat().st_size),
        (_("ONNX file, zipped"), zipped(dense_file), zipped(zeros_file)),
        (_("bitmask"), size_as(dense, "bitmask"), size_as(zeros, "bitmask")),
        (_("CSR"), size_as(dense, "csr"), size_as(zeros, "csr")),
    ]
    whole = files[0][1]
    rows = [
        [escape(name), number(before / 1024, ".0f"), number(after / 1024, ".0f"), f"{whole / after:.2f}×"]
        for name, before, after in files
    ]
    heads = [_("file"), _("dense (KiB)"), _("90 % zeros (KiB)"), _("smaller than the dense ONNX file")]
    return HtmlTable([escape(head) for head in heads], rows)


def bitmask_table(weights: Mapping[str, torch.Tensor], bitmask: Callable) -> HtmlTable:
    """Return the bytes of the learner's `bitmask` beside the dense ones, for the three largest layers and for all."""
    sizes = {}
    for name, weight in weights.items():
        bits, values = bitmask(weight.numpy())
        sizes[name] = (4 * weight.numel(), np.asarray(bits).nbytes, np.asarray(values).nbytes)
    largest = sorted(sizes, key=lambda name: -sizes[name][0])[:3]
    shown = {name: sizes[name] for name in sizes if name in largest}
    shown[_("all layers")] = tuple(map(sum, zip(*sizes.values(), strict=True)))  # type: ignore[assignment]
    rows = [
        [
            escape(name),
            *(number(size / 1024, ".1f") for size in (dense, bits, values)),
            f"{dense / (bits + values):.2f}×",
        ]
        for name, (dense, bits, values) in shown.items()
    ]
    heads = [_("layer"), _("dense (KiB)"), _("bits (KiB)"), _("weights that are there (KiB)"), _("smaller")]
    return HtmlTable([escape(head) for head in heads], rows)


def shared(model: nn.Module, kmeans_step: Callable, bits: int) -> nn.Module:
    """Return a copy of `model` in which each layer has `2**bits - 1` values besides zero, by the learner's k-means."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        for layer in track(prunable(result).values(), _("sharing weights")):
            there = layer.weight != 0
            values = layer.weight[there]
            if not len(values):
                continue
            codebook = torch.linspace(float(values.min()), float(values.max()), 2**bits - 1)
            for _step in range(KMEANS_STEPS):
                codebook = torch.as_tensor(kmeans_step(values, codebook)).float()
            layer.weight[there] = codebook[(values[:, None] - codebook).abs().argmin(1)]
    return result


def chain_table(dense: nn.Module, zeros: nn.Module, shared: nn.Module, exam: data.Split, bits: int) -> HtmlTable:
    """Return the bytes and the accuracy after each step of the chain: prune, share, Huffman."""
    steps = [
        (_("float, dense"), dense, "dense"),
        (_("pruned, as a bitmask"), zeros, "bitmask"),
        (_("weights shared, codes of %(bits)d bits") % {"bits": bits}, shared, "shared"),
        (_("distances and codes Huffman coded"), shared, "huffman"),
    ]
    shares: dict[int, float] = {}
    rows, whole = [], size_as(dense, "dense")
    for name, model, encoding in steps:
        if id(model) not in shares:
            shares[id(model)] = evaluate(model, exam)
        size = size_as(model, encoding)
        cells = [number(size / 1024, ".1f"), f"{whole / size:.1f}×", f"{100 * shares[id(model)]:.1f}"]
        rows.append([escape(name), *cells])
    heads = [_("step"), "KiB", _("smaller"), _("accuracy (%)")]
    return HtmlTable([escape(head) for head in heads], rows)
