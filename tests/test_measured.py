"""`edgelab measure` and what is under it: costs of files counted by hand, comparisons, and files that are damaged."""

import copy
import json
import os
import random
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from typer.testing import CliRunner

from edgelab import data
from edgelab.cli import app
from edgelab.data import normalize
from edgelab.deploy import Runner, compare, measured, to_litert, to_onnx
from edgelab.deploy.file_costs import file_costs, lifetimes
from edgelab.deploy.isolated import isolated
from edgelab.deploy.measured import find_device
from edgelab.deploy.tflite import inline_buffers
from edgelab.errors import EdgelabError
from edgelab.measure import count_macs, peak_activation_bytes
from edgelab.models import load_pretrained
from edgelab.quantization import calibrate, convert, prepare


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """Return the zoo's tiny student, float and int8, as four files."""
    folder, signs = tmp_path_factory.mktemp("student"), data.load("signs")
    model = load_pretrained("resnet_tiny")
    codes = convert(calibrate(prepare(model), normalize(signs.train.images[:64])))
    image = normalize(signs.test.images[:1])
    for name, network in (("float", model), ("int8", codes)):
        to_onnx(network, image, folder / f"{name}.onnx")
        to_litert(network, image, folder / f"{name}.tflite")
    return folder, model, codes, normalize(signs.test.images[:24])


@pytest.mark.parametrize(("name", "shrink"), [("float.onnx", 1), ("float.tflite", 1), ("int8.tflite", 4)])
def test_a_files_costs_are_the_models(name, shrink, student):
    folder, model, _codes, images = student
    found = file_costs(folder / name)
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert found.params == sum(layer.weight.numel() + layer.weight.shape[0] for layer in layers)
    assert found.macs == count_macs(model, images[:1])
    assert found.peak_bytes == peak_activation_bytes(model, images[:1], fused=True) // shrink
    assert found.precision == ("int8" if shrink == 4 else "fp32")
    weights = sum(layer.weight.numel() for layer in layers)
    biases = sum(layer.weight.shape[0] for layer in layers)
    assert found.weight_bytes == 4 * weights // shrink + 4 * biases


def test_the_channel_that_onnx_is_given_for_nothing_is_counted(student):
    folder = student[0]
    found, plain = file_costs(folder / "int8.onnx"), file_costs(folder / "int8.tflite")
    assert found.macs - plain.macs == 32 * 32 * 8 * 9  # one more input channel of the first layer, of zeros
    assert found.params - plain.params == 8 * 9
    assert found.precision == "int8"
    assert found.peak_bytes == plain.peak_bytes


def test_lifetimes_make_up_the_peak(student):
    """And they are what a file says: the picture first, the logits last, no weights."""
    path = student[0] / "int8.tflite"
    buffers = lifetimes(path)
    steps = range(1 + max(one.last for one in buffers))
    alive = [sum(one.bytes for one in buffers if one.first <= step <= one.last) for step in steps]
    assert max(alive) == file_costs(path).peak_bytes
    assert (buffers[0].bytes, buffers[0].first) == (3 * 32 * 32, 0)
    assert (buffers[-1].bytes, buffers[-1].last) == (16, steps[-1])


def test_two_runs_of_one_model_are_compared_layer_by_layer(student):
    folder, _model, codes, images = student
    found = compare(codes, folder / "int8.tflite", images)
    assert len(found.layers) > 10
    # An addition may have a third of its inputs' step: where one of those is a code apart, it is three.
    steps = {name: max(layer.unit for layer in stage) for name, stage in groupby(found.layers, _stage)}
    assert all(layer.largest * layer.unit < 1.5 * steps[_stage(layer)] for layer in found.layers)
    same = compare(folder / "int8.tflite", folder / "int8.tflite", images)
    assert (same.largest, same.agreement, same.first_apart) == (0, 1, None)
    assert len(same.layers) == 17  # every operator of the file


def _stage(layer):
    return layer.name[:8]  # stages_1_body_0_2 is of stages_1


def test_where_two_runs_part_is_said(student, tmp_path):
    """A wrong weight in the second stage: all is the same before it, and nothing after it."""
    _folder, _model, codes, images = student
    other = convert_again(codes)
    found = compare(codes, to_litert(other, images[:1], tmp_path / "other.tflite"), images)
    assert found.first_apart is not None
    assert found.first_apart.name.startswith("stages_1")
    assert found.first_apart.largest > 2


def convert_again(codes):
    """Return a copy whose first layer of the second stage has its codes the other way round."""
    other = copy.deepcopy(codes)
    layer = other.get_submodule("stages.1.body.0.0")
    with torch.no_grad():
        layer.weight.copy_(layer.weight.flip(2))
    return other


@pytest.mark.skipif(sys.platform != "linux", reason="TensorFlow Lite Micro is built for Linux alone")
def test_micro_and_reference_kernels_are_compared_inside(student):
    pytest.importorskip("tflite_micro", reason="tflite-micro is not installed: edgelab[mcu]")
    folder, _model, _codes, images = student
    path = folder / "int8.tflite"
    found = compare(Runner.open(path, runtime="tflm"), Runner.open(path, runtime="litert-reference"), images)
    assert len(found.layers) == 17
    assert all(layer.largest < 1.5 for layer in found.layers)


def run(*arguments):
    return CliRunner().invoke(app, ["measure", *map(str, arguments)])


