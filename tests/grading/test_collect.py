"""Whatever a platform gives back ends in a list, and whatever a file does to its reader ends in a problem."""

import io
import os
import stat
import subprocess
import zipfile
from pathlib import Path

import pytest

from edgelab.errors import EdgelabError
from edgelab.grading import collect as collect_module
from edgelab.grading.collect import collect
from edgelab.grading.returned import MAX_BYTES, Unreadable, lab_of


def folder_of(tmp_path: Path, *names: str) -> Path:
    for name in names:
        path = tmp_path / "back" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
    return tmp_path / "back"


def zip_of(tmp_path: Path, *names: str | zipfile.ZipInfo, content: bytes = b"{}") -> Path:
    with zipfile.ZipFile(tmp_path / "back.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return tmp_path / "back.zip"


PLATFORMS = {
    "a folder each": ("ada/01_halves.ipynb", ("ada", "", "01_halves")),
    "deeper": ("ada/labs/es/01_halves.ipynb", ("ada", "", "01_halves")),
    "a name with a comma": ("Lovelace, A/01_halves.ipynb", ("Lovelace, A", "", "01_halves")),
    "a formula": ('=HYPERLINK("x")/01_halves.ipynb', ('=HYPERLINK("x")', "", "01_halves")),
    "Moodle": ("Ada Lovelace_417_assignsubmission_file_/01_halves.ipynb", ("Ada Lovelace", "417", "01_halves")),
    "Moodle, flat, of somebody who would be another": (
        "Eve_111_assignsubmission_file_x_999_assignsubmission_file_01_halves.ipynb",
        ("Eve", "111", "01_halves"),
    ),
    "Canvas, of somebody who would be another": (
        "eve_111_22_x_999_assignsubmission_file_01_halves.ipynb",
        ("eve", "111", "01_halves"),
    ),
    "Moodle, flat": ("Ada Lovelace_417_assignsubmission_file_01_halves.ipynb", ("Ada Lovelace", "417", "01_halves")),
    "Canvas": ("lovelaceada_12_345_01_halves.ipynb", ("lovelaceada", "12", "01_halves")),
    "Canvas, late and again": ("lovelaceada_LATE_12_345_01_halves-1.ipynb", ("lovelaceada", "12", "01_halves")),
    "a file alone": ("ada.ipynb", ("ada", "", "")),
    "Canvas, with a backslash": ("lovelaceada_12_345_bob\\01_halves.ipynb", ("lovelaceada", "12", "01_halves")),
}


@pytest.mark.parametrize("pack", [folder_of, zip_of])
@pytest.mark.parametrize(("name", "expected"), PLATFORMS.values(), ids=PLATFORMS)
def test_whose_it_is(tmp_path: Path, pack, name: str, expected: tuple):
    found = next(item for item in collect(pack(tmp_path, name, "zz/01_halves.ipynb")) if item.learner != "zz")
    assert (found.learner, found.user, found.lab) == expected
    assert found.read() == b"{}"


def test_a_folder_around_all_learners_is_looked_through(tmp_path: Path):
    found = collect(zip_of(tmp_path, "submissions/ada/01_halves.ipynb", "submissions/bob/01_halves.ipynb"))
    assert [item.learner for item in found] == ["ada", "bob"]


def test_folders_of_old_windows_tools_are_looked_through(tmp_path: Path):
    found = collect(zip_of(tmp_path, "back\\ada\\01_halves.ipynb", "back\\bob\\01_halves.ipynb"))
    assert [(item.learner, item.lab, item.read()) for item in found] == [
        ("ada", "01_halves", b"{}"),
        ("bob", "01_halves", b"{}"),
    ]


def test_a_list_beside_the_learners_folders_makes_them_no_one_learner(tmp_path: Path):
    found = collect(zip_of(tmp_path, "back/", "back/ada/01_halves.ipynb", "back/bob/01_halves.ipynb", "back/list.csv"))
    assert [item.learner for item in found] == ["ada", "bob", "list"]


@pytest.mark.parametrize("pack", [folder_of, zip_of])
def test_all_who_have_a_folder_are_in_the_list(tmp_path: Path, pack):
    names = ["ada/01_halves.ipynb", "bob/labs/.ipynb_checkpoints/01_halves.ipynb", "dan/.DS_Store"]
    (tmp_path / "back" / "eve" / "labs" / "es").mkdir(parents=True)
    path = pack(tmp_path, *names, *(["eve/labs/es/"] if pack is zip_of else []))
    found = collect(path)
    assert [(item.learner, item.problem) for item in found] == [
        ("ada", ""),
        *((name, "no notebook") for name in ("bob", "dan", "eve")),
    ]


def test_a_namesake_without_a_notebook_is_in_the_list(tmp_path: Path):
    names = [f"Ada L_{number}_assignsubmission_file_/{file}" for number, file in ((1, "01_halves.ipynb"), (2, "x.pdf"))]
    names.append("Ada L_1_assignsubmission_onlinetext_/onlinetext.html")  # Moodle's, of the text beside the file
    assert [(item.learner, item.user, item.problem) for item in collect(folder_of(tmp_path, *names))] == [
        ("Ada L", "1", ""),
        ("Ada L", "2", "no notebook"),
    ]


def test_what_nobody_handed_in_is_passed_over(tmp_path: Path):
    names = ["ada/01_halves.ipynb", "ada/.ipynb_checkpoints/01_halves.ipynb", "__MACOSX/ada/._01_halves.ipynb"]
    assert [item.name for item in collect(zip_of(tmp_path, *names))] == ["ada/01_halves.ipynb"]


def test_a_learner_without_a_notebook_is_in_the_list(tmp_path: Path):
    (tmp_path / "back" / "eve").mkdir(parents=True)
    found = collect(folder_of(tmp_path, "ada/01_halves.ipynb", "bob/report.pdf"))
    assert [(item.learner, item.problem) for item in found] == [
        ("ada", ""),
        ("bob", "no notebook"),
        ("eve", "no notebook"),
    ]


def test_links_and_special_files_are_named_and_not_followed(tmp_path: Path):
    (tmp_path / "secret.ipynb").write_text("secret")
    back = folder_of(tmp_path, "ada/01_halves.ipynb")
    (back / "bob").mkdir()
    (back / "bob" / "01_halves.ipynb").symlink_to(tmp_path / "secret.ipynb")
    (back / "eve").symlink_to(tmp_path)
    (back / "mal").mkdir()
    os.mkfifo(back / "mal" / "01_halves.ipynb")
    found = {item.learner: item for item in collect(back)}
    assert found.keys() == {"ada", "bob", "eve", "mal"}
    for learner in ("bob", "eve", "mal"):
        with pytest.raises(Unreadable, match="link"):
            found[learner].read()


def test_a_file_that_becomes_a_link_is_not_followed(tmp_path: Path):
    (tmp_path / "secret.ipynb").write_text("secret")
    back = folder_of(tmp_path, "ada/01_halves.ipynb")
    (found,) = collect(back)
    (back / "ada" / "01_halves.ipynb").unlink()
    (back / "ada" / "01_halves.ipynb").symlink_to(tmp_path / "secret.ipynb")
    with pytest.raises(Unreadable):
        found.read()


def link(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("../../01_halves.ipynb", "leads out"),
        ("/etc/01_halves.ipynb", "leads out"),
        ("ada/../../01_halves.ipynb", "leads out"),
        ("..\\ada\\01_halves.ipynb", "leads out"),
        ("C:/ada/01_halves.ipynb", "leads out"),
        (link("ada/01_halves.ipynb"), "link"),
    ],
    ids=["up", "absolute", "up again", "backslashes", "a drive", "a link"],
)
def test_an_archive_cannot_lead_out_of_itself(tmp_path: Path, name, problem: str):
    found = collect(zip_of(tmp_path, name, "zz/01_halves.ipynb"))
    assert len(found) == 2
    bad = next(item for item in found if item.learner != "zz")
    with pytest.raises(Unreadable, match=problem):
        bad.read()


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path):
    path = zip_of(tmp_path, "ada/01_halves.ipynb", content=b" " * (MAX_BYTES - 1))
    (found,) = collect(path)
    with pytest.raises(Unreadable, match="tightly"):
        found.read()


