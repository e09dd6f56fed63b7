"""What lab 10 has on record, and how it is measured: `python -m edgelab.labs.lab_10_capstone.record`.

`costs` are the bytes, arena and Vela's microseconds of the family and of the rival's shape, untrained (`costs.py` tells
what that changes); they need `edgelab[mcu]`. `trainings` are those of the rival, some minutes each on two cores. `cut`
are networks of half the rival's bytes, cut from one of its shape that had been taught for long.
"""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edgelab import data
from edgelab.data.storage import atomic_write
from edgelab.labs.lab_10_capstone import costs, rival
from edgelab.labs.lab_10_capstone.cut import cut
from edgelab.models.zoo import RECIPES

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Name = Annotated[str, typer.Argument(help="signs or fashion-mnist.")]


@app.command("costs")
def write_costs(dataset: Name) -> None:
    """Measure the family's costs and the rival's for the pictures of a data set."""
    loaded, record = data.load(dataset), _read()
    record["costs"][costs.key_of(loaded)] = costs.measure_family(loaded)
    record["rivals"][costs.key_of(loaded)] = list(rival.measured_costs(loaded).values())
    _write(record)


@app.command("train")
def train(
    dataset: Name,
    seed: Annotated[int, typer.Option(help="Of the first weights and of the batches.")] = 0,
    long: Annotated[bool, typer.Option("--long", help="For as many epochs as the zoo's tiny network.")] = False,
) -> None:
    """Train the rival for as much compute as its opponent had, or as long as the zoo trains."""
    loaded = data.load(dataset)
    row = rival.train(loaded, seed=seed, epochs=RECIPES["resnet_tiny"].epochs[dataset] if long else None)
    record = _read()
    record["trainings"].append({**row, "long": long})
    _write(record)
    print(row)


@app.command("cut")
def cut_and_teach(
    name: Name,
    weights: Annotated[
        Path, typer.Argument(help="Of the rival's shape: a file of edgelab.bench.distillation_training.")
    ],
    seed: Annotated[int, typer.Option(help="Of the batches.")] = 0,
) -> None:
    """Cut a taught network of the rival's shape to half its bytes, and have the whole one teach what is left."""
    row, record = cut(data.load(name), weights, seed=seed), _read()
    record["cut"].append(row)
    _write(record)
    print(row)


def _read() -> dict[str, Any]:
    return json.loads(costs.RECORD.read_text("utf-8"))


def _write(record: dict[str, Any]) -> None:
    """Write JSON with a line for each data set's costs and each training."""
    parts = [f'"{name}": {{\n' + ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in
             record[name].items()) + "\n}" for name in ("costs", "rivals")]  # fmt: skip
    parts += [f'"{name}": [\n' + ",\n".join(map(json.dumps, record[name])) + "\n]" for name in ("trainings", "cut")]
    with atomic_write(costs.RECORD) as file:
        file.write(("{\n" + ",\n".join(parts) + "\n}\n").encode())


if __name__ == "__main__":
    app()
