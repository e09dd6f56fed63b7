"""Measure a model: parameters, MACs, bytes, peak memory, latency, energy; and the devices it might run on.

Importing this loads no torch; the counters import it when they are called.
"""

from edgelab.measure.counts import (
    LayerCost,
    bytes_by_dtype,
    count_macs,
    count_params,
    file_bytes,
    format_bytes,
    layer_costs,
    model_bytes,
    saved_bytes,
)
from edgelab.measure.devices import DEVICES, Device, Published, predict_latency
from edgelab.measure.energy import (
    LINKS,
    Link,
    MeasuredEnergy,
    estimate_energy,
    measure_energy,
    radio_energy,
    radio_seconds,
)
from edgelab.measure.latency import Comparison, Latency, compare_latency, measure_latency, percentile, ratio_interval
from edgelab.measure.memory import Moment, PeakActivations, peak_activation_bytes, peak_activations
from edgelab.measure.report import Row, format_markdown, measure_model, rich_table, share_half_width

__all__ = [
    "DEVICES",
    "LINKS",
    "Comparison",
    "Device",
    "Latency",
    "LayerCost",
    "Link",
    "MeasuredEnergy",
    "Moment",
    "PeakActivations",
    "Published",
    "Row",
    "bytes_by_dtype",
    "compare_latency",
    "count_macs",
    "count_params",
    "estimate_energy",
    "file_bytes",
    "format_bytes",
    "format_markdown",
    "layer_costs",
    "measure_energy",
    "measure_latency",
    "measure_model",
    "model_bytes",
    "peak_activation_bytes",
    "peak_activations",
    "percentile",
    "predict_latency",
    "radio_energy",
    "radio_seconds",
    "ratio_interval",
    "rich_table",
    "saved_bytes",
    "share_half_width",
]
