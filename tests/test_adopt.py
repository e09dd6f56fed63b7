"""`edgelab adopt`: a folder of images is read once, models are trained on it, and the labs find both."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from edgelab import cli, data, resuming
from edgelab.data import adopted
from edgelab.errors import EdgelabError
from edgelab.models import adopt as adopting
from edgelab.models import load_pretrained, manifest
from edgelab.models.adopt import Job, adopt, plan, ready
from edgelab.train import evaluate
from tests.own_images import noise_folder

KINDS = {
    "2 classes, grey, 28 px": {"classes": 2, "side": 28, "grey": True},
    "12 classes, colour, 48 px": {"classes": 12, "side": 48},
    "3 classes, colour, 96 px": {"classes": 3, "side": 96, "each": 6},
}
SHORT = 0.001  # minutes: one epoch


@pytest.fixture(autouse=True)
def one_thread():
    """Keep to one core: on pictures so few threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def grey(tmp_path):
    return noise_folder(tmp_path / "grey", classes=2, side=28, grey=True)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_models_and_images_have_the_folders_own_shape(tmp_path, kind, capsys):
    folder = noise_folder(tmp_path / "own", **kind)
    adopt(str(folder), ["resnet_tiny"], minutes=SHORT)
    loaded = data.load(folder)
    channels = 1 if kind.get("grey") else 3
    each = kind.get("each", 12)
    assert loaded.train.images.shape == (kind["classes"] * each, channels, kind["side"], kind["side"])
    assert loaded.train.labels.bincount().tolist() == [each] * kind["classes"]
    model = load_pretrained("resnet_tiny", loaded.name)
    assert evaluate(model, loaded.test) == pytest.approx(
        manifest(loaded.name)[f"{loaded.name}/resnet_tiny"]["accuracy"], abs=1e-4
    )
    assert model(data.normalize(loaded.test.images[:2])).shape == (2, kind["classes"])
    out = capsys.readouterr().out
    assert re.search(r"Training will take about \d+ s \(resnet_tiny \d+ s\)", out)
    assert f"EDGELAB_DATASET={folder} edgelab lab" in out


def test_a_model_that_only_guesses_is_told_of(tmp_path, capsys):
    folder = noise_folder(tmp_path / "own", classes=12, side=24)
    adopt(str(folder), ["resnet_tiny"], minutes=SHORT)
    assert "would be right in 8.33 %: comparisons in the labs will say little" in capsys.readouterr().out


def test_a_recipe_trained_to_its_end_learns_what_there_is_to_learn(grey, capsys):
    adopt(str(grey), ["resnet_tiny"])
    assert "comparisons" not in capsys.readouterr().out
    assert manifest(str(grey))[f"{grey}/resnet_tiny"]["accuracy"] == 1.0


def test_the_first_images_are_of_all_classes(tmp_path):
    folder = noise_folder(tmp_path / "own", classes=4, side=24, each=40)
    adopted.take(folder)
    assert sorted(data.load(folder).train.labels[:40].unique().tolist()) == [0, 1, 2, 3]


def test_a_picture_keeps_its_label(grey):
    adopted.take(grey)
    train = data.load(grey).train
    means = train.images.float().mean((1, 2, 3))
    assert (means[train.labels == 0] < 100).all()
    assert (means[train.labels == 1] > 100).all()


@pytest.mark.parametrize(
    ("side", "pixels"), [(28, 28), (45, 44), (96, 96), (97, 32), (640, 32), (10, 24)], ids=lambda value: str(value)
)
def test_small_pictures_keep_their_size_and_photographs_become_small(tmp_path, side, pixels):
    folder = noise_folder(tmp_path / "own", classes=2, side=side, each=3)
    assert adopted.take(folder).pixels == pixels


def test_the_size_can_be_chosen(grey):
    assert adopted.take(grey, 40).pixels == 40
    with pytest.raises(EdgelabError, match="were read at 40 pixels: add --again"):
        adopt(str(grey), ["resnet_tiny"], pixels=32)


def test_a_colour_in_one_image_makes_all_of_three_channels(grey):
    Image.new("RGB", (28, 28), (200, 10, 10)).save(grey / "test" / "class 00" / "red.png")
    assert adopted.take(grey).channels == 3


