"""The runtimes in figures: the same integers in ONNX Runtime, LiteRT and Micro, and beside the tools of LiteRT."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import fx, nn

from edgelab import data
from edgelab.bench.claims import Claim
from edgelab.data import Dataset, normalize
from edgelab.deploy import Runner, arena, compare, litert_quantizers, npu_estimate, to_litert, to_onnx
from edgelab.measure import compare_latency, peak_activation_bytes
from edgelab.models import load_pretrained
from edgelab.models.zoo import RECIPES
from edgelab.quantization import QuantizationConfig, calibrate, convert, prepare
from edgelab.train import accuracy, fit, predict

DATASETS = ("signs", "fashion-mnist")
CALIBRATION_IMAGES = 512
MIN_MAX = QuantizationConfig()  # as ai-edge-quantizer does
LESSONS = 4_000  # training images of the quantization-aware training: it has only to be another model than the PTQ's
_FEW = 20  # images for the runtimes that are slow here: plain loops

# Run by the Python of litert-torch's environment: the exported program, where to write, and the seconds it took.
_CONVERT = """
import sys, time, torch, litert_torch
model = torch.export.load(sys.argv[1]).module()
example = torch.load(sys.argv[2])
start = time.perf_counter()
litert_torch.convert(model, (example,)).export(sys.argv[3])
print("seconds", time.perf_counter() - start)
"""


def claims(*, litert_torch: Path | None = None) -> Iterator[Claim]:
    """Yield every figure on both data sets as it is measured; `litert_torch` is the Python of its environment."""
    for dataset in DATASETS:
        loaded = data.load(dataset)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for model in ("resnet", "resnet_tiny"):
                yield from one_calibration(loaded, model, folder)
            yield from one_training(loaded, folder)
            yield from beside_their_quantizer(loaded, folder)
            for model in RECIPES:
                yield from on_a_microcontroller(loaded, model, folder)
            if litert_torch is not None:
                yield from beside_their_converter(loaded, folder, litert_torch)
    yield measure_seconds()
    yield help_seconds()


def one_calibration(loaded: Dataset, name: str, folder: Path) -> list[Claim]:
    """Return what a model quantized without training is in both runtimes; its ranges are those of least error."""
    quantized = _ptq(loaded, name, QuantizationConfig(observer="mse"))
    return _in_both(loaded, f"{loaded.name}/{name}, PTQ", load_pretrained(name, loaded.name), quantized, folder)


def one_training(loaded: Dataset, folder: Path) -> list[Claim]:
    """Return what the tiny student, trained with its roundings, is in both runtimes."""
    model = load_pretrained("resnet_tiny", loaded.name)
    prepared = calibrate(prepare(model), normalize(loaded.train.images[:CALIBRATION_IMAGES]))
    fit(prepared, loaded.train[:LESSONS], epochs=1, lr=0.001, seed=0)
    return _in_both(loaded, f"{loaded.name}/resnet_tiny, QAT", model, convert(prepared), folder)


def _in_both(loaded: Dataset, name: str, floating: nn.Module, codes: fx.GraphModule, folder: Path) -> list[Claim]:
    image = normalize(loaded.test.images[:1])
    paths = [to_onnx(codes, image, folder / "codes.onnx"), to_litert(codes, image, folder / "codes.tflite")]
    onnx, litert = (predict(Runner.open(path), loaded.test) for path in paths)
    reference = accuracy(predict(floating, loaded.test), loaded.test)
    first, second = (accuracy(logits, loaded.test) for logits in (onnx, litert))
    agreement = float((onnx.argmax(1) == litert.argmax(1)).float().mean())
    return [
        Claim(f"{name}: float accuracy", 100 * reference, "%"),
        Claim(f"{name}: LiteRT int8, points lost", _points(reference, second), at_most=0.3),
        Claim(f"{name}: ONNX Runtime int8, points lost", _points(reference, first), at_most=0.3),
        Claim(f"{name}: points between the two", abs(_points(first, second)), at_most=0.3),
        Claim(f"{name}: the same class in both", 100 * agreement, "%", at_least=99.5),
    ]


def beside_their_quantizer(loaded: Dataset, folder: Path) -> list[Claim]:
    """Return the baseline by our quantization beside ai-edge-quantizer's, on the same images."""
    image = normalize(loaded.test.images[:1])
    floating = to_litert(load_pretrained("resnet", loaded.name), image, folder / "float.tflite")
    ours = to_litert(_ptq(loaded, "resnet"), image, folder / "ours.tflite")
    images = normalize(loaded.train.images[:CALIBRATION_IMAGES])
    theirs = litert_quantizers.quantize(floating, folder / "theirs.tflite", images)
    mine, other = (accuracy(predict(Runner.open(path), loaded.test), loaded.test) for path in (ours, theirs))
    runs = {name: Runner.open(path).once(image) for name, path in (("ours", ours), ("theirs", theirs))}
    name = f"{loaded.name}/resnet, ai-edge-quantizer"
    return [
        Claim(f"{name}: its accuracy", 100 * other, "%"),
        Claim(f"{name}: points we are behind", _points(other, mine), at_most=0.1),
        Claim(f"{name}: our bytes over its", ours.stat().st_size / theirs.stat().st_size, "x", at_most=1.05),
        Claim(f"{name}: our latency over its", 1 / _speed(runs), "x", at_most=1.05),
    ]


