"""The integer-only reference against ONNX Runtime's kernels, exact fractions, and the float layers it stands for."""

from fractions import Fraction

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch.nn import functional as F

from edgelab.doctor.machine import INT8, processor
from edgelab.errors import EdgelabError
from edgelab.quantization import QParams, QSpec, dequantize
from edgelab.quantization.integer import fixed_point, integer_conv2d, integer_linear, quantize_bias, requantize

INT32 = torch.iinfo(torch.int32)
# Without instructions for int8, ONNX Runtime's x86 kernel adds two products of uint8 by int8 up in 16 bits, and
# saturates: there it wants weights of 7 bits (`reduce_range`), and only there the reference may not be held to 8.
LOWEST, HIGHEST = (-128, 127) if INT8 & set(processor().instructions or ()) else (-64, 63)


def grid(scale, zero_point=0, *, signed=True, axis=None):
    return QParams(
        torch.as_tensor(scale, dtype=torch.float32),
        torch.as_tensor(zero_point, dtype=torch.int32),
        QSpec(signed=signed, axis=axis),
    )


def random_codes(shape, generator, *, signed=True, weight=False):
    lowest, highest = (0, 255) if not signed else (LOWEST, HIGHEST) if weight else (-128, 127)
    codes = torch.randint(lowest, highest + 1, shape, generator=generator)
    return codes.to(torch.int8 if signed else torch.uint8)


def centre(q, qparams):
    return q.double() - qparams.over(q)[1]


