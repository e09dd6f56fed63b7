"""A training that was stopped ends where it would have ended."""

import signal

import pytest
import torch

from edgelab.data import Split
from edgelab.models import resnet
from edgelab.resuming import progress
from edgelab.train import fit, shift, usual_batch

EPOCHS = 4


@pytest.fixture
def lessons():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (48, 1, 8, 8), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(48) % 3)


def network():
    torch.manual_seed(3)
    return resnet((8, 16), in_channels=1, num_classes=3)


def train(model, lessons, augment=shift, **options):
    defaults = {"epochs": EPOCHS, "batch_size": 16, "val": lessons[:12], "progress": False}
    return fit(model, lessons[12:], augment=augment, **(defaults | options))


def stopping(batches, error=KeyboardInterrupt):
    """Return an augmentation that raises after so many batches."""
    left = iter(range(batches))

    def augment(images):
        if next(left, None) is None:
            raise error
        return shift(images)

    return augment


@pytest.mark.parametrize("batches", [4, 7, 9], ids=["in the second epoch", "in the third", "at the end of the third"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit], ids=["by Ctrl-C", "by an end of the process"])
def test_a_training_taken_up_again_ends_with_the_same_weights(tmp_path, lessons, batches, error):
    whole, path = network(), tmp_path / "state"
    expected = train(whole, lessons)
    model = network()
    if error is SystemExit:
        with pytest.raises(SystemExit):
            train(model, lessons, stopping(batches, error), resume=path)
    else:
        assert train(model, lessons, stopping(batches, error), resume=path).interrupted
    assert progress(path) == (batches // 3, EPOCHS)
    other = network()
    history = train(other, lessons, resume=path)
    assert history.loss == pytest.approx(expected.loss, abs=1e-6)
    assert history.val_accuracy == expected.val_accuracy
    for name, weights in whole.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], weights)


@pytest.mark.parametrize(("side", "batch"), [(8, 128), (28, 128), (32, 128), (48, 64), (64, 32), (96, 16), (224, 16)])
def test_batches_of_large_pictures_are_small(side, batch):
    images = torch.zeros((1, 1, 1, 1), dtype=torch.uint8).expand(9, 3, side, side)
    assert usual_batch(images) == batch
    assert usual_batch(images, 250) == 250 * batch // 128


def test_a_training_that_is_done_is_not_done_again(tmp_path, lessons):
    train(network(), lessons, resume=tmp_path / "state")
    model = network()
    history = train(model, lessons, stopping(0, AssertionError), resume=tmp_path / "state")
    assert len(history.loss) == EPOCHS


def test_ctrl_c_while_an_epoch_is_written_waits_for_it(tmp_path, lessons, monkeypatch):
    save = torch.save

    def interrupted(state, file):
        signal.raise_signal(signal.SIGINT)
        save(state, file)

    monkeypatch.setattr(torch, "save", interrupted)
    assert train(network(), lessons, resume=tmp_path / "state").interrupted
    assert progress(tmp_path / "state") == (1, EPOCHS)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_says_how_many_epochs_are_kept(tmp_path, lessons, capsys):
    train(network(), lessons, stopping(4), resume=tmp_path / "state")
    assert capsys.readouterr().out == "Training was interrupted: epochs kept: 1 of 4.\n"


@pytest.mark.parametrize("spoil", [lambda b: b[: len(b) // 2], lambda b: b"no file", lambda b: b""])
def test_a_damaged_state_is_told_of_and_not_used(tmp_path, lessons, capsys, spoil):
    path = tmp_path / "state"
    train(network(), lessons, stopping(4), resume=path)
    path.write_bytes(spoil(path.read_bytes()))
    assert len(train(network(), lessons, resume=path).loss) == EPOCHS
    assert "is damaged: this training begins at the beginning" in capsys.readouterr().err


@pytest.mark.parametrize("other", [{"epochs": 5}, {"lr": 0.02}, {"seed": 1}])
def test_a_training_with_other_options_begins_at_the_beginning(tmp_path, lessons, capsys, other):
    path = tmp_path / "state"
    train(network(), lessons, stopping(4), resume=path)
    alone, resumed = network(), network()
    train(alone, lessons, **other)
    train(resumed, lessons, resume=path, **other)
    assert "with other options" in capsys.readouterr().err
    for one, two in zip(alone.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, two)
