"""Before a file takes its name, it is asked whether ONNX Runtime computes from it what the model computes.

A network without margins, as an untrained one, makes much of one code that rounds to the other neighbour; so outputs
alone tell little. Each operation is judged by itself: from the codes that ONNX Runtime itself has reached, the
reference must come to the next ones, to a step.
"""

from typing import Any

import onnx
import torch
from torch import fx, nn

from edgelab.data.inputs import run_on
from edgelab.deploy.kernels import as_kernels
from edgelab.deploy.runner import every_value
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.quantization.conversion import activation_grids
from edgelab.quantization.quantizer import FakeQuantize

_FLOAT_TOLERANCE = 1e-3  # of the largest value; another order of additions makes about 1e-5
_STEPS = 1.01  # one code and the rounding of its real number


@torch.inference_mode()
def must_agree(model: nn.Module, proto: onnx.ModelProto, example: torch.Tensor) -> None:
    """Raise `EdgelabError` unless ONNX Runtime computes from `proto` what `model` does.

    It is asked on `example` and on noise as strong, twice. Codes may differ by one, floats by a thousandth of the
    largest. Also raise for outputs that are not finite.
    """
    generator = torch.Generator().manual_seed(0)
    strength, middle = example.std(correction=0), example.mean()
    trials = [example, *(middle + strength * torch.randn(example.shape, generator=generator) for _trial in range(2))]
    grids = activation_grids(model) if isinstance(model, fx.GraphModule) else {}
    reference = as_kernels(model) if isinstance(model, fx.GraphModule) else model
    roundings = [node for node in proto.graph.node if node.op_type == "QuantizeLinear"] if grids else []
    names = [node.output[0] for node in roundings]
    output = proto.graph.output[0].name
    runs = every_value(proto, [*names, output], trials)
    for images, (*codes, got) in zip(trials, runs, strict=True):
        if isinstance(reference, fx.GraphModule) and grids:
            by_scale: dict[str, list[torch.Tensor]] = {}
            for node, reached in zip(roundings, codes, strict=True):
                by_scale.setdefault(node.input[1], []).append(reached)
            step_by_step = _StepByStep(reference, grids, by_scale)
            expected = run_on(step_by_step.run, images.clone())
            for name, apart in step_by_step.apart.items():
                _refuse(apart, name)
        else:
            expected = run_on(reference, images.clone())
        if not (torch.isfinite(expected).all() and torch.isfinite(got).all()):
            raise EdgelabError(_("The model gives infinities or NaN for this example: look for where they come from."))
        apart = _largest(expected, got)
        if not apart <= _FLOAT_TOLERANCE * float(expected.abs().max()) + 1e-6:
            _refuse(apart, "output")


def _largest(expected: torch.Tensor, got: torch.Tensor) -> float:
    """Return the largest difference: infinite between different shapes, NaN where there is one."""
    return float((got - expected).abs().max()) if got.shape == expected.shape else torch.inf


def _refuse(apart: float, place: str) -> None:
    raise EdgelabError(
        _("ONNX Runtime does not compute from the file what the model does: %(most).3g apart at %(place)s.")
        % {"most": apart, "place": place}
    )


class _StepByStep(fx.Interpreter):
    """Runs the reference, and after each rounding goes on from the codes that ONNX Runtime has there.

    `apart` has the differences of more than a step, by the name of what was rounded.
    """

    def __init__(
        self, reference: fx.GraphModule, grids: dict[str, FakeQuantize], by_scale: dict[str, list[torch.Tensor]]
    ):
        super().__init__(reference)
        self.grids, self.apart = grids, dict[str, float]()
        self.reached: dict[fx.Node, torch.Tensor] = {}
        for grid in set(grids.values()):
            names = [name for name, own in grids.items() if own is grid]
            nodes = [node for node in reference.graph.nodes if node.op == "call_module" and node.target in names]
            codes = next((found for name in names if (found := by_scale.get(f"{name}.scale"))), [])
            if len(nodes) == len(codes):  # the exporter may have made one of two that are the same
                self.reached |= dict(zip(nodes, codes, strict=True))

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n not in self.reached:
            return value
        qparams = self.grids[str(n.target)].qparams
        codes = self.reached[n]
        if codes.dim() == 4 and codes.shape[1] > value.shape[1]:
            codes = codes[:, : value.shape[1]]  # the picture, with channels of zeros beside its own
        if codes.numel() == value.numel():
            codes = codes.reshape(value.shape)  # flattened tokens
        reached = (codes.to(torch.int32) - qparams.zero_point).float() * qparams.scale
        largest = _largest(value, reached)
        if not largest <= _STEPS * float(qparams.scale):
            self.apart[n.name.removeprefix("quantize_")] = largest
        return reached
