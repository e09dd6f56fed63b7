"""Export to LiteRT, TensorFlow Lite as it was called: the trained numbers and the trained codes, in a `.tflite` file.

Input and output of a quantized model are int8, pictures lie as (N, H, W, C), weights have a scale for each channel, and
biases are int32: what phones, microcontrollers and NPUs take. Nobody calibrates anew: scales and codes are the model's.
"""

from pathlib import Path

import torch
from torch import fx, nn

from edgelab.data.inputs import as_input, run_on
from edgelab.deploy.deployable import deployable, write
from edgelab.deploy.guard import STEPS, Reached, by_steps, must_be_close
from edgelab.deploy.kernels import as_kernels
from edgelab.deploy.litert_runner import LiteRTRunner
from edgelab.deploy.lowering import Lowering
from edgelab.deploy.lowering_operators import HANDLERS
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.quantization import fold_batchnorm
from edgelab.quantization.conversion import activation_grids
from edgelab.tracing import trials_like


def to_litert(model: nn.Module, example: torch.Tensor, path: str | Path) -> Path:
    """Write `model` to `path` for LiteRT, as a `.tflite` file, and return the path.

    `example` is one input, `(N, C, H, W)`; the file takes exactly its shape, with the channels last. A model from
    `convert` is written with the scales and codes that it has: int8 input and output, int8 weights, int32 biases. The
    file takes its name only when LiteRT was seen to compute from it what the model does, on the example and on noise
    as strong. One line tells of layers with int8 weights that LiteRT computes in float.

    Raise `EdgelabError` for an operation that LiteRT lacks, with its name and place; for a model that `torch.fx` cannot
    follow, that is prepared but not converted, or changed since, or that gives something else than one tensor of finite
    numbers; for activations of other than 8 bits; and for a place that cannot be written.
    """
    example = as_input(example)
    if Path(path).suffix != ".tflite":
        raise EdgelabError(_("A file for LiteRT ends in .tflite, not as %(path)s.") % {"path": path})
    model = deployable(model, example)
    integer = isinstance(model, fx.GraphModule) and bool(activation_grids(model))
    graph = model if integer and isinstance(model, fx.GraphModule) else fold_batchnorm(model)
    lowering = Lowering(graph, example, HANDLERS)
    content = lowering.run()
    _must_agree(lowering, model, content, example)
    path = write(content, path)
    if integer and lowering.in_float:
        print(
            _("LiteRT computes these layers of %(path)s in float: %(names)s.")
            % {"path": path, "names": ", ".join(lowering.in_float)}
        )
    return path


@torch.inference_mode()
def _must_agree(lowering: Lowering, model: nn.Module, content: bytes, example: torch.Tensor) -> None:
    """Raise `EdgelabError` unless LiteRT computes from the file what the model does, rounding by rounding."""
    runner = LiteRTRunner(content, keep=bool(lowering.rounded))
    reference = as_kernels(lowering.model) if lowering.rounded else model
    for images in trials_like(example, noises=2):
        got = runner(images)
        if isinstance(reference, fx.GraphModule) and lowering.rounded:
            reached = {}
            for node, value in lowering.rounded.items():
                numbers = torch.from_numpy(value.to_torch(runner.real(value.tensor)).copy())
                scale = value.grid.scale[0] if value.grid else 0.0
                reached[node.name] = Reached(numbers, STEPS * scale + lowering.slack.get(node, 0.0))
            expected = by_steps(reference, images, reached, "LiteRT")
        else:
            expected = run_on(reference, images.clone())
        must_be_close(expected, got, "LiteRT")
