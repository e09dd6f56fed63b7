"""The family under two limits, the searches look by look, and what the lab asks its learner to predict."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from typing import Any

from edgelab.errors import EdgelabError
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.explore.html import HtmlTable
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.labs.lab_10_capstone import search
from edgelab.labs.lab_10_capstone.costs import BRIEFS, COSTS, brief_names, cost_names, limits_of, text_of
from edgelab.labs.lab_10_capstone.family import Shape
from edgelab.measure import share_half_width
from edgelab.numbers import number

LAB = "10_capstone"
TIGHTNESS = (60, 70, 80, 90, 100, 110, 120, 140)  # per cent of a brief's limits
LOOKS = (8, 12, 16, 20, 24, 32, 40, 48, 64)
Row = Mapping[str, Any]  # "shape", "accuracy" in [0, 1], and the costs


def predict_order() -> Prediction:
    """Return the prediction of the points lost when the training comes before the pruning."""
    return predict(LAB, "order", _("points lost by the wrong order"), low=0.2, high=90)


def predict_looks() -> Prediction:
    """Return the prediction of how many looks the evolution needs on average."""
    return predict(LAB, "looks", _("looks that evolution needs, on average"), low=1, high=64)


def family_explorer(table: Sequence[Row], proof: Callable, images: int, growth: float = 1.0) -> Explorer:
    """Return the networks of the table under the limits of a brief, with the learner's bound and ceiling.

    `images` are the judges; `growth` is of `costs.growth_of`.
    """
    names = brief_names()
    known = [name for name in BRIEFS if _is_measured(table, name)]
    controls = {
        "brief": choice(_("brief"), {names[name]: name for name in known}),
        "cost": choice(_("against"), {cost_names()[cost]: cost for cost in COSTS if table[0][cost] is not None}),
        "tightness": slider(_("limits"), TIGHTNESS, 100, "%"),
    }
    return Explorer(partial(family_plot, table, proof, images, growth=growth), controls)


def _is_measured(table: Sequence[Row], brief: str) -> bool:
    return all(table[0][cost] is not None for cost in BRIEFS[brief].limits)


def family_plot(
    table: Sequence[Row], proof: Callable, images: int, brief: str, cost: str, tightness: int, growth: float = 1.0
) -> plots.Picture:
    """Return accuracy over one cost: what is within both limits filled, the bound and the ceiling as lines."""
    limits = limits_of(brief, growth, tightness)
    within = [row for row in table if all(row[name] <= most for name, most in limits.items())]
    bound, ceiling = (100 * float(one) for one in proof(table, limits, images))
    with plots.figure(height=3.6) as fig:
        ax = fig.subplots()
        for rows, filled, label in (
            ([row for row in table if row not in within], "none", _("breaks a limit")),
            (within, plots.BLUE, _("within both")),
        ):
            x, y = [row[cost] for row in rows], [100 * row["accuracy"] for row in rows]
            ax.plot(x, y, ls="", marker="o", ms=6, mfc=filled, mec=plots.BLUE, label=label)
        if within:
            ax.axhline(bound, color=plots.GREEN, lw=1.5, label=_("bound"))
            ax.axhline(ceiling, color=plots.VERMILION, ls="--", lw=1.5, label=_("ceiling"))
        if cost in limits:
            ax.axvline(limits[cost], color=plots.INK, ls=":", lw=1, label=_("limit"))
        ax.xaxis.set_major_formatter(lambda value, _place: number(value, ".0f"))
        ax.set(xlabel=cost_names()[cost], ylabel=_("accuracy on the judges (%)"))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        title = _("%(n)d of %(all)d networks are within both limits.") % {"n": len(within), "all": len(table)}
        if within:
            best = max(within, key=lambda row: row["accuracy"])
            text = _("The best is %(shape)s: %(bound).1f %%. Of this training, expect nothing above %(ceiling).1f %%.")
            title += " " + text % {"shape": text_of(best["shape"]), "bound": bound, "ceiling": ceiling}
        ax.set_title(title)
        return plots.picture(fig, f"{brief_names()[brief]}, {tightness} %. {title}")


def tell_client(wanted: float, found: Sequence[float]) -> None:
    """Print whether a wanted accuracy, in [0, 1], lies above the ceiling of `found`, a bound and a ceiling."""
    bound, ceiling = map(float, found)
    text = _("wanted %(wanted).1f %%, bound %(bound).1f %%, ceiling %(ceiling).1f %%: %(verdict)s")
    verdict = _("out of reach") if wanted > ceiling else _("not ruled out")
    numbers = {"wanted": 100 * wanted, "bound": 100 * bound, "ceiling": 100 * ceiling, "verdict": verdict}
    print(text % numbers)


def ranked_shapes(table: Sequence[Row], rank: Callable, limits: Mapping[str, float]) -> list[Shape]:
    """Return the shapes of the table in the order of the learner's `rank`, the best first."""
    order = [int(place) for place in rank(table, limits)]
    if sorted(order) != list(range(len(table))):
        raise EdgelabError(_("rank gives every row's number once, from 0 to %(last)d.") % {"last": len(table) - 1})
    return [table[place]["shape"] for place in order]


