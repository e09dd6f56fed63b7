"""The vehicle camera of the `signs` data set: where a sign stands, what is behind it, what the lens and the night do.

Every function works on a whole batch of pictures, float32 in [0, 1], shape `(N, 3, SIDE, SIDE)`. All chance comes from
`Draws`, whose bits NumPy guarantees for every version and machine; arithmetic is continuous in them, so that the last
bit of a sine can move a pixel by one grey level and never by more. A choice ("is there a cloud?") compares the drawn
bits themselves, never a computed number.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F

SIDE = 32
CONDITION_NAMES = ("day", "night", "fog", "motion blur", "noise", "occlusion")
DAY, NIGHT, FOG, MOTION, NOISE, OCCLUSION = range(len(CONDITION_NAMES))

_CENTRES = (torch.arange(SIDE, dtype=torch.float32) + 0.5) * (2 / SIDE) - 1  # pixel centres, -1 to 1
_PIXEL = 2 / SIDE


class Draws:
    """Uniform and bell-shaped random tensors from a counter-based generator's raw bits."""

    def __init__(self, key: np.ndarray) -> None:
        """Start the stream that `key`, two uint64 numbers, stands for."""
        self._bits = np.random.Philox(key=key)

    def uniform(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Return float32 numbers in `[low, high)` of the given shape."""
        count = math.prod(shape)
        words = self._bits.random_raw((count + 1) // 2).astype("<u8", copy=False).view("<u4")[:count]
        unit = (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
        return torch.from_numpy(unit).reshape(shape).mul_(high - low).add_(low)

    def chance(self, probability: float, n: int) -> torch.Tensor:
        """Return `n` zeros and ones, shape `(n, 1, 1, 1)`; one comes up with `probability`."""
        return (self.uniform(0.0, 1.0, n, 1, 1, 1) < probability).float()

    def choice(self, count: int, n: int) -> torch.Tensor:
        """Return `n` int64 numbers from 0 to `count - 1`."""
        return torch.from_numpy(((self._bits.random_raw(n) >> np.uint64(32)) % np.uint64(count)).astype(np.int64))

    def bell(self, *shape: int) -> torch.Tensor:
        """Return bell-shaped numbers of mean 0 and deviation 1: the sum of four bytes, within 3.5 deviations."""
        count = math.prod(shape)
        raw = self._bits.random_raw((count + 1) // 2).astype("<u8", copy=False).view("<u4")[:count]
        pairs = (raw & np.uint32(0x00FF00FF)) + (raw >> np.uint32(8) & np.uint32(0x00FF00FF))  # two sums a word
        total = (pairs & np.uint32(0xFFFF)) + (pairs >> np.uint32(16))
        return torch.from_numpy(total.astype(np.float32)).sub_(510.0).div_(147.8).reshape(shape)

    def field(self, n: int, grid: int, *, channels: int = 1) -> torch.Tensor:
        """Return smooth noise in about [-1, 1], shape `(n, channels, SIDE, SIDE)`, with `grid` bumps a side."""
        if grid == SIDE:
            return self.uniform(-1, 1, n, channels, SIDE, SIDE)
        spread = _bicubic(grid)
        return spread @ self.uniform(-1, 1, n, channels, grid, grid) @ spread.T


@functools.cache
def _bicubic(grid: int) -> torch.Tensor:
    """Return the matrix that stretches `grid` numbers to SIDE, shape `(SIDE, grid)`."""
    rows = F.interpolate(torch.eye(grid).reshape(grid, 1, grid, 1), size=(SIDE, 1), mode="bicubic")
    return rows.reshape(grid, SIDE).T.contiguous()


def photograph(templates: torch.Tensor, conditions: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return uint8 pictures of signs, shape `(N, 3, SIDE, SIDE)`.

    Args:
        templates: one RGBA template per picture, float32 in [0, 1], colours multiplied by alpha, `(N, 4, T, T)`.
        conditions: index into `CONDITION_NAMES` per picture, int64, `(N,)`.
        draws: where all chance comes from.
    """
    n = len(templates)
    pose = draw_pose(n, draws)
    sign = project(templates, pose)
    sign = torch.cat((weather_sign(sign[:, :3], sign[:, 3:], draws), sign[:, 3:]), dim=1)
    scene = scene_with_pole(backdrop(n, draws), pose, draws)
    second = torch.nonzero(draws.chance(0.3, n).reshape(n)).reshape(-1)
    beside = neighbour_pose({name: value[second] for name, value in pose.items()}, draws)
    other = project(templates[draws.choice(n, len(second))], beside)
    other = torch.cat((weather_sign(other[:, :3], other[:, 3:], draws), other[:, 3:]), dim=1)
    scene = scene.index_copy(0, second, scene[second] * (1 - other[:, 3:]) + other[:, :3])
    where = [torch.nonzero(conditions == condition).reshape(-1) for condition in range(len(CONDITION_NAMES))]

    dark, lit = at_night(scene[where[NIGHT]], sign[where[NIGHT]], draws)
    scene, sign = scene.index_copy(0, where[NIGHT], dark), sign.index_copy(0, where[NIGHT], lit)
    picture = scene * (1 - sign[:, 3:]) + sign[:, :3]
    hidden = where[OCCLUSION]
    covered = occlude(picture[hidden], {name: angle[hidden] for name, angle in pose.items()}, draws)
    picture = picture.index_copy(0, hidden, covered)
    picture = picture.index_copy(0, where[FOG], in_fog(picture[where[FOG]], sign[where[FOG], 3:], draws))
    picture = expose(picture, conditions, draws)
    picture = picture.index_copy(0, where[MOTION], move_camera(picture[where[MOTION]], draws))
    picture = through_lens(picture, draws)
    picture = on_sensor(picture, conditions, draws)
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)