def test_what_is_left_out_is_told_and_written_down(grey, capsys):
    (grey / "train" / "class 00" / "notes.txt").write_text("no image")
    (grey / "train" / "class 01" / "half.png").write_bytes((grey / "train" / "class 01" / "0.png").read_bytes()[:60])
    Image.new("F", (28, 28), 0.5).save(grey / "test" / "class 00" / "depth.tiff")
    adopt(str(grey), ["resnet_tiny"], minutes=SHORT)
    assert "3 files were left out: " in capsys.readouterr().out
    report = (grey / "edgelab" / "report.txt").read_text()
    for name, why in {"notes.txt": "no kind of image", "half.png": "cannot be read", "depth.tiff": "range"}.items():
        assert re.search(rf"(?m)^t\w+/class 0\d/{name}: .*{why}", report), report
    assert "class 00: 12, 4" in report


def test_what_memory_has_no_room_for_is_left_out_by_lot(tmp_path, monkeypatch, capsys):
    folder = noise_folder(tmp_path / "own", classes=4, side=24, each=40)
    monkeypatch.setattr(adopted, "MOST_BYTES", {"train": 60 * 3 * 24 * 24, "test": 10**6})
    known = adopted.take(folder)
    assert (known.train, known.no_room) == ([15, 15, 15, 15], 100)
    assert any("100 images more were left out by lot" in line for line in adopted.report(folder, known))


def test_a_class_without_test_images_is_named(grey):
    for path in (grey / "test" / "class 01").iterdir():
        path.unlink()
    known = adopted.take(grey)
    assert "Classes without a test image: class 01." in adopted.report(grey, known)


def test_more_classes_than_the_course_takes_are_refused(grey, monkeypatch):
    monkeypatch.setattr(adopted, "MOST_CLASSES", 1)
    with pytest.raises(EdgelabError, match="holds 2 classes: the course takes 1 at most"):
        adopted.take(grey)


def test_two_hundred_classes_are_taken(tmp_path):
    folder = noise_folder(tmp_path / "own", classes=200, side=24, grey=True, each=1)
    assert len(adopted.take(folder).classes) == 200


@pytest.mark.parametrize("break_off", ["a file", "a folder of somebody's"])
def test_a_place_that_is_taken_is_named_before_anything_is_read(grey, break_off):
    if break_off == "a file":
        (grey / "edgelab").write_text("")
    else:
        (grey / "edgelab").mkdir()
        (grey / "edgelab" / "thesis.txt").write_text("years of work")
    with pytest.raises(EdgelabError, match=r"edgelab is a folder of yours|cannot be written"):
        adopt(str(grey))
    assert break_off == "a file" or (grey / "edgelab" / "thesis.txt").read_text() == "years of work"


def test_what_somebody_else_keeps_there_stays(grey):
    adopted.take(grey)
    (grey / "edgelab" / "notes.txt").write_text("mine")
    (grey / "train" / "class 00" / "0.png").unlink()
    adopted.take(grey)
    assert (grey / "edgelab" / "notes.txt").read_text() == "mine"


def test_images_that_changed_are_told_of_and_the_labs_go_on(grey, capsys):
    adopted.take(grey)
    before = data.load(grey)
    (grey / "train" / "class 00" / "0.png").unlink()
    capsys.readouterr()
    after = data.load(grey)
    assert torch.equal(before.train.images, after.train.images)
    assert (
        f"have changed; the labs go on with those that were read. To read them again: edgelab adopt {grey} --again"
        in (capsys.readouterr().out)
    )


def test_read_again_other_images_forget_what_was_trained_on_the_old_ones(grey):
    adopt(str(grey), ["resnet_tiny"], minutes=SHORT)
    adopted.take(grey)
    assert f"{grey}/resnet_tiny" in manifest(str(grey))  # nothing changed
    (grey / "train" / "class 00" / "0.png").unlink()
    adopted.take(grey)
    with pytest.raises(EdgelabError, match="no checkpoint of 'resnet_tiny'"):
        load_pretrained("resnet_tiny", str(grey))


def test_damaged_pictures_are_named_with_the_cure(grey):
    adopted.take(grey)
    (grey / "edgelab" / "images.npz").write_bytes(b"half")
    with pytest.raises(EdgelabError, match=r"images\.npz is damaged or missing.*edgelab adopt .* --again"):
        data.load(grey)


