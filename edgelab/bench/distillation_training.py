"""The trainings behind `python -m edgelab.bench distillation`: hundreds of students, on a GPU if there is one.

    python -m edgelab.bench.distillation_training OUT --device cuda --workers 8

Every finished training is a line of `OUT/trainings.jsonl`, and a second run does what is left. It needs torch alone, no
runtime. A training that is compared with another one has the same steps, seed, first weights and batches.
"""

import copy
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from edgelab import data
from edgelab.bars import Bar
from edgelab.distillation import (
    Ensemble,
    attention_loss,
    decoupled_loss,
    distill,
    distill_features,
    distillation_loss,
    hint_loss,
    relational_loss,
)
from edgelab.measure import count_macs
from edgelab.models import load_pretrained, resnet
from edgelab.models.retrain import AUGMENT
from edgelab.models.zoo import SHAPES
from edgelab.train import evaluate, fit, whole

DATASETS = ("signs", "fashion-mnist")
SEEDS = (0, 1, 2, 3, 4)
LESSONS = 12_000  # training images of the comparisons, of either data set
VAL_IMAGES = 1_000  # the last ones: they choose the epoch and the student of the pipeline
# Channels of the stages, and blocks in each of them: the student of the comparisons, two for the pipeline, the teacher.
NETWORKS: dict[str, tuple[tuple[int, ...], int]] = {
    "tiny": ((8, 16, 32), 1),
    "small": ((16, 32, 64), 1),
    "deep": ((16, 24, 40), 2),
    "baseline": ((64, 128, 256), 1),
}
PIPELINE = ("small", "deep")
EPOCHS = 13  # of the comparisons: passes over all lessons, or as many images otherwise
PATIENCE = {"signs": 160, "fashion-mnist": 40}  # epochs of the pipeline's students
SOFT = partial(distillation_loss, temperature=4.0, alpha=0.9)
UNLABELLED = partial(distillation_loss, temperature=4.0, alpha=1.0)
STAGES = {f"stages.{number}": f"stages.{number}" for number in range(3)}


@dataclass(frozen=True)
class Job:
    """One training: of which student, on which share of the labels, in which way, with which seed.

    `arm` is a name of `ARMS`; `teacher` is "zoo", the course's baseline, which has seen every label, "own", one trained
    on the student's share of the labels, "both", an `Ensemble` of the baseline and a second one, or nothing. `epochs`
    counts passes over all lessons: who has few labels goes over them so much oftener.
    """

    dataset: str
    student: str
    arm: str
    seed: int
    share: float = 1.0
    teacher: str = ""
    epochs: int = EPOCHS

    @property
    def name(self) -> str:
        """Return a name for its file."""
        return f"{self.dataset}-{self.student}-{self.arm}-{self.teacher or 'alone'}-{self.share:g}-{self.seed}"


