"""From real numbers to the integers that run: affine grids, observers, calibration, and training for few bits.

The path: `prepare` a model, `calibrate` it (and perhaps train it), `convert` it, and export it with `edgelab.deploy`.
"""

from edgelab.quantization.affine import QParams, QSpec, choose_qparams, dequantize, fake_quantize, quantize, sqnr
from edgelab.quantization.conversion import convert
from edgelab.quantization.equalization import correct_bias, equalize
from edgelab.quantization.graph import fold_batchnorm
from edgelab.quantization.integer import fixed_point, integer_conv2d, integer_linear, quantize_bias, requantize
from edgelab.quantization.observers import OBSERVERS
from edgelab.quantization.ptq import (
    QuantizationConfig,
    calibrate,
    learn_steps,
    prepare,
    sensitivity,
)
from edgelab.quantization.qat import RoundSTE, learned_step
from edgelab.quantization.quantizer import FakeQuantize, SameGrid, quantizers
from edgelab.quantization.report import Layer, layer_report

__all__ = [
    "OBSERVERS",
    "FakeQuantize",
    "Layer",
    "QParams",
    "QSpec",
    "QuantizationConfig",
    "RoundSTE",
    "SameGrid",
    "calibrate",
    "choose_qparams",
    "convert",
    "correct_bias",
    "dequantize",
    "equalize",
    "fake_quantize",
    "fixed_point",
    "fold_batchnorm",
    "integer_conv2d",
    "integer_linear",
    "layer_report",
    "learn_steps",
    "learned_step",
    "prepare",
    "quantize",
    "quantize_bias",
    "quantizers",
    "requantize",
    "sensitivity",
    "sqnr",
]
