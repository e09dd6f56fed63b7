"""Look at a data set, and at how well a model reads its parts."""

import io
from base64 import b64encode
from html import escape

import torch
from PIL import Image

from edgelab import data
from edgelab.explore import plots
from edgelab.i18n import _
from edgelab.numbers import number
from edgelab.train import usual_batch


def shown_name(name: str) -> str:
    """Return what a learner reads for a class or condition of the course's own data sets, in their language."""
    names = {
        "limit 20": _("limit 20"),
        "limit 30": _("limit 30"),
        "limit 50": _("limit 50"),
        "limit 60": _("limit 60"),
        "limit 80": _("limit 80"),
        "limit 100": _("limit 100"),
        "limit 120": _("limit 120"),
        "stop": _("stop"),
        "yield": _("yield"),
        "no entry": _("no entry"),
        "priority road": _("priority road"),
        "pedestrians": _("pedestrians"),
        "children": _("children"),
        "curve": _("curve"),
        "roadworks": _("roadworks"),
        "roundabout": _("roundabout"),
        "day": _("day"),
        "night": _("night"),
        "fog": _("fog"),
        "motion blur": _("motion blur"),
        "noise": _("noise"),
        "occlusion": _("occlusion"),
        "T-shirt": _("T-shirt"),
        "trousers": _("trousers"),
        "pullover": _("pullover"),
        "dress": _("dress"),
        "coat": _("coat"),
        "sandal": _("sandal"),
        "shirt": _("shirt"),
        "sneaker": _("sneaker"),
        "bag": _("bag"),
        "ankle boot": _("ankle boot"),
    }
    return names.get(name, name)


MOST_TILES, MOST_BARS = 40, 30  # classes that a picture has room for


def contact_sheet(dataset: data.Dataset, *, per_class: int = 6, scale: int | None = None) -> plots.Picture:
    """Return the first `per_class` test images of every class, under the name of the class.

    They are enlarged `scale` times, twice without it where they are small. Of very many classes the first 40 are shown.
    """
    tiles = []
    scale = scale or (2 if dataset.test.images.shape[-1] <= 48 else 1)
    for label, name in enumerate(map(shown_name, dataset.classes[:MOST_TILES])):
        images = dataset.test.images[dataset.test.labels == label][:per_class]
        strip = images.permute(2, 0, 3, 1).flatten(1, 2)  # (H, images * W, channels)
        pixels = Image.fromarray(strip.squeeze(-1).numpy())
        pixels = pixels.resize((pixels.width * scale, pixels.height * scale), Image.Resampling.NEAREST)
        buffer = io.BytesIO()
        pixels.save(buffer, "PNG")
        source = f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"
        tiles.append(
            f'<figure style="margin: 0 1em 0.6em 0; display: inline-block">'
            f'<img src="{source}" alt="{escape(name)}" width="{pixels.width}" height="{pixels.height}">'
            f"<figcaption>{escape(name)}</figcaption></figure>"
        )
    text = _("%(name)s: %(n)d classes, %(per)d test images of each")
    if len(dataset.classes) > MOST_TILES:
        tiles.append(f"<p>{escape(_('and %(n)d classes more') % {'n': len(dataset.classes) - MOST_TILES})}</p>")
    return plots.Picture("".join(tiles), text % {"name": dataset.title, "n": len(dataset.classes), "per": per_class})


def telling(values: dict[str, float]) -> dict[str, float]:
    """Return the values, by name, that a picture has room for, smallest first: of many the 15 at either end.

    A group that has no images, whose value is not a number, is left out.

    >>> telling({"b": 2.0, "a": 1.0, "none": float("nan")})
    {'a': 1.0, 'b': 2.0}
    """
    ordered = sorted(((name, value) for name, value in values.items() if value == value), key=lambda item: item[1])
    half = MOST_BARS // 2
    return dict(ordered if len(ordered) <= MOST_BARS else ordered[:half] + ordered[-half:])


@torch.inference_mode()
def accuracy_bars(model: torch.nn.Module, dataset: data.Dataset) -> plots.Picture:
    """Return the accuracy of `model` for each condition of the test images, or each class where there are none."""
    split = dataset.test
    batches = split.images.split(usual_batch(split.images, 250))
    right = torch.cat([model(data.normalize(images)).argmax(1) for images in batches]) == split.labels
    if dataset.condition_names:
        groups, names, label = split.conditions, dataset.condition_names, _("condition")
    else:
        groups, names, label = split.labels, dataset.classes, _("class")
    every = {shown_name(name): 100 * right[groups == index].float().mean().item() for index, name in enumerate(names)}
    shares = telling(every)
    if len(shares) < len(every):
        label = _("class: %(n)d of %(all)d, lowest and highest") % {"n": len(shares), "all": len(every)}
    with plots.figure(height=0.8 + 0.32 * len(shares)) as fig:
        ax = fig.subplots()
        ordered = list(shares.items())
        ax.barh([name for name, _share in ordered], [share for _name, share in ordered], color=plots.BLUE)
        for row, (_name, share) in enumerate(ordered):  # beside the axes, where no line crosses a number
            ax.text(1.01, row, f"{share:.1f}", va="center", transform=ax.get_yaxis_transform())
        ax.axvline(100 * right.float().mean().item(), color=plots.VERMILION, ls="--", label=_("all test images"))
        begin = max(0, min(shares.values()) - 10) // 10 * 10
        axis = _("accuracy (%)") if not begin else _("accuracy (%%); the axis begins at %(begin)d") % {"begin": begin}
        ax.set(xlabel=axis, ylabel=label, xlim=(begin, 102))
        ax.grid(False, axis="y")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1))
        total = {"share": f"{100 * right.float().mean().item():.2f}", "n": number(len(split))}
        title = _("%(share)s %% of %(n)s test images are read correctly") % total
        ax.set_title(title, pad=24)
        words = "; ".join(f"{name} {share:.1f} %" for name, share in ordered)
        return plots.picture(fig, f"{title}. " + _("By %(group)s: %(words)s") % {"group": label, "words": words})
