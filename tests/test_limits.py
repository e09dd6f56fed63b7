"""The limits command measures what a lab takes, and fails a lab that takes more or stops."""

import sys
from pathlib import Path

import pytest

from edgelab.course import limits
from edgelab.course.limits import Usage, measure_lab

LAB = """\
# %% [markdown]
# # Title

# %% memory
block = bytearray(300_000_000)
for place in range(0, len(block), 4096):
    block[place] = 1

# %% time
import os, time
time.sleep(0.5)
from edgelab.i18n import language
assert (language(), os.environ.get("EDGELAB_DATASET")) == ("es", "fashion-mnist")
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "labs" / "source" / "01_x.py"
    path.parent.mkdir(parents=True)
    path.write_text(LAB)
    return path


def test_time_and_memory_of_a_lab_are_measured(source: Path, monkeypatch):
    monkeypatch.delenv("EDGELAB_LANG", raising=False)
    usage = measure_lab(source, "es", dataset="fashion-mnist")
    assert usage.failure == ""
    assert 0.5 < usage.seconds < 30
    assert 300e6 < usage.peak_bytes < 600e6
    assert usage.fits
    assert 0.5 < dict(usage.slowest)["time"] < usage.seconds
    assert list(usage.slowest) == sorted(usage.slowest, key=lambda cell: -cell[1])
    assert usage.hungriest[0][0] == "memory"
    assert 250e6 < usage.hungriest[0][1] < 350e6


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork, and shared pages that can be counted")
def test_what_two_processes_share_is_counted_once(source: Path):
    source.write_text(
        "# %% shared\nimport os, time\nblock = b'1' * 300_000_000\n"
        "if not os.fork():\n    time.sleep(1)\n    os._exit(0)\n_ = os.wait()\n"
    )
    usage = measure_lab(source)
    assert usage.failure == ""
    assert 300e6 < usage.peak_bytes < 500e6


def test_a_lab_that_stops_names_its_cell(source: Path):
    source.write_text("# %% broken\n1 / 0\n")
    usage = measure_lab(source)
    assert usage.failure == "broken: ZeroDivisionError: division by zero"
    assert not usage.fits


def test_labs_run_together_find_what_others_left(source: Path, tmp_path: Path):
    source.write_text(
        "# %% leave\nfrom edgelab.course.folder import state_dir\n(state_dir() / 'left').write_text('x')\n"
    )
    second = source.with_name("02_y.py")
    second.write_text("# %% find\nfrom edgelab.course.folder import state_dir\n(state_dir() / 'left').read_text()\n")
    together = tmp_path / "learner"
    with pytest.raises(limits.typer.Exit) as caught:
        limits.main(labs=["01_x", "02_y"], folder=source.parent.parent, together=together)
    assert caught.value.exit_code == 0
    assert (together / ".edgelab" / "left").read_text() == "x"
    assert "'x'" in (together / "02_y.ipynb").read_text()
    assert measure_lab(second).failure.startswith("find: FileNotFoundError")


@pytest.mark.parametrize(
    ("seconds", "peak", "failure", "fits"),
    [(119, 1.4e9, "", True), (121, 1e9, "", False), (1, 1.6e9, "", False), (1, 1e9, "x: ValueError", False)],
    ids=["within", "too slow", "too large", "stopped"],
)
def test_a_lab_fits_within_both_limits_or_not(seconds: float, peak: int, failure: str, fits: bool):
    usage = Usage("01_x", "en", seconds, peak, failure)
    assert usage.fits is fits
    assert limits.table([usage]).row_count == 1


def test_an_unknown_lab_is_one_sentence(source: Path, capsys):
    with pytest.raises(limits.typer.Exit) as caught:
        limits.main(labs=["99_x"], folder=source.parent.parent)
    assert caught.value.exit_code == 2
    assert capsys.readouterr().err == "There is no lab 99_x. The labs are: 01_x.\n"


def test_exit_code_1_says_that_a_lab_is_over(source: Path, monkeypatch, capsys):
    monkeypatch.setattr(limits, "measure_lab", lambda *_, **__: Usage("01_x", "en", 200, 10, ""))
    with pytest.raises(limits.typer.Exit) as caught:
        limits.main(folder=source.parent.parent)
    assert caught.value.exit_code == 1
    assert "OVER" in capsys.readouterr().out