def test_a_size_that_lies_does_not_help_a_bomb(tmp_path: Path):
    path = zip_of(tmp_path, "ada/01_halves.ipynb", content=b" " * (3 * MAX_BYTES))
    real, claimed = (3 * MAX_BYTES).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    path.write_bytes(path.read_bytes().replace(real, claimed))
    (found,) = collect(path)
    with pytest.raises(Unreadable):  # zipfile stops at the claimed size, and then misses the checksum
        found.read()


def test_one_name_twice_is_a_problem(tmp_path: Path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zip_of(tmp_path, "ada/01_halves.ipynb", "ada/01_halves.ipynb")
    assert [item.problem for item in collect(path)] == ["", "twice in the archive under one name"]


def test_a_damaged_member_is_unreadable(tmp_path: Path):
    path = zip_of(tmp_path, "ada/01_halves.ipynb", content=os.urandom(1000))
    content = bytearray(path.read_bytes())
    content[200:260] = b"\0" * 60
    path.write_bytes(content)
    (found,) = collect(path)
    with pytest.raises(Unreadable):
        found.read()


def test_a_file_too_large_is_unreadable(tmp_path: Path):
    back = folder_of(tmp_path, "ada/01_halves.ipynb")
    with (back / "ada" / "01_halves.ipynb").open("wb") as file:
        file.truncate(10 * MAX_BYTES)
    with pytest.raises(Unreadable, match="larger"):
        collect(back)[0].read()


def test_folders_a_thousand_deep_are_a_problem_of_their_own(tmp_path: Path, monkeypatch):
    back = folder_of(tmp_path, "ada/01_halves.ipynb")
    (back / "mal").mkdir()
    monkeypatch.chdir(back / "mal")
    for _ in range(1100):
        os.mkdir("d")
        os.chdir("d")
    os.chdir(tmp_path)
    try:
        found = collect(back)
    finally:
        subprocess.run(["rm", "-rf", str(back / "mal")], check=True)
    assert [(item.learner, item.problem) for item in found] == [
        ("ada", ""),
        ("mal", "more than 50 folders in one another"),
    ]


def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch):
    back, scan = folder_of(tmp_path, "ada/01_halves.ipynb", "bob/01_halves.ipynb"), os.scandir

    def closed(path):  # as by its mode, to anyone but root
        if Path(path).name == "bob":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert [(item.learner, item.problem) for item in collect(back)] == [
        ("ada", ""),
        ("bob", "a folder that cannot be opened"),
    ]


