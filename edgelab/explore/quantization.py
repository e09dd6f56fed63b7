"""Lab 02: what rounding to a few bits costs, on the tensors of a real model."""

from html import escape

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgelab.bars import track
from edgelab.explore import plots
from edgelab.explore.explorer import Explorer, choice, slider
from edgelab.explore.html import HtmlTable
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.measure.threads import torch_threads
from edgelab.quantization.affine import QParams, QSpec, choose_qparams, fake_quantize, quantize, sqnr

BITS = tuple(range(2, 9))
CLIPS = (100, 80, 60, 40, 30, 20, 10, 5)
FACTORS = (1, 2, 5, 10, 20, 50, 100)
LAYER = "stages.1.body.1.0"  # one of the baseline's, of middling size, to start from
DB_PER_BIT = 20 * np.log10(2)
_SAMPLE = 20_000


def predict_bit() -> Prediction:
    """Return the prediction of how much one more bit adds to the SQNR of weights, in dB."""
    return predict("02_quantization", "bit", _("one more bit adds"), unit="dB", low=0.5, high=50)


def predict_outlier() -> Prediction:
    """Return the prediction of how much one outlier takes from the SQNR of all other weights, in dB."""
    return predict("02_quantization", "outlier", _("the outlier costs"), unit="dB", low=0.1, high=60)


