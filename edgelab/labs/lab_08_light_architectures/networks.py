"""Whole networks: the learner's blocks in trained ones, what they cost on three machines, width against resolution."""

from collections.abc import Callable, Iterator
from functools import partial
from html import escape
from itertools import product
from pathlib import Path

import torch
from torch import nn

from edgelab import data
from edgelab.bars import track
from edgelab.deploy import Runner, duel, to_onnx
from edgelab.deploy.chain import open_chain
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice
from edgelab.explore.html import HtmlTable
from edgelab.explore.table import pareto_front
from edgelab.i18n import _
from edgelab.labs.lab_08_light_architectures import record
from edgelab.measure import count_macs, count_params, peak_activation_bytes
from edgelab.measure.threads import torch_threads
from edgelab.models import manifest, mobilenet_v1, mobilenet_v2
from edgelab.models.zoo import SHAPES
from edgelab.numbers import mean_and_range, number
from edgelab.quantization import calibrate, convert, fold_batchnorm, prepare

NAMES = {
    "resnet": "ResNet",
    "resnet_tiny": "ResNet tiny",
    "mobilenet_v1_025": "MobileNetV1 0.25",
    "mobilenet_v2_050": "MobileNetV2 0.5",
}
WIDTHS = {"mobilenet_v1_025": 0.25, "mobilenet_v1_050": 0.5, "mobilenet_v1_100": 1.0}
SCALES = (0.5, 0.75, 1.0)  # of the resolution


def write_int8(model: nn.Module, images: torch.Tensor, path: str | Path) -> Path:
    """Write `model`, calibrated on `images`, to `path` with int8 weights and activations; return the path."""
    return to_onnx(convert(calibrate(prepare(model), images)), images[:1], path)


@torch.inference_mode()
def try_separable(model: nn.Module, images: torch.Tensor, separable: Callable) -> None:
    """Print how well a learner's `separable(x, depthwise, pointwise, stride)` replaces a MobileNetV1's blocks."""
    _try(model, images, 2, separable)


@torch.inference_mode()
def try_inverted(model: nn.Module, images: torch.Tensor, inverted_residual: Callable) -> None:
    """Print how well a learner's `inverted_residual(x, expand, depthwise, project, stride)` replaces a V2's blocks."""
    _try(model, images, 3, inverted_residual)


def _try(model: nn.Module, images: torch.Tensor, convolutions: int, block: Callable) -> None:
    """Print how far `block` is from each block of `model` that has so many convolutions."""
    folded, apart = fold_batchnorm(model), []
    x = images
    for name, own in model.get_submodule("features").named_children():
        expected = own(x.clone())
        layers = [layer for layer in folded.get_submodule(f"features.{name}").modules() if isinstance(layer, nn.Conv2d)]
        if len(layers) == convolutions:
            (depthwise,) = (layer for layer in layers if layer.groups > 1)
            got = block(x.clone(), *((layer.weight, layer.bias) for layer in layers), depthwise.stride[0])
            same = getattr(got, "shape", None) == expected.shape
            apart.append(float((got - expected).abs().max() / expected.abs().max()) if same else float("inf"))
        x = expected
    right = sum(far < 1e-4 for far in apart)
    mark = "✓" if right == len(apart) else "✗"
    text = _("%(mark)s %(right)d of %(n)d blocks give what your function gives.")
    print(text % {"mark": mark, "right": right, "n": len(apart)})


