"""`edgelab lab`: copy the labs into the learner's own folder, start JupyterLab there, open the page with all labs."""

import hashlib
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from edgelab.course.folder import STATE, edit, make_folder, shipped_labs, write_whole
from edgelab.errors import EdgelabError
from edgelab.i18n import LANGUAGES, _

FIRST_LAB = "00_start.ipynb"
LOCALES = {"en": "en", "es": "es_ES"}  # as JupyterLab calls the languages of its menus
FIRST_PORT = 8888


@dataclass(frozen=True)
class Copied:
    """What happened to the labs, as paths relative to the learner's folder."""

    new: tuple[str, ...]
    updated: tuple[str, ...]
    kept: tuple[str, ...]  # touched by the learner, and a newer version has shipped since


def copy_labs(target: Path, *, shipped: Path | None = None) -> Copied:
    """Copy the shipped labs into `target`, and return what was done.

    A lab is updated only while its file is, byte for byte, one that was copied here: whatever the learner saved stays.
    A deleted lab comes back fresh.

    Raises:
        EdgelabError: no lab has shipped, or `target` cannot be written.
    """
    new: list[str] = []
    updated: list[str] = []
    kept: list[str] = []
    make_folder(target)
    with edit(target / STATE / "shipped.json") as copied:
        for name, content in _shipped_notebooks(shipped or shipped_labs()).items():
            path = target / name
            current = _digest(path.read_bytes()) if path.exists() else None
            if current == (latest := _digest(content)):
                copied[name] = latest
            elif current is None or current == copied.get(name):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, content)
                (new if current is None else updated).append(name)
                copied[name] = latest
            elif copied.get(name) != latest:
                kept.append(name)
    return Copied(tuple(new), tuple(updated), tuple(kept))


def copy_new(lab: str, target: Path, *, shipped: Path | None = None) -> list[Path]:
    """Write the shipped version of one lab, in each language, beside the learner's own, and return the new files.

    They are called `<lab>.new.ipynb`, or `<lab>.new-2.ipynb` and so on where that is taken.

    Raises:
        EdgelabError: no such lab has shipped, or `target` cannot be written.
    """
    notebooks = _shipped_notebooks(shipped or shipped_labs())
    wanted = {name: content for name, content in notebooks.items() if Path(name).stem == lab.removesuffix(".ipynb")}
    if not wanted:
        known = ", ".join(sorted({Path(name).stem for name in notebooks}))
        raise EdgelabError(_("There is no lab %(lab)s. The labs are: %(known)s.") % {"lab": lab, "known": known})
    written = []
    for name, content in wanted.items():
        folder = make_folder((target / name).parent)
        path, number = folder / f"{Path(name).stem}.new.ipynb", 1
        while path.exists():
            number += 1
            path = folder / f"{Path(name).stem}.new-{number}.ipynb"
        write_whole(path, content)
        written.append(path)
    return written


def describe(copied: Copied, target: Path) -> list[str]:
    """Return what a learner should be told of a copy, a sentence each."""
    lines = []
    if copied.new:
        lines.append(_("The labs are in %(folder)s.") % {"folder": target})
    if copied.updated:
        lines.append(_("Updated: %(labs)s.") % {"labs": ", ".join(copied.updated)})
    if copied.kept:
        labs = ", ".join(copied.kept)
        lines.append(_("Your own work was kept, although newer versions exist: %(labs)s.") % {"labs": labs})
        command = f"edgelab lab {target} --new {Path(copied.kept[0]).stem}"
        lines.append(_("To get a new version beside yours: %(command)s") % {"command": command})
    return lines


def choose_port(port: int | None) -> int:
    """Return `port`, or the first free one from 8888 upwards where none is asked for.

    Raises:
        EdgelabError: the port asked for is busy, or there is no free one.
    """
    if port is not None:
        if not _is_free(port):
            message = _("Port %(port)d is busy. Choose another with --port, or leave --port out.")
            raise EdgelabError(message % {"port": port})
        return port
    for candidate in range(FIRST_PORT, FIRST_PORT + 100):
        if _is_free(candidate):
            if candidate != FIRST_PORT:
                print(_("Port %(busy)d is busy; using %(port)d.") % {"busy": FIRST_PORT, "port": candidate})
            return candidate
    raise EdgelabError(_("No free port was found. Choose one with --port."))


def jupyter_arguments(target: Path, lang: str, port: int, *, browser: bool = True, page: str = "") -> list[str]:
    """Return the command line of a JupyterLab that serves `target` to this computer only, behind its usual token.

    It opens `page`, a path in `target`; the first lab, if there is none.
    """
    first = page or (FIRST_LAB if lang == "en" else f"{lang}/{FIRST_LAB}")
    arguments = [
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",  # the port was found free a moment ago, and the learner was told which
        f"--ServerApp.root_dir={target.resolve()}",
        f"--LabApp.default_url=/lab/tree/{first}",
        "--LanguageServerManager.autodetect=False",  # looking for language servers starts node
        "--Application.log_level=WARN",  # the address with its token is printed all the same
    ]
    if not browser:
        arguments.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # a container, most likely
        arguments.append("--allow-root")
    return arguments


def choose_menus(target: Path, lang: str) -> None:
    """Let JupyterLab's menus be in `lang`, unless the learner's own settings ask for another language.

    JupyterLab takes defaults from the folders `labconfig` of its configuration path. Without the language's pack its
    menus stay English.
    """
    folder = make_folder(target / STATE / "jupyter" / "labconfig")
    defaults = {"@jupyterlab/translation-extension:plugin": {"locale": LOCALES[lang]}}
    write_whole(folder / "default_setting_overrides.json", json.dumps(defaults, indent=1).encode())
    before = os.environ.get("JUPYTER_CONFIG_PATH", "")
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, (str(folder.parent.resolve()), before)))


def start(arguments: list[str]) -> None:
    """Run JupyterLab until it is stopped."""
    from jupyterlab.labapp import LabApp  # takes a second to load, which --help should not

    LabApp.launch_instance(argv=arguments)


def _shipped_notebooks(shipped: Path) -> dict[str, bytes]:
    """Return the content of every shipped notebook, by its path in the learner's folder (`es/00_start.ipynb`)."""
    paths = sorted(path for folder in (".", *LANGUAGES) for path in (shipped / folder).glob("[0-9]*.ipynb"))
    if not paths:
        raise EdgelabError(_("No lab was found in %(folder)s. Install edgelab again.") % {"folder": shipped})
    return {path.relative_to(shipped).as_posix(): path.read_bytes() for path in paths}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        if os.name == "posix":  # as servers do: a port in TIME_WAIT is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
