"""What a teacher knows about a picture, a class that a student has never seen, and students over seeds."""

from collections.abc import Sequence

import torch

from edgelab.distillation import soft_targets
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.explore.pictures import shown_name
from edgelab.i18n import _
from edgelab.labs.lab_07_distillation.students import ASKED, FEW, MODELS, Study, bias_that_fits, named
from edgelab.labs.lab_07_distillation.tables import class_name, way_name
from edgelab.measure.seeds import paired_gain
from edgelab.train import predict, remembered

TEMPERATURES = (1, 2, 3, 4, 6, 8, 12, 20)
PICTURES = 8
BIASES = tuple(range(0, 21))
REGIMES = {
    "plenty": ("alone", "smoothing", "longer", "distilled", "bad teacher"),
    "few": ("few alone", "few named", "few distilled"),
}


def temperature_explorer(study: Study) -> Explorer:
    """Return the teacher's soft targets for single test pictures, at a temperature to choose."""
    split = study.exam[:ASKED]
    logits = remembered(study.teacher, split, MODELS)
    places = telling_pictures(logits, split.labels)
    names = list(map(shown_name, study.dataset.classes))

    def label(number: int, place: int) -> str:
        return f"{number}: {names[split.labels[place]]}"

    def draw(place: int, temperature: float) -> plots.Picture:
        picture = split.images[place]
        return temperature_plot(picture, logits[place], int(split.labels[place]), names, temperature)

    controls = {
        "place": choice(_("picture"), {label(number, place): place for number, place in enumerate(places, start=1)}),
        "temperature": slider(_("temperature"), TEMPERATURES, 1),
    }
    return Explorer(draw, controls)


def telling_pictures(logits: torch.Tensor, labels: torch.Tensor) -> list[int]:
    """Return the places of a few pictures, each of another class, about which the teacher is least sure but right.

    They begin with the class whose second answer is likeliest.
    """
    probabilities = logits.softmax(1)
    second = probabilities.topk(2).values[:, 1] * (logits.argmax(1) == labels)
    found: dict[int, int] = {}
    for place in second.argsort(descending=True).tolist():
        found.setdefault(int(labels[place]), place)
    return list(found.values())[:PICTURES]


def temperature_plot(
    picture: torch.Tensor, logits: torch.Tensor, label: int, names: Sequence[str], temperature: float
) -> plots.Picture:
    """Return a picture `(C, H, W)` beside the soft targets of its `logits` `(classes,)`, largest first."""
    soft = soft_targets(logits[None], temperature)[0]
    order = logits.argsort(descending=True).tolist()[:8][::-1]
    bits = -float((soft * soft.clamp(min=1e-30).log2()).sum())
    with plots.figure(height=3.6) as fig:
        left, right = fig.subplots(1, 2, gridspec_kw={"width_ratios": (1, 2.2)})
        pixels = picture.permute(1, 2, 0).numpy()
        left.imshow(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels, cmap="gray")
        left.set_axis_off()
        bars = right.barh([names[index] for index in order], [100 * float(soft[index]) for index in order])
        for bar, index in zip(bars, order, strict=True):
            truth = index == label
            bar.set(fc=plots.GREEN if truth else plots.SKY, hatch="///" if truth else "", ec=plots.INK, lw=0.5)
        right.bar_label(bars, fmt="%.2g", padding=3)
        right.set(xlim=(0, 118), xlabel=_("probability (%); hatched: the label"))
        right.grid(False, axis="y")
        first, then = (order[-1], order[-2])
        text = _("T = %(t)g: %(first)s %(p).2g %%, %(then)s %(q).2g %%; %(bits).2f bits of doubt")
        facts = {"t": temperature, "first": names[first], "then": names[then], "bits": bits}
        title = text % {**facts, "p": 100 * float(soft[first]), "q": 100 * float(soft[then])}
        fig.suptitle(title, x=0.02, ha="left", size="medium")
        return plots.picture(fig, title)


def never_seen_explorer(study: Study) -> Explorer:
    """Return what becomes of the class that a student has never seen as the bias of its logit is raised."""
    left_out = study.left_out
    curves = {
        taught: [
            named(logits, study.exam.labels, left_out, bias)
            for logits in [predict(study.student_without(left_out, taught=taught), study.exam)]
            for bias in BIASES
        ]
        for taught in (True, False)
    }
    fits = bias_that_fits(predict(study.student_without(left_out, taught=True), study.lessons), left_out)
    name = class_name(study, left_out)

    def draw(bias: int, taught: bool) -> plots.Picture:
        return never_seen_plot(curves[taught], bias, name, fits if taught else None)

    controls = {
        "bias": slider(_("add to its logit"), BIASES, 0),
        "taught": choice(_("student"), {_("with the teacher"): True, _("alone"): False}),
    }
    return Explorer(draw, controls)


