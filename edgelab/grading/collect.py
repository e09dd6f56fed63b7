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
import math
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
MAX_NOTEBOOKS = 100  # among these
MAX_ARCHIVE = 64 * 2**20  # bytes of such an archive
MAX_NAME = 1_000  # characters of a path in an archive
MAX_DEPTH = 50  # of folders in folders
MAX_RATIO = 200  # text shrinks to a tenth, a bomb to a thousandth
_ENTRY = b"PK\1\2"  # at the beginning of what an archive's directory says about a file
# What reading a file, or a member of an archive, can raise; RuntimeError stands for a password.
_DAMAGED = (OSError, RuntimeError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
# Moodle and Canvas take underscores out of names: so nobody's file can be given a name that tells of somebody else.
_MOODLE = re.compile(r"(?P<name>[^_]+)_(?P<user>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<file>.*)")
_CANVAS = re.compile(r"(?P<name>[^_]+)_(?:LATE_)?(?P<user>\d+)_(?P<submission>\d+)_(?P<file>.+)")
_NOTHING = "no notebook"
NOTEBOOKS = (".ipynb",)
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
                return _content(self.root, self.name, MAX_BYTES)
            status = (self.root / self.name if self.root.is_dir() else self.root).lstat()
            outer = _archive(self.root, self.name, (status.st_mtime_ns, status.st_size, status.st_ino))
            with zipfile.ZipFile(io.BytesIO(outer)) as archive, archive.open(self.inner) as file:
                return _at_most(file, MAX_BYTES)
        except _DAMAGED as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from error


def _content(root: Path, name: str, most: int) -> bytes:
    if root.is_dir():
        return _at_most(_open_regular(root / name), most)
    with zipfile.ZipFile(root) as archive, archive.open(name) as file:
        return _at_most(file, most)


@functools.lru_cache(maxsize=1)
def _archive(root: Path, name: str, _state: tuple[int, ...]) -> bytes:
    """Return an archive within the submissions; it is kept, since one may hold many notebooks, until the next comes."""
    return _content(root, name, MAX_ARCHIVE)


def collect(path: Path, endings: tuple[str, ...] = NOTEBOOKS, nothing: str = _NOTHING) -> list[Submission]:
    """Return all that was handed in, by learner and name. A learner who handed in no notebook is in it, with a problem.

    Other files than notebooks are found by their `endings`, in lower case; the problem is then `nothing`.

    Raises:
        EdgelabError: `path` is neither a folder nor a zip file, or holds nothing.
    """
    if path.is_dir():
        files = list(dict.fromkeys(_in_folder(path)))
    elif path.is_file() and zipfile.is_zipfile(path):
        files = list(dict.fromkeys(_in_zip(path)))
    else:
        message = _("%(path)s is neither a folder nor a zip file of submissions.")
        raise EdgelabError(message % {"path": path})
    if len(files) > MAX_FILES:
        raise EdgelabError(_("%(path)s holds more than %(max)d files.") % {"path": path, "max": MAX_FILES})
    outer = "" if path.is_dir() else _common_folder([_slashed(name) for name, _inner, _problem in files], endings)
    inside = ((file, _slashed(file[0]).removeprefix(outer)) for file in files)
    found = [_submission(path, file, where) for file, where in inside if where != "-"]  # that is the outer folder's own
    wanted = [item for item in found if (item.inner or item.name).lower().endswith(endings)]
    learners = {(item.learner, item.user) for item in wanted}
    others = {(item.learner, item.user): item for item in found if (item.learner, item.user) not in learners}
    without = [dataclasses.replace(item, lab="", problem=_problem_of(item, nothing)) for item in others.values()]
    if not wanted and not without:
        raise EdgelabError(_("%(path)s holds no submissions.") % {"path": path})
    return sorted(wanted + without, key=lambda item: (item.learner, _natural(item.name)))


def _problem_of(item: Submission, nothing: str) -> str:
    """Return what is wrong with what a learner handed in who handed in nothing that is wanted."""
    return nothing if item.problem in ("", _NOTHING) else item.problem


def _slashed(name: str) -> str:
    """Return a path with its folders as they are written everywhere but in old Windows tools."""
    return name.replace("\\", "/")


def _common_folder(names: list[str], endings: tuple[str, ...]) -> str:
    """Return the folder that an archive was made of, if it is around all the learners' own: `submissions/`.

    A folder that names its learner is none of that kind. A file beside the learners' folders, a list say, is.
    """
    work = [name for name in names if name.lower().endswith((*endings, ".zip"))]
    outer = {name.split("/", 1)[0] for name in names}
    if len(outer) == 1 and all(name.count("/") >= 2 for name in work or names) and not any(map(_MOODLE.match, outer)):
        return f"{outer.pop()}/"
    return ""


def _submission(root: Path, found: "_Found", path: str) -> Submission:
    """Tell whose file it is from its path: from the outermost folder, or from the name that a platform made up."""
    name, inner, problem = found
    path = path[:MAX_NAME]
    first, *rest = PurePosixPath(path).parts or (path,)
    platform = ""
    if match := _MOODLE.fullmatch(first):
        platform, learner, user = "moodle", match["name"], match["user"]
        file = rest[-1] if rest else match["file"]
    elif "/" not in name and (match := _CANVAS.fullmatch(path)):
        platform, learner, user, file = "canvas", match["name"], match["user"], match["file"]
    elif rest:
        learner, user, file = first, "", rest[-1]
    else:
        learner, user, file = PurePosixPath(first).stem, "", first
    # Two names that differ in bytes that are no UTF-8 stay two; one name in two forms of Unicode is one.
    learner = learner.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    learner = unicodedata.normalize("NFC", learner)
    lab = lab_of(PurePosixPath(inner[-MAX_NAME:]).name) or lab_of(file)
    return Submission(learner, user, lab, root, name, problem, platform, inner)


_Found = tuple[str, str, str]  # a file's path, its name in the archive that it is, if it is one, and a problem


def _in_folder(root: Path) -> Iterator[_Found]:
    """Yield all that lies under a folder, and in archives there; links are named, not followed.

    A folder with nothing in it, or with nothing but what nobody hands in, is `folder/-`: its learner is not forgotten.
    """
    closed: list[OSError] = []
    for here, folders, files in os.walk(root, onerror=closed.append):
        inside = Path(here).relative_to(root).as_posix()
        depth = 0 if inside == "." else inside.count("/") + 1
        if depth and not files and not folders:
            yield f"{inside}/-", "", _NOTHING
        if depth >= MAX_DEPTH and folders:
            yield f"{inside}/-", "", f"more than {MAX_DEPTH} folders in one another"
            folders.clear()
        links = [name for name in folders if os.path.islink(os.path.join(here, name))]
        for name in sorted([*files, *folders]):
            where = name if inside == "." else f"{inside}/{name}"
            if ignored := _NOT_HANDED_IN.search(where):
                yield from _beside(where, ignored)
            elif name in files or name in links:
                yield from _file(Path(here, name), where)
        folders[:] = [name for name in folders if not _NOT_HANDED_IN.search(f"{inside}/{name}")]
    for error in closed:
        if error.filename == os.fspath(root):
            raise error
        yield f"{Path(error.filename).relative_to(root).as_posix()}/-", "", "a folder that cannot be opened"


def _file(path: Path, where: str) -> Iterator[_Found]:
    try:
        regular = stat.S_ISREG(path.lstat().st_mode)
    except OSError as error:
        yield where, "", f"cannot be read ({error.strerror})"
        return
    if not regular:
        yield where, "", "a link or a special file, not a notebook"
    elif path.suffix.lower() == ".zip":
        yield from ((where, *found) for found in _inside(functools.partial(_open_regular, path)))
    else:
        yield where, "", ""


def _beside(name: str, ignored: re.Match) -> Iterator[_Found]:
    """Yield the folder in which something lies that nobody hands in: there may be nothing else."""
    if outer := name[: ignored.start()]:
        yield f"{outer}/-", "", _NOTHING


def _in_zip(path: Path) -> Iterator[_Found]:
    """Yield all members of an archive, from its directory alone, and what is in those that are archives."""
    with zipfile.ZipFile(path) as archive:
        for folder in filter(zipfile.ZipInfo.is_dir, archive.infolist()):
            if not _NOT_HANDED_IN.search(folder.filename):
                yield f"{folder.filename}-", "", _member_problem(folder, again=False) or _NOTHING
        for member in archive.infolist():
            if ignored := _NOT_HANDED_IN.search(member.filename):
                yield from _beside(member.filename, ignored)
        for member, problem in _members(archive):
            name = member.filename.strip("/") or "-"
            if name.lower().endswith(".zip") and not problem:
                yield from ((name, *found) for found in _inside(functools.partial(archive.open, member)))
            else:
                yield name, "", problem


def _inside(opened: Callable[[], IO[bytes]]) -> list[tuple[str, str]]:
    """Return (name, problem) for what is in an archive within a submission; one level deep."""
    try:
        content = _at_most(opened(), MAX_ARCHIVE)
        if content.count(_ENTRY) > 2 * MAX_INSIDE:  # before zipfile makes an object of each
            raise Unreadable(f"more than {MAX_INSIDE} files")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = [(member.filename, problem) for member, problem in _members(archive, most=MAX_INSIDE)]
        if sum(name.lower().endswith(".ipynb") for name, _problem in found) > MAX_NOTEBOOKS:
            raise Unreadable(f"more than {MAX_NOTEBOOKS} notebooks")
    except (Unreadable, *_DAMAGED) as error:
        return [("", f"an archive that cannot be read ({error})"[:200])]
    return found or [("", "an archive with nothing in it")]


def _members(archive: zipfile.ZipFile, most: float = math.inf) -> Iterator[tuple[zipfile.ZipInfo, str]]:
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
    if len(member.filename) > MAX_NAME:
        return "its name is too long"
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
