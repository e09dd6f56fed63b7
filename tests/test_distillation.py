"""Losses against numbers worked by hand and against their gradients; a student learns by the one training loop."""

import copy
from functools import partial
from math import log, sqrt

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgelab import train
from edgelab.data import Split, normalize
from edgelab.distillation import (
    Ensemble,
    attention_loss,
    attention_map,
    decoupled_loss,
    distill,
    distill_features,
    distillation_loss,
    hint_loss,
    relational_loss,
    soft_targets,
    tapped,
)
from edgelab.errors import EdgelabError
from edgelab.pruning import prune
from edgelab.quantization import QuantizationConfig, calibrate, convert, prepare
from edgelab.quantization.graph import weighted_layers


def logs(*rows):
    """Return logits whose softmax has these proportions."""
    return torch.tensor(rows).log()


def random_logits(seed, shape=(6, 5)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LABELS = torch.tensor([0, 3, 1, 4, 2, 2])


def test_soft_targets_by_hand():
    assert torch.allclose(soft_targets(2 * logs([3.0, 1.0]), 2.0), torch.tensor([[0.75, 0.25]]))


def test_the_distillation_loss_by_hand():
    """At T = 2 the teacher says 3/4, 1/4 and the student 1/2, 1/2: KL = 3/4 ln 3/2 - 1/4 ln 2 = 0.130812."""
    student, teacher, labels = torch.zeros(1, 2), 2 * logs([3.0, 1.0]), torch.tensor([0])
    soft, hard = 4 * 0.1308120, log(2)
    for alpha in (0.0, 0.25, 0.9, 1.0):
        loss = distillation_loss(student, teacher, labels, temperature=2.0, alpha=alpha)
        assert loss.item() == pytest.approx(alpha * soft + (1 - alpha) * hard, rel=1e-5)


def test_at_temperature_one_the_soft_gradient_is_that_of_cross_entropy_with_soft_targets():
    student, teacher = random_logits(0).requires_grad_(), random_logits(1)
    (mine,) = torch.autograd.grad(distillation_loss(student, teacher, None, temperature=1.0, alpha=1.0), student)
    (torchs,) = torch.autograd.grad(F.cross_entropy(student, teacher.softmax(1)), student)
    assert torch.allclose(mine, torchs)


def test_the_factor_holds_the_gradient_when_the_temperature_is_high():
    """Hinton et al., equation 4: for high T the gradient tends to (student - teacher) / classes, means taken off."""
    student, teacher = random_logits(0).requires_grad_(), random_logits(1)
    (gradient,) = torch.autograd.grad(distillation_loss(student, teacher, None, temperature=1e4, alpha=1.0), student)
    apart = (student - teacher).detach()
    expected = (apart - apart.mean(1, keepdim=True)) / apart.shape[1] / len(apart)
    assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-6)


def test_the_decoupled_loss_by_hand():
    """p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4), label 0: TCKD 0.143841, NCKD 0.058892, cross entropy ln 4."""
    student, teacher, labels = logs([1.0, 2.0, 1.0]), logs([2.0, 1.0, 1.0]), torch.tensor([0])
    for target, others in ((1.0, 2.0), (0.0, 0.0), (1.0, 8.0)):
        loss = decoupled_loss(student, teacher, labels, temperature=1.0, target_weight=target, others_weight=others)
        assert loss.item() == pytest.approx(log(4) + target * 0.1438410 + others * 0.0588915, rel=1e-5)


def test_two_images_have_the_mean_of_their_losses():
    """The second image is one of which teacher and student say the same: it adds nothing but its cross entropy."""
    student, teacher = logs([1.0, 2.0, 1.0], [1.0, 1.0, 2.0]), logs([2.0, 1.0, 1.0], [1.0, 1.0, 2.0])
    labels = torch.tensor([0, 2])
    decoupled = decoupled_loss(student, teacher, labels, temperature=1.0, target_weight=1.0, others_weight=2.0)
    assert decoupled.item() == pytest.approx((log(4) + log(2) + 0.1438410 + 2 * 0.0588915) / 2, rel=1e-5)
    whole = distillation_loss(student, teacher, labels, temperature=1.0, alpha=1.0)
    assert whole.item() == pytest.approx(log(2) / 4 / 2, rel=1e-5)  # 1/2 ln 2 + 1/4 ln 1/2 of the first
    mine, theirs = (
        torch.tensor([1.0, 2.0, 5.0, 5.0]).view(2, 2, 1, 1),
        torch.tensor([0.0, 4.0, 5.0, 5.0]).view(2, 2, 1, 1),
    )
    assert hint_loss(mine, theirs).item() == pytest.approx((1 + 4) / 2 / 2 / 2)
    looks, others = torch.tensor([[[[3.0, 4.0]]], [[[1.0, 1.0]]]]), torch.ones(2, 1, 1, 2)
    one = attention_loss(looks[:1], others[:1]).item()
    assert one > 0.1
    assert attention_loss(looks, others).item() == pytest.approx(one / 2, rel=1e-5)


