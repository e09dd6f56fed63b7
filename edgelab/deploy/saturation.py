"""Does ONNX Runtime lose sums of integer products on this processor? Asked of its kernel, which knows best."""

from functools import cache

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

LARGEST = (255, 127)  # the largest code of an activation, and that of a weight
PRODUCTS = 64  # in each sum


@cache
def sums_saturate() -> bool:
    """Return whether the fast integer kernels add two products of 8 bits in 16 bits here, and cut off what is larger.

    They do on x86 processors without VNNI or AMX. Two matrices of the largest codes are multiplied: a millisecond.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    model = largest_product().SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"codes": largest_codes()})
    return bool((found != PRODUCTS * LARGEST[0] * LARGEST[1]).any())


def largest_codes() -> np.ndarray:
    """Return the activations of the question, uint8 `(20, PRODUCTS)`."""
    return np.full((20, PRODUCTS), LARGEST[0], np.uint8)


def largest_product() -> onnx.ModelProto:
    """Return a model that multiplies uint8 `codes` `(N, PRODUCTS)` with 16 columns of the largest weight, in int8."""
    weights = numpy_helper.from_array(np.full((PRODUCTS, 16), LARGEST[1], np.int8), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["codes", "weights"], ["sums"])],
        "largest product",
        [helper.make_tensor_value_info("codes", TensorProto.UINT8, ["N", PRODUCTS])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, ["N", 16])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
