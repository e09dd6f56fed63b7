import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from edgelab.errors import EdgelabError
from edgelab.models import mobilenet_v1, mobilenet_v2, resnet
from edgelab.quantization import (
    OBSERVERS,
    FakeQuantize,
    QuantizationConfig,
    SameGrid,
    calibrate,
    convert,
    dequantize,
    layer_report,
    learn_steps,
    prepare,
    quantize,
    quantizers,
    sensitivity,
)


def images(n=4, channels=3, size=8, seed=0):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


def path(model):
    """Return what a prepared model does, step by step: layers by class, quantizers as `Q`, kept grids as `same`."""
    short = {FakeQuantize: "Q", SameGrid: "same"}
    steps = []
    for node in model.graph.nodes:
        if node.op == "call_module":
            module = model.get_submodule(node.target)
            kind = parametrize.type_before_parametrizations(module)
            steps.append(short.get(kind, kind.__name__))
        elif node.op in ("call_function", "call_method"):
            steps.append(getattr(node.target, "__name__", node.target))
    return " ".join(steps)


class Wired(nn.Module):
    """Two convolutions and a way to join or go on from what they give."""

    def __init__(self, wire):
        super().__init__()
        self.a, self.b, self.wire = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1), wire

    def forward(self, x):
        return self.wire(self.a(x), self.b(x))


SEQUENCES = {
    "a ReLU belongs to the convolution": ([nn.Conv2d(3, 4, 3), nn.ReLU()], "Q Conv2d ReLU Q"),
    "so does a ReLU6": ([nn.Conv2d(3, 4, 3), nn.ReLU6()], "Q Conv2d ReLU6 Q"),
    "batch norm is gone": ([nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()], "Q Conv2d ReLU Q"),
    "hard-swish reads and writes codes": (
        [nn.Conv2d(3, 4, 3), nn.Hardswish(), nn.Conv2d(4, 4, 1)],
        "Q Conv2d Q Hardswish Q Conv2d Q",
    ),
    "max pooling keeps the grid": ([nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)], "Q Conv2d ReLU Q MaxPool2d same"),
    "average pooling has its own": ([nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1)], "Q AdaptiveAvgPool2d Q Conv2d Q"),
    "reshaping keeps the grid, dropout is nothing": (
        [nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Dropout(), nn.Linear(144, 2)],
        "Q Conv2d Q Flatten same Dropout Linear Q",
    ),
}
WIRES = {
    "a residual addition": (lambda a, b: a + b, "Q Conv2d Q Conv2d Q add Q"),
    "an addition with its ReLU": (lambda a, b: F.relu(a + b), "Q Conv2d Q Conv2d Q add relu Q"),
    "a concatenation": (lambda a, b: torch.cat([a, b], 1), "Q Conv2d Q Conv2d Q cat Q"),
    "a product": (lambda a, b: a * b, "Q Conv2d Q Conv2d Q mul Q"),
    "a gate": (lambda a, b: a * torch.sigmoid(b), "Q Conv2d Q Conv2d Q sigmoid Q mul Q"),
    # The sum reads a before its ReLU: that ReLU cannot belong to the convolution.
    "a ReLU that is not the only reader": (lambda a, b: F.relu(a) + a + b, "Q Conv2d Q Conv2d Q relu Q add Q add Q"),
}


@pytest.mark.parametrize(("layers", "expected"), SEQUENCES.values(), ids=SEQUENCES.keys())
def test_quantizers_stand_where_the_kernels_of_a_sequence_meet(layers, expected):
    assert path(prepare(nn.Sequential(*copy.deepcopy(layers)))) == expected


@pytest.mark.parametrize(("wire", "expected"), WIRES.values(), ids=WIRES.keys())
def test_quantizers_stand_around(wire, expected):
    assert path(prepare(Wired(wire))) == expected


