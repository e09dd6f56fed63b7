"""What lab 08 has on record of a microcontroller: its NPU's microseconds by Vela, and its interpreter's arena.

Both depend on the file alone, not on the computer. It needs `edgelab[mcu]`.
"""

import json
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgelab import data
from edgelab.bars import track
from edgelab.bench.light_training import NETWORKS, PIXELS, done
from edgelab.deploy import arena_bytes, duel, npu_estimate, to_litert
from edgelab.models import load_pretrained
from edgelab.models.zoo import RECIPES, SHAPES
from edgelab.quantization import calibrate, convert, prepare

ACCELERATOR = "ethos-u55-128"
CHANNELS, KERNELS, RESOLUTIONS = (8, 16, 32, 64, 128, 256), (3, 5), (8, 16, 32)
GRID = ("mobilenet_v1_025", "mobilenet_v1_050", "mobilenet_v1_100")


def write(path: Path, trained: Path | None) -> None:
    """Write to `path` the costs of all layers and networks, and the trainings that the file `trained` holds."""
    parts = {
        "trainings": [] if trained is None else list(done(trained).values()),
        "layers": dict(layers()),
        "networks": dict(networks()),
    }
    path.write_text(as_text(parts), "utf-8")


def as_text(parts: dict[str, Any]) -> str:
    """Return JSON with a line for each entry."""
    texts = []
    for name, entries in parts.items():
        if isinstance(entries, dict):
            lines = [f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in entries.items()]
            opening, closing = "{", "}"
        else:
            lines, opening, closing = list(map(json.dumps, entries)), "[", "]"
        texts.append(f'"{name}": {opening}\n' + ",\n".join(lines) + f"\n{closing}")
    return "{\n" + ",\n".join(texts) + "\n}\n"


def layers() -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what one layer of each kind and size costs; random weights stand for trained ones."""
    every = list(product(duel.KINDS, CHANNELS, KERNELS, RESOLUTIONS))
    for kind, channels, kernel, resolution in track(every, "layers"):
        size = duel.Size(channels, kernel, resolution)
        torch.manual_seed(0)
        cost = on_microcontroller(duel.layers(kind, size), torch.randn(size.example.shape))
        yield f"{kind}-{channels}-{kernel}-{resolution}", {**cost, "us": round(cost["us"] / size.depth, 3)}


def networks() -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what each network costs: the trained ones of the zoo, and MobileNetV1 at all widths and resolutions."""
    for dataset in SHAPES:
        images = data.load(dataset).train.images[:64]
        for name in track(RECIPES, f"the zoo, {dataset}"):
            cost = on_microcontroller(load_pretrained(name, dataset), data.normalize(images))
            yield f"{dataset}/{name}-{images.shape[-1]}", cost
        for name, pixels in track(list(product(GRID, PIXELS[dataset])), f"widths and resolutions, {dataset}"):
            if not (name in RECIPES and pixels == images.shape[-1]):
                torch.manual_seed(0)
                model = NETWORKS[name](**SHAPES[dataset]).eval()
                cost = on_microcontroller(model, data.normalize(data.resize(images, pixels)))
                yield f"{dataset}/{name}-{pixels}", cost


def on_microcontroller(model: nn.Module, images: torch.Tensor) -> dict[str, float]:
    """Return an int8 model's microseconds and MACs in a cycle on the NPU, and its bytes of arena and of flash."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        to_litert(convert(calibrate(prepare(model), images)), images[:1], path)
        estimate = npu_estimate(path, accelerator=ACCELERATOR)
        return {
            "us": round(estimate.microseconds, 2),
            "macs_per_cycle": round(estimate.macs_per_cycle, 2),
            "arena_bytes": arena_bytes(path),
            "flash_bytes": estimate.flash_bytes,
            "npu_share": estimate.npu_share,
        }
