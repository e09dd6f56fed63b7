"""Distillation in figures: students beside teachers, over seeds; the whole pipeline; and few bits with a teacher.

The students are those of `edgelab.bench.distillation_training`, from the folder it has filled; what is counted and
timed is done here.
"""

import copy
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from safetensors.torch import load_file
from torch import nn

from edgelab import data
from edgelab.bars import track
from edgelab.bench import distillation_training as training
from edgelab.bench.claims import Claim
from edgelab.deploy import Runner, to_onnx
from edgelab.distillation import distill
from edgelab.errors import EdgelabError
from edgelab.measure import compare_latency, count_params
from edgelab.measure.seeds import Gain, paired_gain
from edgelab.models import load_pretrained
from edgelab.pruning import prune, remove_masks
from edgelab.quantization import QuantizationConfig, calibrate, convert, prepare
from edgelab.train import evaluate, fit

CALIBRATION_IMAGES = 512
SELF_SEEDS = (0, 1, 2, 3, 4)
FEW_BITS = (8, 4, 2)
SPARSITY = 0.9
# (way, share of the labels, teacher) that is compared with training alone on the same share.
COMPARED = (
    *(("unlabelled", share, teacher) for share in (0.1, 0.01) for teacher in ("zoo", "own")),
    ("consistent", 0.1, "zoo"),
    *((control, share, "") for share in (0.1, 0.01) for control in ("longer", "smoothing")),
    *((way, 1.0, "zoo") for way in ("cached", "consistent", "decoupled", "hints", "attention", "relations")),
    *(("longer", 1.0, ""), ("smoothing", 1.0, "")),
)


def claims(folder: Path | None = None, *, few_bits: bool = True) -> Iterator[Claim]:
    """Yield every figure on both data sets as it is measured; what trains here, for few bits, comes last.

    Without a `folder` only that. Raise `EdgelabError` where it holds no finished trainings.
    """
    if folder is not None:
        done = training.trainings(folder)
        if not done:
            raise EdgelabError(
                f"{folder} holds no trainings: python -m edgelab.bench.distillation_training {folder} makes them."
            )
        for dataset in training.DATASETS:
            for student in training.PIPELINE:
                yield from pipeline(dataset, student, done, folder)
            yield from comparisons(dataset, done)
    for dataset in training.DATASETS if few_bits else ():
        yield from few_bits_with_a_teacher(dataset)


def comparisons(dataset: str, done: list[dict[str, Any]]) -> Iterator[Claim]:
    """Yield what each way of training wins over training alone with the same labels, steps and seeds, in points."""
    for share in (1.0, 0.1, 0.01):
        alone = _accuracies(done, dataset, "alone", share, "")
        if alone:
            mean = 100 * sum(alone.values()) / len(alone)
            yield Claim(f"{dataset}/tiny, {share:.0%} of the labels: alone, mean of {len(alone)} seeds", mean, "%")
    for arm, share, teacher in COMPARED:
        won = gain(done, dataset, arm, share, teacher)
        if won is None:
            continue
        by = {"zoo": ", teacher: baseline", "own": ", teacher with the same labels"}.get(teacher, "")
        by += " (the compute of cached)" if arm == "longer" else ""
        name = f"{dataset}/tiny, {share:.0%} of the labels: {arm}{by}, points won over alone, {won.pairs} seeds"
        goal = 2.0 if (arm, share, teacher) == ("unlabelled", 0.1, "zoo") else None
        yield Claim(name, won.mean, at_least=goal)
        yield Claim(f"{name}: interval from", won.low, at_least=None if goal is None else 0.01)
        yield Claim(f"{name}: interval to", won.high)
        yield Claim(f"{name}: seconds over those of alone", _seconds(done, dataset, arm, share, teacher), "x")


def gain(done: list[dict[str, Any]], dataset: str, arm: str, share: float, teacher: str) -> Gain | None:
    """Return what `arm` wins over "alone" in points, over the seeds that both have; None with fewer than five."""
    before = _accuracies(done, dataset, "alone", share, "")
    after = _accuracies(done, dataset, arm, share, teacher)
    both = sorted(before.keys() & after.keys())
    if len(both) < 5:
        return None
    return paired_gain([100 * before[seed] for seed in both], [100 * after[seed] for seed in both])


def _accuracies(done: list[dict[str, Any]], dataset: str, arm: str, share: float, teacher: str) -> dict[int, float]:
    """Return the test accuracies of one way of training the tiny student, by seed."""
    wanted = {"dataset": dataset, "student": "tiny", "arm": arm, "share": share, "teacher": teacher}
    return {row["seed"]: row["accuracy"] for row in done if all(row[key] == value for key, value in wanted.items())}


def _seconds(done: list[dict[str, Any]], dataset: str, arm: str, share: float, teacher: str) -> float:
    """Return how many times as long a way of training takes as training alone: the median over the seeds of both."""
    rows = {(row["arm"], row["teacher"], row["seed"]): row["seconds"] for row in done
            if (row["dataset"], row["student"], row["share"]) == (dataset, "tiny", share)}  # fmt: skip
    return median(
        seconds / rows["alone", "", seed]
        for (way, by, seed), seconds in rows.items()
        if (way, by) == (arm, teacher) and ("alone", "", seed) in rows
    )


