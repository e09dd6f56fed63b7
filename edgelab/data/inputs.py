"""What a model is shown: one float32 tensor, in the memory layout in which convolutions are fastest."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from edgelab.errors import EdgelabError, first_line
from edgelab.i18n import _


def as_input(images: object) -> torch.Tensor:
    """Return `images`, a tensor or NumPy array of real numbers with the batch first, as a float32 tensor on the CPU.

    Raise `EdgelabError` that says what is expected for anything else: whole numbers are not normalised yet.
    """
    found = (
        torch.from_numpy(images.copy()) if isinstance(images, np.ndarray) and images.dtype.kind in "fiub" else images
    )
    if isinstance(found, torch.Tensor) and found.is_floating_point() and found.dim() >= 2:
        return found.detach().to("cpu", torch.float32)
    what = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(images).__name__
    raise EdgelabError(
        _(
            "Expected normalised images as one float32 tensor (N, C, H, W), not %(found)s: `edgelab.data.normalize` "
            "makes them of pixels, `torch.cat` makes one of several batches."
        )
        % {"found": what}
    )


def fast_layout(images: torch.Tensor) -> torch.Tensor:
    """Return images `(N, C, H, W)` with their channels last in memory; other tensors as they are."""
    return images.to(memory_format=torch.channels_last) if images.dim() == 4 else images


def plain_layout(images: torch.Tensor) -> torch.Tensor:
    """Return images `(N, C, H, W)` with their channels first in memory.

    `contiguous()` does not: images of one channel count as contiguous in either layout, and are left as they are. Then
    convolutions go on with channels last.
    """
    return images.clone(memory_format=torch.contiguous_format)


def is_safe_fast(model: nn.Module) -> bool:
    """Return whether `model` can be trained on the CPU with channels last: not with a narrow, strided 1x1 convolution.

    The gradient of one with fewer than 8 input channels writes past its memory in oneDNN, on processors with AVX2, and
    Python ends with "double free or corruption" (seen with torch 2.13). With channels first it does not.
    """
    return not any(
        isinstance(layer, nn.Conv2d)
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels < 8 * layer.groups
        for layer in model.modules()
    )


def run_on(model: Callable[[torch.Tensor], Any], images: torch.Tensor) -> Any:
    """Return what `model` gives for `images`; raise `EdgelabError` that names their shape where it cannot run."""
    try:
        return model(images)
    except EdgelabError:
        raise
    except Exception as error:  # whatever the learner's own code raises
        raise EdgelabError(
            _("The model cannot run on an example of shape %(shapes)s: %(error)s")
            % {"shapes": tuple(images.shape), "error": first_line(error)}
        ) from error


def run_fast(model: Callable[[torch.Tensor], Any], images: torch.Tensor) -> tuple[Any, bool]:
    """Return what `model` gives for `images`, and whether it took them with their channels last in memory.

    `x.view(n, -1)` behind a convolution does not: it is for one layout only. Raise as `run_on`.
    """
    fast = fast_layout(images)
    try:
        return model(fast), True
    except RuntimeError as error:
        if "view" not in str(error):
            return run_on(model, fast), True
    except Exception:
        return run_on(model, fast), True
    return run_on(model, images.contiguous()), False
