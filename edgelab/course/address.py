"""Where the course lives: its one address, in pyproject.toml, and what follows it when a fork changes it there.

These are the first cell of every lab, which installs the course where it is missing, and the links of both READMEs to
the places where labs open without installing anything. `edgelab build` writes them; `edgelab build --check` compares.
"""

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path
from urllib.parse import quote

from edgelab.errors import EdgelabError
from edgelab.i18n import N_, _

PACKAGE = Path(__file__).parent.parent
PAGES = {"README.md": "labs/00_start.ipynb", "README.es.md": "labs/es/00_start.ipynb"}  # and the lab that each opens
FIRST_CELL = "install-edgelab"  # its id
COMMENT = N_(
    "Where the course is missing, as on Colab and Kaggle, this installs it: some minutes.\n"
    "Everywhere else it does nothing."
)
# PyTorch's own index has builds without CUDA, which pip takes where torch is missing or too old. A torch that is there
# and new enough, as Colab's, is kept: pip replaces nothing that satisfies a requirement.
_CODE = """\
try:
    import edgelab
except ModuleNotFoundError:
    get_ipython().run_line_magic(
        "pip",
        "install --quiet --extra-index-url https://download.pytorch.org/whl/cpu "
        '"edgelab[mcu] @ git+%s"',
    )
    import edgelab"""


def repository() -> str:
    """Return the address of the course's repository, such as "https://github.com/owner/name".

    Raises:
        EdgelabError: neither a checkout's pyproject.toml nor the installed package names one.
    """
    project = PACKAGE.parent / "pyproject.toml"
    if project.is_file():
        found = tomllib.loads(project.read_text("utf-8"))["project"].get("urls", {}).get("Repository", "")
    else:
        lines = metadata("edgelab").get_all("Project-URL") or []
        found = next((line.partition(", ")[2] for line in lines if line.startswith("Repository, ")), "")
    if not re.fullmatch(r"https://[\w.-]+/[\w.-]+/[\w.-]+", found):
        text = _("pyproject.toml must name the course's repository: [project.urls] Repository = %(example)s")
        raise EdgelabError(text % {"example": '"https://github.com/owner/name"'})
    return found


def first_cell() -> str:
    """Return the code with which every lab begins: it installs the course where `import edgelab` fails."""
    return "".join(f"# {line}\n" for line in COMMENT.split("\n")) + _CODE % repository()


def links(lab: str) -> dict[str, str]:
    """Return where the lab at `lab`, a path in the repository, opens without installing: address by name of the place.

    The addresses are as each place documents its links; all of them read the repository from GitHub.
    """
    address = repository()
    name = address.removeprefix("https://github.com/")
    return {
        "binder": f"https://mybinder.org/v2/gh/{name}/main?urlpath={quote(f'lab/tree/{lab}', safe='')}",
        "colab": f"https://colab.research.google.com/github/{name}/blob/main/{lab}",
        "kaggle": f"https://www.kaggle.com/kernels/welcome?src={address}/blob/main/{lab}",
        "codespaces": f"https://codespaces.new/{name}",
    }


def pages(root: Path) -> dict[Path, bytes]:
    """Return the READMEs under `root` as they must be: lines such as `[colab]: ...` lead to the repository's address.

    Raises:
        EdgelabError: a page lacks such a line.
    """
    done = {}
    for name, lab in PAGES.items():
        if not (root / name).exists():  # a part of the checkout, in which labs can be built as well
            continue
        text = (root / name).read_text("utf-8")
        for place, link in links(lab).items():
            text, found = re.subn(rf"(?m)^\[{place}\]: .*$", f"[{place}]: {link}", text)
            if not found:
                message = _("%(page)s lacks its line [%(place)s]: ..., the link to where labs open.")
                raise EdgelabError(message % {"page": root / name, "place": place})
        done[root / name] = text.encode()
    return done
