"""Training for few bits: what the learner's functions give, and what became of each training."""

import copy
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import torch
from torch import nn

from edgelab import data
from edgelab.bars import track
from edgelab.course.check import ask, guarded
from edgelab.deploy import Parity
from edgelab.explore.html import HtmlTable
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.measure import share_half_width
from edgelab.numbers import number
from edgelab.quantization import (
    QuantizationConfig,
    calibrate,
    convert,
    fold_batchnorm,
    prepare,
    sensitivity,
    sqnr,
)
from edgelab.quantization.graph import Weighted
from edgelab.train import evaluate, remembering

LAB = "04_qat"


CALIBRATION_IMAGES = 256
CHOICES = range(2, 9)  # bits of a layer's weights
MODELS = "models"  # in the learner's folder: what was trained lies there, and need not be trained again


def predict_untrained() -> Prediction:
    """Return the prediction of the accuracy of 3-bit weights without training, in per cent."""
    return predict(LAB, "ptq-3-bits", _("accuracy with 3 bits, untrained"), unit="%", low=5, high=100)


def predict_won_back() -> Prediction:
    """Return the prediction of how many points training wins back at 3 bits."""
    return predict(LAB, "won-back-3-bits", _("points that training wins back"), low=1, high=90)


def probe(function: Callable) -> tuple[Callable, Callable]:
    """Return what `function`, of a tensor, does to plain numbers: its values, and its gradients.

    `values(points, *options)` is a list; `gradients(points, incoming, *options)` is the list of what comes out
    backwards, by each point, when `incoming`, a list as long, goes in.
    """
    name = getattr(function, "__name__", "function")

    def values(points: list[float], *options: float) -> object:
        out = ask(function, torch.tensor(points), *options)
        return out.detach() if isinstance(out, torch.Tensor) else out

    def gradients(points: list[float], incoming: list[float], *options: float) -> list[float]:
        x = torch.tensor(points, requires_grad=True)
        out = ask(function, x, *options)
        if not getattr(out, "requires_grad", False):  # cut off from x: no gradient arrives
            return [0.0] * len(points)
        guarded(gradients.__name__, out.backward, torch.tensor(incoming))
        return [0.0] * len(points) if x.grad is None else x.grad.tolist()

    values.__name__ = name
    gradients.__name__ = _("the gradient of %(function)s") % {"function": name}
    return values, gradients


def against_torch(answer: Callable) -> None:
    """Print how far a learner's `fake_quantize(x, scale, qmin, qmax)` is from torch's own, forwards and backwards."""
    points = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    results = []
    for function in (answer, lambda x, s, low, high: torch.fake_quantize_per_tensor_affine(x, s, 0, low, high)):
        x = points.clone().requires_grad_()
        y = function(x, 0.25, -7, 7)
        (gradient,) = torch.autograd.grad(y.square().sum(), x)
        results.append((y.detach(), gradient))
    (mine, my_gradient), (theirs, their_gradient) = results
    print(_("largest difference of values:    %(d).2g") % {"d": (mine - theirs).abs().max()})
    apart = my_gradient != their_gradient
    print(_("largest difference of gradients: %(d).2g") % {"d": (my_gradient - their_gradient).abs().max()})
    beyond = points.abs() / 0.25 - 7
    if apart.any() and bool(((beyond[apart] > 0) & (beyond[apart] <= 0.5)).all()):
        text = _("They differ for %(n)d of %(all)s numbers, all within half a step beyond the last code.")
        print(text % {"n": int(apart.sum()), "all": number(len(points))})


@dataclass(frozen=True)
class Outcome:
    """What became of one training: accuracies in [0, 1] on the test images, and what kind of thing came back.

    `codes` is the largest number of different weights that any channel of `returned` (a model, or not) has; `moved`
    is whether a weight of it is other than before the training.
    """

    returned: object
    bits: int
    float_accuracy: float
    untrained: float
    trained: float
    codes: int
    moved: bool

    def __str__(self) -> str:
        """Return the three accuracies as a sentence in the learner's language."""
        text = _("In float %(float).1f %%, with %(bits)d bits untrained %(untrained).1f %%, trained %(trained).1f %%.")
        shares = {"float": self.float_accuracy, "untrained": self.untrained, "trained": self.trained}
        return text % {"bits": self.bits, **{name: 100 * share for name, share in shares.items()}}


