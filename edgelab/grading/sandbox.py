"""The kernel alone runs inside bubblewrap: without a network, as a user who owns nothing, and blind to the host.

It sees the system's programs, Python with its packages, this package and the data sets, all read-only, and a few small
folders of its own, which are memory and gone afterwards. Nothing that is graded, and no solution, is among them; and no
folder of the host's can be written to.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import platformdirs

from edgelab.errors import EdgelabError
from edgelab.grading.limits import Limits
from edgelab.i18n import _

PACKAGE = Path(__file__).parents[1]
HOME = "/home/learner"
SOCKETS, SOCKETS_BYTES = Path("/run/kernel"), 64 * 1024  # where the kernel makes its sockets, and nothing else fits
WRITABLE = ("/dev/shm", "/tmp", HOME, str(SOCKETS))
CONNECTION = Path("/run/connection.json")
_SYSTEM_LINKS = ("/bin", "/lib", "/lib32", "/lib64", "/sbin")  # on most systems links into /usr
_SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/fonts", "/etc/alternatives", "/sys/devices/system/cpu")


def data_dir() -> Path:
    """Return the folder of data sets, as `edgelab.data` finds it; this module may not import that (it needs torch)."""
    chosen = os.environ.get("EDGELAB_DATA")
    return Path(chosen or platformdirs.user_cache_dir("edgelab")).expanduser().resolve()


def exposed() -> list[Path]:
    """Return what a kernel can read beside the system's own files, the outer folder before what lies in it."""
    folders = {
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(sys.base_prefix).resolve(),
        PACKAGE,
        PACKAGE.parent / "datasets" if (PACKAGE.parent / "datasets").is_dir() else PACKAGE,
        data_dir(),
    }
    chosen = os.environ.get("EDGELAB_DATASET", "")
    if os.path.isabs(chosen):
        folders.add(Path(chosen))
    return sorted(folder for folder in folders if folder.is_dir() and not folder.is_relative_to("/usr"))


def check_separate(private: Iterable[Path]) -> None:
    """Ask that nothing `private` (submissions, results, sources with solutions) can be read from inside.

    Raises:
        EdgelabError: one of them lies in a folder that the kernel sees.
    """
    for path in private:
        for folder in (Path("/usr"), *exposed()):
            if path.resolve().is_relative_to(folder.resolve()):
                message = _("%(path)s lies in %(folder)s, which the learners' code can read. Move it elsewhere.")
                raise EdgelabError(message % {"path": path, "folder": folder})


def check_works() -> None:
    """Ask that a sandbox can be made here.

    Raises:
        EdgelabError: it cannot; why not, and what there is instead.
    """
    otherwise = _("Grade on Linux with bubblewrap, or add --no-sandbox for submissions that you trust.")
    if shutil.which("bwrap") is None:
        raise EdgelabError(_("The sandbox needs bubblewrap (apt-get install bubblewrap).") + " " + otherwise)
    probe = [*command(Limits(), environment={}, connection=None, uid=free_uid()), "true"]
    done = subprocess.run(probe, capture_output=True, text=True, env={})
    if done.returncode:
        reason = done.stderr.strip() or done.returncode
        raise EdgelabError(_("The sandbox does not start here (%(reason)s).") % {"reason": reason} + " " + otherwise)


def free_uid() -> int | None:
    """Return a user for this process's kernel that no one else is, where we are root and so can choose; else None.

    The limit on processes counts a user's, and does not bind root at all.
    """
    return 20_000 + os.getpid() % 40_000 if os.geteuid() == 0 else None


def command(
    limits: Limits,
    *,
    environment: Mapping[str, str],
    connection: Path | None,
    uid: int | None,
    filter_fd: int | None = None,
    info_fd: int | None = None,
) -> list[str]:
    """Return the command line in front of the kernel's own.

    `connection` is the kernel's connection file, which it finds at `CONNECTION`; `filter_fd` is open on a seccomp
    program; to `info_fd` bubblewrap writes which process is the sandbox's first.
    """
    words = ["bwrap", "--die-with-parent", "--new-session", "--clearenv"]
    words += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    # Root has the mounts made as root, since an ordinary user may not reach root's Python, then gives its rights up.
    words += ["--unshare-user"] if uid is None else ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    for name, value in {"HOME": HOME, "PATH": f"{sys.prefix}/bin:/usr/bin:/bin", **environment}.items():
        words += ["--setenv", name, value]
    words += ["--ro-bind", "/usr", "/usr"]
    for link in filter(os.path.exists, _SYSTEM_LINKS):
        words += ["--symlink", os.readlink(link), link] if os.path.islink(link) else ["--ro-bind", link, link]
    words += ["--proc", "/proc", "--dev", "/dev"]
    words += ["--dev-bind", "/dev/full", "/dev/zero"]  # zeros as well, that cannot be mapped as memory of nobody's
    words += ["--perms", "755", "--dir", str(SOCKETS.parent)]
    for folder in WRITABLE:
        size = SOCKETS_BYTES if folder == str(SOCKETS) else limits.disk
        words += ["--perms", "1777", "--size", str(size), "--tmpfs", folder]
    for path in (*map(Path, filter(os.path.exists, _SYSTEM_FILES)), *exposed()):
        for outer in reversed(path.parents[:-1]):  # made by bubblewrap, they would be root's alone
            words += ["--perms", "755", "--dir", str(outer)]
        words += ["--ro-bind", str(path), str(path)]
    if connection is not None:
        words += ["--ro-bind", str(connection), str(CONNECTION)]
    for option, descriptor in (("--seccomp", filter_fd), ("--info-fd", info_fd)):
        words += [] if descriptor is None else [option, str(descriptor)]
    words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", HOME]
    if uid is not None:
        words += ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]
    words += ["prlimit", "--nofile=1024", f"--as={limits.address_space}", f"--nproc={limits.processes}"]
    return [*words, f"--fsize={limits.disk}", f"--cpu={round(4 * limits.wall_seconds)}"]
