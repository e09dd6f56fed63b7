"""The language of everything the package says: English, or Spanish where a Spanish notebook or terminal asks for it.

The code cells of a Spanish notebook are the same as the English ones, so the notebook's own metadata decides, wherever
it was opened. Call `_` when a message is shown, never at import time: two notebooks may share one process' modules.
"""

import gettext
import json
import os
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

LANGUAGES = ("en", "es")
LOCALE = Path(__file__).parent / "locale"


def _(message: str) -> str:
    """Return `message` in the learner's language.

    Placeholders are named and filled in afterwards: `_("%(count)d images") % {"count": 3}`.
    """
    return _catalogue(language()).gettext(message)


def N_(message: str) -> str:
    """Return `message` as it is: it is a text for the catalogue, and translated where it is shown."""
    return message


def named(name: str) -> str:
    """Return a name that a lab's code gives to a model or a run, in the learner's language if the catalogue has it."""
    return _catalogue(language()).gettext(name) if name else name


def ngettext(singular: str, plural: str, count: int) -> str:
    """Return `singular` or `plural`, whichever `count` asks for, in the learner's language."""
    return _catalogue(language()).ngettext(singular, plural, count)


def translator(chosen: str) -> Callable[[str], str]:
    """Return what `_` is in the language `chosen`, for a page or a notebook that is not in the learner's own."""
    return _catalogue(chosen).gettext


@lru_cache(maxsize=1)
def language() -> str:
    """Return "en" or "es", for the first of these that says so.

    1. the environment variable EDGELAB_LANG;
    2. the notebook that is running, as JupyterLab (JPY_SESSION_NAME) or VS Code (`__vsc_ipynb_file__`) names it;
    3. in any other kernel: the notebooks of the working directory, if they are all of one language, else English;
    4. outside a kernel (the terminal): the locale.

    The answer is kept for the life of the process; `forget()` asks again.
    """
    chosen = os.environ.get("EDGELAB_LANG")
    if chosen:
        return chosen if chosen in LANGUAGES else "en"
    running = _running_notebook()
    if running is not None:
        return running
    if _in_kernel():
        found = {said for path in Path.cwd().glob("*.ipynb") if (said := _notebook_language(path)) is not None}
        return found.pop() if len(found) == 1 else "en"
    return _locale_language()


def forget() -> None:
    """Forget the language, so that the next message looks for it again."""
    language.cache_clear()


@lru_cache
def _catalogue(chosen: str) -> gettext.NullTranslations:
    path = LOCALE / chosen / "LC_MESSAGES" / "edgelab.mo"
    if not path.exists():  # English has none
        return gettext.NullTranslations()
    with path.open("rb") as file:
        return gettext.GNUTranslations(file)


def reload_catalogues() -> None:
    """Forget what the catalogues said: a build has just written one."""
    _catalogue.cache_clear()


def _running_notebook() -> str | None:
    """Return the language of the running notebook, if it is one of ours and still has the name it was opened by."""
    session = os.environ.get("JPY_SESSION_NAME", "")
    vscode = str(_kernel_namespace().get("__vsc_ipynb_file__", ""))
    # Jupyter gives a path that may be relative to the server's folder; a kernel works in its notebook's folder.
    for candidate in (vscode, session, Path(session).name):
        if candidate.endswith(".ipynb") and (found := _notebook_language(Path(candidate))):
            return found
    return None


def _notebook_language(path: Path) -> str | None:
    """Return what the notebook's metadata says, or None for a notebook that is not one of ours (or no notebook)."""
    try:
        chosen = json.loads(path.read_text("utf-8"))["metadata"]["edgelab"]["lang"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return chosen if chosen in LANGUAGES else None


def _locale_language() -> str:
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        value = os.environ.get(variable)
        if value:  # the first that is set decides, as in POSIX
            return "es" if value.startswith("es") else "en"
    return "en"


def _in_kernel() -> bool:
    return "ipykernel" in sys.modules and bool(_kernel_namespace())


def _kernel_namespace() -> dict:
    """Return the names that the user of IPython has defined, or nothing where no IPython runs."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell.user_ns if shell is not None else {}