def test_what_moves_codes_shares_the_grid_of_what_it_reads():
    model = prepare(nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2)))
    calibrate(model, images())
    grids = {module.quantizer for module in model.modules() if isinstance(module, SameGrid)}
    assert grids == {model.get_submodule("quantize__0")}
    assert len([name for name in quantizers(model) if ".parametrizations." not in name]) == 3  # input, conv, linear


# Counted by hand: the input, each convolution with its ReLU, each addition, product and gate, each pooling, each linear
# layer. MobileNetV3 has 19 hard-swishes, each with a grid of its own besides the layer's before it, 9 gates of a
# pooling, a hard-sigmoid and a product; its blocks' squeezing convolutions are among the 52.
NETWORKS = {
    "torchvision ResNet-18": ("resnet18", 1 + 20 + 8 + 1 + 1, 21),
    "torchvision MobileNetV2": ("mobilenet_v2", 1 + 52 + 10 + 1 + 1, 53),
    "torchvision MobileNetV3-small": ("mobilenet_v3_small", 1 + 52 + 19 + 9 * 3 + 6 + 1 + 2, 54),
    "our resnet": (resnet, 1 + 9 + 3 + 1 + 1, 10),
    "our MobileNetV1": (lambda **options: mobilenet_v1(0.25, **options), 1 + 27 + 1 + 1, 28),
    "our MobileNetV2": (lambda **options: mobilenet_v2(0.5, **options), 1 + 52 + 10 + 1 + 1, 53),
}


@pytest.mark.parametrize(("build", "activations", "weights"), NETWORKS.values(), ids=NETWORKS.keys())
def test_a_network_gets_as_many_quantizers_as_counted_by_hand(build, activations, weights):
    if isinstance(build, str):
        from torchvision import models

        build = getattr(models, build)
    model = build(num_classes=16)
    prepared = prepare(model)
    of_weights = [name for name in quantizers(prepared) if ".parametrizations." in name]
    assert len(of_weights) == weights
    assert len(quantizers(prepared)) - weights == activations
    # A prepared model that still watches computes what the model computes.
    with torch.inference_mode():
        expected = model.eval()(images(2, size=32))
        torch.testing.assert_close(prepared(images(2, size=32)), expected, rtol=1e-3, atol=1e-4)


def test_a_skipped_layer_stays_in_float_and_so_do_the_layers_below_a_prefix():
    model = resnet((4, 8))
    prepared = prepare(model, QuantizationConfig(skip=("classifier", "stages.0")))
    layers = {name: module for name, module in prepared.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    floats = {name for name, layer in layers.items() if not parametrize.is_parametrized(layer)}
    assert floats == {"classifier", "stages.0.body.0.0", "stages.0.body.1.0"}
    assert path(prepared).endswith("AdaptiveAvgPool2d Q Flatten same Linear")


def test_a_layer_whose_name_only_begins_alike_is_quantized():
    prepared = prepare(nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(11))), QuantizationConfig(skip=("1",)))
    assert not parametrize.is_parametrized(prepared.get_submodule("1"))
    assert parametrize.is_parametrized(prepared.get_submodule("10"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"skip": ("head", "classifier")}, "no layer head to leave"),
        ({"observer": "clairvoyant"}, "no observer 'clairvoyant'"),
        ({"weight_bits": 9}, "from 2 to 8 bits, not 9"),
        ({"activation_bits": 1}, "from 2 to 8 bits, not 1"),
    ],
    ids=["unknown layer", "unknown observer", "too many bits", "too few bits"],
)
def test_a_mistake_in_the_configuration_is_named(options, words):
    with pytest.raises(EdgelabError, match=words):
        prepare(resnet((4, 8)), QuantizationConfig(**options))


