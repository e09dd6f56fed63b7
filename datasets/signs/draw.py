"""Draw the sixteen road-sign templates: `python datasets/signs/draw.py`.

Every sign is made of polygons, discs and strokes, no font, so that the result is the same wherever it is drawn.
Coordinates run from -1 to 1, x to the right and y down; a template is SIZE pixels square, with a clear margin.
"""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw

SIZE = 128
OVERSAMPLING = 8
MARGIN = 0.90  # a sign of radius 1 covers this share of the picture's half width, so that its edge can be smooth

RED = (190, 22, 32)
BLUE = (14, 78, 166)
YELLOW = (248, 196, 20)
WHITE = (244, 244, 240)
BLACK = (24, 24, 26)

Point = tuple[float, float]

# Each glyph is a list of strokes in a box 1 wide and 1 high; an arc is (centre x, centre y, radius x, radius y,
# start, end) in degrees, clockwise from three o'clock, as y points down.
GLYPHS: dict[str, list[list[Point] | tuple[float, ...]]] = {
    "0": [
        *((0.5, 0.32, 0.5, 0.32, 180, 360), (0.5, 0.68, 0.5, 0.32, 0, 180)),
        *([(0, 0.32), (0, 0.68)], [(1, 0.32), (1, 0.68)]),
    ],
    "1": [[(0.05, 0.26), (0.6, 0.0), (0.6, 1.0)]],
    "2": [(0.5, 0.29, 0.47, 0.29, 180, 375), [(0.95, 0.36), (0.02, 1.0), (1.0, 1.0)]],
    "3": [(0.47, 0.26, 0.45, 0.26, 190, 440), (0.47, 0.73, 0.52, 0.27, 280, 530)],
    "5": [[(0.92, 0.0), (0.14, 0.0), (0.06, 0.5)], (0.46, 0.68, 0.54, 0.32, 215, 515)],
    "6": [(0.52, 0.30, 0.50, 0.30, 180, 335), [(0.02, 0.3), (0.02, 0.7)], (0.5, 0.69, 0.48, 0.31, 0, 360)],
    "8": [(0.5, 0.25, 0.43, 0.25, 0, 360), (0.5, 0.74, 0.5, 0.26, 0, 360)],
    "S": [(0.5, 0.26, 0.48, 0.26, 90, 335), (0.5, 0.75, 0.5, 0.25, 270, 515)],
    "T": [[(0, 0), (1, 0)], [(0.5, 0), (0.5, 1)]],
    "O": [
        *((0.5, 0.35, 0.5, 0.35, 180, 360), (0.5, 0.65, 0.5, 0.35, 0, 180)),
        *([(0, 0.35), (0, 0.65)], [(1, 0.35), (1, 0.65)]),
    ],
    "P": [[(0, 1), (0, 0), (0.5, 0)], (0.5, 0.29, 0.5, 0.29, 270, 450), [(0.5, 0.58), (0, 0.58)]],
}  # fmt: skip


