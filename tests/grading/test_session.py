"""A grading as a whole: interrupted, resumed, on one worker or two or a cluster, it ends in the same gradebook."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgelab import cli
from edgelab.grading import session
from edgelab.grading.results import Results
from edgelab.grading.workers import local_workers

HALF = "def half(number):\n    return number * 0.5\n"
EVENS = "def evens(numbers):\n    return [number for number in numbers if number % 2 == 0]\n"
HANDED_IN = {
    "ada": {"half": HALF, "evens": EVENS},
    "bob": {"half": HALF},
    "Lovelace, A": {"half": "def half(number):\n    return abs(number) / 2", "evens": EVENS},
    "=HYPERLINK(1)": {"half": "import os\nos._exit(1)", "evens": EVENS},
    "eve": {},
    "mal": None,
}
POINTS = {"ada": 5, "bob": 3, "Lovelace, A": 2, "=HYPERLINK(1)": 2, "eve": 0, "mal": 0}


@pytest.fixture
def course(tmp_path: Path, labs: Path, answer) -> Path:
    """Return a folder with `labs` and `back`, in which everyone handed in something."""
    shutil.copytree(labs, tmp_path / "labs")
    for learner, code in HANDED_IN.items():
        folder = tmp_path / "back" / learner
        folder.mkdir(parents=True)
        content = json.dumps(answer(**code)) if code is not None else "not JSON"
        (folder / "01_halves.ipynb").write_text(content)
    return tmp_path


@pytest.fixture
def grade(course: Path, monkeypatch):
    monkeypatch.chdir(course)

    def grade(*words: str, out: str = "out"):
        return CliRunner().invoke(cli.app, ["grade", "back", "--out", out, "--seed", "5", *words], prog_name="edgelab")

    return grade


def gradebook(folder: Path) -> str:
    return (folder / "gradebook.csv").read_text("utf-8-sig")


def totals(folder: Path) -> dict[str, int]:
    rows = Results(folder).rows.values()
    return {row["learner"]: sum(mark["points"] for mark in row["exercises"].values()) for row in rows}


def test_everyone_ends_in_a_row_and_nothing_is_done_twice(grade, course: Path):
    first = grade()
    assert first.exit_code == 0, first.output
    assert "5 submissions to grade." in first.output  # and one that nobody can read
    assert totals(course / "out") == POINTS
    assert len(list((course / "out" / "feedback").glob("*/01_halves.html"))) == 5
    book = gradebook(course / "out")
    again = grade()
    assert "0 submissions to grade, already graded and unchanged: 5." in again.output
    assert gradebook(course / "out") == book

    # A changed submission, a mark by hand and a changed reference: each redoes what it must, and no more.
    (course / "back" / "eve" / "01_halves.ipynb").write_bytes(
        (course / "back" / "ada" / "01_halves.ipynb").read_bytes()
    )
    marks = "learner,lab,exercise,points,comment\nmal,01_halves,half,2,told me\nmall,01_halves,half,2,\n"
    (course / "out" / "manual.csv").write_text(marks)
    third = grade()
    assert "1 submission to grade, already graded and unchanged: 4." in third.output
    assert "has a mark for 'mall' in '01_halves', and nothing like that was handed in." in third.output
    assert third.output.count("has a mark for") == 1
    assert totals(course / "out")["eve"] == 5
    assert '"mal","","unreadable",2,0,2,"half (told me)",' in gradebook(course / "out")
    source = course / "labs" / "source" / "01_halves.py"
    source.write_text(source.read_text().replace('"half-check" points=2', "").replace("points=2", "points=4", 1))
    assert "5 submissions to grade." in grade().output
    assert '"mal","","unreadable",2,0,2,"half (told me)",' in gradebook(course / "out")
    assert totals(course / "out")["ada"] == 7


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "edgelab", "grade", "back", "--out", "out", "--seed", "5", *words]


def test_killed_halfway_it_goes_on_and_ends_the_same(grade, course: Path):
    assert grade(out="undisturbed").exit_code == 0
    results = course / "out" / "results.jsonl"
    process = subprocess.Popen(command(), cwd=course, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (results.exists() and results.read_text().count("\n") >= 2):
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    done = results.read_text().count("\n")
    with results.open("a") as file:
        file.write('{"learner": "half a li')
    second = grade()
    graded = done - 1  # one row is of what nobody can read
    assert f"{5 - graded} submissions to grade, already graded and unchanged: {graded}." in second.output
    assert gradebook(course / "out") == gradebook(course / "undisturbed")


def test_ctrl_c_leaves_a_gradebook_and_no_process(course: Path, answer):
    (course / "back" / "slow").mkdir()  # its half a minute is not over before the signal comes
    (course / "back" / "slow" / "01_halves.ipynb").write_text(json.dumps(answer(half="while True: pass", evens=EVENS)))
    results = course / "out" / "results.jsonl"
    process = subprocess.Popen(command(), cwd=course, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (results.exists() and results.read_text().count("\n") >= 1):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error.splitlines()[-1]) == (130, "Stopped.")
    assert gradebook(course / "out").count("\n") >= 2


def test_ctrl_c_waits_until_a_worker_has_begun(monkeypatch):
    """Else the half-begun one finds its orders cut short: EOFError, beneath the sentence that all was stopped."""
    begun = []

    def submit(_pool, job):
        signal.raise_signal(signal.SIGINT)
        begun.append(job)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", submit)
    with pytest.raises(KeyboardInterrupt), local_workers(1) as (pool, _at_a_time):
        pool.submit("a job")
    assert begun == ["a job"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_two_workers_give_the_same_gradebook(grade, course: Path):
    assert grade("--workers", "1", out="one").exit_code == 0
    assert grade("--workers", "2", out="two").exit_code == 0
    assert gradebook(course / "one") == gradebook(course / "two")


def test_a_cluster_that_loses_a_worker_gives_the_same_gradebook(grade, course: Path):
    distributed = pytest.importorskip("distributed")
    assert grade(out="one").exit_code == 0
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            worker_dashboard_address=None,
        ) as cluster,
    ):
        words = command("--scheduler", cluster.scheduler_address)
        process = subprocess.Popen(words, cwd=course, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        results = course / "out" / "results.jsonl"
        while not (results.exists() and results.read_text().count("\n") >= 1):
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.05)
        victim = next(iter(cluster.workers.values()))
        os.kill(victim.process.process.pid if hasattr(victim.process, "process") else victim.pid, signal.SIGKILL)
        output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert gradebook(course / "out") == gradebook(course / "one")


def test_a_zip_from_moodle_is_graded(course: Path, grade):
    with zipfile.ZipFile(course / "back.zip", "w") as archive:
        archive.write(course / "back/ada/01_halves.ipynb", "Ada L_417_assignsubmission_file_/01_halves.ipynb")
        archive.writestr("../../evil.ipynb", "{}")
    result = CliRunner().invoke(cli.app, ["grade", "back.zip", "--out", "out"])
    assert result.exit_code == 0, result.output
    assert '"Participant 417","Ada L",5,5,"-"' in (course / "out" / "moodle-01_halves.csv").read_text()
    assert not (course.parent / "evil.ipynb").exists()
    with zipfile.ZipFile(course / "out" / "moodle-01_halves-feedback.zip") as archive:
        (name,) = archive.namelist()
        assert name == "Ada L_417_assignsubmission_file_/01_halves.html"
        assert "Ada L" in archive.read(name).decode()


def test_a_mark_by_hand_for_namesakes_is_told(course: Path, grade):
    shutil.rmtree(course / "back")
    for number in (417, 418):
        (course / "back" / f"Ada L_{number}_assignsubmission_file_").mkdir(parents=True)
        (course / "back" / f"Ada L_{number}_assignsubmission_file_" / "01_halves.ipynb").write_text("not JSON")
    (course / "out").mkdir()
    (course / "out" / "manual.csv").write_text("learner,lab,exercise,points,comment\nAda L,01_halves,half,2,\n")
    assert "has a mark for 'Ada L' in '01_halves': it counts for all 2 of that name." in grade().output


def test_the_copy_that_was_worked_on_counts(course: Path, grade, labs: Path):
    shutil.rmtree(course / "back")
    (course / "back" / "ada" / "es").mkdir(parents=True)
    shutil.copy(labs / "01_halves.ipynb", course / "back" / "ada")
    notebook = json.loads((labs / "es" / "01_halves.ipynb").read_text())
    for cell in notebook["cells"]:
        cell["source"] = {"half": HALF, "evens": EVENS}.get(cell["id"], cell["source"])
    (course / "back" / "ada" / "es" / "01_halves.ipynb").write_text(json.dumps(notebook))
    assert grade().exit_code == 0
    (row,) = Results(course / "out").rows.values()
    assert (row["file"], row["lang"], totals(course / "out")) == ("ada/es/01_halves.ipynb", "es", {"ada": 5})


# --- what stops a grading, in one sentence


def refused(grade, *words: str) -> str:
    result = grade(*words)
    assert result.exit_code == 2, result.output
    return result.stderr


def test_an_unknown_lab_is_one_sentence(grade):
    assert refused(grade, "--lab", "07") == "There is no lab 07. The labs are: 01_halves.\n"


def test_a_scheduler_that_is_not_there_is_one_sentence(grade):
    pytest.importorskip("distributed")
    assert "No Dask scheduler answers" in refused(grade, "--scheduler", "tcp://127.0.0.1:9")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("evens-hidden", "half-hidden-2", "01_halves.py:46: the exercise 'evens' has no hidden cell"),
        ("rng.uniform(1, 9)", "__import__('os').urandom(1)[0]", "prints something else in a second run"),
        ("return number / 2", "return 1 / 0", "the reference fails here: ZeroDivisionError: division by zero"),
        ("hidden.show(evens(", "str(evens(", "this hidden cell prints nothing"),
    ],
    ids=["no hidden cell", "not deterministic", "failing", "silent"],
)
def test_a_reference_that_cannot_be_graded_by_is_refused(grade, course: Path, old: str, new: str, message: str):
    source = course / "labs" / "source" / "01_halves.py"
    source.write_text(source.read_text().replace(old, new))
    assert message in refused(grade)


def test_submissions_that_learners_could_read_are_refused(course: Path, grade, monkeypatch):
    monkeypatch.setenv("EDGELAB_DATA", str(course))
    assert "which the learners' code can read. Move it elsewhere." in refused(grade)


def test_two_graders_do_not_share_a_folder(course: Path, grade):
    from edgelab.grading.results import only_grader

    (course / "out").mkdir()
    with only_grader(course / "out"):
        assert "Another `edgelab grade` is at work in out." in refused(grade)


# --- the infrastructure


def test_a_failure_of_the_infrastructure_is_tried_again_and_is_no_zero(course: Path, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor
    from contextlib import contextmanager

    from edgelab.grading.collect import collect
    from edgelab.grading.run import InfrastructureError

    tries: dict[str, int] = {}

    def flaky(job):
        name = job.submission.learner
        tries[name] = tries.get(name, 0) + 1
        if name == "ada" or (name == "bob" and tries[name] < 2):
            raise InfrastructureError("no kernel")
        return session._row(job.submission, "01_halves", session.mark.Status.GRADED, "")

    @contextmanager
    def workers():
        with ThreadPoolExecutor(2) as executor:
            yield executor, 2

    class Reference:
        lab, hash = "01_halves", "abc"

    monkeypatch.setattr(session, "grade_one", flaky)
    (course / "out").mkdir()
    results = Results(course / "out")
    jobs = [session.Job(item, "", Reference, course, course, None, "") for item in collect(course / "back")]
    session.carry_out(jobs, results, workers, lambda: None)
    statuses = {row["learner"]: row["status"] for row in results.rows.values()}
    assert (statuses["ada"], statuses["bob"], tries["ada"], tries["eve"]) == ("not graded", "graded", 3, 1)
    assert not next(row for row in results.rows.values() if row["learner"] == "ada")["final"]
