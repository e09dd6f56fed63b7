"""Quantization in figures: int8 without training, of other kinds of networks too, and training for few bits."""

import inspect
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import fx, nn

from edgelab import data
from edgelab.bars import track
from edgelab.bench.claims import Claim
from edgelab.deploy import Runner, onnxruntime_quantizers, to_onnx
from edgelab.measure import compare_latency
from edgelab.models import load_pretrained
from edgelab.quantization import (
    QuantizationConfig,
    calibrate,
    convert,
    correct_bias,
    equalize,
    prepare,
)
from edgelab.train import evaluate, fit

Made = TypeVar("Made")
DATASETS = ("signs", "fashion-mnist")
CALIBRATION_IMAGES = 512
SEEDS = (0, 1, 2)
OTHER_IMAGES = 64  # that calibrate the untrained networks of other kinds
LESSONS = 12_000  # training images of the few-bit trainings, one pass: as many as lab 04 takes


# A vision transformer and a ConvNeXt, small ones, by timm's classes and their options.
OTHER_KINDS = {
    "vision transformer": ("VisionTransformer", {"patch_size": 4, "embed_dim": 128, "depth": 4, "num_heads": 4}),
    "ConvNeXt": ("ConvNeXt", {"patch_size": 2, "depths": (1, 1, 2, 1), "dims": (32, 64, 128, 256)}),
}


def claims(*, training: bool = True) -> Iterator[Claim]:
    """Yield every figure on both data sets as it is measured, the slow ones, which need training, last."""
    for dataset in DATASETS:
        yield from int8_without_training(dataset)
        for name in ("mobilenet_v2_050", "mobilenet_v1_025"):
            yield from mobilenet_cures(dataset, name)
    for name in OTHER_KINDS:
        yield from other_kind(name)
    for dataset in DATASETS if training else ():
        yield from four_bits(dataset)
        yield from curve(dataset)


def int8_without_training(dataset: str) -> list[Claim]:
    """Return the figures of the baseline's W8A8 post-training quantization, ours and ONNX Runtime's own."""
    loaded = data.load(dataset)
    images = data.normalize(loaded.train.images[:CALIBRATION_IMAGES])
    model = load_pretrained("resnet", dataset)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        floating, ours = folder / "float.onnx", folder / "ours.onnx"
        to_onnx(model, images[:1], floating)
        prepared, seconds = _timed(lambda: calibrate(prepare(model), images))
        to_onnx(convert(prepared), images[:1], ours)
        theirs, their_seconds = {}, {}
        for method in track(onnxruntime_quantizers.METHODS, "ONNX Runtime's calibrators"):
            out = folder / f"{method}.onnx"
            theirs[method], their_seconds[method] = _timed(
                partial(onnxruntime_quantizers.quantize_static, floating, out, images, method=method)
            )
        reference = evaluate(Runner.open(floating), loaded.test)
        accuracy = evaluate(Runner.open(ours), loaded.test)
        best = max(evaluate(Runner.open(path), loaded.test) for path in theirs.values())
        run = {
            key: Runner.open(path).once(images[:1])
            for key, path in {"float": floating, "ours": ours, "theirs": theirs["min-max"]}.items()
        }
        faster = compare_latency({"float": run["float"], "ours": run["ours"]})
        against = compare_latency({"ours": run["ours"], "theirs": run["theirs"]})
        smaller = floating.stat().st_size / ours.stat().st_size
    return [
        Claim(f"{dataset}: float accuracy", 100 * reference, "%"),
        Claim(f"{dataset}: W8A8 without training, points lost", _points(reference, accuracy), at_most=0.2),
        Claim(f"{dataset}: points behind ONNX Runtime's best calibrator", _points(best, accuracy), at_most=0.1),
        Claim(f"{dataset}: file smaller", smaller, "x", at_least=3.7),
        Claim(f"{dataset}: faster than ONNX Runtime fp32", faster.ratio, "x", at_least=3.4),
        Claim(f"{dataset}: latency over ONNX Runtime's own int8", against.ratio, "x", at_most=1.05),
        Claim(f"{dataset}: time to calibrate over quantize_static", seconds / their_seconds["min-max"], at_most=1.0),
    ]


def mobilenet_cures(dataset: str, name: str) -> list[Claim]:
    """Return what W8A8 costs a MobileNet: one scale for all channels, one each, and with the two cures."""
    loaded = data.load(dataset)
    images = data.normalize(loaded.train.images[:CALIBRATION_IMAGES])
    model = load_pretrained(name, dataset)
    reference = evaluate(model, loaded.test)

    def lost(prepared: fx.GraphModule) -> float:
        return _points(reference, evaluate(convert(prepared), loaded.test))

    per_tensor = QuantizationConfig(per_channel=False)
    cured = correct_bias(calibrate(prepare(equalize(model)), images), images)
    rows = {
        "per-tensor": lost(calibrate(prepare(model, per_tensor), images)),
        "per-tensor, equalized, bias corrected": lost(
            correct_bias(calibrate(prepare(equalize(model), per_tensor), images), images)
        ),
        "per-channel": lost(calibrate(prepare(model), images)),
    }
    claims = [Claim(f"{dataset}/{name}: {row}, points lost", points) for row, points in rows.items()]
    row = f"{dataset}/{name}: per-channel, equalized, bias corrected, points lost"
    return [
        Claim(f"{dataset}/{name}: float accuracy", 100 * reference, "%"),
        *claims,
        Claim(row, lost(cured), at_most=0.5),
    ]