def pipeline(dataset: str, name: str, done: list[dict[str, Any]], folder: Path) -> Iterator[Claim]:
    """Yield the baseline beside a distilled student in int8: accuracy, bytes, and latency in ONNX Runtime.

    Of all trainings of this student the one counts that was best on images which no training saw; the test images judge
    it once.
    """
    rows = [row for row in done if (row["dataset"], row["student"]) == (dataset, name)]
    if not rows:
        return
    loaded, baseline = data.load(dataset), load_pretrained("resnet", dataset)
    best = max(rows, key=lambda row: row["val_accuracy"])
    student = training.build(dataset, name, 0).eval()
    student.load_state_dict(load_file(training.path_of(folder, training.as_job(best))))
    images = data.normalize(loaded.train.images[:CALIBRATION_IMAGES])
    reference, accuracy = evaluate(baseline, loaded.test), evaluate(student, loaded.test)
    with tempfile.TemporaryDirectory() as place:
        large, small = Path(place, "baseline.onnx"), Path(place, "student.onnx")
        to_onnx(baseline, images[:1], large)
        to_onnx(convert(calibrate(prepare(student), images)), images[:1], small)
        deployed = evaluate(Runner.open(small), loaded.test)
        runs = {"baseline": Runner.open(large).once(images[:1]), "student": Runner.open(small).once(images[:1])}
        race = compare_latency(runs)
        smaller = large.stat().st_size / small.stat().st_size
    of, fewer = f"{dataset}/{name}", count_params(baseline) / count_params(student)
    yield Claim(f"{dataset}: baseline's accuracy", 100 * reference, "%")
    yield Claim(f"{of}: parameters, fewer than the baseline's", fewer, "x", at_least=10)
    for teacher in ("", "zoo", "both"):
        accuracies = [row["accuracy"] for row in rows if row["teacher"] == teacher]
        if accuracies:
            by = {"": "alone", "zoo": "teacher: baseline", "both": "teacher: two baselines"}[teacher]
            mean = 100 * sum(accuracies) / len(accuracies)
            yield Claim(f"{of}, {by}: accuracy, mean of {len(accuracies)}", mean, "%")
    yield Claim(f"{of}, the best: points behind the baseline", _points(reference, accuracy), at_most=1.5)
    yield Claim(f"{of}, the best, in int8: points behind the baseline", _points(reference, deployed), at_most=1.0)
    yield Claim(f"{of} in int8: file smaller than the baseline's", smaller, "x", at_least=40)
    yield Claim(f"{of} in int8: faster than the baseline in ONNX Runtime", race.ratio, "x", at_least=10)


def few_bits_with_a_teacher(dataset: str) -> Iterator[Claim]:
    """Yield what few bits and many zeros cost the tiny student, trained alone and with teachers: itself, or larger."""
    loaded = data.load(dataset)
    every, model = loaded.train[: training.LESSONS], load_pretrained("resnet_tiny", dataset)
    teachers = {"alone": None, "its float self": model, "the baseline": load_pretrained("resnet", dataset)}
    reference = evaluate(model, loaded.test)
    ways: dict[str, Callable] = {f"W{bits}A8": partial(_few_bits, bits=bits) for bits in FEW_BITS}
    ways[f"{SPARSITY:.0%} zeros"] = _few_weights
    for way, made in ways.items():
        lost = {
            name: [
                _points(reference, evaluate(made(model, teacher, every, seed=seed), loaded.test))
                for seed in track(SELF_SEEDS, f"{dataset}, {way}, {name}")
            ]
            for name, teacher in teachers.items()
        }
        of = f"{dataset}/resnet_tiny, {way}"
        for name, points in lost.items():
            by = "alone" if name == "alone" else f"teacher: {name}"
            yield Claim(f"{of}, {by}: points lost, mean of {len(points)} seeds", sum(points) / len(points))
        for name in list(teachers)[1:]:
            won = paired_gain([-points for points in lost["alone"]], [-points for points in lost[name]])
            yield Claim(f"{of}, teacher: {name}: points won, interval from", won.low)
            yield Claim(f"{of}, teacher: {name}: points won, interval to", won.high)


def _few_bits(model: nn.Module, teacher: nn.Module | None, train: data.Split, *, bits: int, seed: int) -> nn.Module:
    """Return `model` with weights of `bits` bits, trained for one pass, with a teacher or without."""
    prepared = prepare(model, QuantizationConfig(weight_bits=bits, weight_observer="mse"))
    calibrate(prepared, data.normalize(train.images[:256]))
    _one_pass(prepared, teacher, train, lr=0.001, seed=seed)
    return convert(prepared)


def _few_weights(model: nn.Module, teacher: nn.Module | None, train: data.Split, *, seed: int) -> nn.Module:
    """Return `model` with `SPARSITY` of its weights zero, trained for one pass, with a teacher or without."""
    pruned = prune(copy.deepcopy(model), SPARSITY)
    _one_pass(pruned, teacher, train, lr=0.02, seed=seed)
    return remove_masks(pruned)


def _one_pass(student: nn.Module, teacher: nn.Module | None, train: data.Split, *, lr: float, seed: int) -> None:
    options: dict[str, Any] = {"epochs": 1, "lr": lr, "seed": seed}
    if teacher is None:
        fit(student, train, **options)
    else:
        distill(student, teacher, train, **options)


def _points(reference: float, accuracy: float) -> float:
    """Return the difference of two accuracies in points, without the last bits of a division by the images' number."""
    return round(100 * (reference - accuracy), 6)
