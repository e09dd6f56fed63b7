"""Lab 02: its pictures say what the package computes, its layer is ONNX Runtime's, and its checks know the mistakes."""

import ipywidgets as widgets
import numpy as np
import pytest
import torch

from edgelab import models
from edgelab.course import progress
from edgelab.course.check import NotYet
from edgelab.labs.lab_02_quantization import check, explorers, rounding
from edgelab.quantization import QSpec, choose_qparams, fold_batchnorm, sqnr
from edgelab.quantization.affine import QParams, dequantize, fake_quantize, quantize

pytestmark = pytest.mark.usefixtures("learners_folder")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return models.resnet((8, 16, 32)).eval()


@pytest.fixture(scope="module")
def tensors(model):
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    return rounding.example_tensors(model, rounding.activations(model, images), images)


def test_activations_are_those_of_the_three_places(model):
    images = torch.randn(2, 3, 16, 16)
    seen = rounding.activations(model, images)
    with torch.inference_mode():
        assert torch.allclose(seen["classifier"], model(images), atol=1e-5)
    assert torch.allclose(model.classifier(seen["flatten"]), seen["classifier"], atol=1e-5)
    assert seen["stem"].min() == 0
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
def test_sqnr_by_bits_agrees_with_a_rounding_by_hand(model, per_channel):
    weight = rounding.weights(model)[rounding.LAYER]
    largest = weight.abs().flatten(1).amax(1).reshape(-1, 1, 1, 1) if per_channel else weight.abs().max()
    scale = largest / 7
    by_hand = sqnr(weight, torch.round(weight / scale) * scale)
    row = rounding.sqnr_by_bits(model)["per-channel" if per_channel else "per-tensor"][rounding.LAYER]
    assert row[rounding.BITS.index(4)] == pytest.approx(by_hand, abs=1e-3)


def test_a_bit_adds_six_decibels_to_evenly_spread_numbers():
    x = torch.linspace(-1, 1, 100_001)
    row = [sqnr(x, fake_quantize(x, rounding.grid(x, QSpec(bits, signed=False)))) for bits in rounding.BITS]
    assert rounding.gain_per_bit({"x": row}) == pytest.approx(6.02, abs=0.2)


def test_an_outlier_stretches_the_step_of_its_own_channel_only():
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    changed, others = rounding.with_outlier(weight, 20)
    assert changed[0, 0] == 20 * weight.abs().max()
    assert others.sum() == weight.numel() - 1
    assert torch.equal(changed[others], weight[others])
    loss = {
        per_channel: rounding.sqnr_of_others(weight, 1, rounding.weight_spec(8, per_channel))
        - rounding.sqnr_of_others(weight, 20, rounding.weight_spec(8, per_channel))
        for per_channel in (False, True)
    }
    assert loss[False] == pytest.approx(20 * np.log10(20), abs=2)
    assert loss[True] < loss[False] - 3


def test_the_integer_layer_of_onnx_runtime_is_the_float_layer_to_half_a_step():
    generator = torch.Generator().manual_seed(0)
    # Few and small weights: no kernel of any processor saturates its sums on the way.
    x, weight = torch.rand(8, 32, generator=generator), torch.randn(5, 32, generator=generator)
    bias = torch.randn(5, generator=generator)
    s_x, s_w, s_y, z_y = 1 / 255, float(weight.abs().max()) / 60, 0.05, 128
    q_x, q_w = torch.round(x / s_x).to(torch.uint8), torch.round(weight / s_w).to(torch.int8)
    q_b = torch.round(bias / (s_x * s_w)).to(torch.int32)
    codes = rounding.onnxruntime_linear(q_x, s_x, 0, q_w, s_w, q_b, s_y, z_y)
    expected = (q_x.double() * s_x) @ (q_w.double() * s_w).T + q_b.double() * s_x * s_w
    assert codes.dtype == torch.uint8
    assert codes.shape == (8, 5)
    inside = (codes > 0) & (codes < 255)
    assert inside.any()
    assert ((codes.double() - z_y) * s_y - expected)[inside].abs().max() <= s_y / 2 * 1.001


def test_the_scheme_table_shows_what_symmetric_wastes():
    rectified = torch.linspace(0, 1, 1000)
    html = rounding.scheme_table({"a & b": rectified}, bits=4)._repr_html_()
    assert "a &amp; b" in html
    assert "16 of 16" in html
    assert html.count("8 of 16") == 2


def test_a_tensor_on_its_grid_has_no_error():
    pixels = torch.arange(256) / 128 - 1
    assert "error 0 % of the tensor" in explorers.number_line_plot(pixels, 8, 100, False).description
    assert "∞" not in explorers.number_line_plot(pixels, 8, 100, True).description


