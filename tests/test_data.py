"""Loading by name, and every way in which files can be missing or wrong."""

import gzip
import hashlib
import pickle
import re
import struct
import subprocess
import sys
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image

import edgelab  # noqa: F401  (prepares torch for torchvision)
from edgelab import data
from edgelab.data import loaders, storage
from edgelab.errors import EdgelabError


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty data folder, and no other place where a data set might be found."""
    monkeypatch.setenv("EDGELAB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(loaders, "DEBIAN_FASHION", tmp_path / "nowhere")
    monkeypatch.setattr(loaders.platformdirs, "user_cache_dir", lambda name: str(tmp_path / "cache"))
    return tmp_path / "data"


def answer_downloads(monkeypatch, retrieve):
    """Let torchvision's downloads be done by `retrieve(url, filename)`, and nothing reach the network."""
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **options: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", retrieve)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(url, filename):
        raise URLError("no network")

    answer_downloads(monkeypatch, refuse)


def one_sentence(error):
    """Return the text of an error after checking that it is one line that ends in a full stop."""
    text = str(error.value)
    assert "\n" not in text
    assert text.endswith(".")
    return text


def idx(array):
    return struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def tiny_fashion(folder, monkeypatch):
    """Four files like Fashion-MNIST's, of 20 and 10 images, whose digests the loader believes in."""
    place = folder / "fashion-mnist"
    place.mkdir(parents=True)
    digests = {}
    for number, name in enumerate(loaders.FASHION_FILES):
        size = 20 if number < 2 else 10
        values = np.arange(size * 28 * 28, dtype=np.uint32) % 251
        array = (
            values.astype(np.uint8).reshape(size, 28, 28) if number % 2 == 0 else np.arange(size, dtype=np.uint8) % 10
        )
        (place / name).write_bytes(gzip.compress(idx(array)))
        digests[name] = hashlib.sha256(idx(array)).hexdigest()
    monkeypatch.setattr(loaders, "FASHION_FILES", digests)
    return place


# --- names ---------------------------------------------------------------------------------------------------------


def test_unknown_name_lists_the_known_ones(folder):
    with pytest.raises(EdgelabError) as error:
        data.load("minst")
    assert "`minst`" in one_sentence(error)
    assert all(name in str(error.value) for name in data.NAMES)


def test_the_environment_changes_the_default(tiny_fashion, monkeypatch):
    monkeypatch.setenv("EDGELAB_DATASET", "fashion-mnist")
    assert data.load().name == "fashion-mnist"


def test_a_given_name_beats_the_environment(tiny_fashion, monkeypatch):
    monkeypatch.setenv("EDGELAB_DATASET", "cifar10")
    assert data.load("fashion-mnist").name == "fashion-mnist"


def test_a_normalized_pixel_is_exactly_an_int8_code():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert data.normalize(pixels).dtype == torch.float32
    assert torch.equal(data.normalize(pixels) * 128, pixels.float() - 128)


def test_available_draws_and_downloads_nothing(folder):
    found = data.available()
    assert found["signs"].name == "signs"
    assert (found["fashion-mnist"], found["cifar10"]) == (None, None)
    assert not folder.exists()


def test_available_says_where(tiny_fashion):
    assert data.available()["fashion-mnist"] == tiny_fashion


def test_import_loads_neither_torchvision_nor_pillow():
    code = "import sys; from edgelab import data; print('torchvision' in sys.modules, 'PIL' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_data_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EDGELAB_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(EdgelabError) as error:
        storage.make_data_dir()
    assert str(tmp_path / "file" / "data") in one_sentence(error)


def test_atomic_write_keeps_the_old_file_when_interrupted(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), storage.atomic_write(path) as file:
        file.write(b"half of the new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


# --- Fashion-MNIST -------------------------------------------------------------------------------------------------


def test_the_real_fashion_mnist(needs_fashion_mnist):
    fashion = data.load("fashion-mnist")
    assert fashion.train.images.shape == (60_000, 1, 28, 28)
    assert fashion.test.images.shape == (10_000, 1, 28, 28)
    assert fashion.test.labels.bincount().tolist() == [1000] * 10
    assert len(fashion.classes) == 10
    # Published by the data set's authors' readers: mean and deviation of the training pixels, 0.2860 and 0.3530.
    pixels = fashion.train.images.float() / 255
    assert pixels.mean().item() == pytest.approx(0.2860, abs=1e-4)
    assert pixels.std().item() == pytest.approx(0.3530, abs=1e-4)


def test_fashion_mnist_is_read_as_it_was_written(tiny_fashion):
    fashion = data.load("fashion-mnist")
    assert (len(fashion.train), len(fashion.test)) == (20, 10)
    assert fashion.train.images[3, 0, 5, 7].item() == (3 * 28 * 28 + 5 * 28 + 7) % 251
    assert fashion.test.labels.tolist() == list(range(10))
    assert fashion.train.conditions is None


def test_torchvision_s_layout_is_found(tiny_fashion, folder):
    (folder / "FashionMNIST").mkdir()
    tiny_fashion.rename(folder / "FashionMNIST" / "raw")
    assert len(data.load("fashion-mnist").train) == 20


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-20])


