"""Attention as the steps that it is: two products of matrices, for which there are kernels, and a softmax between them.

softmax(q k^T / sqrt(d)) v: Vaswani et al., 2017, "Attention Is All You Need", eq. 1
"""

import operator
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

_KEEPS_WHOLE = ("attn_mask", "dropout_p", "is_causal", "enable_gqa")
_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa")


def open_attention(graph: fx.Graph) -> None:
    """Write each `scaled_dot_product_attention` as what it computes in evaluation, in place.

    One with a mask, with groups of queries or with live dropout stays whole.
    """
    for node in list(graph.nodes):
        if node.target is not F.scaled_dot_product_attention:
            continue
        given: dict[str, Any] = dict(zip(_ARGUMENTS, node.args, strict=False)) | node.kwargs
        if any(given.get(name) not in (None, False, 0.0) for name in _KEEPS_WHOLE):
            continue
        query, key, value, scale = (given.get(name) for name in ("query", "key", "value", "scale"))
        with graph.inserting_before(node):
            if scale is None:
                size = graph.call_method("size", (query, -1))
                scale = graph.call_function(operator.pow, (size, -0.5))
            turned = graph.call_method("transpose", (key, -2, -1))
            scores = graph.call_function(torch.matmul, (query, turned))
            scaled = graph.call_function(operator.mul, (scores, scale))
            weights = graph.call_function(torch.softmax, (scaled, -1))
            attended = graph.call_function(torch.matmul, (weights, value))
        node.replace_all_uses_with(attended)
        graph.erase_node(node)
