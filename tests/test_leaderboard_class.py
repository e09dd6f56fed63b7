"""A class of twelve made-up learners, handed in every way there is: merged into one board, measured again, caught."""

import csv
import dataclasses
import importlib
import io
import os
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from edgelab import data
from edgelab.cli import app
from edgelab.data import normalize
from edgelab.deploy import to_litert, to_onnx
from edgelab.deploy.isolated import isolated
from edgelab.leaderboard import board, enter, scoring
from edgelab.leaderboard.entry import FILE, Entry, read
from edgelab.models import load_pretrained
from edgelab.quantization import calibrate, convert, prepare
from tests.leaderboard_rows import changed

FILES = ("float.onnx", "int8.onnx", "int8.tflite", "noisy.onnx")


@pytest.fixture(scope="module")
def quick():
    """Score in one process instead of five, and let the tiny student pass the gate: it is quick to measure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "PROCESSES", 1)
        patch.setattr(importlib.import_module("edgelab.leaderboard.gate"), "POINT", 0.06)
        yield


@pytest.fixture(scope="module")
def entered(quick, tmp_path_factory) -> dict[str, Path]:
    """Return the folders of four honest entries of the tiny student, by file; the noisy one is below the gate."""
    folder, signs = tmp_path_factory.mktemp("student"), data.load("signs")
    model, image = load_pretrained("resnet_tiny"), normalize(signs.test.images[:1])
    codes = convert(calibrate(prepare(model), normalize(signs.train.images[:64])))
    to_onnx(model, image, folder / "float.onnx")
    to_onnx(codes, image, folder / "int8.onnx")
    to_litert(codes, image, folder / "int8.tflite")
    noisy = load_pretrained("resnet_tiny")
    with torch.no_grad():
        noisy.get_submodule("stages.1.body.0.0").weight.mul_(torch.linspace(-1, 1, 3))
    to_onnx(noisy, image, folder / "noisy.onnx")
    for file in FILES:
        enter(folder / file, name=file.replace(".", " "), dataset=signs, folder=folder / "leaderboard")
    return {file: folder / "leaderboard" / file.replace(".", " ") for file in FILES}


def edited(folder: Path, **changes) -> Entry:
    return changed(read((folder / FILE).read_bytes()), **changes)


@pytest.fixture(scope="module")
def returned(entered: dict[str, Path], tmp_path_factory) -> Path:
    """Return what twelve learners handed in: folders of Moodle's, plain ones, files without a folder, a zip in it."""
    back = tmp_path_factory.mktemp("class")

    def hand_in(place: str, file: str, row: Entry | None = None) -> None:
        shutil.copytree(entered[file], back / place, dirs_exist_ok=True)
        if row is not None:
            (back / place / FILE).write_bytes(row.as_json())

    hand_in("Ada Lovelace_417_assignsubmission_file_/leaderboard/mine", "float.onnx")
    hand_in("bob/leaderboard/small", "int8.onnx")
    hand_in("Ömer Çelik/board", "int8.tflite")
    hand_in("=HYPERLINK(1)<b>", "int8.onnx")
    hand_in("dan", "noisy.onnx")
    true = read((entered["int8.onnx"] / FILE).read_bytes()).figures
    hand_in("eve", "int8.onnx", edited(entered["int8.onnx"], accuracy=true.accuracy + 0.01))
    hand_in("frank", "int8.onnx")
    (back / "frank" / "int8.onnx").write_bytes((entered["float.onnx"] / "float.onnx").read_bytes())
    hand_in("grace", "int8.onnx", edited(entered["int8.onnx"], macs=true.macs // 2))
    hand_in("heidi", "int8.onnx", edited(entered["int8.onnx"], times_faster=(50 * true.speed,)))
    (back / "ivan").mkdir()
    (back / "ivan" / FILE).write_text("{")
    (back / "judy").mkdir()
    (back / "judy" / "essay.pdf").write_bytes(b"%PDF")
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path in entered["float.onnx"].iterdir():
            archive.write(path, f"my work/{path.name}")
    (back / "Kim_9_assignsubmission_file_work.zip").write_bytes(content.getvalue())
    return back


def rows_of(out: Path) -> dict[str, dict[str, str]]:
    text = (out / "leaderboard.csv").read_text("utf-8-sig")
    return {row["learner"]: row for row in csv.DictReader(io.StringIO(text))}


def states(out: Path) -> dict[str, str]:
    return {learner: row["state"] for learner, row in rows_of(out).items()}


def test_as_handed_in_only_files_are_checked_and_the_page_says_so(returned: Path, tmp_path: Path):
    result = CliRunner().invoke(app, ["leaderboard", str(returned), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    found = states(tmp_path / "out")
    honest = {"Ada Lovelace", "bob", "Ömer Çelik", "'=HYPERLINK(1)<b>", "dan", "Kim"}
    unseen = {"eve", "grace", "heidi"}
    assert len(found) == 12
    assert {name for name, state in found.items() if state == "claimed"} == honest | unseen
    assert (found["frank"], found["ivan"], found["judy"]) == ("refused", "unreadable", "unreadable")
    shown = (tmp_path / "out" / "leaderboard.html").read_text("utf-8")
    assert "only the files&#x27; digests and sizes were checked" in shown
    assert "<b>" not in shown


@pytest.fixture(scope="module")
def remeasured(returned: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out")
    result = CliRunner().invoke(app, ["leaderboard", str(returned), "--out", str(out), "--remeasure"])
    assert result.exit_code == 0, result.output
    assert re.search(r"6 +measured again here\n +4 +refused\n +2 +no entry that can be read\n", result.output)
    return out


@pytest.mark.parametrize(
    ("learner", "reason"),
    [
        ("eve", r"the accuracy: 9\d.\d\d % was handed in, 9\d.\d\d % was measured here"),
        ("frank", r"the file that was measured is not among what was handed in, or was changed"),
        ("grace", r"the MACs: [\d\u202f]+ was handed in, [\d\u202f]+ was measured here"),
        ("heidi", r"the speed beside the baseline: [\d.]+× was handed in, [\d.]+× was measured here"),
        ("ivan", r"it is no JSON"),
        ("judy", r"no entry was handed in"),
    ],
)
def test_a_forged_or_edited_row_is_refused_and_the_board_says_why(remeasured: Path, learner: str, reason: str):
    row = rows_of(remeasured)[learner]
    assert re.fullmatch(reason, row["why"].split(" (")[0])
    assert (row["rank by size"], row["rank by speed"]) == ("", "")
    shown = (remeasured / "leaderboard.html").read_text("utf-8")
    assert learner in shown.partition("Not on the board")[2]


def test_honest_rows_are_measured_again_and_ranked_behind_the_gate(remeasured: Path):
    found = rows_of(remeasured)
    by_size = {name: row["rank by size"] for name, row in found.items() if row["state"] == "measured"}
    assert by_size == {
        "Ömer Çelik": "1",
        "bob": "2",
        "'=HYPERLINK(1)<b>": "2",
        "Ada Lovelace": "4",
        "Kim": "4",
        "dan": "",
    }
    assert found["bob"]["same file as"].split("; ") == ["'=HYPERLINK(1)<b>", "eve", "frank", "grace", "heidi"]
    assert float(found["dan"]["accuracy"]) < float(found["dan"]["gate"]) <= float(found["bob"]["accuracy"])
    assert found["Ömer Çelik"]["rank by speed"] == "1"  # alone in LiteRT
    assert float(found["Ada Lovelace"]["times smaller"]) > 10
    assert (found["Kim"]["user"], found["Kim"]["where"][-10:]) == ("9", "entry.json")


def test_what_was_measured_again_is_kept_and_the_board_is_the_same(returned: Path, remeasured: Path, monkeypatch):
    before = {path.name: path.read_bytes() for path in remeasured.iterdir()}

    def never(*_arguments):
        raise AssertionError("measured again")

    monkeypatch.setattr(board, "score", never)
    board.merge(returned, remeasured, remeasure=True)
    assert {path.name: path.read_bytes() for path in remeasured.iterdir()} == before


def test_own_data_are_measured_where_they_are_here(entered: dict[str, Path], few_signs: Path, tmp_path: Path):
    enter(entered["int8.onnx"] / "int8.onnx", name="open", division="open", dataset=few_signs, folder=tmp_path / "a")
    other = dataclasses.replace(read((tmp_path / "a" / "open" / FILE).read_bytes()), dataset_sha256="0" * 64)
    shutil.copytree(tmp_path / "a", tmp_path / "back" / "ada")
    shutil.copytree(tmp_path / "a", tmp_path / "back" / "bob")
    (tmp_path / "back" / "bob" / "open" / FILE).write_bytes(other.as_json())
    board.merge(tmp_path / "back", tmp_path / "out", remeasure=True)
    assert states(tmp_path / "out") == {"ada": "not measured", "bob": "not measured"}
    board.merge(tmp_path / "back", tmp_path / "out", remeasure=True, own_data=str(few_signs))
    assert states(tmp_path / "out") == {"ada": "measured", "bob": "refused"}
    assert "other test images" in rows_of(tmp_path / "out")["bob"]["why"]


def with_its_process(say, work, *arguments):
    return os.getpid(), work(say, *arguments)


def test_five_processes_time_a_file_and_each_is_a_fresh_one(entered: dict[str, Path], tmp_path: Path, monkeypatch):
    seen = []

    def watched(work, *arguments, **options):
        process, found = isolated(with_its_process, work, *arguments, **options)
        seen.append(process)
        return found

    monkeypatch.setattr(scoring, "PROCESSES", 5)
    monkeypatch.setattr(scoring, "isolated", watched)
    row = enter(entered["int8.onnx"] / "int8.onnx", name="five", folder=tmp_path)
    assert len(row.figures.p50_ms) == len(row.figures.times_faster) == 5
    assert len(set(seen)) == len(seen) >= 5
    assert min(row.figures.p50_ms) <= row.figures.latency_ms <= max(row.figures.p50_ms)
    assert row.figures.times_smaller == pytest.approx(row.figures.baseline_bytes / row.figures.bytes)


def test_a_module_of_ones_own_is_entered_as_the_file_that_it_becomes(quick, tmp_path: Path):
    source = "from edgelab.models import load_pretrained\n\ndef build():\n    return load_pretrained('resnet_tiny')\n"
    (tmp_path / "net.py").write_text(source)
    words = ["enter", f"{tmp_path}/net.py:build", "--name", "my net", "--division", "open", "--folder", str(tmp_path)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "passed" in result.output and "division: open" in result.output
    row = read((tmp_path / "my net" / FILE).read_bytes())
    assert (row.file, row.figures.runtime) == ("my net.onnx", "ONNX Runtime")
    assert row.figures.accuracy == pytest.approx(0.917, abs=0.002)
