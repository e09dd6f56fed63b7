"""Work on files of strangers in a process of its own, with limits: a crash there is one sentence here.

A runtime trusts its file. One that is damaged, or made to, may have it read out of bounds, loop for ever, or take all
memory; no exception tells of that.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from edgelab.errors import EdgelabError, first_line
from edgelab.i18n import _

SECONDS = 600  # without a sign of life
_MEMORY_SHARE = 0.8  # of the computer's


def isolated(work: Callable[..., Any], *args: object, seconds: float = SECONDS) -> Any:
    """Return what `work(say, *args)` returns in a process of its own; `say(place)` tells what it is working on.

    Raise `EdgelabError` as `work` does, and for a crash, too much memory, or so many `seconds` since the last `say`,
    naming the place.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, work, args), daemon=True)
    process.start()
    theirs.close()
    place, done = "", False
    try:
        while ours.poll(seconds if place else SECONDS):  # until the first word it is only getting ready
            kind, content = ours.recv()
            if kind == "place":
                place = content
            elif kind == "result":
                done = True
                return content
            else:
                raise EdgelabError(content)
        raise EdgelabError(
            _("%(path)s took more than %(seconds)s s: stopped.") % {"path": place, "seconds": round(seconds)}
        )
    except EOFError:
        process.join()
        code = process.exitcode or 0
        reason = signal.Signals(-code).name if code < 0 else str(code)
        raise EdgelabError(
            _("%(path)s makes its runtime crash (%(reason)s).") % {"path": place, "reason": reason}
        ) from None
    finally:
        process.join(5 if done else 0)  # it may have to clear up after itself
        process.kill()
        process.join()
        ours.close()


def _child(pipe: Connection, work: Callable[..., Any], args: tuple) -> None:
    place = ""

    def say(now: str) -> None:
        nonlocal place
        place = now
        pipe.send(("place", now))

    try:
        _limit_memory()
        pipe.send(("result", work(say, *args)))
    except EdgelabError as error:
        pipe.send(("error", str(error)))
    except MemoryError:
        pipe.send(("error", _("%(path)s takes more memory than this computer has.") % {"path": place}))
    except Exception as error:  # whatever a reader makes of a damaged file
        text = _("%(path)s cannot be measured: %(reason)s")
        pipe.send(("error", text % {"path": place, "reason": first_line(error)}))


def _limit_memory() -> None:
    if sys.platform != "linux":
        return
    import resource

    import psutil

    most = int(_MEMORY_SHARE * psutil.virtual_memory().total)
    _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:  # in the grader's sandbox there is one already, and no way above it
        most = min(most, hard)
    with contextlib.suppress(ValueError, OSError):  # the grader's sandbox has limits, and lets nobody set others
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