def accuracy_table(dataset: data.Dataset) -> HtmlTable:
    """Return MobileNets beside the same networks with full convolutions: MACs, parameters, accuracies on record."""
    shape, rows = SHAPES.get(dataset.name, SHAPES["signs"]), []
    on_record = dataset.name if dataset.name in SHAPES else "signs"
    pixels = dataset.test.images.shape[-1] if dataset.name in SHAPES else 32
    example = torch.zeros(1, shape["in_channels"], pixels, pixels, device="meta")  # to be counted, not run
    builds = {"mobilenet_v1_025": partial(mobilenet_v1, 0.25), "mobilenet_v2_050": partial(mobilenet_v2, 0.5)}
    for name, build in builds.items():
        for depthwise, suffix, kind in ((False, "-full", _("full")), (True, "", _("depthwise"))):
            with torch.device("meta"):
                model = build(depthwise=depthwise, **shape).eval()
            found = record.accuracies(on_record, name + suffix, pixels)
            cells = [number(count_macs(model, example) / 1e6, ".1f"), number(count_params(model))]
            percent = [mean_and_range([100 * one for one in found], ".2f")] if found else []
            rows.append([f"{escape(NAMES[name])}, {escape(kind)}", *cells, *percent])
    heads = [_("network"), _("MACs (M)"), _("parameters")]
    if any(len(row) > len(heads) for row in rows):
        heads.append(escape(_("accuracy (%%), mean (lowest–highest), on %(dataset)s") % {"dataset": on_record}))
    return HtmlTable(heads, [row + ["–"] * (len(heads) - len(row)) for row in rows])


def memory_table(networks: dict[str, nn.Module], dataset: data.Dataset) -> HtmlTable:
    """Return what each network asks of a microcontroller in int8: MACs, weights, activations counted, and the arena."""
    image, rows = data.normalize(dataset.test.images[:1]), []
    for name, model in networks.items():
        cost = record.network_cost(dataset.name, name, image.shape[-1])
        peak = peak_activation_bytes(model, image, fused=True) // 4
        cells = [count_macs(model, image) / 1e6, count_params(model) / 1024, peak / 1024]
        arena = "–" if cost is None else number(cost["arena_bytes"] / 1024, ".0f")
        rows.append([escape(NAMES[name]), *(number(cell, ".1f") for cell in cells), arena])
    heads = [_("network"), _("MACs (M)"), _("weights, int8 (KiB)"), _("peak of activations, int8 (KiB)")]
    return HtmlTable([*map(escape, heads), escape(_("arena of TensorFlow Lite Micro (KiB)"))], rows)


def machine_table(networks: dict[str, nn.Module], pictures: torch.Tensor, dataset: data.Dataset) -> HtmlTable:
    """Return one table for three machines: MACs on paper, int8 here in ONNX Runtime, and an NPU by Arm's estimate."""
    image, rows = pictures[:1], []
    files = {
        name: write_int8(model, pictures, f"models/{name}-int8.onnx")
        for name, model in track(networks.items(), _("writing files"))
    }
    with torch_threads(1):
        times = duel.fastest({name: Runner.open(path).once(image) for name, path in files.items()}, seconds=1)
    for name, model in networks.items():
        macs, ms = count_macs(model, image), times[name]
        cost = record.network_cost(dataset.name, name, image.shape[-1])
        npu = ["–", "–"] if cost is None else [number(cost["us"], ".0f"), f"{cost['macs_per_cycle']:.0f}"]
        accuracy = 100 * manifest(dataset.name).get(f"{dataset.name}/{name}", {}).get("accuracy", float("nan"))
        cells = [f"{macs / 1e6:.1f}", f"{ms:.3f}", f"{macs / ms / 1e6:.0f}", *npu, f"{accuracy:.2f}"]
        rows.append([escape(NAMES[name]), *cells])
    heads = [
        _("network"),
        _("MACs (M)"),
        _("here, int8 (ms)"),
        _("MACs in a nanosecond, here"),
        _("Ethos-U55 (µs)"),
        _("MACs in a cycle, Ethos-U55"),
        _("accuracy, float (%)"),
    ]
    return HtmlTable([escape(head) for head in heads], rows)


def pareto_explorer(dataset: data.Dataset) -> Explorer:
    """Return accuracy against cost for MobileNetV1 at three widths and three resolutions: choose machine and lines."""
    name = dataset.name if dataset.name in SHAPES else "signs"
    costs = dict(family_costs(name))
    controls = {
        "cost": choice(_("cost"), {label: cost for cost, label in machine_names().items()}),
        "lines": choice(_("lines join"), {_("one width"): "width", _("one resolution"): "resolution"}),
    }
    return Explorer(partial(family_plot, name, costs), controls)


def machine_names() -> dict[str, str]:
    """Return the costs of `family_costs` with their units, in the learner's language."""
    return {
        "int8": _("here, int8 (ms)"),
        "fp32": _("here, float32 (ms)"),
        "npu": _("Ethos-U55, Arm's estimate (µs)"),
        "peak": _("peak of activations, int8 (KiB)"),
        "macs": _("MACs (M)"),
    }


