"""Find the submissions in what a learning platform, or a shared folder, gives back. Nothing is unpacked onto the disk.

Understood are, as a folder or as a zip:

    <learner>/01_topic.ipynb                                        a folder for each learner
    <Full Name>_<number>_assignsubmission_file_/01_topic.ipynb      Moodle, "Download all submissions"
    <Full Name>_<number>_assignsubmission_file_01_topic.ipynb       Moodle, without folders
    <lastfirst>_[LATE_]<user>_<file>_01_topic.ipynb                 Canvas, "Download Submissions"

A learner may have handed in a zip: it is looked into, one level deep, by the same rules.
"""

import dataclasses
import functools
import io
import lzma
import os
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from edgelab.errors import EdgelabError
from edgelab.grading.returned import MAX_BYTES, Unreadable, lab_of
from edgelab.i18n import _

MAX_FILES = 50_000
MAX_INSIDE = 1_000  # files in an archive within a submission
MAX_ARCHIVE = 64 * 2**20  # bytes of such an archive
MAX_RATIO = 200  # text shrinks to a tenth, a bomb to a thousandth
# What reading a file, or a member of an archive, can raise; RuntimeError stands for a password.
_DAMAGED = (OSError, RuntimeError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
# Moodle and Canvas take underscores out of names: so nobody's file can be given a name that tells of somebody else.
_MOODLE = re.compile(r"(?P<name>[^_]+)_(?P<user>\d+)_assignsubmission_file_?(?P<file>.*)")
_CANVAS = re.compile(r"(?P<name>[^_]+)_(?:LATE_)?(?P<user>\d+)_(?P<submission>\d+)_(?P<file>.+)")
_NOT_HANDED_IN = re.compile(r"(^|/)(__MACOSX|\.[^/.][^/]*|node_modules|__pycache__)(/|$)")


@dataclass(frozen=True)
class Submission:
    """A file that a learner handed in.

    Attributes:
        learner: what they are called in the gradebook.
        user: the platform's number for them, empty where no platform was asked.
        lab: as the file's name says; empty where it does not.
        root: the folder or zip in which it lies, at `name`.
        inner: its name in the zip that lies at `name`, if it came in one of its own.
        problem: why it cannot be read, where that is known without opening it.
        platform: "moodle" or "canvas", whose number `user` is.
    """

    learner: str
    user: str
    lab: str
    root: Path
    name: str
    problem: str = ""
    platform: str = ""
    inner: str = ""

    def read(self) -> bytes:
        """Return the file's content.

        Raises:
            Unreadable: there is a problem, or it turns out to be larger than it may be.
        """
        if self.problem:
            raise Unreadable(self.problem)
        try:
            if not self.inner:
                return self._outer(MAX_BYTES)
            with zipfile.ZipFile(io.BytesIO(self._outer(MAX_ARCHIVE))) as archive, archive.open(self.inner) as file:
                return _at_most(file, MAX_BYTES)
        except _DAMAGED as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from error

    def _outer(self, most: int) -> bytes:
        if self.root.is_dir():
            return _at_most(_open_regular(self.root / self.name), most)
        with zipfile.ZipFile(self.root) as archive, archive.open(self.name) as file:
            return _at_most(file, most)


def collect(path: Path) -> list[Submission]:
    """Return all that was handed in, by learner and name. A learner who handed in no notebook is in it, with a problem.

    Raises:
        EdgelabError: `path` is neither a folder nor a zip file, or holds nothing.
    """
    if path.is_dir():
        files = list(_in_folder(path))
    elif path.is_file() and zipfile.is_zipfile(path):
        files = list(_in_zip(path))
    else:
        message = _("%(path)s is neither a folder nor a zip file of submissions.")
        raise EdgelabError(message % {"path": path})
    if len(files) > MAX_FILES:
        raise EdgelabError(_("%(path)s holds more than %(max)d files.") % {"path": path, "max": MAX_FILES})
    outer = "" if path.is_dir() else _common_folder([name for name, _inner, _problem in files])
    found = [_submission(path, name, name.removeprefix(outer), inner, problem) for name, inner, problem in files]
    notebooks = [item for item in found if (item.inner or item.name).lower().endswith(".ipynb")]
    learners = {item.learner for item in notebooks}
    others = {item.learner: item for item in found if item.learner not in learners}
    without = [dataclasses.replace(item, lab="", problem=item.problem or "no notebook") for item in others.values()]
    if not notebooks and not without:
        raise EdgelabError(_("%(path)s holds no submissions.") % {"path": path})
    return sorted(notebooks + without, key=lambda item: (item.learner, _natural(item.name)))


def _common_folder(names: list[str]) -> str:
    """Return the folder that an archive was made of, if it is around all the learners' own: `submissions/`.

    A folder that names its learner is none of that kind.
    """
    outer = {name.split("/", 1)[0] for name in names}
    if len(outer) == 1 and all(name.count("/") >= 2 for name in names) and not any(map(_MOODLE.fullmatch, outer)):
        return f"{outer.pop()}/"
    return ""


def _submission(root: Path, name: str, path: str, inner: str, problem: str) -> Submission:
    """Tell whose file it is from its path: from the outermost folder, or from the name that a platform made up."""
    first, *rest = PurePosixPath(path.replace("\\", "/")).parts or (path,)  # as old Windows tools write it
    platform = ""
    if match := _MOODLE.fullmatch(first):
        platform, learner, user = "moodle", match["name"], match["user"]
        file = rest[-1] if rest else match["file"]
    elif rest:
        learner, user, file = first, "", rest[-1]
    elif match := _CANVAS.fullmatch(first):
        platform, learner, user, file = "canvas", match["name"], match["user"], match["file"]
    else:
        learner, user, file = PurePosixPath(first).stem, "", first
    # Two names that differ in bytes that are no UTF-8 stay two; one name in two forms of Unicode is one.
    learner = learner.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    learner = unicodedata.normalize("NFC", learner)
    lab = lab_of(PurePosixPath(inner).name) or lab_of(file)
    return Submission(learner, user, lab, root, name, problem, platform, inner)


_Found = tuple[str, str, str]  # a file's path, its name in the archive that it is, if it is one, and a problem


def _in_folder(root: Path) -> Iterator[_Found]:
    """Yield all that lies under a folder, and in archives there; links are named, not followed."""
    for here, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(here, name))]
        for name in sorted([*files, *links]):
            path = Path(here, name)
            if _NOT_HANDED_IN.search(path.relative_to(root).as_posix()):
                continue
            where = path.relative_to(root).as_posix()
            if not stat.S_ISREG(path.lstat().st_mode):
                yield where, "", "a link or a special file, not a notebook"
            elif path.suffix.lower() == ".zip":
                yield from ((where, *found) for found in _inside(functools.partial(_open_regular, path)))
            else:
                yield where, "", ""
        if not files and not folders and Path(here).parent == root:
            yield f"{Path(here).relative_to(root).as_posix()}/-", "", "no notebook"


