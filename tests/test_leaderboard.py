"""Entries of the leader board: read as a stranger's text, checked against what is measured, ranked behind the gate."""

import dataclasses
import html
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgelab import data
from edgelab.course.folder import STATE
from edgelab.errors import EdgelabError
from edgelab.i18n import forget
from edgelab.leaderboard import checking, enter, entering, gate, page, scoring
from edgelab.leaderboard.checking import contradictions
from edgelab.leaderboard.entry import FILE, read
from edgelab.leaderboard.front import front_picture
from edgelab.leaderboard.gate import passes
from edgelab.leaderboard.origin import dataset_sha256, environment, package_sha256
from edgelab.leaderboard.ranks import MEASURED, NOT_MEASURED, REFUSED, UNREADABLE, Line, ranked
from edgelab.models.zoo import sha256
from edgelab.numbers import NO_BREAK
from tests.leaderboard_rows import changed, entry, figures, line


def test_the_gate_is_a_point_below_the_baseline_and_own_data_have_none():
    assert gate("signs") == pytest.approx(0.9503)
    assert gate("fashion-mnist") == pytest.approx(0.9262)
    assert [passes(accuracy, "signs") for accuracy in (2851 / 3000, 2850 / 3000)] == [True, False]
    assert (gate("own/leaves"), passes(0.99, "own/leaves")) == (None, None)


def test_an_entry_is_read_as_it_was_written():
    row = entry(figures(arena_bytes=31_280, npu_us=181.7, unmeasured={"npu": "Vela is not installed"}))
    assert read(row.as_json()) == row


def test_an_entry_says_its_row_and_on_which_side_of_the_gate_it_is():
    row = entry(figures(arena_bytes=31_280))
    assert "gate: passed: 0.97 points above 95.03 %" in str(row)
    assert f"latency, five processes (ms): 0.210{NO_BREAK}(0.200–0.220)" in str(row)
    assert "times smaller than the baseline: 50.0" in str(row)
    shown = row._repr_html_()
    assert shown.count('scope="col"') == shown.count("<td") + 1 == 10  # the NPU is not known
    assert "not passed: 4.03 points below" in str(changed(row, accuracy=0.91))
    assert "no gate" in str(entry(dataset="own/leaves"))


def without(name: str):
    return lambda found: found.pop(name)


def put(**fields):
    return lambda found: found.update(fields)


def figure(name: str, value):
    return lambda found: found["figures"].update({name: value})


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (put(format=2), "another format than 1"),
        (without("sha256"), "its field sha256 is missing"),
        (put(sha256="A" * 64), "its field sha256"),
        (put(name="../../home"), "cannot be the name of an entry"),
        (put(name="x" * 61), "cannot be the name of an entry"),
        (put(name="a\u202eb"), "its field name"),
        (put(division="mine"), "There is no division 'mine'"),
        (put(dataset="/etc"), "its field dataset"),
        (put(environment={"processor": 3}), "its field environment"),
        (put(environment={str(number): "" for number in range(51)}), "its field environment"),
        (put(figures=[]), "its field figures"),
        (figure("accuracy", 1.5), "its field accuracy"),
        (figure("accuracy", float("nan")), "its field accuracy"),
        (figure("accuracy", "0.96"), "its field accuracy"),
        (figure("accuracy", True), "its field accuracy"),
        (figure("bytes", -1), "its field bytes"),
        (figure("bytes", 0), "its field bytes"),
        (figure("macs", 10**400), "its field macs"),
        (figure("energy_j", 10**400), "its field energy_j"),
        (figure("p50_ms", []), "its field p50_ms"),
        (figure("p50_ms", [0.0]), "its field p50_ms"),
        (figure("p50_ms", [1.0] * 51), "its field p50_ms"),
        (figure("times_faster", [float("inf")]), "its field times_faster"),
        (figure("unmeasured", {"npu": "x" * 301}), "its field unmeasured"),
        (figure("runtime", "\ud800"), "its field runtime"),
    ],
)  # fmt: skip
def test_a_field_that_is_not_what_it_should_be_is_one_sentence(edit, sentence: str):
    found = json.loads(entry().as_json())
    edit(found)
    with pytest.raises(EdgelabError, match=sentence):
        read(json.dumps(found).encode())


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b"null", b'{"format": 1}'])
def test_what_is_no_entry_is_one_sentence(content: bytes):
    with pytest.raises(EdgelabError, match=r"^it is|its field"):
        read(content)


def test_the_same_figures_contradict_nothing_nor_do_two_honest_computers():
    row = entry(figures(arena_bytes=31_280, npu_us=181.7))
    assert contradictions(row, row.figures) == []
    elsewhere = figures(accuracy=0.9587, p50_ms=(0.9,), times_faster=(6.0,), arena_bytes=None, npu_us=None)
    assert contradictions(row, elsewhere) == []


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        ({"accuracy": 0.9625}, "the accuracy: 96.25 % was handed in, 96.00 % was measured here"),
        ({"params": 1}, "the parameters: 1 was handed in"),
        ({"macs": 2_999_999}, "the MACs: 2999999 was handed in"),
        ({"peak_bytes": 1}, "the peak memory in bytes"),
        ({"bytes": 99_999}, "the bytes of the file"),
        ({"arena_bytes": 31_000}, "the arena in bytes"),
        ({"npu_us": 90.0}, "the NPU's microseconds"),
        ({"runtime": "LiteRT"}, "the runtime: LiteRT was handed in, ONNX Runtime was measured"),
        ({"times_faster": (31.0,)}, "the speed beside the baseline: 31.00× was handed in, 10.10× was measured"),
        ({"p50_ms": (0.03,)}, "the latency: 0.030 ms was handed in"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)  # fmt: skip
