"""The module that stands where the deployed model will hold integers."""

import torch
from torch import nn
from torch.nn.utils import parametrize

from edgelab.quantization.affine import QParams
from edgelab.quantization.observers import Observer
from edgelab.quantization.qat import learned_step


class FakeQuantize(nn.Module):
    """Let a float tensor through, watch it, or round it to the codes of its grid: `mode` says which.

    `float`: unchanged. `observe`: unchanged, and the observer sees it. `quantize`: rounded and saturated as the
    integers will be. Gradients pass straight through the rounding where nothing saturated, and stop elsewhere; where
    `scale` requires a gradient, it is learned too (see `edgelab.quantization.qat`).
    """

    zero_point: torch.Tensor

    def __init__(self, observer: Observer):
        super().__init__()
        self.observer, self.spec, self.mode = observer, observer.spec, "observe"
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self.register_buffer("zero_point", torch.zeros((), dtype=torch.int32))

    @property
    def qparams(self) -> QParams:
        """The grid as `QParams`."""
        return QParams(self.scale.detach(), self.zero_point, self.spec)

    def watch(self) -> None:
        """Observe from now on, and forget what was observed before."""
        self.observer.forget()
        self.mode = "observe"

    def freeze(self) -> None:
        """Take the grid from what the observer has seen, and quantize from now on."""
        qparams = self.observer.qparams()
        self.scale = nn.Parameter(qparams.scale, requires_grad=False)
        self.zero_point = qparams.zero_point
        self.mode = "quantize"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mode == "observe":
            self.observer.observe(x.detach())
        if self.mode != "quantize":
            return x
        x, spec = x.float(), self.spec
        if self.scale.requires_grad:
            return learned_step(x, self.scale, self.zero_point, spec)
        if spec.axis is None:
            return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, spec.qmin, spec.qmax)
        return torch.fake_quantize_per_channel_affine(x, self.scale, self.zero_point, spec.axis, spec.qmin, spec.qmax)

    def extra_repr(self) -> str:
        return f"{self.mode}, {self.spec}"


class SameGrid(nn.Module):
    """Round to the grid of another `FakeQuantize`: for what only moves codes, as max pooling and reshaping do."""

    def __init__(self, quantizer: FakeQuantize):
        super().__init__()
        self.quantizer = quantizer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.quantizer(x) if self.quantizer.mode == "quantize" else x


def quantizer_of(layer: nn.Module) -> FakeQuantize | None:
    """Return what rounds the weights of a prepared layer, or None where they stay in float."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    quantizer = layer.get_submodule("parametrizations.weight.0")
    return quantizer if isinstance(quantizer, FakeQuantize) else None
