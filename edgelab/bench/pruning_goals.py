"""Single weights that are zero, in figures: what accuracy they cost, what files they save, and that no time is saved.

The trainings come from `edgelab.bench.pruning_training`, on whatever machine that ran; files and times are measured
here, on one thread.
"""

import copy
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean

from torch import nn

from edgelab import data
from edgelab.bench.claims import Claim
from edgelab.bench.pruning_training import BITS, CHAIN, EPOCHS, RESULTS, SEEDS, model_file
from edgelab.bench.trainings import read
from edgelab.deploy import Runner, arena_bytes, compress_weights, npu_estimate, to_litert, to_onnx
from edgelab.errors import EdgelabError
from edgelab.measure import compare_latency
from edgelab.models import load_pretrained
from edgelab.models.zoo import CHECKPOINTS, manifest
from edgelab.pruning import load_sparse, prune, remove_masks, remove_sharing, save_sparse, sensitivity, share_weights
from edgelab.quantization import calibrate, convert, prepare
from edgelab.train import evaluate


def claims(models: Path | None = None) -> Iterator[Claim]:
    """Yield every figure on both data sets; those of trained models come from the folder `models`, if there is one."""
    yield scan()
    for dataset in EPOCHS:
        yield from what_zeros_buy(dataset)
        yield from on_chips(dataset)
    if models is not None:
        for dataset in EPOCHS:
            yield from trained(dataset, models)


def scan() -> Claim:
    """Return how long the sensitivity scan of the baseline takes: 5 sparsities of 10 layers, 128 images each."""
    split = data.load("signs").test[:128]
    model = load_pretrained("resnet")
    start = time.perf_counter()
    sensitivity(model, lambda pruned: evaluate(pruned, split))
    return Claim("sensitivity scan of the baseline, seconds", time.perf_counter() - start, at_most=30)


def what_zeros_buy(dataset: str, sparsity: float = 0.9) -> Iterator[Claim]:
    """Yield what 90 % zeros, not trained, change in a model's time and in its files."""
    image = data.normalize(data.load(dataset).test.images[:1])
    dense = load_pretrained("resnet", dataset)
    pruned = remove_masks(prune(load_pretrained("resnet", dataset), sparsity))
    with tempfile.TemporaryDirectory() as name:
        files = {kind: to_onnx(model, image, Path(name, f"{kind}.onnx")) for kind, model in _named(dense, pruned)}
        race = compare_latency({kind: Runner.open(path).once(image) for kind, path in files.items()})
        yield Claim(f"{dataset}: {sparsity:.0%} zeros faster in ONNX Runtime", race.ratio, "x")
        smaller = files["dense"].stat().st_size / files["zeros"].stat().st_size
        yield Claim(f"{dataset}: {sparsity:.0%} zeros, ONNX file smaller", smaller, "x")
        for encoding in ("dense", "zip", "bitmask", "csr"):
            path = save_sparse(pruned.state_dict(), Path(name, f"{encoding}.sparse"), encoding=encoding)
            smaller = _float_bytes(dataset) / path.stat().st_size
            yield Claim(f"{dataset}: {sparsity:.0%} zeros, file as {encoding} smaller", smaller, "x")


def on_chips(dataset: str, sparsity: float = 0.9) -> Iterator[Claim]:
    """Yield what 90 % zeros, not trained, change of an int8 file in TensorFlow Lite Micro and on an Ethos-U55-128."""
    images = data.normalize(data.load(dataset).train.images[:64])
    dense = load_pretrained("resnet", dataset)
    pruned = remove_masks(prune(load_pretrained("resnet", dataset), sparsity))
    shared = remove_sharing(share_weights(copy.deepcopy(pruned), BITS))
    name = f"{dataset}: {sparsity:.0%} zeros, int8"
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for kind, model in [*_named(dense, pruned), ("shared", shared)]:
            quantized = convert(calibrate(prepare(model), images))
            files[kind] = to_litert(quantized, images[:1], Path(folder, f"{kind}.tflite"))
        for kind, method in (("zeros", "bitmask"), ("shared", "look-up table")):
            small = compress_weights(files[kind], Path(folder, "small.tflite"), method=method)
            flash = files["dense"].stat().st_size / small.stat().st_size
            yield Claim(f"{name}, {method} in TensorFlow Lite Micro: flash smaller", flash, "x")
            ram = arena_bytes(small) / arena_bytes(files["dense"])
            yield Claim(f"{name}, {method} in TensorFlow Lite Micro: RAM larger", ram, "x")
        before, after = (npu_estimate(files[kind]) for kind in ("dense", "zeros"))
        yield Claim(f"{name}, Vela: flash smaller", before.flash_bytes / after.flash_bytes, "x")
        yield Claim(f"{name}, Vela: faster", before.microseconds / after.microseconds, "x")