class Canvas:
    """A transparent square picture that is drawn OVERSAMPLING times too large and then reduced."""

    def __init__(self) -> None:
        """Start with nothing on it."""
        self.side = SIZE * OVERSAMPLING
        self.image = Image.new("RGBA", (self.side, self.side), (0, 0, 0, 0))
        self.pen = ImageDraw.Draw(self.image)

    def place(self, point: Point) -> Point:
        """Return the pixel position of `point`."""
        half = self.side / 2
        return (half + point[0] * MARGIN * half, half + point[1] * MARGIN * half)

    def polygon(self, points: list[Point], colour: tuple[int, int, int], *, corner: float = 0.0) -> None:
        """Fill a polygon; `corner` rounds it by growing it outwards by that radius."""
        self.pen.polygon([self.place(point) for point in points], fill=colour)
        if corner:
            self.stroke([*points, points[0]], 2 * corner, colour)

    def disc(self, centre: Point, radius: float, colour: tuple[int, int, int]) -> None:
        """Fill a disc."""
        x, y = self.place(centre)
        r = radius * MARGIN * self.side / 2
        self.pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def stroke(self, points: list[Point], width: float, colour: tuple[int, int, int]) -> None:
        """Draw a line with round joints and ends."""
        pixels = width * MARGIN * self.side / 2
        self.pen.line([self.place(point) for point in points], fill=colour, width=round(pixels))
        for point in points:
            self.disc(point, width / 2, colour)

    def write(self, text: str, *, width: float, height: float, weight: float, colour=BLACK) -> None:
        """Write `text` centred, `width` and `height` from stroke to stroke, with strokes `weight` wide."""
        gap = 1.75 * weight
        widths = [0.6 if letter == "1" else 1.0 for letter in text]
        unit = (width - gap * (len(text) - 1)) / sum(widths)
        left = -width / 2
        for letter, share in zip(text, widths, strict=True):
            for part in GLYPHS[letter]:
                points = list(part) if isinstance(part, list) else arc(*part)
                self.stroke([(left + x * unit, (y - 0.5) * height) for x, y in points], weight, colour)
            left += share * unit + gap

    def save(self, path: Path) -> None:
        """Reduce to SIZE pixels, colours weighed by their opacity, and write a PNG."""
        small = self.image.convert("RGBa").resize((SIZE, SIZE), Image.Resampling.BOX).convert("RGBA")
        small.save(path, optimize=True)


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float) -> list[Point]:
    """Return points along an ellipse's arc, one every six degrees or closer."""
    steps = max(2, math.ceil(abs(end - start) / 6))
    angles = [math.radians(start + (end - start) * step / steps) for step in range(steps + 1)]
    return [(x + rx * math.cos(angle), y + ry * math.sin(angle)) for angle in angles]


