"""What rounding to a few bits costs on the tensors of a real model, in figures."""

from html import escape

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgelab.bars import track
from edgelab.deploy.runner import session_options
from edgelab.explore.html import HtmlTable
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.measure.threads import torch_threads
from edgelab.numbers import NO_BREAK, number
from edgelab.quantization.affine import QParams, QSpec, choose_qparams, fake_quantize, quantize, sqnr

BITS = tuple(range(2, 9))


LAYER = "stages.1.body.1.0"  # one of the baseline's, of middling size, to start from


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


def outlier_loss(model: nn.Module, per_channel: bool, *, factor: float = 20, bits: int = 8) -> float:
    """Return how many dB of SQNR one outlier in `LAYER` takes from all other weights of it."""
    weight, spec = weights(model)[LAYER], weight_spec(bits, per_channel)
    return sqnr_of_others(weight, 1, spec) - sqnr_of_others(weight, factor, spec)


def agreement_table(mine: torch.Tensor, theirs: torch.Tensor, real: torch.Tensor, floats: torch.Tensor) -> HtmlTable:
    """Return how codes `mine` agree with `theirs`, and the logits that they stand for, `real`, with those in floats."""
    difference = (mine.int() - theirs.int()).abs()
    same = float((real.argmax(1) == floats.argmax(1)).float().mean())
    rows = [
        [_("codes"), number(mine.numel())],
        [_("equal to those of ONNX Runtime"), number(int((difference == 0).sum()))],
        [_("largest difference"), str(int(difference.max()))],
        [_("SQNR against the float layer (dB)"), decibels(sqnr(floats, real))],
        [_("same answer as the float layer (%)"), f"{100 * same:.1f}"],
    ]
    return HtmlTable([_("your integers"), ""], [[escape(name), value] for name, value in rows])


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
            cells = [escape(scheme), str(int(qparams.zero_point)), f"{low}{NO_BREAK}…{NO_BREAK}{high}", used]
            rows.append([escape(name), *cells, decibels(sqnr(x, fake_quantize(x, qparams)))])
    heads = [_("tensor"), _("grid"), _("zero point"), _("codes"), _("codes in reach"), _("SQNR (dB)")]
    return HtmlTable([escape(head) for head in heads], rows)


def onnxruntime_linear(
    q_x: torch.Tensor,
    scale_x: float,
    z_x: int,
    q_weight: torch.Tensor,
    scale_w: float,
    q_bias: torch.Tensor,
    scale_y: float,
    z_y: int,
) -> torch.Tensor:
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
    content, providers = model.SerializeToString(), ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(content, session_options(), providers=providers)
    (codes,) = session.run(None, {"x": q_x.to(torch.uint8).numpy()})
    return torch.from_numpy(codes)


def decibels(value: float) -> str:
    """Return an SQNR in dB as text."""
    return "∞" if value == float("inf") else f"{value:.1f}"


def _sample(x: torch.Tensor) -> torch.Tensor:
    """Return at most `_SAMPLE` values of `x`, evenly spaced in memory, its smallest and its largest among them."""
    values = x.detach().flatten()
    step = -(-len(values) // _SAMPLE)
    return torch.cat([values[::step], values.min()[None], values.max()[None]])
