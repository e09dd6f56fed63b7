"""For those who want more of lab 03: a search for the range with the least error, on a real activation."""

from collections.abc import Callable
from html import escape

import torch

from edgelab.explore.html import HtmlTable
from edgelab.i18n import _
from edgelab.labs.lab_03_ptq.preparing import activations
from edgelab.quantization import OBSERVERS, QSpec, choose_qparams, fake_quantize, sqnr


def least_error(search: Callable, model: torch.nn.Module, images: torch.Tensor) -> HtmlTable:
    """Return the SQNR in dB that the learner's `search(values, bits)` reaches, beside min-max and edgelab's search.

    The values are those of lab 03: what the first residual block gives for `images`. `search` returns (low, high).
    """
    values = torch.cat([batch.flatten() for batch in activations(model, "stages.0.activation", images)])
    rows = []
    for bits in (8, 6, 4, 3):
        spec = QSpec(bits, signed=False)
        low, high = search(values, bits)
        ranges = [choose_qparams(float(values.min()), float(values.max()), spec), choose_qparams(low, high, spec)]
        observer = OBSERVERS["mse"](spec)
        observer.observe(values)
        decibels = (sqnr(values, fake_quantize(values, qparams)) for qparams in (*ranges, observer.qparams()))
        rows.append([str(bits), *(f"{value:.2f}" for value in decibels)])
    heads = [_("bits"), _("min-max"), _("your search"), _("edgelab's search")]
    return HtmlTable([escape(head) for head in heads], rows)
