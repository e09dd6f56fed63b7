"""Where the course is kept: the labs that ship, and the learner's own state in the hidden folder `.edgelab`.

State files are small JSON objects. They are written whole (a reader never sees half a file) and under a lock, so that
two notebooks that write at once lose nothing.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgelab.course import locks
from edgelab.errors import EdgelabError
from edgelab.i18n import LANGUAGES, _

STATE = ".edgelab"


def shipped_labs() -> Path:
    """Return the folder of the notebooks that ship: `notebooks` in an installed package, `labs` in a checkout."""
    package = Path(__file__).parent.parent
    installed, checkout = package / "notebooks", package.parent / "labs"
    return checkout if checkout.is_dir() and not installed.is_dir() else installed


def state_dir() -> Path:
    """Return the learner's `.edgelab`: the nearest one from the working directory upwards, created if there is none.

    A new one lies in the working directory, or one above it where the working directory is a language's folder (`es`).
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / STATE).is_dir():
            return folder / STATE
    home = here.parent if here.name in LANGUAGES else here
    return make_folder(home / STATE)


def make_folder(folder: Path) -> Path:
    """Create `folder` and those above it, and return it.

    Raises:
        EdgelabError: it cannot be created or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # permission bits alone do not tell: a disk may be full or read-only
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def read(path: Path) -> dict:
    """Return the state file at `path` as a dict, empty where there is none.

    A damaged file is set aside as `<name>.damaged-<n>`, and a sentence on stderr says so.
    """
    try:
        return _load(path)
    except FileNotFoundError:
        return {}
    except ValueError:
        with edit(path) as state:  # under the lock: another process may be setting the file aside at this moment
            return dict(state)


@contextmanager
def edit(path: Path) -> Iterator[dict]:
    """Yield the state file at `path` as a dict; what the block leaves in it is written, whole and under a lock.

    Nothing is written when the block raises. A damaged file is set aside as `read` does.

    Raises:
        EdgelabError: the folder cannot be written.
    """
    make_folder(path.parent)
    with _lock(path.parent / "lock"):
        try:
            state = _load(path) if path.exists() else {}
        except ValueError:
            _set_aside(path)
            state = {}
        yield state
        write_whole(path, json.dumps(state, indent=1, ensure_ascii=False).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step: a crash leaves the old file or the new one, never half of either.

    Raises:
        EdgelabError: the folder cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path.parent, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(name, 0o666 & ~_umask())  # mkstemp makes a file that only its owner can read
        os.replace(name, path)
    except OSError as error:
        os.unlink(name)
        raise _unwritable(path.parent, error) from error


def _unwritable(folder: Path, error: OSError) -> EdgelabError:
    message = _("The folder %(folder)s cannot be written (%(reason)s). Choose another folder.")
    return EdgelabError(message % {"folder": folder, "reason": error.strerror or error})


def _load(path: Path) -> dict:
    state = json.loads(path.read_text("utf-8"))
    if not isinstance(state, dict):
        raise ValueError("not a JSON object")
    return state


def _set_aside(path: Path) -> None:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    path.rename(aside)
    message = _("%(file)s was damaged and could not be read. It is kept as %(aside)s, and a new one starts empty.")
    print(message % {"file": path.name, "aside": aside}, file=sys.stderr)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock between processes, by the file at `path`."""
    with path.open("ab") as file:
        locks.lock(file)
        try:
            yield
        finally:
            locks.unlock(file)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
