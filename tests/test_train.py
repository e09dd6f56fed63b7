import subprocess
import sys

import pytest
import torch
from torch import nn

from edgelab import train
from edgelab.data import Split, inputs


@pytest.fixture
def easy():
    """Return 400 tiny images of two classes, dark and bright."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(400) % 2
    images = torch.randint(0, 100, (400, 1, 8, 8), generator=generator) + 150 * labels[:, None, None, None]
    return Split(images.to(torch.uint8), labels)


def small_net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))


def test_fit_learns_and_reports_every_epoch(easy):
    model = small_net()
    history = train.fit(model, easy, val=easy, epochs=3, batch_size=50, progress=False)
    assert train.evaluate(model, easy) > 0.95
    assert len(history.loss) == len(history.val_accuracy) == len(history.seconds) == 3
    assert history.loss[-1] < history.loss[0]
    assert not history.interrupted
    assert not model.training


def test_the_same_seed_gives_the_same_weights(easy):
    models = [small_net(), small_net()]
    for model in models:
        train.fit(model, easy, epochs=1, seed=7, progress=False)
    for mine, theirs in zip(*(model.state_dict().values() for model in models), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("batch_size", [400, 200, 150, 100])
def test_the_shortest_runs_have_a_schedule_too(easy, batch_size):
    assert len(train.fit(small_net(), easy, epochs=1, batch_size=batch_size, progress=False).loss) == 1


def test_ctrl_c_keeps_the_best_weights_so_far(easy, monkeypatch):
    model, evaluated = small_net(), []

    def fake_accuracy(model, split):
        evaluated.append({key: value.clone() for key, value in model.state_dict().items()})
        if len(evaluated) == 3:
            raise KeyboardInterrupt
        return [0.9, 0.8][len(evaluated) - 1]

    monkeypatch.setattr(train, "evaluate", fake_accuracy)
    history = train.fit(model, easy, val=easy, epochs=5, progress=False)
    assert history.interrupted
    assert history.val_accuracy == [0.9, 0.8]
    for key, value in model.state_dict().items():
        assert torch.equal(value, evaluated[0][key])


def test_an_interrupted_training_without_validation_keeps_its_last_weights_and_says_so(easy, monkeypatch, capsys):
    monkeypatch.setattr(train, "_one_epoch", interrupt)
    assert train.fit(small_net(), easy, epochs=1, progress=False).interrupted
    assert "last weights are kept" in capsys.readouterr().out


def test_a_training_that_was_cut_short_is_no_result():
    assert train.whole(train.History(loss=[1.0])).loss == [1.0]
    with pytest.raises(KeyboardInterrupt):
        train.whole(train.History(loss=[1.0], interrupted=True))


def interrupt(*_args):
    raise KeyboardInterrupt


def test_what_was_trained_is_remembered_and_what_was_interrupted_is_not(easy, tmp_path, monkeypatch):
    options = {"epochs": 1, "batch_size": 50, "progress": False}
    with train.remembering(tmp_path / "models"):
        with monkeypatch.context() as patched:
            patched.setattr(train, "_one_epoch", interrupt)
            with pytest.raises(KeyboardInterrupt):
                train.fit(small_net(), easy, **options)
        assert not (tmp_path / "models").exists()
        first = small_net()
        losses = train.fit(first, easy, **options).loss
        monkeypatch.setattr(train, "_one_epoch", interrupt)  # nothing trains from here on
        again = small_net()
        assert train.fit(again, easy, **options).loss == losses
        for mine, theirs in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
            assert torch.equal(mine, theirs)
        for other, changed in ((small_net(1), {}), (small_net(), {"lr": 0.2}), (small_net(), {"seed": 1})):
            with pytest.raises(KeyboardInterrupt):
                train.fit(other, easy, **{**options, **changed})


def test_what_a_model_has_said_is_not_asked_again_but_other_weights_and_other_pictures_are(easy, tmp_path, monkeypatch):
    said = train.remembered(small_net(), easy[:30], tmp_path / "models")
    assert torch.equal(said, train.predict(small_net(), easy[:30]))
    asked = []
    monkeypatch.setattr(train, "predict", lambda model, split: asked.append(len(split)) or torch.zeros(len(split), 2))
    assert torch.equal(train.remembered(small_net(), easy[:30], tmp_path / "models"), said)
    assert asked == []
    train.remembered(small_net(1), easy[:30], tmp_path / "models")
    train.remembered(small_net(), easy[:31], tmp_path / "models")
    train.remembered(small_net(), easy[:30], tmp_path / "elsewhere")
    assert asked == [30, 31, 30]


@pytest.mark.parametrize(("slow", "left"), [(2, 1), (1, 2)], ids=["a busy machine", "a quiet one"])
def test_training_falls_back_to_one_thread_where_two_are_slower(slow, left, monkeypatch):
    now, threads = [0.0], [2]
    monkeypatch.setattr(train.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda count: threads.__setitem__(0, count))
    chosen = train._Threads(100)
    for _step in range(60):
        now[0] += 4.0 if threads[0] == slow else 1.0
        chosen.step()
    assert threads[0] == left
    chosen.close()
    assert threads[0] == 2


def test_the_loss_function_can_be_replaced(easy):
    seen = []

    def loss_fn(logits, labels):
        seen.append(logits.dtype)
        return nn.functional.cross_entropy(logits, labels)

    train.fit(small_net(), easy, epochs=1, loss_fn=loss_fn, progress=False)
    assert set(seen) == {torch.float32}


def test_evaluate_counts_by_hand(easy):
    always_one = lambda images: torch.tensor([[0.0, 1.0]]).expand(len(images), 2)  # noqa: E731
    assert train.evaluate(always_one, easy, batch_size=30) == 0.5


def test_shift_moves_each_image_by_at_most_so_many_pixels():
    image = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8)
    moved = train.shift(image.expand(200, 1, 8, 8), 2)
    assert moved.shape == (200, 1, 8, 8)
    assert moved.dtype == torch.uint8
    centres = set(moved[:, 0, 4, 4].tolist())
    assert centres == {row * 8 + column for row in range(2, 7) for column in range(2, 7)}


def test_mirror_turns_about_half_of_the_images():
    image = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 1, 4).expand(400, 1, 1, 4)
    turned = (train.mirror(image)[:, 0, 0, 0] == 3).sum().item()
    assert 140 < turned < 260


def test_a_narrow_network_with_a_strided_shortcut_is_trained_and_python_goes_on():
    """oneDNN's gradient of a strided 1x1 convolution of few channels writes past its memory with channels last."""
    code = (
        "import torch; from edgelab import data, models, train; from edgelab.data.inputs import is_safe_fast\n"
        "split = data.Split(torch.randint(0, 256, (128, 3, 32, 32), dtype=torch.uint8), torch.arange(128) % 16)\n"
        "model = models.resnet((6, 12, 20))\n"
        "train.fit(model, split, epochs=4, batch_size=64, progress=False)\n"
        "print(is_safe_fast(model), is_safe_fast(models.resnet((8, 16, 32))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "True"]


def test_images_of_one_channel_can_be_laid_out_plainly():
    images = inputs.fast_layout(torch.randn(2, 1, 8, 8))
    assert images.contiguous().stride() == images.stride(), "torch takes either layout for contiguous"
    plain = inputs.plain_layout(images)
    assert torch.equal(plain, images)
    assert plain.stride() == (64, 64, 8, 1)
