"""For those who want more of lab 02: a whole network by one's own integer layer, and a multiplier without a float."""

import math
from collections.abc import Callable
from html import escape
from itertools import pairwise

import torch
from torch import nn

from edgelab import data, train
from edgelab.deploy import Runner, to_onnx
from edgelab.explore.html import HtmlTable
from edgelab.i18n import _
from edgelab.labs.lab_02_quantization.rounding import agreement_table
from edgelab.numbers import number
from edgelab.quantization import QParams, QuantizationConfig, calibrate, convert, fixed_point, prepare, quantize
from edgelab.quantization.conversion import activation_grids, codes_of


def small_network(dataset: data.Dataset) -> nn.Sequential:
    """Return a network of three convolutions and a linear layer, trained for some seconds on `dataset`."""
    torch.manual_seed(0)
    channels, size = dataset.train.images.shape[1], dataset.train.images.shape[-1]
    for _halved in range(3):
        size = (size + 1) // 2
    model = nn.Sequential(
        *(nn.Conv2d(channels, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(64 * size * size, len(dataset.classes))),
    )
    train.fit(model, dataset.train[:6_000], epochs=3, lr=0.02)
    return model


@torch.no_grad()
def whole_network(integer_linear: Callable, dataset: data.Dataset, images: int = 200) -> HtmlTable:
    """Return how the codes of a whole network, by the learner's `integer_linear` alone, agree with ONNX Runtime's.

    A convolution is a linear layer on patches: those of 3×3 pixels become rows, by `torch.nn.functional.unfold`.
    """
    with torch.enable_grad():
        model = small_network(dataset)
    pictures = data.normalize(dataset.test.images[:images])
    config = QuantizationConfig(per_channel=False)  # one multiplier for a layer
    converted = convert(calibrate(prepare(model, config), data.normalize(dataset.train.images[:256])))
    file = to_onnx(converted, pictures[:1], "models/whole-network.onnx")

    grids = [grid.qparams for grid in dict.fromkeys(activation_grids(converted).values())]
    layers = [layer for layer in converted.children() if isinstance(layer, nn.Conv2d | nn.Linear)]
    codes = quantize(pictures, grids[0])
    for layer, (x, y) in zip(layers, pairwise(grids), strict=True):
        codes = _layer(integer_linear, layer, codes, x, y)

    last = grids[-1]
    logits = (codes.int() - last.zero_point) * last.scale
    theirs = torch.round(train.predict(Runner.open(file), dataset.test[:images]) / last.scale) + last.zero_point
    return agreement_table(codes, theirs, logits, model(pictures))


def _layer(
    integer_linear: Callable, layer: nn.Conv2d | nn.Linear, codes: torch.Tensor, x: QParams, y: QParams
) -> torch.Tensor:
    """Return the codes that a layer makes of `codes`, on the grid `y`. Its ReLU is the end of that grid at 0."""
    kept = codes_of(layer)
    assert kept is not None and kept.bias_codes is not None
    z_x, z_y = int(x.zero_point), int(y.zero_point)
    q_weight = quantize(layer.weight, kept.weight_qparams).flatten(1)
    multiplier = float(x.scale * kept.weight_qparams.scale / y.scale)
    if isinstance(layer, nn.Linear):
        return integer_linear(codes.flatten(1), z_x, q_weight, kept.bias_codes, multiplier, z_y)
    padded = nn.functional.pad(codes.int(), (1, 1, 1, 1), value=z_x)  # around the picture lie real zeros
    patches = nn.functional.unfold(padded.float(), 3, stride=2).transpose(1, 2)  # (N, places, channels · 9)
    rows = patches.flatten(0, 1).to(torch.uint8)
    made = integer_linear(rows, z_x, q_weight, kept.bias_codes, multiplier, z_y)
    size = math.isqrt(patches.shape[1])
    return made.reshape(len(codes), size, size, -1).permute(0, 3, 1, 2)


def multipliers(fixed_point_: Callable) -> HtmlTable:
    """Return what the learner's function makes of some multipliers, and what edgelab's does: mantissa and shift."""
    rows = []
    for multiplier in (0.5, 0.375, 0.0123, 0.00071, 1.7, 0.9999999999):
        own = tuple(map(int, fixed_point_(multiplier)))
        mantissa, shift = (int(part) for part in fixed_point(multiplier))
        mark = "✓" if own == (mantissa, shift) else "✗"
        rows.append([f"{multiplier:.10g}", *map(number, (*own, mantissa, shift)), mark])
    heads = ["M", _("your mantissa"), _("your shift"), _("mantissa"), _("shift"), ""]
    return HtmlTable([escape(head) for head in heads], rows)
