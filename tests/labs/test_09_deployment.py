"""Lab 09: its pictures and tables follow its numbers, and its sentences hold on both data sets."""

import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from edgelab import data, models
from edgelab.deploy import LEVELS, Lifetime, Runner, arena, compare, duel, lifetimes, microcontroller, npu
from edgelab.deploy.file_costs import file_costs
from edgelab.deploy.litert_runner import LiteRTRunner
from edgelab.errors import EdgelabError
from edgelab.explore import table
from edgelab.explore.explorer import Explorer, choice
from edgelab.labs.lab_08_light_architectures import record
from edgelab.labs.lab_09_deployment import cortex, doors, further, graphs, layers, memory, runtimes, threads
from edgelab.measure import layer_costs, peak_activation_bytes

pytestmark = pytest.mark.usefixtures("learners_folder")

tflm = pytest.mark.skipif(find_spec("tflite_micro") is None, reason="tflite-micro is not installed: edgelab[mcu]")


@pytest.fixture(scope="module", params=["signs", "fashion-mnist"])
def dataset(request):
    if request.param == "fashion-mnist" and data.available()["fashion-mnist"] is None:
        pytest.skip("fashion-mnist is not on this machine")
    return data.load(request.param)


@pytest.fixture(scope="module")
def tests(dataset):
    return data.normalize(dataset.test.images[:200])


@pytest.fixture(scope="module")
def student(dataset, tmp_path_factory):
    """Return the student, written as the lab writes it."""
    folder = tmp_path_factory.mktemp("student")
    (folder / ".edgelab").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model = models.load_pretrained("resnet_tiny", dataset.name)
        written = runtimes.write_all(model, "student", data.normalize(dataset.train.images[:64]))
        files = {key: path.absolute() for key, path in written.files.items()}
        return runtimes.Written(model, written.codes, files)


@pytest.fixture(scope="module")
def case(student, tests):
    files = student.files
    return layers.suspects(
        student.model, student.codes, files["onnxruntime", "int8"], files["litert", "int8"], tests[:32]
    )


