"""A small network for the exercise on export: written in a moment, and another one for each seed."""

import torch
from torch import fx, nn

from edgelab.quantization import calibrate, convert, prepare


def small_network(seed: int) -> tuple[fx.GraphModule, nn.Module, torch.Tensor]:
    """Return an untrained network converted to int8, the same one in float, and images `(12, 3, 12, 12)` for it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(16, 6),
        ).eval()
    images = torch.rand(12, 3, 12, 12, generator=generator) * 2 - 1
    return convert(calibrate(prepare(model), images)), model, images
