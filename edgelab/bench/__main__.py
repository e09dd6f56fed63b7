"""`python -m edgelab.bench TOPIC`: the headline figures of a topic beside their goals."""

from pathlib import Path
from typing import Annotated

import typer

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
        bool, typer.Option("--training/--no-training", help="Also train for few bits: about a quarter of an hour.")
    ] = True,
) -> None:
    """Measure int8 with and without training, on signs and on Fashion-MNIST."""
    from edgelab.bench import quantization_goals

    report(quantization_goals.claims(training=training), as_json)


@app.command("deploy")
def _deploy(
    as_json: Json = None,
    litert_torch: Annotated[
        Path | None, typer.Option(metavar="PYTHON", help="Also ask this Python, which has litert-torch.")
    ] = None,
) -> None:
    """Measure the same integers in ONNX Runtime, LiteRT and TensorFlow Lite Micro: about ten minutes."""
    from edgelab.bench import deploy_goals

    report(deploy_goals.claims(litert_torch=litert_torch), as_json)


@app.command("distillation")
def _distillation(
    trainings: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="What edgelab.bench.distillation_training has filled.")
    ] = None,
    as_json: Json = None,
    few_bits: Annotated[
        bool, typer.Option("--few-bits/--no-few-bits", help="Also train for few bits and few weights.")
    ] = True,
) -> None:
    """Judge students beside their teachers, and the whole pipeline, on signs and on Fashion-MNIST."""
    from edgelab.bench import distillation_goals

    report(distillation_goals.claims(trainings, few_bits=few_bits), as_json)


@app.command("light")
def _light(
    as_json: Json = None,
    trained: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What `python -m edgelab.bench.light_training` has written.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write lab 08's record to FILE; it needs edgelab[mcu].")
    ] = None,
) -> None:
    """Measure light architectures: MACs, accuracies of FILE, and separable against full convolutions."""
    from edgelab.bench import light_goals, light_record

    if record is not None:
        light_record.write(record, trained)
    report(light_goals.claims(trained), as_json)


@app.command("channels")
def _channels(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="What edgelab.bench.channel_training has made.")
    ] = None,
    as_json: Json = None,
) -> None:
    """Measure structured pruning, on signs and on Fashion-MNIST."""
    from edgelab.bench import channel_goals

    report(channel_goals.claims(folder), as_json)


@app.command("pruning")
def _pruning(
    as_json: Json = None,
    models: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="What python -m edgelab.bench.pruning_training FOLDER has trained."),
    ] = None,
) -> None:
    """Measure what zeros cost and buy, on signs and on Fashion-MNIST."""
    from edgelab.bench import pruning_goals

    report(pruning_goals.claims(models), as_json)


@app.command("grading")
def _grading(
    as_json: Json = None,
    submissions: Annotated[int, typer.Option(min=1, help="How many copies of the solution to grade.")] = 200,
    nbgrader: Annotated[
        Path | None, typer.Option(metavar="COMMAND", help="Also time this nbgrader: bin/nbgrader of its environment.")
    ] = None,
    lab: Annotated[
        Path | None, typer.Option(metavar="SOURCE", help="Of this lab, as labs/source/01_edge_budget.py.")
    ] = None,
) -> None:
    """Measure what grading costs: Linux with bubblewrap and the grading tools."""
    from edgelab.bench import grading_cost

    report(grading_cost.claims(submissions=submissions, nbgrader=nbgrader, lab=lab), as_json)


if __name__ == "__main__":
    app()