def test_far_relations_count_by_their_distance_and_not_its_square():
    """On a line, two of three in one place: distances 3/2, 3/2, 0 beside 0, 3/2, 3/2; Huber gives 3/2 - 1/2 twice."""
    student, teacher = torch.tensor([[0.0], [1.0], [1.0]]), torch.tensor([[0.0], [0.0], [1.0]])
    loss = relational_loss(student, teacher, distance_weight=1.0, angle_weight=0.0)
    assert loss.item() == pytest.approx((1 + 0 + 1) / 3, rel=1e-5)


def test_decoupled_parts_add_up_to_hintons_divergence():
    student, teacher = random_logits(2)[:1], random_logits(3)[:1]
    labels, hard = LABELS[:1], F.cross_entropy(random_logits(2)[:1], LABELS[:1])
    sure = float(soft_targets(teacher, 3.0)[0, labels[0]])
    parts = decoupled_loss(student, teacher, labels, temperature=3.0, target_weight=1.0, others_weight=1 - sure) - hard
    whole = distillation_loss(student, teacher, labels, temperature=3.0, alpha=1.0)
    assert parts.item() == pytest.approx(whole.item(), rel=1e-9)


def test_the_hint_loss_by_hand():
    student, teacher = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1), torch.tensor([0.0, 4.0]).view(1, 2, 1, 1)
    assert hint_loss(student, teacher).item() == pytest.approx((1 + 4) / 2 / 2)


def test_attention_by_hand():
    student = torch.tensor([[[[3.0, 0.0]], [[0.0, 4.0]]]])  # two channels, 1x2: squares add up to 9, 16
    teacher = torch.ones(1, 1, 1, 2)
    place = torch.tensor([[9.0, 16.0]]) / sqrt(9**2 + 16**2)
    assert torch.allclose(attention_map(student), place)
    assert attention_loss(student, teacher).item() == pytest.approx((place - sqrt(0.5)).norm().item(), rel=1e-6)


def test_relations_by_hand():
    """A triangle of sides 3, 4, 5 beside one of equal sides: distances 3/4, 1, 5/4 to 1; cosines 0, 3/5, 4/5 to 1/2."""
    student = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    teacher = 7 * torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, sqrt(0.75)]])
    distance = (0.25**2 + 0 + 0.25**2) / 2 / 3
    angle = (0.5**2 + 0.1**2 + 0.3**2) / 2 / 3
    for d, a in ((1.0, 0.0), (0.0, 1.0), (1.0, 2.0)):
        loss = relational_loss(student, teacher, distance_weight=d, angle_weight=a)
        assert loss.item() == pytest.approx(d * distance + a * angle, rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        lambda s, t: distillation_loss(s, t, LABELS, temperature=3.0, alpha=0.7),
        lambda s, t: decoupled_loss(s, t, LABELS, temperature=3.0),
        lambda s, t: hint_loss(s.view(6, 5, 1, 1), t.view(6, 5, 1, 1)),
        lambda s, t: attention_loss(s.view(2, 3, 5, 1), t.view(2, 3, 5, 1)),
        lambda s, t: relational_loss(s, t),
    ],
    ids=["distillation", "decoupled", "hints", "attention", "relations"],
)
def test_gradients_are_those_of_the_values_and_the_teacher_gets_none(loss):
    student, teacher = random_logits(4).requires_grad_(), random_logits(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher), (student,))
    loss(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: soft_targets(torch.zeros(1, 2), 0.0), "above 0"),
        (lambda: distillation_loss(torch.zeros(1, 2), torch.zeros(1, 3), None, temperature=1, alpha=1), r"\(1, 3\)"),
        (lambda: distillation_loss(torch.zeros(1, 2), torch.zeros(1, 2), None, temperature=1, alpha=0.5), "alpha=1"),
        (lambda: distillation_loss(torch.zeros(1, 2), torch.zeros(1, 2), None, temperature=1, alpha=90), "from 0 to 1"),
        (lambda: distillation_loss(torch.zeros(1, 2), torch.zeros(1, 2), None, temperature=-1, alpha=1), "above 0"),
        (lambda: hint_loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2)), "height and width"),
        (lambda: attention_loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2)), "height and width"),
        (lambda: relational_loss(torch.zeros(2, 5), torch.zeros(2, 5)), "three images"),
    ],
    ids=["temperature", "classes", "no labels", "alpha", "negative", "hints", "attention", "relations"],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(wrong, said):
    with pytest.raises(EdgelabError, match=said):
        wrong()


