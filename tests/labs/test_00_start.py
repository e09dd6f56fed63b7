import re

import pytest

from edgelab import measure
from edgelab.labs.lab_00_start import explorers

pytestmark = pytest.mark.usefixtures("learners_folder")


def test_the_latency_explorer_counts_as_many_runs_as_it_is_told():
    box = explorers.latency_explorer(lambda: sum(range(1000)))
    explorer = box.children[0]
    assert "50 runs" in explorer.picture.value
    explorer.children[0].children[0].value = 5
    assert "5 runs" in explorer.picture.value
    before = explorer.picture.value
    box.children[1].click()
    assert explorer.picture.value != before


def test_the_difference_explorer_narrows_with_more_blocks():
    comparison = measure.compare_latency({"a": lambda: sum(range(20_000)), "b": lambda: sum(range(10_000))}, blocks=12)
    explorer = explorers.difference_explorer({"a / b": comparison})
    assert "6 blocks" in explorer.picture.value
    explorer.children[0].children[1].value = 12
    assert "12 blocks" in explorer.picture.value


def test_the_machine_card_names_the_cores():
    assert re.search(r"<table>.*\d", explorers.machine_card().value)
