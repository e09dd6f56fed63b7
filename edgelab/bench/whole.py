"""Trainings whose figures are reported: all of one, or none."""

from typing import Any

from edgelab.train import History, fit


def fit_whole(*args: Any, **options: Any) -> History:
    """Train as `edgelab.train.fit` does. One that Ctrl-C or a limit of time has cut short is no result: it ends all."""
    return whole(fit(*args, **options))


def whole(history: History) -> History:
    """Return `history`; raise `KeyboardInterrupt` where its training was interrupted."""
    if history.interrupted:
        raise KeyboardInterrupt
    return history
