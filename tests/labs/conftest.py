"""What the tests of the labs share: every lab's source, and its reference, which is run once.

All tests of one lab run in one process (an `xdist_group`), so that they share its reference.
"""

from pathlib import Path

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
        sources = build.sources(LABS)
        marked = [
            pytest.param(source, id=source.stem, marks=pytest.mark.xdist_group(source.stem)) for source in sources
        ]
        metafunc.parametrize("source", marked)


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