def draw_pose(n: int, draws: Draws) -> dict[str, torch.Tensor]:
    """Return where each sign stands: radius and centre in half pictures, three angles in radians, each `(n,)`."""
    radius = draws.uniform(0.42, 0.94, n)
    slack = (1.04 - radius).clamp(min=0.12)
    return {
        "radius": radius,
        "x": draws.uniform(-0.85, 0.85, n) * slack,
        "y": draws.uniform(-0.85, 0.85, n) * slack,
        "roll": draws.uniform(-0.17, 0.17, n) + draws.uniform(-0.17, 0.17, n),
        "yaw": draws.uniform(-0.45, 0.45, n) + draws.uniform(-0.45, 0.45, n),
        "pitch": draws.uniform(-0.22, 0.22, n) + draws.uniform(-0.22, 0.22, n),
    }


def neighbour_pose(pose: dict[str, torch.Tensor], draws: Draws) -> dict[str, torch.Tensor]:
    """Return where a second sign stands: beside the first, farther out, so that the first stays the middle one."""
    n, x, y = len(pose["x"]), pose["x"], pose["y"]
    upright = draws.chance(0.5, n).reshape(n)  # half of them share the pole, half stand beside it
    radius = pose["radius"] * draws.uniform(0.8, 1.1, n)
    gap = pose["radius"] + radius * draws.uniform(1.0, 1.25, n)
    aside = gap * draws.uniform(-0.3, 0.3, n)
    right, down = torch.where(x < 0, -1.0, 1.0), torch.where(y < 0, -1.0, 1.0)
    along_x, along_y = right * gap, down * gap
    return pose | {
        "radius": radius,
        "x": x + upright * aside + (1 - upright) * along_x,
        "y": y + upright * along_y + (1 - upright) * aside,
    }