class Study:
    """One float model, the images it learns from (`lessons`) and is judged on (`exam`): each figure is measured once.

    `train(model, lessons, bits)` is the learner's function; what it returned is kept by function and bits. Trainings
    are kept on disk as well, and one that was interrupted is none.
    """

    def __init__(self, model: nn.Module, lessons: data.Split, exam: data.Split):
        self.model, self.lessons, self.exam = model, lessons, exam
        self.float_accuracy = evaluate(model, exam)
        self._ptq: dict[QuantizationConfig, float] = {}
        self._trained: dict[tuple[Callable, int], tuple[object, float]] = {}

    def ptq(self, config: QuantizationConfig) -> float:
        """Return the accuracy that `config` leaves without training, in [0, 1]."""
        if config not in self._ptq:
            images = data.normalize(self.lessons.images[:CALIBRATION_IMAGES])
            self._ptq[config] = evaluate(convert(calibrate(prepare(self.model, config), images)), self.exam)
        return self._ptq[config]

    def ptq_table(self, choices: Sequence[int]) -> HtmlTable:
        """Return the accuracies in float and with so many bits, untrained, each ± half its 95 % interval."""
        shares = {_("float"): self.float_accuracy}
        shares |= {
            _("%(n)d bits") % {"n": bits}: self.ptq(QuantizationConfig(bits, weight_observer="mse")) for bits in choices
        }
        rows = [
            [escape(name), f"{100 * share:.1f} ± {100 * share_half_width(share, len(self.exam)):.1f}"]
            for name, share in shares.items()
        ]
        return HtmlTable([_("weights"), _("accuracy, 95 % interval (%)")], rows)

    def mixed(self, bits: Mapping[str, int]) -> float:
        """Return the accuracy with so many bits for the weights of each layer, without training, in [0, 1]."""
        prepared = prepare(self.model, QuantizationConfig(weight_observer="mse"))
        for name, layer in prepared.named_modules():
            if name in bits:
                config = QuantizationConfig(bits[name], weight_observer="mse")
                layer.parametrizations.weight[0] = config.weight_quantizer()
        images = data.normalize(self.lessons.images[:CALIBRATION_IMAGES])
        return evaluate(convert(calibrate(prepared, images)), self.exam)

    def layer_noise(self) -> dict[str, dict[int, float]]:
        """Return, by layer and bits, the noise in the logits when that layer's weights alone have so few bits.

        It is the power of the error, as a share of the power of the logits.
        """
        images = data.normalize(self.lessons.images[:64])
        with torch.inference_mode():
            reference = fold_batchnorm(self.model)(images)
        found: dict[str, dict[int, float]] = {}
        for bits in track(CHOICES, _("one layer at a time")):
            config = QuantizationConfig(bits, activation_bits=None, weight_observer="mse")

            @torch.inference_mode()
            def quality(quantized: nn.Module) -> float:
                return sqnr(reference, quantized(images))

            scores = sensitivity(calibrate(prepare(self.model, config), images[:1]), quality, progress=False)
            for layer, score in scores.items():
                found.setdefault(layer, {})[bits] = 10 ** (-score / 10)
        return found

    def layer_sizes(self) -> dict[str, int]:
        """Return the number of weights of each layer by its name."""
        folded = fold_batchnorm(self.model)
        return {name: layer.weight.numel() for name, layer in folded.named_modules() if isinstance(layer, Weighted)}

    def trained(self, train: Callable, bits: int) -> object:
        """Return what `train(model, lessons, bits)` returns; the first call trains."""
        return self._train(train, bits)[0]

    def accuracy(self, train: Callable, bits: int) -> float:
        """Return the accuracy of `trained(train, bits)`, in [0, 1]."""
        return self._train(train, bits)[1]

    def outcome(self, train: Callable, bits: int) -> Outcome:
        """Return all that a check needs to know of `trained(train, bits)`."""
        returned, accuracy = self._train(train, bits)
        codes = distinct_weights(returned) if isinstance(returned, nn.Module) else 0
        untrained = self.ptq(QuantizationConfig(bits, weight_observer="mse"))
        moved = isinstance(returned, nn.Module) and weights_differ(returned, prepare(self.model))
        return Outcome(returned, bits, self.float_accuracy, untrained, accuracy, codes, moved)

    def codes(self, train: Callable, bits: int, lessons: int) -> int:
        """Return by how many codes at most a channel is told, once `train` has trained on the first few `lessons`."""
        with remembering(MODELS):
            model = train(copy.deepcopy(self.model), self.lessons[:lessons], bits)
        return distinct_weights(model) if isinstance(model, nn.Module) else 0

    def _train(self, train: Callable, bits: int) -> tuple[object, float]:
        key = (train, bits)
        if key not in self._trained:
            with remembering(MODELS):
                model = train(copy.deepcopy(self.model), self.lessons, bits)
            self._trained[key] = (model, evaluate(model, self.exam) if isinstance(model, nn.Module) else 0.0)
        return self._trained[key]


