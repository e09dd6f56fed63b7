"""ONNX Runtime's own quantizers, to stand beside ours: the same model, the same images, another implementation."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization import quantize_dynamic as _quantize_dynamic
from onnxruntime.quantization import quantize_static as _quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

METHODS = {
    "min-max": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


class _Images(CalibrationDataReader):
    """Hand out images one at a time, as the file's batch of 1 asks."""

    def __init__(self, images: torch.Tensor):
        self._batches = iter(images.split(1))

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"input": batch.numpy()}


def quantize_static(
    path: str | Path, out: str | Path, images: torch.Tensor, *, method: str = "min-max", unsigned: bool = True
) -> Path:
    """Quantize the float file `path` (batch 1) to `out` by ONNX Runtime, calibrated on `images`; return `out`.

    `images` are normalised float32, `(N, C, H, W)`; `method` is one of `METHODS`. Weights are int8 with a scale for
    each channel. Activations are `unsigned`, or signed as is ONNX Runtime's default, with which it keeps the
    convolutions before a ReLU in float: https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
    """
    with _prepared(path) as prepared, _quiet():
        _quantize_static(
            prepared,
            out,
            _Images(images),
            per_channel=True,
            calibrate_method=METHODS[method],
            activation_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
    return Path(out)


def quantize_dynamic(path: str | Path, out: str | Path) -> Path:
    """Quantize the float file `path` to `out` by ONNX Runtime with weights in int8 and ranges found as it runs."""
    with _prepared(path) as prepared, _quiet():
        _quantize_dynamic(prepared, out, weight_type=QuantType.QUInt8)  # ConvInteger takes no signed weights
    return Path(out)


@contextlib.contextmanager
def _prepared(path: str | Path) -> Iterator[Path]:
    """Yield a copy of the model with shapes inferred and batch norm folded, as ONNX Runtime advises."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(path, prepared)
        yield prepared


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizers' remarks, which a learner can do nothing about, off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    onnxruntime.set_default_logger_severity(3)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        onnxruntime.set_default_logger_severity(2)