def test_without_activation_bits_only_weights_are_rounded():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    prepared = calibrate(prepare(model, QuantizationConfig(weight_bits=3, activation_bits=None)), images())
    assert list(quantizers(prepared)) == ["0.parametrizations.weight.0", "3.parametrizations.weight.0"]
    by_hand = copy.deepcopy(model)
    for layer in (by_hand[0], by_hand[3]):
        flat = layer.weight.detach().flatten(1)
        scale = flat.abs().amax(1, keepdim=True) / 3  # codes -3 to 3
        layer.weight.data = ((flat / scale).round() * scale).reshape(layer.weight.shape)
    with torch.inference_mode():
        torch.testing.assert_close(convert(prepared)(images()), by_hand(images()))


def test_calibrating_on_nothing_is_an_error():
    with pytest.raises(EdgelabError, match="seen nothing"):
        calibrate(prepare(resnet((4, 8))), images(0))


def test_calibrating_on_what_is_not_finite_is_an_error():
    with pytest.raises(EdgelabError, match="infinities or NaN"):
        calibrate(prepare(resnet((4, 8))), torch.full((2, 3, 8, 8), torch.nan))


def test_converting_before_calibrating_is_an_error():
    with pytest.raises(EdgelabError, match="calibrate"):
        convert(prepare(resnet((4, 8))))


def test_calibration_takes_the_extremes_of_all_batches_of_the_float_model():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    x = images(7) * torch.arange(1, 8).reshape(-1, 1, 1, 1)
    prepared = calibrate(prepare(model, QuantizationConfig(weight_bits=2)), x, batch_size=3)
    grid = prepared.get_submodule("quantize__1")
    torch.testing.assert_close(grid.scale.detach(), model(x).max().detach() / 255)
    assert grid.zero_point == 0
    grid = prepared.get_submodule("quantize_input_1")
    torch.testing.assert_close(grid.scale.detach(), (x.max() - x.min()) / 255)


@pytest.mark.parametrize("observer", OBSERVERS)
def test_calibrating_again_forgets_what_was_seen_before(observer):
    config = QuantizationConfig(weight_observer="mse", observer=observer)
    model = resnet((4, 8))
    fresh, used = (prepare(model, config) for _ in range(2))
    calibrate(used, 9 * images())
    for prepared in (fresh, used):
        weight = prepared.classifier.parametrizations["weight"].original
        weight.data = torch.linspace(-1, 1, weight.numel()).reshape(weight.shape)  # as training would have changed it
        calibrate(prepared, images())
    for name, quantizer in quantizers(fresh).items():
        again = quantizers(used)[name]
        assert torch.equal(quantizer.scale, again.scale) and torch.equal(quantizer.zero_point, again.zero_point), name


def test_sensitivity_rounds_one_layer_at_a_time_and_restores_the_model():
    model = calibrate(prepare(resnet((4, 8)), QuantizationConfig(weight_bits=2)), images())
    before = model(images())
    seen = []

    def score(model):
        seen.append([name for name, quantizer in quantizers(model).items() if quantizer.mode == "quantize"])
        return len(seen)

    scores = sensitivity(model, score, progress=False)
    weights = [name for name in quantizers(model) if ".parametrizations." in name]
    assert seen == [[name] for name in weights]
    assert scores == {name.partition(".parametrizations.")[0]: i for i, name in enumerate(weights, 1)}
    assert torch.equal(model(images()), before)


def test_a_score_that_fails_leaves_the_model_as_it_was():
    model = calibrate(prepare(resnet((4, 8))), images())
    with pytest.raises(ZeroDivisionError):
        sensitivity(model, lambda model: 1 / 0, progress=False)
    assert {quantizer.mode for quantizer in quantizers(model).values()} == {"quantize"}


