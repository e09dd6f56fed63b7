"""Numbers as the course writes them, in both languages: a point for decimals, a thin space between thousands."""

from collections.abc import Sequence
from statistics import fmean

THIN_SPACE = "\u202f"  # no line breaks at it (ISO 80000-1, RAE)
NO_BREAK = "\u00a0"  # between a number and its unit, in cells of tables


def number(value: float, spec: str = "") -> str:
    """Return `value` by the format `spec`, with thousands kept apart, so that nobody takes a comma for a decimal point.

    >>> number(1_229_136).split(THIN_SPACE), number(0.25), number(4801.3, ".0f").split(THIN_SPACE)
    (['1', '229', '136'], '0.25', ['4', '801'])
    """
    return f"{value:,{spec}}".replace(",", THIN_SPACE)


def mean_and_range(values: Sequence[float], spec: str, unit: str = "") -> str:
    """Return the mean of `values` by the format `spec`, and behind it the smallest and the largest, if there are more.

    >>> mean_and_range([79.8, 85.97], ".1f", " %"), mean_and_range([93.2], ".1f")
    ('82.9 % (79.8–86.0)', '93.2')
    """
    spread = f" ({min(values):{spec}}–{max(values):{spec}})" if len(values) > 1 else ""
    return f"{fmean(values):{spec}}{unit}{spread}"
