"""Lab 01: a model's appetite against a device's limits."""

import math
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
from edgelab.labs.lab_01_edge_budget.sources import in_words
from edgelab.measure import DEVICES, LINKS, layer_costs, peak_activations, predict_latency
from edgelab.measure.devices import Device
from edgelab.measure.threads import torch_threads
from edgelab.models import mobilenet_v1, mobilenet_v2, resnet
from edgelab.numbers import NO_BREAK, number

BYTES = {"fp32": 4, "int8": 1}
# Which of `LINKS` a device has on board. The joules of Wi-Fi and LTE were measured on a phone: theirs may differ.
RADIOS = {
    "Arduino Nano 33 BLE (nRF52840)": "ble",
    "ESP32-S3-DevKitC-1-N8": "wifi",
    "Raspberry Pi Zero 2 W": "wifi",
    "Raspberry Pi 4 Model B": "wifi",
    "Raspberry Pi 5": "wifi",
    "Google Pixel 6 (Tensor)": "lte",
}
PICTURE_BYTES = 32 * 32 * 3
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
    """Return the four limits as (name, wanted, allowed, unit)."""
    return [
        (_("flash"), wants.weight_bytes, device.flash_bytes, "B"),
        (_("RAM"), wants.peak_bytes, device.ram_bytes, "B"),
        (_("latency"), wants.latency_ms, deadline_ms, "ms"),
        (_("energy"), wants.energy_mj, energy_mj, "mJ"),
    ]


def device_table(devices: Sequence[Device] = DEVICES) -> HtmlTable:
    """Return the devices with their figures; the source of each stands in its tooltip."""
    heads = [
        _("device"),
        _("processor"),
        _("flash"),
        _("RAM"),
        _("memory (MB/s)"),
        _("float32 (million MAC/s)"),
        _("int8 (million MAC/s)"),
        _("power (W)"),
    ]
    rows = [
        [
            escape(device.name),
            escape(in_words(device.cpu)),
            _sourced(device, "flash_bytes", _size(device.flash_bytes)),
            _sourced(device, "ram_bytes", _size(device.ram_bytes)),
            _sourced(device, "memory_bandwidth", _amount(device.memory_bandwidth / 1e6)),
            *(
                _sourced(device, "macs_per_cycle", _amount(device.macs_per_s[precision] / 1e6))
                for precision in ("fp32", "int8")
            ),
            _sourced(device, "power_w", _amount(device.power_w)),
        ]
        for device in devices
    ]
    return HtmlTable(heads, rows)


def _sourced(device: Device, field: str, text: str) -> str:
    return f'<span title="{escape(in_words(device.sources[field]))}">{text}</span>'


def layer_table(model: torch.nn.Module, image: torch.Tensor) -> HtmlTable:
    """Return the convolutions and linear layers of `model`: shape and KiB of the output, parameters, MACs."""
    heads = [_("layer"), _("output: channels × height × width"), _("output in float32 (KiB)")]
    heads += [_("parameters"), _("MACs (M)")]
    rows = []
    for layer in layer_costs(model, image):
        if layer.macs:
            shape = f"{NO_BREAK}×{NO_BREAK}".join(map(str, layer.out_shape[1:]))
            kib = f"{4 * math.prod(layer.out_shape[1:]) / 1024:.4g}"
            cells = [shape, kib, number(layer.params), f"{layer.macs / 1e6:.3g}"]
            rows.append([f"<code>{escape(layer.name)}</code>", *cells])
    return HtmlTable(heads, rows)


def verdict_table(deadline_ms: float, energy_mj: float, devices: Sequence[Device] = DEVICES) -> HtmlTable:
    """Return which limits the baseline breaks on each device, in float32 at 32 px."""
    rows = []
    for device in devices:
        wants = appetite("ResNet", 1.0, 32, "fp32", device)
        cells = [
            f"{'✓' if want <= limit else '✗'} {_against(want, limit, unit)}"
            for _name, want, limit, unit in limits(wants, device, deadline_ms, energy_mj)
        ]
        rows.append([escape(device.name), *cells])
    return HtmlTable([_("device"), _("flash"), _("RAM"), _("latency"), _("energy")], rows)