def by_hand(tensors):
    steps = range(1 + max(last for _, _, last in tensors))
    return max(sum(-(-size // 16) * 16 for size, first, last in tensors if first <= now <= last) for now in steps)


def test_both_files_ask_the_same_price(student, tests):
    """After exercise 1: the logits move, hardly a class changes, and the two files agree with each other."""
    with torch.inference_mode():
        expected = student.model(tests)
    logits = [Runner.open(student.files[runtime, "int8"])(tests) for runtime in ("onnxruntime", "litert")]
    for got in logits:
        assert (got.argmax(1) == expected.argmax(1)).float().mean() >= 0.97
    apart = [float((got - expected).abs().max()) for got in logits]
    assert float((logits[0] - logits[1]).abs().max()) < 0.5 * min(apart)


def test_integers_come_about_by_fusion(student):
    path = student.files["onnxruntime", "int8"]
    kinds = {level: [node.kind for node in graphs.read_graph(path, level)] for level in LEVELS}
    assert "Conv" in kinds["none"]
    assert not any(kind.startswith("QLinear") for kind in (*kinds["none"], *kinds["basic"]))
    assert "QLinearConv" in kinds["extended"]
    in_float = [node.kind for node in graphs.read_graph(student.files["onnxruntime", "fp32"], "all")]
    assert "Relu" not in in_float
    assert "QLinearConv" in kinds["all"] and "QLinearAdd" in kinds["all"]
    assert not {"Conv", "Relu", "Add"} & set(kinds["all"])
    assert len(kinds["all"]) < len(kinds["none"]) / 2


def test_a_graph_is_drawn_before_and_after(student):
    files = {precision: student.files["onnxruntime", precision] for precision in ("fp32", "int8")}
    found = {
        (precision, level): graphs.read_graph(path, level)
        for precision, path in files.items()
        for level in (graphs.WRITTEN, *LEVELS)
    }
    times = {(precision, level): 0.25 for precision in files for level in LEVELS}
    picture = graphs.graph_plot(found, times, "int8", "all")
    after = found["int8", "all"]
    assert picture.svg.count("<rect") == 3 + sum(
        1 + node.constants for node in (*found["int8", graphs.WRITTEN], *after)
    )
    assert f"{len(after)} as they run; 0.250 ms" in picture.description
    assert "QLinearConv" in picture.description


def test_every_node_but_the_first_reads_one_before_it(student):
    for level in (graphs.WRITTEN, *LEVELS):
        nodes = graphs.read_graph(student.files["onnxruntime", "int8"], level)
        assert nodes[0].reads == ()
        assert all(node.reads and max(node.reads) < place for place, node in enumerate(nodes) if place)


def made_up_times():
    times = {}
    for count, factor in ((1, 1.0), (2, 0.5)):
        for name in (runtimes.PYTORCH, "ONNX Runtime", "LiteRT"):
            times[name, "fp32", count] = factor
        times["ONNX Runtime", "int8", count] = 0.2 / factor  # slower on two threads
        times["LiteRT", "int8", count] = 0.1
    times[runtimes.MICRO, "int8", 1] = 2.0
    return times


def test_the_runtimes_are_drawn_and_the_title_says_what_threads_bring():
    timed = {"student": made_up_times()}
    words = runtimes.runtime_plot(timed, "student", "int8", 2).description
    assert "ONNX Runtime 0.50, LiteRT 1.00" in words
    assert "LiteRT 0.100 ms" in words
    assert runtimes.MICRO not in words
    assert "The fastest here: LiteRT" in runtimes.runtime_plot(timed, "student", "int8", 1).description
    assert "PyTorch 2.00" in runtimes.runtime_plot(timed, "student", "fp32", 2).description


def test_where_two_threads_pay_is_said():
    count = len(threads.CHANNELS)
    late = {("full", "int8"): [0.5] * 2 + [1.5] * (count - 2)}
    assert "from 0.59 million MACs" not in threads.thread_plot(late, "int8", "full").description
    assert "from 2.4 million MACs in a layer on" in threads.thread_plot(late, "int8", "full").description
    always, never = ({("full", "int8"): [value] * count} for value in (1.5, 0.5))
    assert "in every size" in threads.thread_plot(always, "int8", "full").description
    assert "do not pay" in threads.thread_plot(never, "int8", "full").description


def test_layers_are_timed_on_one_thread_and_on_two():
    found = threads.measure((8, 16))
    assert {len(values) for values in found.values()} == {2}
    assert set(found) == {(kind, precision) for kind in ("full", "separable") for precision in ("fp32", "int8")}
    assert all(0 < ratio < 20 for values in found.values() for ratio in values)


@pytest.mark.parametrize(("name", "least", "most"), [("signs", 0.55, 0.6), ("fashion-mnist", 0.42, 0.5)])
def test_the_largest_layers_are_as_the_text_says(name, least, most):
    """About half a million MACs, and 64 times as many."""
    size, channels = (32, 3) if name == "signs" else (28, 1)
    image = torch.zeros(1, channels, size, size)
    largest = [
        max(layer.macs for layer in layer_costs(models.load_pretrained(each, name), image))
        for each in ("resnet_tiny", "resnet")
    ]
    assert least < largest[0] / 1e6 < most
    assert largest[1] == 64 * largest[0]


def test_every_runtime_is_timed(student, tests):
    times = runtimes.time_all(student, tests[:1], seconds=0.001)
    assert set(times) >= {
        (name, precision, count)
        for name in ("ONNX Runtime", "LiteRT")
        for precision in ("fp32", "int8")
        for count in (1, 2)
    }
    assert all(ms > 0 for ms in times.values())


def test_two_kernels_of_one_file_part(student, tests):
    """Some codes differ, most do not, and hardly a class."""
    found = layers.two_kernels(student.files["litert", "int8"], tests)
    assert 0.2 < found.same_codes < 0.999
    assert found.same_class >= 0.98
    assert f"{found.largest:.0f} codes apart" in str(found)


def test_the_quantizer_changes_most_and_kernels_begin_with_one_code(case, student):
    """What the text says of the table, and of the first layer that differs."""
    apart = {name: one.found.largest for name, one in case.items()}
    scale = LiteRTRunner(student.files["litert", "int8"]).output.scale
    assert apart["quantizer"] > 1.5 * max(most for name, most in apart.items() if name != "quantizer")
    assert max(most for name, most in apart.items() if name != "quantizer") < 2.5 * scale
    assert max(apart["both"], apart["micro"]) < 1.5 * scale  # two camps: these pairs hardly part
    assert case["both"].found.mean < case["xnnpack"].found.mean / 5
    for name in ("onnx", "litert", "xnnpack", "both"):
        first = case[name].found.first_apart
        assert first is None or first.largest < 1.5
    first = case["xnnpack"].found.first_apart
    assert first is not None
    assert first.share < case["xnnpack"].found.layers[-1].share
    html = layers.suspect_table(case, student.files["litert", "int8"])._repr_html_()
    assert html.count('scope="row"') == 6
    assert first.name in html


def test_layers_are_drawn_and_the_first_apart_is_named(case):
    first = case["xnnpack"].found.first_apart
    assert f"they part at {first.name}" in layers.layer_plot(case, "xnnpack", "largest").description
    assert "%" in layers.layer_plot(case, "both", "share").svg
    same = layers.Suspect("the kernel", "A, B", case["xnnpack"].found.__class__(0, 0, 1, 1, ()))
    assert "the same in every layer" in layers.layer_plot({"micro": same}, "micro", "share").description


@tflm
def test_micro_is_the_reference_kernels_to_a_code(case):
    assert all(layer.largest < 1.5 for layer in case["micro"].found.layers)


def test_every_control_draws_again(student, case, tests, redraws):
    files = {precision: student.files["onnxruntime", precision] for precision in ("fp32", "int8")}
    every = [
        graphs.graph_explorer(files, tests[:1]),
        runtimes.runtime_explorer({"student": made_up_times(), "baseline": made_up_times()}),
        layers.layer_explorer(case),
        memory.lifetime_explorer(student.files["litert", "int8"], by_hand),
        Explorer(
            partial(threads.thread_plot, {(kind, "int8"): [1.0] * len(threads.CHANNELS) for kind in duel.KINDS}),
            {"precision": choice("numbers", ["int8"]), "kind": choice("convolution", list(duel.KINDS))},
        ),
    ]
    assert redraws(every)


def right_codes(pixels, scale, zero_point):
    return np.clip(np.round((pixels / 128 - 1) / scale) + zero_point, -128, 127).astype(np.int8)


def right_probabilities(codes, scale, zero_point):
    powers = np.exp((codes.astype(int) - zero_point) * scale)
    return powers / powers.sum()


def test_the_doors_match_to_the_code_and_the_way_in_is_one_bit(student, dataset, capsys):
    path = student.files["litert", "int8"]
    doors.try_doors(path, dataset, right_codes, right_probabilities)
    doors.try_doors(path, dataset, lambda pixels, *grid: right_codes(pixels, *grid) // 2, lambda codes, *grid: codes)
    grid, _out, codes, answers, _grid, _again, *wrong = capsys.readouterr().out.splitlines()
    assert grid == "in:  scale 0.007812, zero point 0"
    assert (codes[0], answers[0]) == ("✓", "✓")
    assert "200 of 200" in codes and "200 of 200" in answers
    assert [line[0] for line in wrong] == ["✗", "✗"]
    pixels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(right_codes(pixels, 1 / 128, 0), (pixels ^ 128).view(np.int8))


@tflm
def test_the_sum_by_hand_is_what_the_interpreter_takes_for_activations(student):
    path = student.files["litert", "int8"]
    found, ours = arena(path), by_hand(memory.as_tuples(path))
    assert ours <= found.activations <= 1.04 * ours  # "a few per cent of scratch memory"
    assert 0.17 < found.records / found.bytes < 0.24  # "about a fifth"
    assert found.bytes > ours  # "with an arena for the activations alone none of the four would load"


def test_lifetimes_sum_to_the_counted_peak(student, dataset, tests):
    buffers = lifetimes(student.files["litert", "int8"])
    counted = peak_activation_bytes(student.model, tests[:1], fused=True) // 4
    peak = by_hand([(one.bytes, one.first, one.last) for one in buffers])
    assert counted <= peak <= 1.05 * counted
    assert buffers[0].first == 0 and all(one.first <= one.last for one in buffers)
    steps = range(1 + max(one.last for one in buffers))
    worst = max(steps, key=lambda now: sum(one.bytes for one in buffers if one.first <= now <= one.last))
    assert sum(one.first <= worst <= one.last for one in buffers) == 3  # "three buffers, as in lab 01"


def test_lifetimes_are_drawn():
    buffers = [Lifetime("a", 1000, 0, 1), Lifetime("b", 50, 1, 2)]
    words = memory.lifetime_plot(buffers, 1072, 1).description.replace("\u202f", " ")
    assert "2 buffers alive, 1 050 bytes (your peak: 1 072)" in words


@pytest.fixture
def without_extras(monkeypatch):
    """Take away what `edgelab[mcu]` installs."""
    monkeypatch.setitem(sys.modules, "tflite_micro.python.tflite_micro", None)
    monkeypatch.setattr(microcontroller, "_is_built_for_this_system", lambda: True)
    monkeypatch.setattr(npu, "find_spec", lambda _name: None)


def test_without_the_extras_something_stands_in_and_it_is_said(student, dataset, tests, without_extras, capsys):
    path = student.files["litert", "int8"]
    runner = layers.open_micro(path)
    assert runner.name == "litert-reference"
    assert "stand in" in capsys.readouterr().out
    kept = layers.suspects(student.model, student.codes, student.files["onnxruntime", "int8"], path, tests[:4])
    assert set(kept) == {"quantizer", "onnx", "litert", "xnnpack", "both"}
    times = {(name, "int8", 1): 0.5 for name in ("ONNX Runtime", "LiteRT")}
    html = runtimes.runtime_table(student, dataset, times, runner)._repr_html_()
    assert "LiteRT, reference kernels" in html and runtimes.MICRO not in html
    known = record.network_cost(dataset.name, "resnet_tiny", tests.shape[-1])
    found = memory.taken(path, "resnet_tiny", dataset)
    assert (found.bytes, found.activations) == (known["arena_bytes"], None)
    assert 'pip install "edgelab[mcu]"' in found.words
    assert "on record" in found._repr_html_()
    us, words = cortex.npu_us(path, "resnet_tiny", dataset)
    assert us == known["us"]
    assert "on record" in words
    assert runtimes.MICRO not in {key[0] for key in runtimes.time_all(student, tests[:1], micro=True, seconds=0.001)}


def test_without_the_extras_pictures_that_are_not_on_record_stop_nothing(student, dataset, without_extras, capsys):
    path = student.files["litert", "int8"]
    own = replace(dataset, name="/home/ada/leaves")
    found = memory.taken(path, "resnet_tiny", own)
    assert (found.bytes, found.activations) == (file_costs(path).peak_bytes, None)
    assert "is missing" in found.words and "activations stand in" in found._repr_html_()
    html = memory.arena_table({"ResNet tiny": ("resnet_tiny", path)}, own, by_hand)._repr_html_()
    assert html.count("<td>") == 4
    files = {"ResNet tiny": ("resnet_tiny", student.model, path)}
    html = cortex.device_table(files, own, lambda macs, _clock, _known: (1.0, macs / 1e3))._repr_html_()
    assert html.endswith("<td>–</td><td>–</td></tr></tbody></table></div>")
    assert "there are no figures for the NPU" in capsys.readouterr().out


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_converters_fault_is_found_at_its_layer(student, tests, number):
    path = further.faulty_file(student.codes, tests[:1], number)
    found = compare(student.codes, path, tests[:8])
    blamed = next(layer for layer in found.layers if layer.largest > 10)
    assert blamed.name.startswith(further.LAYERS[number - 1].rpartition(".")[0].replace(".", "_"))
    with pytest.raises(EdgelabError, match="cases 1 to 3"):
        further.faulty_file(student.codes, tests[:1], 4)


def test_the_benchmarks_networks_are_counted():
    """Banbury et al., 2021: ResNet-8 12.5 M MACs, DS-CNN 2.7 M, MobileNetV1 7.5 M."""
    counted = [cortex.macs_of(name) for name in (cortex.RESNET_8, cortex.KEYWORDS, cortex.WAKE_WORDS)]
    assert [round(macs / 1e6, 2) for macs in counted] == [12.5, 2.66, 7.49]


def test_what_the_text_says_of_the_cortex_m4():
    ms = cortex.published(cortex.RESNET_8).ms
    assert cortex.published(cortex.KEYWORDS).ms == 43.4
    estimate = 43.4 * cortex.macs_of(cortex.RESNET_8) / cortex.macs_of(cortex.KEYWORDS)
    assert round(estimate) == 204
    assert 1.2 < estimate / ms < 1.3  # "a quarter too high"
    assert 4 < cortex.published(cortex.RESNET_8, fastest=False).ms / ms < 5
    cycles = [cortex.cycles_per_mac(name) for name in (cortex.RESNET_8, cortex.KEYWORDS, cortex.WAKE_WORDS)]
    assert max(cycles) / min(cycles) < 1.4  # "among these three the method errs by a factor of 1.4 at most"
    assert min(cycles) == cycles[2]  # the MobileNet has the fewest of all
    assert min(cycles) > 1 / cortex.board().macs_per_cycle["int8"]
    assert cortex.published_table()._repr_html_().count('scope="row"') == 4


def test_a_litert_file_makes_a_row_of_its_own(student, dataset):
    small = data.Dataset(dataset.name, dataset.classes, dataset.train[:4], dataset.test[:4])
    path = student.files["litert", "int8"]
    table.add("student int8, LiteRT", student.model, small, accuracy=0.9, file=path, precision="int8")
    row = table.rows(dataset.name)["student int8, LiteRT"]
    assert (row.runtime, row.size_bytes) == ("LiteRT", path.stat().st_size)
    assert "LiteRT, 1" in table.show(small)._repr_html_()
