"""Pictures and words of the labs for data of the learner's: very many classes, two, some without an image."""

import pytest
import torch

from edgelab import data, explore
from edgelab.data import adopted
from edgelab.explore import pictures
from edgelab.explore.board import own_images
from edgelab.labs.lab_07_distillation.explorers import confusion_plot
from tests.own_images import noise_folder


def dataset(classes, side=24, each=1, missing=()):
    labels = torch.arange(classes * each) % classes
    labels = labels[[int(label) not in missing for label in labels]]
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (len(labels), 1, side, side), dtype=torch.uint8, generator=generator)
    split = data.Split(images, labels)
    return data.Dataset("/some/where/leaves", tuple(f"leaf {number}" for number in range(classes)), split, split)


def right_in(loaded, wrong):
    """Return a model that names all images rightly but those of the class `wrong`."""
    answers = iter(loaded.test.labels.split(250))

    def model(images):
        labels = next(answers)
        said = torch.where(labels == wrong, (labels + 1) % len(loaded.classes), labels)
        return torch.nn.functional.one_hot(said, len(loaded.classes)).float()

    return model


def test_of_two_hundred_classes_a_picture_shows_the_lowest_and_the_highest():
    loaded = dataset(200)
    words = explore.accuracy_bars(right_in(loaded, 117), loaded).description
    assert "leaf 117 0.0 %" in words
    assert words.count(" %;") + words.count(" %.") <= pictures.MOST_BARS + 2
    assert "class: 30 of 200, lowest and highest" in words


def test_of_two_hundred_classes_forty_are_shown_and_the_rest_is_counted():
    sheet = explore.contact_sheet(dataset(200))
    assert sheet.svg.count("<figure") == pictures.MOST_TILES
    assert "and 160 classes more" in sheet.svg


def test_large_pictures_are_not_enlarged():
    sheet = explore.contact_sheet(dataset(2, side=96), per_class=1).svg
    assert 'width="96"' in sheet
    assert 'width="48"' in explore.contact_sheet(dataset(2, side=24), per_class=1).svg


def test_a_folder_is_called_by_the_last_part_of_its_path():
    assert explore.contact_sheet(dataset(2)).description.startswith("leaves: 2 classes")


def test_a_class_without_test_images_has_no_bar():
    loaded = dataset(4, each=3, missing={2})
    words = explore.accuracy_bars(right_in(loaded, 0), loaded).description
    assert "nan" not in words
    assert "leaf 2" not in words
    assert "leaf 0 0.0 %; leaf 1 100.0 %; leaf 3 100.0 %" in words


def test_who_makes_no_mistakes_is_said_to_make_none():
    labels = torch.tensor([0, 1, 1])
    assert confusion_plot(labels, labels, ("cat", "dog")).description == "mistakes: 0 of 3"


@pytest.mark.parametrize("chosen", ["", "signs", "fashion-mnist", "no-such-folder"])
def test_the_data_that_the_labs_were_written_on_need_no_words(chosen):
    assert own_images(chosen) == ""


def test_every_lab_says_on_which_images_of_the_learner_it_runs(tmp_path, monkeypatch, learners_folder):
    folder = noise_folder(tmp_path / "leaves", classes=3, side=28, grey=True, each=3)
    assert own_images(str(folder)) == ""  # nobody adopted it
    adopted.take(folder)
    words = own_images(str(folder))
    assert words.startswith("You work on leaves: 3 classes, 28×28, grey. Where the text speaks of road signs")
    monkeypatch.setenv("EDGELAB_DATASET", str(folder))
    assert words in explore.lab_map("03_ptq")._repr_html_()
    monkeypatch.setenv("EDGELAB_DATASET", "cifar10")
    assert "cifar10: 10 classes, 32×32, colour" in explore.lab_map("03_ptq")._repr_html_()
