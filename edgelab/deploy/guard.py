"""Before a file takes its name: does ONNX Runtime compute from it what the model computes?"""

from collections.abc import Callable

import torch
from torch import fx

from edgelab.deploy.runner import Runner
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.quantization.conversion import grid_of
from edgelab.quantization.faithful import run_on

_FLOAT_TOLERANCE = 1e-3  # of the largest output; another order of additions makes about 1e-5


def output_step(model: fx.GraphModule) -> float:
    """Return the step of the grid on which a model's output lies, or 0 where its last operations are in float."""
    (output,) = (node for node in model.graph.nodes if node.op == "output")
    source = output.args[0]
    grid = grid_of(model, source) if isinstance(source, fx.Node) else None
    return 0.0 if grid is None else float(grid.scale)


@torch.inference_mode()
def must_agree(
    reference: Callable[[torch.Tensor], object], runner: Runner, example: torch.Tensor, *, step: float | None
) -> None:
    """Raise `EdgelabError` unless `runner` gives what `reference` does, on `example` and on noise as strong.

    `step` is that of the output's grid, 0 where a quantized model ends in float (a 255th of the outputs' span stands
    for it then), None where nothing is quantized. On average outputs may lie a step apart: sums that round differently
    in their last bit make another code here and there. Floats must agree to a thousandth. Also raise for what is not
    one tensor, and for infinities and NaN.
    """
    generator = torch.Generator().manual_seed(0)
    strength, middle = example.std(correction=0), example.mean()
    trials = [example, *(middle + strength * torch.randn(example.shape, generator=generator) for _trial in range(2))]
    for images in trials:
        expected = run_on(reference, images)
        if not isinstance(expected, torch.Tensor):
            raise EdgelabError(
                _("A model to deploy gives one tensor, and this one gives %(kind)s: return the logits alone.")
                % {"kind": type(expected).__name__}
            )
        got = runner(images)
        expected = expected.to(got.dtype)
        if not (torch.isfinite(expected).all() and torch.isfinite(got).all()):
            raise EdgelabError(_("The model gives infinities or NaN for this example: look for where they come from."))
        apart = (got - expected).abs() if got.shape == expected.shape else torch.full((1,), torch.inf)
        span = float(expected.max() - expected.min())
        if step is None:
            agree = float(apart.max()) <= _FLOAT_TOLERANCE * float(expected.abs().max()) + 1e-6
        else:
            agree = float(apart.mean()) <= (step or span / 255) + 1e-6
        if not agree:
            raise EdgelabError(
                _("ONNX Runtime does not compute from the file what the model does: %(mean).3g apart on average.")
                % {"mean": float(apart.mean())}
            )