@pytest.fixture
def easy():
    """Return 200 tiny images of two classes, dark and bright."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 2
    images = torch.randint(0, 100, (200, 1, 8, 8), generator=generator) + 150 * labels[:, None, None, None]
    return Split(images.to(torch.uint8), labels)


def net(channels=4, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels), nn.ReLU(), nn.Flatten(), nn.Linear(36 * channels, 2)
    )


def knows(images):
    """Answer as one who can see which class is the bright one."""
    bright = images.mean(dim=(1, 2, 3)).sign()
    return torch.stack([-4 * bright, 4 * bright], dim=1)


ONLY_SOFT = partial(distillation_loss, temperature=2.0, alpha=1.0)


@pytest.mark.parametrize("augment", [None, partial(train.shift, pixels=1)], ids=["cached", "consistent"])
def test_a_student_learns_without_a_label_what_its_teacher_knows(easy, augment):
    unlabelled = Split(easy.images, torch.zeros_like(easy.labels))
    student = net()
    history = distill(
        student, knows, unlabelled, loss_fn=ONLY_SOFT, epochs=8, batch_size=50, augment=augment, progress=False
    )
    assert train.evaluate(student, easy) > 0.95
    assert len(history.loss) == 8


@pytest.mark.parametrize(("consistent", "same"), [(True, True), (False, False)])
def test_a_consistent_teacher_sees_the_crop_of_the_student_and_another_one_sees_whole_images(easy, consistent, same):
    seen_by_student, seen_by_teacher, student = [], [], net()
    student.register_forward_pre_hook(lambda _model, inputs: seen_by_student.append(inputs[0].clone()))

    def teacher(images):
        seen_by_teacher.append(images.clone())
        return knows(images)

    options = {"epochs": 1, "batch_size": 50, "augment": partial(train.shift, pixels=2), "progress": False}
    distill(student, teacher, easy, consistent=consistent, **options)
    crops = seen_by_student[1:]  # behind the trial run of `fit`
    if same:
        assert len(crops) == len(seen_by_teacher)
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(crops, seen_by_teacher, strict=True))
    else:
        assert torch.equal(torch.cat(seen_by_teacher), normalize(easy.images))


def test_kept_answers_follow_their_images_through_the_shuffle(easy):
    """A row of the teacher's answers meets the logits of its own image, and the label too."""
    marked = Split(easy.images, torch.arange(200))
    met = []

    def loss_fn(logits, said, labels):
        met.append((said[:, 0].long(), labels))
        return logits.square().mean()

    train.fit(net(), marked, epochs=2, teacher=torch.arange(200.0)[:, None], loss_fn=loss_fn, progress=False)
    assert all(torch.equal(row, label) for row, label in met)
    assert not torch.equal(torch.cat([row for row, _label in met])[:200], torch.arange(200))


def test_a_float_model_teaches_its_rounded_self(easy):
    teacher = net(8, seed=1)
    train.fit(teacher, easy, epochs=2, batch_size=50, progress=False)
    prepared = calibrate(prepare(teacher, QuantizationConfig(weight_bits=2)), normalize(easy.images[:50]))
    unlabelled = Split(easy.images, torch.zeros_like(easy.labels))
    apart = []
    for epochs in (0, 4):
        student = copy.deepcopy(prepared)
        if epochs:
            distill(
                student, teacher, unlabelled, loss_fn=ONLY_SOFT, epochs=epochs, batch_size=50, lr=0.01, progress=False
            )
        student = convert(student.eval())
        assert all(len(layer.weight.unique()) <= 4 * len(layer.weight) for layer in weighted_layers(student).values())
        with torch.no_grad():
            images = normalize(easy.images)
            apart.append(float(distillation_loss(student(images), teacher(images), None, temperature=2.0, alpha=1.0)))
    assert apart[1] < apart[0]


