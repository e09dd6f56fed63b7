"""One row of the course's table: everything there is to measure about a model, and the table as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from edgelab.i18n import _
from edgelab.measure.counts import count_macs, count_params, model_bytes, saved_bytes
from edgelab.measure.energy import estimate_energy
from edgelab.measure.latency import measure_latency
from edgelab.measure.memory import peak_activation_bytes
from edgelab.numbers import number

if TYPE_CHECKING:
    import torch
    from rich.table import Table
    from torch import nn


@dataclass(frozen=True)
class Row:
    """A model measured on this computer: bytes, MACs of one inference, ms, joules (an estimate), accuracy in [0, 1].

    `size_bytes` is the model on disk; `accuracy` is None where it was not asked for, and was counted on so many
    `pictures`, None where nobody kept that. Latency was measured in `runtime` with so many `threads`, not in turns with
    those of another row: `compare_latency` compares two models.
    """

    params: int
    size_bytes: int
    macs: int
    p50_ms: float
    p95_ms: float
    threads: int
    peak_bytes: int
    energy_j: float
    accuracy: float | None = None
    runtime: str = "PyTorch"
    pictures: int | None = None

    def as_dict(self) -> dict[str, float | int | str | None]:
        """Return the row as plain numbers, for JSON."""
        return asdict(self)

    @property
    def half_width(self) -> float | None:
        """Return half the 95 % interval of the accuracy, in [0, 1]; None where nobody kept what it was counted on."""
        return (
            None if self.accuracy is None or self.pictures is None else share_half_width(self.accuracy, self.pictures)
        )


@dataclass(frozen=True)
class Deployed:
    """A model written for another runtime: `run` does one inference; its file's bytes; "fp32" or "int8" arithmetic.

    `weight_bytes` is what one inference fetches, where that is known.
    """

    run: Callable[[], object]
    size_bytes: int
    precision: str = "fp32"
    weight_bytes: int | None = None
    runtime: str = "ONNX Runtime"


def measure_model(
    model: nn.Module,
    example: torch.Tensor | tuple,
    *,
    deployed: Deployed | None = None,
    threads: int = 1,
    accuracy: float | None = None,
    pictures: int | None = None,
) -> Row:
    """Return the row of `model` for one inference on `example`.

    Size and latency are those of `deployed`, where the model was written for another runtime, else of the model itself
    in evaluation mode. The peak is that of a runtime which does batch normalisation and activations in place; the
    energy is the estimate with every weight fetched from DRAM once, in the bytes that it takes there. `accuracy`, in
    [0, 1], is kept as it is given, with the number of `pictures` that it was counted on.

    Raises `EdgelabError` when `example` does not fit the model.
    """
    from edgelab.measure.trace import evaluating

    macs = count_macs(model, example)
    with evaluating(model):
        latency = measure_latency(deployed.run if deployed else _inference(model, example), threads=threads)
    precision = deployed.precision if deployed else "fp32"
    shrink = 4 if precision == "int8" else 1
    fetched = deployed.weight_bytes if deployed and deployed.weight_bytes is not None else model_bytes(model) // shrink
    return Row(
        params=count_params(model),
        size_bytes=deployed.size_bytes if deployed else saved_bytes(model),
        macs=macs,
        p50_ms=latency.p50_ms,
        p95_ms=latency.p95_ms,
        threads=threads,
        peak_bytes=peak_activation_bytes(model, example, fused=True) // shrink,
        energy_j=estimate_energy(macs, fetched, precision=precision),
        accuracy=accuracy,
        runtime=deployed.runtime if deployed else "PyTorch",
        pictures=pictures,
    )


def share_half_width(share: float, count: int) -> float:
    """Return half the 95 % interval of a `share` in [0, 1] that was counted on `count` pictures, also in [0, 1].

    It is Wilson's (1927, "Probable Inference", J. Am. Stat. Assoc. 22): near the middle it is the usual
    1.96 √(p (1 - p) / n), and it is not zero where all pictures were named correctly. It tells how far chance in the
    choice of the pictures may have moved the share. Raise `ValueError` for a share of no pictures.

    >>> f"{share_half_width(0.9, 1_000):.4f} {share_half_width(1.0, 1_000):.4f}"
    '0.0186 0.0019'
    """
    if count < 1 or not 0 <= share <= 1:
        raise ValueError(f"no share: {share} of {count}")
    z = 1.96
    return z / (1 + z**2 / count) * (share * (1 - share) / count + (z / (2 * count)) ** 2) ** 0.5


def format_markdown(rows: Mapping[str, Row]) -> str:
    """Return the rows as a Markdown table, a line for each model."""
    lines = [headings(), ["---", *["---:"] * (len(headings()) - 1)]]
    lines += [[name, *cells(row)] for name, row in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rich_table(rows: Mapping[str, Row]) -> Table:
    """Return the rows as a table for the terminal."""
    from rich.table import Table

    first, *others = headings()
    table = Table(first)
    for heading in others:
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        table.add_row(name, *cells(row))
    return table


def headings() -> list[str]:
    """Return the columns' headings with their units, in the learner's language: the model's, then one for each cell."""
    return [
        _("model"),
        _("parameters"),
        _("size (KiB)"),
        _("MACs (M)"),
        _("latency p50 (p95) (ms)"),
        _("runtime, threads"),
        _("peak memory (KiB)"),
        _("energy, estimated (mJ)"),
        _("accuracy (%), test pictures"),
    ]


def cells(row: Row) -> list[str]:
    """Return the row's figures as text, in the units of `headings`."""
    return [
        number(row.params),
        number(row.size_bytes / 1024, ".0f"),
        number(row.macs / 1e6, ".1f"),
        f"{number(row.p50_ms, '.2f')} ({number(row.p95_ms, '.2f')})",
        f"{row.runtime}, {row.threads}",
        number(row.peak_bytes / 1024, ".0f"),
        f"{1000 * row.energy_j:.3f}",
        "" if row.accuracy is None else f"{100 * row.accuracy:.2f}{_counted(row)}",
    ]


def _counted(row: Row) -> str:
    """Return ± half the 95 % interval, in points, and the pictures; nothing where nobody kept how many."""
    half = row.half_width
    return "" if half is None else f" ± {100 * half:.2f}, {number(row.pictures or 0)}"


def _inference(model: nn.Module, example: torch.Tensor | tuple) -> Callable[[], object]:
    import torch

    inputs = example if isinstance(example, tuple) else (example,)

    def run() -> object:
        with torch.inference_mode():
            return model(*inputs)

    return run