@pytest.mark.parametrize("per_channel", [True, False], ids=["per-channel", "per-tensor"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_a_converted_model_holds_exactly_what_its_integers_stand_for(bits, per_channel):
    torch.manual_seed(0)
    model = resnet((4, 8))
    prepared = calibrate(prepare(model, QuantizationConfig(bits, 8, per_channel)), images())
    converted = convert(prepared)
    layers = [layer for layer in converted.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 7
    for layer in layers:
        codes = quantize(layer.weight, layer.weight_qparams)
        assert codes.abs().max() == 2 ** (bits - 1) - 1
        assert torch.equal(dequantize(codes, layer.weight_qparams), layer.weight)
        codes = torch.round(layer.bias.double() / layer.bias_scale)
        assert torch.equal((codes * layer.bias_scale).float(), layer.bias)
    assert not any(parameter.requires_grad for parameter in converted.parameters())
    with torch.inference_mode():  # only the biases have moved, by half a step of the accumulator at most
        torch.testing.assert_close(converted(images()), prepared(images()), rtol=0, atol=0.02)
    assert parametrize.is_parametrized(prepared.get_submodule("stem.0")), "convert changes its argument"


def test_the_biass_grid_is_that_of_the_accumulator():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(36, 2))
    converted = convert(calibrate(prepare(model), images()))
    first, last = converted.get_submodule("0"), converted.get_submodule("5")
    input_scale, hidden_scale = converted.quantize_input_1.scale, converted.quantize__1.scale
    assert torch.equal(first.bias_scale, input_scale * first.weight_qparams.scale)
    assert torch.equal(last.bias_scale, hidden_scale * last.weight_qparams.scale)


def test_dead_channels_and_huge_biases_fit_into_32_bits():
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    with torch.no_grad():
        model[0].weight[0] = 0  # pruned
        model[0].weight[1] = 1e-30  # hardly alive
        model[0].bias.copy_(torch.tensor([5.0, -7.0, 1e6, -1e-9]))
    prepared = calibrate(prepare(model), images())
    converted = convert(prepared)
    layer = converted.get_submodule("0")
    codes = torch.round(layer.bias.double() / layer.bias_scale)
    assert codes.abs().max() <= 2**31 - 1
    torch.testing.assert_close(layer.bias, model[0].bias, rtol=1e-6, atol=float(layer.bias_scale.max()) / 2)
    step = converted.quantize__0.scale
    with torch.inference_mode():
        assert (converted(images()) - model(images())).abs().max() <= step


def test_a_model_keeps_its_learned_steps_when_converted():
    prepared = learn_steps(calibrate(prepare(resnet((4, 8))), images()))
    assert all(quantizer.scale.requires_grad for quantizer in quantizers(prepared).values())
    scale = prepared.get_submodule("stem.0").parametrizations["weight"][0].scale
    with torch.no_grad():
        scale.mul_(2)
    assert torch.equal(convert(prepared).get_submodule("stem.0").weight_qparams.scale, scale)


@pytest.mark.parametrize("training", [True, False])
def test_the_callers_model_stays_as_it_was(training):
    model = resnet((4, 8)).train(training)
    before = copy.deepcopy(model.state_dict())
    convert(calibrate(prepare(model), images()))
    assert model.training is training
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_report_says_which_layers_are_in_float_and_why(capsys):
    tokens = nn.TransformerEncoderLayer(36, 2, 8, batch_first=True)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(2), tokens, nn.Flatten(), nn.Linear(144, 2))
    converted = convert(calibrate(prepare(model, QuantizationConfig(skip=("4",))), images()))
    report = {layer.name: (layer.kind, layer.integer, layer.asked) for layer in layer_report(converted)}
    assert report == {
        "0": ("Conv2d", True, False),
        "2": ("TransformerEncoderLayer", False, False),
        "4": ("Linear", False, True),
    }
    why = "there is no integer kernel for TransformerEncoderLayer"
    assert capsys.readouterr().out == f"1 of 3 layers stay in float: 2 (TransformerEncoderLayer: {why}).\n"


@pytest.mark.parametrize(
    "config", [QuantizationConfig(), QuantizationConfig(activation_bits=None)], ids=["all in integers", "asked for"]
)
def test_nothing_is_said_where_nothing_stays_against_the_will(config, capsys):
    convert(calibrate(prepare(resnet((4, 8)), config), images()))
    assert capsys.readouterr().out == ""
