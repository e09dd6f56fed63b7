"""The trainings that distillation is judged by are named apart, come after their teachers, and are paired by seed."""

import copy
from dataclasses import asdict
from functools import partial

import pytest
import torch
from torch import nn

from edgelab import data
from edgelab.bench import distillation_goals as goals
from edgelab.bench import distillation_training as training
from edgelab.errors import EdgelabError


def test_every_training_has_a_name_of_its_own_and_comes_after_its_teachers():
    every = list(training.jobs())
    assert len({job.name for job in every}) == len(every)
    for place, job in enumerate(every):
        teachers = training._trained_teachers(job)
        assert all(every.index(teacher) < place for teacher in teachers)
        assert bool(teachers) == (job.teacher in ("own", "both"))
        assert job.arm in training.ARMS


def test_every_comparison_has_its_trainings_for_all_seeds():
    every = {(job.arm, job.share, job.teacher, job.seed) for job in training.jobs() if job.student == "tiny"}
    for arm, share, teacher in goals.COMPARED:
        for seed in training.SEEDS:
            assert {(arm, share, teacher, seed), ("alone", share, "", seed)} <= every


def test_both_controls_are_compared_for_every_share_of_the_labels():
    shares = {share for _arm, share, _teacher in goals.COMPARED}
    assert shares == {1.0, 0.1, 0.01}
    assert {("longer", share, "") for share in shares} | {("smoothing", share, "") for share in shares} <= set(
        goals.COMPARED
    )


@pytest.mark.parametrize(("images", "epochs"), [(12_000, 13 + 20), (1_200, 130 + 201)])
def test_the_control_of_equal_compute_trains_for_what_the_teachers_one_pass_costs(images, epochs, monkeypatch):
    """194.7 million MACs of the baseline buy 60.2 images of the tiny student, or 20.05 at three passes for a step."""
    asked = {}
    monkeypatch.setattr(training, "fit", lambda _student, _split, **options: asked.update(options))
    split = data.Split(torch.zeros(images, 3, 32, 32, dtype=torch.uint8), torch.zeros(images, dtype=torch.long))
    training._longer(training.build("signs", "tiny", 0), None, split, epochs=13 * 12_000 // images)
    assert asked == {"epochs": epochs}


@pytest.mark.parametrize("made", [partial(goals._few_bits, bits=2), goals._few_weights], ids=["bits", "weights"])
@pytest.mark.parametrize("taught", [False, True], ids=["alone", "teacher"])
def test_a_student_of_few_bits_or_weights_is_trained_with_a_teacher_and_without(made, taught):
    split = data.Split(torch.randint(0, 256, (260, 3, 16, 16), dtype=torch.uint8), torch.arange(260) % 16)
    model = training.build("signs", "tiny", 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made_of_it = made(model, copy.deepcopy(model) if taught else None, split, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    layers = [layer.weight for layer in made_of_it.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    few = all(len(row.unique()) <= 4 for weight in layers for row in weight)
    zeros = sum(int((weight == 0).sum()) for weight in layers) / sum(weight.numel() for weight in layers)
    assert few or zeros == pytest.approx(goals.SPARSITY, abs=1e-3)


def test_a_folder_without_trainings_is_refused_and_none_is_needed_for_the_rest(tmp_path):
    with pytest.raises(EdgelabError, match="holds no trainings"):
        next(goals.claims(tmp_path))
    assert list(goals.claims(few_bits=False)) == []


def test_seconds_are_compared_with_those_of_the_same_seed_alone():
    rows = [
        {**asdict(training.Job("signs", "tiny", arm, seed, 1.0, teacher)), "accuracy": 0.5, "seconds": seconds}
        for arm, teacher, seed, seconds in (
            *(("alone", "", seed, 10.0 * (seed + 1)) for seed in range(3)),
            *(("cached", "zoo", seed, factor * 10.0 * (seed + 1)) for seed, factor in enumerate((2.0, 3.0, 7.0))),
        )
    ]
    assert goals._seconds(rows, "signs", "cached", 1.0, "zoo") == 3.0


def test_a_gain_pairs_the_seeds_and_needs_five():
    rows = [
        {**asdict(training.Job("signs", "tiny", arm, seed, 0.1, teacher)), "accuracy": 0.01 * seed + won}
        for seed in range(5)
        for arm, teacher, won in (("alone", "", 0.5), ("unlabelled", "zoo", 0.53))
    ]
    assert goals.gain(rows, "signs", "unlabelled", 0.1, "zoo").mean == pytest.approx(3.0)
    assert goals.gain(rows[:-1], "signs", "unlabelled", 0.1, "zoo") is None
    assert {training.as_job(row) for row in rows} <= set(training.jobs())
