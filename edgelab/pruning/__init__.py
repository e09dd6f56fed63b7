"""Weights that are zero: which ones, how a model learns to do without them, and what they still cost on disk."""

from edgelab.pruning.criteria import magnitude, movement, prunable, random, taylor
from edgelab.pruning.encodings import ENCODINGS, Encoding
from edgelab.pruning.schedule import cubic_schedule, cubic_sparsity, prune_gradually, rewind
from edgelab.pruning.sharing import kmeans, remove_sharing, share_weights
from edgelab.pruning.storage import Stored, contents, load_sparse, save_sparse
from edgelab.pruning.unstructured import (
    Mask,
    apply_masks,
    choose_masks,
    magnitude_mask,
    masks_of,
    n_m_masks,
    prune,
    remove_masks,
    sensitivity,
    sparsity_of,
    zero_masks,
)

__all__ = [
    "ENCODINGS",
    "Encoding",
    "Mask",
    "Stored",
    "apply_masks",
    "choose_masks",
    "contents",
    "cubic_schedule",
    "cubic_sparsity",
    "kmeans",
    "load_sparse",
    "magnitude",
    "magnitude_mask",
    "masks_of",
    "movement",
    "n_m_masks",
    "prunable",
    "prune",
    "prune_gradually",
    "random",
    "remove_masks",
    "remove_sharing",
    "rewind",
    "save_sparse",
    "sensitivity",
    "share_weights",
    "sparsity_of",
    "taylor",
    "zero_masks",
]
