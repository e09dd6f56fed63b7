"""What stands behind a road sign: sky, trees, houses, hills, road, its pole, and clutter.

Pictures are float32 in [0, 1], shape `(N, 3, SIDE, SIDE)`; masks have one channel and edges a pixel soft.
"""

from __future__ import annotations

import torch

from edgelab.data.draws import CENTRES, PIXEL, SIDE, Draws


def backdrop(n: int, draws: Draws) -> torch.Tensor:
    """Return what is behind the signs: sky over trees, houses or hills, over a road, with clutter."""
    x, y = CENTRES.reshape(1, 1, 1, -1), CENTRES.reshape(1, 1, -1, 1)
    height = (y + 1) / 2
    blue = colours(draws, n, (0.30, 0.62), (0.48, 0.76), (0.70, 0.98))
    pale = colours(draws, n, (0.70, 0.95), (0.74, 0.96), (0.76, 0.98))
    overcast = draws.uniform(0, 1, n, 1, 1, 1)
    sky = (blue * (1 - overcast) + pale * overcast) * (1 - height) + pale * height
    sky = sky + (1 - sky) * (draws.field(n, 4) * 0.35 + draws.field(n, 8) * 0.15).clamp(min=0)

    kind = draws.choice(3, n)
    middle = torch.empty_like(sky)
    for number, paint in enumerate((trees, houses, hills)):
        chosen = torch.nonzero(kind == number).reshape(-1)
        middle[chosen] = paint(sky[chosen], draws)
    leafy = (kind == 0).float().reshape(n, 1, 1, 1)

    skyline = draws.uniform(-1.5, 0.9, n, 1, 1, 1) + draws.uniform(-0.5, 0.5, n, 1, 1, 1) * x
    skyline = skyline + 0.35 * draws.field(n, 7)[:, :, :1] * (0.15 + 0.85 * leafy)
    below = torch.sigmoid((y - skyline) / (0.6 * PIXEL))
    scene = sky * (1 - below) + middle * below

    asphalt = draws.uniform(0.22, 0.5, n, 1, 1, 1) * colours(draws, n, (0.95, 1.05), (0.95, 1.05), (0.97, 1.1))
    asphalt = asphalt * (1 + 0.12 * draws.field(n, SIDE))
    kerb = draws.uniform(0.3, 2.2, n, 1, 1, 1) + draws.uniform(-0.6, 0.6, n, 1, 1, 1) * x
    road = torch.sigmoid((y - kerb) / (0.5 * PIXEL))
    scene = scene * (1 - road) + asphalt * road

    for _ in range(3):
        mask = soft_box(draws, n, width=(0.03, 0.30), height=(0.05, 0.45)) * draws.chance(0.5, n)
        vivid = draws.uniform(0, 1, n, 1, 1, 1)
        colour = draws.uniform(0.1, 0.9, n, 3, 1, 1) * vivid + draws.uniform(0.1, 0.9, n, 1, 1, 1) * (1 - vivid)
        scene = scene * (1 - mask) + colour * (1 + 0.1 * draws.field(n, 12)) * mask
    wire = soft_box(draws, n, width=(0.02, 0.05), height=(0.8, 2.0)) * draws.chance(0.35, n)
    scene = scene * (1 - wire) + draws.uniform(0.1, 0.55, n, 1, 1, 1) * wire
    sunny = draws.uniform(0.55, 1.12, n, 1, 1, 1)
    return scene.clamp(0.02, 1) * sunny


