"""The road signs: the same everywhere, balanced, kept safely."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from edgelab.data import camera, signs
from edgelab.data.draws import CENTRES, Draws
from edgelab.errors import EdgelabError

REFERENCE = Path(__file__).parent / "signs_reference.txt"


@pytest.fixture(scope="module")
def small():
    return signs.generate(480, 240)


@pytest.fixture
def small_sizes(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGELAB_DATA", str(tmp_path))
    monkeypatch.setattr(signs, "TRAIN_SIZE", 480)
    monkeypatch.setattr(signs, "TEST_SIZE", 240)
    return tmp_path


def quarters(images):
    """Return the mean grey level of each 8x8 block of each colour, one row per image."""
    return images.reshape(len(images), 3, 4, 8, 4, 8).mean(axis=(3, 5)).reshape(len(images), -1)


def test_images_equal_the_stored_reference_within_one_grey_level(small):
    """The first 32 images, as 48 block means each, written down on another day (and maybe another machine)."""
    assert np.abs(quarters(small["train_images"][:32]) - np.loadtxt(REFERENCE)).max() <= 1.0


def test_a_plainer_processor_draws_the_same_within_one_grey_level(tmp_path):
    """torch told to use none of the wide instructions of this CPU: sines, sums and products then end differently."""
    code = "import sys, numpy; from edgelab.data import signs; "
    code += "numpy.save(sys.argv[1], signs.generate(240, 240)['train_images'])"
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "plain.npy"], env=environment, check=True)
    plain = np.load(tmp_path / "plain.npy").astype(int)
    wide = signs.generate(240, 240)["train_images"].astype(int)
    assert np.abs(plain - wide).max() <= 1


def test_images_do_not_depend_on_threads_or_order(small):
    threads = torch.get_num_threads()
    again = signs.generate(240, 240)
    assert torch.get_num_threads() == threads
    assert np.array_equal(again["test_images"], small["test_images"])


def test_train_and_test_share_no_image(small):
    digests = {half: {image.tobytes() for image in small[f"{half}_images"]} for half in ("train", "test")}
    assert len(digests["train"]) == 480
    assert not digests["train"] & digests["test"]


@pytest.mark.parametrize(("half", "size"), [("train", 480), ("test", 240)])
def test_classes_and_conditions_are_balanced(small, half, size):
    labels, conditions = small[f"{half}_labels"], small[f"{half}_conditions"]
    assert (np.bincount(labels, minlength=16) == size // 16).all()
    assert (np.bincount(conditions) == np.array([5, 2, 2, 2, 2, 2]) * size // 15).all()
    assert np.unique(labels * 6 + conditions).size == 16 * 6


def test_labels_come_in_no_order(small):
    assert 10 < np.abs(np.diff(small["train_labels"])).mean() * 2 < 12  # 10.6 when drawn at random


@pytest.mark.parametrize(("condition", "darker"), [("night", True), ("fog", False)])
def test_night_is_darker_than_day_and_fog_is_flatter(small, condition, darker):
    chosen = {name: small["train_conditions"] == number for number, name in enumerate(camera.CONDITION_NAMES)}
    images = small["train_images"].astype(np.float32)
    if darker:
        assert images[chosen[condition]].mean() < 0.5 * images[chosen["day"]].mean()
    else:
        spread = images.std(axis=(1, 2, 3))
        assert spread[chosen[condition]].mean() < 0.6 * spread[chosen["day"]].mean()


def test_draws_are_the_generator_s_raw_bits():
    """Philox's first words for key (1, 2), known from NumPy: a changed stream would change every image."""
    raw = np.random.Philox(key=np.array([1, 2], dtype=np.uint64)).random_raw(2).view("<u4")
    drawn = Draws(np.array([1, 2], dtype=np.uint64)).uniform(0.0, 1.0, 4)
    assert drawn.tolist() == [(int(word) >> 8) / 2**24 for word in raw]


def test_bell_has_mean_0_and_deviation_1():
    drawn = Draws(np.array([1, 2], dtype=np.uint64)).bell(100_001)
    assert abs(drawn.mean().item()) < 0.01
    assert abs(drawn.std().item() - 1) < 0.01


def test_a_sign_that_faces_the_camera_keeps_its_shape():
    """Turned by nothing, a template filling the picture is the template reduced; shares no code with the warp."""
    zero = torch.zeros(16)
    pose = {name: zero for name in ("x", "y", "roll", "yaw", "pitch")} | {"radius": torch.full((16,), 0.9)}
    templates = signs.load_templates()
    assert (camera.project(templates, pose) - camera.halve(templates)).abs().max() < 0.02