def family_costs(dataset: str) -> Iterator[tuple[tuple[str, int], dict[str, float]]]:
    """Yield, by (network, pixels), what each MobileNetV1 costs, by machine; "npu" only where it is on record.

    Times are of the features, which are all but the classifier's one product.
    """
    full = 32 if dataset == "signs" else 28
    sizes = list(product(WIDTHS, (round(full * scale) for scale in SCALES)))
    with torch_threads(1):
        for name, pixels in track(sizes, _("timing networks")):
            model = mobilenet_v1(WIDTHS[name], in_channels=SHAPES[dataset]["in_channels"]).eval()
            example = torch.zeros(1, SHAPES[dataset]["in_channels"], pixels, pixels)
            runs = {precision: open_chain(model.features, example, precision) for precision in duel.PRECISIONS}
            costs = duel.fastest(runs, seconds=0.15)
            model, example = model.to("meta"), example.to("meta")  # to be counted, not run
            costs["macs"] = count_macs(model, example) / 1e6
            costs["peak"] = peak_activation_bytes(model, example, fused=True) / 4 / 1024
            npu = record.network_cost(dataset, name, pixels)
            yield (name, pixels), costs | ({"npu": npu["us"]} if npu else {})


def family_plot(dataset: str, costs: dict[tuple[str, int], dict[str, float]], cost: str, lines: str) -> plots.Picture:
    """Return each network's accuracy on record over one cost; without a record, that cost over MACs.

    Lines join networks of one width or of one resolution; the title says what half the resolution saves, and half the
    width, at the largest network.
    """
    labels = machine_names()
    accuracy = {key: record.mean_accuracy(dataset, *key) for key in costs}
    judged = sum(value is not None for value in accuracy.values()) > 1
    points = {}
    for key, found in costs.items():
        value = accuracy[key]
        if cost in found and judged and value is not None:
            points[key] = (found[cost], 100 * value)
        elif cost in found and not judged:
            points[key] = (found["macs"], found[cost])
    place = ("width", "resolution").index(lines)
    with plots.figure(height=3.6) as fig:
        ax = fig.subplots()
        for number_, group in enumerate(dict.fromkeys(key[place] for key in points)):
            members = [point for key, point in points.items() if key[place] == group]
            label = f"{WIDTHS[str(group)]:g}×" if place == 0 else f"{group} px"
            colour, marker = plots.COLOURS[number_], plots.MARKERS[number_]
            ax.plot(*zip(*members, strict=True), ls="-", ms=7, label=label, color=colour, marker=marker)
        plots.logarithmic(ax.xaxis, (1, 2, 5))
        if judged:
            ax.set(xlabel=labels[cost], ylabel=_("accuracy on record (%%), %(dataset)s") % {"dataset": dataset})
        else:
            plots.logarithmic(ax.yaxis, (1, 2, 5))
            ax.set(xlabel=_("MACs (M)"), ylabel=labels[cost])
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        title = _saved(costs, cost)
        if judged:
            names = {key: f"{WIDTHS[key[0]]:g}× {key[1]} px" for key in points}
            front = pareto_front({names[key]: point for key, point in points.items()})
            title += "\n" + _("On the front: %(front)s") % {
                "front": "; ".join(name for name in names.values() if name in front)
            }
        ax.set_title(title)
        return plots.picture(fig, f"{labels[cost]}. {title}".replace("\n", ". "))


def _saved(costs: dict[tuple[str, int], dict[str, float]], cost: str) -> str:
    """Return in words how many times less the largest network takes at half the width, and at half the resolution."""
    whole = max(pixels for _name, pixels in costs)
    largest = costs["mobilenet_v1_100", whole][cost]
    narrow, coarse = costs["mobilenet_v1_050", whole][cost], costs["mobilenet_v1_100", whole // 2][cost]
    text = _("From 1× at %(px)d px: half the width %(width).1f times less, half the resolution %(pixels).1f times less")
    return text % {"px": whole, "width": largest / narrow, "pixels": largest / coarse}
