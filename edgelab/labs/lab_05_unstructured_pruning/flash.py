"""Lab 05: one mask on a microcontroller, which decodes weights into RAM, and on an NPU, which does so on the way."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import torch
from torch import nn

from edgelab.deploy import arena_bytes, compress_weights, npu_estimate, to_litert
from edgelab.errors import EdgelabError
from edgelab.explore.html import HtmlTable
from edgelab.i18n import _
from edgelab.numbers import number
from edgelab.quantization import calibrate, convert, prepare

MODELS = "models"  # in the learner's folder


@dataclass(frozen=True)
class Bill:
    """Bytes of flash and of RAM, and microseconds where somebody reckons them."""

    flash: int
    ram: int
    microseconds: float | None = None


# The baseline on signs, 90 % of its weights dropped at once, on a machine that has the tools (edgelab[mcu]).
RECORDED = {
    "dense": Bill(1_251_904, 215_968),
    "zeros": Bill(1_251_904, 215_968),
    "bitmask": Bill(304_480, 1_243_952),
    "NPU, dense": Bill(1_143_168, 284_832, 4318),
    "NPU, zeros": Bill(199_536, 216_464, 3556),
}


def bills(dense: nn.Module, zeros: nn.Module, images: torch.Tensor) -> dict[str, Bill]:
    """Return what the int8 files of both models cost: in TensorFlow Lite Micro, and by Vela on an Ethos-U55-128.

    `images` calibrate them. Raise `EdgelabError` where the tools for microcontrollers are not installed.
    """
    files = {}
    for name, model in (("dense", dense), ("zeros", zeros)):
        quantized = convert(calibrate(prepare(model), images))
        files[name] = to_litert(quantized, images[:1], Path(MODELS, f"lab-05-{name}.tflite"))
    files["bitmask"] = compress_weights(files["zeros"], Path(MODELS, "lab-05-bitmask.tflite"))
    found = {name: Bill(path.stat().st_size, arena_bytes(path)) for name, path in files.items()}
    for name in ("dense", "zeros"):
        estimate = npu_estimate(files[name])
        found[f"NPU, {name}"] = Bill(estimate.flash_bytes, estimate.sram_bytes, estimate.microseconds)
    return found


def flash_table(
    dense: nn.Module, zeros: nn.Module, images: torch.Tensor, measure: Callable[..., dict[str, Bill]] = bills
) -> HtmlTable:
    """Return flash, RAM and time of the dense model and of the one with zeros; on record where a tool is missing."""
    try:
        found = measure(dense, zeros, images)
    except EdgelabError as error:
        print(_("%(reason)s Shown are figures on record, of the baseline on signs.") % {"reason": error})
        found = RECORDED
    names = {
        "dense": _("microcontroller: dense"),
        "zeros": _("microcontroller: zeros, stored like other codes"),
        "bitmask": _("microcontroller: zeros, bitmask decoded layer by layer"),
        "NPU, dense": _("NPU: dense"),
        "NPU, zeros": _("NPU: zeros"),
    }
    rows = []
    for key, bill in found.items():
        time = "–" if bill.microseconds is None else number(bill.microseconds, ".0f")
        rows.append([escape(names[key]), *(number(size / 1024, ".0f") for size in (bill.flash, bill.ram)), time])
    heads = [_("int8 file"), _("flash (KiB)"), _("RAM (KiB)"), _("time by Vela (µs)")]
    return HtmlTable([escape(head) for head in heads], rows)