def regular(sides: int, radius: float, turn: float) -> list[Point]:
    """Return the corners of a regular polygon; `turn` is the first corner's angle in degrees."""
    angles = [math.radians(turn + 360 * corner / sides) for corner in range(sides)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def limit(canvas: Canvas, number: str) -> None:
    """Draw a speed limit: a red ring around black digits."""
    canvas.disc((0, 0), 1.0, WHITE)
    canvas.disc((0, 0), 0.97, RED)
    canvas.disc((0, 0), 0.75, WHITE)
    if len(number) == 2:
        canvas.write(number, width=0.90, height=0.64, weight=0.165)
    else:
        canvas.write(number, width=1.08, height=0.58, weight=0.135)


def stop(canvas: Canvas) -> None:
    """Draw a red octagon with the word."""
    canvas.polygon(regular(8, 1.04, 22.5), WHITE)
    canvas.polygon(regular(8, 0.98, 22.5), RED)
    canvas.write("STOP", width=1.36, height=0.52, weight=0.115, colour=WHITE)


def triangle(canvas: Canvas, *, up: bool) -> None:
    """Draw the red-rimmed white triangle of warnings (point up) and of yield (point down)."""
    sign = -1 if up else 1
    shift = 0.16 * sign
    for size, colour, corner in ((0.94, WHITE, 0.10), (0.91, RED, 0.10), (0.62, WHITE, 0.03)):
        corners = [(0, sign * 1.08 * size), (0.94 * size, -sign * 0.54 * size), (-0.94 * size, -sign * 0.54 * size)]
        canvas.polygon([(x, y - shift) for x, y in corners], colour, corner=corner)


def no_entry(canvas: Canvas) -> None:
    """Draw a red disc with a white bar."""
    canvas.disc((0, 0), 1.0, WHITE)
    canvas.disc((0, 0), 0.96, RED)
    canvas.polygon([(-0.72, -0.17), (0.72, -0.17), (0.72, 0.17), (-0.72, 0.17)], WHITE)


def priority_road(canvas: Canvas) -> None:
    """Draw a yellow diamond with a white rim."""
    canvas.polygon(regular(4, 0.95, 0), BLACK, corner=0.06)
    canvas.polygon(regular(4, 0.93, 0), WHITE, corner=0.05)
    canvas.polygon(regular(4, 0.62, 0), YELLOW, corner=0.04)


def person(canvas: Canvas, x: float, y: float, size: float) -> None:
    """Draw a walking figure whose hip is at (x, y); `size` is about its height."""
    joints = {
        "body": [(0.02, -0.34), (0.0, 0.0)],
        "front leg": [(0.0, 0.0), (0.16, 0.20), (0.20, 0.45)],
        "back leg": [(0.0, 0.0), (-0.08, 0.24), (-0.24, 0.44)],
        "arms": [(-0.22, -0.06), (-0.12, -0.26), (0.06, -0.30), (0.20, -0.12)],
    }
    widths = {"body": 0.19, "front leg": 0.12, "back leg": 0.12, "arms": 0.10}
    for name, points in joints.items():
        canvas.stroke([(x + px * size, y + py * size) for px, py in points], widths[name] * size, BLACK)
    canvas.disc((x + 0.04 * size, y - 0.52 * size), 0.115 * size, BLACK)


def pedestrians(canvas: Canvas) -> None:
    """Draw a warning with one figure on a striped crossing."""
    triangle(canvas, up=True)
    person(canvas, 0.0, 0.08, 0.72)
    for left in (-0.44, -0.19, 0.06, 0.31):
        canvas.polygon([(left, 0.40), (left + 0.15, 0.40), (left + 0.17, 0.47), (left - 0.02, 0.47)], BLACK)


def children(canvas: Canvas) -> None:
    """Draw a warning with two running figures, one taller."""
    triangle(canvas, up=True)
    person(canvas, -0.13, 0.16, 0.62)
    person(canvas, 0.22, 0.24, 0.46)


def curve(canvas: Canvas) -> None:
    """Draw a warning with an arrow that bends to the right."""
    triangle(canvas, up=True)
    bend = arc(0.20, 0.20, 0.30, 0.30, 180, 285)
    canvas.stroke([(-0.10, 0.44), *bend], 0.15, BLACK)
    canvas.polygon([(0.22, -0.28), (0.46, 0.0), (0.16, 0.13)], BLACK)


def roadworks(canvas: Canvas) -> None:
    """Draw a warning with a digging figure and a heap."""
    triangle(canvas, up=True)
    canvas.disc((-0.02, -0.36), 0.085, BLACK)
    canvas.stroke([(-0.06, -0.20), (-0.20, 0.08)], 0.15, BLACK)
    canvas.stroke([(-0.20, 0.08), (-0.08, 0.24), (-0.14, 0.44)], 0.10, BLACK)
    canvas.stroke([(-0.20, 0.08), (-0.30, 0.26), (-0.42, 0.44)], 0.10, BLACK)
    canvas.stroke([(-0.04, -0.18), (0.10, 0.02)], 0.08, BLACK)
    canvas.stroke([(-0.20, -0.08), (0.30, 0.26)], 0.06, BLACK)
    canvas.polygon([(0.02, 0.48), (0.16, 0.30), (0.30, 0.20), (0.44, 0.30), (0.54, 0.48)], BLACK)


def roundabout(canvas: Canvas) -> None:
    """Draw a blue disc with three white arrows chasing each other."""
    canvas.disc((0, 0), 1.0, WHITE)
    canvas.disc((0, 0), 0.96, BLUE)
    for turn in (0, 120, 240):
        canvas.stroke(arc(0, 0, 0.50, 0.50, turn + 100, turn + 30), 0.16, WHITE)
        tip, base = math.radians(turn - 12), math.radians(turn + 30)
        head = [(0.52 * math.cos(tip), 0.52 * math.sin(tip))]
        head += [(r * math.cos(base), r * math.sin(base)) for r in (0.27, 0.75)]
        canvas.polygon(head, WHITE)


def draw_all(folder: Path) -> None:
    """Write the sixteen PNG files into `folder`."""
    painters = {f"limit_{n}": (lambda canvas, n=n: limit(canvas, str(n))) for n in (20, 30, 50, 60, 80, 100, 120)}
    painters |= {
        "stop": stop,
        "yield": lambda canvas: triangle(canvas, up=False),
        "no_entry": no_entry,
        "priority_road": priority_road,
        "pedestrians": pedestrians,
        "children": children,
        "curve": curve,
        "roadworks": roadworks,
        "roundabout": roundabout,
    }
    for name, paint in painters.items():
        canvas = Canvas()
        paint(canvas)
        canvas.save(folder / f"{name}.png")


if __name__ == "__main__":
    draw_all(Path(__file__).parent)
