"""Lab 01: a model's appetite against a device's limits."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.i18n import _
from edgelab.measure import DEVICES, count_macs, count_params, peak_activations, predict_latency
from edgelab.measure.devices import Device
from edgelab.models import mobilenet_v1, mobilenet_v2, resnet

BYTES = {"fp32": 4, "int8": 1}
WIDTHS = (0.25, 0.5, 0.75, 1.0)
RESOLUTIONS = (16, 24, 32, 48, 64, 96)
FAMILIES: dict[str, Callable] = {
    "ResNet": lambda width: resnet(tuple(int(64 * width) * 2**stage for stage in range(3))),
    "MobileNetV1": mobilenet_v1,
    "MobileNetV2": mobilenet_v2,
}


@dataclass(frozen=True)
class Appetite:
    """What one inference asks of a device: bytes of weights, bytes of activations at the peak, MACs, ms and mJ."""

    weight_bytes: int
    peak_bytes: int
    macs: int
    latency_ms: float
    energy_mj: float


@lru_cache(maxsize=512)
def _costs(family: str, width: float, resolution: int) -> tuple[int, int, int]:
    """Return parameters, MACs and float32 peak activation bytes. Counting needs no weights, so none are made."""
    with torch.device("meta"):
        model = FAMILIES[family](width).eval()
        example = torch.empty(1, 3, resolution, resolution)
    return count_params(model), count_macs(model, example), peak_activations(model, example).bytes


def appetite(family: str, width: float, resolution: int, precision: str, device: Device) -> Appetite:
    """Return what a model of `family` asks of `device` in `precision` ("fp32" or "int8")."""
    params, macs, peak = _costs(family, width, resolution)
    size = BYTES[precision]
    moved = params * size
    return Appetite(
        weight_bytes=params * size,
        peak_bytes=peak * size // 4,
        macs=macs,
        latency_ms=predict_latency(device, macs, moved, precision),
        energy_mj=1000 * device.power_w * predict_latency(device, macs, moved, precision) / 1000,
    )


def budget_explorer() -> Explorer:
    """Return a chart of a model against the limits of a device: choose both, and see which limit breaks."""
    controls = {
        "device": choice(_("device"), {device.name: device for device in DEVICES}),
        "family": choice(_("model"), list(FAMILIES)),
        "width": slider(_("width"), WIDTHS, 1.0, "×"),
        "resolution": slider(_("resolution"), RESOLUTIONS, 32, "px"),
        "precision": choice(_("numbers"), list(BYTES)),
        "deadline": slider(_("deadline"), (5, 10, 33, 100, 1000), 33, "ms"),
        "energy": slider(_("energy allowed"), (1, 5, 20, 100, 500), 5, "mJ"),
    }
    return Explorer(budget_plot, controls)


def budget_plot(device, family, width, resolution, precision, deadline, energy) -> plots.Picture:
    """Return the share of each limit that the model takes: flash, RAM, ms and mJ, on a logarithmic axis."""
    wants = appetite(family, width, resolution, precision, device)
    limits = [
        (_("flash"), wants.weight_bytes, device.flash_bytes, "KiB", 1024),
        (_("RAM"), wants.peak_bytes, device.ram_bytes, "KiB", 1024),
        (_("latency"), wants.latency_ms, deadline, "ms", 1),
        (_("energy"), wants.energy_mj, energy, "mJ", 1),
    ]
    with plots.figure(height=2.6) as fig:
        ax = fig.subplots()
        broken = []
        for row, (name, want, limit, unit, scale) in enumerate(reversed(limits)):
            share = 100 * want / limit
            fits = share <= 100
            if not fits:
                broken.append(name)
            ax.barh(
                row, share, color=plots.BLUE if fits else plots.VERMILION, hatch="" if fits else "///", ec=plots.INK
            )
            mark = "✓" if fits else "✗"
            label = f" {mark} {_amount(want / scale)} / {_amount(limit / scale)} {unit}"
            ax.text(max(share, 0.12), row, label, va="center")
        ax.axvline(100, color=plots.INK, lw=1.5)
        ax.set_yticks(range(4), [name for name, *_rest in reversed(limits)])
        ax.set(xscale="log", xlim=(0.1, 1e7), xlabel=_("share of the limit (%)"))
        verdict = _("fits") if not broken else _("breaks: %(limits)s") % {"limits": ", ".join(reversed(broken))}
        title = f"{family} {width:g}×, {resolution} px, {precision} → {device.name}: {verdict}"
        ax.set_title(title)
        return plots.picture(fig, title)


def memory_explorer() -> Explorer:
    """Return the bytes alive at every step of one inference, beside the bytes of the weights."""
    controls = {
        "family": choice(_("model"), list(FAMILIES)),
        "width": slider(_("width"), WIDTHS, 1.0, "×"),
        "resolution": slider(_("resolution"), RESOLUTIONS, 32, "px"),
    }
    return Explorer(memory_plot, controls)


@lru_cache(maxsize=512)
def _timeline(family: str, width: float, resolution: int):
    with torch.device("meta"):
        return peak_activations(FAMILIES[family](width).eval(), torch.empty(1, 3, resolution, resolution))


def memory_plot(family: str, width: float, resolution: int) -> plots.Picture:
    """Return the live activations over the execution order, in KiB, with the peak marked."""
    peak = _timeline(family, width, resolution)
    live = [step.bytes / 1024 for step in peak.timeline]
    where = max(range(len(live)), key=live.__getitem__)
    weights = 4 * _costs(family, width, resolution)[0] / 1024
    with plots.figure() as fig:
        ax = fig.subplots()
        ax.fill_between(range(len(live)), live, step="mid", color=plots.SKY, alpha=0.6, lw=0)
        ax.step(range(len(live)), live, where="mid", color=plots.BLUE, lw=1.2)
        ax.plot(where, live[where], marker="v", color=plots.VERMILION, ms=9, ls="")
        ax.annotate(
            _("peak: %(kib)s KiB") % {"kib": _amount(live[where])},
            (where, live[where]),
            xytext=(8, -2),
            textcoords="offset points",
        )
        ax.set(xlabel=_("step of the forward pass"), ylabel=_("activations alive (KiB)"), ylim=(0, None))
        text = _("%(model)s: weights %(weights)s KiB, peak of activations %(peak)s KiB (float32)")
        name = f"{family} {width:g}×, {resolution} px"
        title = text % {"model": name, "weights": _amount(weights), "peak": _amount(live[where])}
        ax.set_title(title)
        return plots.picture(fig, title)


def _amount(value: float) -> str:
    """Return a number with three significant digits and thousands separators."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
