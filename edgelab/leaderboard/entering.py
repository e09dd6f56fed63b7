"""Enter a model: measure it, and keep the row and the file side by side, to be handed in."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from edgelab import data
from edgelab.course.folder import make_folder, state_dir, write_whole
from edgelab.deploy.isolated import isolated
from edgelab.deploy.measured import SUFFIXES, must_be_there
from edgelab.deploy.own_module import export_own, split_name
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.leaderboard.entry import FILE, OWN, Entry, Figures, must_be_a_division, must_be_a_name
from edgelab.leaderboard.gate import gate
from edgelab.leaderboard.origin import dataset_sha256, environment, package_sha256, package_version
from edgelab.leaderboard.scoring import baseline_file, score
from edgelab.models.zoo import sha256

FOLDER = "leaderboard"


def enter(
    path: str | Path,
    *,
    name: str,
    division: str = "closed",
    dataset: str | Path | data.Dataset | None = None,
    folder: str | Path | None = None,
) -> Entry:
    """Measure a model as `edgelab measure` does, in five fresh processes, and return its row of the leader board.

    Args:
        path: an `.onnx` or `.tflite` file; or `net.py:build`, a function of your own that returns a module, which is
            written as ONNX first.
        name: what the entry is called; one of the same name is replaced.
        division: "closed" for the course's model on the course's data, "open" for a model or data of your own.
        dataset: what it was trained on, as `data.load` gives it or takes it.
        folder: where entries are kept; by default `leaderboard` in the learner's folder.

    The row and the file are written to `folder/name`, when all is measured and at one stroke: Ctrl-C leaves nothing
    half written. Nothing is refused for its accuracy; the row says on which side of the gate it is.

    Raises:
        EdgelabError: there is no such file, name, division or data set; the closed division has no baseline for the
            data; the file cannot be run; or the folder cannot be written.
    """
    must_be_a_name(name)
    must_be_a_division(division)
    if Path(path).suffix not in SUFFIXES and split_name(str(path)) is None:
        raise EdgelabError(_("%(path)s is neither an .onnx nor a .tflite file, nor net.py:function.") % {"path": path})
    must_be_there([str(path)])
    loaded = data.load(dataset.name if isinstance(dataset, data.Dataset) else dataset)  # as the processes will load it
    if division == "closed" and gate(loaded.name) is None:
        raise EdgelabError(
            _('The course has no baseline for %(dataset)s: enter it with division="open".') % {"dataset": loaded.name}
        )
    target = make_folder(state_dir().parent / FOLDER if folder is None else Path(folder))
    with tempfile.TemporaryDirectory(dir=target, prefix=".entering-") as temporary:
        written = Path(temporary, "entry")
        written.mkdir()
        model = _bring(path, written, loaded.name, name)
        figures = score(model, loaded.name, baseline_file(loaded.name, model.suffix, Path(temporary)))
        entry = _entry(name, division, loaded, model, figures)
        write_whole(written / FILE, entry.as_json())
        _put_in_place(written, target / name, Path(temporary))
    return entry


def _bring(path: str | Path, folder: Path, dataset: str, name: str) -> Path:
    """Return the file to be measured, in `folder`: a copy, so that what is measured is what is handed in."""
    if split_name(str(path)) is not None:
        model = folder / f"{name}.onnx"
        isolated(export_own, str(path), dataset, str(model))
        return model
    model = folder / Path(path).name
    try:
        shutil.copyfile(path, model)
    except OSError as error:
        words = {"path": path, "reason": error.strerror or error}
        raise EdgelabError(_("%(path)s cannot be copied: %(reason)s.") % words) from None
    return model


def _entry(name: str, division: str, loaded: data.Dataset, model: Path, figures: Figures) -> Entry:
    return Entry(
        name=name,
        division=division,
        dataset=loaded.name if loaded.name in data.NAMES else OWN + Path(loaded.name).name,  # a path tells who one is
        file=model.name,
        sha256=sha256(model),
        dataset_sha256=dataset_sha256(loaded),
        edgelab=package_version(),
        edgelab_sha256=package_sha256(),
        environment=environment(),
        figures=figures,
    )


def _put_in_place(written: Path, place: Path, temporary: Path) -> None:
    """Give the new entry its name; an older one goes with the temporary folder."""
    try:
        if place.exists():
            os.replace(place, temporary / "before")
        os.replace(written, place)
    except OSError as error:
        words = {"folder": place, "reason": error.strerror or error}
        raise EdgelabError(
            _("The folder %(folder)s cannot be written (%(reason)s). Choose another folder.") % words
        ) from None
