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
from edgelab.train import evaluate, fit

DATASETS = ("signs", "fashion-mnist")
SEEDS = (0, 1, 2, 3, 4)
LESSONS = 12_000  # training images of the comparisons, of either data set
VAL_IMAGES = 1_000  # the last ones: they choose the epoch and the student of the pipeline
WIDTHS = {"tiny": (8, 16, 32), "small": (16, 32, 64), "baseline": (64, 128, 256)}
STEPS = 1_200  # of the comparisons, in batches of 128
SOFT = partial(distillation_loss, temperature=4.0, alpha=0.9)
UNLABELLED = partial(distillation_loss, temperature=4.0, alpha=1.0)
STAGES = {f"stages.{number}": f"stages.{number}" for number in range(3)}


@dataclass(frozen=True)
class Job:
    """One training: of which student, on which share of the labels, in which way, with which seed.

    `arm` is a name of `ARMS`; `teacher` is "zoo", the course's baseline, which has seen every label, "own", one trained
    on the student's share of the labels, "many", an `Ensemble`, or nothing. `epochs` counts passes over all lessons.
    """

    dataset: str
    student: str
    arm: str
    seed: int
    share: float = 1.0
    teacher: str = ""
    epochs: float = STEPS * 128 / LESSONS
    keep: bool = False

    @property
    def name(self) -> str:
        """Return a name for its file."""
        return f"{self.dataset}-{self.student}-{self.arm}-{self.teacher or 'alone'}-{self.share:g}-{self.seed}"


def jobs() -> Iterator[Job]:
    """Yield all trainings, what matters most first."""
    for dataset in DATASETS:  # teachers before those whom they teach
        yield from (Job(dataset, "baseline", "alone", seed, epochs=_long(dataset) / 2, keep=True) for seed in (1, 2))
        yield Job(dataset, "baseline", "alone", 0, share=0.1, epochs=3 * STEPS * 128 / LESSONS, keep=True)
        yield Job(dataset, "baseline", "alone", 0, share=0.01, epochs=STEPS * 128 / LESSONS, keep=True)
    for seed in (0, 1):
        for dataset in DATASETS:
            student = Job(dataset, "small", "consistent", seed, epochs=_long(dataset), keep=True)
            yield replace(student, teacher="many")
            yield replace(student, teacher="zoo")
            yield replace(student, arm="alone")
    for arms in _COMPARISONS:
        for seed in SEEDS:
            for dataset in DATASETS:
                for arm, share, teacher in arms:
                    yield Job(dataset, "tiny", arm, seed, share, teacher)


def _long(dataset: str) -> int:
    """Return the epochs of the pipeline's student: a patient teacher."""
    return {"signs": 120, "fashion-mnist": 40}[dataset]


_COMPARISONS: tuple[tuple[tuple[str, float, str], ...], ...] = (
    (("alone", 0.1, ""), ("unlabelled", 0.1, "zoo"), ("unlabelled", 0.1, "own")),
    (("alone", 1.0, ""), ("cached", 1.0, "zoo"), ("consistent", 1.0, "zoo"), ("smoothing", 1.0, "")),
    (("alone", 0.01, ""), ("unlabelled", 0.01, "zoo"), ("unlabelled", 0.01, "own")),
    (("longer", 1.0, ""), ("longer", 0.1, ""), ("smoothing", 0.1, ""), ("consistent", 0.1, "zoo")),
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
    return resnet(WIDTHS[student], **SHAPES[dataset])


def train(job: Job, folder: Path, device: str) -> dict[str, Any]:
    """Do one training and return its figures; a student that is kept is written into `folder`."""
    start = time.perf_counter()
    student = build(job.dataset, job.student, job.seed).to(device)
    pipeline = job.student != "tiny" and job.share == 1
    every = lessons(job.dataset, 10**9 if pipeline else LESSONS)
    labelled = every[: round(job.share * len(every))]
    seen = every if job.arm == "unlabelled" else labelled
    options: dict[str, Any] = {
        "seed": job.seed,
        "lr": 0.15,
        "epochs": max(1, round(job.epochs * len(every) / len(seen))),  # the same steps for few images and for many
        "augment": AUGMENT[job.dataset],
        "progress": False,
    }
    if pipeline:
        options |= {"batch_size": 256, "lr": 0.3, "val": _dataset(job.dataset).train[-VAL_IMAGES:]}
    history = ARMS[job.arm](student, _teacher(job, folder, device), seen, **options)
    loaded = _dataset(job.dataset)
    if job.keep:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({key: value.cpu().contiguous() for key, value in student.state_dict().items()}, _path(folder, job))
    return {
        **asdict(job),
        "accuracy": evaluate(student, loaded.test),
        "val_accuracy": evaluate(student, loaded.train[-VAL_IMAGES:]),
        "loss": history.loss[-1],
        "seconds": round(time.perf_counter() - start, 2),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
    }


def _path(folder: Path, job: Job) -> Path:
    return folder / f"{job.name}.safetensors"


def _teacher(job: Job, folder: Path, device: str) -> Any:
    """Return the teacher that a job names, on `device`; None where there is none."""
    if not job.teacher:
        return None
    members: list[nn.Module] = []
    if job.teacher in ("zoo", "many"):
        members.append(load_pretrained("resnet", job.dataset))
    share = job.share if job.teacher == "own" else 1.0
    for other in jobs() if job.teacher != "zoo" else ():
        if (other.dataset, other.student, other.share) == (job.dataset, "baseline", share):
            member = build(job.dataset, "baseline", other.seed)
            member.load_state_dict(load_file(_path(folder, other)))
            members.append(member)
    return (members[0] if len(members) == 1 else Ensemble(members)).to(device)


def _alone(student: nn.Module, teacher: None, split: data.Split, **options: Any) -> Any:
    return fit(student, split, **options)


def _smoothing(student: nn.Module, teacher: None, split: data.Split, **options: Any) -> Any:
    return fit(student, split, loss_fn=partial(F.cross_entropy, label_smoothing=0.1), **options)


def _longer(student: nn.Module, teacher: None, split: data.Split, *, epochs: int, **options: Any) -> Any:
    """Train alone for the multiply-accumulates of "cached": the teacher's one pass over all lessons buys epochs."""
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
    done = {Job(**{key: row[key] for key in Job.__dataclass_fields__}) for row in trainings(out)}
    left = [job for job in jobs() if job not in done]
    teachers = [job for job in left if job.student == "baseline"]
    start = time.monotonic()
    for name in DATASETS:
        _dataset(name)  # drawn once, before others read it
    with (
        ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool,
        Bar(len(left), "trainings") as bar,
        (out / "trainings.jsonl").open("a") as log,
    ):
        for batch in (teachers, [job for job in left if job not in teachers]):
            todo, running = iter(batch), set[Future]()
            while True:
                while len(running) < workers and time.monotonic() - start < seconds and (job := next(todo, None)):
                    running.add(pool.submit(_work, job, out, device))
                if not running:
                    break
                finished = next(as_completed(running))
                running.remove(finished)
                log.write(json.dumps(finished.result()) + "\n")
                log.flush()
                bar.update()


def trainings(out: Path) -> list[dict[str, Any]]:
    """Return the finished trainings in a folder."""
    path = out / "trainings.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    typer.run(main)
