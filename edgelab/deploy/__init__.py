"""From a trained model to the file that another runtime runs, and the proof that it is the same model."""

from edgelab.deploy.kernels import as_kernels
from edgelab.deploy.layer_times import open_layer, time_layer
from edgelab.deploy.onnx import operators, to_onnx
from edgelab.deploy.runner import LEVELS, Parity, Runner, check_parity

__all__ = [
    "LEVELS",
    "Parity",
    "Runner",
    "as_kernels",
    "check_parity",
    "open_layer",
    "operators",
    "time_layer",
    "to_onnx",
]