def project(templates: torch.Tensor, pose: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the templates as the camera sees them, RGBA multiplied by alpha, `(N, 4, SIDE, SIDE)`.

    A point (u, v) of the sign, turned by yaw and pitch at a distance of four radii, lands at `H @ (u, v, 1)`; the
    inverse of H is written out (its adjugate: a common factor cancels), so that no linear algebra library is asked.
    """
    cos_r, sin_r = torch.cos(pose["roll"]), torch.sin(pose["roll"])
    cos_y, sin_y = torch.cos(pose["yaw"]), torch.sin(pose["yaw"])
    cos_p, sin_p = torch.cos(pose["pitch"]), torch.sin(pose["pitch"])
    r, x, y = pose["radius"], pose["x"], pose["y"]
    # Columns of the rotation (roll, then pitch, then yaw) that the plane's two axes see.
    ux, uy, uz = cos_y * cos_r + sin_y * sin_p * sin_r, cos_p * sin_r, -sin_y * cos_r + cos_y * sin_p * sin_r
    vx, vy, vz = -cos_y * sin_r + sin_y * sin_p * cos_r, cos_p * cos_r, sin_y * sin_r + cos_y * sin_p * cos_r
    g, h = uz / 4, vz / 4
    a, b, c = r * ux + x * g, r * vx + x * h, x
    d, e, f = r * uy + y * g, r * vy + y * h, y
    adjugate = [e - f * h, c * h - b, b * f - c * e, f * g - d, a - c * g, c * d - a * f]
    adjugate += [d * h - e * g, b * g - a * h, a * e - b * d]
    m = [entry.reshape(-1, 1, 1) for entry in adjugate]
    side = 2 * SIDE  # two samples a pixel each way
    fine = (torch.arange(side, dtype=torch.float32) + 0.5) * (2 / side) - 1
    px, py = fine.reshape(1, 1, -1), fine.reshape(1, -1, 1)
    w = m[6] * px + m[7] * py + m[8]
    grid = torch.stack(((m[0] * px + m[1] * py + m[2]) / w, (m[3] * px + m[4] * py + m[5]) / w), dim=-1)
    seen = F.grid_sample(templates, grid * 0.9, mode="bilinear", padding_mode="zeros", align_corners=False)
    return halve(seen)


def halve(picture: torch.Tensor) -> torch.Tensor:
    """Return the mean of every two by two pixels."""
    rows = picture[:, :, ::2] + picture[:, :, 1::2]
    return (rows[..., ::2] + rows[..., 1::2]) * 0.25


def weather_sign(colour: torch.Tensor, alpha: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return the sign's colours after sun, dirt, and another maker's paint."""
    n = len(colour)
    faded = draws.uniform(0, 1, n, 1, 1, 1) ** 2 * 0.45
    grey = colour.mean(dim=1, keepdim=True) * 0.6 + 0.35 * alpha
    colour = colour * (1 - faded) + grey * faded
    colour = colour * draws.uniform(0.86, 1.12, n, 3, 1, 1)
    dirt = 1 + 0.16 * draws.field(n, 5) * draws.uniform(0, 1, n, 1, 1, 1) + 0.05 * draws.field(n, 16)
    slope = draws.uniform(-0.22, 0.22, n, 2, 1, 1)
    light = 1 + slope[:, :1] * _CENTRES.reshape(1, 1, 1, -1) + slope[:, 1:] * _CENTRES.reshape(1, 1, -1, 1)
    return colour * dirt * light * draws.uniform(0.5, 1.08, n, 1, 1, 1)


def soft_box(draws: Draws, n: int, *, width: tuple[float, float], height: tuple[float, float]) -> torch.Tensor:
    """Return the mask of one box at a random place per picture, its edge a pixel soft, `(n, 1, SIDE, SIDE)`."""
    x = _CENTRES.reshape(1, 1, 1, -1) - draws.uniform(-1, 1, n, 1, 1, 1)
    y = _CENTRES.reshape(1, 1, -1, 1) - draws.uniform(-1, 1, n, 1, 1, 1)
    turn = draws.uniform(-0.25, 0.25, n, 1, 1, 1)
    x, y = x + turn * y, y - turn * x
    half_w, half_h = draws.uniform(*width, n, 1, 1, 1), draws.uniform(*height, n, 1, 1, 1)
    edge = 0.35 * _PIXEL
    return torch.sigmoid((half_w - x.abs()) / edge) * torch.sigmoid((half_h - y.abs()) / edge)


def colours(draws: Draws, n: int, *ranges: tuple[float, float]) -> torch.Tensor:
    """Return one colour per picture, each of red, green and blue drawn from its range, `(n, 3, 1, 1)`."""
    return torch.cat([draws.uniform(low, high, n, 1, 1, 1) for low, high in ranges], dim=1)


def trees(sky: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return foliage with light and shade, and some of the sky shining through."""
    n = len(sky)
    leaves = 0.45 * draws.field(n, 6) + 0.45 * draws.field(n, 14) + 0.4 * draws.field(n, SIDE)
    green = colours(draws, n, (0.13, 0.36), (0.22, 0.44), (0.05, 0.20)) * (1 + 0.9 * leaves)
    return green + 0.5 * (sky - green) * torch.sigmoid(9 * (draws.field(n, 10) - 0.55))


def houses(sky: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return a wall with rows of windows, its horizontals slanting as they do in perspective."""
    n = len(sky)
    x, y = _CENTRES.reshape(1, 1, 1, -1), _CENTRES.reshape(1, 1, -1, 1)
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


def backdrop(n: int, draws: Draws) -> torch.Tensor:
    """Return what is behind the signs: sky over trees, houses or hills, over a road, with clutter."""
    x, y = _CENTRES.reshape(1, 1, 1, -1), _CENTRES.reshape(1, 1, -1, 1)
    height = (y + 1) / 2
    blue = colours(draws, n, (0.30, 0.62), (0.48, 0.76), (0.70, 0.98))
    pale = colours(draws, n, (0.70, 0.95), (0.74, 0.96), (0.76, 0.98))
        colours(draws, n, (0.30, 0.62), (0.48, 0.76), (0.70, 0.98)),
        colours(draws, n, (0.70, 0.95), (0.74, 0.96), (0.76, 0.98)),
    )
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
    below = torch.sigmoid((y - skyline) / (0.6 * _PIXEL))
    scene = sky * (1 - below) + middle * below

    asphalt = draws.uniform(0.22, 0.5, n, 1, 1, 1) * colours(draws, n, (0.95, 1.05), (0.95, 1.05), (0.97, 1.1))
    asphalt = asphalt * (1 + 0.12 * draws.field(n, SIDE))
    kerb = draws.uniform(0.3, 2.2, n, 1, 1, 1) + draws.uniform(-0.6, 0.6, n, 1, 1, 1) * x
    road = torch.sigmoid((y - kerb) / (0.5 * _PIXEL))
    scene = scene * (1 - road) + asphalt * road

    for _ in range(3):
        mask = soft_box(draws, n, width=(0.03, 0.30), height=(0.05, 0.45)) * draws.chance(0.5, n)
        vivid = draws.uniform(0, 1, n, 1, 1, 1)
        paint = draws.uniform(0.1, 0.9, n, 3, 1, 1) * vivid + draws.uniform(0.1, 0.9, n, 1, 1, 1) * (1 - vivid)
        scene = scene * (1 - mask) + paint * (1 + 0.1 * draws.field(n, 12)) * mask
    wire = soft_box(draws, n, width=(0.02, 0.05), height=(0.8, 2.0)) * draws.chance(0.35, n)
    scene = scene * (1 - wire) + draws.uniform(0.1, 0.55, n, 1, 1, 1) * wire
    sunny = draws.uniform(0.55, 1.12, n, 1, 1, 1)
    return scene.clamp(0.02, 1) * sunny


def scene_with_pole(scene: torch.Tensor, pose: dict[str, torch.Tensor], draws: Draws) -> torch.Tensor:
    """Return the scene with the grey pole that holds the sign, in three pictures of four."""
    n = len(scene)
    x, y = _CENTRES.reshape(1, 1, 1, -1), _CENTRES.reshape(1, 1, -1, 1)
    lean = x - pose["x"].reshape(n, 1, 1, 1) + torch.sin(pose["roll"]).reshape(n, 1, 1, 1) * y
    half = draws.uniform(0.04, 0.09, n, 1, 1, 1)
    under = torch.sigmoid((y - pose["y"].reshape(n, 1, 1, 1)) / _PIXEL)
    mask = torch.sigmoid((half - lean.abs()) / (0.35 * _PIXEL)) * under * draws.chance(0.75, n)
    metal = draws.uniform(0.25, 0.75, n, 1, 1, 1) * (1 + 0.35 * (lean / half).clamp(-1, 1))
    return scene * (1 - mask) + metal * mask


def glow(draws: Draws, n: int, *, size: tuple[float, float], reach: float) -> torch.Tensor:
    """Return a round light that fades outwards, 1 in its centre, `(n, 1, SIDE, SIDE)`."""
    x = _CENTRES.reshape(1, 1, 1, -1) - draws.uniform(-reach, reach, n, 1, 1, 1)
    y = _CENTRES.reshape(1, 1, -1, 1) - draws.uniform(-reach, reach, n, 1, 1, 1)
    width = draws.uniform(*size, n, 1, 1, 1)
    return torch.exp(-(x * x + y * y) / (width * width))


def at_night(scene: torch.Tensor, sign: torch.Tensor, draws: Draws) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scene and sign lit by headlights only: the sign shines back, lamps shine behind it."""
    n = len(scene)
    dark = scene * draws.uniform(0.03, 0.22, n, 1, 1, 1) * torch.tensor([0.8, 0.9, 1.15]).reshape(1, 3, 1, 1)
    for _ in range(3):
        lamp = glow(draws, n, size=(0.05, 0.22), reach=1.0) * draws.chance(0.5, n)
        tint = colours(draws, n, (0.85, 1.0), (0.45, 0.9), (0.1, 0.5))
        dark = dark + lamp * tint * draws.uniform(0.4, 1.2, n, 1, 1, 1)
    spot = glow(draws, n, size=(0.5, 1.4), reach=0.8)
    beam = draws.uniform(0.15, 0.5, n, 1, 1, 1) + draws.uniform(0, 0.75, n, 1, 1, 1) * spot
    lit = sign[:, :3] * beam * torch.tensor([1.04, 0.98, 0.88]).reshape(1, 3, 1, 1)
    alpha = sign[:, 3:]
    glare = draws.uniform(0, 0.35, n, 1, 1, 1) ** 2 * alpha
    return dark, torch.cat((lit + glare, alpha), dim=1)


def occlude(picture: torch.Tensor, pose: dict[str, torch.Tensor], draws: Draws) -> torch.Tensor:
    """Return the pictures with leaves, a branch or snow over part of the sign."""
    n = len(picture)
    kind = F.one_hot(draws.choice(3, n), 3).float().reshape(n, 3, 1, 1)
    x, y = _CENTRES.reshape(1, 1, 1, -1), _CENTRES.reshape(1, 1, -1, 1)
    radius = pose["radius"].reshape(n, 1, 1, 1)
    x, y = (x - pose["x"].reshape(n, 1, 1, 1)) / radius, (y - pose["y"].reshape(n, 1, 1, 1)) / radius
    angle = draws.uniform(0, 2 * math.pi, n, 1, 1, 1)
    away = x * torch.cos(angle) + y * torch.sin(angle)  # how far towards the side that the leaves come from
    bumps = 0.30 * draws.field(n, 5) + 0.22 * draws.field(n, 11)
    leaves = torch.sigmoid(12 * (away - draws.uniform(0.1, 0.7, n, 1, 1, 1) + bumps))
    thickness, shift = draws.uniform(0.05, 0.16, n, 1, 1, 1), draws.uniform(-0.5, 0.5, n, 1, 1, 1)
    branch = torch.sigmoid(14 * (thickness - (away + 0.3 * bumps + shift).abs()))
    snow = torch.sigmoid(9 * (-y - draws.uniform(0.1, 0.7, n, 1, 1, 1) + bumps))
    mask = leaves * kind[:, :1] + branch * kind[:, 1:2] + snow * kind[:, 2:]
    texture = 1 + 0.5 * draws.field(n, 12) + 0.4 * draws.field(n, SIDE)
    green = colours(draws, n, (0.1, 0.4), (0.22, 0.5), (0.04, 0.2)) * texture
    brown = draws.uniform(0.15, 0.5, n, 1, 1, 1) * torch.tensor([1.1, 0.9, 0.7]).reshape(1, 3, 1, 1) * texture
    white = draws.uniform(0.7, 0.98, n, 1, 1, 1) * torch.tensor([0.97, 0.99, 1.03]).reshape(1, 3, 1, 1)
    white = white * (0.85 + 0.15 * texture)
    cover = green * kind[:, :1] + brown * kind[:, 1:2] + white * kind[:, 2:]
    return picture + mask * (cover - picture)


def in_fog(picture: torch.Tensor, alpha: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return the pictures behind a pale veil; what is behind the sign fades more."""
    n = len(picture)
    clear = draws.uniform(0.16, 0.60, n, 1, 1, 1)
    clear = clear * (alpha + (1 - alpha) * draws.uniform(0.2, 0.75, n, 1, 1, 1))
    veil = draws.uniform(0.40, 0.72, n, 1, 1, 1) + draws.uniform(-0.02, 0.02, n, 3, 1, 1) + 0.04 * draws.field(n, 3)
    return picture + (1 - clear) * (veil - picture)


def only(conditions: torch.Tensor, condition: int) -> torch.Tensor:
    """Return 1.0 for the pictures taken in `condition`, else 0.0, shape `(N, 1, 1, 1)`."""
    return (conditions == condition).float().reshape(-1, 1, 1, 1)


def expose(picture: torch.Tensor, conditions: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return the pictures as exposed: gain, white balance, and a shoulder that keeps highlights from clipping hard."""
    n = len(picture)
    gain = draws.uniform(0.6, 1.3, n, 1, 1, 1) * draws.uniform(0.94, 1.06, n, 3, 1, 1)
    gain = gain * (1 - 0.35 * only(conditions, NOISE))  # noise comes from too little light
    picture = (picture * gain).clamp(min=0)
    lifted = draws.uniform(0, 0.06, n, 1, 1, 1)  # stray light in the lens
    return lifted + (1 - lifted) * (1 - torch.exp(-1.9 * picture)) / (1 - math.exp(-1.9))


def move_camera(picture: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return the pictures, smeared along a line 2.5 to 7 pixels long."""
    n, steps = len(picture), 9
    length = draws.uniform(2.5, 7, n, 1, 1) * _PIXEL
    angle = draws.uniform(-0.6, 0.6, n, 1, 1) + (math.pi / 2) * draws.chance(0.25, n)[..., 0]
    dx, dy = length * torch.cos(angle), length * torch.sin(angle)
    smeared = torch.zeros_like(picture)
    for step in range(steps):
        t = step / (steps - 1) - 0.5
        x, y = _CENTRES.reshape(1, 1, -1) + t * dx, _CENTRES.reshape(1, -1, 1) + t * dy
        grid = torch.stack(torch.broadcast_tensors(x, y), dim=-1)
        smeared += F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return smeared / steps


def through_lens(picture: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return the pictures a little out of focus, darker in the corners, with colour at half resolution."""
    n = len(picture)
    spread = draws.uniform(0, 1, n, 1, 1, 1) ** 2 * 0.30  # weight of each neighbour: 0 is sharp, 1/3 is a box
    for dim in (2, 3):
        pad = (0, 0, 1, 1) if dim == 2 else (1, 1, 0, 0)
        wide = F.pad(picture, pad, mode="replicate")
        sides = wide.narrow(dim, 0, SIDE) + wide.narrow(dim, 2, SIDE)
        picture = picture * (1 - 2 * spread) + sides * spread
    grey = picture.mean(dim=1, keepdim=True)
    coarse = halve(picture - grey)
    colour = coarse.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    distance = _CENTRES.reshape(1, 1, 1, -1) ** 2 + _CENTRES.reshape(1, 1, -1, 1) ** 2
    return (grey + colour) * (1 - draws.uniform(0, 0.16, n, 1, 1, 1) * distance)


def on_sensor(picture: torch.Tensor, conditions: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return the pictures with sensor noise, strong where that is the condition and more at night."""
    n = len(picture)
    deviation = draws.uniform(0.006, 0.022, n, 1, 1, 1)
    deviation = deviation + only(conditions, NIGHT) * draws.uniform(0.01, 0.05, n, 1, 1, 1)
    deviation = deviation + only(conditions, NOISE) * draws.uniform(0.05, 0.14, n, 1, 1, 1)
    noise = draws.bell(n, 3, SIDE, SIDE)
    return picture + deviation * (noise * 0.45 + draws.bell(n, 1, SIDE, SIDE) * 0.9)
