"""Training for few bits: what the learner's functions give, and what became of each training."""

import copy
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path

import torch
from torch import nn

from edgelab import data
from edgelab.course.check import ask, guarded
from edgelab.explore.html import HtmlTable
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.numbers import number
from edgelab.quantization import (
    QuantizationConfig,
    calibrate,
    convert,
    prepare,
)
from edgelab.quantization.graph import Weighted
from edgelab.train import evaluate

LAB = "04_qat"


CALIBRATION_IMAGES = 256


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
    print(_("largest difference of gradients: %(d).2g") % {"d": (my_gradient - their_gradient).abs().max()})


@dataclass(frozen=True)
class Outcome:
    """What became of one training: accuracies in [0, 1] on the test images, and what kind of thing came back.

    `codes` is the largest number of different weights that any channel of `returned` (a model, or not) has.
    """

    returned: object
    bits: int
    float_accuracy: float
    untrained: float
    trained: float
    codes: int


class Study:
    """One float model, the images it learns from (`lessons`) and is judged on (`exam`): each figure is measured once.

    `train(model, lessons, bits)` is the learner's function; what it returned is kept by function and bits.
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
        return Outcome(returned, bits, self.float_accuracy, untrained, accuracy, codes)

    def codes(self, train: Callable, bits: int, lessons: int) -> int:
        """Return by how many codes at most a channel is told, once `train` has trained on the first few `lessons`."""
        model = train(copy.deepcopy(self.model), self.lessons[:lessons], bits)
        return distinct_weights(model) if isinstance(model, nn.Module) else 0

    def _train(self, train: Callable, bits: int) -> tuple[object, float]:
        key = (train, bits)
        if key not in self._trained:
            model = train(copy.deepcopy(self.model), self.lessons, bits)
            self._trained[key] = (model, evaluate(model, self.exam) if isinstance(model, nn.Module) else 0.0)
        return self._trained[key]


@torch.no_grad()
def distinct_weights(model: nn.Module) -> int:
    """Return the largest number of different weights that an output channel of any layer has, as it uses them."""
    layers = [layer for layer in model.modules() if isinstance(layer, Weighted)]
    return max((len(channel.unique()) for layer in layers for channel in layer.weight.flatten(1)), default=0)


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
