"""TensorFlow Lite Micro, its arena, C arrays and Vela, against LiteRT's reference kernels, sums and a C compiler."""

import shutil
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from edgelab import data, deploy
from edgelab.data import normalize
from edgelab.deploy import Runner, arena, arena_bytes, c_array, microcontroller, npu, npu_estimate, to_litert
from edgelab.errors import EdgelabError
from edgelab.measure import count_macs, peak_activation_bytes
from edgelab.models import load_pretrained
from edgelab.quantization import QuantizationConfig, calibrate, convert, prepare


@pytest.fixture(scope="module")
def signs():
    return data.load("signs")


@pytest.fixture(scope="module")
def student(signs, tmp_path_factory):
    """Return the zoo's tiny student in int8: the file, its model in float, and images."""
    model = load_pretrained("resnet_tiny")
    converted = convert(calibrate(prepare(model), normalize(signs.train.images[:64])))
    images = normalize(signs.test.images[:8])
    return to_litert(converted, images[:1], tmp_path_factory.mktemp("student") / "model.tflite"), model, images


def needs(package, module):
    return pytest.mark.skipif(find_spec(module) is None, reason=f"{package} is not installed: edgelab[mcu]")


tflm = needs("tflite-micro", "tflite_micro")
vela = needs("ethos-u-vela", "ethosu")


@tflm
def test_micro_gives_the_codes_of_the_reference_kernels(student):
    path, _model, images = student
    micro, reference = Runner.open(path, runtime="tflm"), Runner.open(path, runtime="litert-reference")
    assert (micro.name, reference.name) == ("tflm", "litert-reference")
    apart = (micro(images) - reference(images)).abs() / micro.output.scale
    assert apart.max() < 1.5  # two implementations of one specification: a code at most
    assert (apart < 0.5).float().mean() > 0.95
    assert torch.equal(micro(images).argmax(1), reference(images).argmax(1))


@tflm
def test_the_arena_is_the_peak_of_activations_and_records_that_have_a_name(student):
    path, model, images = student
    found, peak = arena(path), peak_activation_bytes(model, images[:1], fused=True) // 4
    assert peak <= found.activations <= 1.1 * peak
    assert found.bytes == arena_bytes(path) == found.activations + found.records
    channels = sum(layer.weight.shape[0] for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear)))
    assert found.records > 8 * channels


@tflm
def test_a_float_model_runs_as_well(student, tmp_path):
    _path, model, images = student
    path = to_litert(model, images[:1], tmp_path / "float.tflite")
    with torch.inference_mode():
        torch.testing.assert_close(Runner.open(path, runtime="tflm")(images), model(images), rtol=1e-3, atol=1e-3)


@tflm
@pytest.mark.parametrize(
    "function", [arena_bytes, lambda path: Runner.open(path, runtime="tflm")], ids=["arena", "run"]
)
def test_an_operator_that_micro_lacks_is_named(function, tmp_path):
    path = to_litert(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU()), torch.zeros(1, 3, 4, 4), tmp_path / "model.tflite")
    with pytest.raises(EdgelabError, match=r"Micro cannot load .*model\.tflite: .*GELU") as caught:
        function(path)
    assert "\n" not in str(caught.value)


def test_where_micro_is_not_built_the_reference_kernels_stand_in_and_it_is_said(student, monkeypatch, capsys):
    path, _model, images = student
    monkeypatch.setattr(sys, "platform", "darwin")
    runner = Runner.open(path, runtime="tflm")
    assert "stand in" in capsys.readouterr().out
    assert runner.name == "litert-reference"
    assert torch.equal(runner(images), Runner.open(path, runtime="litert-reference")(images))


def test_what_is_not_installed_is_named(student, monkeypatch):
    path = student[0]
    monkeypatch.setitem(sys.modules, "tflite_micro.python.tflite_micro", None)
    monkeypatch.setattr(microcontroller, "_is_built_for_this_system", lambda: True)
    monkeypatch.setattr(npu, "find_spec", lambda _name: None)
    for call in (lambda: Runner.open(path, runtime="tflm"), lambda: arena_bytes(path), lambda: npu_estimate(path)):
        with pytest.raises(EdgelabError, match=r'pip install "edgelab\[mcu\]"'):
            call()


@vela
def test_velas_estimate_of_the_student(student):
    path, model, images = student
    found = npu_estimate(path)
    assert found.accelerator == "ethos-u55-128"
    assert found.npu_share == 1 and found.cpu_operators == ()
    assert 100 < found.microseconds < 400
    assert 15_000 < found.flash_bytes < path.stat().st_size
    assert found.sram_bytes > peak_activation_bytes(model, images[:1], fused=True) // 4
    cycles = found.microseconds * 1e-6 * found.clock_hz
    assert found.macs_per_cycle == pytest.approx(count_macs(model, images[:1]) / cycles, rel=0.02)
    assert found.macs_per_cycle < 128


@vela
def test_operators_that_stay_on_the_cpu_are_counted_and_named(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ELU(), nn.Conv2d(8, 8, 3))
    images = torch.randn(8, 3, 8, 8)
    codes = convert(calibrate(prepare(model, QuantizationConfig(skip=("2",))), images))
    found = npu_estimate(to_litert(codes, images[:1], tmp_path / "model.tflite"))
    assert 0 < found.npu_share < 1
    assert "output" in found.cpu_operators


@vela
def test_a_float_model_has_no_estimate(student, tmp_path):
    path = to_litert(student[1], student[2][:1], tmp_path / "float.tflite")
    with pytest.raises(EdgelabError, match=r"Nothing of .*float\.tflite runs on an NPU"):
        npu_estimate(path)


@vela
def test_vela_names_what_it_cannot_do(student, tmp_path):
    with pytest.raises(EdgelabError, match=r"no accelerator 'ethos-u99'\. There are: ethos-u55-32, "):
        npu_estimate(student[0], accelerator="ethos-u99")
    with pytest.raises(EdgelabError, match="no model file"):
        npu_estimate(tmp_path / "gone.tflite")
    (tmp_path / "text.tflite").write_bytes(b"not a model at all")
    with pytest.raises(EdgelabError, match="no TensorFlow Lite file"):
        npu_estimate(tmp_path / "text.tflite")


def test_a_c_compiler_takes_the_array_and_finds_the_files_bytes(student, tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    path = student[0]
    header, source = c_array(path, "student")
    (tmp_path / "student.h").write_text(header)
    (tmp_path / "student.c").write_text(source)
    (tmp_path / "main.c").write_text(
        '#include "student.h"\n#include <stdint.h>\n#include <stdio.h>\n'
        "int main(void) { fwrite(student, 1, student_len, stdout); return (uintptr_t)student % 16; }\n"
    )
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "student.c", "main.c", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout == path.read_bytes()


def test_an_array_needs_a_name_that_c_takes(student):
    with pytest.raises(EdgelabError, match="'2 fast' is no name"):
        c_array(student[0], "2 fast")
    assert deploy.c_array(student[0]).header.startswith("#ifndef MODEL_H")
