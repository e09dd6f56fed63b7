"""The command line: `edgelab lab`, `adopt`, `doctor`, `measure`, `table`, `enter`, `leaderboard`, `build` and so on.

Each command imports what it needs when it runs. What `--help` shows, docstrings of commands and `help=`, is translated
as it is shown.
"""

import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from edgelab.errors import EdgelabError
from edgelab.i18n import _, language
from edgelab.typer_words import Command, Commands, CommandWithLists

app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, help="Optimise models for Edge AI, and measure it."
)
command = partial(app.command, cls=Command)

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs to read.")]


@app.callback(invoke_without_command=True)
def _edgelab(show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if show_version:
        print(version("edgelab"))
        raise typer.Exit


@command()
def lab(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Your own folder for the labs.")] = Path("edge-labs"),
    lang: Annotated[str, typer.Option(help="en or es; your terminal's language by default.")] = "",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The first free one from 8888 by default.")] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
    new: Annotated[str, typer.Option(metavar="LAB", help="Write a fresh copy of LAB beside yours, and stop.")] = "",
    copy: Annotated[bool, typer.Option("--copy", help="Copy the labs, and stop: something else opens them.")] = False,
) -> None:
    """Copy the labs into DIR, where what you changed is never overwritten, and open them in JupyterLab."""
    from edgelab.course import launch, start_page
    from edgelab.i18n import LANGUAGES

    if lang and lang not in LANGUAGES:
        raise EdgelabError(_("Choose --lang en or --lang es; there is no %(lang)r.") % {"lang": lang})
    if os.environ.get("EDGELAB_DATASET"):
        from edgelab.models.adopt import ready

        os.environ["EDGELAB_DATASET"] = ready(os.environ["EDGELAB_DATASET"])
    if new:
        for path in launch.copy_new(new, folder):
            print(path)
        return
    for line in launch.describe(launch.copy_labs(folder), folder):
        print(line)
    lang = lang or language()
    page = start_page.write(folder, lang)
    if copy:
        return
    chosen = launch.choose_port(port)
    print(_("JupyterLab starts. Stop it with Ctrl-C."), flush=True)
    launch.choose_menus(folder, lang)
    launch.start(launch.jupyter_arguments(folder, lang, chosen, browser=browser, page=page))


@app.command(cls=CommandWithLists)
def adopt(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER|cifar10", help="Your images, in train/<class>/, test/<class>/.")
    ],
    models: Annotated[list[str] | None, typer.Option(metavar="MODEL...", help="Train these; all by default.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="How long it may take, about.")] = None,
    pixels: Annotated[int | None, typer.Option(min=24, max=96, help="Width and height that the models see.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Read the images anew, and train what is trained.")] = False,
) -> None:
    """Train the course's models on images of your own, so that all labs run on them."""
    from edgelab.models.adopt import adopt as adopt_images

    adopt_images(folder, models or (), minutes=minutes, pixels=pixels, again=again)


@command()
def doctor(as_json: Json = False) -> None:
    """Say whether this computer can run the labs, what will be slow, and how to mend what is missing."""
    import json

    from edgelab.doctor import as_dict, examine, render

    report = examine()
    if as_json:
        print(json.dumps(as_dict(report), indent=1))
    else:
        render(report)
    raise typer.Exit(0 if report.ok else 1)


@command()
def measure(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Files (.onnx, .tflite), models of the zoo, net.py:build.")
    ],
    dataset: Annotated[str, typer.Option(help="What they were trained on; what the labs use by default.")] = "",
    device: Annotated[str, typer.Option(metavar="CARD", help="Say whether they fit: such as L4R5.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="Threads to measure the latency with.")] = 1,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw accuracy over latency there.")] = None,
    as_json: Json = False,
) -> None:
    """Measure models on this computer: size, MACs, memory, latency with its spread, accuracy, energy.

    Files of others are welcome: they are opened in a process of its own. So is a module of your own: net.py:build
    names a function of the file net.py that returns it, perhaps with an example. All are compared to the first model.
    """
    import json

    from rich.console import Console

    from edgelab.deploy.isolated import isolated
    from edgelab.deploy.measured import find_device, measure_models, must_be_there
    from edgelab.deploy.measured_text import describe, draw
    from edgelab.measure.report import rich_table

    must_be_there(models)
    if device:
        find_device(device)
    name, found = isolated(measure_models, models, dataset, threads, device)
    if plot is not None:
        draw(found, plot)
    if as_json:
        print(json.dumps({"dataset": name, "models": {key: model.as_dict() for key, model in found.items()}}))
        return
    console = Console()
    console.print(rich_table({key: model.row for key, model in found.items()}))
    for line in describe(found, device):
        console.print(line, markup=False, highlight=False)


@command()
def table(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of your labs.")] = Path(),
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where page, CSV and pictures go.")] = Path("my-table"),
) -> None:
    """Write the table that you filled in the labs, and its Pareto fronts: a page, CSV and PNG."""
    from edgelab.explore.table_page import write_table

    print(*write_table(folder, out), sep="\n")


@command()
def enter(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A file (.onnx, .tflite), or net.py:build.")],
    name: Annotated[str, typer.Option(help="What the entry is called.")],
    division: Annotated[str, typer.Option(help="closed: the course's model and data; open: your own.")] = "closed",
    dataset: Annotated[str, typer.Option(help="What it was trained on; what the labs use by default.")] = "",
    folder: Annotated[Path | None, typer.Option(metavar="DIR", help="Where entries are kept.")] = None,
) -> None:
    """Measure a model in five fresh processes, and write its entry for the leader board."""
    from edgelab.leaderboard import enter as enter_model

    print(enter_model(model, name=name, division=division, dataset=dataset or None, folder=folder))


@command()
def leaderboard(
    entries: Annotated[Path, typer.Argument(metavar="DIR", help="A folder or a zip of what came back.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where table and page go.")],
    remeasure: Annotated[bool, typer.Option("--remeasure", help="Measure every file again on this computer.")] = False,
    dataset: Annotated[
        str, typer.Option(metavar="DIR", help="The images of open entries with data of their own.")
    ] = "",
) -> None:
    """Merge a class's entries into one table and page; interrupted, it goes on where it was (for those who teach)."""
    from edgelab.leaderboard.board import merge

    print(*merge(entries, out, remeasure=remeasure, own_data=dataset), sep="\n")


@command()
def build(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The labs folder, with its sources.")] = Path("labs"),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; list all that is stale or missing.")] = False,
    reference: Annotated[Path | None, typer.Option(metavar="DIR", help="Write notebooks with solutions there.")] = None,
    update_po: Annotated[bool, typer.Option("--update-po", help="Bring the .po files up to date first.")] = False,
) -> None:
    """Turn the labs' sources into notebooks, English and Spanish (for those who write labs)."""
    try:
        from edgelab.course import build as builder
    except ModuleNotFoundError as error:
        message = _('To build labs, install the authors\' tools: pip install "edgelab[authors]" (%(name)s is missing).')
        raise EdgelabError(message % {"name": error.name}) from error

    if update_po:
        print(*builder.update_translations(folder), sep="\n")
    if check:
        problems = builder.check(folder)
        _list(problems, nothing=_("Notebooks and translations are up to date."))
        raise typer.Exit(1 if problems else 0)
    if reference is not None:
        print(*builder.write_references(folder, reference), sep="\n")
        return
    try:
        changed = builder.build(folder)
    except builder.BuildError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error
    _list(changed, nothing=_("Everything is up to date."))


