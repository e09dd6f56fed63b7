"""A figure beside the goal that the course has set itself for it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

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
    versions = {name: version(name) for name in ("torch", "onnxruntime", "ai-edge-litert")}
    return {"cpu": cpu.name, "instructions": ", ".join(cpu.instructions or ()), **versions}


def report(claims: Iterable[Claim], path: Path | None) -> None:
    """Print each claim as soon as it is measured, and write all so far to `path` as JSON: nothing is lost on Ctrl-C."""
    console, here, rows = Console(soft_wrap=True, highlight=False), machine(), []
    console.print(", ".join(f"{name} {value}" for name, value in here.items()))
    for claim in claims:
        mark = {True: "✓", False: "✗", None: " "}[claim.met]
        console.print(f"{mark} {claim.measured:9.2f} {claim.unit:1} {claim.goal:7} {claim.name}")
        rows.append({**asdict(claim), "met": claim.met})
        if path is not None:
            path.write_text(json.dumps({"machine": here, "claims": rows}, indent=1) + "\n", "utf-8")
