"""The plans and trainings behind the figures of structured pruning: chosen, trained, judged, and not repeated."""

import json

import pytest
import torch
from torch import nn

from edgelab import models
from edgelab.bench import channel_goals, channel_training
from edgelab.measure import count_macs
from edgelab.pruning import remove_channels


@pytest.fixture
def planned(noise_for_signs, tmp_path, monkeypatch):
    """Return the folder of plans for a toy data set and a network of 64 and 128 channels."""

    def small(_name, _dataset="signs"):
        torch.manual_seed(0)
        return models.resnet((64, 128), num_classes=4).eval()

    for module in (channel_training, channel_goals):
        monkeypatch.setattr(module, "load_pretrained", small)
        monkeypatch.setattr(module.data, "load", lambda _name: noise_for_signs)
    monkeypatch.setattr(channel_training, "EPOCHS", {"signs": 1})
    monkeypatch.setattr(channel_training, "layer_times", lambda _model, dependencies: by_weights(dependencies))
    monkeypatch.setattr(channel_training, "_has_torch_pruning", lambda: False)
    channel_training.plan(tmp_path, None)
    return tmp_path


def by_weights(dependencies):
    """Return a clock that knows no noise: a microsecond for each weight."""
    return channel_training.LayerTimes(dependencies, lambda layer, _image: layer.weight.numel() / 1000)


def widths(model):
    return [layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)]


def test_every_plan_halves_what_it_is_about_in_whole_blocks(planned):
    plans = json.loads((planned / channel_training.PLANS).read_text())
    assert list(plans) == [f"signs/{name}" for name in ("taylor", "l1", "random", "latency")]
    _loaded, model, dependencies = channel_training.baseline("signs")
    for name, plan in plans.items():
        smaller = remove_channels(dependencies, plan["channels"])
        share = count_macs(smaller, dependencies.example) / count_macs(model, dependencies.example)
        assert plan["macs"] == pytest.approx(share)
        assert all(width % 8 == 0 for width in widths(smaller))
        if name == "signs/random":  # all groups lose the same share, in per cent
            assert share <= 0.5
        elif name != "signs/latency":
            assert 0.35 < share <= 0.5
            assert all(width % channel_training.ROUND_TO == 0 for width in widths(smaller))
    times = by_weights(dependencies)
    assert times.predict(plans["signs/latency"]["channels"]) <= 0.5 * times.predict({})


def test_plans_are_trained_once_and_judged_on_this_computer(planned, monkeypatch):
    channel_training.train(planned, seed=[0, 1])
    results = json.loads((planned / channel_training.RESULTS).read_text())
    names = ("taylor", "l1", "random", "latency", "control")
    assert list(results) == [f"signs/{name}/{seed}" for name in names for seed in (0, 1)]
    monkeypatch.setattr(channel_training, "fit_whole", lambda *_args, **_options: pytest.fail("trained again"))
    channel_training.train(planned, seed=[0, 1])
    claims = {claim.name: claim for claim in channel_goals.trained("signs", planned)}
    assert claims["signs/taylor (2 seeds): MACs left"].measured <= 50
    assert claims["signs/taylor (2 seeds): points lost"].at_most == 0.5
    assert claims["signs/taylor (2 seeds): latency over the baseline's"].at_most == 0.65
    assert claims["signs/l1 (2 seeds): points lost"].at_most is None
    assert claims["signs: pruned, int8: file smaller"].measured > claims["signs: int8: file smaller"].measured > 3
    mean = sum(results[f"signs/taylor/{seed}"]["accuracy"] for seed in (0, 1)) / 2
    lost = claims["signs: accuracy of the baseline"].measured - 100 * mean
    assert claims["signs/taylor (2 seeds): points lost"].measured == pytest.approx(lost, abs=1e-4)


def test_a_rival_is_judged_by_its_best_criterion(planned, monkeypatch):
    channel_training.train(planned, seed=[0], only=["taylor"])
    plans = json.loads((planned / channel_training.PLANS).read_text())
    results = json.loads((planned / channel_training.RESULTS).read_text())
    for title, accuracy in (("torch-pruning taylor", 0.9), ("torch-pruning magnitude", 0.8), ("matched", 0.85)):
        plans[f"signs/{title}"] = plans["signs/taylor"]
        results[f"signs/{title}/0"] = {"accuracy": accuracy}
    channel_training.write(planned / channel_training.PLANS, plans)
    channel_training.write(planned / channel_training.RESULTS, results)
    _loaded, model, dependencies = channel_training.baseline("signs")
    monkeypatch.setattr(channel_training, "trained", lambda *_plan: model)
    claims = list(channel_goals._against_torch_pruning("signs", planned, dependencies.example))
    assert [claim.name for claim in claims] == [
        "signs: points behind torch-pruning taylor, at its MACs", "signs: latency over that of torch-pruning taylor",
    ]  # fmt: skip
    assert (claims[0].measured, claims[0].at_most) == (pytest.approx(5.0), 0.3)
    assert 0.2 < claims[1].measured < 5  # one model against itself, on a machine that may be busy
