"""From what is found to what it means: problems that stop a lab, warnings of what is slow or untested, their cures."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgelab.course.folder import STATE
from edgelab.doctor import machine
from edgelab.doctor.packages import Package, find_pins, install_command, packages
from edgelab.errors import EdgelabError
from edgelab.i18n import _

PYTHON = (3, 11)  # the oldest, and what the tests run with
NEWEST = (3, 14)  # that the pins fit
LAB_BYTES = 1_500_000_000  # what every lab stays below, see edgelab.course.limits
COMFORTABLE_BYTES = 2_000_000_000  # a lab, its JupyterLab server and a browser tab's worth of slack
DISK_BYTES = 500_000_000  # the drawn pictures, a data set, results


@dataclass(frozen=True)
class Note:
    """Something a learner should know: what it is `about` (a word that programs may rely on), `what`, and its `cure`.

    >>> print(Note("memory", "There is little memory.", "Close other programs."))
    There is little memory. Close other programs.
    """

    about: str
    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.what} {self.cure}"


@dataclass(frozen=True)
class Report:
    """All that was found. `memory` is None where nothing tells; `data_sets` maps a name to its place, or to None."""

    packages: tuple[Package, ...]
    cores: machine.Cores
    memory: machine.Memory | None
    processor: machine.Processor
    data_sets: dict[str, Path | None]
    folder: str
    problems: tuple[Note, ...]
    warnings: tuple[Note, ...]

    @property
    def ok(self) -> bool:
        """Return whether every lab can run."""
        return not self.problems


def examine(root: Path = machine.ROOT) -> Report:
    """Return what is found on this computer; nothing is downloaded, drawn or changed.

    `root` is where /proc and /sys are looked for.
    """
    found, cores, memory = packages(), machine.cores(root), machine.memory(root)
    processor = machine.processor(root)
    data_sets, data_problems, data_warnings = _data_sets()
    problems = [*_python_problems(), *_package_problems(found), *_memory_problems(memory), *data_problems]
    warnings = [
        *_version_warnings(found),
        *_memory_warnings(memory),
        *_core_warnings(cores),
        *_load_warnings(cores),
        *_instruction_warnings(processor),
        *data_warnings,
    ]
    folder, folder_problems, folder_warnings = _working_folder()
    problems += folder_problems
    warnings += folder_warnings
    return Report(found, cores, memory, processor, data_sets, folder, tuple(problems), tuple(warnings))


def _python_problems() -> Iterator[Note]:
    if sys.version_info[:2] < PYTHON:
        names = {"version": _dotted(sys.version_info[:3]), "needed": _dotted(PYTHON)}
        text = _("This is Python %(version)s; the labs need Python %(needed)s or newer.")
        yield Note("python", text % names, _("Install Python %(needed)s, then edgelab into it.") % names)


def _package_problems(found: tuple[Package, ...]) -> Iterator[Note]:
    missing = [package.name for package in found if package.version is None]
    if missing:
        text = _("Missing packages: %(names)s.") % {"names": ", ".join(missing)}
        yield Note("packages", text, _run(install_command(missing)))
    for package in found:
        if package.failure:
            text = _("%(name)s is installed but cannot be imported: %(reason)s.")
            text %= {"name": package.name, "reason": package.failure.rstrip(".")}
            yield Note("packages", text, _run(install_command([package.name], again=True)))


def _version_warnings(found: tuple[Package, ...]) -> Iterator[Note]:
    if sys.version_info[:2] > PYTHON:
        names = {"version": _dotted(sys.version_info[:3]), "tested": _dotted(PYTHON), "newest": _dotted(NEWEST)}
        text = _(
            "This is Python %(version)s; the course is made for %(tested)s to %(newest)s, and tested with %(tested)s."
        )
        yield Note("python", text % names, _("If a lab fails, try it with Python %(tested)s.") % names)
    if find_pins() is None:
        text = _("The list of tested versions (constraints.txt) is missing, so versions were not compared.")
        yield Note("versions", text, _("Install edgelab again."))
    others = [package for package in found if package.differs]
    if others:
        text = _("Other versions than the course was tested with: %(versions)s.")
        pair = _("%(name)s %(version)s instead of %(pin)s")
        pairs = [pair % {"name": each.name, "version": each.version, "pin": each.pin} for each in others]
        text %= {"versions": ", ".join(pairs)}
        yield Note("versions", text, _run(install_command([package.name for package in others])))


def _memory_problems(memory: machine.Memory | None) -> Iterator[Note]:
    if memory and memory.total_bytes < LAB_BYTES:
        text = _("There are %(total)s of memory, and a lab may need %(needed)s.")
        text %= {"total": gigabytes(memory.total_bytes), "needed": gigabytes(LAB_BYTES)}
        yield Note("memory", text, _("Use a computer or a container with at least 2 GB."))


def _memory_warnings(memory: machine.Memory | None) -> Iterator[Note]:
    if memory is None or memory.total_bytes < LAB_BYTES:
        return
    if memory.total_bytes < COMFORTABLE_BYTES:
        text = _("There is little memory: %(total)s.") % {"total": gigabytes(memory.total_bytes)}
        yield Note("memory", text, _("Keep only one lab open: shut down a notebook's kernel when you leave it."))
    elif memory.available_bytes < LAB_BYTES:
        text = _("Other programs hold most of the memory: %(free)s are left, and a lab may need %(needed)s.")
        text %= {"free": gigabytes(memory.available_bytes), "needed": gigabytes(LAB_BYTES)}
        yield Note("memory", text, _("Close programs and notebooks that you do not need."))


def _core_warnings(cores: machine.Cores) -> Iterator[Note]:
    if cores.usable <= 1:
        text = _("There is at most one core to work with: training takes about twice as long as on two.")
        yield Note("cores", text, _more_time())
    if cores.usable < cores.allowed and "OMP_NUM_THREADS" not in os.environ:
        text = _(
            "A quota leaves you %(quota)g of %(cores)d cores: with one thread per core, threads wait for each other."
        )
        cure = _("Set OMP_NUM_THREADS=%(threads)d before you start the labs.")
        text %= {"quota": cores.usable, "cores": cores.allowed}
        yield Note("threads", text, cure % {"threads": max(1, int(cores.usable))})


def _load_warnings(cores: machine.Cores) -> Iterator[Note]:
    # The load is that of the whole computer, whatever the container: so compare it with all of its cores.
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > cores.present + 0.5:
        text = _("Other programs keep the processor busy: measured times will scatter.")
        yield Note("load", text, _("Close them before you measure latency."))


def _instruction_warnings(processor: machine.Processor) -> Iterator[Note]:
    if processor.instructions is None:
        return
    found = set(processor.instructions)
    if processor.architecture.lower() in ("x86_64", "amd64") and "AVX2" not in found:
        text = _("This processor has no AVX2: every model runs several times slower than on one that has.")
        yield Note("avx2", text, _more_time())
    if not found & machine.INT8:
        text = _("This processor has no integer instructions for int8 (VNNI, AMX or dotprod).")
        yield Note("int8", text, _("Expect a quantized model to be smaller here, but hardly faster."))
        if processor.architecture.lower() in ("x86_64", "amd64"):
            text = _(
                "Without VNNI, ONNX Runtime's fast int8 kernels let sums saturate and give other answers than the "
                "quantized model: edgelab asks it for its exact ones, which cost a little time."
            )
            cure = _("In a program of your own, set the session's entry session.x64quantprecision to 1.")
            yield Note("int8", text, cure)
    if not found & machine.BFLOAT16:
        text = _("This processor has no bfloat16 instructions: training takes about twice as long as with them.")
        yield Note("bfloat16", text, _more_time())


def _data_sets() -> tuple[dict[str, Path | None], list[Note], list[Note]]:
    """Return the data sets and where they are, then problems and warnings about them."""
    try:
        from edgelab import data  # imports torch; where that fails, the packages' problems say so
        from edgelab.data.adopted import adopted_dir
    except Exception:  # a broken package raises what it likes
        return {}, [], []
    try:
        found = data.available()
    except EdgelabError:
        text = _("The templates of the road signs, from which the pictures are drawn, are missing.")
        return {}, [Note("data", text, _("Install edgelab again."))], []
    problems, warnings = [], []
    cache = data.data_dir()
    nearest = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    signs = found["signs"]
    failure = None if signs is not None and signs.is_file() else _write_failure(nearest)
    if failure:
        text = _("The folder %(folder)s, where pictures are kept, cannot be written (%(reason)s).")
        cure = _("Set EDGELAB_DATA to a folder of your own.")
        problems.append(Note("data", text % {"folder": cache, "reason": failure}, cure))
    chosen = os.environ.get("EDGELAB_DATASET", "")
    if chosen in found and found[chosen] is None:
        text = _("EDGELAB_DATASET asks for %(name)s, which is not on this computer yet.") % {"name": chosen}
        warnings.append(Note("data", text, _("Stay connected for the first lab: it downloads it.")))
    elif chosen and chosen not in found and not Path(chosen).expanduser().is_dir():
        text = _("EDGELAB_DATASET is %(name)s: there is neither a data set nor a folder of that name.")
        cure = _("Set it to one of %(names)s, or to a folder of images.") % {"names": ", ".join(found)}
        problems.append(Note("data", text % {"name": chosen}, cure))
    elif chosen not in ("", "signs", "fashion-mnist") and not (adopted_dir(chosen) / "manifest.json").is_file():
        text = _("No model was trained on the images of %(name)s yet: the labs cannot run on them.")
        cure = _("Train the models: %(command)s") % {"command": f"edgelab adopt {chosen}"}
        warnings.append(Note("data", text % {"name": chosen}, cure))
    return found, problems, warnings


def _working_folder() -> tuple[str, list[Note], list[Note]]:
    """Return the working directory, then problems and warnings about writing there and in the course's state folder."""
    try:
        here = Path.cwd()
    except OSError as error:  # somebody deleted it
        return ".", [_unwritable(".", error.strerror or str(error))], []
    state = next((folder / STATE for folder in (here, *here.parents) if (folder / STATE).is_dir()), here)
    for folder in (here, state):
        if failure := _write_failure(folder):
            return str(here), [_unwritable(folder, failure)], []
    free = shutil.disk_usage(here).free
    if free >= DISK_BYTES:
        return str(here), [], []
    text = _("The disk of %(folder)s is almost full: %(free)s are left.")
    note = Note("disk", text % {"folder": here, "free": gigabytes(free)}, _("Make room for pictures and results."))
    return str(here), [], [note]


def _unwritable(folder: Path | str, reason: str) -> Note:
    text = _("The folder %(folder)s cannot be written (%(reason)s): your work could not be saved.")
    return Note("folder", text % {"folder": folder, "reason": reason}, _("Start the labs in a folder of your own."))


def _write_failure(folder: Path) -> str | None:
    """Return why no file can be written in `folder`, or None; trying is the only sure way to know."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"edgelab")
    except OSError as error:
        return error.strerror or str(error)
    return None


def gigabytes(count: int) -> str:
    """Return bytes in words.

    >>> gigabytes(2_147_483_648)
    '2.1 GB'
    """
    return f"{count / 1e9:.1f} GB"


def _more_time() -> str:
    return _("Plan more time for the cells that train.")


def _run(command: str) -> str:
    return _("Run: %(command)s") % {"command": command}


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