def test_the_number_line_tells_what_saturates():
    values = torch.linspace(-1, 1, 1001)
    assert "0.0 % saturated" in explorers.number_line_plot(values, 4, 100, False).description
    # Sixteen marks take in 16 of the 30 steps of 1/15 from -1 to 1.
    assert "46.7 % saturated" in explorers.number_line_plot(values, 4, 50, False).description


def test_every_control_of_lab_02_draws_again(model, tensors):
    curves = rounding.sqnr_by_bits(model)
    for explorer in (
        explorers.number_line_explorer(tensors),
        explorers.weights_explorer(model),
        explorers.sqnr_explorer(curves),
        explorers.outlier_explorer(model),
    ):
        for control in explorer.children[0].children:
            assert isinstance(control, widgets.SelectionSlider | widgets.Dropdown)
            for _label, value in list(control.options)[:3]:
                before, unchanged = explorer.picture.value, control.value == value
                control.value = value
                assert 'role="alert"' not in explorer.picture.value
                assert (explorer.picture.value == before) == unchanged


def test_drawing_leaves_the_threads_as_they_were(tensors):
    before = torch.get_num_threads()
    explorers.number_line_plot(next(iter(tensors.values())), 4, 100, False)
    assert torch.get_num_threads() == before


def test_predictions_are_kept_under_the_lab():
    rounding.predict_bit().lock()
    rounding.predict_outlier().lock()
    assert progress.predictions(check.LAB).keys() == {"bit", "outlier"}


def learner_qparams(low, high, bits):
    qparams = choose_qparams(low, high, QSpec(bits, signed=False))
    return float(qparams.scale), int(qparams.zero_point)


def learner_quantize(x, scale, zero_point, bits):
    spec = QSpec(bits, signed=False)
    return quantize(x, QParams(torch.tensor(scale), torch.tensor(zero_point), spec))


def learner_dequantize(q, scale, zero_point):
    return dequantize(q, QParams(torch.tensor(scale), torch.tensor(zero_point), QSpec(signed=False)))


def test_the_package_itself_passes_the_checks():
    check.choose_qparams(learner_qparams)
    check.quantize(learner_quantize)
    check.dequantize(learner_dequantize)
    check.integer_linear(
        lambda q_x, z_x, q_w, q_b, m, z_y: rounding.onnxruntime_linear(q_x, m, z_x, q_w, 1.0, q_b, 1.0, z_y)
    )
    check.to_blame(lambda w: (int(w.abs().flatten(1).amax(1).argmax()), rounding_bits(w)))
    assert len(progress.passed(check.LAB)) == 5


def rounding_bits(weight):
    largest, second = weight.abs().flatten(1).amax(1).sort(descending=True).values[:2]
    return float(torch.log2(largest / second))


def test_one_channel_of_a_real_mobilenet_takes_four_bits_and_none_of_the_baseline_does():
    bits = {}
    for name, dataset in (("resnet", "signs"), ("resnet", "fashion-mnist"), ("mobilenet_v2_050", "fashion-mnist")):
        layers = rounding.weights(fold_batchnorm(models.load_pretrained(name, dataset)))
        bits[name, dataset] = max(rounding_bits(weight) for weight in layers.values())
    assert bits["resnet", "signs"] < 1 / 3
    assert bits["mobilenet_v2_050", "fashion-mnist"] > 4.5


@pytest.mark.parametrize(
    ("run", "hint"),
    [
        (lambda: check.choose_qparams(lambda a, b, n: ((b - a) / (2**n - 1), round(-a / (b - a) * (2**n - 1)))), "0"),
        (lambda: check.choose_qparams(lambda a, b, n: learner_qparams(a, b, n)[::-1]), "scale first"),
        (
            lambda: check.quantize(
                lambda x, s, z, b: (torch.round(x / s) + z).to(torch.int32).to(torch.uint8)
            ),
            "wrap",
        ),
        (
            lambda: check.quantize(
                lambda x, s, z, b: torch.clamp(torch.floor(x / s + 0.5) + z, 0, 2**b - 1)
            ),
            "even",
        ),
        (
            lambda: check.quantize(
                lambda x, s, z, b: torch.clamp(torch.round(x / s) + z, 0, 2**b - 1)
            ),
            "uint8",
        ),
        (lambda: check.dequantize(lambda q, s, z: (q - z) * s), "2 - 3 is 255"),
        (
            lambda: check.integer_linear(
                lambda x, zx, w, b, m, zy: torch.round((x.int() - zx) @ w.int().T * m + b * m) + zy
            ),
            "saturate",
        ),
    ],
    ids=[
        "range without zero", "order", "wraps around", "ties upwards", "no integer type", "uint8 underflow",
        "no saturation",
    ],
)  # fmt: skip
def test_a_known_mistake_is_told(run, hint):
    with pytest.raises(NotYet, match=hint):
        run()
    assert progress.passed(check.LAB) == set()