def test_a_projected_corner_lands_where_trigonometry_says():
    """A template with one white spot at u = 0.5, v = 0, turned 40 degrees about the vertical axis."""
    template = torch.zeros(1, 4, 64, 64)
    template[:, :, 31:33, 46:48] = 1  # the centre is at column 47 of 64, u = (47 / 32 - 1) / 0.9
    u, yaw = (47 / 32 - 1) / 0.9, np.deg2rad(40)
    pose = {name: torch.zeros(1) for name in ("x", "y", "roll", "pitch")}
    pose |= {"radius": torch.tensor([0.9]), "yaw": torch.tensor([yaw], dtype=torch.float32)}
    seen = camera.project(template, pose)[0, 3]
    x = (seen.sum(0) * CENTRES).sum() / seen.sum()
    assert x.item() == pytest.approx(0.9 * u * np.cos(yaw) / (1 - u * np.sin(yaw) / 4), abs=0.01)


def test_second_load_reads_the_cache(small_sizes, monkeypatch):
    first = signs.load()
    monkeypatch.setattr(signs, "generate", lambda *sizes: pytest.fail("drawn twice"))
    second = signs.load()
    assert torch.equal(first.train.images, second.train.images)
    assert [path.name for path in small_sizes.iterdir()] == [signs.cache_path().name]


def test_cache_name_changes_with_the_recipe(small_sizes, monkeypatch):
    before = signs.cache_path()
    monkeypatch.setattr(signs, "SEED", signs.SEED + 1)
    assert signs.cache_path() != before


@pytest.mark.parametrize("damage", ["cut short", "one byte changed", "empty", "not a zip file"])
def test_damaged_cache_is_named_and_drawn_again(small_sizes, capsys, damage):
    whole = signs.load()
    path = signs.cache_path()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 1
    changed = {"one byte changed": bytes(content), "cut short": bytes(content[:middle]), "empty": b""}
    path.write_bytes(changed.get(damage, b"<html>portal</html>" * 100))
    again = signs.load()
    assert str(path) in capsys.readouterr().err
    assert torch.equal(again.train.images, whole.train.images)
    assert np.load(path)["train_images"].shape == (480, 3, 32, 32)


def test_unwritable_folder_costs_a_note_and_no_more(small_sizes, monkeypatch, capsys):
    (small_sizes / "file").write_text("in the way")
    monkeypatch.setenv("EDGELAB_DATA", str(small_sizes / "file"))
    assert len(signs.load().train) == 480
    assert "drawn again at every start" in capsys.readouterr().err


def test_missing_templates_are_one_sentence(monkeypatch):
    monkeypatch.setattr(signs, "_TEMPLATES", ("no_such_sign.png",))
    with pytest.raises(EdgelabError, match="road-sign templates are missing"):
        signs.load_templates()


def test_damaged_template_is_named(monkeypatch, tmp_path):
    for file in signs._TEMPLATES:
        (tmp_path / file).write_bytes(b"not a picture")
    monkeypatch.setattr(signs, "template_dir", lambda: tmp_path)
    with pytest.raises(EdgelabError, match=r"limit_20\.png is damaged"):
        signs.load_templates()


SLOW_WRITER = """
import sys
from edgelab.data import signs
signs.TRAIN_SIZE, signs.TEST_SIZE = 480, 240
if "slowly" in sys.argv:
    import time
    import numpy as np
    real = np.savez
    def savez(file, **arrays):
        file.write(b"half of a file")
        file.flush()
        print("writing", flush=True)
        time.sleep(30)
        real(file, **arrays)
    np.savez = savez
print(int(signs.load().train.images.sum()), flush=True)
"""


def start(folder, *arguments):
    environment = os.environ | {"EDGELAB_DATA": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SLOW_WRITER, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_that_build_the_cache_at_once_both_succeed(tmp_path):
    both = [start(tmp_path), start(tmp_path)]
    outputs = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    assert len(list(tmp_path.iterdir())) == 1


def test_ctrl_c_while_writing_leaves_nothing(tmp_path):
    process = start(tmp_path, "slowly")
    assert process.stdout.readline() == "writing\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(2)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert list(tmp_path.iterdir()) == []


def test_full_set_has_the_stated_sizes_and_is_quick(tmp_path, monkeypatch):
    """The target is 5 s on two free cores; the limit here only catches a tenfold slip, as tests may share the CPU."""
    monkeypatch.setenv("EDGELAB_DATA", str(tmp_path))
    started = time.perf_counter()
    data = signs.load()
    assert time.perf_counter() - started < 60
    assert (len(data.train), len(data.test), len(data.classes)) == (12_000, 3_000, 16)
    assert data.train.images.dtype == torch.uint8
    assert data.train.images.shape[1:] == (3, 32, 32)
    assert data.train.labels.dtype == data.test.conditions.dtype == torch.int64
    counts = data.test.labels.bincount()
    assert counts.max() - counts.min() <= 1
    assert data.condition_names == ("day", "night", "fog", "motion blur", "noise", "occlusion")