def wrong_bytes(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1] + b"\xff"))


def web_page(path):
    path.write_bytes(b"<html>Log in to the Wi-Fi</html>")


def nothing(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [cut_short, wrong_bytes, web_page, nothing])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_damaged_fashion_mnist_file_is_named(tiny_fashion, spoil, name):
    spoil(tiny_fashion / name)
    with pytest.raises(EdgelabError) as error:
        data.load("fashion-mnist")
    assert str(tiny_fashion / name) in one_sentence(error)
    assert "delete it" in str(error.value)


def test_no_network_and_no_package_says_both_ways(folder, no_network):
    with pytest.raises(EdgelabError) as error:
        data.load("fashion-mnist")
    text = one_sentence(error)
    assert "apt-get install dataset-fashion-mnist" in text
    assert "connect once" in text
    assert "`signs` needs neither" in text
    assert list(folder.iterdir()) == []


def serve(monkeypatch, files):
    """Let downloads be answered from `files`, a dictionary from file name to bytes."""

    def retrieve(url, filename):
        with open(filename, "wb") as file:
            file.write(files[url.rsplit("/", 1)[1]])

    answer_downloads(monkeypatch, retrieve)


def believe(monkeypatch, files):
    from torchvision.datasets import FashionMNIST

    resources = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
    monkeypatch.setattr(FashionMNIST, "resources", resources)


def move_to_server(place):
    files = {name: (place / name).read_bytes() for name in loaders.FASHION_FILES}
    for name in files:
        (place / name).unlink()
    return files


def test_fashion_mnist_is_downloaded_and_kept(tiny_fashion, folder, monkeypatch):
    files = move_to_server(tiny_fashion)
    believe(monkeypatch, files)
    serve(monkeypatch, files)
    assert len(data.load("fashion-mnist").train) == 20
    assert sorted(path.name for path in folder.iterdir()) == ["fashion-mnist"]
    serve(monkeypatch, {})
    assert len(data.load("fashion-mnist").test) == 10


def test_half_downloaded_fashion_mnist_is_completed(tiny_fashion, monkeypatch):
    files = move_to_server(tiny_fashion)
    believe(monkeypatch, files)
    first, *rest = files
    (tiny_fashion / first).write_bytes(files[first])
    serve(monkeypatch, {name: files[name] for name in rest})
    assert len(data.load("fashion-mnist").train) == 20


def test_download_with_a_wrong_checksum_leaves_nothing(tiny_fashion, folder, monkeypatch):
    files = move_to_server(tiny_fashion)
    tiny_fashion.rmdir()
    believe(monkeypatch, files)
    serve(monkeypatch, {name: content[:-1] for name, content in files.items()})
    with pytest.raises(EdgelabError, match="could not be downloaded"):
        data.load("fashion-mnist")
    assert list(folder.iterdir()) == []


