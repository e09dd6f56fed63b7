"""`edgelab adopt`: the course's models, trained on the learner's own images.

What is trained lies with the images, so that it goes where they go; each epoch is kept, and whoever stops the training,
or switches off the computer, loses one at most.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgelab import data, resuming
from edgelab.bars import track
from edgelab.data import adopted
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.models.retrain import record, shape, train_checkpoint, validation_images
from edgelab.models.zoo import RECIPES, SHAPES, adopted_manifest
from edgelab.numbers import number
from edgelab.train import fit

FEWEST_EPOCHS, MOST_EPOCHS = 4, 100
ENOUGH = {"train": 2_000, "test": 1_000}  # images that the labs speak of; lab 04 learns from 12,000
_SIGNS = 11_000  # images, which the recipes' epochs for `signs` are meant for


@dataclass(frozen=True)
class Job:
    """A model to train: so many epochs, `done` of which are kept already, and what one of them takes, in s."""

    name: str
    epochs: int
    done: int
    epoch_seconds: float

    @property
    def seconds(self) -> float:
        """Return what is left of it."""
        return (self.epochs - self.done) * self.epoch_seconds


def adopt(
    dataset: str,
    names: Sequence[str] = (),
    *,
    minutes: float | None = None,
    pixels: int | None = None,
    again: bool = False,
) -> None:
    """Train the course's models on a folder of images, or on CIFAR-10, and say what was read and how long it will take.

    Args:
        dataset: a folder with train/<class>/ and test/<class>/ in it, or "cifar10".
        names: models of the zoo; all of them when none is named. What is trained already is left as it is.
        minutes: how long the training may take, about; the recipes' own epochs without it.
        pixels: how wide and high the pictures shall be, 24 to 96.
        again: read the images anew, and train anew what is trained already.

    Raises:
        EdgelabError: if there are no such images or models, or the folder cannot be written to.
        KeyboardInterrupt: on Ctrl-C; the same call goes on from the last whole epoch.
    """
    names = _known(names)
    loaded, digest = _taken(dataset, pixels, again)
    place = adopted.adopted_dir(loaded.name)
    finished = (
        {} if again else {key: one for key, one in adopted_manifest(loaded.name).items() if one["data"] == digest}
    )
    for name in names:
        if name in finished:
            text = _("%(name)s is trained already: accuracy %(accuracy).2f %%.")
            print(text % {"name": name, "accuracy": 100 * finished[name]["accuracy"]})
        elif again:
            _state(place, name).unlink(missing_ok=True)
    jobs = plan(loaded, [name for name in names if name not in finished], place, minutes)
    _announce(jobs, minutes)
    for job in jobs:
        print(_("%(name)s, epochs: %(epochs)d") % {"name": job.name, "epochs": job.epochs}, flush=True)
        state, file = _state(place, job.name), place / f"{job.name}.safetensors"
        entry = train_checkpoint(job.name, loaded, file, job.epochs, resume=state)
        record(place, job.name, {**entry, "shape": shape(loaded), "data": digest})
        state.unlink(missing_ok=True)
        text = _("%(name)s: accuracy %(accuracy).2f %% on the test images")
        print(text % {"name": job.name, "accuracy": 100 * entry["accuracy"]}, flush=True)
        _warn_of_guessing(loaded, entry["accuracy"])
    missing = [name for name in RECIPES if name not in adopted_manifest(loaded.name)]
    if missing:
        print(_("Some labs ask for models that are not trained yet: %(names)s.") % {"names": ", ".join(missing)})
    print(_("The labs on these images: %(command)s") % {"command": f"EDGELAB_DATASET={loaded.name} edgelab lab"})


def _finished(dataset: str, digest: str, names: Sequence[str]) -> dict[str, float]:
    """Return the accuracy of each model that is trained on these pictures, and is not being trained again."""
    place = adopted.adopted_dir(dataset)
    return {
        name: entry["accuracy"]
        for name, entry in adopted_manifest(dataset).items()
        if name in names and entry["data"] == digest and not _state(place, name).exists()
    }


def plan(loaded: data.Dataset, names: Sequence[str], place: Path, minutes: float | None) -> list[Job]:
    """Return the trainings to do, begun ones first, each with its epochs: the recipe's, or fewer to stay in `minutes`.

    A training that has begun keeps its number of epochs.
    """
    jobs = []
    for name in track(names, _("trying how long an epoch takes"), unit=_("model")):
        seconds = epoch_seconds(name, loaded)
        done, epochs = resuming.progress(_state(place, name)) or (0, _epochs(name, loaded))
        jobs.append(Job(name, epochs, done, seconds))
    free = sum(job.seconds for job in jobs if not job.done)
    if minutes is not None and free:
        share = (60 * minutes - sum(job.seconds for job in jobs if job.done)) / free
        jobs = [
            job if job.done else Job(job.name, max(1, min(job.epochs, int(job.epochs * share))), 0, job.epoch_seconds)
            for job in jobs
        ]
    return sorted(jobs, key=lambda job: not job.done)


def epoch_seconds(name: str, loaded: data.Dataset) -> float:
    """Return what an epoch of a model takes on this computer, in s: a few batches are tried, and none is kept."""
    held = validation_images(loaded)
    model = RECIPES[name].build(**shape(loaded))
    sample = loaded.train[:128]
    took = []
    for _round in range(2):  # the first one warms up
        start = time.perf_counter()
        fit(copy.deepcopy(model), sample, epochs=1, progress=False)
        took.append(time.perf_counter() - start)
    trained = len(loaded.train) - held
    return min(took) / len(sample) * (trained + held / 3)  # an image is judged in a third of the time


def _epochs(name: str, loaded: data.Dataset) -> int:
    """Return the recipe's epochs for `signs`, more of a smaller data set and fewer of a larger one."""
    wanted = RECIPES[name].epochs["signs"] * _SIGNS / max(1, len(loaded.train) - validation_images(loaded))
    return max(FEWEST_EPOCHS, min(MOST_EPOCHS, math.ceil(wanted)))


