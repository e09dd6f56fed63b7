"""The trainings behind the pruning figures: `python -m edgelab.bench.pruning_training FOLDER [--device cuda]`.

For every data set and seed, the baseline is pruned to 80 %, 93 % and 95 % zeros, trained after each step; the one of
93 % goes through the whole of Deep Compression as well. Each model is a file in `FOLDER`, and `pruned.json` says what
it reached on the test images. A run that was stopped goes on after the last model that it wrote.
`python -m edgelab.bench pruning --models FOLDER` goes on from there on this computer's CPU. It needs neither ONNX nor
any other runtime.
"""

import copy
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from edgelab import data
from edgelab.bench.trainings import read, write
from edgelab.models import load_pretrained
from edgelab.models.retrain import AUGMENT
from edgelab.pruning import (
    cubic_schedule,
    load_sparse,
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
SHARED_LR = 0.001  # a shared value sums the gradients of all its weights: at 0.01 one seed of two fell to chance
RESULTS = "pruned.json"
UNFINISHED = ", unfinished"


def train_all(
    folder: Path, datasets: list[str], seeds: list[int], device: str, *, control: bool = True, epochs: int | None = None
) -> None:
    """Train everything into `folder`, for `epochs` instead of `EPOCHS` if given.

    What is in its `pruned.json` already is not trained again; what is there as unfinished goes on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / RESULTS
    results: dict[str, dict] = read(path)
    runs = {"pruned": prune_baseline, "control": train_dense}
    for kind in runs if control else ["pruned"]:
        for dataset in datasets:
            for seed in seeds:
                key = f"{dataset}/{kind}/{seed}"
                if key in results:
                    continue
                last = epochs or EPOCHS[dataset]
                reached = results.setdefault(f"{key}{UNFINISHED}", {"seconds": 0.0, "epochs": last})
                start = time.perf_counter()
                for stage in runs[kind](dataset, seed, folder, device, reached, last):
                    now = time.perf_counter()
                    start, reached["seconds"] = now, round(reached["seconds"] + now - start, 1)
                    write(path, results)
                    print(key, stage, reached, flush=True)
                results[key] = results.pop(f"{key}{UNFINISHED}")
                write(path, results)


def prune_baseline(
    dataset: str, seed: int, folder: Path, device: str, reached: dict[str, float], epochs: int
) -> Iterator[str]:
    """Add to `reached` the accuracy of the pruned baselines on the test images, and write their files, one by one."""
    loaded = data.load(dataset)
    model = load_pretrained("resnet", dataset).to(device)
    train = partial(fit_whole, train=loaded.train, augment=AUGMENT[dataset], seed=seed, progress=False)
    if "dense" not in reached:
        reached["dense"] = evaluate(model, loaded.test)
    before = 0.0
    for sparsity in SPARSITIES:
        file = model_file(folder, dataset, seed, f"{sparsity}")
        if f"{sparsity}" in reached:
            model = load_pretrained("resnet", dataset).to(device)
            model.load_state_dict(load_sparse(file))
            prune(model, sparsity)  # the weights that are zero have the smallest magnitude: the masks of before
        else:
            *steps, last = cubic_schedule(3, sparsity, before) if before == 0 else [sparsity]
            prune_gradually(model, steps, partial(train, epochs=1, lr=0.05))
            prune(model, last)
            train(model, epochs=epochs, lr=0.1)
            save_sparse(remove_masks(copy.deepcopy(model)).state_dict(), file, encoding="bitmask")
            reached[f"{sparsity}"] = evaluate(model, loaded.test)
            reached[f"{sparsity}, zeros"] = sparsity_of(model)
            yield f"{sparsity}"
        before = sparsity
        if sparsity == CHAIN and "chain" not in reached:
            shared = share_weights(copy.deepcopy(model), BITS)
            reached["shared, not trained"] = evaluate(shared, loaded.test)
            train(shared, epochs=min(2, epochs), lr=SHARED_LR)
            reached["chain"] = evaluate(shared, loaded.test)
            file = model_file(folder, dataset, seed, "chain")
            save_sparse(remove_sharing(shared).state_dict(), file, encoding="huffman")
            yield "chain"


def train_dense(
    dataset: str, seed: int, _folder: Path, device: str, reached: dict[str, float], epochs: int
) -> Iterator[str]:
    """Add what the baseline reaches if it is trained as long as to 80 % zeros, and nothing is pruned."""
    loaded = data.load(dataset)
    model = load_pretrained("resnet", dataset).to(device)
    train = partial(fit_whole, train=loaded.train, augment=AUGMENT[dataset], seed=seed, progress=False)
    for _step in range(2):
        train(model, epochs=1, lr=0.05)
    train(model, epochs=epochs, lr=0.1)
    reached["dense, trained as long"] = evaluate(model, loaded.test)
    yield "dense"


def model_file(folder: Path, dataset: str, seed: int, name: str) -> Path:
    """Return where the model `name` of a data set and seed is kept."""
    return folder / f"{dataset}-{name}-{seed}.sparse"


def main(
    folder: Annotated[Path, typer.Argument(help="Where the models and pruned.json are written.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dataset: Annotated[list[str] | None, typer.Option(help="signs or fashion-mnist; both by default.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="0, 1 and 2 by default.")] = None,
    control: Annotated[bool, typer.Option(help="Also train the dense model as long.")] = True,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="After the last step to each sparsity; 8 and 4 by default.")
    ] = None,
) -> None:
    """Train the pruned baselines of the benchmark."""
    if device == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("there is no CUDA device here.")
    train_all(folder, dataset or list(EPOCHS), seed or list(SEEDS), device, control=control, epochs=epochs)


if __name__ == "__main__":
    typer.run(main)