def run_onnx(op_type, q_x, constants, out_qparams, *, domain="", **attributes):
    """Return the codes that one operator of ONNX Runtime makes of `q_x` and `constants`, in order, on one thread."""
    element = {torch.int8: TensorProto.INT8, torch.uint8: TensorProto.UINT8}
    tensors = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()]
    node = helper.make_node(op_type, ["x", *constants], ["y"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        op_type,
        [helper.make_tensor_value_info("x", element[q_x.dtype], q_x.shape)],
        [helper.make_tensor_value_info("y", element[out_qparams.spec.dtype], None)],
        tensors,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": q_x.numpy()})[0])


def constants_of(name, qparams):
    codes_type = qparams.spec.dtype
    return {f"{name}_scale": qparams.scale.numpy(), f"{name}_zero_point": qparams.zero_point.to(codes_type).numpy()}


def near_tie(accumulator, multiplier):
    """Return where the rounding of the product to float32 may move it onto a tie or across one; a tie itself stays.

    Both factors have 24 bits, so that the product is exact in float64.
    """
    product = accumulator.double() * multiplier.double()
    distance = (product - product.floor() - 0.5).abs()
    return (distance > 0) & (distance <= product.abs() * 2**-24)


def assert_same_codes(ours, theirs, accumulator, multiplier):
    """Assert equality to the last bit, and to one code near ties; return the pair of masks (near, different)."""
    assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
    assert accumulator.abs().max() < 2**24 < INT32.max
    difference = (ours.int() - theirs.int()).abs()
    near = near_tie(accumulator, multiplier)
    assert difference[~near].sum() == 0
    assert difference.max() <= 1
    return near, difference > 0


class Case:
    """Random operands of a layer: codes, grids, and the sums and multiplier worked out in float64 and float32."""

    def __init__(self, x_shape, weight_shape, seed, *, signed=True, signed_weight=True, per_channel=True, bias=True):
        generator = torch.Generator().manual_seed(seed)
        channels = weight_shape[0] if per_channel else None
        zero_point, out_zero_point = torch.randint(-128, 128, (2,), generator=generator) + (0 if signed else 128)
        self.x = random_codes(x_shape, generator, signed=signed)
        self.x_qparams = grid(0.01 + 0.1 * torch.rand((), generator=generator), zero_point, signed=signed)
        self.weight = random_codes(weight_shape, generator, signed=signed_weight, weight=True)
        self.weight_qparams = grid(
            0.001 + 0.01 * torch.rand((channels,) if channels else (), generator=generator),
            torch.full((channels,) if channels else (), 0 if signed_weight else 131),
            signed=signed_weight,
            axis=0 if channels else None,
        )
        fan_in = self.weight[0].numel()
        spread = 2000 * fan_in**0.5
        self.bias = (torch.randn(weight_shape[0], generator=generator) * spread).to(torch.int32) if bias else None
        # Fine enough that the sums reach every code and some saturate.
        out_scale = self.x_qparams.scale * self.weight_qparams.scale.max() * spread / 16
        self.out_qparams = grid(out_scale, out_zero_point, signed=signed)
        self.operands = (self.x, self.x_qparams, self.weight, self.weight_qparams, self.bias, self.out_qparams)
        self.multiplier = self.x_qparams.scale * self.weight_qparams.scale / self.out_qparams.scale

    def compare_conv(self, **options):
        bias = None if self.bias is None else self.bias.double()
        x, weight = centre(self.x, self.x_qparams), centre(self.weight, self.weight_qparams)
        accumulator = F.conv2d(x, weight, bias, **options)
        constants = constants_of("x", self.x_qparams) | {"weight": self.weight.numpy()}
        constants |= constants_of("weight", self.weight_qparams) | constants_of("y", self.out_qparams)
        if self.bias is not None:
            constants["bias"] = self.bias.numpy()
        pads = 2 * list(options.get("padding", (0, 0)))
        attributes = {"strides": options.get("stride", (1, 1)), "dilations": options.get("dilation", (1, 1))}
        attributes |= {"pads": pads, "group": options.get("groups", 1)}
        theirs = run_onnx("QLinearConv", self.x, constants, self.out_qparams, **attributes)
        ours = integer_conv2d(*self.operands, **options)
        return assert_same_codes(ours, theirs, accumulator, self.multiplier.reshape(-1, 1, 1))

    def compare_linear(self):
        accumulator = centre(self.x, self.x_qparams) @ centre(self.weight, self.weight_qparams).T
        if self.bias is not None:
            accumulator += self.bias
        constants = constants_of("x", self.x_qparams)
        if self.bias is None:
            constants["weight"] = self.weight.T.numpy()
            constants |= constants_of("weight", self.weight_qparams) | constants_of("y", self.out_qparams)
            theirs = run_onnx("QLinearMatMul", self.x, constants, self.out_qparams)
        else:
            constants |= {"weight": self.weight.numpy()} | constants_of("weight", self.weight_qparams)
            constants |= {"bias": self.bias.numpy()} | constants_of("y", self.out_qparams)
            theirs = run_onnx("QGemm", self.x, constants, self.out_qparams, domain="com.microsoft", transB=1)
        return assert_same_codes(integer_linear(*self.operands), theirs, accumulator, self.multiplier)


seeds = st.integers(0, 2**31)
pairs = st.tuples(st.integers(1, 2), st.integers(1, 2))
# The types that ONNX Runtime's kernels take together: signed weights with either activation, unsigned ones with uint8.
signs = st.sampled_from([(True, True), (False, True), (False, False)])


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.data())
def test_convolution_equals_qlinearconv_over_shapes_strides_paddings_dilations_groups_and_types(data):
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    kernel = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    image = draw(st.integers(1, 2)), groups * inputs, draw(st.integers(5, 9)), draw(st.integers(5, 9))
    signed, signed_weight = draw(signs)
    case = Case(
        image,
        (groups * outputs, inputs, *kernel),
        draw(seeds),
        signed=signed,
        signed_weight=signed_weight,
        per_channel=draw(st.booleans()),
        bias=draw(st.booleans()),
    )
    padding = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    case.compare_conv(stride=draw(pairs), padding=padding, dilation=draw(pairs), groups=groups)


@pytest.mark.parametrize("signed", [True, False], ids=["int8", "uint8"])
@pytest.mark.parametrize("per_channel", [True, False], ids=["per-channel", "per-tensor"])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolution_equals_qlinearconv(signed, per_channel, stride):
    case = Case((2, 24, 11, 10), (24, 1, 3, 3), seed=stride, signed=signed, per_channel=per_channel)
    case.compare_conv(stride=(stride, stride), padding=(1, 1), groups=24)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_linear_equals_qgemm_with_a_bias_and_qlinearmatmul_without(data):
    draw = data.draw
    rows, inputs, outputs = draw(st.integers(1, 40)), draw(st.integers(1, 64)), draw(st.integers(1, 33))
    signed, signed_weight = draw(signs)
    case = Case(
        (rows, inputs),
        (outputs, inputs),
        draw(seeds),
        signed=signed,
        signed_weight=signed_weight,
        per_channel=draw(st.booleans()),
        bias=draw(st.booleans()),
    )
    case.compare_linear()


@pytest.mark.parametrize("signed", [True, False], ids=["int8", "uint8"])
def test_outputs_near_a_tie_are_rare_and_all_others_are_equal(signed):
    conv = Case((8, 32, 32, 32), (64, 16, 3, 3), seed=0, signed=signed)
    linear = Case((2000, 256), (200, 256), seed=1, signed=signed)
    masks = [conv.compare_conv(padding=(1, 1), groups=2), linear.compare_linear()]
    near, different = (torch.cat([mask[kind].flatten() for mask in masks]) for kind in (0, 1))
    assert len(near) > 900_000
    assert near.double().mean() < 1e-4
    assert different.double().mean() < 1e-5  # so that 99.999 % are equal


def test_linear_takes_any_number_of_leading_dimensions():
    case = Case((2, 3, 5, 8), (7, 8), seed=4, bias=False)
    assert integer_linear(*case.operands).shape == (2, 3, 5, 7)
    case.compare_linear()


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_convolution_is_the_float_layer_to_half_a_step(bias):
    case = Case((2, 6, 9, 9), (8, 3, 3, 3), seed=2, bias=bias)
    real_bias = case.bias * (case.x_qparams.scale * case.weight_qparams.scale).double() if bias else None
    x, weight = dequantize(case.x, case.x_qparams).double(), dequantize(case.weight, case.weight_qparams).double()
    real = F.conv2d(x, weight, real_bias, padding=1, stride=2, groups=2)
    codes = integer_conv2d(*case.operands, padding=1, stride=2, groups=2)
    inside = (codes > -128) & (codes < 127)
    error = (dequantize(codes, case.out_qparams) - real).abs() / case.out_qparams.scale
    assert inside.double().mean() > 0.5
    assert error[inside].max() <= 0.5 + 1e-4


def test_padding_is_real_zeros_whatever_code_stands_for_zero():
    codes, out = torch.full((1, 1, 1, 1), 5, dtype=torch.uint8), grid(1.0)
    weight = torch.ones(1, 1, 3, 3, dtype=torch.int8)
    y = integer_conv2d(codes, grid(1.0, 7, signed=False), weight, grid(1.0), None, out, padding=1)
    assert y.tolist() == [[[[-2]]]]  # nine products: eight zeros and (5 - 7) * 1


# ---- The fixed-point multiply


@given(st.floats(min_value=0, max_value=2.0**29, width=32, exclude_min=True))
def test_every_float32_multiplier_comes_through_unchanged(multiplier):
    mantissa, shift = fixed_point(torch.tensor(multiplier))
    assert mantissa.dtype == shift.dtype == torch.int32
    assert 2**30 <= int(mantissa) < 2**31
    assert Fraction(int(mantissa)) / Fraction(2) ** (31 + int(shift)) == Fraction(multiplier)


@given(st.floats(min_value=1e-30, max_value=2.0**29))
def test_a_float64_multiplier_is_off_by_at_most_half_of_its_last_bit(multiplier):
    mantissa, shift = (int(part) for part in fixed_point(multiplier))
    assert 2**30 <= mantissa < 2**31
    error = abs(Fraction(mantissa) / Fraction(2) ** (31 + shift) / Fraction(multiplier) - 1)
    assert error <= Fraction(1, 2**31)


@pytest.mark.parametrize(
    ("multiplier", "mantissa", "shift"),
    [
        (0.5, 2**30, 0),
        (0.75, 3 * 2**29, 0),
        (0.375, 3 * 2**29, 1),
        (6.0, 3 * 2**29, -3),
        (1 - 2**-40, 2**30, -1),
        (0, 0, 0),
    ],
    ids=["half", "three-quarters", "three-eighths", "six", "rounded-up-to-one", "nothing"],
)
def test_mantissa_and_shift_by_hand(multiplier, mantissa, shift):
    assert tuple(int(part) for part in fixed_point(multiplier)) == (mantissa, shift)


@pytest.mark.parametrize(
    "multiplier", [-0.1, float("nan"), float("inf"), 2.0**30], ids=["below-0", "nan", "inf", "2^30"]
)
def test_a_multiplier_that_no_shift_stands_for_is_an_error(multiplier):
    with pytest.raises(EdgelabError, match="between 0 and 2\\^30"):
        fixed_point(torch.tensor([0.5, multiplier]))


@settings(max_examples=300)
@given(
    st.integers(INT32.min, INT32.max),
    st.floats(min_value=0, max_value=2.0**29, width=32) | st.integers(-80, 20).map(lambda power: 2.0**power),
    st.integers(-128, 127),
)
def test_requantize_is_the_exact_product_rounded_half_to_even_and_saturated(accumulator, multiplier, zero_point):
    by_fractions = round(Fraction(accumulator) * Fraction(multiplier)) + zero_point  # Python's round: half to even
    codes = requantize(torch.tensor([accumulator], dtype=torch.int32), multiplier, grid(1.0, zero_point))
    assert codes.tolist() == [min(max(by_fractions, -128), 127)]


def test_ties_go_to_even_where_float_rounding_sends_them_too():
    accumulator = torch.arange(-250, 251, dtype=torch.int32)
    expected = torch.fake_quantize_per_tensor_affine(accumulator / 2, 1.0, 0, -128, 127)
    assert torch.equal(requantize(accumulator, 0.5, grid(1.0)).float(), expected)


@pytest.mark.parametrize(
    ("signed", "extremes"), [(True, [-128, 127]), (False, [0, 255])], ids=["int8-saturates", "uint8-saturates"]
)
def test_the_largest_sums_saturate(signed, extremes):
    accumulator = torch.tensor([INT32.min, INT32.max], dtype=torch.int32)
    for multiplier in (0.01, 2.0**29):
        assert requantize(accumulator, multiplier, grid(1.0, 3, signed=signed)).tolist() == extremes


# ---- Biases, and operands that no kernel takes


@pytest.mark.parametrize("per_channel", [True, False], ids=["per-channel", "per-tensor"])
def test_bias_codes_by_fractions(per_channel):
    bias = torch.tensor([0.5, -0.03, 0.0, 12.25, 0.1875])
    x_qparams = grid(0.125, 3)
    scale = torch.tensor([0.5, 0.01, 0.3, 1.0, 1.0])
    weight_qparams = grid(scale, [0] * 5, axis=0) if per_channel else grid(1.0)
    steps = x_qparams.scale * weight_qparams.scale * torch.ones(5)
    codes = quantize_bias(bias, x_qparams, weight_qparams)
    assert codes.dtype == torch.int32
    exact = [Fraction(b) / Fraction(step) for b, step in zip(bias.tolist(), steps.tolist(), strict=True)]
    assert codes.tolist() == [round(quotient) for quotient in exact]
    assert codes[-1] == 2  # 1.5 steps: the tie goes to even


def test_the_largest_bias_codes_fit_and_the_next_do_not():
    bias = torch.tensor([2.0**31 - 1, -(2.0**31)], dtype=torch.float64)
    assert quantize_bias(bias, grid(1.0), grid(1.0)).tolist() == [INT32.max, INT32.min]
    for beyond in (2.0**31, -(2.0**31) - 1, float("inf"), float("nan")):
        with pytest.raises(EdgelabError, match="overflows an int32"):
            quantize_bias(torch.tensor([0.0, beyond], dtype=torch.float64), grid(1.0), grid([1.0, 1.0], [0, 0], axis=0))


def test_a_sum_beyond_32_bits_is_an_error_and_the_largest_sum_within_is_not():
    inputs = 2**31 // (255 * 255) + 1  # 33026 products of 255 * 255
    unsigned = grid(1.0, signed=False)
    x, weight = (torch.full((1, inputs), 255, dtype=torch.uint8) for _ in range(2))
    with pytest.raises(EdgelabError, match=f"to {inputs * 255 * 255}: more than the 32 bits"):
        integer_linear(x, unsigned, weight, unsigned, None, unsigned)
    assert integer_linear(x[:, 1:], unsigned, weight[:, 1:], unsigned, None, unsigned).item() == 255


@pytest.mark.parametrize(
    ("position", "operand", "message"),
    [
        (0, torch.zeros(1, 4), "The codes of x must be torch.int8, not torch.float32."),
        (0, torch.zeros(1, 4, dtype=torch.uint8), "The codes of x must be torch.int8, not torch.uint8."),
        (2, torch.zeros(3, 4), "The codes of weight must be torch.int8, not torch.float32."),
        (4, torch.zeros(3), "The codes of bias must be torch.int32, not torch.float32."),
        (1, grid([1.0] * 4, [0] * 4, axis=1), "Activations take one scale for the whole tensor"),
        (5, grid([1.0] * 3, [0] * 3, axis=1), "Activations take one scale for the whole tensor"),
        (3, grid([1.0] * 4, [0] * 4, axis=1), "axis 0, not axis 1"),
    ],
    ids=["float-x", "uint8-x", "float-weight", "float-bias", "x-per-channel", "out-per-channel", "weight-per-input"],
)
@pytest.mark.parametrize("layer", [integer_linear, integer_conv2d], ids=["linear", "conv"])
def test_operands_that_no_kernel_takes_are_an_error(layer, position, operand, message):
    codes = [torch.zeros(shape, dtype=torch.int8) for shape in ((1, 4), (3, 4))]
    operands = [codes[0], grid(1.0), codes[1], grid(1.0), torch.zeros(3, dtype=torch.int32), grid(1.0)]
    operands[position] = operand
    if layer is integer_conv2d:
        operands[0], operands[2] = operands[0][..., None, None], operands[2][..., None, None]
    with pytest.raises(EdgelabError, match=message):
        layer(*operands)


def test_only_int32_sums_are_requantized():
    with pytest.raises(EdgelabError, match=r"accumulator must be torch\.int32, not torch\.int64"):
        requantize(torch.tensor([1]), 0.5, grid(1.0))
