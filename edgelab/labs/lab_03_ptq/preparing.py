"""What stands before the integers: batch norm folded, and the ranges of activations."""

from collections.abc import Callable, Iterator, Sequence
from html import escape

import torch
from torch import nn

from edgelab.explore import plots
from edgelab.explore.html import HtmlTable
from edgelab.i18n import _
from edgelab.quantization import (
    QSpec,
    choose_qparams,
    fake_quantize,
    sqnr,
)


@torch.inference_mode()
def fold_table(model: nn.Module, fold: Callable) -> HtmlTable:
    """Return how well the learner's `fold` replaces every convolution of `model` that has a batch norm behind it.

    `fold` takes weight, bias, mean, var, gamma, beta and eps, and returns weight and bias. Differences are relative to
    the largest output.
    """
    rows = []
    for name, conv, norm in _normalized_convolutions(model):
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
        weight, bias = fold(conv.weight, bias, norm.running_mean, norm.running_var, norm.weight, norm.bias, norm.eps)
        noise = torch.randn(8, conv.in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
        expected = norm(conv(noise))
        got = nn.functional.conv2d(noise, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        far = float((got - expected).abs().max() / expected.abs().max())
        ratios = [_spread(conv.weight), _spread(weight)]
        mark = "✓" if far < 1e-4 else "✗"
        rows.append([f"<code>{escape(name)}</code>", f"{mark} {far:.1e}", *(f"{ratio:.1f}" for ratio in ratios)])
    heads = [
        _("convolution"),
        _("largest relative difference"),
        _("spread of the channels, before"),
        _("spread of the channels, folded"),
    ]
    return HtmlTable(list(map(escape, heads)), rows)


def _normalized_convolutions(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d, nn.BatchNorm2d]]:
    """Yield (name, convolution, batch norm) for each pair that stands side by side in a Sequential."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Sequential):
            for place, (conv, norm) in enumerate(zip(module, list(module)[1:], strict=False)):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    yield f"{name}.{place}", conv, norm


def _spread(weight: torch.Tensor) -> float:
    ranges = weight.detach().abs().flatten(1).amax(1)
    return float(ranges.max() / ranges.median())


@torch.inference_mode()
def activations(model: nn.Module, layer: str, images: torch.Tensor, *, batch_size: int = 16) -> list[torch.Tensor]:
    """Return what `layer` of `model` puts out for `images`, a tensor for each batch."""
    seen = []
    hook = model.get_submodule(layer).register_forward_hook(lambda _layer, _inputs, output: seen.append(output.clone()))
    try:
        for batch in images.split(batch_size):
            model(batch)
    finally:
        hook.remove()
    return seen


def range_plot(
    batches: Sequence[torch.Tensor], minmax: tuple[float, float], percentile: tuple[float, float]
) -> plots.Picture:
    """Return a histogram of the activations in `batches` with two clipping ranges, and what each of them costs.

    The cost is the SQNR in dB of the values after rounding within the range, at 8 and at 4 bits.
    """
    values = torch.cat([batch.flatten() for batch in batches])
    ranges = {_("min-max"): minmax, _("percentile"): percentile}
    with plots.figure(height=3.6) as fig:
        ax = fig.subplots()
        counts, edges = torch.histogram(values, 80)
        ax.stairs(counts.numpy(), edges.numpy(), fill=True, color=plots.SKY, alpha=0.7)
        lines = []
        styles = zip(ranges.items(), (plots.BLUE, plots.VERMILION), ("-", "--"), strict=True)
        for (name, (low, high)), colour, style in styles:
            cost = {
                bits: sqnr(values, fake_quantize(values, choose_qparams(low, high, QSpec(bits, signed=False))))
                for bits in (8, 4)
            }
            text = _("%(name)s: %(low).2f to %(high).2f; %(eight).1f dB at 8 bits, %(four).1f dB at 4")
            label = text % {"name": name, "low": low, "high": high, "eight": cost[8], "four": cost[4]}
            lines.append(label)
            for number, edge in enumerate((low, high)):
                ax.axvline(edge, color=colour, ls=style, lw=2, label=None if number else label)
        ax.set(xlabel=_("activation"), ylabel=_("number of values"), yscale="log")
        plots.logarithmic(ax.yaxis)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1))
        return plots.picture(fig, "; ".join(lines))
