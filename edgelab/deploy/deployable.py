"""What must hold before a model is written for another runtime, and how the file takes its name."""

import copy
from pathlib import Path

import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from edgelab.data.inputs import run_on
from edgelab.data.storage import atomic_write
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.quantization import fake_quantize
from edgelab.quantization.conversion import activation_grids, codes_of
from edgelab.quantization.graph import Weighted, must_be_float
from edgelab.quantization.quantizer import quantizer_of
from edgelab.tracing import own_copy


def deployable(model: nn.Module, example: torch.Tensor) -> nn.Module:
    """Return a copy of `model` in evaluation mode, to be written.

    Raise `EdgelabError` for a model that is prepared but not converted, or changed since, and where it gives something
    else for `example` than one tensor.
    """
    if any(parametrize.is_parametrized(module) and quantizer_of(module) is not None for module in model.modules()):
        raise EdgelabError(_("This model is not converted yet: export what `convert` returns."))
    if activation_grids(model) and isinstance(model, fx.GraphModule):
        _must_hold_codes(model)
        model = copy.deepcopy(model).eval()
    else:
        must_be_float(model)
        model = own_copy(model)
    with torch.no_grad():
        expected = run_on(copy.deepcopy(model), example.clone())
    if not isinstance(expected, torch.Tensor):
        raise EdgelabError(
            _("A model to deploy gives one tensor, and this one gives %(kind)s: return the logits alone.")
            % {"kind": type(expected).__name__}
        )
    return model


def write(content: bytes, path: str | Path) -> Path:
    """Write a file, all of it or nothing, with the folders that it needs; return its path."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as out:
            out.write(content)
    except OSError as error:
        raise EdgelabError(
            _("%(path)s cannot be written: %(reason)s.") % {"path": path, "reason": error.strerror or error}
        ) from None
    return path


def _must_hold_codes(model: fx.GraphModule) -> None:
    """Raise `EdgelabError` where weights or biases are no longer the numbers that their codes stand for."""
    for name, layer in model.named_modules():
        if not isinstance(layer, Weighted) or (codes := codes_of(layer)) is None:
            continue
        same = torch.equal(fake_quantize(layer.weight, codes.weight_qparams), layer.weight)
        if layer.bias is not None and codes.bias_codes is not None and codes.bias_scale is not None:
            same = same and torch.equal((codes.bias_codes.double() * codes.bias_scale).float(), layer.bias)
        if not same:
            raise EdgelabError(
                _("The weights of %(layer)s have changed since the model was converted: convert it again.")
                % {"layer": name}
            )
