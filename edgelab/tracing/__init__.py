"""A model in Python as a graph that may be changed: what quantization and pruning both begin with."""

from edgelab.tracing.faithful import alike, remember, trials_like, verify
from edgelab.tracing.follow import make_plain, own_copy, trace
from edgelab.tracing.nodes import called_module, is_number, operation

__all__ = [
    "alike",
    "called_module",
    "is_number",
    "make_plain",
    "operation",
    "own_copy",
    "remember",
    "trace",
    "trials_like",
    "verify",
]