def searches(ranked: Sequence[Shape]) -> dict[str, search.Outcome]:
    """Return what each search found, over many runs."""
    return {name: search.repeat(one, ranked) for name, one in search.SEARCHES.items()}


def search_names() -> dict[str, str]:
    """Return what the searches are called, in the learner's language."""
    return {"random": _("random"), "evolution": _("evolution")}


def search_explorer(outcomes: Mapping[str, search.Outcome]) -> Explorer:
    """Return how often each search has found the best network, over the number of its looks."""
    return Explorer(partial(search_plot, outcomes), {"looks": slider(_("looks"), LOOKS, 16)})


def search_plot(outcomes: Mapping[str, search.Outcome], looks: int) -> plots.Picture:
    """Return the share of runs that have found the best network over looks, one number of them marked."""
    with plots.figure(height=3.4) as fig:
        ax = fig.subplots()
        words = []
        for place, (name, outcome) in enumerate(outcomes.items()):
            shares = [100 * outcome.found(count) for count in LOOKS]
            colour, marker = plots.COLOURS[place], plots.MARKERS[place]
            ax.plot(LOOKS, shares, label=search_names()[name], color=colour, marker=marker)
            words.append(f"{search_names()[name]} {100 * outcome.found(looks):.0f} %")
        ax.axvline(looks, color=plots.INK, ls=":", lw=1)
        ax.set(xlabel=_("looks"), ylabel=_("runs that have found the best (%)"), ylim=(0, 103))
        ax.legend(loc="lower right")
        title = _("After %(n)d looks the best is found: %(words)s") % {"n": looks, "words": "; ".join(words)}
        ax.set_title(title)
        return plots.picture(fig, title)


def finals_table(table: Sequence[Row], finals: Mapping[Shape, float], images: int) -> HtmlTable:
    """Return for the networks that were finished what the judges said of them within the family, and say now.

    Each accuracy stands with half its 95 % interval on `images` pictures.
    """
    within = {row["shape"]: row["accuracy"] for row in table}
    rows = []
    for shape, accuracy in finals.items():
        cells = (f"{100 * p:.1f} ± {100 * share_half_width(p, images):.1f}" for p in (within[shape], accuracy))
        rows.append([f'<span style="white-space: nowrap">{text_of(shape)}</span>', *cells])
    heads = [_("shape"), _("in the family (%)"), _("finished by itself (%)")]
    return HtmlTable(list(map(escape, heads)), rows)


def finding_table(table: Sequence[Row], mine: Shape, ranked: Sequence[Shape], limits: Mapping[str, float]) -> HtmlTable:
    """Return the learner's own shape beside the best of the ranking: costs, accuracy, and the limits it breaks."""
    of = {row["shape"]: row for row in table}
    if tuple(mine) not in of:
        raise EdgelabError(
            _("%(shape)s is no shape of the family. The smallest is %(first)s, the largest %(last)s.")
            % {"shape": mine, "first": table[0]["shape"], "last": table[-1]["shape"]}
        )
    rows = []
    for name, shape in ((_("yours"), tuple(mine)), (_("the search's"), ranked[0])):
        row = of[shape]
        over = [cost_names()[cost] for cost, most in limits.items() if row[cost] is None or row[cost] > most]
        cells = ["–" if row[cost] is None else number(row[cost], ".0f") for cost in COSTS]
        whole = f'<span style="white-space: nowrap">{text_of(shape)}</span>'
        rows.append([f"{escape(name)}: {whole}", *cells, f"{100 * row['accuracy']:.1f}",
                     escape(", ".join(over) or "–")])  # fmt: skip
    heads = [_("shape"), *cost_names().values(), _("accuracy on the judges (%)"), _("breaks")]
    return HtmlTable(list(map(escape, heads)), rows)
