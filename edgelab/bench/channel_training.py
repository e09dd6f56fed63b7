"""The trainings behind the figures of structured pruning, in two steps, on one computer or on two.

`python -m edgelab.bench.channel_training plan FOLDER` chooses channels on this CPU, whose clock it asks: half
of the MACs by several criteria, and a latency by the table of layer times. `... train FOLDER [--device cuda]` then
fine-tunes each plan for every seed; it needs neither ONNX nor any other runtime. `python -m edgelab.bench channels
FOLDER` goes on from there. Where Torch-Pruning is installed, `plan` also prunes with that.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import torch
import typer
from safetensors.torch import load_file, save_file
from torch import nn

from edgelab import data
from edgelab.bench.trainings import read, write
from edgelab.measure import count_macs
from edgelab.models import load_pretrained
from edgelab.models.retrain import AUGMENT
from edgelab.pruning import (
    Dependencies,
    LayerTimes,
    channel_importance,
    choose_latency,
    choose_macs,
    find_dependencies,
    remove_channels,
)
from edgelab.train import evaluate, fit_whole

SEEDS = (0, 1, 2)
EPOCHS = {"signs": 12, "fashion-mnist": 4}  # of fine-tuning
LEARNING_RATE = 0.05
MACS = 0.5  # of the baseline's
LATENCY = 0.5  # of the baseline's
# The channels that ONNX Runtime computes side by side, so that what is left fills its blocks.
ROUND_TO = 16 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 8
# By name: criterion and scope.
CRITERIA = {
    "taylor": ("taylor", "global"),
    "l1": ("l1", "global"),
    "random": ("random", "layer"),
}
RIVALS = ("taylor", "magnitude")  # Torch-Pruning's criteria
LESSONS = 512  # images that the Taylor criterion asks
STEPS = 40  # in which Torch-Pruning goes towards 90 % of the channels; it stops at the MACs
UNTRAINED = 500  # images for the accuracy before fine-tuning
PLANS, RESULTS = "plans.json", "channels.json"
app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


def baseline(dataset: str) -> tuple[data.Dataset, nn.Module, Dependencies]:
    """Return a data set, the model that is trained on it, and its groups."""
    loaded, model = data.load(dataset), load_pretrained("resnet", dataset)
    return loaded, model, find_dependencies(model, data.normalize(loaded.test.images[:1]))


def make_plans(dataset: str, matched: float | None) -> Iterator[tuple[str, dict[str, list[int]]]]:
    """Yield the channels that go by the name of the plan; `matched` is the share of MACs that a rival has left."""
    loaded, model, dependencies = baseline(dataset)
    macs = MACS * count_macs(model, dependencies.example)
    scores = {
        criterion: channel_importance(dependencies, criterion, loaded.train[:LESSONS])
        for criterion in ("taylor", "l1", "random")
    }
    for name, (criterion, scope) in CRITERIA.items():
        yield name, choose_macs(dependencies, scores[criterion], macs, scope=scope, round_to=ROUND_TO)
    if matched is not None:
        target = matched * count_macs(model, dependencies.example)
        yield "matched", choose_macs(dependencies, scores["taylor"], target, round_to=ROUND_TO)
    times = layer_times(model, dependencies)
    target = LATENCY * times.predict({})
    yield "latency", choose_latency(dependencies, scores["taylor"], target, times, round_to=ROUND_TO)


def layer_times(model: nn.Module, dependencies: Dependencies) -> LayerTimes:
    """Return the table of layer times in ONNX Runtime on this CPU; the whole model is measured, too."""
    import tempfile

    from edgelab.deploy import Runner, time_layer, to_onnx
    from edgelab.measure import measure_latency

    with tempfile.TemporaryDirectory() as folder:
        path = to_onnx(model, dependencies.example, Path(folder, "whole.onnx"))
        whole = measure_latency(Runner.open(path).once(dependencies.example), repeats=200, max_seconds=2)
    return LayerTimes(dependencies, time_layer, whole.min_ms)


def prune_with_torch_pruning(dataset: str, criterion: str) -> nn.Module:
    """Return the baseline pruned to the same MACs by Torch-Pruning's MetaPruner, all its defaults but `round_to`."""
    import torch_pruning as tp  # type: ignore[import-not-found]

    loaded, model, dependencies = baseline(dataset)
    image, macs = dependencies.example, MACS * count_macs(model, dependencies.example)
    importance = {
        "taylor": tp.importance.GroupTaylorImportance,
        "magnitude": tp.importance.GroupMagnitudeImportance,
    }[criterion]()
    pruner = tp.pruner.BasePruner(
        model,
        image,
        importance=importance,
        global_pruning=True,
        pruning_ratio=0.9,
        iterative_steps=STEPS,
        ignored_layers=[model.classifier],
        round_to=ROUND_TO,
    )
    for _step in range(STEPS):
        if count_macs(model, image) <= macs:
            break
        if criterion == "taylor":
            model.zero_grad()
            part = loaded.train[:256]
            nn.functional.cross_entropy(model(data.normalize(part.images)), part.labels).backward()
        pruner.step()
    return model.eval()