def test_an_edited_figure_is_contradicted(edit: dict, sentence: str):
    true = figures(arena_bytes=31_280, npu_us=181.7)
    (found,) = contradictions(changed(entry(true), **edit), true)
    assert found.replace("\u202f", "").startswith(sentence)


def test_another_processor_is_given_more_room_and_other_code_is_named():
    row = changed(entry(), times_faster=(50.0,))
    there = dataclasses.replace(row, environment={"processor": "another"})
    assert contradictions(row, figures()) != [] == contradictions(there, figures())
    old = dataclasses.replace(changed(entry(), macs=1), edgelab="0.0.9", edgelab_sha256="0" * 64)
    assert "(by other code: edgelab 0.0.9 there," in contradictions(old, figures())[0]


def ranks_of(*lines: Line) -> dict[str, tuple]:
    return {found.learner: (found.by_size, found.by_speed) for found in ranked(lines)}


def test_ranks_are_given_behind_the_gate_alone_within_a_division_and_a_runtime():
    fast, slow = (20.0, 21.0), (5.0, 5.5)
    found = ranks_of(
        line("small", found=figures(bytes=10, times_faster=slow)),
        line("fast", found=figures(bytes=20, times_faster=fast)),
        line("nearly as fast", found=figures(bytes=20, times_faster=(19.0, 20.5))),
        line("LiteRT", found=figures(bytes=30, times_faster=(1.0,), runtime="LiteRT")),
        line("tiny and wrong", found=figures(bytes=1, accuracy=0.9)),
        line("open", found=figures(bytes=99), division="open"),
        line("own data", found=figures(bytes=1), dataset="own/leaves", division="open"),
        line("caught", REFUSED, figures(bytes=2)),
        line("no data here", NOT_MEASURED, figures(bytes=2)),
        Line("nothing", "", "nothing/-", None, UNREADABLE, reasons=("no entry",)),
    )
    assert found == {
        **{"small": (1, 3), "fast": (2, 1), "nearly as fast": (2, 1), "LiteRT": (4, 1), "open": (1, 1)},
        **dict.fromkeys(("tiny and wrong", "own data", "caught", "no data here", "nothing"), (None, None)),
    }


def test_who_handed_in_the_same_file_is_said():
    lines = ranked([line("Ada"), line("Bob"), line("Eve", sha256="c" * 64)])
    assert {found.learner: found.twins for found in lines} == {"Ada": ("Bob",), "Bob": ("Ada",), "Eve": ()}
    assert "the same file as that of Bob" in page.page(lines, remeasured=False)


def test_the_page_holds_no_mark_up_of_a_learners_and_no_path_of_ours():
    name = "<script>alert(1)</script>"
    lines = ranked([line(name), line("$x$ =1+1", found=figures(bytes=5, accuracy=0.97)), line("b", REFUSED, file=name)])
    shown = page.page(lines, remeasured=True)
    assert "<script" not in shown
    assert html.escape(name) in shown
    assert "$x$" in front_picture(lines).description
    assert str(Path.home()) not in shown


def test_the_table_has_a_cell_for_each_column_of_every_line():
    lines = [line("Ada", MEASURED), line("own", dataset="own/leaves", division="open", found=figures(times_faster=()))]
    lines.append(Line("Bob", "7", "Bob/-", None, UNREADABLE, reasons=("no entry",)))
    head, *rows = page.table(ranked(lines))
    assert {len(row) for row in rows} == {len(head)}
    assert [row[head.index("learner")] for row in rows] == ["Ada", "Bob", "own"]
    assert rows[0][head.index("where")] == "Ada/entry.json"
    assert rows[1][head.index("where")] == "Bob/-"


@pytest.fixture
def unscored(monkeypatch, tmp_path: Path):
    """Enter without measuring: the figures are made up. Return a model file."""
    monkeypatch.setattr(entering, "score", lambda path, dataset, beside: figures(bytes=path.stat().st_size))
    monkeypatch.setattr(entering, "baseline_file", lambda dataset, suffix, folder: None)
    (tmp_path / "net.onnx").write_bytes(b"a model")
    return tmp_path / "net.onnx"


def test_an_entry_and_its_file_lie_side_by_side_in_the_learners_folder(unscored: Path, learners_folder: Path):
    (learners_folder / "es").mkdir()
    row = enter(unscored, name="my int8")
    kept = learners_folder / "leaderboard" / "my int8"
    assert sorted(path.name for path in kept.iterdir()) == [FILE, "net.onnx"]
    assert read((kept / FILE).read_bytes()) == row
    assert row.sha256 == sha256(kept / "net.onnx") == sha256(unscored)
    assert (row.dataset, row.environment) == ("signs", environment())
    assert (row.edgelab_sha256, row.dataset_sha256) == (package_sha256(), dataset_sha256(data.load("signs")))


