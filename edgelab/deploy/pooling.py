"""Means over height and width, as the pooling that has an integer kernel."""

import onnx
from onnx import helper, numpy_helper


def pool_globally(proto: onnx.ModelProto) -> None:
    """Turn each mean over height and width of images into GlobalAveragePool, which has an integer kernel, in place.

    ReduceMean has none. Only of four dimensions are the last two height and width.
    """
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    means = [node for node in graph.node if node.op_type == "ReduceMean" and len(node.input) == 2]
    if not means:
        return
    known = {value.name: value for value in (*graph.input, *onnx.shape_inference.infer_shapes(proto).graph.value_info)}
    for node in means:
        source = known.get(node.input[0])
        if node.input[1] not in constants or source is None:
            continue
        rank = len(source.type.tensor_type.shape.dim)
        axes = {int(axis) % rank for axis in numpy_helper.to_array(constants[node.input[1]])} if rank else set()
        keepdims = next((attribute.i for attribute in node.attribute if attribute.name == "keepdims"), 1)
        if rank == 4 and axes == {2, 3} and keepdims:
            node.CopyFrom(helper.make_node("GlobalAveragePool", node.input[:1], node.output, name=node.name))