def _in_zip(path: Path) -> Iterator[_Found]:
    """Yield all members of an archive, from its directory alone, and what is in those that are archives."""
    with zipfile.ZipFile(path) as archive:
        for member, problem in _members(archive):
            name = member.filename.strip("/") or "-"
            if name.lower().endswith(".zip") and not problem:
                yield from ((name, *found) for found in _inside(functools.partial(archive.open, member)))
            else:
                yield name, "", problem


def _inside(opened: Callable[[], IO[bytes]]) -> list[tuple[str, str]]:
    """Return (name, problem) for what is in an archive within a submission; one level deep."""
    try:
        with zipfile.ZipFile(io.BytesIO(_at_most(opened(), MAX_ARCHIVE))) as archive:
            found = [(member.filename, problem) for member, problem in _members(archive, most=MAX_INSIDE)]
    except (Unreadable, *_DAMAGED) as error:
        return [("", f"an archive that cannot be read ({error})"[:200])]
    return found or [("", "an archive with nothing in it")]


def _members(archive: zipfile.ZipFile, most: int = MAX_FILES + 1) -> Iterator[tuple[zipfile.ZipInfo, str]]:
    """Yield the files of an archive, each with its problem; of more than `most` none."""
    members = archive.infolist()
    if len(members) > most:
        raise Unreadable(f"more than {most} files")
    seen = set()
    for member in members:
        name = member.filename
        if member.is_dir() or _NOT_HANDED_IN.search(name):
            continue
        yield member, _member_problem(member, again=name in seen)
        seen.add(name)


def _member_problem(member: zipfile.ZipInfo, *, again: bool) -> str:
    parts = PurePosixPath(member.filename.replace("\\", "/")).parts
    if member.filename.startswith(("/", "\\")) or ".." in parts or re.match(r"[A-Za-z]:", member.filename):
        return "its path leads out of the archive"
    if stat.S_ISLNK(member.external_attr >> 16):
        return "a link, not a notebook"
    if again:
        return "twice in the archive under one name"
    most = MAX_ARCHIVE if member.filename.lower().endswith(".zip") else MAX_BYTES
    if member.file_size > most:
        return f"larger than {most // 2**20} MB"
    if member.file_size > 2**20 and member.file_size > MAX_RATIO * max(member.compress_size, 1):
        return "packed suspiciously tightly"
    return ""


def _open_regular(path: Path) -> IO[bytes]:
    """Open a file that is still the regular file that it was when it was found."""
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, os.O_RDONLY | flags), "rb")


def _at_most(file: IO[bytes], most: int) -> bytes:
    """Read a file to its end, but never more than `most` bytes: sizes in a directory may lie."""
    with file:
        content = file.read(most + 1)
    if len(content) > most:
        raise Unreadable(f"larger than {most // 2**20} MB")
    return content


def _natural(name: str) -> list:
    """Return a sort key by which `lab-10` comes after `lab-2`: of two numbers the longer one is the larger."""
    parts = re.split(r"([0-9]+)", name)
    numbers = [part.lstrip("0") if place % 2 else "" for place, part in enumerate(parts)]
    return [(len(number), number, part) for number, part in zip(numbers, parts, strict=True)]
