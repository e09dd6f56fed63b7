"""What each network of the family costs on a microcontroller, and the briefs: limits that a device sets.

Bytes and arena depend on the shapes in a file, not on the computer or the weights, and Vela's microseconds nearly so:
it packs the weights, and random ones stand for trained ones (183.1 for 181.5 of the tiny network). So those of the
course's own data sets are on record (`record.py`); those of other pictures are measured here, once, and kept.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from edgelab import data
from edgelab.bars import track
from edgelab.data.storage import atomic_write
from edgelab.deploy import arena_bytes, npu_estimate, to_litert
from edgelab.deploy.file_costs import file_costs
from edgelab.explore.html import HtmlTable
from edgelab.i18n import _
from edgelab.labs.lab_10_capstone.family import Shape, shapes
from edgelab.models import resnet
from edgelab.numbers import number
from edgelab.quantization import calibrate, convert, prepare

RECORD = Path(__file__).with_name("record.json")
KEPT = Path("models", "family-costs.json")  # in the learner's folder, for data sets that are not on record
ACCELERATOR = "ethos-u55-128"
COSTS = ("bytes", "arena", "us")


@dataclass(frozen=True)
class Brief:
    """What a product leaves for the model: a limit for each of two costs, names of `COSTS`."""

    device: str
    limits: Mapping[str, float]


BRIEFS = {
    "sensor": Brief("STM32L4R5 (Cortex-M4)", {"bytes": 20 * 1024, "arena": 24 * 1024}),
    "camera": Brief("Ethos-U55-128", {"bytes": 20 * 1024, "us": 155}),
}
USUAL_PIXELS = 32 * 32  # what the limits of the briefs are meant for


def cost_names() -> dict[str, str]:
    """Return the costs with their units, in the learner's language."""
    return {
        "bytes": _("file, int8 (bytes)"),
        "arena": _("arena (bytes)"),
        "us": _("NPU, Arm's estimate (µs)"),
    }


def brief_names() -> dict[str, str]:
    """Return what the briefs are called, in the learner's language."""
    return {"sensor": _("sensor"), "camera": _("camera with an NPU")}


def growth_of(image: torch.Tensor) -> float:
    """Return how many times as much RAM and time a brief leaves for pictures like `image` `(1, C, H, W)`.

    Both grow with the pixels, and so must a device: 1 up to 32x32, and for larger ones as many times the pixels.
    """
    return max(1.0, image.shape[-2] * image.shape[-1] / USUAL_PIXELS)


def limits_of(brief: str, growth: float = 1.0, tightness: int = 100) -> dict[str, float]:
    """Return the limits of a brief, RAM and time `growth` times as large, all made tighter or looser, in per cent."""
    limits = BRIEFS[brief].limits
    return {name: most * (1 if name == "bytes" else growth) * tightness / 100 for name, most in limits.items()}


def brief_table(whole: Mapping[str, float | None], growth: float = 1.0) -> HtmlTable:
    """Return the limits of each brief, beside what the network to start from costs; `growth` is of `growth_of`."""
    rows = []
    for name, brief in BRIEFS.items():
        limits = limits_of(name, growth)
        cells = [number(limits[cost], ".0f") if cost in limits else "" for cost in COSTS]
        rows.append([f"{escape(brief_names()[name])}: {escape(brief.device)}", *cells])
    known = [whole[cost] for cost in COSTS]
    rows.append([escape(_("ResNet tiny, int8")), *("–" if one is None else number(one, ".0f") for one in known)])
    return HtmlTable([_("brief"), *map(escape, cost_names().values())], rows)


def tell_broken(names: Sequence[str]) -> None:
    """Print which limits are broken, by the names that a learner's function gives."""
    if not len(names):
        print(_("✓ All limits are kept."))
    else:
        print(_("✗ Broken: %(names)s") % {"names": "; ".join(cost_names().get(name, name) for name in names)})


def measure(path: str | Path) -> dict[str, float | None]:
    """Return what an int8 `.tflite` file costs, by `COSTS`.

    Without TensorFlow Lite Micro, the activations counted in the file stand in for the arena, and without Vela there is
    no time: None.
    """
    path = Path(path)
    return {
        "bytes": path.stat().st_size,
        "arena": arena_bytes(path) if has_micro() else file_costs(path).peak_bytes,
        "us": round(npu_estimate(path, accelerator=ACCELERATOR).microseconds, 1) if has_vela() else None,
    }


def has_micro() -> bool:
    """Return whether TensorFlow Lite Micro's interpreter is installed."""
    return find_spec("tflite_micro") is not None


def has_vela() -> bool:
    """Return whether Arm's compiler for the NPU is installed."""
    return find_spec("ethosu") is not None


def write_int8(model: nn.Module, images: torch.Tensor, path: str | Path) -> Path:
    """Write `model`, calibrated on normalised `images`, as an int8 `.tflite` file; return the path."""
    return to_litert(convert(calibrate(prepare(model), images)), images[:1], path)


def family_costs(dataset: data.Dataset) -> dict[Shape, dict[str, float | None]]:
    """Return the costs of all shapes of the family for the pictures of `dataset`: on record, kept, or measured."""
    known = _on_record().get(key_of(dataset)) or _kept_or_measured(dataset)
    return {shape: dict(zip(COSTS, known[text_of(shape)], strict=True)) for shape in shapes()}


def _kept_or_measured(dataset: data.Dataset) -> dict[str, list[float | None]]:
    kept = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    whole = has_micro() and has_vela()
    key = key_of(dataset) + ("" if whole else ", without edgelab[mcu]")  # once that is installed, it is measured again
    if not whole:
        print(_('Activations stand in for the arena, and NPU times are missing: pip install "edgelab[mcu]".'))
    if key not in kept:
        kept[key] = measure_family(dataset)
        KEPT.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(KEPT) as file:
            file.write(json.dumps(kept).encode())
    return kept[key]


def measure_family(dataset: data.Dataset) -> dict[str, list[float | None]]:
    """Return the costs of all shapes, by their text; random weights stand for trained ones."""
    images, found = data.normalize(dataset.train.images[:16]), {}
    for shape in track(shapes(), _("measuring the family")):
        torch.manual_seed(0)
        model = resnet(shape, in_channels=images.shape[1], num_classes=len(dataset.classes)).eval()
        with tempfile.TemporaryDirectory() as folder:
            found[text_of(shape)] = list(measure(write_int8(model, images, Path(folder, "model.tflite"))).values())
    return found


def text_of(shape: Sequence[int]) -> str:
    """Return a shape as one reads it.

    >>> text_of((8, 16, 32))
    '8-16-32'
    """
    return "-".join(map(str, shape))


def key_of(dataset: data.Dataset) -> str:
    """Return what decides the costs: the pictures' shape and the number of classes."""
    return "-".join(map(str, (*dataset.train.images.shape[1:], len(dataset.classes))))


@lru_cache
def _on_record() -> dict[str, dict[str, list[float]]]:
    return json.loads(RECORD.read_text("utf-8"))["costs"]
