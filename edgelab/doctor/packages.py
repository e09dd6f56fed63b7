"""The packages that the labs import: which are here, and which versions the course was tested with."""

from __future__ import annotations

import importlib
import shlex
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import edgelab
from edgelab.errors import EdgelabError
from edgelab.i18n import _

PINS = "constraints.txt"
# Compiled parts may fail to load though the package is installed: a missing system library, two builds that disagree.
_COMPILED = ("torch", "torchvision", "onnxruntime")


@dataclass(frozen=True)
class Package:
    """A package that the labs import; `version` is None where it is missing, `pin` where no version is pinned.

    `failure` is what importing it raised, where it is there and cannot be imported.
    """

    name: str
    version: str | None
    pin: str | None
    failure: str | None = None

    @property
    def differs(self) -> bool:
        """Return whether another version than the pinned one is here; `2.13.0+cpu` is a build of 2.13.0."""
        if self.version is None or self.pin is None:
            return False
        return self.version.partition("+")[0] != self.pin


def packages() -> tuple[Package, ...]:
    """Return what edgelab requires, as its own metadata says (its optional extras left out)."""
    pins = read_pins(find_pins())
    return tuple(_package(name, pins.get(canonicalize_name(name))) for name in required())


def required() -> tuple[str, ...]:
    """Return the names of the packages that edgelab requires, without extras.

    Raises:
        EdgelabError: if edgelab runs from a folder, without being installed.
    """
    try:
        lines = metadata.requires("edgelab") or ()
    except metadata.PackageNotFoundError as error:
        raise EdgelabError(_("edgelab is not installed: run `pip install -e .` in its folder.")) from error
    return tuple(requirement.name for requirement in map(Requirement, lines) if _applies(requirement))


def find_pins() -> Path | None:
    """Return the file of pinned versions: inside an installed package, beside the package in a checkout."""
    package = Path(edgelab.__file__).resolve().parent
    return next((path for path in (package / PINS, package.parent / PINS) if path.is_file()), None)


def read_pins(path: Path | None) -> dict[str, str]:
    """Return the versions that are pinned for this Python, by normalised name; none without a file."""
    lines = path.read_text("utf-8").splitlines() if path else []
    pins = [Requirement(pin) for line in lines if (pin := line.partition("#")[0].strip())]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins if _applies(pin)}


def install_command(names: list[str], *, again: bool = False) -> str:
    """Return the command that installs `names` at their pinned versions, `again` if they are there but broken."""
    pins = find_pins()
    words = [sys.executable, "-m", "pip", "install"]
    words += ["--force-reinstall"] if again else []
    words += ["-c", str(pins)] if pins else []
    return shlex.join([*words, *names])


def _package(name: str, pin: str | None) -> Package:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Package(name, None, pin)
    return Package(name, version, pin, _import_failure(name) if name in _COMPILED else None)


def _import_failure(name: str) -> str | None:
    """Return the first line of what importing a package raises, None where nothing is wrong."""
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken package raises what it likes
        return (str(error).splitlines() or [type(error).__name__])[0]
    return None


def _applies(requirement: Requirement) -> bool:
    """Return whether a requirement's marker, if there is one, holds for this Python without any extra."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": ""})