@app.command("plan")
def plan(
    folder: Annotated[Path, typer.Argument(help="Where the plans are written.")],
    dataset: Annotated[list[str] | None, typer.Option(help="signs or fashion-mnist; both by default.")] = None,
) -> None:
    """Choose the channels that go, on this computer."""
    folder.mkdir(parents=True, exist_ok=True)
    plans = read(folder / PLANS)
    for name in dataset or EPOCHS:
        loaded, model, dependencies = baseline(name)
        whole = count_macs(model, dependencies.example)
        for criterion in RIVALS if _has_torch_pruning() else ():
            smaller = prune_with_torch_pruning(name, criterion)
            title, share = f"torch-pruning {criterion}", count_macs(smaller, dependencies.example) / whole
            torch.save(smaller, folder / _whole_model(name, title))
            plans[f"{name}/{title}"] = {"macs": share, "untrained": evaluate(smaller, loaded.test[:UNTRAINED])}
            print(f"{name}/{title}: {share:.3f} of the MACs", flush=True)
            write(folder / PLANS, plans)
        rivals = [plan["macs"] for key, plan in plans.items() if key.startswith(f"{name}/torch-pruning")]
        for title, channels in make_plans(name, min(rivals, default=None)):
            smaller = remove_channels(dependencies, channels)
            share = count_macs(smaller, dependencies.example) / whole
            accuracy = evaluate(smaller, loaded.test[:UNTRAINED])
            plans[f"{name}/{title}"] = {"channels": channels, "macs": share, "untrained": accuracy}
            print(f"{name}/{title}: {share:.3f} of the MACs, {accuracy:.2%} untrained", flush=True)
            write(folder / PLANS, plans)


@app.command("train")
def train(
    folder: Annotated[Path, typer.Argument(help="Where the plans are, and models and channels.json are written.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dataset: Annotated[list[str] | None, typer.Option(help="signs or fashion-mnist; both by default.")] = None,
    only: Annotated[list[str] | None, typer.Option(help="Only these plans; control is one.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="0, 1 and 2 by default.")] = None,
) -> None:
    """Fine-tune every plan for every seed; what channels.json holds already is not trained again."""
    plans, results = read(folder / PLANS), read(folder / RESULTS)
    for name in dataset or EPOCHS:
        titles = [key.partition("/")[2] for key in plans if key.startswith(f"{name}/")]
        for title in only or [*titles, "control"]:
            for number in seed or SEEDS:
                key = f"{name}/{title}/{number}"
                if key in results or (title != "control" and title not in titles):
                    continue
                start = time.perf_counter()
                results[key] = {"accuracy": fine_tune(folder, plans, name, title, number, device)}
                results[key]["seconds"] = round(time.perf_counter() - start, 1)
                print(key, results[key], flush=True)
                write(folder / RESULTS, results)


def fine_tune(folder: Path, plans: dict, dataset: str, title: str, seed: int, device: str) -> float:
    """Return the accuracy on the test images after fine-tuning; the weights of the first seed are kept in a file."""
    loaded = data.load(dataset)
    model = _untrained(folder, plans, dataset, title).to(device)
    augment, epochs = AUGMENT[dataset], EPOCHS[dataset]
    fit_whole(model, loaded.train, seed=seed, epochs=epochs, lr=LEARNING_RATE, augment=augment, progress=False)
    accuracy = evaluate(model, loaded.test)
    if seed == SEEDS[0] and title != "control":
        weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(weights, weights_file(folder, dataset, title))
    return accuracy


def _untrained(folder: Path, plans: dict, dataset: str, title: str) -> nn.Module:
    """Return the model of a plan with the baseline's weights; `control` is the baseline itself."""
    if title == "control":
        return load_pretrained("resnet", dataset)
    plan = plans[f"{dataset}/{title}"]
    if "channels" not in plan:
        return torch.load(folder / _whole_model(dataset, title), weights_only=False)
    _loaded, _model, dependencies = baseline(dataset)
    return remove_channels(dependencies, plan["channels"])


def trained(folder: Path, dataset: str, title: str) -> nn.Module:
    """Return the fine-tuned model of a plan and of the first seed."""
    model = _untrained(folder, read(folder / PLANS), dataset, title)
    model.load_state_dict(load_file(weights_file(folder, dataset, title)))
    return model.eval()


def weights_file(folder: Path, dataset: str, title: str) -> Path:
    """Return where the weights of a plan are kept."""
    return folder / f"{dataset}-{title.replace(' ', '-')}.safetensors"


def accuracies(folder: Path, dataset: str, title: str) -> list[float]:
    """Return the accuracies that a plan reached, of all seeds that were trained."""
    found = read(folder / RESULTS)
    return [found[key]["accuracy"] for seed in SEEDS if (key := f"{dataset}/{title}/{seed}") in found]


def _whole_model(dataset: str, title: str) -> str:
    return f"{dataset}-{title.replace(' ', '-')}-untrained.pt"


def _has_torch_pruning() -> bool:
    from importlib.util import find_spec

    return find_spec("torch_pruning") is not None


if __name__ == "__main__":
    app()
