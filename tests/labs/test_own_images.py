"""Every lab runs from its first cell to its last on images of a learner's own: another size, other classes, grey too.

Long, because each folder's models are trained first.
"""

import pytest

from edgelab.course.limits import MAX_BYTES, measure_lab
from edgelab.models.adopt import adopt
from tests.own_images import signs_folder

FOLDERS = {
    "12 classes, colour, 48 px": {"classes": 12, "side": 48, "grey": False},
    "2 classes, grey, 28 px": {"classes": 2, "side": 28, "grey": True},
}
MINUTES = 8


@pytest.fixture(scope="session")
def own(tmp_path_factory):
    """Return a function that gives the folder of a name, its models trained on the first call."""
    folders = {}

    def folder(name):
        if name not in folders:
            place = tmp_path_factory.mktemp("own") / "pictures"
            folders[name] = signs_folder(place, train=3_000, test=1_200, **FOLDERS[name])
            adopt(str(place), minutes=MINUTES)
        return folders[name]

    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", FOLDERS)
def test_a_lab_runs_to_its_end_on_images_of_ones_own(source, own, name):
    usage = measure_lab(source, dataset=str(own(name)))
    assert usage.failure == ""
    assert usage.peak_bytes <= MAX_BYTES
