"""What Sphinx reads: for each language a folder with the pages of `docs`, the glossary, and a page for each lab."""

import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path

from edgelab.course import address, build
from edgelab.course.folder import make_folder, write_whole
from edgelab.errors import EdgelabError
from edgelab.site.execute import Run
from edgelab.site.pages import lab_page

LANGUAGES = ("en", *build.TRANSLATIONS)
FIELDS = ("en", "es", "meaning", "significado", "source", "url")


def write_sources(docs: Path, labs: Path, runs: Sequence[Run], target: Path) -> None:
    """Write, under `target`, what Sphinx makes the pages of one language from: that of the `runs`.

    Raises:
        BuildError: a lab's source is malformed.
        EdgelabError: the glossary lacks a field, or `target` cannot be written.
    """
    lang = runs[0].lang
    make_folder(target / "labs")
    shutil.copytree(docs / lang, target, dirs_exist_ok=True)
    index = (docs / lang / "index.md").read_text("utf-8")
    _put(target / "index.md", index.replace("ADDRESS-OF-THE-REPOSITORY", address.repository()))
    _put(target / "glossary.md", glossary_page(read_glossary(docs / "glossary.toml"), lang))
    for run in runs:
        page = lab_page(labs / "source" / f"{run.lab}.py", lang, run)
        _put(target / "labs" / f"{run.lab}.ipynb", build.as_bytes(page).decode())


def read_glossary(path: Path) -> list[dict[str, str]]:
    """Return the glossary's terms, each with its name and its meaning in both languages, and whom the term is from.

    Raises:
        EdgelabError: a term lacks one of `FIELDS`.
    """
    terms = tomllib.loads(path.read_text("utf-8"))["term"]
    for number, term in enumerate(terms, start=1):
        lacking = [field for field in FIELDS if not term.get(field, "").strip()]
        if lacking:
            raise EdgelabError(f"{path}: term {number} ({term.get('en', '?')}) lacks {', '.join(lacking)}.")
    return terms


def glossary_page(terms: Sequence[dict[str, str]], lang: str) -> str:
    """Return the glossary in `lang` as a page: in the order of the alphabet, each term with its name in the other."""
    title, other, meaning, source = {
        "en": ("Glossary", "es", "meaning", "Spanish: *{}*. Source of the term: {}."),
        "es": ("Glosario", "en", "significado", "En inglés: *{}*. Fuente del término: {}."),
    }[lang]
    entries = []
    for term in sorted(terms, key=lambda term: term[lang].casefold()):
        said = source.format(term[other], f"[{term['source']}]({term['url']})")
        entries.append(f"{term[lang]}\n  {term[meaning]}\n\n  {said}\n")
    return f"# {title}\n\n:::{{glossary}}\n" + "\n".join(entries) + ":::\n"


def _put(path: Path, text: str) -> None:
    """Write a page if it differs: Sphinx makes again those whose file is newer."""
    if not path.exists() or path.read_text("utf-8") != text:
        write_whole(path, text.encode())
