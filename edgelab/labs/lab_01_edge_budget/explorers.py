"""Lab 01: a model's appetite against a device's limits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape

import torch

from edgelab.bars import track
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.explore.html import HtmlTable
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.measure import DEVICES, LINKS, layer_costs, peak_activations, predict_latency
from edgelab.measure.devices import Device
from edgelab.measure.threads import torch_threads
from edgelab.models import mobilenet_v1, mobilenet_v2, resnet

BYTES = {"fp32": 4, "int8": 1}
WIDTHS = (0.25, 0.5, 1.0)
RESOLUTIONS = (16, 32, 48, 64, 96, 128)
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


@dataclass(frozen=True)
class _Costs:
    """Parameters, and what grows with the picture: a cost is `per_pixel * pixels + constant`, exactly.

    `macs` is such a pair, `timeline` one for the bytes alive at each step. The resolution must be a multiple of 16, so
    that no halving rounds.
    """

    params: int
    macs: tuple[float, float]
    timeline: tuple[tuple[float, float], ...]

    def macs_at(self, resolution: int) -> int:
        return round(self.macs[0] * resolution**2 + self.macs[1])

    def live_bytes_at(self, resolution: int) -> list[int]:
        return [round(slope * resolution**2 + constant) for slope, constant in self.timeline]


@lru_cache
def _costs(family: str, width: float) -> _Costs:
    """Count a model of `family` once, at two resolutions."""
    model = FAMILIES[family](width).eval()
    small, large = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 32, 32)
    layers = layer_costs(model, small)
    convolutions = sum(layer.macs for layer in layers if layer.kind == "Conv2d")
    rest = sum(layer.macs for layer in layers) - convolutions
    moments = zip(*(peak_activations(model, image, fused=True).timeline for image in (small, large)), strict=True)
    lines = []
    for at_16, at_32 in moments:
        slope = (at_32.live_bytes - at_16.live_bytes) / (32**2 - 16**2)
        lines.append((slope, at_16.live_bytes - slope * 16**2))
    params = sum(parameter.numel() for parameter in model.parameters())
    return _Costs(params, (convolutions / 16**2, rest), tuple(lines))


def _count_all() -> None:
    """Count every model that a slider can ask for, so that moving one counts nothing."""
    pairs = [(family, width) for family in FAMILIES for width in WIDTHS]
    with torch_threads(1):
        for family, width in track(pairs, _("counting models")):
            _costs(family, width)


def appetite(family: str, width: float, resolution: int, precision: str, device: Device) -> Appetite:
    """Return what a model of `family` asks of `device` in `precision` ("fp32" or "int8").

    Latency is the roofline with every weight fetched once; energy is the device's power for that long.
    """
    costs, size = _costs(family, width), BYTES[precision]
    macs = costs.macs_at(resolution)
    latency_ms = predict_latency(device, macs, costs.params * size, precision)
    return Appetite(
        weight_bytes=costs.params * size,
        peak_bytes=max(costs.live_bytes_at(resolution)) * size // 4,
        macs=macs,
        latency_ms=latency_ms,
        energy_mj=device.power_w * latency_ms,
    )


def limits(wants: Appetite, device: Device, deadline_ms: float, energy_mj: float) -> list[tuple]:
    """Return the four limits as (name, wanted, allowed, unit); sizes in KiB."""
    return [
        (_("flash"), wants.weight_bytes / 1024, device.flash_bytes / 1024, "KiB"),
        (_("RAM"), wants.peak_bytes / 1024, device.ram_bytes / 1024, "KiB"),
        (_("latency"), wants.latency_ms, deadline_ms, "ms"),
        (_("energy"), wants.energy_mj, energy_mj, "mJ"),
    ]


def device_table(devices: Sequence[Device] = DEVICES) -> HtmlTable:
    """Return the devices with their figures; the source of each stands in its tooltip."""
    heads = [
        _("device"),
        _("processor"),
        _("flash (KiB)"),
        _("RAM (KiB)"),
        _("memory (MB/s)"),
        _("int8 (million MAC/s)"),
        _("power (W)"),
    ]
    rows = [
        [
            escape(device.name),
            escape(device.cpu),
            _sourced(device, "flash_bytes", device.flash_bytes / 1024),
            _sourced(device, "ram_bytes", device.ram_bytes / 1024),
            _sourced(device, "memory_bandwidth", device.memory_bandwidth / 1e6),
            _sourced(device, "macs_per_cycle", device.macs_per_s["int8"] / 1e6),
            _sourced(device, "power_w", device.power_w),
        ]
        for device in devices
    ]
    return HtmlTable(heads, rows)


def _sourced(device: Device, field: str, value: float) -> str:
    return f'<span title="{escape(device.sources[field])}">{_amount(value)}</span>'


def verdict_table(deadline_ms: float, energy_mj: float, devices: Sequence[Device] = DEVICES) -> HtmlTable:
    """Return which limits the baseline breaks on each device, in float32 at 32 px."""
    rows = []
    for device in devices:
        wants = appetite("ResNet", 1.0, 32, "fp32", device)
        cells = [
            f"{'✓' if want <= limit else '✗'} {_amount(want)} / {_amount(limit)} {unit}"
            for _name, want, limit, unit in limits(wants, device, deadline_ms, energy_mj)
        ]
        rows.append([escape(device.name), *cells])
    return HtmlTable([_("device"), _("flash"), _("RAM"), _("latency"), _("energy")], rows)


def radio_table(computing: dict[str, float], images: dict[str, int], decide: Callable) -> HtmlTable:
    """Return where each image is cheaper, computed here or sent away, by the learner's `decide`, for each radio.

    `computing` holds joules by name, `images` bytes by name. Waking the radio up is not counted.
    """
    rows = []
    for link in LINKS.values():
        for image, size in images.items():
            cells = [f"{8000 * size * link.joules_per_bit:.3g}"]
            for joules in computing.values():
                place, _joules = decide(joules, size, link.joules_per_bit)
                cells.append({"edge": _("edge"), "cloud": _("cloud")}.get(place, str(place)))
            rows.append([f'<span title="{escape(link.source)}">{escape(link.name)}</span>', escape(image), *cells])
    heads = [_("%(name)s: %(mj).2f mJ") % {"name": name, "mj": 1000 * joules} for name, joules in computing.items()]
    return HtmlTable([_("radio"), _("picture"), _("to send it (mJ)"), *map(escape, heads)], rows)


def budget_explorer() -> Explorer:
    """Return a chart of a model against the limits of a device: choose both, and see which limit breaks."""
    _count_all()
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


def budget_plot(
    device: Device, family: str, width: float, resolution: int, precision: str, deadline: float, energy: float
) -> plots.Picture:
    """Return the share of each limit that the model takes: flash, RAM, ms and mJ, on a logarithmic axis."""
    wants = appetite(family, width, resolution, precision, device)
    rows = limits(wants, device, deadline, energy)[::-1]
    with plots.figure(height=2.8) as fig:
        ax = fig.subplots()
        broken = []
        for row, (name, want, limit, unit) in enumerate(rows):
            share = 100 * want / limit
            fits = share <= 100
            if not fits:
                broken.append(name)
            ax.barh(
                row, share, color=plots.BLUE if fits else plots.VERMILION, hatch="" if fits else "///", ec=plots.INK
            )
            mark = "✓" if fits else "✗"
            label = f" {mark} {_amount(want)} / {_amount(limit)} {unit}"
            ax.text(max(share, 0.12), row, label, va="center")
        ax.axvline(100, color=plots.INK, lw=1.5)
        ax.set_yticks(range(4), [name for name, *_rest in rows])
        plots.logarithmic(ax.xaxis)
        ax.set(xlim=(0.1, 1e6), xlabel=_("share of the limit (%)"))
        verdict = _("fits") if not broken else _("breaks: %(limits)s") % {"limits": ", ".join(reversed(broken))}
        title = f"{family} {width:g}×, {resolution} px, {precision} → {device.name}\n{verdict}"
        ax.set_title(title)
        return plots.picture(fig, title.replace("\n", ": "))


def predict_peak() -> Prediction:
    """Return the prediction of the baseline's peak of activations, in KiB."""
    return predict("01_edge_budget", "peak", _("peak of activations"), unit="KiB", low=10, high=10_000)


def memory_explorer() -> Explorer:
    """Return the bytes alive at every step of one inference, beside the bytes of the weights."""
    _count_all()
    controls = {
        "family": choice(_("model"), list(FAMILIES)),
        "width": slider(_("width"), WIDTHS, 1.0, "×"),
        "resolution": slider(_("resolution"), RESOLUTIONS, 32, "px"),
    }
    return Explorer(memory_plot, controls)


def memory_plot(family: str, width: float, resolution: int) -> plots.Picture:
    """Return the live activations over the execution order, in KiB, with the peak marked."""
    costs = _costs(family, width)
    live = [alive / 1024 for alive in costs.live_bytes_at(resolution)]
    where = max(range(len(live)), key=live.__getitem__)
    weights = 4 * costs.params / 1024
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
