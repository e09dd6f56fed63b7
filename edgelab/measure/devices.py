"""Real devices, from a Cortex-M4 to a phone, and the latency their processor cannot beat (roofline).

Every figure names its source in `Device.sources`. Peak speed is arithmetic: clock x cores x MACs per cycle; no
program reaches it. `achieved` is what a published benchmark reached, where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.measure.counts import must_not_be_negative

KIB, MIB, GIB = 1024, 1024**2, 1024**3


@dataclass(frozen=True)
class Published:
    """A benchmark's result on a device: ms and joules of one inference, or None; the model, and by which software."""

    model: str
    software: str
    ms: float
    joules: float | None
    source: str


@dataclass(frozen=True)
class Device:
    """One device: what it stores, how fast it computes, and what it draws while it does.

    `clock_hz`, `cores` and `macs_per_cycle` (per core, by precision) make up the peak; `achieved` holds the MACs per
    second of a published benchmark, by precision. `memory_bandwidth`, in bytes per second, is that of the memory
    in which the weights lie; `power_w` is in watts while computing. `sources` has an entry for each of these fields.
    `published` holds whole results, older and newer: one chip, several times as fast by software alone.
    """

    name: str
    cpu: str
    clock_hz: float
    cores: int
    macs_per_cycle: Mapping[str, float]
    flash_bytes: int
    ram_bytes: int
    memory_bandwidth: float
    power_w: float
    sources: Mapping[str, str]
    achieved: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    published: tuple[Published, ...] = ()

    @property
    def macs_per_s(self) -> dict[str, float]:
        """Return the peak MACs per second, by precision: clock x cores x MACs per cycle."""
        return {precision: self.clock_hz * self.cores * macs for precision, macs in self.macs_per_cycle.items()}


def predict_latency(
    device: Device, macs: float, bytes_moved: float, precision: str = "int8", *, achieved: bool = False
) -> float:
    """Return the least latency in ms that `device` could need: the larger of computing and fetching (roofline).

    `bytes_moved` is what comes from the memory of the weights: usually each of them, once. The peak is a bound that
    real kernels miss by 2 to 10 times; with `achieved`, the speed a published benchmark reached is used where the
    device has one for this precision. Williams, Waterman, Patterson: 'Roofline', CACM 52(4), 2009,
    https://doi.org/10.1145/1498765.1498785.

    Raises `EdgelabError` for a precision that `device` has no figure for, and for less than nothing.

    >>> round(predict_latency(DEVICES[3], macs=12.5e6, bytes_moved=100e3, precision="int8"), 1)  # a Cortex-M7
    13.0
    """
    must_not_be_negative(macs=macs, bytes_moved=bytes_moved)
    speeds = device.macs_per_s | (dict(device.achieved) if achieved else {})
    if precision not in speeds:
        raise EdgelabError(
            _("%(device)s has no figure for precision '%(precision)s'; choose one of: %(known)s.")
            % {"device": device.name, "precision": precision, "known": ", ".join(speeds)}
        )
    return 1000 * max(macs / speeds[precision], bytes_moved / device.memory_bandwidth)


def _arithmetic(note: str) -> str:
    return "theoretical peak, clock x cores x MACs per cycle: " + note