def weights_differ(model: nn.Module, other: nn.Module) -> bool:
    """Return whether two prepared models differ in a float weight, or have others; scales do not count."""
    mine, theirs = ({name: value for name, value in one.named_parameters() if name.endswith("weight.original")}
                    for one in (model, other))  # fmt: skip
    return mine.keys() != theirs.keys() or not all(torch.equal(mine[name], theirs[name]) for name in mine)


@torch.no_grad()
def distinct_weights(model: nn.Module) -> int:
    """Return the largest number of different weights that an output channel of any layer has, as it uses them."""
    layers = [layer for layer in model.modules() if isinstance(layer, Weighted)]
    return max((len(channel.unique()) for layer in layers for channel in layer.weight.flatten(1)), default=0)


def spending_table(study: Study, same: Mapping[str, int], own: Mapping[str, int]) -> HtmlTable:
    """Return the bytes and the accuracy of two plans, bits by layer, untrained; with the bits that each layer gets."""
    sizes, rows = study.layer_sizes(), []
    for name, bits in ((_("the same for all"), same), (_("your plan"), own)):
        kib = sum(sizes[layer] * bits[layer] for layer in sizes) / 8 / 1024
        spent = " ".join(str(bits[layer]) for layer in sizes)
        rows.append([escape(name), spent, number(kib, ".1f"), f"{100 * study.mixed(bits):.1f}"])
    return HtmlTable([_("plan"), _("bits, from the first layer to the last"), "KiB", _("accuracy (%)")], rows)


def parity_table(parity: Parity, trained: float, converted: float, running: float) -> HtmlTable:
    """Return the accuracy of a model as trained, converted, and running, and how far its logits are from ONNX's."""
    rows = [
        [_("accuracy, as trained (%)"), f"{100 * trained:.2f}"],
        [_("accuracy, converted (%)"), f"{100 * converted:.2f}"],
        [_("accuracy, in ONNX Runtime (%)"), f"{100 * running:.2f}"],
        [_("same class, converted and in ONNX Runtime (%)"), f"{100 * parity.agreement:.1f}"],
        [_("range of the logits"), f"{parity.span:.3g}"],
        [_("largest difference of a logit"), f"{parity.largest:.2g}"],
    ]
    return HtmlTable([_("model"), ""], [[escape(name), value] for name, value in rows])


def file_table(files: dict[str, tuple[str | Path, int]], model: nn.Module) -> HtmlTable:
    """Return what each file takes as it is, zipped, and what its weights would take packed; files as (path, bits)."""
    params = sum(layer.weight.numel() for layer in model.modules() if isinstance(layer, Weighted))
    rows = []
    for name, (path, bits) in files.items():
        content = Path(path).read_bytes()
        sizes = (len(content), len(zlib.compress(content, 9)), params * bits / 8)
        rows.append([escape(name), *(number(size / 1024, ".1f") for size in sizes)])
    heads = [_("model"), _("file (KiB)"), _("zipped (KiB)"), _("weights alone, packed (KiB)")]
    return HtmlTable([escape(head) for head in heads], rows)
