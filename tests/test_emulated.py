"""Evaluated is deployed on a processor without VNNI: the zoo under an emulated Haswell, by Debian's qemu-user."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgelab import data, train
from edgelab.data import normalize
from edgelab.deploy import Runner, saturation, to_onnx
from edgelab.models import load_pretrained
from edgelab.quantization import calibrate, convert, prepare

IMAGES = {"resnet_tiny": 1000, "mobilenet_v1_025": 300, "mobilenet_v2_050": 200, "resnet": 60}  # about a minute each
CHILD = """
import sys
sys.path[:0] = [sys.argv[1]]
import numpy, onnxruntime
_self, _packages, model, images, exact, out = sys.argv
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.add_session_config_entry("session.x64quantprecision", exact)
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
name = session.get_inputs()[0].name
parts = numpy.array_split(numpy.load(images), 10)
numpy.save(out, numpy.concatenate([session.run(None, {name: part})[0] for part in parts]))
"""


def emulated(model, images, folder, *, exact):
    """Return the logits of an .onnx file on an emulated Haswell, which has AVX2 and no VNNI."""
    out, pictures = folder / f"{exact}.npy", folder / "images.npy"
    np.save(pictures, images)
    python, packages = Path(sys.executable).resolve(), sysconfig.get_paths()["purelib"]
    command = ["qemu-x86_64", "-cpu", "Haswell-noTSX", python, "-c", CHILD, packages, model, pictures, str(exact), out]
    subprocess.run(command, check=True, capture_output=True, env={"OMP_NUM_THREADS": "1"})
    return np.load(out)


@pytest.fixture(autouse=True)
def emulator():
    if shutil.which("qemu-x86_64") is None:
        pytest.skip("qemu-x86_64 is not on this machine: apt-get install qemu-user")


@pytest.fixture(scope="module")
def signs():
    return data.load("signs")


def deployed(name, signs, folder):
    images = normalize(signs.train.images[:256])
    converted = convert(calibrate(prepare(load_pretrained(name)), images))
    return to_onnx(converted, images[:1], folder / "model.onnx", dynamic_batch=True)


@pytest.mark.long
@pytest.mark.parametrize("name", IMAGES)
def test_the_zoo_answers_as_it_does_here(name, signs, tmp_path):
    path, split = deployed(name, signs, tmp_path), signs.test[: IMAGES[name]]
    there = emulated(path, normalize(split.images).numpy(), tmp_path, exact=1)
    here = train.predict(Runner.open(path), split).numpy()
    assert (there == here).mean() > 0.999
    accuracy = [(logits.argmax(1) == split.labels.numpy()).mean() for logits in (there, here)]
    assert abs(accuracy[0] - accuracy[1]) <= 0.003


@pytest.mark.long
def test_without_the_option_it_would_not(signs, tmp_path):
    path, split = deployed("resnet_tiny", signs, tmp_path), signs.test[:300]
    fast, exact = (emulated(path, normalize(split.images).numpy(), tmp_path, exact=exact) for exact in (0, 1))
    assert (fast == exact).mean() < 0.5
    right = [(logits.argmax(1) == split.labels.numpy()).mean() for logits in (fast, exact)]
    assert right[0] < right[1] - 0.01


def test_the_largest_codes_tell_it(tmp_path):
    onnx.save(saturation.largest_product(), tmp_path / "product.onnx")
    codes, right = saturation.largest_codes(), saturation.PRODUCTS * 255 * 127
    fast, exact = (emulated(tmp_path / "product.onnx", codes, tmp_path, exact=exact) for exact in (0, 1))
    assert (fast < right).all() and (exact == right).all()