def ready(dataset: str) -> str:
    """Return the name by which labs in any folder find a data set: of a folder, its whole path.

    Raises:
        EdgelabError: if there is no such data set, or no model was trained on it.
    """
    if dataset in SHAPES:
        return dataset
    if dataset != "cifar10" and not Path(dataset).expanduser().is_dir():
        text = _("EDGELAB_DATASET is %(name)s: there is neither a data set nor a folder of that name.")
        raise EdgelabError(text % {"name": dataset})
    if not adopted_manifest(dataset):
        text = _("No model was trained on %(name)s yet: run `%(command)s` first.")
        raise EdgelabError(text % {"name": dataset, "command": f"edgelab adopt {dataset}"})
    return dataset if dataset == "cifar10" else str(Path(dataset).expanduser().resolve())


def _known(names: Sequence[str]) -> list[str]:
    """Return the models that were named, all of them for none."""
    strangers = [name for name in names if name not in RECIPES]
    if strangers:
        text = _("There is no model %(name)s. There are: %(known)s.")
        raise EdgelabError(text % {"name": strangers[0], "known": ", ".join(RECIPES)})
    return list(dict.fromkeys(names)) or list(RECIPES)


def _taken(dataset: str, pixels: int | None, again: bool) -> tuple[data.Dataset, str]:
    """Return the data set, its pictures read if they were not yet, and their digest; say what was read."""
    if dataset in SHAPES:
        text = _("The models for %(dataset)s ship with the course: EDGELAB_DATASET=%(dataset)s edgelab lab")
        raise EdgelabError(text % {"dataset": dataset})
    if dataset == "cifar10":
        loaded = data.load(dataset)
        return loaded, adopted.pictures_digest(loaded.train, loaded.test)
    folder = Path(dataset).expanduser()
    if not folder.is_dir():
        text = _("There is no folder %(folder)s. Give one with train/ and test/ in it, or cifar10.")
        raise EdgelabError(text % {"folder": folder})
    known = None if again else adopted.about(folder)
    if known is not None and pixels not in (None, known.pixels):
        text = _("The images of %(folder)s were read at %(pixels)d pixels: add --again to read them anew.")
        raise EdgelabError(text % {"folder": folder, "pixels": known.pixels})
    known = known or adopted.take(folder, pixels)
    print(*adopted.report(folder, known), sep="\n")
    for half, count in (("train", sum(known.train)), ("test", sum(known.test))):
        if count < ENOUGH[half]:
            text = _("%(half)s/ has %(n)s images; the labs speak of %(enough)s: expect wide intervals.")
            print(text % {"half": half, "n": number(count), "enough": number(ENOUGH[half])})
    loaded = data.load(folder)
    return loaded, known.digest


def _announce(jobs: Sequence[Job], minutes: float | None) -> None:
    """Say how long the trainings will take, before the first one begins."""
    if not jobs:
        return
    total = sum(job.seconds for job in jobs)
    each = ", ".join(f"{job.name} {_duration(job.seconds)}" for job in jobs)
    print(_("Training will take about %(total)s (%(each)s).") % {"total": _duration(total), "each": each})
    begun = [f"{job.name} {job.done}/{job.epochs}" for job in jobs if job.done]
    if begun:
        print(_("It goes on where it was: %(jobs)s epochs.") % {"jobs": ", ".join(begun)})
    if minutes is not None and total > 66 * minutes:
        print(_("That is more than %(minutes)g minutes: each model needs one epoch at least.") % {"minutes": minutes})
    print(_("Ctrl-C stops it, and loses one epoch at most: `edgelab adopt` without --again goes on."), flush=True)


def _warn_of_guessing(loaded: data.Dataset, accuracy: float) -> None:
    """Say so where a model is little better than the answer that is most often right."""
    guess = loaded.test.labels.bincount().max().item() / len(loaded.test)
    if accuracy < guess + 0.1 * (1 - guess):
        text = _(
            "Always naming the same class would be right in %(guess).2f %%: comparisons in the labs will say little. "
            "Train longer, with --again and more --minutes, or on more images."
        )
        print(text % {"guess": 100 * guess}, flush=True)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{max(1, math.ceil(seconds))} s"


def _state(place: Path, name: str) -> Path:
    return place / f"{name}.training"