def joules_on(device: Device, precision: str, *, achieved: bool = False) -> float | None:
    """Return the joules that the baseline takes on `device` for a picture of 32 px: its power for the roofline's time.

    With `achieved` the arithmetic goes at the speed of a published benchmark; None where the device has none.
    """
    if achieved and precision not in device.achieved:
        return None
    wants = appetite("ResNet", 1.0, 32, precision, device)
    ms = predict_latency(device, wants.macs, wants.weight_bytes, precision, achieved=achieved)
    return device.power_w * ms / 1000


def radio_joules() -> dict[str, tuple[float, float, float]]:
    """Return, for each device with a radio, the joules to compute the baseline in float32, in int8, and to send.

    What is sent is the picture that is computed on: 32×32 pixels of three bytes.
    """
    found = {}
    for device in DEVICES:
        if device.name in RADIOS:
            per_bit = LINKS[RADIOS[device.name]].joules_per_bit
            before, after = (joules_on(device, precision) or 0.0 for precision in ("fp32", "int8"))
            found[device.name] = (before, after, 8 * PICTURE_BYTES * per_bit)
    return found


def radio_table(decide: Callable) -> HtmlTable:
    """Return where one picture is cheaper, here or sent away, by the learner's `decide`, on each device with a radio.

    Three columns of joules: float32 and int8 as the roofline bounds them, and int8 at the speed of a benchmark. Waking
    the radio up is not counted.
    """
    ways = {
        _("float32, at best"): ("fp32", False),
        _("int8, at best"): ("int8", False),
        _("int8, as a benchmark achieved"): ("int8", True),
    }
    rows = []
    for device in DEVICES:
        if device.name in RADIOS:
            link = LINKS[RADIOS[device.name]]
            sending = f"{8000 * PICTURE_BYTES * link.joules_per_bit:.3g} mJ"
            cells = [f'<span title="{escape(in_words(link.source))}">{escape(link.name)}: {sending}</span>']
            for precision, achieved in ways.values():
                joules = joules_on(device, precision, achieved=achieved)
                if joules is None:
                    cells.append("–")
                    continue
                place, _joules = decide(joules, PICTURE_BYTES, link.joules_per_bit)
                named = {"edge": _("edge"), "cloud": _("cloud")}.get(place, str(place))
                cells.append(f"{_amount(1000 * joules)} mJ: <b>{escape(named)}</b>")
            rows.append([escape(device.name), *cells])
    return HtmlTable([_("device"), _("to send 32×32 pixels"), *map(escape, ways)], rows)


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
            label = f"{'✓' if fits else '✗'} {_against(want, limit, unit)}"
            ax.text(1.01, row, label, va="center", transform=ax.get_yaxis_transform())
        ax.axvline(100, color=plots.INK, lw=1.5)
        ax.set_yticks(range(4), [name for name, *_rest in rows])
        plots.logarithmic(ax.xaxis)
        ax.set(xlim=(0.1, 1e6), xticks=(1, 100, 10_000, 1_000_000), xlabel=_("share of the limit (%)"))
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
        ax.set(xlabel=_("step of the forward pass"), ylabel=_("activations alive (KiB)"), ylim=(0, 1.12 * live[where]))
        text = _("%(model)s: weights %(weights)s KiB, peak of activations %(peak)s KiB (float32)")
        name = f"{family} {width:g}×, {resolution} px"
        title = text % {"model": name, "weights": _amount(weights), "peak": _amount(live[where])}
        ax.set_title(title)
        return plots.picture(fig, title)


def _amount(value: float) -> str:
    """Return a number with three significant digits, or whole where it has more."""
    return number(value, ".0f") if value >= 100 else f"{value:.3g}"


def _size(count: float) -> str:
    """Return bytes in KiB, MiB or GiB, whichever is easy to read."""
    for unit, size, enough in (("KiB", 1024, 10_000), ("MiB", 1024**2, 1024)):
        if count < enough * size:
            return f"{_amount(count / size)}{NO_BREAK}{unit}"
    return f"{_amount(count / 1024**3)}{NO_BREAK}GiB"


def _against(want: float, limit: float, unit: str) -> str:
    """Return what is wanted and what is allowed, as text; `unit` "B" stands for a size."""
    if unit == "B":
        return f"{_size(want)}{NO_BREAK}/ {_size(limit)}"
    return f"{_amount(want)}{NO_BREAK}/ {_amount(limit)}{NO_BREAK}{unit}"