def jobs() -> Iterator[Job]:
    """Yield all trainings, what matters most first, and teachers before those whom they teach."""
    for dataset in DATASETS:
        patient = PATIENCE[dataset]
        yield Job(dataset, "baseline", "alone", 1, epochs=patient // 2)
        for teacher in ("zoo", "both"):
            yield Job(dataset, "small", "consistent", 0, teacher=teacher, epochs=patient)
        yield from (Job(dataset, "baseline", "alone", 0, share, epochs=2 * EPOCHS) for share in (0.1, 0.01))
    for seed in (0, 1):
        for dataset in DATASETS:
            student = Job(dataset, "deep", "consistent", seed, teacher="both", epochs=PATIENCE[dataset])
            yield student
            yield replace(student, student="small", arm="alone", teacher="")
    for dataset in DATASETS:
        for teacher in ("zoo", "both"):
            yield Job(dataset, "small", "consistent", 1, teacher=teacher, epochs=PATIENCE[dataset])
    for arms in _COMPARISONS:
        for seed in SEEDS:
            for dataset in DATASETS:
                for arm, share, teacher in arms:
                    yield Job(dataset, "tiny", arm, seed, share, teacher)


_COMPARISONS: tuple[tuple[tuple[str, float, str], ...], ...] = (
    (("alone", 0.1, ""), ("unlabelled", 0.1, "zoo"), ("unlabelled", 0.1, "own")),
    (("alone", 1.0, ""), ("cached", 1.0, "zoo"), ("consistent", 1.0, "zoo"), ("smoothing", 1.0, "")),
    (("alone", 0.01, ""), ("unlabelled", 0.01, "zoo"), ("unlabelled", 0.01, "own")),
    (("longer", 1.0, ""), ("longer", 0.1, ""), ("smoothing", 0.1, ""), ("consistent", 0.1, "zoo")),
    (("longer", 0.01, ""), ("smoothing", 0.01, "")),
    (("decoupled", 1.0, "zoo"), ("hints", 1.0, "zoo"), ("attention", 1.0, "zoo"), ("relations", 1.0, "zoo")),
)


@cache
def _dataset(name: str) -> data.Dataset:
    return data.load(name)


def lessons(dataset: str, count: int) -> data.Split:
    """Return the first `count` training images; none of those that choose the pipeline's student."""
    return _dataset(dataset).train[:-VAL_IMAGES][:count]


def build(dataset: str, student: str, seed: int) -> nn.Module:
    """Return an untrained network; the same seed gives the same weights."""
    torch.manual_seed(seed)
    widths, blocks = NETWORKS[student]
    return resnet(widths, blocks, **SHAPES[dataset])


def train(job: Job, folder: Path, device: str) -> dict[str, Any]:
    """Do one training and return its figures; all but the students of the comparisons are kept in `folder`."""
    start = time.perf_counter()
    student = build(job.dataset, job.student, job.seed).to(device)
    pipeline = job.student != "tiny" and job.share == 1
    every = lessons(job.dataset, 10**9 if pipeline else LESSONS)
    labelled = every[: round(job.share * len(every))]
    seen = every if job.arm == "unlabelled" else labelled
    options: dict[str, Any] = {
        "seed": job.seed,
        "lr": 0.2,
        "batch_size": 256,
        "epochs": round(job.epochs * len(every) / len(seen)),  # as many images for who has few labels and who has many
        "augment": AUGMENT[job.dataset],
        "progress": False,
    }
    if pipeline:
        options |= {"batch_size": 512, "lr": 0.3, "val": _dataset(job.dataset).train[-VAL_IMAGES:]}
    history = whole(ARMS[job.arm](student, _teacher(job, folder, device), seen, **options))
    loaded = _dataset(job.dataset)
    if job.student != "tiny":
        weights = {key: value.cpu().contiguous() for key, value in student.state_dict().items()}
        path_of(folder, job).parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, path_of(folder, job))
    return {
        **asdict(job),
        "accuracy": evaluate(student, loaded.test),
        "val_accuracy": evaluate(student, loaded.train[-VAL_IMAGES:]),
        "loss": history.loss[-1],
        "seconds": round(time.perf_counter() - start, 2),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
    }


def path_of(folder: Path, job: Job) -> Path:
    """Return where a student's weights are kept; those of teachers, which are large, in a folder of their own."""
    return folder / ("teachers" if job.student == "baseline" else "") / f"{job.name}.safetensors"


def _trained_teachers(job: Job) -> list[Job]:
    """Return the trainings from which the teachers of a job come, besides the course's own baseline."""
    share = {"own": job.share, "both": 1.0}.get(job.teacher)
    rows = (other for other in jobs() if (other.dataset, other.student) == (job.dataset, "baseline"))
    return [other for other in rows if other.share == share]


def _teacher(job: Job, folder: Path, device: str) -> Any:
    """Return the teacher that a job names, on `device`; None where there is none."""
    if not job.teacher:
        return None
    members = [load_pretrained("resnet", job.dataset)] if job.teacher in ("zoo", "both") else []
    for other in _trained_teachers(job):
        member = build(job.dataset, "baseline", other.seed)
        member.load_state_dict(load_file(path_of(folder, other)))
        members.append(member)
    return (members[0] if len(members) == 1 else Ensemble(members)).to(device)