def test_a_second_entry_of_a_name_replaces_the_first_and_a_stopped_one_leaves_it(
    unscored: Path, learners_folder: Path, monkeypatch
):
    enter(unscored, name="mine", folder=learners_folder / "board")
    unscored.write_bytes(b"a better model")
    second = enter(unscored, name="mine", folder=learners_folder / "board")

    def stopped(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(entering, "score", stopped)
    with pytest.raises(KeyboardInterrupt):
        enter(unscored, name="mine", folder=learners_folder / "board")
    assert [path.name for path in (learners_folder / "board").iterdir()] == ["mine"]
    assert read((learners_folder / "board" / "mine" / FILE).read_bytes()) == second


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "a/b"}, "'a/b' cannot be the name of an entry"),
        ({"division": "mine"}, "There is no division 'mine'. There are: closed, open."),
        ({"path": "gone.onnx"}, "There is no model file gone.onnx"),
        ({"path": "net.txt"}, "net.txt is neither an .onnx nor a .tflite file, nor net.py:function"),
        ({"dataset": "few"}, 'The course has no baseline for .*few: enter it with division="open"'),
    ],
)  # fmt: skip
def test_what_cannot_be_entered_is_one_sentence(
    unscored: Path, few_signs: Path, monkeypatch, changes: dict, sentence: str
):
    monkeypatch.chdir(few_signs.parent)
    (few_signs.parent / STATE).mkdir()
    with pytest.raises(EdgelabError, match=sentence):
        enter(**{"path": unscored, "name": "mine", **changes})


def test_own_data_are_named_without_the_path_to_them_and_have_a_digest(unscored: Path, few_signs: Path):
    row = enter(unscored, name="mine", division="open", dataset=few_signs, folder=few_signs.parent / "board")
    assert (row.dataset, row.passes) == ("own/few", None)
    assert row.dataset_sha256 == dataset_sha256(data.load(few_signs)) != dataset_sha256(data.load("signs"))


def test_the_counted_figures_have_words():
    assert all(checking.in_words(name) for name in checking._COUNTED)


def test_a_file_without_an_accuracy_has_no_place_on_the_board(tmp_path: Path, few_signs: Path):
    kind = TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, kind, ["N", size]) for name, size in (("a", 8), ("b", 5))]
    weight = helper.make_tensor("w", kind, (8, 5), np.ones(40, np.float32))
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "w"], ["b"])], "graph", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), tmp_path / "x.onnx")
    with pytest.raises(EdgelabError, match=r"x\.onnx has no accuracy here, and so no place on the leader board"):
        enter(tmp_path / "x.onnx", name="x", division="open", dataset=few_signs, folder=tmp_path / "board")
    assert list((tmp_path / "board").iterdir()) == []


def test_the_guide_says_the_gate_and_the_limits_that_the_code_has():
    for name in ("INSTRUCTORS.md", "INSTRUCTORS.es.md"):
        guide = (Path(__file__).parents[1] / "labs" / name).read_text("utf-8")
        assert f"{100 * gate('signs'):.2f} %" in guide and f"{100 * gate('fashion-mnist'):.2f} %" in guide
        off, same, other = re.search(
            r"(0\.\d) p(?:oint|unto)s.* (\d) (?:times|veces) .*\((\d) (?:times|veces)", guide
        ).groups()
        assert (float(off), int(same), int(other)) == (100 * checking.ACCURACY, checking.SAME, checking.OTHER)


def test_the_page_is_in_the_language_of_whoever_merges(monkeypatch):
    monkeypatch.setenv("EDGELAB_LANG", "es")
    forget()
    shown = page.page(ranked([line("Ada"), line("Bob", REFUSED)]), remeasured=True)
    forget()
    assert '<html lang="es">' in shown
    assert all(
        text in shown
        for text in ("Clasificación", "división cerrada", "puntos por encima del umbral", "+0.97", "rechazada")
    )


def test_the_baselines_file_is_written_once_or_each_time_where_nothing_can_be_kept(tmp_path: Path, monkeypatch):
    written = []

    def export(_work, dataset: str, path: str):
        written.append(dataset)
        Path(path).write_bytes(b"a baseline")

    monkeypatch.setattr(scoring, "isolated", export)
    monkeypatch.setenv("EDGELAB_DATA", str(tmp_path / "data"))
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        assert scoring.baseline_file("signs", ".onnx", folder).read_bytes() == b"a baseline"
    assert written == ["signs"]
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EDGELAB_DATA", str(tmp_path / "file"))
    found = [scoring.baseline_file("signs", ".tflite", tmp_path / "first") for _again in range(2)]
    assert found[0] == found[1] and found[0].parent == tmp_path / "first"
    assert (len(written), scoring.baseline_file("own/leaves", ".onnx", tmp_path)) == (2, None)
