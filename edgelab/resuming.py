"""A training that goes on where it was: what `train.fit` leaves on disk after each epoch, and takes up again.

The file holds the weights, the optimizer, its schedule and the state of torch's generator, so that a training taken up
again draws the same batches, and ends with the same weights, as one that nobody stopped.
"""

import pickle
import sys
from pathlib import Path
from typing import Any

import torch

from edgelab.data.storage import atomic_write
from edgelab.i18n import _
from edgelab.interrupts import ctrl_c_waits


class Keeper:
    """Keeps the `parts` of a training, by name (each with a `state_dict`), at `path`; with None it keeps nothing.

    `plan` are the options, "epochs" among them, that a training must share to go on from there; `epochs` tells how many
    are kept.
    """

    def __init__(self, path: Path | None, plan: dict[str, Any], parts: dict[str, Any]):
        self.path, self.plan, self.parts, self.epochs = path, plan, parts, 0

    def take_up(self) -> dict[str, Any] | None:
        """Put the parts and torch's generator back to the end of the last whole epoch; return what `keep` was given.

        None where nothing is kept. A file that is damaged, or of another plan, is told of and not used.
        """
        state = None if self.path is None else _read(self.path)
        if state is None:
            return None
        if state["plan"] != self.plan:
            text = _("%(file)s is of a training with other options: this one begins at the beginning.")
            print(text % {"file": self.path}, file=sys.stderr)
            return None
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        torch.set_rng_state(state["generator"])
        self.epochs = state["epochs"]
        return state["more"]

    def keep(self, epochs: int, **more: Any) -> None:
        """Write what `epochs` whole epochs have reached, and `more`, whole or not at all."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "plan": self.plan,
            "epochs": epochs,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
            "generator": torch.get_rng_state(),
            "more": more,
        }
        with ctrl_c_waits():  # torch's writer, stopped in the middle, makes another error of it
            with atomic_write(self.path) as file:
                torch.save(state, file)
            self.epochs = epochs


def progress(path: Path) -> tuple[int, int] | None:
    """Return how many epochs of how many the training at `path` has done, or None where there is none."""
    state = _read(path)
    return None if state is None else (state["epochs"], state["plan"]["epochs"])


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError):
        text = _("%(file)s is damaged: this training begins at the beginning.")
        print(text % {"file": path}, file=sys.stderr)
        return None
