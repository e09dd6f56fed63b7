"""From a trained model to the file that another runtime runs, and the proof that it is the same model."""

from edgelab.deploy.compare import Agreement, LayerDifference, compare
from edgelab.deploy.compressed import compress_weights
from edgelab.deploy.file_costs import Lifetime, lifetimes
from edgelab.deploy.kernels import as_kernels
from edgelab.deploy.layer_times import open_layer, time_layer
from edgelab.deploy.litert import to_litert
from edgelab.deploy.microcontroller import Arena, arena, arena_bytes, c_array
from edgelab.deploy.npu import NpuEstimate, npu_estimate
from edgelab.deploy.onnx import operators, to_onnx
from edgelab.deploy.runner import LEVELS, RUNTIMES, Parity, Runner, check_parity

__all__ = [
    "LEVELS",
    "RUNTIMES",
    "Agreement",
    "Arena",
    "LayerDifference",
    "Lifetime",
    "NpuEstimate",
    "Parity",
    "Runner",
    "arena",
    "arena_bytes",
    "as_kernels",
    "c_array",
    "check_parity",
    "compare",
    "compress_weights",
    "lifetimes",
    "npu_estimate",
    "open_layer",
    "operators",
    "time_layer",
    "to_litert",
    "to_onnx",
]
