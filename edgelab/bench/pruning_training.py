"""The trainings behind the pruning figures: `python -m edgelab.bench.pruning_training FOLDER [--device cuda]`.

For every data set and seed, the baseline is pruned to 80 %, 93 % and 95 % zeros, trained after each step; the one of
93 % goes through the whole of Deep Compression as well. Each model is a file in `FOLDER`, and `pruned.json` says what
it reached on the test images. `python -m edgelab.bench pruning --models FOLDER` goes on from there on this computer's
CPU. It needs neither ONNX nor any other runtime.
"""

import copy
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from edgelab import data
from edgelab.bench.trainings import read, write
from edgelab.models import load_pretrained
from edgelab.models.retrain import AUGMENT
from edgelab.pruning import (
    cubic_schedule,
    prune,
    prune_gradually,
    remove_masks,
    remove_sharing,
    save_sparse,
    share_weights,
    sparsity_of,
)
from edgelab.train import evaluate, fit_whole

SEEDS = (0, 1, 2)
EPOCHS = {"signs": 8, "fashion-mnist": 4}  # after the last step to each sparsity; one between steps
SPARSITIES = (0.8, 0.93, 0.95)
CHAIN = 0.93  # the sparsity at which weights are shared
BITS = 4
KEPT = ("0.95", "chain")  # files of these for all seeds; the larger ones for the first seed alone
RESULTS = "pruned.json"


def train_all(folder: Path, datasets: list[str], seeds: list[int], device: str, *, control: bool = True) -> None:
    """Train everything into `folder`; what is in its `pruned.json` already is not trained again."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RESULTS
    results: dict[str, dict] = read(path)
    runs: list[tuple[str, Callable[..., dict]]] = [("pruned", prune_baseline)]
    for kind, run in [*runs, ("control", train_dense)] if control else runs:
        for dataset in datasets:
            for seed in seeds:
                key = f"{dataset}/{kind}/{seed}"
                if key in results:
                    continue
                start = time.perf_counter()
                results[key] = {**run(dataset, seed, folder, device), "seconds": round(time.perf_counter() - start, 1)}
                write(path, results)
                print(key, results[key], flush=True)


def prune_baseline(dataset: str, seed: int, folder: Path, device: str) -> dict[str, float]:
    """Return the accuracy of the pruned baselines on the test images by name, and write their files."""
    loaded = data.load(dataset)
    model = load_pretrained("resnet", dataset).to(device)
    train = partial(fit_whole, train=loaded.train, augment=AUGMENT[dataset], seed=seed, progress=False)
    reached = {"dense": evaluate(model, loaded.test)}
    before = 0.0
    for sparsity in SPARSITIES:
        *steps, last = cubic_schedule(3, sparsity, before) if before == 0 else [sparsity]
        prune_gradually(model, steps, partial(train, epochs=1, lr=0.05))
        prune(model, last)
        train(model, epochs=EPOCHS[dataset], lr=0.1)
        before = sparsity
        reached[f"{sparsity}"] = evaluate(model, loaded.test)
        keep(remove_masks(copy.deepcopy(model)), dataset, seed, f"{sparsity}", "bitmask", folder)
        if sparsity == CHAIN:
            shared = share_weights(copy.deepcopy(model), BITS)
            reached["shared, not trained"] = evaluate(shared, loaded.test)
            train(shared, epochs=2, lr=0.01)
            reached["chain"] = evaluate(shared, loaded.test)
            keep(remove_sharing(shared), dataset, seed, "chain", "huffman", folder)
        reached[f"{sparsity}, zeros"] = sparsity_of(model)
    return reached


def train_dense(dataset: str, seed: int, _folder: Path, device: str) -> dict[str, float]:
    """Return what the baseline reaches if it is trained as long as to 80 % zeros, and nothing is pruned."""
    loaded = data.load(dataset)
    model = load_pretrained("resnet", dataset).to(device)
    train = partial(fit_whole, train=loaded.train, augment=AUGMENT[dataset], seed=seed, progress=False)
    for _step in range(2):
        train(model, epochs=1, lr=0.05)
    train(model, epochs=EPOCHS[dataset], lr=0.1)
    return {"dense, trained as long": evaluate(model, loaded.test)}


def keep(model: nn.Module, dataset: str, seed: int, name: str, encoding: str, folder: Path) -> None:
    """Write the file of a trained model, where it is one of those to keep."""
    if name in KEPT or seed == SEEDS[0]:
        save_sparse(model.state_dict(), model_file(folder, dataset, seed, name), encoding=encoding)


def model_file(folder: Path, dataset: str, seed: int, name: str) -> Path:
    """Return where the model `name` of a data set and seed is kept."""
    return folder / f"{dataset}-{name}-{seed}.sparse"


def main(
    folder: Annotated[Path, typer.Argument(help="Where the models and pruned.json are written.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dataset: Annotated[list[str] | None, typer.Option(help="signs or fashion-mnist; both by default.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="0, 1 and 2 by default.")] = None,
    control: Annotated[bool, typer.Option(help="Also train the dense model as long.")] = True,
) -> None:
    """Train the pruned baselines of the benchmark."""
    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("there is no CUDA device here.")
    train_all(folder, dataset or list(EPOCHS), seed or list(SEEDS), device, control=control)


if __name__ == "__main__":
    typer.run(main)
