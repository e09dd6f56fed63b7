"""Milliseconds on a real Cortex-M4: the networks of MLPerf Tiny, their MACs, and what was published of them.

Banbury et al., 2021, "MLPerf Tiny Benchmark", table 1 has the networks; `measure.DEVICES` has the results, each with
its source.
"""

from collections.abc import Callable
from html import escape
from pathlib import Path

import torch
from torch import nn

from edgelab import data
from edgelab.bars import track
from edgelab.deploy import npu_estimate
from edgelab.errors import EdgelabError
from edgelab.explore.html import HtmlTable
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _, named
from edgelab.labs.lab_08_light_architectures import record
from edgelab.measure import DEVICES, Device, Published, count_macs
from edgelab.models import depthwise_separable, mobilenet_v1, resnet
from edgelab.numbers import number

LAB = "09_deployment"
BOARD = "NUCLEO-L4R5ZI (STM32L4R5)"
RESNET_8, KEYWORDS, WAKE_WORDS = "ResNet-8", "keyword spotting (DS-CNN)", "visual wake words (MobileNetV1 0.25)"
_ACCELERATOR = "ethos-u55-128"


def board() -> Device:
    """Return the card of the board with a Cortex-M4 of 120 MHz."""
    return next(device for device in DEVICES if device.name == BOARD)


def macs_of(network: str) -> int:
    """Return the MACs of one of MLPerf Tiny's networks, counted on its shapes."""
    with torch.device("meta"):
        model, example = _build(network)
    return count_macs(model.eval(), example)


def _build(network: str) -> tuple[nn.Module, torch.Tensor]:
    """Return a network of the benchmark, untrained, and an input of its shape."""
    if network == RESNET_8:
        return resnet((16, 32, 64), num_classes=10), torch.zeros(1, 3, 32, 32)
    if network == WAKE_WORDS:
        return mobilenet_v1(0.25, num_classes=2, total_stride=32), torch.zeros(1, 3, 96, 96)
    first = nn.Conv2d(1, 64, (10, 4), stride=2, padding=(5, 1))
    blocks = [depthwise_separable(64, 64) for _block in range(4)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12)]
    return nn.Sequential(first, *blocks, *head), torch.zeros(1, 1, 49, 10)


def published(network: str, *, fastest: bool = True) -> Published:
    """Return the result of a network on the board: the fastest one, or the slowest."""
    found = [result for result in board().published if result.model == network]
    return sorted(found, key=lambda result: result.ms)[0 if fastest else -1]


def predict_cortex() -> Prediction:
    """Return the prediction of how many ms ResNet-8 takes on the Cortex-M4."""
    return predict(LAB, "cortex", _("ResNet-8 on the Cortex-M4"), unit="ms", low=20, high=9000)


def cycles_per_mac(network: str, *, fastest: bool = True) -> float:
    """Return the clock cycles that a published result comes to for each MAC."""
    return published(network, fastest=fastest).ms / 1000 * board().clock_hz / macs_of(network)


def published_table() -> HtmlTable:
    """Return every published result on the board: by which software, in how many ms, and how many cycles for a MAC."""
    rows = []
    for result in board().published:
        macs = macs_of(result.model)
        cycles = result.ms / 1000 * board().clock_hz / macs
        cells = [result.software, f"{macs / 1e6:.2f}", f"{result.ms:.1f}", f"{cycles:.2f}"]
        rows.append([escape(network_name(result.model)), *map(escape, cells)])
    heads = [_("network"), _("software"), _("MACs (M)"), _("published (ms)"), _("cycles for a MAC")]
    return HtmlTable(list(map(escape, heads)), rows)


def network_name(network: str) -> str:
    """Return what a learner reads for a network of the benchmark, in their language."""
    names = {
        RESNET_8: "ResNet-8",
        KEYWORDS: _("keyword spotting (DS-CNN)"),
        WAKE_WORDS: _("visual wake words (MobileNetV1 0.25)"),
    }
    return names[network]


def device_table(
    networks: dict[str, tuple[str, nn.Module, Path]], dataset: data.Dataset, cortex_ms: Callable
) -> HtmlTable:
    """Return networks on the Cortex-M4, by the learner's `cortex_ms`, beside an NPU, by Arm's estimate.

    `networks` has, by the name to show, a network's name in the zoo, the network, and the path of its int8 `.tflite`
    file. There are two columns for the Cortex-M4: at the cycles of the fastest published ResNet-8, and of the slowest.
    """
    clock, macs, rows = board().clock_hz, macs_of(RESNET_8), []
    known = [(macs, published(RESNET_8, fastest=fast).ms, clock) for fast in (True, False)]
    image, stood_in = data.normalize(dataset.test.images[:1]), ""
    for shown, (name, model, path) in track(networks.items(), _("asking Arm's compiler")):
        work = count_macs(model, image)
        times = [cortex_ms(work, clock, each)[1] for each in known]
        us, words = npu_us(path, name, dataset)
        stood_in = words or stood_in
        npu = ["–", "–"] if us is None else [f"{us / 1000:.2f}", number(times[0] / us * 1000, ".0f")]
        rows.append([escape(named(shown)), f"{work / 1e6:.1f}", *(number(ms, ".0f") for ms in times), *npu])
    if stood_in:
        print(stood_in)
    heads = [
        _("network, int8"),
        _("MACs (M)"),
        _("Cortex-M4, at X-CUBE-AI's cycles (ms)"),
        _("Cortex-M4, at those of TensorFlow Lite Micro in 2021 (ms)"),
        _("Ethos-U55, Arm's estimate (ms)"),
        _("times faster than X-CUBE-AI"),
    ]
    return HtmlTable(list(map(escape, heads)), rows)


def npu_us(path: Path, name: str, dataset: data.Dataset) -> tuple[float | None, str]:
    """Return the microseconds on the NPU by Arm's compiler, or those on record with a sentence that says so.

    None, and a sentence, where the compiler is not installed and nothing is on record: for pictures of one's own.
    """
    try:
        return npu_estimate(path, accelerator=_ACCELERATOR).microseconds, ""
    except EdgelabError as error:
        kept = record.network_cost(dataset.name, name, dataset.test.images.shape[-1])
        if kept is None:
            return None, _("%(reason)s Until then there are no figures for the NPU.") % {"reason": error}
        text = _("%(reason)s Until then the estimates on record stand in, made by the same compiler.")
        return kept["us"], text % {"reason": error}
