"""The grids of `edgelab.quantization.affine` against torch's fake quantize, ONNX's reference evaluator, and by hand."""

import warnings

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx.reference import ReferenceEvaluator

from edgelab.errors import EdgelabError
from edgelab.quantization.affine import (
    QParams,
    QSpec,
    choose_qparams,
    dequantize,
    fake_quantize,
    quantize,
    sqnr,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.ao announces its move to torchao
    observer = pytest.importorskip("torch.ao.quantization.observer", exc_type=ImportError)

# Rounding is settled by single bits: no example may be called slow, on whatever machine it runs.
thorough = settings(deadline=None, max_examples=100)

reals = st.floats(-1e4, 1e4, width=32)
scales = st.floats(2.0**-13, 2.0**10, width=32)
specs = st.builds(QSpec, st.integers(2, 8), symmetric=st.booleans(), signed=st.booleans(), narrow=st.booleans())


@st.composite
def tensors_on_grids(draw):
    """Draw a tensor, ties and constants among them, and a grid with any scales and zero points."""
    spec = draw(specs)
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
    x = draw(hnp.arrays(np.float32, shape, elements=reals))
    axis = draw(st.integers(0, len(shape) - 1)) if draw(st.booleans()) else None
    channels = () if axis is None else (shape[axis],)
    scale = draw(hnp.arrays(np.float32, channels, elements=scales))
    zero_point = draw(hnp.arrays(np.int32, channels, elements=st.integers(spec.qmin, spec.qmax)))
    spec = QSpec(spec.bits, spec.symmetric, spec.signed, spec.narrow, axis)
    qparams = QParams(torch.tensor(scale), torch.tensor(zero_point), spec)
    x = torch.from_numpy(x)
    if draw(st.booleans()):  # halves of a step: every second one is a tie
        x = torch.round(x / 32) / 2 * qparams.over(x)[0]
    return x, qparams


def onnx_codes_and_values(x, qparams, opset=21):
    """Return what QuantizeLinear -> Clip -> DequantizeLinear make of `x`; Clip is for codes of fewer than 8 bits."""
    spec = qparams.spec
    code_type = "int8" if spec.signed else "uint8"
    axis = "" if spec.axis is None else f"<axis={spec.axis}>"
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": {opset}]>
        graph (float x, float scale, {code_type} zero_point, {code_type} low, {code_type} high)
            => ({code_type} codes, float values) {{
            wide = QuantizeLinear{axis}(x, scale, zero_point)
            codes = Clip(wide, low, high)
            values = DequantizeLinear{axis}(codes, scale, zero_point)
        }}"""
    )
    dtype = np.dtype(code_type)
    feeds = {
        "x": x.numpy(),
        "scale": qparams.scale.numpy(),
        "zero_point": qparams.zero_point.numpy().astype(dtype),
        "low": np.array(spec.qmin, dtype),
        "high": np.array(spec.qmax, dtype),
    }
    return ReferenceEvaluator(model).run(None, feeds)


def torch_fake_quantize(x, qparams):
    spec = qparams.spec
    if spec.axis is None:
        return torch.fake_quantize_per_tensor_affine(x, qparams.scale, qparams.zero_point, spec.qmin, spec.qmax)
    return torch.fake_quantize_per_channel_affine(x, qparams.scale, qparams.zero_point, spec.axis, spec.qmin, spec.qmax)


def the_two_roundings_differ(x, qparams):
    """Return where x / scale, as ONNX has it, and x * (1 / scale), as torch has it, round to different integers."""
    scale, _zero_point = qparams.over(x)
    return torch.round(x / scale) != torch.round(x * (1 / scale))


@pytest.mark.parametrize("opset", [19, 21])
@thorough
@given(case=tensors_on_grids())
def test_codes_and_values_are_those_of_onnx_bit_for_bit(case, opset):
    x, qparams = case
    codes, values = onnx_codes_and_values(x, qparams, opset)
    ours = quantize(x, qparams)
    assert ours.shape == x.shape
    assert ours.numpy().dtype == codes.dtype
    np.testing.assert_array_equal(ours.numpy(), codes)
    np.testing.assert_array_equal(dequantize(ours, qparams).numpy(), values)


@thorough
@given(case=tensors_on_grids())
def test_values_are_those_of_torch_bit_for_bit_where_the_two_roundings_agree(case):
    x, qparams = case
    ours, theirs = fake_quantize(x, qparams), torch_fake_quantize(x, qparams)
    agree = ~the_two_roundings_differ(x, qparams)
    assert torch.equal(ours[agree], theirs[agree])
    one_code = qparams.over(x)[0].expand_as(x) * 1.001
    assert ((ours - theirs).abs() <= one_code).all()


@pytest.mark.parametrize("bits", range(2, 9))
def test_the_two_roundings_agree_on_all_but_a_few_of_a_million_values(bits):
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(bits))
    qparams = choose_qparams(x.min(), x.max(), QSpec(bits))
    differ = the_two_roundings_differ(x, qparams)
    assert differ.sum() <= 20
    assert torch.equal(fake_quantize(x, qparams)[~differ], torch_fake_quantize(x, qparams)[~differ])


def test_a_tie_that_torch_misses_is_kept_as_onnx_keeps_it():
    # 0.5 * 41 * scale: the quotient is 20.5 exactly, and even is 20; the product with the reciprocal is above it.
    scales = torch.arange(1, 2000) / 1000
    x = 20.5 * scales
    qparams = QParams(scales, torch.zeros(1999, dtype=torch.int32), QSpec(axis=0))
    exact = x / scales == 20.5
    assert (quantize(x, qparams)[exact] == 20).all()
    assert the_two_roundings_differ(x, qparams)[exact].any()


@thorough
@given(spec=specs, low=reals, high=reals)
def test_zero_is_represented_exactly(spec, low, high):
    qparams = choose_qparams(min(low, high), max(low, high), spec)
    assert fake_quantize(torch.zeros(1), qparams).item() == 0
    assert spec.qmin <= int(qparams.zero_point) <= spec.qmax


@thorough
@given(spec=specs, x=hnp.arrays(np.float32, hnp.array_shapes(max_dims=3), elements=reals))
def test_nothing_inside_the_range_moves_by_more_than_half_a_step(spec, x):
    x = torch.from_numpy(x)
    qparams = choose_qparams(x.min(), x.max(), spec)
    scale, zero_point = qparams.scale.double(), qparams.zero_point
    inside = ((spec.qmin - zero_point) * scale <= x) & (x <= (spec.qmax - zero_point) * scale)
    error = (fake_quantize(x, qparams).double() - x).abs()
    rounding = 2.0**-22 * x.abs()  # of float32 itself, in the quotient and in the product
    assert (error <= scale / 2 + rounding)[inside].all()
    # The zero point is rounded too, so an affine grid may end half a step before the range does.
    assert (error <= scale + rounding).all()


@thorough
@given(spec=specs, x=hnp.arrays(np.float32, hnp.array_shapes(max_dims=3), elements=reals))
def test_quantizing_twice_changes_nothing(spec, x):
    x = torch.from_numpy(x)
    qparams = choose_qparams(x.min(), x.max(), spec)
    once = quantize(x, qparams)
    assert torch.equal(quantize(dequantize(once, qparams), qparams), once)
    assert once.min() >= spec.qmin
    assert once.max() <= spec.qmax


@pytest.mark.parametrize("axis", [None, 0, 1, -1], ids=lambda axis: "per-tensor" if axis is None else f"axis {axis}")
def test_each_channel_is_quantized_as_if_alone(axis):
    x = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.01, 1, 100])[:, None]
    channels = x.movedim(axis, 0).flatten(1) if axis is not None else x.flatten()[None]
    low, high = channels.aminmax(dim=1)
    if axis is None:
        low, high = low[0], high[0]
    codes = quantize(x, choose_qparams(low, high, QSpec(axis=axis)))
    alone = [quantize(channel, choose_qparams(channel.min(), channel.max())) for channel in channels]
    codes = codes.movedim(axis, 0).flatten(1) if axis is not None else codes.flatten()[None]
    assert torch.equal(codes, torch.stack(alone))


@thorough
@given(bits=st.integers(2, 8), signed=st.booleans(), x=hnp.arrays(np.float32, 9, elements=reals))
def test_affine_parameters_are_those_of_torchs_min_max_observer(bits, signed, x):
    x = torch.from_numpy(x)
    spec = QSpec(bits, signed=signed)
    _agrees_with_torch(x, spec, torch.per_tensor_affine)


@thorough
@given(bits=st.integers(2, 8), x=hnp.arrays(np.float32, 9, elements=reals))
def test_symmetric_narrow_parameters_are_those_of_torchs_min_max_observer(bits, x):
    # Without the lowest code: with it, torch divides by 127.5 and ours by 128 below zero and 127 above.
    _agrees_with_torch(torch.from_numpy(x), QSpec(bits, symmetric=True, narrow=True), torch.per_tensor_symmetric)


def _agrees_with_torch(x, spec, qscheme):
    # torch never goes below a scale of 1.2e-7, and for ranges so small ours does.
    theirs = observer.MinMaxObserver(
        torch.qint8 if spec.signed else torch.quint8, qscheme, quant_min=spec.qmin, quant_max=spec.qmax, eps=1e-30
    )
    theirs(x)
    if x.abs().max() < 1e-20:
        return
    scale, zero_point = theirs.calculate_qparams()
    ours = choose_qparams(x.min(), x.max(), spec)
    assert ours.scale == scale
    assert ours.zero_point == zero_point


def test_parameters_by_hand():
    assert _numbers(choose_qparams(-1.0, 3.0, QSpec(4, signed=False))) == (pytest.approx(4 / 15), 4)
    assert _numbers(choose_qparams(-1.0, 3.0, QSpec(4))) == (pytest.approx(4 / 15), -4)
    assert _numbers(choose_qparams(-1.0, 3.0, QSpec(4, symmetric=True))) == (pytest.approx(3 / 7), 0)
    assert _numbers(choose_qparams(-3.2, 1.0, QSpec(4, symmetric=True))) == (pytest.approx(3.2 / 8), 0)
    assert _numbers(choose_qparams(-3.2, 1.0, QSpec(4, symmetric=True, narrow=True))) == (pytest.approx(3.2 / 7), 0)
    assert _numbers(choose_qparams(2.0, 3.0, QSpec(8, signed=False))) == (pytest.approx(3 / 255), 0)
    assert _numbers(choose_qparams(-3.0, -2.0, QSpec(8, signed=False))) == (pytest.approx(3 / 255), 255)


def _numbers(qparams):
    return float(qparams.scale), int(qparams.zero_point)


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "affine"])
@pytest.mark.parametrize("value", [0.0, 1e-44, 1e-30, 5.0, -5.0, 1e38])
def test_a_constant_is_kept_to_float32s_own_precision(value, symmetric):
    x = torch.full((3, 2), value)
    kept = fake_quantize(x, choose_qparams(x.min(), x.max(), QSpec(symmetric=symmetric, narrow=symmetric)))
    # 1e-44 / 255 is no float32: such a constant becomes 0.
    torch.testing.assert_close(kept, x, rtol=1e-6, atol=1e-40)


def test_an_affine_range_wider_than_float32_is_refused_and_one_just_inside_is_kept():
    most = torch.finfo(torch.float32).max
    with pytest.raises(EdgelabError, match="has no end"):
        choose_qparams(-most, most)
    x = torch.tensor([-most / 2, 0.0, most / 2])
    kept = fake_quantize(x, choose_qparams(x.min(), x.max()))
    assert kept[1] == 0
    torch.testing.assert_close(kept, x, rtol=2 / 255, atol=0)


@pytest.mark.parametrize("axis", [None, 0], ids=["per-tensor", "per-channel"])
def test_an_empty_tensor_has_no_codes(axis):
    x = torch.zeros(0, 3)
    qparams = QParams(torch.ones(()), torch.zeros((), dtype=torch.int32), QSpec())
    if axis is not None:
        qparams = QParams(torch.ones(0), torch.zeros(0, dtype=torch.int32), QSpec(axis=axis))
    codes = quantize(x, qparams)
    assert codes.shape == (0, 3)
    assert codes.dtype == torch.int8


@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), float("nan")], ids=["infinity", "minus infinity", "NaN"])
def test_what_has_no_code_is_refused(bad):
    qparams = choose_qparams(-1.0, 1.0)
    with pytest.raises(EdgelabError, match="infinities or NaN"):
        quantize(torch.tensor([0.0, bad, 1.0]), qparams)
    with pytest.raises(EdgelabError, match="infinities or NaN"):
        choose_qparams(min(bad, 0.0) if bad == bad else bad, max(bad, 0.0) if bad == bad else 0.0)


def test_large_finite_numbers_whose_sum_is_infinite_saturate():
    x = torch.tensor([3e38, 3e38, -3e38, -3e38, -3e38, -3e38])
    assert quantize(x, choose_qparams(-1.0, 1.0)).tolist() == [127, 127, -128, -128, -128, -128]


@pytest.mark.parametrize("bits", [0, 1, 9, 16])
def test_other_numbers_of_bits_are_refused(bits):
    with pytest.raises(EdgelabError, match=f"2 to 8 bits, not {bits}"):
        QSpec(bits)


def test_every_bit_adds_six_decibels_to_a_uniform_signal():
    x = torch.rand(200_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ratio = [sqnr(x, fake_quantize(x, choose_qparams(-1.0, 1.0, QSpec(bits)))) for bits in range(4, 9)]
    # Of a uniform signal the power is (range)^2 / 12 and that of the error step^2 / 12: 20 log10(2^bits - 1).
    assert ratio == pytest.approx([20 * np.log10(2**bits - 1) for bits in range(4, 9)], abs=0.15)
    assert np.diff(ratio) == pytest.approx(6.02, abs=0.6)


def test_sqnr_of_a_perfect_copy_is_infinite_and_of_silence_zero():
    x = torch.tensor([3.0, -4.0])
    assert sqnr(x, x) == float("inf")
    assert sqnr(x, torch.zeros(2)) == 0
    assert sqnr(x, torch.tensor([3.0, -3.5])) == pytest.approx(20)


def test_the_packages_fake_quantize_is_the_function():
    import edgelab.quantization

    assert edgelab.quantization.fake_quantize is fake_quantize