def test_a_model_that_was_not_trained_is_named_with_its_command(grey):
    adopt(str(grey), ["resnet_tiny"], minutes=SHORT)
    with pytest.raises(EdgelabError, match=rf"edgelab adopt {grey} --models resnet`"):
        load_pretrained("resnet", str(grey))


def test_a_damaged_checkpoint_is_recognised(grey):
    adopt(str(grey), ["resnet_tiny"], minutes=SHORT)
    (grey / "edgelab" / "resnet_tiny.safetensors").write_bytes(b"half")
    with pytest.raises(EdgelabError, match=rf"edgelab adopt {grey} --models resnet_tiny --again"):
        load_pretrained("resnet_tiny", str(grey))
    adopt(str(grey), ["resnet_tiny"], minutes=SHORT, again=True)
    assert load_pretrained("resnet_tiny", str(grey)) is not None


def test_a_folder_can_be_moved_with_its_models(grey, tmp_path):
    adopt(str(grey), ["resnet_tiny"], minutes=SHORT)
    moved = grey.rename(tmp_path / "moved")
    loaded = data.load(moved)
    assert evaluate(load_pretrained("resnet_tiny", loaded.name), loaded.test) >= 0


def test_what_is_trained_already_is_left_as_it_is(grey, capsys):
    adopt(str(grey), ["resnet_tiny"], minutes=SHORT)
    before = (grey / "edgelab" / "resnet_tiny.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    adopt(str(grey), ["resnet_tiny"])
    assert "resnet_tiny is trained already" in capsys.readouterr().out
    assert (grey / "edgelab" / "resnet_tiny.safetensors").stat().st_mtime_ns == before


def test_a_data_set_by_name_keeps_its_models_in_the_data_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EDGELAB_DATA", str(tmp_path))
    images = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = data.Split(images, torch.arange(40) % 10)
    monkeypatch.setattr(data, "load", lambda name=None: data.Dataset("cifar10", tuple("abcdefghij"), split, split))
    adopt("cifar10", ["resnet_tiny"], minutes=SHORT)
    assert load_pretrained("resnet_tiny", "cifar10")(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert (tmp_path / "adopted" / "cifar10" / "manifest.json").is_file()
    assert ready("cifar10") == "cifar10"


@pytest.mark.parametrize(
    ("dataset", "names", "sentence"),
    [
        ("signs", [], "The models for signs ship with the course: EDGELAB_DATASET=signs edgelab lab"),
        ("no-such-folder", [], "There is no folder no-such-folder. Give one with train/ and test/ in it, or cifar10."),
        (".", ["alexnet"], "There is no model alexnet. There are: resnet, resnet_tiny, "),
    ],
    ids=["shipped", "no folder", "no model"],
)
def test_a_mistake_is_one_sentence(dataset, names, sentence):
    with pytest.raises(EdgelabError, match=re.escape(sentence)):
        adopt(dataset, names)


# --- how long it takes ---------------------------------------------------------------------------------------------


@pytest.fixture
def ten_seconds_an_epoch(monkeypatch):
    monkeypatch.setattr(adopting, "epoch_seconds", lambda name, loaded: 10.0)


def test_minutes_are_shared_out_by_the_recipes(grey, tmp_path, ten_seconds_an_epoch):
    adopted.take(grey)
    names = ["resnet", "resnet_tiny"]
    free = plan(data.load(grey), names, tmp_path, None)
    short = plan(data.load(grey), names, tmp_path, 5)
    assert [job.epochs for job in free] == [100, 100]  # a small data set: the most there are
    assert [job.epochs for job in short] == [15, 15]
    assert sum(job.seconds for job in short) == 300
    assert [job.epochs for job in plan(data.load(grey), names, tmp_path, 0)] == [1, 1]


def test_a_training_that_has_begun_keeps_its_epochs_and_comes_first(grey, tmp_path, ten_seconds_an_epoch, monkeypatch):
    adopted.take(grey)
    begun = {tmp_path / "resnet_tiny.training": (3, 7)}
    monkeypatch.setattr(resuming, "progress", begun.get)
    jobs = plan(data.load(grey), ["resnet", "resnet_tiny"], tmp_path, 2)
    assert jobs == [Job("resnet_tiny", 7, 3, 10.0), Job("resnet", 8, 0, 10.0)]  # 40 of 120 s are taken


def test_the_estimate_is_of_the_right_order(tmp_path):
    folder = noise_folder(tmp_path / "own", classes=2, side=28, grey=True, each=40)
    adopted.take(folder)
    estimate = adopting.epoch_seconds("resnet_tiny", data.load(folder))
    adopt(str(folder), ["resnet_tiny"])
    entry = manifest(str(folder))[f"{folder}/resnet_tiny"]
    assert 0.2 < estimate * entry["epochs"] / max(1, entry["seconds"]) < 5


# --- stopped -------------------------------------------------------------------------------------------------------


def run_adopt(folder, *words):
    command = [sys.executable, "-m", "edgelab", "adopt", str(folder), "--models", "resnet_tiny", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["killed", "by Ctrl-C"])
def test_stopped_it_goes_on_where_it_was(tmp_path, how):
    folder = noise_folder(tmp_path / "own", classes=2, side=28, grey=True, each=20)
    state = folder / "edgelab" / "resnet_tiny.training"
    process = run_adopt(folder)
    for _wait in range(600):
        if state.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(how)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == (-signal.SIGKILL if how is signal.SIGKILL else 130), said
    done, epochs = resuming.progress(state)
    assert 0 < done < epochs
    second = run_adopt(folder, "--minutes", "0.1")  # it keeps its epochs all the same
    out = second.communicate(timeout=120)[0]
    assert second.returncode == 0, out
    assert f"It goes on where it was: resnet_tiny {done}/{epochs} epochs." in out
    entry = json.loads((folder / "edgelab" / "manifest.json").read_text())["resnet_tiny"]
    assert entry["epochs"] == epochs
    assert not state.exists()


# --- the labs ------------------------------------------------------------------------------------------------------


def test_the_labs_get_the_whole_path(grey, monkeypatch):
    adopt(str(grey), ["resnet_tiny"], minutes=SHORT)
    monkeypatch.chdir(grey.parent)
    assert ready("grey") == str(grey)


def test_data_without_models_is_told_before_jupyterlab_starts(grey, monkeypatch):
    monkeypatch.setenv("EDGELAB_DATASET", str(grey))
    result = CliRunner().invoke(cli.app, ["lab", str(grey.parent / "labs")])
    assert (result.exit_code, result.stderr) == (
        2,
        f"No model was trained on {grey} yet: run `edgelab adopt {grey}` first.\n",
    )
    with pytest.raises(EdgelabError, match="neither a data set nor a folder"):
        ready("no-such")


@pytest.mark.parametrize(
    "words",
    [
        ["FOLDER", "--models", "resnet", "resnet_tiny", "--minutes", "3"],
        ["--models", "resnet", "resnet_tiny", "FOLDER", "--minutes", "3"],
        ["--minutes", "3", "FOLDER", "--models", "resnet", "--models", "resnet_tiny"],
    ],
    ids=["folder first", "folder behind the list", "said twice"],
)
def test_models_are_named_one_after_another(tmp_path, monkeypatch, words):
    calls = []
    monkeypatch.setattr(adopting, "adopt", lambda *arguments, **options: calls.append((arguments, options)))
    result = CliRunner().invoke(cli.app, ["adopt", *(str(tmp_path) if word == "FOLDER" else word for word in words)])
    assert result.exit_code == 0, result.output
    options = {"minutes": 3.0, "pixels": None, "again": False}
    assert calls == [((str(tmp_path), ["resnet", "resnet_tiny"]), options)]


def test_an_option_without_a_value_is_refused(tmp_path):
    result = CliRunner().invoke(cli.app, ["adopt", str(tmp_path), "--models"])
    assert result.exit_code == 2


def test_pictures_written_are_those_that_were_in_the_files(grey):
    adopted.take(grey)
    kept = {picture.numpy().tobytes() for picture in data.load(grey).test.images}
    files = {np.asarray(Image.open(path)).tobytes() for path in Path(grey, "test").rglob("*.png")}
    assert kept == files
