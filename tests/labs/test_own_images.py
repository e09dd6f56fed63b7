"""Every lab runs from its first cell to its last on images of a learner's own: another size, other classes, grey too.

Long, because each lab runs twice. Nothing is trained beforehand: the folders hold signs, so the zoo's own weights fit
them (`graft`); that `edgelab adopt` trains such models is held by `tests/test_adopt.py`.
"""

import pytest

from edgelab.course.limits import MAX_BYTES, measure_lab
from tests.own_images import graft, signs_folder

FOLDERS = {
    "12 classes, colour, 40 px": {"classes": 12, "side": 40, "grey": False},
    "2 classes, grey, 28 px": {"classes": 2, "side": 28, "grey": True},
}


@pytest.fixture(scope="session")
def own(tmp_path_factory):
    """Return a function that gives the folder of a name, with models that read it well above chance."""
    folders = {}

    def folder(name):
        if name not in folders:
            place = tmp_path_factory.mktemp("own") / "pictures"
            signs_folder(place, train=3_000, test=1_200, **FOLDERS[name])
            found = graft(place)
            chance = 1 / FOLDERS[name]["classes"]
            assert min(found.values()) > chance + 0.2, found
            folders[name] = place
        return folders[name]

    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", FOLDERS)
def test_a_lab_runs_to_its_end_on_images_of_ones_own(source, own, name):
    usage = measure_lab(source, dataset=str(own(name)))
    assert usage.failure == ""
    assert usage.peak_bytes <= MAX_BYTES
