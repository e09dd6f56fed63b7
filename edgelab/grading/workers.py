"""Who runs the submissions: processes of this machine, or of a Dask cluster. One flag is the difference."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.process import BaseProcess

from edgelab.errors import EdgelabError
from edgelab.i18n import _

Workers = AbstractContextManager[tuple[Executor, int]]  # and how many jobs to hand out at a time


@contextmanager
def local_workers(count: int) -> Iterator[tuple[Executor, int]]:
    """Yield an executor of `count` processes, which end with this one, however it ends."""
    context = multiprocessing.get_context("spawn")
    workers = ProcessPoolExecutor(count, mp_context=context, initializer=_begin_worker)
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
