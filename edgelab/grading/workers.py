"""Who runs the submissions: processes of this machine, or of a Dask cluster. One flag is the difference."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.interrupts import ctrl_c_waits

Workers = AbstractContextManager[tuple[Executor, int]]  # and how many jobs to hand out at a time


class _Workers(ProcessPoolExecutor):
    """Processes that are begun whole: one that Ctrl-C cuts off on its way would end with a traceback of its own."""

    def submit(self, *args: Any, **options: Any) -> Future:  # where processes are begun
        with ctrl_c_waits():
            return super().submit(*args, **options)


@contextmanager
def local_workers(count: int) -> Iterator[tuple[Executor, int]]:
    """Yield an executor of `count` processes, which end with this one, however it ends."""
    context = multiprocessing.get_context("spawn")
    workers = _Workers(count, mp_context=context, initializer=_begin_worker)
    try:
        yield workers, count  # with more, a worker that is told to end would first begin another
    except BaseException:
        for process in multiprocessing.active_children():  # Ctrl-C: what they are at is lost, and graded another time
            process.terminate()
        workers.shutdown(cancel_futures=True)
        raise
    workers.shutdown()


@contextmanager
def dask_workers(address: str) -> Iterator[tuple[Executor, int]]:
    """Yield an executor on a Dask cluster; every worker sees the same folders and has the same edgelab."""
    try:
        import dask
        from distributed import Client
    except ModuleNotFoundError as error:
        message = _('To grade on a cluster, install Dask: pip install "edgelab[cluster]" (%(name)s is missing).')
        raise EdgelabError(message % {"name": error.name}) from error

    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise EdgelabError(_("No Dask scheduler answers at %(address)s.") % {"address": address}) from error
    # A task whose worker died is ours to try again; with Dask's own retries it could be graded twice.
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), client:
        yield client.get_executor(retries=0, pure=False), 2 * max(1, sum(client.nthreads().values()))


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that hands out the work
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a run is cleared away
    if (parent := multiprocessing.parent_process()) is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