_M4_TRM = "Arm Cortex-M4 Technical Reference Manual, instruction timing, https://developer.arm.com/documentation/100166"
_M4_MACS = _arithmetic(
    "int8 2 (SMLAD: two 16-bit products a cycle, int8 widened first); fp32 0.5 (VMUL 1 cycle + VADD 1 cycle). "
    + _M4_TRM
)
_MLPERF_TINY = (
    "MLPerf Tiny v0.5, reference results (Banbury et al., https://arxiv.org/abs/2106.07597), ResNet-8 in int8 on a "
    "NUCLEO-L4R5ZI (Cortex-M4, 120 MHz, TensorFlow Lite Micro), closed/reference/results/Nucleo-L4R5ZI/ic in "
    "https://github.com/mlcommons/tiny_results_v0.5: "
)
_RESNET_8 = _MLPERF_TINY + "12.5 M MACs, 100 inferences in 70.43 s: 12.5 M / 0.704 s"
_TINY_13 = "MLPerf Tiny v1.3, closed division, int8, https://github.com/mlcommons/tiny_results_v1.3"
_CUBE = "X-CUBE-AI"
_XNNPACK = (
    "XNNPACK README, MobileNet v1 1.0 (569 M MACs: Howard et al., https://arxiv.org/abs/1704.04861), fp32, all cores, "
    "32-bit system, https://github.com/google/XNNPACK#performance: "
)
_SBC_BENCH = "sbc-bench, https://github.com/ThomasKaiser/sbc-bench/blob/master/results/reviews/"
_NRF = "nRF52840 Product Specification, https://docs.nordicsemi.com/bundle/ps_nrf52840"
_L4R5 = "STM32L4R5xx datasheet DS12023, https://www.st.com/resource/en/datasheet/stm32l4r5vi.pdf"
_H743 = "STM32H743xI datasheet DS12110, https://www.st.com/resource/en/datasheet/stm32h743vi.pdf"
_ESP32 = (
    "ESP32-S3 Series Datasheet, https://www.espressif.com/sites/default/files/documentation/esp32-s3_datasheet_en.pdf"
)
_ZERO_2 = (
    "Raspberry Pi Zero 2 W product brief, "
    "https://datasheets.raspberrypi.com/rpizero2/raspberry-pi-zero-2-w-product-brief.pdf"
)
_PI_4 = "Raspberry Pi 4 Model B product brief, https://datasheets.raspberrypi.com/rpi4/raspberry-pi-4-product-brief.pdf"
_PI_5 = "Raspberry Pi 5 product brief, https://datasheets.raspberrypi.com/rpi5/raspberry-pi-5-product-brief.pdf"
_KAISER = (
    "T. Kaiser, 'A quick look at RPi Zero 2 W', "
    "https://github.com/ThomasKaiser/Knowledge/blob/master/articles/Quick_Review_of_RPi_Zero_2_W.md"
)
_TENSOR = (
    "A. Frumusanu, 'Google's Tensor inside of Pixel 6', AnandTech, 2021, "
    "https://www.anandtech.com/show/17032/tensor-soc-performance-efficiency"
)
_SD_CARD = (
    "a 32 GB microSD card, as Raspberry Pi recommends for its system, "
    "https://www.raspberrypi.com/documentation/computers/getting-started.html"
)