def trees(sky: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return foliage with light and shade, and some of the sky shining through."""
    n = len(sky)
    leaves = 0.45 * draws.field(n, 6) + 0.45 * draws.field(n, 14) + 0.4 * draws.field(n, SIDE)
    green = colours(draws, n, (0.13, 0.36), (0.22, 0.44), (0.05, 0.20)) * (1 + 0.9 * leaves)
    return green + 0.5 * (sky - green) * torch.sigmoid(9 * (draws.field(n, 10) - 0.55))


def houses(sky: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return a wall with rows of windows, its horizontals slanting as they do in perspective."""
    n = len(sky)
    x, y = CENTRES.reshape(1, 1, 1, -1), CENTRES.reshape(1, 1, -1, 1)
    wall = draws.uniform(0.28, 0.82, n, 1, 1, 1) * colours(draws, n, (0.95, 1.15), (0.82, 1.02), (0.68, 1.0))
    wall = wall * (1 + 0.08 * draws.field(n, SIDE))
    slant = draws.uniform(-0.3, 0.3, n, 1, 1, 1)
    across = torch.cos((x + draws.uniform(0, 1, n, 1, 1, 1)) * draws.uniform(7, 17, n, 1, 1, 1))
    upward = torch.cos((y + slant * x + draws.uniform(0, 1, n, 1, 1, 1)) * draws.uniform(7, 15, n, 1, 1, 1))
    windows = torch.sigmoid(7 * (across + 0.1)) * torch.sigmoid(7 * (upward + 0.1))
    glass = (
        draws.uniform(0.1, 0.6, n, 1, 1, 1)
        * colours(draws, n, (0.75, 1.0), (0.85, 1.05), (0.9, 1.2))
        * (1 + 0.3 * draws.field(n, 8))
    )
    return wall + windows * (glass - wall)


def hills(sky: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return dry ground and grass."""
    n = len(sky)
    ground = colours(draws, n, (0.30, 0.62), (0.30, 0.56), (0.18, 0.42))
    return ground * (1 + 0.3 * draws.field(n, 5) + 0.22 * draws.field(n, 20))


def scene_with_pole(scene: torch.Tensor, pose: dict[str, torch.Tensor], draws: Draws) -> torch.Tensor:
    """Return the scene with the grey pole that holds the sign, in three pictures of four."""
    n = len(scene)
    x, y = CENTRES.reshape(1, 1, 1, -1), CENTRES.reshape(1, 1, -1, 1)
    lean = x - pose["x"].reshape(n, 1, 1, 1) + torch.sin(pose["roll"]).reshape(n, 1, 1, 1) * y
    half = draws.uniform(0.04, 0.09, n, 1, 1, 1)
    under = torch.sigmoid((y - pose["y"].reshape(n, 1, 1, 1)) / PIXEL)
    mask = torch.sigmoid((half - lean.abs()) / (0.35 * PIXEL)) * under * draws.chance(0.75, n)
    metal = draws.uniform(0.25, 0.75, n, 1, 1, 1) * (1 + 0.35 * (lean / half).clamp(-1, 1))
    return scene * (1 - mask) + metal * mask


def soft_box(draws: Draws, n: int, *, width: tuple[float, float], height: tuple[float, float]) -> torch.Tensor:
    """Return the mask of one box at a random place per picture, its edge a pixel soft, `(n, 1, SIDE, SIDE)`."""
    x = CENTRES.reshape(1, 1, 1, -1) - draws.uniform(-1, 1, n, 1, 1, 1)
    y = CENTRES.reshape(1, 1, -1, 1) - draws.uniform(-1, 1, n, 1, 1, 1)
    turn = draws.uniform(-0.25, 0.25, n, 1, 1, 1)
    x, y = x + turn * y, y - turn * x
    half_w, half_h = draws.uniform(*width, n, 1, 1, 1), draws.uniform(*height, n, 1, 1, 1)
    edge = 0.35 * PIXEL
    return torch.sigmoid((half_w - x.abs()) / edge) * torch.sigmoid((half_h - y.abs()) / edge)


def glow(draws: Draws, n: int, *, size: tuple[float, float], reach: float) -> torch.Tensor:
    """Return a round light that fades outwards, 1 in its centre, `(n, 1, SIDE, SIDE)`."""
    x = CENTRES.reshape(1, 1, 1, -1) - draws.uniform(-reach, reach, n, 1, 1, 1)
    y = CENTRES.reshape(1, 1, -1, 1) - draws.uniform(-reach, reach, n, 1, 1, 1)
    width = draws.uniform(*size, n, 1, 1, 1)
    return torch.exp(-(x * x + y * y) / (width * width))


def colours(draws: Draws, n: int, *ranges: tuple[float, float]) -> torch.Tensor:
    """Return one colour per picture, each of red, green and blue drawn from its range, `(n, 3, 1, 1)`."""
    return torch.cat([draws.uniform(low, high, n, 1, 1, 1) for low, high in ranges], dim=1)
