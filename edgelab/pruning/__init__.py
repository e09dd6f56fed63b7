"""Weights that are zero and channels that are gone: which ones, how to do without, and what that costs.

To read it: single weights are `criteria` (which matter), `unstructured` (their masks) and `schedule` (how sparsity
grows); what zeros cost in a file, `encodings` and `storage`. Channels are three steps in three files: the criterion,
`importance`; the dependency, `dependency`, which asks the graph by way of `channels`; the action, `surgery`, with
`reshaping` for models that reckon with sizes. `targets` chooses how many.
"""

from edgelab.pruning.criteria import magnitude, movement, prunable, random, taylor
from edgelab.pruning.dependency import Dependencies, Group, Member, find_dependencies
from edgelab.pruning.encodings import ENCODINGS, Encoding
from edgelab.pruning.importance import channel_importance, filter_l1, filter_l2, norm_scale
from edgelab.pruning.schedule import cubic_schedule, cubic_sparsity, prune_gradually, rewind
from edgelab.pruning.sharing import kmeans, remove_sharing, share_weights
from edgelab.pruning.storage import Stored, contents, load_sparse, save_sparse
from edgelab.pruning.surgery import remove_channels, zero_channels
from edgelab.pruning.targets import (
    LayerTimes,
    choose_latency,
    choose_macs,
    choose_ratio,
    keep_count,
    prune_channels,
)
from edgelab.pruning.unstructured import (
    Mask,
    apply_masks,
    choose_masks,
    magnitude_mask,
    masks_of,
    n_m_masks,
    prune,
    prune_n_m,
    remove_masks,
    sensitivity,
    sparsity_of,
    zero_masks,
)

__all__ = [
    "ENCODINGS",
    "Dependencies",
    "Encoding",
    "Group",
    "LayerTimes",
    "Mask",
    "Member",
    "Stored",
    "apply_masks",
    "channel_importance",
    "choose_latency",
    "choose_macs",
    "choose_masks",
    "choose_ratio",
    "contents",
    "cubic_schedule",
    "cubic_sparsity",
    "filter_l1",
    "filter_l2",
    "find_dependencies",
    "keep_count",
    "kmeans",
    "load_sparse",
    "magnitude",
    "magnitude_mask",
    "masks_of",
    "movement",
    "n_m_masks",
    "norm_scale",
    "prunable",
    "prune",
    "prune_channels",
    "prune_gradually",
    "prune_n_m",
    "random",
    "remove_channels",
    "remove_masks",
    "remove_sharing",
    "rewind",
    "save_sparse",
    "sensitivity",
    "share_weights",
    "sparsity_of",
    "taylor",
    "zero_channels",
    "zero_masks",
]
