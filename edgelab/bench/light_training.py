"""Light networks, trained beside the same networks with full convolutions, and at several widths and resolutions.

`python -m edgelab.bench.light_training --device cuda --workers 8 light.json`

It needs torch and what trains, no runtime of deployment: it runs where a GPU is. The most telling trainings come first,
each is written as soon as it is done, and one that the file holds already is not done again.
`python -m edgelab.bench light --trained light.json` reads the file.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from edgelab import data
from edgelab.bench.trainings import read, write
from edgelab.models.mobilenet import mobilenet_v1, mobilenet_v2
from edgelab.models.zoo import SHAPES
from edgelab.train import evaluate, fit_whole, mirror, shift

SEEDS = (0, 1, 2)
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v1_025": partial(mobilenet_v1, 0.25),
    "mobilenet_v1_050": partial(mobilenet_v1, 0.5),
    "mobilenet_v1_100": partial(mobilenet_v1, 1.0),
    "mobilenet_v2_050": partial(mobilenet_v2, 0.5),
}
FULL = "-full"  # behind a network's name: with full convolutions
PIXELS = {"signs": (16, 24, 32), "fashion-mnist": (14, 21, 28)}  # half, three quarters and all of the resolution
# As long for each network of a data set, whatever it is made of.
OPTIONS: dict[str, dict] = {
    "signs": {"epochs": 24, "batch_size": 128, "lr": 0.15, "weight_decay": 1e-4},
    "fashion-mnist": {"epochs": 10, "batch_size": 256, "lr": 0.15, "weight_decay": 1e-4},
}


@dataclass(frozen=True)
class Job:
    """One training: a network of `NETWORKS`, perhaps with `FULL` behind its name, on images of `pixels` x `pixels`."""

    dataset: str
    network: str
    pixels: int
    seed: int

    @property
    def build(self) -> Callable[..., nn.Module]:
        """What makes the untrained network."""
        name = self.network.removesuffix(FULL)
        return partial(NETWORKS[name], depthwise=name == self.network, **SHAPES[self.dataset])


def jobs() -> Iterator[Job]:
    """Yield all trainings, what matters most first."""
    for name in ("mobilenet_v1_025", "mobilenet_v2_050"):
        yield from _pairs(name)
    for pixels in range(3):  # the grid of widths and resolutions
        for name in ("mobilenet_v1_025", "mobilenet_v1_050", "mobilenet_v1_100"):
            for dataset in SHAPES:
                yield Job(dataset, name, PIXELS[dataset][pixels], 0)
    yield from _pairs("mobilenet_v1_050")


def _pairs(name: str) -> Iterator[Job]:
    for seed in SEEDS:
        for dataset in SHAPES:
            for kind in ("", FULL):
                yield Job(dataset, name + kind, PIXELS[dataset][-1], seed)


def train(job: Job, device: str) -> dict:
    """Return what became of one training: the job, its accuracy on the test images, in [0, 1], and its seconds."""
    torch.set_num_threads(2)
    loaded = data.load(job.dataset)
    lessons, exam = (
        replace(split, images=data.resize(split.images, job.pixels)) for split in (loaded.train, loaded.test)
    )
    far = round(job.pixels / 10)  # as far as the zoo's recipes shift, for each resolution

    def augment(images: torch.Tensor) -> torch.Tensor:
        images = shift(images, pixels=far)
        return images if job.dataset == "signs" else mirror(images)  # a mirrored sign would be another one

    torch.manual_seed(job.seed)
    model = job.build().to(device)
    begun = time.perf_counter()
    fit_whole(model, lessons, seed=job.seed, augment=augment, progress=False, **OPTIONS[job.dataset])
    seconds = time.perf_counter() - begun
    return {**asdict(job), "accuracy": round(evaluate(model, exam), 4), "seconds": round(seconds, 1)}


def done(path: Path) -> dict[Job, dict]:
    """Return what the file at `path` holds, by job."""
    rows = read(path).get("trainings", [])
    return {Job(*(row[name] for name in Job.__dataclass_fields__)): row for row in rows}


def main(
    out: Annotated[Path, typer.Argument(help="The JSON file to write; what it holds is not trained again.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    workers: Annotated[int, typer.Option(min=1, help="Trainings at a time, each in a process of its own.")] = 1,
    seconds: Annotated[float, typer.Option(help="Begin no training later than this.")] = float("inf"),
    only: Annotated[str, typer.Option(help="Only networks whose name has this in it.")] = "",
) -> None:
    """Train the light networks and those that they are compared with."""
    begun, found, failed = time.perf_counter(), done(out), 0
    waiting = [job for job in dict.fromkeys(jobs()) if job not in found and only in job.network]
    for dataset in SHAPES:
        data.load(dataset)  # drawn and kept before the workers ask for it
    machine = {"device": torch.cuda.get_device_name() if device == "cuda" else device, "torch": torch.__version__}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(train, job, device): job for job in waiting[:workers]}
        waiting = waiting[workers:]
        while running:
            future = next(as_completed(running))
            job = running.pop(future)
            if (error := future.exception()) is not None:  # the others are still worth having
                typer.echo(f"{job} failed: {error!r}", err=True)
                failed += 1
            else:
                found[job] = {**future.result(), **machine}
                write(out, {"trainings": list(found.values())})
                typer.echo(f"{time.perf_counter() - begun:6.0f} s  {found[job]['accuracy']:.2%}  {job}")
            if waiting and time.perf_counter() - begun < seconds:
                running[pool.submit(train, waiting[0], device)] = waiting.pop(0)
    raise typer.Exit(1 if failed else 0)


if __name__ == "__main__":
    typer.run(main)