def test_zeros_stay_zeros_under_a_teacher(easy):
    teacher = net(8, seed=1)
    train.fit(teacher, easy, epochs=1, batch_size=50, progress=False)
    student = prune(copy.deepcopy(teacher), 0.8)
    zeros = student[4].weight == 0
    before = student[4].weight.detach().clone()
    distill(student, teacher, easy, epochs=1, batch_size=50, lr=0.01, progress=False)
    assert not torch.equal(student[4].weight, before)
    assert torch.equal(student[4].weight == 0, zeros)


def test_the_teacher_stays_as_it_was(easy):
    teacher = net(8, seed=1).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    distill(net(), teacher, easy, epochs=1, augment=train.shift, progress=False)
    assert teacher.training
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_nobody_teaches_themselves(easy):
    student = net()
    with pytest.raises(EdgelabError, match="a copy"):
        distill(student, student, easy)


def test_a_teacher_of_other_classes_is_refused(easy):
    with pytest.raises(EdgelabError, match=r"\(50, 3\)"):
        distill(net(), lambda images: images.flatten(1)[:, :3], easy, epochs=1, batch_size=50, progress=False)


def test_an_ensemble_is_the_mean_of_its_members_logits(easy):
    members, images = [net(seed=seed).eval() for seed in range(3)], normalize(easy.images[:4])
    expected = (members[0](images) + members[1](images) + members[2](images)) / 3
    assert torch.allclose(Ensemble(members)(images), expected, atol=1e-6)


def test_what_a_teacher_has_taught_is_remembered(easy, tmp_path, monkeypatch):
    options = {"epochs": 1, "batch_size": 50, "progress": False}
    with train.remembering(tmp_path):
        first, again, other = net(), net(), net()
        distill(first, knows, easy, loss_fn=ONLY_SOFT, **options)

        def interrupt(*_args):
            raise KeyboardInterrupt

        monkeypatch.setattr(train, "_one_epoch", interrupt)  # nothing trains from here on
        distill(again, knows, easy, loss_fn=ONLY_SOFT, **options)
        assert torch.equal(first[4].weight, again[4].weight)
        for teacher, loss_fn in (
            (lambda images: -knows(images), ONLY_SOFT),
            (knows, partial(distillation_loss, temperature=3.0, alpha=1.0)),
            (knows, lambda logits, said, labels: ONLY_SOFT(logits, said, labels)),
        ):
            with pytest.raises(KeyboardInterrupt):
                distill(other, teacher, easy, loss_fn=loss_fn, **options)


@pytest.mark.parametrize("feature_loss", [hint_loss, attention_loss, relational_loss])
def test_features_draw_a_student_towards_its_teacher(easy, feature_loss):
    """Beside the same training without them: by their own measure, the student ends nearer to the teacher."""
    teacher, apart = net(8, seed=1), {}
    train.fit(teacher, easy, epochs=1, batch_size=50, progress=False)
    for weight in (0.0, 20.0):
        student = net(8, seed=2)
        options = {"epochs": 3, "batch_size": 50, "augment": partial(train.shift, pixels=1), "progress": False}
        distill_features(
            student, teacher, easy, layers={"2": "2"}, feature_loss=feature_loss, weight=weight, lr=0.02, **options
        )
        images = normalize(easy.images[:50])
        with torch.no_grad():
            mine, theirs = student[:3](images), teacher.eval()[:3](images)
            if feature_loss is hint_loss:  # through the regressor that fits best
                wide, target = mine.movedim(1, 3).flatten(0, 2), theirs.movedim(1, 3).flatten(0, 2)
                wide = torch.cat([wide, torch.ones(len(wide), 1)], dim=1)
                residual = wide @ torch.linalg.lstsq(wide, target).solution - target
                apart[weight] = residual.square().mean().item()
            else:
                apart[weight] = feature_loss(mine, theirs).item()
    assert apart[20.0] < apart[0.0]


def test_nothing_is_left_hanging_on_the_models(easy):
    student, teacher = net(), net(8, seed=1)
    distill_features(student, teacher, easy, layers={"2": "2"}, epochs=1, progress=False)
    for model in (student, teacher):
        assert not any(layer._forward_hooks for layer in model.modules())
    assert not student.training
    assert len(list(student.parameters())) == len(list(net().parameters()))


def test_taps_hold_what_layers_put_out():
    model = net().eval()
    with tapped(model, ["0", "2"]) as found, torch.no_grad():
        images = torch.zeros(3, 1, 8, 8)
        model(images)
        assert torch.equal(found["0"], model[0](images))
        assert found["2"].shape == (3, 4, 6, 6)
    with pytest.raises(EdgelabError, match="'nowhere'"), tapped(model, ["nowhere"]):
        pass