def never_seen_plot(
    curve: Sequence[tuple[float, float]], bias: int, name: str, fits: float | None = None
) -> plots.Picture:
    """Return the shares named correctly, of one class and of all, over the bias; `fits` marks where it is fair."""
    with plots.figure() as fig:
        ax = fig.subplots()
        own, every = ([100 * pair[place] for pair in curve] for place in (0, 1))
        ax.plot(BIASES, own, color=plots.VERMILION, lw=2, label=name)
        ax.plot(BIASES, every, color=plots.BLUE, lw=2, ls="--", label=_("all classes"))
        if fits is not None and fits <= BIASES[-1]:
            ax.axvline(fits, color=plots.INK, ls=":", lw=1.2, label=_("named as often as others"))
        ax.plot([bias, bias], [own[bias], every[bias]], ls="", marker="o", ms=9, color=plots.INK)
        ax.set(xlabel=_("added to the logit of the class"), ylabel=_("named correctly (%)"), ylim=(-4, 104))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        text = _("+%(bias)d: %(name)s %(own).1f %%, all classes %(every).1f %%")
        title = text % {"bias": bias, "name": name, "own": own[bias], "every": every[bias]}
        ax.set_title(title)
        return plots.picture(fig, title)


def seeds_explorer(study: Study) -> Explorer:
    """Return the students of all ways and seeds, with many labels or few; the first call trains them."""
    found = {regime: {way: study.accuracies(way) for way in ways} for regime, ways in REGIMES.items()}

    def draw(regime: str, differences: bool) -> plots.Picture:
        return seeds_plot(found[regime], differences)

    regimes = {
        _("%(n)d, all of them") % {"n": len(study.lessons)}: "plenty",
        _("%(n)d of them") % {"n": min(FEW, len(study.lessons))}: "few",
    }
    controls = {
        "regime": choice(_("labels"), regimes),
        "differences": choice(_("show"), {_("points won over alone"): True, _("accuracy"): False}),
    }
    return Explorer(draw, controls)


def seeds_plot(found: dict[str, list[float]], differences: bool) -> plots.Picture:
    """Return a dot for each seed of each way; the first way is what others are compared with, pair by pair.

    `found` holds accuracies in per cent by way; with `differences`, the mean and its 95 % interval are drawn as well.
    """
    (base, alone), *others = found.items()
    shown = {way: [b - a for a, b in zip(alone, values, strict=True)] for way, values in others}
    if not differences:
        shown = {base: alone, **dict(others)}
    lines = []
    with plots.figure(height=1.5 + 0.5 * len(shown)) as fig:
        ax = fig.subplots()
        for row, (way, values) in enumerate(reversed(shown.items())):
            ax.plot(values, [row] * len(values), ls="", marker="o", ms=6, mfc="none", color=plots.BLUE)
            if differences:
                gain = paired_gain(alone, found[way])
                clear = plots.VERMILION if gain.clear else plots.INK
                bars = [[gain.mean - gain.low], [gain.high - gain.mean]]
                ax.errorbar(gain.mean, row + 0.22, xerr=bars, marker="D", ms=6, color=clear, capsize=4)
                lines.append(f"{way_name(way)}: {gain}")
            else:
                lines.append(f"{way_name(way)}: {sum(values) / len(values):.1f} %")
        ax.set_yticks(range(len(shown)), [way_name(way) for way in reversed(shown)])
        ax.set_ylim(-0.6, len(shown) - 0.4)
        ax.axvline(0, color=plots.INK, lw=1) if differences else None
        ax.set(xlabel=_("points won over alone, same seed") if differences else _("accuracy (%)"))
        ax.grid(False, axis="y")
        ax.set_title("\n".join(reversed(lines)))
        return plots.picture(fig, "; ".join(reversed(lines)))


def confusion_explorer(study: Study) -> Explorer:
    """Return who takes what for what: the teacher, and students with it and without."""
    split = study.exam[:ASKED]
    answers = {
        "teacher": remembered(study.teacher, split, MODELS).argmax(1),
        "distilled": predict(study.student("distilled"), split).argmax(1),
        "alone": predict(study.student("alone"), split).argmax(1),
    }
    names = list(map(shown_name, study.dataset.classes))
    shown = {_("teacher"): "teacher", way_name("distilled"): "distilled", way_name("alone"): "alone"}

    def draw(who: str) -> plots.Picture:
        return confusion_plot(split.labels, answers[who], names)

    return Explorer(draw, {"who": choice(_("who answers"), shown)})


def confusion_plot(labels: torch.Tensor, answers: torch.Tensor, names: Sequence[str]) -> plots.Picture:
    """Return the most frequent mistakes, as pairs: what it is, and what was said."""
    classes = len(names)
    counts = torch.bincount(labels * classes + answers, minlength=classes**2).reshape(classes, classes)
    counts.fill_diagonal_(0)
    worst = counts.flatten().argsort(descending=True, stable=True)[:8].tolist()
    pairs = [(f"{names[place // classes]} → {names[place % classes]}", int(counts.flatten()[place])) for place in worst]
    with plots.figure() as fig:
        ax = fig.subplots()
        shown = [pair for pair in pairs if pair[1]][::-1]
        ax.barh([name for name, _count in shown], [count for _name, count in shown], color=plots.BLUE)
        ax.grid(False, axis="y")
        ax.set(xlabel=_("mistakes; what it is → what was said"))
        text = _("mistakes: %(n)d of %(all)d; most often %(truth)s taken for %(said)s: %(count)d")
        facts = {"n": int(counts.sum()), "all": len(labels), "count": pairs[0][1]}
        if not shown:
            text = _("mistakes: %(n)d of %(all)d")
        title = text % {**facts, "truth": names[worst[0] // classes], "said": names[worst[0] % classes]}
        ax.set_title(title)
        return plots.picture(fig, title)
