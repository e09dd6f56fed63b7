"""For those who want more of lab 09: files of a converter with a fault, to be found by the first layer apart."""

import copy
from pathlib import Path

import torch
from torch import fx, nn

from edgelab.deploy import to_litert
from edgelab.errors import EdgelabError
from edgelab.i18n import _

LAYERS = ("stages.1.body.0.0", "stages.0.body.1.0", "stages.2.body.0.0")  # by case: whose kernels are turned


def faulty_file(codes: fx.GraphModule, image: torch.Tensor, case: int) -> Path:
    """Write the int8 model `codes` with one layer's kernels upside down, as a converter that mixes up axes does.

    `case` is 1, 2 or 3, each another layer of the student. Return the path. Raise `EdgelabError` for another case.
    """
    if case not in range(1, len(LAYERS) + 1):
        raise EdgelabError(_("There are cases 1 to %(last)d, not %(case)s.") % {"last": len(LAYERS), "case": case})
    faulty = copy.deepcopy(codes)
    layer = faulty.get_submodule(LAYERS[case - 1])
    assert isinstance(layer, nn.Conv2d)
    with torch.no_grad():
        layer.weight.copy_(layer.weight.flip(2))
    return to_litert(faulty, image, f"models/faulty-{case}.tflite")