def test_files_are_measured_and_compared_with_the_first(student, few_signs, tmp_path):
    folder = student[0]
    files = [folder / "float.tflite", folder / "int8.tflite", folder / "int8.onnx"]
    result = run(*files, "--dataset", few_signs, "--device", "L4R5", "--json", "--plot", tmp_path / "plot.png")
    assert result.exit_code == 0, result.output
    models = json.loads(result.stdout)["models"]
    first, second, third = (models[str(file)] for file in files)
    assert first["speed"] is None
    assert second["speed"]["low"] <= second["speed"]["ratio"] <= second["speed"]["high"]
    assert second["speed"]["verdict"] in ("faster", "slower", "inconclusive")
    assert (first["runtime"], third["runtime"]) == ("LiteRT", "ONNX Runtime")
    assert 0 <= second["accuracy"] <= 1
    assert second["breaks"] == []
    assert third["arena_bytes"] is None and third["npu"] is None
    assert "quantize it" in first["unmeasured"]["npu"]
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_file_of_others_is_measured_without_accuracy_and_it_is_said(tmp_path, few_signs):
    """Two inputs, two outputs, an open batch, an old opset."""
    kind = TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info(name, kind, ["N", 8]) for name in "ab"]
    outputs = [helper.make_tensor_value_info(name, kind, ["N", 5]) for name in ("c", "d")]
    weight = helper.make_tensor("w", kind, (8, 5), np.ones(40, np.float32))
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
    ]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=6)
    onnx.save(model, tmp_path / "odd.onnx")
    assert file_costs(tmp_path / "odd.onnx").macs == 40
    result = run(tmp_path / "odd.onnx", "--dataset", few_signs)
    assert result.exit_code == 0, result.output
    assert "accuracy is left out" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gone.onnx"], "There is no model file gone.onnx"),
        (["no_such_model"], "no checkpoint of 'no_such_model'"),
        (["resnet_tiny", "--device", "toaster"], "'toaster' names no card"),
        ([Path(__file__).parent / "signs_reference.txt"], "neither an .onnx nor a .tflite file"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(arguments, words, capfd):
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.output + capfd.readouterr().err


def test_a_card_is_known_by_some_words_of_its_name():
    assert find_device("l4r5").name == "NUCLEO-L4R5ZI (STM32L4R5)"
    with pytest.raises(EdgelabError, match="or several"):
        find_device("NUCLEO")


def crash(say, how):
    say("bad.tflite")
    if how == "crash":
        os.kill(os.getpid(), 11)
    if how == "bug":
        raise IndexError("list index out of range")
    while how == "loop":
        pass
    return "fine"


def test_what_happens_in_the_other_process_is_a_sentence_here():
    assert isolated(crash, "nothing") == "fine"
    with pytest.raises(EdgelabError, match=r"bad\.tflite makes its runtime crash \(SIGSEGV\)"):
        isolated(crash, "crash")
    with pytest.raises(EdgelabError, match=r"bad\.tflite cannot be measured: list index"):
        isolated(crash, "bug")
    with pytest.raises(EdgelabError, match=r"bad\.tflite took more than 2 s"):
        isolated(crash, "loop", seconds=2)


@pytest.mark.skipif(sys.platform != "linux", reason="only there is memory limited")
def test_where_memory_is_limited_already_the_limit_is_lowered_and_never_raised():
    limit = 2**30
    code = (
        "import resource; from edgelab.deploy import isolated; "
        f"resource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit})); isolated._limit_memory(); "
        "print(*resource.getrlimit(resource.RLIMIT_DATA))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(limit)] * 2


def open_all(say, paths):
    """Do with each file what `edgelab measure` does before it takes the time; return what was refused."""
    refused = {}
    for path in paths:
        say(path)
        try:
            measured.any_run(Path(path), 1)
            file_costs(path)
            Runner.open(path)(torch.zeros(1, 3, 32, 32))
            if path.endswith(".tflite"):
                inline_buffers(Path(path).read_bytes(), path)
        except EdgelabError as error:
            refused[path] = str(error)
        except Exception as error:  # as `isolated` does, without ending here
            refused[path] = f"{path} cannot be measured: {error}"
    return refused


def fuzzed(content, count, seed):
    """Yield damaged copies: cut off anywhere, or with some bytes changed."""
    chance = random.Random(seed)
    for number in range(count):
        if number % 2:
            yield content[: chance.randrange(len(content))]
            continue
        damaged = bytearray(content)
        for _flip in range(chance.choice([1, 4, 32])):
            # Most of a file are weights: look for structure at its ends.
            end = min(len(content), 4000) if chance.random() < 0.7 else len(content)
            damaged[chance.randrange(end) * chance.choice([1, -1])] = chance.randrange(256)
        yield bytes(damaged)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("int8.tflite", 24),
        ("float.onnx", 24),
        *(pytest.param(f"{kind}.{suffix}", 500, marks=pytest.mark.long)
          for kind in ("int8", "float") for suffix in ("tflite", "onnx")),
    ],
)  # fmt: skip
def test_damaged_files_are_refused_or_measured_and_never_crash(name, count, student, tmp_path):
    content = (student[0] / name).read_bytes()
    paths = []
    for number, damaged in enumerate(fuzzed(content, count, seed=count)):
        path = tmp_path / f"{number}{Path(name).suffix}"
        path.write_bytes(damaged)
        paths.append(str(path))
    refused: dict[str, str] = {}
    while paths:
        try:
            refused |= isolated(open_all, paths, seconds=60)
            break
        except EdgelabError as error:  # that file ended the process: it is named, and the others go on
            place = next(path for path in paths if str(error).startswith(f"{path} "))
            refused[place] = str(error)
            paths = paths[paths.index(place) + 1 :]
    assert len(refused) >= count // 2  # all that are cut off, at least
    assert not [sentence for sentence in refused.values() if "\n" in sentence.strip()]