def _named(dense: nn.Module, zeros: nn.Module) -> list[tuple[str, nn.Module]]:
    return [("dense", dense), ("zeros", zeros)]


def trained(dataset: str, models: Path) -> Iterator[Claim]:
    """Yield what the pruned and trained baselines of all seeds lose, how small their files are, and what int8 adds."""
    results = read(models / RESULTS)
    if lacking := [seed for seed in SEEDS if f"{dataset}/pruned/{seed}" not in results]:
        raise EdgelabError(
            f"{models / RESULTS} lacks the trainings of {dataset} with the seeds {lacking}: "
            f"python -m edgelab.bench.pruning_training {models} makes them."
        )
    runs = [results[f"{dataset}/pruned/{seed}"] for seed in SEEDS]
    yield Claim(f"{dataset}: dense accuracy", 100 * fmean(run["dense"] for run in runs), "%")
    controls = [control for seed in SEEDS if (control := results.get(f"{dataset}/control/{seed}"))]
    if len(controls) == len(runs):
        pairs = zip(controls, runs, strict=True)
        gained = [_points(control["dense, trained as long"], run["dense"]) for control, run in pairs]
        yield Claim(f"{dataset}: dense, trained as long, points gained", fmean(gained))
    for name, goal in (("0.8", 0.5), (f"{CHAIN}", None), ("0.95", 2.0), ("shared, not trained", None), ("chain", 1.0)):
        yield from _lost(f"{dataset}: {_title(name)}", [_points(run["dense"], run[name]) for run in runs], goal)
    files = [model_file(models, dataset, seed, "chain") for seed in SEEDS]
    smallest = min(_float_bytes(dataset) / file.stat().st_size for file in files)
    yield Claim(f"{dataset}: prune, share, Huffman: file smaller, worst seed", smallest, "x", at_least=35)
    yield from _here(dataset, models, runs[0])


def _lost(name: str, points: Sequence[float], goal: float | None) -> Iterator[Claim]:
    yield Claim(f"{name}, points lost, mean of {len(points)} seeds", fmean(points), at_most=goal)
    yield Claim(f"{name}, largest less smallest of the seeds", max(points) - min(points))


def _title(name: str) -> str:
    if name == "chain":
        return "prune, share, Huffman"
    return f"{float(name):.0%} zeros" if name[0] == "0" else f"{CHAIN:.0%} zeros, {name}"


def _here(dataset: str, models: Path, run: dict[str, float]) -> Iterator[Claim]:
    """Yield what the first seed's files give on this CPU, in float and in int8."""
    test, images = data.load(dataset).test, data.normalize(data.load(dataset).train.images[:512])
    opened = {name: _opened(dataset, models, name) for name in ("0.8", "chain")}
    apart = max(abs(_points(evaluate(model, test), run[name])) for name, model in opened.items())
    yield Claim(f"{dataset}: files read back on this CPU, points from what was recorded", apart, at_most=0.1)
    zipped, accuracy = {}, {}
    with tempfile.TemporaryDirectory() as name:
        for kind, model in _named(load_pretrained("resnet", dataset), opened["0.8"]):
            quantized = convert(calibrate(prepare(model), images))
            path = to_onnx(quantized, images[:1], Path(name, f"{kind}.onnx"))
            zipped[kind], accuracy[kind] = len(zlib.compress(path.read_bytes(), 9)), evaluate(Runner.open(path), test)
    yield Claim(f"{dataset}: int8, points lost to float", _points(run["dense"], accuracy["dense"]))
    yield Claim(f"{dataset}: 80% zeros, then int8, points lost to float", _points(run["dense"], accuracy["zeros"]))
    yield Claim(f"{dataset}: int8, zipped file smaller than float", _float_bytes(dataset) / zipped["dense"], "x")
    smaller = _float_bytes(dataset) / zipped["zeros"]
    yield Claim(f"{dataset}: 80% zeros, then int8, zipped file smaller than float", smaller, "x")


def _opened(dataset: str, models: Path, name: str) -> nn.Module:
    model = load_pretrained("resnet", dataset)
    model.load_state_dict(load_sparse(model_file(models, dataset, SEEDS[0], name)))
    return model


def _float_bytes(dataset: str) -> int:
    """Return the bytes of the dense float model: its checkpoint."""
    return (CHECKPOINTS / manifest()[f"{dataset}/resnet"]["file"]).stat().st_size


def _points(reference: float, accuracy: float) -> float:
    return round(100 * (reference - accuracy), 6)
