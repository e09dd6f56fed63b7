"""The interval over seeds covers what it promises, within what can be had from five numbers."""

import random

import pytest

from edgelab.errors import EdgelabError
from edgelab.measure.seeds import paired_gain


def test_a_gain_is_the_mean_of_paired_differences():
    found = paired_gain([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 4.0, 3.0, 6.0, 5.0])
    assert found.mean == pytest.approx(1.0)
    assert found.low <= found.mean <= found.high
    assert found.pairs == 5


def test_pairs_and_not_two_heaps_are_compared():
    """Seeds that differ much from each other, and an effect that is the same for all."""
    assert paired_gain([10.0, 50.0, 90.0, 30.0, 70.0], [11.0, 51.0, 91.0, 31.0, 71.0]).clear
    assert not paired_gain([10.0, 50.0, 90.0, 30.0, 70.0], [51.0, 11.0, 31.0, 91.0, 71.0]).clear


def test_the_same_numbers_give_the_same_interval():
    before, after = list(range(8)), [1.3, 0.9, 3.1, 3.3, 5.5, 4.8, 6.1, 8.8]
    assert paired_gain(before, after) == paired_gain(before, after)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Made-up experiments of five pairs without any effect: 95 % is promised, and 92 % is what five pairs allow."""
    rng = random.Random(0)
    wrong = sum(paired_gain([0.0] * 5, [rng.gauss(0, 1) for _pair in range(5)]).clear for _experiment in range(300))
    assert 0.02 < wrong / 300 < 0.13


def test_four_seeds_are_too_few_and_a_pair_needs_two():
    for before, after in ((range(4), range(4)), (range(5), range(6))):
        with pytest.raises(EdgelabError, match="from 5 to 12 pairs"):
            paired_gain(before, after)
