"""Energy of an inference: estimated from operations and bytes, measured where Linux shows a counter; radio energy.

The estimate is for a 45 nm chip at 0.9 V, and counts arithmetic and data movement alone (no instruction fetch, no
leakage): use it for ratios ("int8 against fp32", "arithmetic against memory"), not for battery life.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.measure.counts import must_not_be_negative

HOROWITZ = (
    "M. Horowitz, 'Computing's Energy Problem (and what we can do about it)', ISSCC 2014, pp. 10-14, figure 1.1.9 "
    "(45 nm, 0.9 V), https://doi.org/10.1109/ISSCC.2014.6757323"
)

# Picojoules per operation, Horowitz 2014.
OPERATION_PJ = {
    "int8 add": 0.03,
    "int32 add": 0.1,
    "fp16 add": 0.4,
    "fp32 add": 0.9,
    "int8 mul": 0.2,
    "int32 mul": 3.1,
    "fp16 mul": 1.1,
    "fp32 mul": 3.7,
}

# Picojoules per access of 64 bits, Horowitz 2014. He gives DRAM as 1.3 to 2.6 nJ: this is the lower end.
MEMORY_PJ_PER_64_BITS = {"cache 8 KiB": 10.0, "cache 32 KiB": 20.0, "cache 1 MiB": 100.0, "dram": 1300.0}

# Picojoules per MAC: one multiplication and one addition. Products of int8 are summed in 32 bits, as all kernels do.
MAC_PJ = {
    "int8": OPERATION_PJ["int8 mul"] + OPERATION_PJ["int32 add"],
    "int32": OPERATION_PJ["int32 mul"] + OPERATION_PJ["int32 add"],
    "fp16": OPERATION_PJ["fp16 mul"] + OPERATION_PJ["fp16 add"],
    "fp32": OPERATION_PJ["fp32 mul"] + OPERATION_PJ["fp32 add"],
}

Value = TypeVar("Value")

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class MeasuredEnergy:
    """Measured joules per run of the whole processor package, or None and the `reason` why there is no figure."""

    joules: float | None
    reason: str = ""
    runs: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Link:
    """A radio link, sending at `bits_per_s`: it draws `base_w`, and `marginal_j` more for each bit.

    `tail_j` is spent once per burst: the radio wakes up before it, and waits for more after it.
    """

    name: str
    bits_per_s: float
    base_w: float
    marginal_j: float
    tail_j: float
    source: str

    @property
    def joules_per_bit(self) -> float:
        """Return the joules per bit sent, at this throughput, the tail left out."""
        return self.marginal_j + self.base_w / self.bits_per_s


_HUANG = (
    "J. Huang et al., 'A Close Examination of Performance and Power Characteristics of 4G LTE Networks', MobiSys 2012, "
    "https://doi.org/10.1145/2307636.2307658: "
)

LINKS = {
    "ble": Link(
        name="Bluetooth Low Energy",
        bits_per_s=702.8e3,
        base_w=8.1e-3 * 3.0,
        marginal_j=0.0,
        tail_j=0.0,
        source=(
            "Nordic nRF52840 Product Specification, current consumption, compounded: CPU running and radio sending at "
            "0 dBm, 1 Mbit/s, DC/DC: 8.1 mA at 3 V, "
            "https://docs.nordicsemi.com/bundle/ps_nrf52840/page/_tmp/nrf52840/autodita/current/parameters.i_compounded.html"
            "; throughput 702.8 kbit/s of notifications (LE 1M, ATT MTU 247): S140 SoftDevice Specification, "
            "https://infocenter.nordicsemi.com/topic/sds_s140/SDS/s1xx/ble_data_throughput/ble_data_throughput.html"
        ),
    ),
    "wifi": Link(
        name="Wi-Fi",
        bits_per_s=1e6,
        base_w=0.13286,
        marginal_j=283.17e-9,
        tail_j=0.04,
        source=_HUANG
        + "power 132.86 mW + 283.17 mW per Mbit/s sent; wake-up and tail 0.04 J. The 1 Mbit/s is an estimate, for a "
        "slow line behind the access point; over a fast one a bit costs down to 283 nJ",
    ),
    "lte": Link(
        name="LTE",
        bits_per_s=6e6,
        base_w=1.28804,
        marginal_j=438.39e-9,
        tail_j=12.76,
        source=_HUANG
        + "power 1288.04 mW + 438.39 mW per Mbit/s sent, median upload 6 Mbit/s; wake-up and tail 12.76 J, most of it "
        "the 11.576 s at 1060 mW for which the radio waits for more",
    ),
}


def estimate_energy(macs: float, bytes_moved: float = 0, precision: str = "fp32", *, memory: str = "dram") -> float:
    """Return the estimated joules of `macs` multiply-accumulates and of `bytes_moved` to and from `memory`.

    `precision` is a key of `MAC_PJ`, `memory` one of `MEMORY_PJ_PER_64_BITS`. `bytes_moved` is usually the weights
    once plus the activations. Figures: Horowitz, ISSCC 2014 (`HOROWITZ`).

    Raises `EdgelabError` for an unknown precision or memory, and for less than nothing.

    >>> int8, fp32 = estimate_energy(1e9, precision="int8"), estimate_energy(1e9, precision="fp32")
    >>> round(fp32 * 1000, 3), round(fp32 / int8, 1)  # mJ for 1 G MACs; how many times as much as int8
    (4.6, 15.3)
    >>> round(estimate_energy(0, 4_900_000) * 1000, 2)  # mJ to fetch 4.9 MB of weights from DRAM
    0.8
    """
    must_not_be_negative(macs=macs, bytes_moved=bytes_moved)
    mac_pj = _lookup(MAC_PJ, precision, _("precision"))
    access_pj = _lookup(MEMORY_PJ_PER_64_BITS, memory, _("memory"))
    return (macs * mac_pj + bytes_moved / 8 * access_pj) * 1e-12


def radio_energy(payload_bytes: float, link: str | Link, *, tail: bool = True) -> float:
    """Return the joules a device spends to send `payload_bytes` over `link` ("ble", "wifi", "lte", or a `Link`).

    With `tail` the burst stands alone and pays for waking the radio and for its idle tail, which dwarfs a small
    payload on LTE; without, it is one of a long stream. Sources: `LINKS[...].source`.

    Raises `EdgelabError` for an unknown link.

    >>> round(radio_energy(3072, "ble") * 1000, 2)  # mJ for a 32 x 32 colour image
    0.85
    >>> round(radio_energy(3072, "lte", tail=False) * 1000, 1), round(radio_energy(3072, "lte"), 1)  # mJ, then J
    (16.0, 12.8)
    """
    must_not_be_negative(payload_bytes=payload_bytes)
    if isinstance(link, str):
        link = _lookup(LINKS, link, _("link"))
    bits = payload_bytes * 8
    return bits * link.joules_per_bit + (link.tail_j if tail else 0.0)


def radio_seconds(payload_bytes: float, link: str | Link) -> float:
    """Return the seconds it takes to send `payload_bytes` over `link`, at the throughput its source names."""
    must_not_be_negative(payload_bytes=payload_bytes)
    if isinstance(link, str):
        link = _lookup(LINKS, link, _("link"))
    return payload_bytes * 8 / link.bits_per_s


def measure_energy(
    run: Callable[[], object], *, seconds: float = 1.0, idle_seconds: float = 0.5, powercap: Path = POWERCAP
) -> MeasuredEnergy:
    """Return the measured joules per `run()`, from the processor's own energy counter (RAPL), idle power taken off.

    `run` is repeated for `seconds` (twice at least), after `idle_seconds` of doing nothing. The counter covers the
    whole package: whatever else runs meanwhile is in the figure. `joules` is None, with the reason and the cure,
    where Linux shows no counter (most virtual machines, Windows, macOS) or does not let the user read it.
    """
    counters = sorted(powercap.glob("intel-rapl:?"))
    if not counters:
        return MeasuredEnergy(None, _("This machine shows no energy counter (RAPL): a virtual machine, or not Linux."))
    try:
        start = _read_microjoules(counters)
        time.sleep(idle_seconds)
        idle = _joules_between(counters, start, _read_microjoules(counters))
    except PermissionError:
        cure = f"sudo chmod a+r {powercap}/intel-rapl:*/energy_uj"
        return MeasuredEnergy(
            None, _("Only root may read the energy counter here. To allow it: %(cure)s") % {"cure": cure}
        )
    except (OSError, ValueError):
        return MeasuredEnergy(None, _("The energy counter of this machine (RAPL) cannot be read."))
    idle_w = idle / idle_seconds if idle_seconds else 0.0
    begun, start, runs = time.perf_counter(), _read_microjoules(counters), 0
    while runs < 2 or time.perf_counter() - begun < seconds:
        run()
        runs += 1
    elapsed = time.perf_counter() - begun
    total = _joules_between(counters, start, _read_microjoules(counters))
    if total <= 0:
        return MeasuredEnergy(None, _("The energy counter of this machine (RAPL) stands still."))
    reading = MeasuredEnergy(max(total - idle_w * elapsed, 0.0) / runs, "", runs, elapsed)
    if reading.joules:
        return reading
    return replace(reading, joules=None, reason=_("The run is too small to be seen above the idle power."))


def _read_microjoules(counters: list[Path]) -> list[int]:
    return [int((counter / "energy_uj").read_text("utf-8")) for counter in counters]


def _joules_between(counters: list[Path], start: list[int], end: list[int]) -> float:
    """Return the joules between two readings; a counter that ran over its range starts again at 0."""
    total = 0
    for counter, before, after in zip(counters, start, end, strict=True):
        if after < before:
            after += int((counter / "max_energy_range_uj").read_text("utf-8"))
        total += after - before
    return total / 1e6


def _lookup(table: dict[str, Value], key: str, what: str) -> Value:
    if key not in table:
        raise EdgelabError(
            _("Unknown %(what)s '%(key)s'; choose one of: %(known)s.")
            % {"what": what, "key": key, "known": ", ".join(table)}
        )
    return table[key]