@torch.no_grad()
def activations(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what a residual network computes from `images` `(N, C, H, W)` at three places, by place.

    `stem`: after the first ReLU; `flatten`: what the classifier reads, `(N, 256)`; `classifier`: the logits.
    """
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        getattr(model, place).register_forward_hook(
            lambda _module, _inputs, out, place=place: seen.update({place: out.detach()})
        )
        for place in ("stem", "flatten", "classifier")
    ]
    try:
        model.eval()(images.to(memory_format=torch.channels_last))
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def example_tensors(model: nn.Module, seen: dict[str, torch.Tensor], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return values of four tensors, 20,000 of each at most, by name: weights, two of its `activations`, `images`."""
    tensors = {
        _("weights"): weights(model)[LAYER],
        _("after the first ReLU"): seen["stem"],
        _("logits"): seen["classifier"],
        _("pixels"): images,
    }
    return {name: _sample(x) for name, x in tensors.items()}


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights of all convolutions and linear layers by the layer's name, output channels first."""
    return {
        name: layer.weight.detach() for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    }


def grid(x: torch.Tensor, spec: QSpec, clip: float = 1.0) -> QParams:
    """Return the grid that spans the range of `x`, or the part `clip` of it, for each channel where `spec` says so."""
    low, high = x.aminmax() if spec.axis is None else x.flatten(1).aminmax(dim=1)
    return choose_qparams(clip * low, clip * high, spec)


def weight_spec(bits: int, per_channel: bool) -> QSpec:
    """Return the grid for weights: symmetric, without the lowest code, as integer runtimes take them."""
    return QSpec(bits, symmetric=True, narrow=True, axis=0 if per_channel else None)


@torch_threads(1)
def sqnr_by_bits(model: nn.Module) -> dict[str, dict[str, list[float]]]:
    """Return the SQNR in dB of every layer's weights at each of `BITS`: `result["per-tensor"][layer][i]`."""
    layers = weights(model)
    result: dict[str, dict[str, list[float]]] = {"per-tensor": {}, "per-channel": {}}
    for layer, weight in track(layers.items(), _("layers")):
        for granularity, rows in result.items():
            specs = [weight_spec(bits, granularity == "per-channel") for bits in BITS]
            rows[layer] = [sqnr(weight, fake_quantize(weight, grid(weight, spec))) for spec in specs]
    return result


def gain_per_bit(rows: dict[str, list[float]], low: int = 4, high: int = 8) -> float:
    """Return how many dB one more bit adds, between `low` and `high` bits, on average over the layers of `rows`."""
    first, last = BITS.index(low), BITS.index(high)
    return float(np.mean([(row[last] - row[first]) / (high - low) for row in rows.values()]))


def with_outlier(weight: torch.Tensor, factor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a copy of `weight` whose first weight is `factor` times its largest, and a mask of all the others."""
    changed, others = weight.clone(), torch.ones_like(weight, dtype=torch.bool)
    changed.view(-1)[0] = factor * weight.abs().max()
    others.view(-1)[0] = False
    return changed, others


@torch_threads(1)
def sqnr_of_others(weight: torch.Tensor, factor: float, spec: QSpec) -> float:
    """Return the SQNR in dB of all weights but one, which `with_outlier` has made `factor` times the largest."""
    changed, others = with_outlier(weight, factor)
    rounded = fake_quantize(changed, grid(changed, spec))
    return sqnr(changed[others], rounded[others])


@torch_threads(1)
def scheme_table(tensors: dict[str, torch.Tensor], bits: int) -> HtmlTable:
    """Return SQNR and codes used of each tensor under three grids: affine, symmetric, and symmetric narrow."""
    schemes = {
        _("affine"): QSpec(bits, signed=False),
        _("symmetric"): QSpec(bits, symmetric=True),
        _("symmetric, narrow"): QSpec(bits, symmetric=True, narrow=True),
    }
    rows = []
    for name, x in tensors.items():
        for scheme, spec in schemes.items():
            qparams = grid(x, spec)
            codes = quantize(x, qparams)
            low, high = int(codes.min()), int(codes.max())
            used = _("%(used)d of %(all)d") % {"used": high - low + 1, "all": 2**bits}
            cells = [escape(scheme), str(int(qparams.zero_point)), f"{low} … {high}", used]
            rows.append([escape(name), *cells, _decibels(sqnr(x, fake_quantize(x, qparams)))])
    heads = [_("tensor"), _("grid"), _("zero point"), _("codes"), _("codes in reach"), _("SQNR (dB)")]
    return HtmlTable([escape(head) for head in heads], rows)


def onnxruntime_linear(q_x, scale_x, z_x, q_weight, scale_w, q_bias, scale_y, z_y) -> torch.Tensor:
    """Return the output codes `(N, O)`, uint8, of ONNX Runtime's integer kernel for a linear layer, QGemm.

    `q_x` `(N, I)` holds uint8 codes, `q_weight` `(O, I)` int8 codes with zero point 0, `q_bias` `(O,)` int32 codes.
    """
    constants = {
        "x_scale": np.float32(scale_x),
        "x_zero_point": np.uint8(z_x),
        "w": q_weight.to(torch.int8).numpy(),
        "w_scale": np.float32(scale_w),
        "w_zero_point": np.int8(0),
        "bias": q_bias.to(torch.int32).numpy(),
        "y_scale": np.float32(scale_y),
        "y_zero_point": np.uint8(z_y),
    }
    node = helper.make_node("QGemm", ["x", *constants], ["y"], domain="com.microsoft", transB=1)
    graph = helper.make_graph(
        [node],
        "integer_linear",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, list(q_x.shape))],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [len(q_x), len(q_weight)])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (codes,) = session.run(None, {"x": q_x.to(torch.uint8).numpy()})
    return torch.from_numpy(codes)


def number_line_explorer(tensors: dict[str, torch.Tensor]) -> Explorer:
    """Return a tensor's values over the grid that they are rounded to: bits, part of the range, affine or symmetric."""
    controls = {
        "name": choice(_("tensor"), list(tensors)),
        "bits": slider(_("bits"), BITS, 4),
        "clip": slider(_("part of the range"), CLIPS[::-1], 100, "%"),
        "symmetric": choice(_("grid"), {_("affine"): False, _("symmetric"): True}, False),
    }
    return Explorer(lambda name, **grid: number_line_plot(tensors[name], **grid), controls)


@torch_threads(1)
def number_line_plot(x: torch.Tensor, bits: int, clip: int, symmetric: bool) -> plots.Picture:
    """Return the histogram of `x` over its grid, with what saturates, above the error of each value."""
    spec = QSpec(bits, symmetric=True, narrow=True) if symmetric else QSpec(bits, signed=False)
    qparams = grid(x, spec, clip / 100)
    scale, zero_point = float(qparams.scale), int(qparams.zero_point)
    levels = (np.arange(spec.qmin, spec.qmax + 1) - zero_point) * scale
    low, high = float(x.min()), float(x.max())
    # Half a step beyond the last code rounds to it still, as it would anywhere on the grid.
    first, last = levels[0] - scale / 2, levels[-1] + scale / 2
    saturated = float(((x < first) | (x > last)).double().mean())
    codes = quantize(x, qparams)
    reach = int(codes.max()) - int(codes.min()) + 1
    left, right = min(low, levels[0]), max(high, levels[-1])
    with plots.figure(height=4.2) as fig:
        top, bottom = fig.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        counts, edges = np.histogram(x.numpy(), bins=80, range=(low, high))
        top.stairs(100 * counts / counts.sum(), edges, fill=True, color=plots.SKY)
        top.set_yscale("symlog", linthresh=1)
        top.set_yticks([0, 1, 10, 100], ["0", "1", "10", "100"])
        top.set(ylim=(0, 130), ylabel=_("values (%)"))
        top.grid(visible=False, axis="x")
        used = (levels > low - scale) & (levels < high + scale)
        for which, colour, height in ((used, plots.BLUE, 0.55), (~used, plots.ORANGE, 0.3)):
            top.vlines(levels[which], 0, height, color=colour, lw=1.4 if bits < 7 else 0.7)
        grey = np.linspace(left, right, 1200)
        error = fake_quantize(torch.from_numpy(grey).float(), qparams).numpy() - grey
        bottom.plot(grey, error, color=plots.BLUE, lw=1)
        bottom.set(xlabel=_("value"), ylabel=_("error"))
        for ax in (top, bottom):
            for start, end in ((low, first), (last, high)):
                if start < end:
                    ax.axvspan(start, end, facecolor="none", edgecolor=plots.VERMILION, hatch="///", lw=0)
        text = _(
            "%(bits)d bits, step %(step).3g: SQNR %(sqnr)s dB\n"
            "%(share).1f %% saturated, %(used)d of %(all)d codes in reach"
        )
        title = text % {
            "bits": bits,
            "step": scale,
            "sqnr": _decibels(sqnr(x, fake_quantize(x, qparams))),
            "share": 100 * saturated,
            "used": reach,
            "all": 2**bits,
        }
        top.set_title(title)
        return plots.picture(fig, title.replace("\n", ", "))


def weights_explorer(model: nn.Module) -> Explorer:
    """Return the weights of a layer on their grid: which layer, how many bits, one scale or one for each channel."""
    layers = weights(model)
    controls = {
        "layer": choice(_("layer"), list(layers)),
        "bits": slider(_("bits"), BITS, 8),
        "per_channel": _granularity(),
    }
    return Explorer(lambda layer, **grid: weights_plot(layers[layer], **grid), controls)


@torch_threads(1)
def weights_plot(weight: torch.Tensor, bits: int, per_channel: bool) -> plots.Picture:
    """Return the range of each output channel inside the range of its codes, and how often each code is used."""
    spec = weight_spec(bits, per_channel)
    qparams = grid(weight, spec)
    low, high = (ends.numpy() for ends in weight.flatten(1).aminmax(dim=1))
    channel = np.arange(len(low))
    reach = (qparams.scale * spec.qmax).expand(len(low)).numpy()
    codes = quantize(weight, qparams)
    counts = torch.bincount(codes.flatten().int() - spec.qmin, minlength=spec.qmax - spec.qmin + 1).numpy()
    with plots.figure(height=3.4) as fig:
        left, right = fig.subplots(1, 2, width_ratios=(3, 2))
        label = _("range of the codes")
        left.fill_between(channel, -reach, reach, step="mid", color=plots.ORANGE, alpha=0.3, lw=0)
        for side in (-reach, reach):
            left.step(channel, side, where="mid", color=plots.ORANGE, lw=1, label=label if side is reach else None)
        left.vlines(channel, low, high, color=plots.BLUE, lw=1.2, label=_("weights"))
        # Room for the legend below the ranges.
        left.set(xlabel=_("output channel"), ylabel=_("weight"), ylim=(-1.5 * reach.max(), 1.1 * reach.max()))
        left.legend(loc="lower center", ncols=2)
        right.stairs(
            100 * counts / counts.sum(), np.arange(spec.qmin, spec.qmax + 2) - 0.5, fill=True, color=plots.BLUE
        )
        right.set(xlabel=_("code"), ylabel=_("weights (%)"))
        text = _("%(bits)d bits: SQNR %(sqnr).1f dB, %(used)d of %(all)d codes used")
        used = int((counts > 0).sum())
        decibels = sqnr(weight, fake_quantize(weight, qparams))
        title = text % {"bits": bits, "sqnr": decibels, "used": used, "all": len(counts)}
        left.set_title(title)
        return plots.picture(fig, title)


def sqnr_explorer(curves: dict[str, dict[str, list[float]]]) -> Explorer:
    """Return the SQNR of every layer at each number of bits, from `sqnr_by_bits`, as lines or as a heat map."""
    controls = {
        "per_channel": _granularity(),
        "draw": choice(_("view"), {_("lines"): sqnr_lines, _("heat map"): sqnr_heat_map}),
    }
    return Explorer(lambda per_channel, draw: draw(curves["per-channel" if per_channel else "per-tensor"]), controls)


def sqnr_lines(rows: dict[str, list[float]]) -> plots.Picture:
    """Return a line for each layer: SQNR in dB over bits, beside the slope of 6.02 dB a bit."""
    with plots.figure(height=3.8) as fig:
        ax = fig.subplots()
        for number, (layer, row) in enumerate(rows.items()):
            marker = plots.MARKERS[number % len(plots.MARKERS)]
            colour = plots.COLOURS[number % len(plots.COLOURS)]
            ax.plot(BITS, row, marker=marker, ms=5, lw=1, color=colour, label=layer)
        start = max(row[-1] for row in rows.values()) + 4
        slope = [start - DB_PER_BIT * (BITS[-1] - bits) for bits in BITS]
        ax.plot(BITS, slope, color=plots.INK, lw=1.5, ls="--", label=_("6.02 dB a bit"))
        ax.set(xlabel=_("bits"), ylabel=_("SQNR (dB)"), xticks=BITS)
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        title = _sqnr_title(rows)
        ax.set_title(title)
        return plots.picture(fig, title)


def sqnr_heat_map(rows: dict[str, list[float]]) -> plots.Picture:
    """Return a table of SQNR in dB, layers by bits, its cells shaded by their value."""
    values = np.array(list(rows.values()))
    with plots.figure(height=3.8) as fig:
        ax = fig.subplots()
        ax.imshow(values, aspect="auto", cmap="cividis", vmin=0, vmax=50)
        for row, column in np.ndindex(values.shape):
            # The ends of cividis are dark blue and light yellow on any page, so their text is no INK.
            colour = "white" if values[row, column] < 25 else "black"
            ax.text(column, row, f"{values[row, column]:.0f}", ha="center", va="center", color=colour)
        ax.set_xticks(range(len(BITS)), BITS)
        ax.set_yticks(range(len(rows)), list(rows))
        ax.grid(visible=False)
        ax.set_xlabel(_("bits"))
        title = _sqnr_title(rows)
        ax.set_title(title)
        return plots.picture(fig, title)


def _sqnr_title(rows: dict[str, list[float]]) -> str:
    eight = [row[-1] for row in rows.values()]
    text = _("SQNR (dB): %(low).0f to %(high).0f at 8 bits; one bit from 4 to 8 adds %(gain).2f")
    return text % {"low": min(eight), "high": max(eight), "gain": gain_per_bit(rows)}


def outlier_explorer(model: nn.Module) -> Explorer:
    """Return what one large weight does to each output channel: the layer, how large, bits, one scale or many."""
    layers = weights(model)
    controls = {
        "layer": choice(_("layer"), list(layers), LAYER),
        "factor": slider(_("outlier, times the largest weight"), FACTORS, 20, "×"),
        "bits": slider(_("bits"), BITS, 8),
        "per_channel": _granularity(),
    }
    return Explorer(lambda layer, **outlier: outlier_plot(layers[layer], **outlier), controls)


@torch_threads(1)
def outlier_plot(weight: torch.Tensor, factor: int, bits: int, per_channel: bool) -> plots.Picture:
    """Return the SQNR of each output channel in dB, with the outlier (in channel 0) and without it."""
    spec = weight_spec(bits, per_channel)
    changed, others = with_outlier(weight, factor)
    rounded = fake_quantize(changed, grid(changed, spec))
    after = sqnr(changed[others], rounded[others])
    without = sqnr(weight, fake_quantize(weight, grid(weight, spec)))
    with plots.figure() as fig:
        ax = fig.subplots()
        channels = range(len(weight))
        before = fake_quantize(weight, grid(weight, spec))
        ax.plot(
            channels, _by_channel(weight, before), ls="", marker="o", ms=4, color=plots.BLUE, label=_("without outlier")
        )
        ax.plot(
            channels,
            _by_channel(changed, rounded, others),
            ls="",
            marker="x",
            ms=5,
            color=plots.VERMILION,
            label=_("with outlier"),
        )
        ax.axhline(0, color=plots.INK, lw=1, ls=":")
        ax.set(xlabel=_("output channel"), ylabel=_("SQNR of the other weights (dB)"))
        ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
        text = _("all other weights: %(without).1f dB without the outlier, %(after).1f dB with it")
        title = text % {"without": without, "after": after}
        ax.set_title(title)
        return plots.picture(fig, title)


def _by_channel(weight: torch.Tensor, rounded: torch.Tensor, counted: torch.Tensor | None = None) -> np.ndarray:
    """Return the SQNR in dB of each output channel, over the weights that are `counted`."""
    counted = torch.ones_like(weight) if counted is None else counted.float()
    signal = (weight.square() * counted).flatten(1).sum(1)
    noise = ((weight - rounded).square() * counted).flatten(1).sum(1)
    return (10 * torch.log10(signal / noise.clamp(min=torch.finfo(torch.float32).tiny))).numpy()


def _decibels(value: float) -> str:
    return "∞" if value == float("inf") else f"{value:.1f}"


def _granularity():
    return choice(_("scales"), {_("one per tensor"): False, _("one per channel"): True}, False)


def _sample(x: torch.Tensor) -> torch.Tensor:
    """Return at most `_SAMPLE` values of `x`, evenly spaced in memory, its smallest and its largest among them."""
    values = x.detach().flatten()
    step = -(-len(values) // _SAMPLE)
    return torch.cat([values[::step], values.min()[None], values.max()[None]])
