"""Make the course's site: `python -m edgelab.site`, or `make site`.

Labs are executed once, and again only when something that they show has changed. One that stops with an error is named
at the end, has its page without outputs, and keeps no other from being made.
"""

import functools
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from edgelab.course import build
from edgelab.errors import EdgelabError
from edgelab.site.execute import Run, run
from edgelab.site.sources import LANGUAGES, write_sources

ROOT = Path(__file__).parents[2]


def execute_all(sources: list[Path], langs: list[str], cache: Path) -> list[Run]:
    """Return every lab executed in each language, under a bar that names the lab; what is kept takes no time."""
    runs = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        everything = bars.add_task("labs", total=len(sources) * len(langs))
        for source in sources:
            for lang in langs:
                cells = bars.add_task(f"{source.stem} ({lang})", total=None)
                runs.append(run(source, lang, cache, on_cell=functools.partial(_show, bars, cells)))
                bars.remove_task(cells)
                bars.advance(everything)
    return runs


def _show(bars: Progress, task: TaskID, done: int, total: int) -> None:
    bars.update(task, completed=done, total=total)


def render(source: Path, target: Path, lang: str, *, builder: str = "html", some: bool = False) -> bool:
    """Have Sphinx make the pages of one language; return whether it had nothing to warn of.

    With `some` of the labs, those that are left out are missed by none.
    """
    docs = ROOT / "docs"
    options = ["-t", lang, "-D", f"language={lang}", "--fail-on-warning", "--quiet", "--jobs", "auto"]
    options += ["-D", "suppress_warnings=mystnb.unknown_mime_type,myst.header,myst.xref_missing"] if some else []
    trees = ["--doctree-dir", str(source.parent / f"trees-{lang}")]
    command = [sys.executable, "-m", "sphinx", "--builder", builder, "--conf-dir", str(docs), *options, *trees]
    return subprocess.run([*command, str(source), str(target)]).returncode == 0


def main(
    labs: Annotated[list[str] | None, typer.Argument(metavar="[LAB]...", help="01_edge_budget; default: all.")] = None,
    out: Annotated[Path, typer.Option(help="Where the site is written.")] = ROOT / "build" / "site",
    cache: Annotated[
        Path | None, typer.Option(help="Where executed labs are kept; default: the user's cache folder.")
    ] = None,
    builder: Annotated[str, typer.Option(help="html, or linkcheck: ask every link to the outside.")] = "html",
) -> None:
    """Make the course's site in both languages: executed labs, glossary, reference, a search."""
    console = Console(stderr=True, soft_wrap=True)
    try:
        sources = {path.stem: path for path in build.sources(ROOT / "labs")}
        unknown = set(labs or []) - sources.keys()
        if unknown:
            raise EdgelabError(f"There is no lab {', '.join(sorted(unknown))}. The labs are: {', '.join(sources)}.")
        chosen = [sources[name] for name in labs or sources]
        runs = execute_all(chosen, list(LANGUAGES), cache or platformdirs.user_cache_path("edgelab") / "site")
        clean = True
        for lang in LANGUAGES:
            folder = out / "sources" / lang
            write_sources(ROOT / "docs", ROOT / "labs", [one for one in runs if one.lang == lang], folder)
            target = out / ("html" if builder == "html" else builder) / ("" if lang == "en" else lang)
            clean &= render(folder, target, lang, builder=builder, some=bool(labs))
    except EdgelabError as error:
        console.print(str(error), highlight=False, style="red")
        raise typer.Exit(2) from error
    failed = [one for one in runs if one.failure]
    for one in failed:
        console.print(f"{one.lab} ({one.lang}) was not executed to its end: {one.failure}", style="red")
    if builder == "html":
        print(f"The site: {out / 'html' / 'index.html'}")
    raise typer.Exit(0 if clean and not failed else 1)


if __name__ == "__main__":
    typer.run(main)