def test_ctrl_c_while_downloading_leaves_nothing(folder, monkeypatch):
    def interrupt(url, filename):
        with open(filename, "wb") as file:
            file.write(b"half")
        raise KeyboardInterrupt

    answer_downloads(monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        data.load("fashion-mnist")
    assert list(folder.iterdir()) == []


# --- CIFAR-10 ------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_cifar(folder, monkeypatch):
    """Files like CIFAR-10's, of four images each, whose digests torchvision believes in."""
    from torchvision.datasets import CIFAR10

    place = folder / "cifar10" / CIFAR10.base_folder
    place.mkdir(parents=True)

    def write(name, content):
        (place / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((place / name).read_bytes()).hexdigest()]

    pixels = np.arange(4 * 3072, dtype=np.uint32).astype(np.uint8).reshape(4, 3072)
    batch = {"data": pixels, "labels": [0, 1, 2, 3]}
    monkeypatch.setattr(CIFAR10, "train_list", [write(name, batch) for name, _ in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [write(name, batch) for name, _ in CIFAR10.test_list])
    names = {"label_names": ["plane", "car", "bird", "cat"]}
    name, digest = write("batches.meta", names)
    monkeypatch.setattr(CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": digest})
    return place


def test_cifar10_is_read_as_it_was_written(tiny_cifar):
    cifar = data.load("cifar10")
    assert cifar.train.images.shape == (20, 3, 32, 32)
    assert cifar.test.labels.tolist() == [0, 1, 2, 3]
    assert cifar.classes == ("plane", "car", "bird", "cat")
    assert cifar.test.images[1, 2, 3, 4].item() == (3072 + 2 * 1024 + 3 * 32 + 4) % 256


@pytest.mark.parametrize("spoil", [cut_short, nothing, lambda path: path.unlink()], ids=["cut", "empty", "missing"])
def test_damaged_cifar10_file_is_named(tiny_cifar, spoil):
    spoil(tiny_cifar / "data_batch_3")
    with pytest.raises(EdgelabError) as error:
        data.load("cifar10")
    assert "data_batch_3" in one_sentence(error)
    assert str(tiny_cifar) in str(error.value)


def test_cifar10_without_network_is_one_sentence(folder, no_network):
    with pytest.raises(EdgelabError) as error:
        data.load("cifar10")
    assert "could not be downloaded" in one_sentence(error)
    assert list(folder.iterdir()) == []


# --- your own folder -----------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path):
    """Two classes of two training images and one test image, of odd sizes, modes and formats."""
    root = tmp_path / "own"
    for half, count in (("train", 2), ("test", 1)):
        for name, colour in (("cat", (200, 20, 20)), ("dog", (20, 20, 200))):
            (root / half / name).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (48 + 20 * number, 31), colour)
                image.save(root / half / name / f"{number}.png")
    Image.new("L", (32, 32), 77).save(root / "train" / "cat" / "grey.png")
    Image.new("RGB", (100, 60), (250, 250, 250)).save(root / "train" / "dog" / "photo.JPG", "JPEG")
    return root


def test_a_folder_of_odd_images_is_resized_to_32_by_32_rgb(own):
    loaded = data.load(own)
    assert loaded.classes == ("cat", "dog")
    assert loaded.train.images.shape == (6, 3, 32, 32)
    assert loaded.train.images.dtype == torch.uint8
    assert loaded.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert loaded.test.labels.tolist() == [0, 1]
    assert loaded.test.images[0, :, 16, 16].tolist() == [200, 20, 20]
    assert loaded.train.images[2].unique().tolist() == [77]


def test_hidden_and_other_files_do_not_count(own):
    (own / "train" / ".ipynb_checkpoints").mkdir()
    (own / "train" / "cat" / "._0.png").write_bytes(b"a Mac's shadow of a file")
    (own / "train" / "cat" / "notes.txt").write_text("not an image")
    assert len(data.load(str(own)).train) == 6


@pytest.mark.parametrize("half", ["train", "test"])
def test_missing_half_is_named(own, half):
    (own / half).rename(own / "elsewhere")
    with pytest.raises(EdgelabError) as error:
        data.load(own)
    assert f"no folder `{half}`" in one_sentence(error)


@pytest.mark.parametrize("half", ["train", "test"])
def test_half_without_images_is_named(own, half):
    for path in list((own / half).rglob("*.*")):
        path.unlink()
    with pytest.raises(EdgelabError) as error:
        data.load(own)
    assert f"{own / half} holds no images" in one_sentence(error)


def test_one_class_is_not_enough(own):
    for half in ("train", "test"):
        for path in list((own / half / "dog").iterdir()):
            path.unlink()
    with pytest.raises(EdgelabError) as error:
        data.load(own)
    assert "one class (cat)" in one_sentence(error)


def test_class_that_is_only_tested_is_named(own):
    (own / "test" / "dog").rename(own / "test" / "fox")
    with pytest.raises(EdgelabError) as error:
        data.load(own)
    assert "fox" in one_sentence(error)


def test_unreadable_images_are_counted_and_named(own):
    cut_short(own / "train" / "dog" / "photo.JPG")
    web_page(own / "test" / "cat" / "0.png")
    with pytest.raises(EdgelabError) as error:
        data.load(own)
    text = one_sentence(error)
    assert text.startswith("2 image files")
    assert "photo.JPG" in text
    assert str(own / "test" / "cat" / "0.png") in text


def test_grey_of_sixteen_bits_keeps_its_shades(own):
    shades = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(shades).save(own / "train" / "cat" / "scan.png")
    found = data.load(own).train.images[3]  # 0.png, 1.png, grey.png, scan.png
    assert torch.equal(found[0], torch.from_numpy((shades // 257).astype(np.uint8)))


def test_all_that_pillow_reads_counts_at_any_depth(own, capsys):
    picture = Image.new("RGB", (32, 32), (10, 200, 30))
    (own / "train" / "cat" / "more" / "still").mkdir(parents=True)
    for name in ("a.webp", "a.bmp", "more/a.tiff", "more/still/a.gif"):
        picture.save(own / "train" / "cat" / name)
    loaded = data.load(own)
    assert loaded.train.labels.tolist() == [0] * 7 + [1] * 3
    assert (loaded.train.images[:, 1, 16, 16] - 200).abs().le(4).sum() == 4
    assert capsys.readouterr().out == ""


def test_what_is_left_out_is_named_with_its_reason(own, capsys):
    (own / "train" / "cat" / "notes.txt").write_text("not an image")
    Image.new("RGB", (32, 32)).save(own / "train" / "stray.png")
    Image.new("F", (32, 32), 0.5).save(own / "test" / "dog" / "depth.tiff")
    data.load(own)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("3 files were left out: ")
    for name, why in {
        "notes.txt": "no kind of image",
        "stray.png": "no class folder",
        "depth.tiff": "no known range",
    }.items():
        assert re.search(rf"{name} \([^)]*{why}", line), line
