"""The trainings that distillation is judged by are named apart, come after their teachers, and are paired by seed."""

from dataclasses import asdict

import pytest

from edgelab.bench import distillation_goals as goals
from edgelab.bench import distillation_training as training


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


def test_a_gain_pairs_the_seeds_and_needs_five():
    rows = [
        {**asdict(training.Job("signs", "tiny", arm, seed, 0.1, teacher)), "accuracy": 0.01 * seed + won}
        for seed in range(5)
        for arm, teacher, won in (("alone", "", 0.5), ("unlabelled", "zoo", 0.53))
    ]
    assert goals.gain(rows, "signs", "unlabelled", 0.1, "zoo").mean == pytest.approx(3.0)
    assert goals.gain(rows[:-1], "signs", "unlabelled", 0.1, "zoo") is None
    assert {training.as_job(row) for row in rows} <= set(training.jobs())
