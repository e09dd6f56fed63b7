"""Light architectures in figures: MobileNets against the same with full convolutions, on paper and on machines."""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import torch

from edgelab.bench.claims import Claim
from edgelab.bench.light_training import FULL, PIXELS, SEEDS, Job, done
from edgelab.deploy import duel
from edgelab.measure import compare_latency, count_macs
from edgelab.models.zoo import SHAPES

NETWORKS = ("mobilenet_v1_025", "mobilenet_v1_050", "mobilenet_v2_050")
CHANNELS = (8, 16, 64, 256)


def claims(trained: Path | None) -> Iterator[Claim]:
    """Yield every figure as it is measured; accuracies are those of the file `trained`, of `light_training`."""
    for dataset in SHAPES:
        for network in NETWORKS:
            yield from against_full(dataset, network, {} if trained is None else done(trained))
    for precision in duel.PRECISIONS:
        for channels in CHANNELS:
            yield layers(channels, precision)


def against_full(dataset: str, network: str, rows: dict[Job, dict]) -> Iterator[Claim]:
    """Yield how many times fewer MACs a network takes than with full convolutions, and how many points that costs."""
    pixels = PIXELS[dataset][-1]
    light, full = ([Job(dataset, name, pixels, seed) for seed in SEEDS] for name in (network, network + FULL))
    example = torch.zeros(1, SHAPES[dataset]["in_channels"], pixels, pixels)
    macs = {kind: count_macs(jobs[0].build().eval(), example) for kind, jobs in (("light", light), ("full", full))}
    name = f"{dataset}/{network}"
    yield Claim(f"{name}: MACs, millions", macs["light"] / 1e6)
    yield Claim(f"{name}: times fewer MACs than with full convolutions", macs["full"] / macs["light"], "x", at_least=8)
    pairs = [
        (rows[a]["accuracy"], rows[b]["accuracy"]) for a, b in zip(light, full, strict=True) if {a, b} <= set(rows)
    ]
    if pairs:
        seeds = f"mean of {len(pairs)} seeds" if len(pairs) > 1 else "one seed"
        lost = [100 * (b - a) for a, b in pairs]
        yield Claim(f"{name}: accuracy, {seeds}", 100 * fmean(a for a, _b in pairs), "%")
        yield Claim(f"{name}: accuracy with full convolutions", 100 * fmean(b for _a, b in pairs), "%")
        yield Claim(f"{name}: points lost to full convolutions, {seeds}", fmean(lost), at_most=1.5)
        yield Claim(f"{name}: points lost, largest less smallest of the seeds", max(lost) - min(lost))


def layers(channels: int, precision: str) -> Claim:
    """Return how many times faster a separable layer is than a full one: 3x3, on 16x16 pixels, on one core."""
    size = duel.Size(channels)
    race = compare_latency({kind: duel.open_layers(kind, size, precision) for kind in duel.KINDS})
    interval = f"{race.low:.2f} to {race.high:.2f}"
    return Claim(f"separable layer, {channels} channels, {precision}: times faster ({interval})", race.ratio, "x")