DEVICES: tuple[Device, ...] = (
    Device(
        name="Arduino Nano 33 BLE (nRF52840)",
        cpu="Cortex-M4F, 64 MHz",
        clock_hz=64e6,
        cores=1,
        macs_per_cycle={"fp32": 0.5, "int8": 2},
        flash_bytes=1 * MIB,
        ram_bytes=256 * KIB,
        memory_bandwidth=256e6,
        power_w=0.0099,
        achieved={"int8": 12.5e6 / 0.704 * 64 / 120},
        sources={
            "clock_hz": _NRF,
            "cores": _NRF,
            "macs_per_cycle": _M4_MACS,
            "flash_bytes": _NRF,
            "ram_bytes": _NRF,
            "memory_bandwidth": "theoretical peak: one 32-bit load a cycle, 64 MHz x 4 bytes; " + _NRF,
            "power_w": "the chip alone, CPU running CoreMark from flash, DC/DC: 3.3 mA (52 uA/MHz) x 3 V; " + _NRF,
            "achieved": _RESNET_8 + ", scaled by the clock, 64 / 120",
        },
    ),
    Device(
        name="NUCLEO-L4R5ZI (STM32L4R5)",
        cpu="Cortex-M4F, 120 MHz",
        clock_hz=120e6,
        cores=1,
        macs_per_cycle={"fp32": 0.5, "int8": 2},
        flash_bytes=2 * MIB,
        ram_bytes=640 * KIB,
        memory_bandwidth=480e6,
        power_w=0.0415,
        achieved={"int8": 12.5e6 / 0.704},
        sources={
            "clock_hz": _L4R5,
            "cores": _L4R5,
            "macs_per_cycle": _M4_MACS,
            "flash_bytes": _L4R5,
            "ram_bytes": _L4R5,
            "memory_bandwidth": "theoretical peak: one 32-bit load a cycle, 120 MHz x 4 bytes; " + _L4R5,
            "power_w": "the chip alone, measured: " + _MLPERF_TINY + "29.2 mJ for each inference of 0.704 s",
            "achieved": _RESNET_8,
        },
        published=(
            Published("ResNet-8", "TensorFlow Lite Micro", 704.3, 29.2e-3, _MLPERF_TINY + "100 inferences in 70.43 s"),
            Published("ResNet-8", _CUBE, 165.7, 5496e-6, _TINY_13),
            Published("keyword spotting (DS-CNN)", _CUBE, 43.4, 1431e-6, _TINY_13),
            Published("visual wake words (MobileNetV1 0.25)", _CUBE, 89.4, 3030e-6, _TINY_13),
        ),
    ),
    Device(
        name="ESP32-S3-DevKitC-1-N8",
        cpu="2 x Xtensa LX7, 240 MHz, vector instructions",
        clock_hz=240e6,
        cores=2,
        macs_per_cycle={"fp32": 1, "int8": 16},
        flash_bytes=8 * MIB,
        ram_bytes=512 * KIB,
        memory_bandwidth=40e6,
        power_w=0.0917 * 3.3,
        achieved={"int8": 409_600 / 461_398 * 240e6},
        sources={
            "clock_hz": _ESP32,
            "cores": _ESP32,
            "macs_per_cycle": _arithmetic(
                "int8 16 (EE.VMULAS.S8: a 128-bit vector a cycle); fp32 1 (MADD.S). ESP32-S3 Technical Reference "
                "Manual, processor instruction extensions, https://www.espressif.com/sites/default/files/documentation/"
                "esp32-s3_technical_reference_manual_en.pdf"
            ),
            "flash_bytes": "8 MiB of external quad SPI flash, "
            "https://docs.espressif.com/projects/esp-dev-kits/en/latest/esp32s3/esp32-s3-devkitc-1/",
            "ram_bytes": "on-chip SRAM: " + _ESP32,
            "memory_bandwidth": "theoretical peak of the external flash, where the weights lie: 80 MHz x 4 bits, "
            "through a cache (the on-chip SRAM gives one core 240 MHz x 128 bits); " + _ESP32,
            "power_w": "the chip alone, both cores running 128-bit loads at 240 MHz, radio and peripherals off: "
            "91.7 mA x 3.3 V; " + _ESP32,
            "achieved": "one core; ESP-NN README, int8 1x1 convolution, 10 x 10 x 64 to 64 channels: 409,600 MACs in "
            "461,398 ticks of 240 MHz, "
            "https://github.com/espressif/esp-nn/blob/0798b58ff527a3a552018e9392907f490a775c81/README.md",
        },
    ),
    Device(
        name="NUCLEO-H743ZI2 (STM32H743)",
        cpu="Cortex-M7, 480 MHz",
        clock_hz=480e6,
        cores=1,
        macs_per_cycle={"fp32": 1, "int8": 2},
        flash_bytes=2 * MIB,
        ram_bytes=1 * MIB,
        memory_bandwidth=1.92e9,
        power_w=480 * 275e-6 * 3.3,
        achieved={"int8": 24.7e6 / 2 / 0.0991 * 480 / 216},
        sources={
            "clock_hz": _H743,
            "cores": _H743,
            "macs_per_cycle": _arithmetic(
                "int8 2 (SMLAD: two 16-bit products, once a cycle at best); fp32 1 (one multiply-accumulate a cycle, "
                "https://www.elektroniknet.de/halbleiter/mikrocontroller/kann-arms-cortex-m7-einen-dsp-ersetzen.113297/"
                "seite-3.html). Arm publishes no timings for this core, see https://www.quinapalus.com/cm7cycles.html"
            ),
            "flash_bytes": _H743,
            "ram_bytes": "in several parts, the largest 512 KiB: " + _H743,
            "memory_bandwidth": "theoretical peak of the AXI bus: 240 MHz x 64 bits; " + _H743,
            "power_w": "estimate for the chip alone, as if the current grew with the clock alone: 275 uA/MHz, "
            "typical in run mode with the peripherals off, x 480 MHz x 3.3 V; STM32H743/753 product page, "
            "https://www.st.com/en/microcontrollers-microprocessors/stm32h743-753.html",
            "achieved": "L. Lai et al., 'CMSIS-NN', 2018, on a 216 MHz Cortex-M7: a CNN of 24.7 M operations (half as "
            "many MACs) in 99.1 ms, scaled by the clock, 480 / 216, https://arxiv.org/abs/1801.06601",
        },
    ),
    Device(
        name="Raspberry Pi Zero 2 W",
        cpu="4 x Cortex-A53, 1.0 GHz",
        clock_hz=1.0e9,
        cores=4,
        macs_per_cycle={"fp32": 4, "int8": 8},
        flash_bytes=32 * 10**9,
        ram_bytes=512 * MIB,
        memory_bandwidth=2 * 1295.5e6,
        power_w=2.33,
        achieved={"fp32": 569e6 / 0.115 * 1.0 / 1.4},
        sources={
            "clock_hz": _ZERO_2,
            "cores": _ZERO_2,
            "macs_per_cycle": _arithmetic(
                "fp32 4 (one 128-bit FMLA a cycle at best); int8 8 (SMLAL, no dot product in Armv8.0). Arm Cortex-A53 "
                "Technical Reference Manual, https://developer.arm.com/documentation/ddi0500"
            ),
            "flash_bytes": _SD_CARD,
            "ram_bytes": _ZERO_2,
            "memory_bandwidth": "measured: memcpy 1295.5 MB/s, read and written; " + _KAISER,
            "power_w": "measured at the wall, four cores busy: 2.33 W; " + _KAISER,
            "achieved": _XNNPACK
            + "115 ms on a Raspberry Pi 3+ (the same cores at 1.4 GHz), scaled by the clock, 1.0 / 1.4",
        },
    ),
    Device(
        name="Raspberry Pi 4 Model B",
        cpu="4 x Cortex-A72, 1.5 GHz",
        clock_hz=1.5e9,
        cores=4,
        macs_per_cycle={"fp32": 4, "int8": 8},
        flash_bytes=32 * 10**9,
        ram_bytes=4 * GIB,
        memory_bandwidth=2 * 2514.6e6,
        power_w=6.4,
        achieved={"fp32": 569e6 / 0.075},
        sources={
            "clock_hz": _PI_4,
            "cores": _PI_4,
            "macs_per_cycle": _arithmetic(
                "fp32 4 (one 128-bit FMLA a cycle); int8 8 (SMLAL, no dot product in Armv8.0). Arm Cortex-A72 Software "
                "Optimization Guide, https://developer.arm.com/documentation/uan0016"
            ),
            "flash_bytes": _SD_CARD,
            "ram_bytes": "the 4 GB model: " + _PI_4,
            "memory_bandwidth": "measured: memcpy 2514.6 MB/s, read and written; " + _SBC_BENCH + "RPi-4B-Rev1.1.md",
            "power_w": "measured, four cores busy: 1280 mA x 5 V; J. Geerling, Raspberry Pi Dramble, power "
            "consumption, https://www.pidramble.com/wiki/benchmarks/power-consumption",
            "achieved": _XNNPACK + "75 ms",
        },
    ),
    Device(
        name="Raspberry Pi 5",
        cpu="4 x Cortex-A76, 2.4 GHz",
        clock_hz=2.4e9,
        cores=4,
        macs_per_cycle={"fp32": 8, "int8": 32},
        flash_bytes=32 * 10**9,
        ram_bytes=4 * GIB,
        memory_bandwidth=2 * 4447.8e6,
        power_w=11.0,
        sources={
            "clock_hz": _PI_5,
            "cores": _PI_5,
            "macs_per_cycle": _arithmetic(
                "fp32 8 (two 128-bit FMLA a cycle); int8 32 (two SDOT of 16 products). Arm Cortex-A76 Software "
                "Optimization Guide, https://developer.arm.com/documentation/PJDOC-466751330-7215"
            ),
            "flash_bytes": _SD_CARD,
            "ram_bytes": "the 4 GB model: " + _PI_5,
            "memory_bandwidth": "measured: memcpy 4447.8 MB/s, read and written; " + _SBC_BENCH + "RPi-5B-Rev1.0.md",
            "power_w": "measured at the wall, all cores solving a dense linear system (HPL): 11 W; J. Geerling, "
            "top500-benchmark, https://github.com/geerlingguy/top500-benchmark#results",
        },
    ),
    Device(
        name="Google Pixel 6 (Tensor)",
        cpu="2 x Cortex-X1, 2.80 GHz (the large cores of eight)",
        clock_hz=2.80e9,
        cores=2,
        macs_per_cycle={"fp32": 16, "int8": 64},
        flash_bytes=128 * 10**9,
        ram_bytes=8 * GIB,
        memory_bandwidth=51.2e9,
        power_w=3.0,
        sources={
            "clock_hz": _TENSOR,
            "cores": _TENSOR,
            "macs_per_cycle": _arithmetic(
                "fp32 16 (four 128-bit FMLA a cycle); int8 64 (four SDOT of 16 products). AnandTech, "
                "'Arm's New Cortex-A78 and Cortex-X1', 2020, https://www.anandtech.com/show/15813"
            ),
            "flash_bytes": "Pixel 6 tech specs, the smaller model, https://support.google.com/pixelphone/answer/7158570",
            "ram_bytes": "Pixel 6 tech specs, https://support.google.com/pixelphone/answer/7158570",
            "memory_bandwidth": "theoretical peak of LPDDR5: 4 x 16 bits x 6400 MT/s; " + _TENSOR,
            "power_w": "estimate, not a measurement: about what a phone can shed for long. The chip draws more until "
            "it is hot and slows down, as this article shows: " + _TENSOR,
        },
    ),
)
