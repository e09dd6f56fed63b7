import os
import re
from collections import Counter

import pytest

os.environ["LC_ALL"] = "C.UTF-8"  # English messages, whatever the machine speaks
os.environ.pop("EDGELAB_LANG", None)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # a worker for each core: more threads would only wait for each other


@pytest.fixture
def learners_folder(tmp_path, monkeypatch):
    """Work in a new folder of a learner's, as a notebook does; return it."""
    (tmp_path / ".edgelab").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def needs_fashion_mnist():
    """Skip where the real Fashion-MNIST is not on this machine; where CI=true that is a failure."""
    from edgelab.data.loaders import find_fashion_mnist

    if find_fashion_mnist() is None:
        message = "Fashion-MNIST is not on this machine: apt-get install dataset-fashion-mnist"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)


@pytest.fixture(scope="session")
def noise_for_signs():
    """Return a data set of 64 images of noise, 8 x 8 pixels, in four classes, that passes for the road signs."""
    import torch

    from edgelab import data

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8, generator=generator)
    split = data.Split(images, torch.arange(64) % 4)
    return data.Dataset("signs", ("a", "b", "c", "d"), split, split)


@pytest.fixture
def few_signs(tmp_path, monkeypatch):
    """Let the data set be a folder of 32 images, for speed."""
    from PIL import Image

    from edgelab import data

    signs = data.load("signs")
    for half, split in (("train", signs.train[:32]), ("test", signs.test[:32])):
        for place in range(len(signs.classes)):
            (tmp_path / "few" / half / f"{place:02d}").mkdir(parents=True)
            image = Image.fromarray(split.images[place % 32].permute(1, 2, 0).numpy())
            image.save(tmp_path / "few" / half / f"{place:02d}" / "0.png")
    return tmp_path / "few"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give all tests of one lab to the same worker, so that its reference is run once, and the labs before the rest.

    That is what `--dist loadgroup` is for, but under pytest 9 xdist 3.8 cannot mark the groups.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByLab(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            lab = re.match(r"tests/labs/.*\[(?:.*-)?(\d\d_\w+)", nodeid)
            return lab[1] if lab else nodeid

    return ByLab(config, log)


def pytest_terminal_summary(terminalreporter):
    """Say which files took the time: what a proof costs is seen each time that somebody pays it."""
    spent = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if hasattr(report, "duration"):
                spent[report.nodeid.partition("::")[0]] += report.duration
    total = sum(spent.values())
    terminalreporter.write_sep("=", f"where {total:.0f} s of tests went")
    for file, seconds in spent.most_common():
        if seconds >= total / 50:
            terminalreporter.write_line(f"{seconds:7.0f} s {seconds / total:4.0%}  {file}")
