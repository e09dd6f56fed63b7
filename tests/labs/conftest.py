"""What the tests of the labs share: every lab's source, and its reference, which is run once.

All tests of one lab run in one process (`pytest_xdist_make_scheduler`), so that they share its reference.
"""

from pathlib import Path

import ipywidgets as widgets
import pytest

from edgelab import data
from edgelab.course import build
from edgelab.grading.limits import Limits
from edgelab.grading.reference import reference

LABS = Path(__file__).parents[2] / "labs"
SEED = 20261125


def pytest_generate_tests(metafunc):
    """Run a test that takes a `source` once for each lab."""
    if "source" in metafunc.fixturenames:
        metafunc.parametrize("source", build.sources(LABS), ids=lambda source: source.stem)


@pytest.fixture(scope="session")
def labs():
    """Return the course's labs folder."""
    return LABS


@pytest.fixture(scope="session")
def references(tmp_path_factory):
    """Return a function that returns the reference of one of the course's labs, to grade by."""
    data.load("signs")  # a sandboxed kernel can read the cache, and not fill it
    cache = tmp_path_factory.mktemp("cache")
    return lambda source: reference(source, seed=SEED, limits=Limits(), cache=cache, dataset="signs")


@pytest.fixture(scope="session")
def redraws():
    """Return a function that moves all controls of some explorers; no drawing fails, and it gives the ms of each."""

    def move(explorers):
        times = []
        for explorer in explorers:
            for control in explorer.children[0].children:
                assert isinstance(control, widgets.SelectionSlider | widgets.Dropdown)
                for _label, value in list(control.options)[:4]:
                    control.value = value
                    explorer.redraw()
                    assert 'role="alert"' not in explorer.picture.value
                    times.append(explorer.milliseconds)
        print(f"redraws: median {sorted(times)[len(times) // 2]:.0f} ms, slowest {max(times):.0f} ms")
        return times

    return move