def other_kind(name: str) -> Iterator[Claim]:
    """Yield what int8 makes of a small network of timm, untrained, calibrated on signs: its file and its latency.

    It needs timm, which comes with `edgelab[test]`; without it, it yields nothing but a printed line.
    """
    try:
        import timm.models
    except ImportError:
        print(f"{name}: not measured, for want of timm (pip install timm).")
        return
    kind, options = OTHER_KINDS[name]
    size = {"img_size": 32} if "img_size" in inspect.signature(getattr(timm.models, kind)).parameters else {}
    torch.manual_seed(0)
    model = getattr(timm.models, kind)(num_classes=16, **size, **options).eval()
    images = data.normalize(data.load("signs").train.images[:OTHER_IMAGES])
    with tempfile.TemporaryDirectory() as folder:
        floating, ours, theirs = (Path(folder) / f"{part}.onnx" for part in ("float", "ours", "theirs"))
        to_onnx(model, images[:1], floating)
        to_onnx(convert(calibrate(prepare(model), images)), images[:1], ours)
        onnxruntime_quantizers.quantize_static(floating, theirs, images)
        run = {path: Runner.open(path).once(images[:1]) for path in (floating, ours, theirs)}
        faster = compare_latency({"float": run[floating], "ours": run[ours]})
        against = compare_latency({"ours": run[ours], "theirs": run[theirs]})
        smaller = floating.stat().st_size / ours.stat().st_size
    yield Claim(f"{name}: file smaller", smaller, "x", at_least=3.4)
    yield Claim(f"{name}: faster than ONNX Runtime fp32", faster.ratio, "x", at_least=1.0)
    yield Claim(f"{name}: latency over ONNX Runtime's own int8", against.ratio, "x", at_most=1.05)


def four_bits(dataset: str) -> list[Claim]:
    """Return what weights of 4 bits cost the baseline, activations of 8, untrained and after one pass of training."""
    loaded = data.load(dataset)
    model = load_pretrained("resnet", dataset)
    reference = evaluate(model, loaded.test)
    lessons = loaded.train[:LESSONS]
    untrained = evaluate(_few_bits(model, lessons, 4), loaded.test)
    trained = evaluate(_few_bits(model, lessons, 4, seed=0), loaded.test)
    return [
        Claim(f"{dataset}: W4A8 without training, points lost", _points(reference, untrained)),
        Claim(f"{dataset}: W4A8 trained on {LESSONS} images, points lost", _points(reference, trained), at_most=1.0),
    ]


def curve(dataset: str, bits: tuple[int, ...] = (8, 7, 6, 5, 4, 3, 2)) -> Iterator[Claim]:
    """Yield what the tiny student loses from 8 bits to 2: untrained, trained (mean of the seeds), and their spread."""
    loaded = data.load(dataset)
    lessons = loaded.train[:LESSONS]
    model = load_pretrained("resnet_tiny", dataset)
    reference = evaluate(model, loaded.test)
    for count in bits:
        untrained = _points(reference, evaluate(_few_bits(model, lessons, count), loaded.test))
        name = f"{dataset}/resnet_tiny, W{count}A8"
        yield Claim(f"{name}: untrained, points lost", untrained)
        trained = [
            _points(reference, evaluate(_few_bits(model, lessons, count, seed=seed), loaded.test))
            for seed in track(SEEDS, f"{name}, seeds")
        ]
        yield Claim(f"{name}: trained, points lost, mean of {len(SEEDS)} seeds", sum(trained) / len(SEEDS))
        yield Claim(f"{name}: trained, largest less smallest of the seeds", max(trained) - min(trained))


def _few_bits(model: nn.Module, train: data.Split, bits: int, *, seed: int | None = None) -> fx.GraphModule:
    """Return `model` with weights of `bits` bits and activations of 8, trained for one pass where a seed is given."""
    prepared = prepare(model, QuantizationConfig(weight_bits=bits, weight_observer="mse"))
    calibrate(prepared, data.normalize(train.images[:256]))
    if seed is not None:
        fit(prepared, train, epochs=1, lr=0.001, seed=seed)
    return convert(prepared)


def _timed(make: Callable[[], Made]) -> tuple[Made, float]:
    """Return what `make()` returns, and the seconds it took."""
    start = time.perf_counter()
    made = make()
    return made, time.perf_counter() - start


def _points(reference: float, accuracy: float) -> float:
    """Return the difference of two accuracies in points, without the last bits of a division by the images' number."""
    return round(100 * (reference - accuracy), 6)
