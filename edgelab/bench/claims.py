"""A figure beside the goal that the course has set itself for it."""

import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from edgelab.doctor.machine import processor


@dataclass(frozen=True)
class Claim:
    """One measured figure, in `unit`; `at_most` or `at_least` is its goal, and neither where it is only reported."""

    name: str
    measured: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        """Return whether the goal is reached; None where there is none."""
        if self.at_most is not None:
            return self.measured <= self.at_most
        return None if self.at_least is None else self.measured >= self.at_least

    @property
    def goal(self) -> str:
        """Return the goal in words."""
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        return "" if self.at_least is None else f">= {self.at_least:g}"


def machine() -> dict[str, str]:
    """Return what a reader must know of the machine to judge the ratios."""
    cpu = processor()
    return {"cpu": cpu.name, "instructions": ", ".join(cpu.instructions or ()), "torch": version("torch")}


def report(claims: list[Claim], path: Path | None) -> None:
    """Print the claims as a table, and write them to `path` as JSON."""
    table = Table("figure", "measured", "goal", "", title=", ".join(machine().values()))
    for claim in claims:
        mark = {True: "✓", False: "✗", None: ""}[claim.met]
        table.add_row(claim.name, f"{claim.measured:.2f} {claim.unit}".strip(), claim.goal, mark)
    Console().print(table)
    if path is not None:
        rows = [{**asdict(claim), "met": claim.met} for claim in claims]
        path.write_text(json.dumps({"machine": machine(), "claims": rows}, indent=1) + "\n", "utf-8")
