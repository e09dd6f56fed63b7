"""`python -m edgelab.bench quantization`: the headline figures beside their goals."""

from pathlib import Path
from typing import Annotated

import typer

from edgelab.bench import quantization
from edgelab.bench.claims import report

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)

Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures to FILE as JSON.")]


@app.callback()
def _topics() -> None:
    """Measure the course's headline figures."""


@app.command("quantization")
def _quantization(
    as_json: Json = None,
    training: Annotated[
        bool, typer.Option("--training/--no-training", help="Also train for few bits: about half an hour.")
    ] = True,
) -> None:
    """Measure int8 with and without training, on signs and on Fashion-MNIST."""
    report(quantization.claims(training=training), as_json)


if __name__ == "__main__":
    app()
