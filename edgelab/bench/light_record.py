"""What lab 08 has on record of a microcontroller: Vela's microseconds on its NPU, and the arena that its interpreter takes.

Both depend on the file alone, not on the computer. It needs `edgelab[mcu]`.
"""

import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import torch
from torch import nn

from edgelab import data
from edgelab.bars import track
from edgelab.bench.light_training import NETWORKS, PIXELS
from edgelab.deploy import arena_bytes, duel, npu_estimate, to_litert
from edgelab.models import load_pretrained
from edgelab.models.zoo import RECIPES, SHAPES
from edgelab.quantization import calibrate, convert, prepare

ACCELERATOR = "ethos-u55-128"
CHANNELS, KERNELS, RESOLUTIONS = (8, 16, 32, 64, 128, 256), (3, 5), (8, 16, 32)
GRID = ("mobilenet_v1_025", "mobilenet_v1_050", "mobilenet_v1_100")


def record() -> dict[str, dict[str, dict[str, float]]]:
    """Return the costs of all layers and networks, by "layers" and "networks", then by name."""
    return {"layers": dict(layers()), "networks": dict(networks())}


def layers() -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what one layer of each kind and size costs; random weights stand for trained ones."""
    every = list(product(duel.KINDS, CHANNELS, KERNELS, RESOLUTIONS))
    for kind, channels, kernel, resolution in track(every, "layers"):
        size = duel.Size(channels, kernel, resolution)
        torch.manual_seed(0)
        cost = on_microcontroller(duel.layers(kind, size), torch.randn(size.example.shape))
        yield f"{kind}-{channels}-{kernel}-{resolution}", {**cost, "us": round(cost["us"] / size.depth, 3)}


def networks() -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what each network costs: those of the zoo as they are trained, MobileNetV1 at all widths and resolutions."""
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
    """Return a model's microseconds and MACs in a cycle on the NPU, its bytes of arena, of flash and of SRAM, in int8."""
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
