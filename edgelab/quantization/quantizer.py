"""The module that stands where the deployed model will hold integers."""

from typing import Any, cast

import torch
from torch import nn
from torch.nn.utils import parametrize

from edgelab.quantization.affine import QParams
from edgelab.quantization.observers import Observer
from edgelab.quantization.qat import learned_step

MODES = ("float", "observe", "quantize")
_LEAST_SCALE = 1e-8  # a learned scale at or below 0 would turn codes over, or stand for nothing


class FakeQuantize(nn.Module):
    """Let a float tensor through, watch it, or round it to the codes of its grid: `mode` says which.

    `float`: unchanged. `observe`: unchanged, and the observer sees it. `quantize`: rounded and saturated as the
    integers will be. Gradients pass straight through the rounding where nothing saturated, and stop elsewhere; where
    `scale` requires a gradient, it is learned too (see `edgelab.quantization.qat`), and stays above zero. What holds
    no real numbers, as masks and indices, passes unchanged in any mode.

    `state_dict` holds the grid, the mode, and whether the scale is learned.
    """

    zero_point: torch.Tensor

    def __init__(self, observer: Observer):
        super().__init__()
        self.observer, self.spec, self.mode = observer, observer.spec, "observe"
        self.saw_other = False  # something that holds no real numbers
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32))

    @property
    def qparams(self) -> QParams:
        """The grid as `QParams`."""
        return QParams(self._positive_scale().detach(), self.zero_point, self.spec)

    def watch(self) -> None:
        """Observe from now on, and forget what was observed before."""
        self.observer.forget()
        self.mode, self.saw_other = "observe", False

    def freeze(self) -> None:
        """Take the grid from what the observer has seen, and quantize from now on; a learned scale goes on learning."""
        qparams = self.observer.qparams()
        self.scale.data = qparams.scale.clone()  # the same parameter: an optimizer may hold it
        self.zero_point = qparams.zero_point
        self.mode = "quantize"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            self.saw_other = True
            return x
        if self.mode == "observe":
            self.observer.observe(x.detach())
        if self.mode != "quantize":
            return x
        x, spec = x.float(), self.spec
        if self.scale.requires_grad:
            return learned_step(x, self._positive_scale(), self.zero_point, spec)
        if spec.axis is None:
            return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, spec.qmin, spec.qmax)
        return torch.fake_quantize_per_channel_affine(x, self.scale, self.zero_point, spec.axis, spec.qmin, spec.qmax)

    def train(self, mode: bool = True) -> "FakeQuantize":
        self._positive_scale()  # what the last step of training left
        return super().train(mode)

    def _positive_scale(self) -> nn.Parameter:
        """Return the scale, which a step of training may have thrown to the other side of zero: it is put back."""
        if self.scale.requires_grad:
            with torch.no_grad():
                self.scale.clamp_(min=_LEAST_SCALE)
        return self.scale

    def get_extra_state(self) -> torch.Tensor:
        return torch.tensor([MODES.index(self.mode), self.scale.requires_grad], dtype=torch.uint8)

    def set_extra_state(self, state: torch.Tensor) -> None:
        mode, learned = state.tolist()
        self.mode = MODES[mode]
        self.scale.requires_grad_(bool(learned))

    def _load_from_state_dict(self, state_dict: dict[str, torch.Tensor], prefix: str, *rest: Any) -> None:
        # Before calibration nobody knows how many channels there are.
        found = state_dict.get(f"{prefix}scale")
        if found is not None and found.dim() != self.scale.dim() and self.spec.axis is not None:
            self.scale.data, self.zero_point = torch.ones(found.shape), torch.zeros(found.shape, dtype=torch.int32)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        return f"{self.mode}, {self.spec}"


class SameGrid(nn.Module):
    """Round to the grid of another `FakeQuantize`: for what only moves codes, as max pooling and reshaping do."""

    def __init__(self, quantizer: FakeQuantize):
        super().__init__()
        self.quantizer = quantizer
        self.saw_other = False  # pieces, indices: what is no tensor of real numbers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not isinstance(x, torch.Tensor) or not x.is_floating_point():
            self.saw_other = True
            return x
        return self.quantizer(x) if self.quantizer.mode == "quantize" else x


def quantizers(model: nn.Module) -> dict[str, FakeQuantize]:
    """Return the model's `FakeQuantize` modules by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, FakeQuantize)}


def attach(layer: nn.Module, quantizer: FakeQuantize) -> nn.Module:
    """Round the weights of a layer by `quantizer` whenever they are read; return the layer."""
    parametrize.register_parametrization(layer, "weight", quantizer, unsafe=True)
    # torch makes a class for each layer, which no file can name: a file holds what it takes to make it again.
    setattr(type(layer), "__reduce_ex__", _reduce)  # noqa: B010 (to torch's types it is the class of any layer)
    return layer


def _reduce(layer: nn.Module, _protocol: object) -> tuple:
    kind = parametrize.type_before_parametrizations(layer)
    plain, quantizer = cast(Any, kind).__new__(kind), quantizer_of(layer)
    vars(plain).update(vars(layer))
    vars(plain)["_modules"] = {name: part for name, part in layer._modules.items() if name != "parametrizations"}
    original = layer.get_parameter("parametrizations.weight.original")
    vars(plain)["_parameters"] = {**layer._parameters, "weight": original}
    return attach, (plain, quantizer)


def quantizer_of(layer: nn.Module) -> FakeQuantize | None:
    """Return what rounds the weights of a prepared layer, or None where they stay in float."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    quantizer = layer.get_submodule("parametrizations.weight.0")
    return quantizer if isinstance(quantizer, FakeQuantize) else None
