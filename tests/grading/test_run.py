"""What a run leaves behind when its grader is killed, and who clears it up."""

import os
import subprocess
import sys
import time

from edgelab.grading import launcher, run

HOLD = """
import sys, time
from pathlib import Path
from edgelab.grading import launcher
folder = Path(sys.argv[1])
folder.mkdir()
lock = launcher.hold(folder)
print("held", flush=True)
time.sleep(600)
"""


def aged(folder):
    """Make a folder old enough for a sweep."""
    before = time.time() - 2 * run.SETTLING_SECONDS
    os.utime(folder, (before, before))


def test_a_killed_runs_folder_is_swept_by_the_next_and_a_live_ones_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "SCRATCH", tmp_path)
    folder = tmp_path / f"{launcher.PREFIX}killed"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        aged(folder)
        run.sweep()
        assert folder.exists()
    finally:
        holder.kill()
        holder.communicate()
    aged(folder)
    run.sweep()
    assert not folder.exists()


def test_a_folder_that_was_made_this_moment_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(launcher, "SCRATCH", tmp_path)
    folder = tmp_path / f"{launcher.PREFIX}new"
    folder.mkdir()
    run.sweep()
    assert folder.exists()