def _alone(student: nn.Module, teacher: None, split: data.Split, **options: Any) -> Any:
    return fit(student, split, **options)


def _smoothing(student: nn.Module, teacher: None, split: data.Split, **options: Any) -> Any:
    return fit(student, split, loss_fn=partial(F.cross_entropy, label_smoothing=0.1), **options)


def _longer(student: nn.Module, teacher: None, split: data.Split, *, epochs: int, **options: Any) -> Any:
    """Train alone for the multiply-accumulates of "cached": the teacher's one pass over all lessons buys epochs.

    It is no control of the other ways, whose teacher looks at every crop: 13 times as much.
    """
    image = data.normalize(split.images[:1])
    networks = (resnet(in_channels=image.shape[1]), copy.deepcopy(student).cpu())
    asked, trained = (count_macs(network.eval(), image) for network in networks)
    extra = round(asked / (3 * trained) * LESSONS / len(split))  # a training step costs three forward passes
    return fit(student, split, epochs=epochs + extra, **options)


def _distilled(loss_fn: Callable, consistent: bool = True) -> Callable:
    return partial(distill, loss_fn=loss_fn, consistent=consistent)


def _inside(feature_loss: Callable, weight: float) -> Callable:
    return partial(distill_features, layers=STAGES, feature_loss=feature_loss, weight=weight)


ARMS: dict[str, Callable] = {
    "alone": _alone,
    "smoothing": _smoothing,
    "longer": _longer,
    "cached": _distilled(SOFT, consistent=False),
    "consistent": _distilled(SOFT),
    "unlabelled": _distilled(UNLABELLED),
    "decoupled": _distilled(partial(decoupled_loss, temperature=4.0)),
    "hints": _inside(hint_loss, 1.0),
    "attention": _inside(attention_loss, 1.0),
    "relations": _inside(relational_loss, 1.0),
}


def _work(job: Job, folder: Path, device: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    return train(job, folder, device)


def main(
    out: Annotated[Path, typer.Argument(help="Folder for trainings.jsonl and the students that are kept.")],
    device: Annotated[str, typer.Option(help="cpu, cuda, or another device of torch.")] = "cpu",
    workers: Annotated[int, typer.Option(min=1, help="Processes at the same time.")] = 1,
    seconds: Annotated[float, typer.Option(help="Begin no training after so many seconds.")] = 1e9,
) -> None:
    """Train what is not in OUT yet, most important first."""
    out.mkdir(parents=True, exist_ok=True)
    done = set(map(as_job, trainings(out)))
    left, failed = [job for job in jobs() if job not in done], []
    for name in DATASETS:
        _dataset(name)  # drawn once, before others read it
    start, running = time.monotonic(), dict[Future, Job]()
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        Bar(len(left), "trainings") as bar,
        (out / "trainings.jsonl").open("a", encoding="utf-8") as log,
    ):
        while True:
            ready = [job for job in left if all(path_of(out, other).exists() for other in _trained_teachers(job))]
            while len(running) < workers and ready and time.monotonic() - start < seconds:
                left.remove(job := ready.pop(0))
                running[pool.submit(_work, job, out, device)] = job
            if not running:
                break
            finished = next(as_completed(running))
            job = running.pop(finished)
            if error := finished.exception():
                failed.append(f"{job.name}: {error}")
            else:
                log.write(json.dumps(finished.result()) + "\n")
                log.flush()
            bar.update()
    if failed:
        raise SystemExit("\n".join(failed))


def as_job(row: dict[str, Any]) -> Job:
    """Return which training a line of `trainings.jsonl` is of."""
    return Job(**{key: row[key] for key in Job.__dataclass_fields__})


def trainings(out: Path) -> list[dict[str, Any]]:
    """Return the finished trainings in a folder."""
    path = out / "trainings.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


if __name__ == "__main__":
    typer.run(main)
