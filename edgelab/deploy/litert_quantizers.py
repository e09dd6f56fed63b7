"""LiteRT's own quantizer, ai-edge-quantizer, to stand beside ours: the same file in float, the same images."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch

from edgelab.deploy.litert_runner import LiteRTRunner, captured_stderr
from edgelab.errors import EdgelabError
from edgelab.i18n import _

# Its recipes: integers throughout; int8 weights, with ranges of activations found as it runs; int8 weights alone.
RECIPES = {"static": "static_wi8_ai8", "dynamic": "dynamic_wi8_afp32", "weight-only": "weight_only_wi8_afp32"}


def quantize(path: str | Path, out: str | Path, images: torch.Tensor, *, recipe: str = "static") -> Path:
    """Quantize the float file `path` of ours to `out` by ai-edge-quantizer, calibrated on `images`; return `out`.

    `images` are normalised float32, `(N, C, H, W)`; `recipe` is one of `RECIPES`. Of larger models it keeps the weights
    behind the FlatBuffer: see `tflite.inline_buffers`.

    Raise `EdgelabError` where ai-edge-quantizer is not installed.
    """
    try:
        from ai_edge_quantizer import quantizer
        from ai_edge_quantizer import recipe as recipes
    except ImportError as error:
        message = _("%(package)s is missing: install it with pip install %(package)s.")
        raise EdgelabError(message % {"package": "ai-edge-quantizer"}) from error
    path, out = Path(path), Path(out)
    runner = LiteRTRunner(path)
    feeds = [{"input": runner.stored(image)} for image in images.split(1)]
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), captured_stderr():
            warnings.simplefilter("ignore")
            theirs = quantizer.Quantizer(str(path), getattr(recipes, RECIPES[recipe])())
            ranges = theirs.calibrate({"serving_default": feeds}, num_threads=1) if theirs.need_calibration else None
            theirs.quantize(ranges, enable_progress_report=False).export_model(str(out), overwrite=True)
    finally:
        logging.disable(before)
    return out
