"""Channels that are gone, in figures: MACs, milliseconds, accuracy, and what int8 adds.

The plans and trainings come from `edgelab.bench.channel_training`; times are measured here, on one thread, in turns.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean

import torch
from torch import nn

from edgelab import data
from edgelab.bench import channel_training as training
from edgelab.bench.claims import Claim
from edgelab.bench.trainings import read
from edgelab.deploy import Runner, to_onnx
from edgelab.measure import compare_latency, count_macs
from edgelab.measure.threads import torch_threads
from edgelab.models import load_pretrained
from edgelab.pruning import find_dependencies, remove_channels
from edgelab.quantization import calibrate, convert, prepare
from edgelab.train import evaluate

CALIBRATION_IMAGES = 512


def claims(folder: Path | None = None) -> Iterator[Claim]:
    """Yield every figure; those of trained models come from `folder`, if there is one."""
    yield from groups_of_densenet()
    for dataset in training.EPOCHS:
        yield one_channel_less(dataset)
    if folder is not None:
        for dataset in training.EPOCHS:
            yield from trained(dataset, folder)


def groups_of_densenet() -> Iterator[Claim]:
    """Yield how long the dependency groups of torchvision's DenseNet-121 take, at 224 x 224 pixels."""
    from torchvision import models as torchvision_models

    model = torchvision_models.densenet121().eval()
    with torch_threads(1):
        start = time.perf_counter()
        dependencies = find_dependencies(model, torch.randn(1, 3, 224, 224))
        seconds = time.perf_counter() - start
    yield Claim("dependency groups of DenseNet-121, seconds", seconds, at_most=2)
    yield Claim("dependency groups of DenseNet-121, how many", len(dependencies.groups))


def one_channel_less(dataset: str) -> Claim:
    """Return the latency of the baseline with 63 of its 64 first channels, over that with all."""
    model = load_pretrained("resnet", dataset)
    image = data.normalize(data.load(dataset).test.images[:1])
    less = remove_channels(find_dependencies(model, image), {"stem.0": [0]})
    ratio = _over({"64": model, "63": less}, image)
    return Claim(f"{dataset}: latency with 63 of 64 channels over 64", ratio, "x")


def trained(dataset: str, folder: Path) -> Iterator[Claim]:
    """Yield what each plan has lost after fine-tuning, mean of the seeds, and its latency over the baseline's."""
    loaded, model, dependencies = training.baseline(dataset)
    image, plans = dependencies.example, read(folder / training.PLANS)
    reference = evaluate(model, loaded.test)
    yield Claim(f"{dataset}: accuracy of the baseline", 100 * reference, "%")
    control = training.accuracies(folder, dataset, "control")
    if control:
        yield Claim(f"{dataset}: trained as long, not pruned, points lost", _lost(reference, control))
    titles = [key.partition("/")[2] for key in plans if key.startswith(f"{dataset}/")]
    for title in titles:
        reached = training.accuracies(folder, dataset, title)
        if not reached:
            continue
        name = f"{dataset}/{title} ({len(reached)} seeds)"
        smaller = training.trained(folder, dataset, title)
        goal = title == "taylor"
        yield Claim(f"{name}: MACs left", 100 * count_macs(smaller, image) / count_macs(model, image), "%")
        yield Claim(f"{name}: points lost", _lost(reference, reached), at_most=0.5 if goal else None)
        yield Claim(f"{name}: points between its best and worst seed", 100 * (max(reached) - min(reached)))
        ratio = _over({"baseline": model, "pruned": smaller}, image)
        yield Claim(f"{name}: latency over the baseline's", ratio, "x", at_most=0.65 if goal else None)
    yield from _against_torch_pruning(dataset, folder, image)
    if "latency" in titles and training.accuracies(folder, dataset, "latency"):
        yield from _quantized(dataset, folder, image)


def _against_torch_pruning(dataset: str, folder: Path, image: torch.Tensor) -> Iterator[Claim]:
    """Yield accuracy and latency of our plan at the same MACs against the best of Torch-Pruning's criteria."""
    theirs = {
        title: found
        for criterion in training.RIVALS
        if (found := training.accuracies(folder, dataset, title := f"torch-pruning {criterion}"))
    }
    ours = training.accuracies(folder, dataset, "matched")
    if not theirs or not ours:
        return
    best = max(theirs, key=lambda title: fmean(theirs[title]))
    points = round(100 * (fmean(theirs[best]) - fmean(ours)), 6)
    yield Claim(f"{dataset}: points behind {best}, at its MACs", points, at_most=0.3)
    pair = {title: training.trained(folder, dataset, title) for title in (best, "matched")}
    yield Claim(f"{dataset}: latency over that of {best}", _over(pair, image), "x", at_most=1.05)


def _quantized(dataset: str, folder: Path, image: torch.Tensor) -> Iterator[Claim]:
    """Yield what int8 adds to the model pruned to a latency: the points it costs, and both ratios to the baseline."""
    loaded, baseline = data.load(dataset), load_pretrained("resnet", dataset)
    pictures = data.normalize(loaded.train.images[:CALIBRATION_IMAGES])
    pruned = training.trained(folder, dataset, "latency")
    models = {
        "baseline": baseline,
        "int8": convert(calibrate(prepare(baseline), pictures)),
        "pruned": pruned,
        "pruned, int8": convert(calibrate(prepare(pruned), pictures)),
    }
    with tempfile.TemporaryDirectory() as name:
        files = {
            title: to_onnx(model, image, Path(name, f"{i}.onnx")) for i, (title, model) in enumerate(models.items())
        }
        runs = {title: Runner.open(path).once(image) for title, path in files.items()}
        for title in ("int8", "pruned", "pruned, int8"):
            head = f"{dataset}: {title}"
            yield Claim(f"{head}: accuracy", 100 * evaluate(Runner.open(files[title]), loaded.test), "%")
            size = files["baseline"].stat().st_size / files[title].stat().st_size
            yield Claim(f"{head}: file smaller", size, "x")
            yield Claim(
                f"{head}: faster", compare_latency({"baseline": runs["baseline"], title: runs[title]}).ratio, "x"
            )


def _over(models: dict[str, nn.Module], image: torch.Tensor) -> float:
    """Return the latency of the second of two models over that of the first, in ONNX Runtime."""
    with tempfile.TemporaryDirectory() as name:
        runs: dict[str, Callable[[], object]] = {}
        for title, model in models.items():
            path = to_onnx(model, image, Path(name, f"{title.replace(' ', '-')}.onnx"))
            runs[title] = Runner.open(path).once(image)
        return 1 / compare_latency(runs).ratio


def _lost(reference: float, reached: list[float]) -> float:
    """Return the points between an accuracy and the mean of others, without the last bits of a division."""
    return round(100 * (reference - fmean(reached)), 6)
