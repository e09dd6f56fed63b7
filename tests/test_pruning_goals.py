"""The trainings behind the pruning figures leave files that give what was recorded, and are not repeated."""

import json

import pytest
import torch

from edgelab import models
from edgelab.bench import pruning_goals, pruning_training
from edgelab.bench.trainings import write
from edgelab.errors import EdgelabError
from edgelab.pruning import load_sparse


@pytest.fixture
def trained(noise_for_signs, tmp_path, monkeypatch):
    """Return the folder of trainings on a toy data set."""

    def small(_name, _dataset="signs"):
        torch.manual_seed(0)
        return models.resnet((8, 12), num_classes=4).eval()

    for module in (pruning_training, pruning_goals):
        monkeypatch.setattr(module, "load_pretrained", small)
        monkeypatch.setattr(module.data, "load", lambda _name: noise_for_signs)
    monkeypatch.setattr(pruning_training, "EPOCHS", {"signs": 1})
    pruning_training.train_all(tmp_path, ["signs"], [0, 1, 2], "cpu")
    return tmp_path


def test_every_figure_comes_of_a_training_and_its_file_gives_the_same_weights(trained):
    results = json.loads((trained / pruning_training.RESULTS).read_text())
    assert list(results) == [f"signs/{kind}/{seed}" for kind in ("pruned", "control") for seed in (0, 1, 2)]
    for run in results.values():
        assert all(0 <= share <= 1 for name, share in run.items() if name != "seconds")
    assert results["signs/pruned/0"]["0.95, zeros"] == pytest.approx(0.95, abs=0.001)
    state = load_sparse(pruning_training.model_file(trained, "signs", 2, "chain"))
    assert all(len(weight.unique()) <= 16 for weight in state.values() if weight.dim() > 1)
    claims = {claim.name: claim for claim in pruning_goals.trained("signs", trained)}
    assert claims["signs: files read back on this CPU, points from what was recorded"].measured <= 0.1
    assert claims["signs: 80% zeros, points lost, mean of 3 seeds"].at_most == 0.5
    assert claims["signs: prune, share, Huffman: file smaller, worst seed"].at_least == 35


def test_what_is_trained_is_not_trained_again(trained, monkeypatch):
    monkeypatch.setattr(pruning_training, "fit_whole", lambda *_args, **_options: pytest.fail("trained again"))
    pruning_training.train_all(trained, ["signs"], [0, 1, 2], "cpu")


def test_what_was_stopped_goes_on_after_the_last_model_that_was_written(trained, monkeypatch):
    path = trained / pruning_training.RESULTS
    whole = json.loads(path.read_text())
    run = whole.pop("signs/pruned/1")
    kept = {name: run[name] for name in ("dense", "0.8", "0.8, zeros", "0.93", "0.93, zeros", "seconds")}
    write(path, whole | {f"signs/pruned/1{pruning_training.UNFINISHED}": kept})
    trainings = []
    fit = pruning_training.fit_whole
    monkeypatch.setattr(pruning_training, "fit_whole", lambda *args, **how: trainings.append(how) or fit(*args, **how))
    pruning_training.train_all(trained, ["signs"], [0, 1, 2], "cpu")
    assert len(trainings) == 2, "of the shared weights, and to 95 % zeros"
    again = json.loads(path.read_text())
    assert again.keys() == whole.keys() | {"signs/pruned/1"}
    assert all(again["signs/pruned/1"][name] == value for name, value in kept.items() if name != "seconds")
    assert again["signs/pruned/1"]["0.95, zeros"] == run["0.95, zeros"]
    assert again["signs/pruned/1"]["shared, not trained"] == run["shared, not trained"], "of the very weights written"


def test_without_all_trainings_the_benchmark_says_what_makes_them(tmp_path):
    with pytest.raises(EdgelabError, match=r"seeds \[0, 1, 2\].*pruning_training"):
        next(pruning_goals.trained("signs", tmp_path))
    write(
        tmp_path / pruning_training.RESULTS, {"signs/pruned/0": {}, "signs/pruned/2": {}, "fashion-mnist/pruned/1": {}}
    )
    with pytest.raises(EdgelabError, match=r"seeds \[1\].*pruning_training"):
        next(pruning_goals.trained("signs", tmp_path))
