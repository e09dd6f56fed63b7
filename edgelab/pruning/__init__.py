"""Channels that are gone: which can go together, which matter least, and a smaller model without them."""

from edgelab.pruning.dependency import Dependencies, Group, Member, find_dependencies
from edgelab.pruning.importance import channel_importance, filter_l1, filter_l2, norm_scale
from edgelab.pruning.surgery import remove_channels, zero_channels
from edgelab.pruning.targets import (
    LayerTimes,
    choose_latency,
    choose_macs,
    choose_ratio,
    keep_count,
    prune_channels,
)

__all__ = [
    "Dependencies",
    "Group",
    "LayerTimes",
    "Member",
    "channel_importance",
    "choose_latency",
    "choose_macs",
    "choose_ratio",
    "filter_l1",
    "filter_l2",
    "find_dependencies",
    "keep_count",
    "norm_scale",
    "prune_channels",
    "remove_channels",
    "zero_channels",
]
