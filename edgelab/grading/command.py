"""`edgelab grade`: check that it can be done, do what is left, and write the gradebook."""

import functools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edgelab.course import build
from edgelab.course.folder import make_folder
from edgelab.course.source import read_source
from edgelab.errors import EdgelabError
from edgelab.grading import gradebook, sandbox, session
from edgelab.grading.collect import collect
from edgelab.grading.limits import Limits
from edgelab.grading.mark import in_words
from edgelab.grading.reference import Reference, points, reference
from edgelab.grading.results import Results, only_grader
from edgelab.grading.run import InfrastructureError, sweep
from edgelab.grading.workers import Workers
from edgelab.i18n import _, ngettext


def grade(
    submissions: Path,
    out: Path,
    *,
    labs: Path,
    lab: str = "",
    workers: Callable[[], Workers],
    seed: int | None = None,
    sandboxed: bool = True,
    limits: Limits | None = None,
) -> list[Path]:
    """Grade all submissions that are not graded yet, write the gradebooks into `out`, and return their files.

    Args:
        submissions: a folder or a zip file, as `collect` reads it.
        out: the folder of this grading: results, feedback, gradebooks.
        labs: the folder whose `source` holds the labs.
        lab: the one lab to grade, by name or number; all by default.
        workers: who runs the submissions.
        seed: of the hidden inputs; by default the one that this grading has had, or a new one.
        sandboxed: whether kernels run in bubblewrap.
        limits: what one submission may take.

    Raises:
        EdgelabError: it cannot be done; or what is wrong with a source, a reference or the marks made by hand.
    """
    sources = {source.stem: source for source in build.sources(labs)}
    only = _one_lab(lab, sources) if lab else ""
    limits = limits or Limits()
    make_folder(out)
    if sandboxed:
        sandbox.check_works()
        sandbox.check_separate([submissions, out, labs / "source"])
    else:
        print(
            _("Without the sandbox, learners' code can read your files and the expected answers, and use the network.")
        )
    sweep()
    with only_grader(out):
        results = Results(out)
        seed = session.seed_of(out, seed)
        dataset = os.environ.get("EDGELAB_DATASET", "")

        @functools.cache
        def prepared(name: str) -> Reference:
            return _prepare(sources[name], seed, limits, out, dataset, sandboxed)

        left = session.plan(
            collect(submissions), sources, prepared, results, only=only, limits=limits, out=out, dataset=dataset
        )
        names = {row["lab"] for row in (*results.rows.values(), *left.known)}
        names |= {job.reference.lab for job in left.jobs}
        possible = {name: points(read_source(source)) for name, source in sources.items() if name in names}
        manual = gradebook.read_manual(out, possible)
        try:
            for row in left.known:
                results.add(row)
            _say(left)
            if left.jobs:
                with _progress(len(left.jobs)) as advance:
                    session.carry_out(left.jobs, results, workers, advance)
        except KeyboardInterrupt:
            print(_("The gradebook holds what was graded so far. The same command goes on from there."), flush=True)
            raise
        finally:
            files = gradebook.write(out, results.rows, possible, manual)
        _say_statuses(results)
        _say_unmatched(out, manual, results)
        return files


def _one_lab(wanted: str, sources: Mapping[str, Path]) -> str:
    found = [name for name in sources if wanted.zfill(2) in (name, *name.split("_", 1))]
    if not found:
        names = {"lab": wanted, "labs": ", ".join(sources)}
        raise EdgelabError(_("There is no lab %(lab)s. The labs are: %(labs)s.") % names)
    return found[0]


def _prepare(source: Path, seed: int, limits: Limits, out: Path, dataset: str, sandboxed: bool) -> Reference:
    """Return a lab's reference, after a line that says what takes so long."""
    print(_("%(lab)s: preparing the reference ...") % {"lab": source.stem}, flush=True)
    if sandboxed and "data.load(" in source.read_text("utf-8"):
        # A sandboxed kernel can read the cache of data sets, and not fill it.
        subprocess.run([sys.executable, "-c", "from edgelab import data; data.load()"], capture_output=True)
    try:
        return reference(
            source, seed=seed, limits=limits, cache=out / ".reference", dataset=dataset, sandboxed=sandboxed
        )
    except InfrastructureError as error:
        message = _("The reference of %(lab)s could not be run: %(reason)s")
        raise EdgelabError(message % {"lab": source.stem, "reason": error}) from error


def _say(left: session.Plan) -> None:
    count = len(left.jobs)
    text = ngettext("%(count)d submission to grade", "%(count)d submissions to grade", count) % {"count": count}
    if left.kept:
        text += ", " + _("already graded and unchanged: %(kept)d") % {"kept": left.kept}
    print(f"{text}.", flush=True)


def _say_unmatched(out: Path, manual: gradebook.Manual, results: Results) -> None:
    """Name the marks made by hand that count for nobody (a name is misspelt, most likely), or for namesakes."""
    rows = results.rows.values()
    handed_in = Counter((row["learner"], user, row["lab"]) for row in rows for user in {row["user"], ""})
    for learner, user, lab, _exercise in manual:
        if (count := handed_in[learner, user, lab]) == 1:
            continue
        message = _("%(path)s has a mark for %(learner)r in %(lab)r: it counts for all %(count)d of that name.")
        if not count:
            message = _("%(path)s has a mark for %(learner)r in %(lab)r, and nothing like that was handed in.")
        print(message % {"path": out / gradebook.MANUAL, "learner": learner, "lab": lab, "count": count})


def _say_statuses(results: Results) -> None:
    counts: dict[str, int] = {}
    for row in results.rows.values():
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    for status, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        print(f"{count:6d}  {in_words(status, _)}")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Yield what to call after each submission; a bar with an estimate shows it, where there is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(_("Grading"), total=total)
        yield lambda: bar.advance(task)
