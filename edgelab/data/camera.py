"""The vehicle camera of the `signs` data set: where a sign stands, what weather, lens and night do to it.

Every function works on a whole batch of pictures, float32 in [0, 1], shape `(N, 3, SIDE, SIDE)`. All chance comes from
`Draws`; arithmetic is continuous in what it draws, so that the last bit of a sine can move a pixel by one grey level
and never by more. A choice ("is there a second sign?") compares the drawn bits themselves, never a computed number.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from edgelab.data.draws import CENTRES, PIXEL, SIDE, Draws
from edgelab.data.scenery import backdrop, colours, glow, scene_with_pole

CONDITION_NAMES = ("day", "night", "fog", "motion blur", "noise", "occlusion")
DAY, NIGHT, FOG, MOTION, NOISE, OCCLUSION = range(len(CONDITION_NAMES))


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
    light = 1 + slope[:, :1] * CENTRES.reshape(1, 1, 1, -1) + slope[:, 1:] * CENTRES.reshape(1, 1, -1, 1)
    return colour * dirt * light * draws.uniform(0.5, 1.08, n, 1, 1, 1)


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
    x, y = CENTRES.reshape(1, 1, 1, -1), CENTRES.reshape(1, 1, -1, 1)
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
    length = draws.uniform(2.5, 7, n, 1, 1) * PIXEL
    angle = draws.uniform(-0.6, 0.6, n, 1, 1) + (math.pi / 2) * draws.chance(0.25, n)[..., 0]
    dx, dy = length * torch.cos(angle), length * torch.sin(angle)
    smeared = torch.zeros_like(picture)
    for step in range(steps):
        t = step / (steps - 1) - 0.5
        x, y = CENTRES.reshape(1, 1, -1) + t * dx, CENTRES.reshape(1, -1, 1) + t * dy
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
    distance = CENTRES.reshape(1, 1, 1, -1) ** 2 + CENTRES.reshape(1, 1, -1, 1) ** 2
    return (grey + colour) * (1 - draws.uniform(0, 0.16, n, 1, 1, 1) * distance)


def on_sensor(picture: torch.Tensor, conditions: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return the pictures with sensor noise, strong where that is the condition and more at night."""
    n = len(picture)
    deviation = draws.uniform(0.006, 0.022, n, 1, 1, 1)
    deviation = deviation + only(conditions, NIGHT) * draws.uniform(0.01, 0.05, n, 1, 1, 1)
    deviation = deviation + only(conditions, NOISE) * draws.uniform(0.05, 0.14, n, 1, 1, 1)
    noise = draws.bell(n, 3, SIDE, SIDE)
    return picture + deviation * (noise * 0.45 + draws.bell(n, 1, SIDE, SIDE) * 0.9)
