"""The trainings of light networks: what matters most comes first, and nothing is trained twice."""

import json

import pytest
import torch

from edgelab import data
from edgelab.bench import light_goals, light_training
from edgelab.bench.light_training import FULL, Job, jobs
from edgelab.measure import count_macs


def test_the_pairs_of_the_zoo_come_first_and_every_seed_has_both_sides():
    every = list(dict.fromkeys(jobs()))
    assert {job.network.removesuffix(FULL) for job in every[:24]} == {"mobilenet_v1_025", "mobilenet_v2_050"}
    light = {job for job in every if not job.network.endswith(FULL)}
    for job in every:
        if job.network.endswith(FULL):
            assert Job(job.dataset, job.network.removesuffix(FULL), job.pixels, job.seed) in light


def test_a_job_builds_its_network():
    for suffix, grouped in (("", True), (FULL, False)):
        model = Job("fashion-mnist", "mobilenet_v2_050" + suffix, 28, 0).build()
        assert any(m.groups > 1 for m in model.modules() if isinstance(m, torch.nn.Conv2d)) is grouped
        assert model.eval()(torch.zeros(1, 1, 28, 28)).shape == (1, 10)


@pytest.fixture
def few(monkeypatch):
    """A data set of a few images, and lessons of one pass."""
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = data.Split(images, torch.arange(40) % 16)
    monkeypatch.setattr(data, "load", lambda name: data.Dataset(name, tuple("abcdefghijklmnop"), split, split))
    monkeypatch.setitem(light_training.OPTIONS, "signs", {"epochs": 1, "batch_size": 20, "lr": 0.1})


def test_a_training_gives_its_accuracy_at_its_own_resolution(few):
    row = light_training.train(Job("signs", "mobilenet_v1_025", 16, 0), "cpu")
    assert 0 <= row["accuracy"] <= 1
    assert (row["network"], row["pixels"], row["seed"]) == ("mobilenet_v1_025", 16, 0)


def test_what_the_file_holds_is_read_back_by_job_and_compared(tmp_path):
    pair = [Job("signs", "mobilenet_v1_025" + suffix, 32, seed) for suffix in ("", FULL) for seed in (0, 1)]
    accuracies = (0.93, 0.95, 0.94, 0.95)
    rows = [{**vars(job), "accuracy": share} for job, share in zip(pair, accuracies, strict=True)]
    (tmp_path / "light.json").write_text(json.dumps({"trainings": rows}))
    found = light_training.done(tmp_path / "light.json")
    assert list(found) == pair
    claims = {claim.name: claim for claim in light_goals.against_full("signs", "mobilenet_v1_025", found)}
    lost = claims["signs/mobilenet_v1_025: points lost to full convolutions, mean of 2 seeds"]
    assert lost.measured == pytest.approx(0.5)
    assert lost.met
    fewer = claims["signs/mobilenet_v1_025: times fewer MACs than with full convolutions"]
    full, light = (count_macs(job.build().eval(), torch.zeros(1, 3, 32, 32)) for job in (pair[2], pair[0]))
    assert fewer.measured == full / light
