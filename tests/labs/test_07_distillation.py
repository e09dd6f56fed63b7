"""Lab 07: its explorers show what they say, students are trained once, and distillers are what they are named."""

import math

import pytest
import torch
from torch.nn import functional as F

from edgelab import data, models, train
from edgelab.distillation import distillation_loss
from edgelab.labs.lab_07_distillation import distillers, explorers, students, tables

pytestmark = pytest.mark.usefixtures("learners_folder")


@pytest.fixture(scope="module")
def dataset():
    """Return a small data set of three classes, bright, middling and dark, half of it by night."""
    generator = torch.Generator().manual_seed(0)
    splits = []
    for size in (240, 120):
        labels = torch.arange(size) % 3
        images = torch.randint(0, 60, (size, 3, 16, 16), generator=generator) + 90 * labels[:, None, None, None]
        splits.append(data.Split(images.to(torch.uint8), labels, torch.arange(size) % 2))
    return data.Dataset("tiny", ("dark", "middling", "bright"), *splits, ("day", "night"))


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    return models.resnet((8, 8, 8), num_classes=3).eval()


@pytest.fixture
def study(teacher, dataset, monkeypatch):
    monkeypatch.setattr(students, "EPOCHS", 1)
    monkeypatch.setattr(students, "PATIENT", 1)
    ways = {
        name: students.Way(12 if way.images == students.FEW else 10**6, way.teacher, way.loss_fn, min(way.epochs, 2))
        for name, way in students.WAYS.items()
    }
    monkeypatch.setattr(students, "WAYS", ways)
    monkeypatch.setattr(students, "bad_teacher", lambda _dataset: teacher)
    return students.Study(teacher, dataset)


def test_lessons_are_those_of_the_day(study, dataset):
    assert len(study.lessons) == 120
    assert torch.equal(study.lessons.images, dataset.train.images[::2])
    fashion = data.Dataset("x", dataset.classes, dataset.train, dataset.test)
    assert students.daylight(fashion, dataset.train) is dataset.train


def test_a_student_is_trained_once_and_few_labels_see_as_many_pictures(study, monkeypatch):
    calls = []

    def fit(_model, split, **options):
        calls.append((len(split), options["epochs"], options["teacher"] is not None))

    monkeypatch.setattr(students, "fit", fit)
    for way in ("alone", "few alone", "few named", "few distilled", "longer"):
        assert study.student(way, 1) is study.student(way, 1)
    assert calls == [(120, 2, False), (12, 20, False), (120, 2, True), (120, 2, True), (120, 2, False)]


def test_answers_as_labels_know_no_doubt():
    logits, labels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([2])
    sure, unsure = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[1.01, 1.0, 0.0]])
    assert students.as_labels(logits, sure, labels) == students.as_labels(logits, unsure, labels)
    assert float(students.as_labels(logits, sure, labels)) == pytest.approx(math.log(1 + math.e**-1 + math.e**-2))


def test_the_class_left_out_is_in_no_lesson(study, monkeypatch):
    seen = []
    monkeypatch.setattr(students, "fit", lambda _model, split, **options: seen.append((split, options)))
    study.student_without(1, taught=True)
    split, options = seen[0]
    assert set(split.labels.tolist()) == {0, 2}
    assert torch.equal(options["teacher"], study.answers[study.lessons.labels != 1])
    assert options["loss_fn"].keywords["alpha"] == 1.0


def test_the_fair_bias_names_the_class_as_often_as_its_share():
    logits = torch.randn(3_000, 3, generator=torch.Generator().manual_seed(1))
    logits[:, 2] -= 5
    bias = students.bias_that_fits(logits, 2)
    logits[:, 2] += bias
    assert (logits.argmax(1) == 2).float().mean() == pytest.approx(1 / 3, abs=0.01)


def test_named_counts_by_hand():
    logits, labels = torch.tensor([[2.0, 1.0], [0.0, 3.0], [2.0, 0.0]]), torch.tensor([1, 1, 0])
    assert students.named(logits, labels, 1) == pytest.approx((1 / 2, 2 / 3))
    assert students.named(logits, labels, 1, 1.5) == pytest.approx((1.0, 1.0))
    assert students.named(logits, labels, 1, 9.0) == pytest.approx((1.0, 2 / 3))


def soft_loss(distiller, order, temperature=3.0):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(6, 1, 4, 4, generator=generator)
    student, teacher = (lambda x: x.flatten(1)[:, :5]), (lambda x: x.flatten(1)[:, 5:10])
    expected = distillation_loss(student(images[order]), teacher(images[order]), None, temperature=temperature, alpha=1)
    return float(distiller(student, teacher, images, order, temperature)), float(expected)


@pytest.mark.parametrize("distiller", distillers.RIGHT, ids=lambda one: one.__name__)
def test_right_distillers_are_right(distiller):
    got, expected = soft_loss(distiller, torch.tensor([4, 0, 5]))
    assert got == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("distiller", "order", "temperature"),
    [
        (distillers.answers_of_other_images, torch.arange(3), 3.0),
        (distillers.without_the_factor, torch.tensor([4, 0, 5]), 1.0),
    ],
    ids=["in order", "temperature 1"],
)
def test_a_broken_distiller_hides_where_the_lab_says_that_it_does(distiller, order, temperature):
    got, expected = soft_loss(distiller, order, temperature)
    assert got == pytest.approx(expected, rel=1e-5)
    got, expected = soft_loss(distiller, torch.tensor([4, 0, 5]))
    assert got != pytest.approx(expected, rel=1e-2)


def test_the_teacher_on_both_sides_gives_nothing():
    assert soft_loss(distillers.teacher_on_both_sides, torch.tensor([4, 0, 5]))[0] == pytest.approx(0, abs=1e-6)