def inner_zip(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, b"{}")
    return content.getvalue()


def test_a_name_of_sixty_thousand_letters_is_a_problem_of_its_own(tmp_path: Path):
    """What looks for the lab's name would try each beginning of it with each end."""
    back = folder_of(tmp_path, "ada/01_halves.ipynb")
    (back / "mal").mkdir()
    (back / "mal" / "labs.zip").write_bytes(inner_zip(*(f"{number}/{'00_' * 20_000}.ipynb" for number in range(20))))
    found = [item.problem for item in collect(back) if item.learner == "mal"]
    assert found == ["its name is too long"] * 20
    assert lab_of("00_" * 20_000 + ".ipynb") == ""


def test_an_archive_of_very_many_notebooks_is_one_problem(tmp_path: Path):
    back = folder_of(tmp_path, "ada/01_halves.ipynb")
    for name, count in (("many", 101), ("far-too-many", 2001)):
        (back / name).mkdir()
        (back / name / "labs.zip").write_bytes(inner_zip(*(f"{number}.ipynb" for number in range(count))))
    problems = {item.learner: item.problem for item in collect(back)}
    assert "more than 100 notebooks" in problems["many"]
    assert "more than 1000 files" in problems["far-too-many"]


def test_an_archive_of_many_notebooks_is_unpacked_once(tmp_path: Path, monkeypatch):
    back = folder_of(tmp_path, "ada/01_halves.ipynb")
    (back / "bob").mkdir()
    (back / "bob" / "labs.zip").write_bytes(inner_zip(*(f"{number}.ipynb" for number in range(50))))
    found = [item for item in collect(back) if item.inner]
    opened = []
    read = collect_module._content
    monkeypatch.setattr(collect_module, "_content", lambda *what: opened.append(what) or read(*what))
    assert [item.read() for item in found] == [b"{}"] * 50
    assert len(opened) == 1


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.write_bytes(b"x"), lambda path: None])
def test_nothing_to_collect_is_one_sentence(tmp_path: Path, make):
    make(tmp_path / "back")
    with pytest.raises(EdgelabError):
        collect(tmp_path / "back")


def test_an_empty_archive_is_one_sentence(tmp_path: Path):
    (tmp_path / "back.zip").write_bytes(io.BytesIO().getvalue())
    with pytest.raises(EdgelabError, match="neither a folder nor a zip"):
        collect(tmp_path / "back.zip")


def test_other_files_than_notebooks_are_collected_by_their_endings(tmp_path: Path):
    names = ["ada/leaderboard/mine/entry.json", "ada/leaderboard/mine/net.ONNX", "bob/01_halves.ipynb"]
    names.append("Cy_7_assignsubmission_file_entry.json")
    found = collect(folder_of(tmp_path, *names), (".json", ".onnx"), "nothing of the kind")
    assert [(item.learner, item.user, Path(item.name).name, item.problem) for item in found] == [
        ("Cy", "7", "Cy_7_assignsubmission_file_entry.json", ""),
        ("ada", "", "entry.json", ""),
        ("ada", "", "net.ONNX", ""),
        ("bob", "", "01_halves.ipynb", "nothing of the kind"),
    ]