def _list(found: Sequence[object], *, nothing: str) -> None:
    print(*(found or [nothing]), sep="\n")


@command()
def grade(
    submissions: Annotated[Path, typer.Argument(metavar="SUBMISSIONS", help="A folder or a zip of what came back.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results, feedback and gradebook go.")],
    lab: Annotated[str, typer.Option(metavar="LAB", help="Grade this lab alone: its number or its name.")] = "",
    labs: Annotated[Path, typer.Option(metavar="FOLDER", help="The labs folder, with its sources.")] = Path("labs"),
    workers: Annotated[int, typer.Option(min=1, help="Submissions to run at a time.")] = 1,
    scheduler: Annotated[str, typer.Option(metavar="ADDRESS", help="A Dask scheduler, as tcp://host:8786.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="Of the hidden inputs; a new one by default.")] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox/--no-sandbox", help="Run learners' code in bubblewrap.")] = True,
) -> None:
    """Grade returned notebooks; interrupted, it goes on where it was (for those who teach)."""
    try:
        from edgelab.grading import command
        from edgelab.grading.workers import dask_workers, local_workers
    except ModuleNotFoundError as error:
        message = _('To grade, install the grading tools: pip install "edgelab[grading]" (%(name)s is missing).')
        raise EdgelabError(message % {"name": error.name}) from error

    executor = (lambda: dask_workers(scheduler)) if scheduler else (lambda: local_workers(workers))
    files = command.grade(submissions, out, labs=labs, lab=lab, workers=executor, seed=seed, sandboxed=sandbox)
    print(*files, sep="\n")


@command("new-lab")
def new_lab(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as edge_budget, or 03_edge_budget.")],
    folder: Annotated[Path, typer.Option(help="The labs folder it goes into.")] = Path("labs"),
) -> None:
    """Start a lab of your own (for those who write labs)."""
    from edgelab.course.new_lab import new_lab as write_new_lab

    print(*write_new_lab(name, folder), sep="\n")
    command = "edgelab build" if folder == Path("labs") else f"edgelab build {folder}"
    print(_("Next: %(command)s") % {"command": command})


def main() -> None:
    """Run the command line."""
    app(prog_name="edgelab")


if __name__ == "__main__":
    main()
