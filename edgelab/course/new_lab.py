"""`edgelab new-lab`: a lab of one's own, small and complete, to be built, graded and written further.

Its files are copies of those in `template/`, laid out as they will lie: `course` is what a lab of this course has, for
a checkout of it; `alone` is one source, for a folder of labs anywhere. In names and in texts `NN_topic` becomes the
lab's name, `NN` its number, `TITLE` its topic in words. The Spanish of what a template's modules say is in the
package's catalogue, where it stays when they are copied.
"""

import re
from pathlib import Path

from edgelab.course.folder import make_folder, write_whole
from edgelab.errors import EdgelabError
from edgelab.i18n import _

TEMPLATE = Path(__file__).parent / "template"


def new_lab(name: str, labs: Path) -> list[Path]:
    """Write the files of a new lab, called `name` behind the next free number, and return their paths.

    Raises:
        EdgelabError: the name cannot be a lab's, or a file of its own is there already; nothing is written then.
    """
    lab = _numbered(name, labs / "source")
    files = _files(lab, labs)
    if there := [path for path in files if path.exists()]:
        message = _("%(path)s is there already. Remove it, or choose another name: new-lab overwrites nothing.")
        raise EdgelabError(message % {"path": there[0]})
    for path, text in files.items():
        make_folder(path.parent)
        write_whole(path, text.encode())
    return list(files)


def _numbered(name: str, sources: Path) -> str:
    """Return a lab's whole name, `NN_topic`, of which `name` may have the number or not."""
    topic = re.sub(r"^\d\d_", "", name)
    if not re.fullmatch(r"[a-z0-9_]+", topic):
        raise EdgelabError(
            _("A lab's name has small letters, digits and _ alone, as in edge_budget; not %(name)r.") % {"name": name}
        )
    taken = {int(path.stem[:2]) for path in sources.glob("[0-9][0-9]_*.py")}
    number = int(name[:2]) if topic != name else max(taken, default=0) + 1
    if number in taken or number > 99:
        raise EdgelabError(_("The number %(number)02d is taken in %(folder)s.") % {"number": number, "folder": sources})
    return f"{number:02d}_{topic}"


def _files(lab: str, labs: Path) -> dict[Path, str]:
    """Return what to write, by path: the template that fits where `labs` lies, with the lab's own name in it."""
    home = labs.parent if labs.name else labs.resolve().parent  # the folder that we are in has no name of its own
    template = TEMPLATE / ("course" if (home / "edgelab" / "labs").is_dir() else "alone")
    words = {"NN_topic": lab, "NN": lab[:2], "TITLE": lab[3:].replace("_", " ").capitalize()}
    files = {}
    for path in sorted(path for path in template.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        place = Path(path.relative_to(template).as_posix().replace("NN_topic", lab))
        target = labs.joinpath(*place.parts[1:]) if place.parts[0] == "labs" else home / place
        files[target] = re.sub(r"NN_topic|\bNN\b|\bTITLE\b", lambda word: words[word[0]], path.read_text("utf-8"))
    return files
