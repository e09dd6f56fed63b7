"""Translations follow their sources: what is new, changed or gone is found, kept for review, or dropped."""

from pathlib import Path

import polib
import pytest

from edgelab.course import build
from edgelab.course.source import BuildError
from edgelab.course.translate import (
    Message,
    compiled,
    package_messages,
    translation_problems,
    translations,
    update,
)

SOURCE = Path("labs/source/01_x.py")


def messages(*texts: str) -> list[Message]:
    return [Message(text, SOURCE, 10 * number) for number, text in enumerate(texts, start=1)]


@pytest.fixture
def po(tmp_path: Path) -> Path:
    """Return a finished .po file of two texts."""
    path = tmp_path / "01_x.po"
    update(path, messages("# Title", "The first text, quite long.\n\nTwo paragraphs."), root=Path())
    catalogue = polib.pofile(str(path))
    catalogue[0].msgstr, catalogue[1].msgstr = "# Título", "El primer texto."
    catalogue.save()
    return path


def found(path: Path, wanted: list[Message]) -> list[tuple[str, int, str]]:
    return [(item.path.name, item.line, item.message.split(":")[0]) for item in translation_problems(path, wanted)]


def line_of(path: Path, text: str) -> int:
    return path.read_text("utf-8").splitlines().index(text) + 1


def test_a_new_file_refers_to_the_source_lines(tmp_path: Path):
    path = tmp_path / "01_x.po"
    done = update(path, messages("one", "two", "one"), root=Path())
    assert done.endswith("2 texts, 2 to translate, 0 newly fuzzy, 0 dropped")
    assert "#: labs/source/01_x.py:10 labs/source/01_x.py:30" in path.read_text()


def test_updating_twice_changes_nothing(po: Path):
    wanted = messages("# Title", "The first text, quite long.\n\nTwo paragraphs.")
    before = po.read_bytes()
    update(po, wanted, root=Path())
    assert po.read_bytes() == before
    assert found(po, wanted) == []


def test_a_changed_text_keeps_its_translation_for_review(po: Path):
    wanted = messages("# Title", "The first text, rather long.\n\nTwo paragraphs.")
    assert found(po, wanted) == [
        ("01_x.py", 20, "not in 01_x.po"),
        ("01_x.po", line_of(po, "#: labs/source/01_x.py:20"), "left over"),
    ]
    done = update(po, wanted, root=Path())
    assert "1 newly fuzzy" in done
    assert "# Título" in translations(po).values()
    assert "El primer texto." not in translations(po).values()
    assert "#| msgid" in po.read_text()
    ((_, line, message),) = found(po, wanted)
    assert message == "fuzzy"
    assert line > 1


def test_an_untranslated_text_is_found(po: Path):
    wanted = messages("# Title", "The first text, quite long.\n\nTwo paragraphs.", "Nothing like the others at all")
    update(po, wanted, root=Path())
    assert found(po, wanted) == [
        ("01_x.po", line_of(po, 'msgid "Nothing like the others at all"') - 1, "not translated")
    ]


def test_a_text_that_is_gone_is_dropped(po: Path):
    done = update(po, messages("# Title"), root=Path())
    assert done.endswith("1 texts, 0 to translate, 0 newly fuzzy, 1 dropped")
    assert translations(po) == {"# Title": "# Título"}


def test_an_obsolete_entry_is_found(po: Path):
    catalogue = polib.pofile(str(po))
    catalogue[1].obsolete = True
    catalogue.save()
    assert [message for _, _, message in found(po, messages("# Title"))] == ["left over"]


def test_a_missing_file_is_found(tmp_path: Path):
    assert found(tmp_path / "01_x.po", messages("one")) == [("01_x.po", 1, "there is no such translation")]


def test_a_malformed_file_is_found_with_its_line(po: Path):
    po.write_text(po.read_text() + "\nrubbish\n")
    ((_, line, message),) = found(po, messages("one"))
    assert line == len(po.read_text().splitlines())
    assert message == "cannot be read"


def package(tmp_path: Path, code: str) -> Path:
    (tmp_path / "package").mkdir(exist_ok=True)
    (tmp_path / "package" / "module.py").write_text(code)
    return tmp_path / "package"


def test_messages_are_found_in_the_package(tmp_path: Path):
    code = '_("one")\nprint(_("two "\n  "halves") % {})\nngettext("a", "as", 3)\nother("no")\n'
    texts = [(message.text, message.plural, message.line) for message in package_messages(package(tmp_path, code))]
    assert texts == [("one", "", 1), ("two halves", "", 2), ("a", "as", 4)]


@pytest.mark.parametrize("call", ["_(text)", '_(f"{a}")', '_("a" + b)', "_()", 'ngettext("a", b, 2)'])
def test_a_message_that_is_not_written_out_is_refused(tmp_path: Path, call: str):
    with pytest.raises(BuildError, match=r"module.py:2: a text to translate must be written out"):
        package_messages(package(tmp_path, f"a = b = text = 1\n{call}\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("%(n)d cosas", []), ("cosas", 1), ("%(m)d cosas", 1)],
    ids=["same placeholders", "one missing", "another name"],
)
def test_placeholders_must_agree(tmp_path: Path, text: str, expected):
    path = tmp_path / "edgelab.po"
    wanted = messages("%(n)d things")
    update(path, wanted, root=Path())
    catalogue = polib.pofile(str(path))
    catalogue[0].msgstr = text
    catalogue.save()
    assert len(translation_problems(path, wanted)) == (expected or 0)


def test_compiling_gives_the_same_bytes(po: Path):
    assert compiled(po) == compiled(po)
    assert "# Título".encode() in compiled(po)


def test_the_package_speaks_spanish_throughout():
    assert [str(problem) for problem in build.catalogue_problems()] == []