def test_a_student_learns_by_a_distiller_from_its_own_images(study):
    """What a right distiller gets through the lab's harness is what the training with kept answers gets."""
    met = []

    def spying(student, teacher, images, order, temperature):
        met.append((teacher(images[order]), order))
        return distillers.asks_as_it_goes(student, teacher, images, order, temperature)

    study.trained_by(spying)
    assert met
    assert all(torch.equal(said, study.answers[order]) for said, order in met)


def test_a_hint_is_lost_on_a_student_that_knows_nothing_and_found_where_it_is(study, monkeypatch):
    """A student whose features are the teacher's own leaves nothing; 1 is what a regressor of zeros leaves."""
    features = torch.nn.Sequential(study.teacher.stem, study.teacher.stages)
    monkeypatch.setattr(tables, "pocket", lambda *_: torch.nn.Sequential(*features))
    monkeypatch.setattr(study, "student", lambda _way: torch.nn.Sequential(*features))

    def hint_loss(student, teacher, regressor):
        return (torch.einsum("dc,nchw->ndhw", regressor, student) - teacher).square().mean() / 2

    assert tables.hint_table(study, hint_loss)._repr_html_().count("<td>0.00</td>") == 3


def test_tables_say_what_was_measured(study):
    assert f"{100 * study.accuracy('alone'):.1f}" in tables.fault_table(study, learners_loss)._repr_html_()
    html = tables.cost_table(study)._repr_html_()
    assert "epochs of the student" in html


def learners_loss(student, teacher, labels, temperature, alpha):
    soft = distillation_loss(student, teacher, None, temperature=temperature, alpha=1.0)
    return alpha * soft + (1 - alpha) * F.cross_entropy(student, labels)


def test_every_control_of_lab_07_draws_again(study, redraws):
    every = (
        explorers.temperature_explorer(study),
        explorers.never_seen_explorer(study),
        explorers.seeds_explorer(study),
        explorers.confusion_explorer(study),
    )
    assert redraws(every)


def test_a_temperature_raises_the_doubt():
    picture, logits, names = torch.zeros(1, 8, 8, dtype=torch.uint8), torch.tensor([0.0, 6.0, 4.0]), ["a", "b", "c"]
    sure = explorers.temperature_plot(picture, logits, 1, names, 1).description
    unsure = explorers.temperature_plot(picture, logits, 1, names, 20).description
    assert sure.startswith("T = 1: b 88 %, c 12 %")
    assert unsure.startswith("T = 20: b 38 %, c 34 %; 1.57 bits")


def test_telling_pictures_are_right_and_each_of_another_class():
    logits = torch.tensor([[3.0, 2.9, 0.0], [3.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 2.0, 3.0]])
    assert explorers.telling_pictures(logits, torch.tensor([0, 0, 1, 1])) == [0, 2]


def test_the_plot_of_seeds_names_the_gain():
    alone, taught = [90.0, 91.0, 90.5, 90.0, 90.5], [92.0, 92.5, 92.0, 92.5, 92.0]
    text = explorers.seeds_plot({"alone": alone, "distilled": taught}, True).description
    assert "with the teacher: +1.80 (95 % interval: +1.50 to +2.40; seeds: 5)" in text
    assert "alone: 90.4 %" in explorers.seeds_plot({"alone": alone, "distilled": taught}, False).description


def test_a_teacher_says_an_80_and_if_not_a_30_sooner_than_a_stop_sign():
    """The lab's opening sentence; and the pictures of its first explorer have a 30 and an 80 among them."""
    signs = data.load("signs")
    split, names = students.daylight(signs, signs.test)[: explorers.ASKED], signs.classes
    logits = train.predict(models.load_pretrained("resnet"), split)
    of_80 = logits[split.labels == names.index("limit 80")].mean(0)
    assert names[int(of_80.argmax())] == "limit 80"
    assert of_80[names.index("limit 30")] > of_80[names.index("stop")] + 3
    shown = [names[int(split.labels[place])] for place in explorers.telling_pictures(logits, split.labels)]
    assert {"limit 30", "limit 80"} <= set(shown)


def test_a_confusion_leaves_out_what_is_right():
    labels, answers = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 1, 1])
    assert explorers.confusion_plot(labels, answers, ["a", "b"]).description == (
        "mistakes: 2 of 4; most often a taken for b: 2"
    )


@pytest.mark.long
@pytest.mark.parametrize("name", ["signs", "fashion-mnist"])
def test_what_the_lab_says_of_its_students_holds(name, needs_fashion_mnist):
    """Few labels: clear of zero. A bad teacher hurts. The class never seen: named by the taught student alone."""
    whole = data.load(name)
    study = students.Study(models.load_pretrained("resnet", name), whole)
    assert study.gain("few distilled", over="few alone").low > 2
    assert study.gain("bad teacher", over="alone").high < 0
    assert study.trained_by(distillers.answers_of_other_images) < study.accuracy("alone") - 0.05
    own = {}
    for taught in (True, False):
        student = study.student_without(study.left_out, taught=taught)
        bias = students.bias_that_fits(train.predict(student, study.lessons), study.left_out)
        own[taught], _every = students.named(
            train.predict(student, study.exam), study.exam.labels, study.left_out, bias
        )
    assert own[True] > own[False] + 0.03
    assert own[True] > 0.1, "named by the taught one, and not only less wrong than the other"


def test_a_test_that_is_wrong_once_by_chance_is_judged_by_the_other_times():
    verdicts = iter([True, False, False])
    assert distillers.mostly(lambda _distiller: next(verdicts), distillers.without_the_factor) is False
    verdicts = iter([[], None, []])
    assert distillers.mostly(lambda _distiller: next(verdicts), distillers.without_the_factor) == []
