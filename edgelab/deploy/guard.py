"""Before a file takes its name, it is asked whether its runtime computes from it what the model computes.

A network without margins, as an untrained one, makes much of one code that rounds to the other neighbour; so outputs
alone tell little. Each operation is judged by itself: from the codes that the runtime itself has reached, the reference
must come to the next ones, to a step.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

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
from edgelab.tracing import trials_like

_FLOAT_TOLERANCE = 1e-3  # of the largest value; another order of additions makes about 1e-5
STEPS = 1.01  # one code and the rounding of its real number


@torch.inference_mode()
def must_agree(model: nn.Module, proto: onnx.ModelProto, example: torch.Tensor) -> None:
    """Raise `EdgelabError` unless ONNX Runtime computes from `proto` what `model` does.

    It is asked on `example` and on noise as strong, twice. Codes may differ by one, floats by a thousandth of the
    largest. Also raise for outputs that are not finite.
    """
    trials = trials_like(example, noises=2)
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
            expected = by_steps(reference, images, _by_node(reference, grids, by_scale), "ONNX Runtime")
        else:
            expected = run_on(reference, images.clone())
        must_be_close(expected, got, "ONNX Runtime")


def must_be_close(expected: torch.Tensor, got: torch.Tensor, runtime: str) -> None:
    """Raise `EdgelabError` for outputs that are not finite, or further apart than another order of additions makes."""
    if not (torch.isfinite(expected).all() and torch.isfinite(got).all()):
        raise EdgelabError(_("The model gives infinities or NaN for this example: look for where they come from."))
    apart = _largest(expected, got)
    if not apart <= _FLOAT_TOLERANCE * float(expected.abs().max()) + 1e-6:
        _refuse(apart, "output", runtime)


class Reached(NamedTuple):
    """What a runtime has come to where the model rounds, in real numbers, and how far from it the model may be."""

    numbers: torch.Tensor
    tolerance: float


def by_steps(
    reference: fx.GraphModule, images: torch.Tensor, reached: Mapping[str, Reached], runtime: str
) -> torch.Tensor:
    """Return what `reference` gives for `images`, going on after each rounding from what the runtime has there.

    `reached` is known by the names of the nodes that round. Raise `EdgelabError` where an operation comes to something
    else than the runtime.
    """
    run = _StepByStep(reference, reached)
    expected = run_on(run.run, images.clone())
    for name, apart in run.apart.items():
        _refuse(apart, name, runtime)
    return expected


def _by_node(
    reference: fx.GraphModule, grids: dict[str, FakeQuantize], by_scale: dict[str, list[torch.Tensor]]
) -> dict[str, Reached]:
    """Return what ONNX Runtime has reached, by the nodes that round.

    Codes are known by the scale that their QuantizeLinear reads: several nodes may round to one grid.
    """
    reached: dict[str, Reached] = {}
    for grid in set(grids.values()):
        names = [name for name, own in grids.items() if own is grid]
        nodes = [node for node in reference.graph.nodes if node.op == "call_module" and node.target in names]
        codes = next((found for name in names if (found := by_scale.get(f"{name}.scale"))), [])
        if len(nodes) == len(codes):  # the exporter may have made one of two that are the same
            qparams = grid.qparams
            for node, own in zip(nodes, codes, strict=True):
                numbers = (own.to(torch.int32) - qparams.zero_point).float() * qparams.scale
                reached[node.name] = Reached(numbers, STEPS * float(qparams.scale))
    return reached


def _largest(expected: torch.Tensor, got: torch.Tensor) -> float:
    """Return the largest difference: infinite between different shapes, NaN where there is one."""
    return float((got - expected).abs().max()) if got.shape == expected.shape else torch.inf


def _refuse(apart: float, place: str, runtime: str) -> None:
    raise EdgelabError(
        _("%(runtime)s does not compute from the file what the model does: %(most).3g apart at %(place)s.")
        % {"runtime": runtime, "most": apart, "place": place}
    )


class _StepByStep(fx.Interpreter):
    """Runs the reference, and after each rounding goes on from the numbers that the runtime has there.

    `apart` has the differences beyond the tolerance, by the name of what was rounded.
    """

    def __init__(self, reference: fx.GraphModule, reached: Mapping[str, Reached]):
        super().__init__(reference)
        self.reached, self.apart = reached, dict[str, float]()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.name not in self.reached:
            return value
        numbers, tolerance = self.reached[n.name]
        if numbers.dim() == 4 and numbers.shape[1] > value.shape[1]:
            numbers = numbers[:, : value.shape[1]]  # the picture, with channels of zeros beside its own
        if numbers.numel() == value.numel():
            numbers = numbers.reshape(value.shape)  # flattened tokens
        largest = _largest(value, numbers)
        if not largest <= tolerance:
            self.apart[n.name.removeprefix("quantize_")] = largest
        return numbers