def on_a_microcontroller(loaded: Dataset, name: str, folder: Path) -> list[Claim]:
    """Return whether TensorFlow Lite Micro gives the reference kernels' codes, and what its arena holds."""
    images = normalize(loaded.test.images[:_FEW])
    path = to_litert(_ptq(loaded, name), images[:1], folder / "micro.tflite")
    found = compare(Runner.open(path, runtime="tflm"), Runner.open(path, runtime="litert-reference"), images)
    against = compare(path, Runner.open(path, runtime="litert-reference"), images)
    steps = max((layer.largest for layer in found.layers), default=0.0)
    kept, npu = arena(path), npu_estimate(path)
    peak = peak_activation_bytes(load_pretrained(name, loaded.name), images[:1], fused=True) / 4
    title = f"{loaded.name}/{name}, Micro"
    return [
        Claim(f"{title}: largest difference from the reference kernels, codes", steps, at_most=0),
        Claim(
            f"{title}: XNNPACK's largest difference, codes", max((each.largest for each in against.layers), default=0)
        ),
        Claim(f"{title}: arena for activations over their counted peak", kept.activations / peak, "x", at_most=1.1),
        Claim(f"{title}: whole arena, KiB", kept.bytes / 1024),
        Claim(f"{title}: of it records, KiB", kept.records / 1024),
        Claim(f"{title}: file, KiB", path.stat().st_size / 1024),
        Claim(f"{title}: Arm's estimate for an Ethos-U55-128, µs", npu.microseconds),
        Claim(f"{title}: its flash, KiB", npu.flash_bytes / 1024),
    ]


def beside_their_converter(loaded: Dataset, folder: Path, python: Path) -> list[Claim]:
    """Return the baseline in float by our writer beside litert-torch's."""
    model, images = load_pretrained("resnet", loaded.name), normalize(loaded.test.images[:64])
    start = time.perf_counter()
    ours = to_litert(model, images[:1], folder / "ours_float.tflite")
    seconds = time.perf_counter() - start
    torch.export.save(torch.export.export(model, (images[:1],)), folder / "model.pt2")
    torch.save(images[:1], folder / "example.pt")
    theirs = folder / "theirs_float.tflite"
    files = [str(folder / "model.pt2"), str(folder / "example.pt"), str(theirs)]
    done = subprocess.run([python, "-c", _CONVERT, *files], capture_output=True, text=True, check=True)
    theirs_seconds = float(done.stdout.split("seconds ")[-1])
    found = compare(ours, theirs, images)
    runs = {name: Runner.open(path).once(images[:1]) for name, path in (("ours", ours), ("theirs", theirs))}
    name = f"{loaded.name}/resnet, litert-torch"
    return [
        Claim(f"{name}: largest difference, of the span in 1e-4", 1e4 * found.largest / found.span, at_most=1),
        Claim(f"{name}: our latency over its", 1 / _speed(runs), "x", at_most=1.02),
        Claim(f"{name}: our bytes over its", ours.stat().st_size / theirs.stat().st_size, "x"),
        Claim(f"{name}: our conversion", seconds, "s", at_most=5),
        Claim(f"{name}: its conversion", theirs_seconds, "s"),
    ]


def measure_seconds() -> Claim:
    """Return what `edgelab measure` takes for two models."""
    seconds = _command("measure", "resnet_tiny", "mobilenet_v1_025", "--dataset", "signs", "--json")
    return Claim("edgelab measure, two models on signs", seconds, "s", at_most=20)


def help_seconds() -> Claim:
    """Return what its start takes."""
    return Claim("edgelab measure --help", min(_command("measure", "--help") for _repeat in range(3)), "s", at_most=0.5)


def _command(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "edgelab", *arguments], capture_output=True, check=True)
    return time.perf_counter() - start


def _ptq(loaded: Dataset, name: str, config: QuantizationConfig = MIN_MAX) -> fx.GraphModule:
    images = normalize(loaded.train.images[:CALIBRATION_IMAGES])
    return convert(calibrate(prepare(load_pretrained(name, loaded.name), config), images))


def _speed(runs: dict) -> float:
    """Return how many times as fast ours is as theirs."""
    return compare_latency({"theirs": runs["theirs"], "ours": runs["ours"]}).ratio


def _points(reference: float, other: float) -> float:
    return round(100 * (reference - other), 6)
