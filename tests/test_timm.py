"""Networks of timm, which writes its layers as subclasses: they run on integers as others do."""

import pytest
import torch
from torch import nn

from edgelab.deploy import Runner, operators, to_onnx
from edgelab.doctor import machine
from edgelab.measure import compare_latency
from edgelab.quantization import calibrate, convert, layer_report, prepare, sqnr

# Their convolutions and linear layers, as `timm.create_model` makes them.
NETWORKS = ["mobilenetv4_conv_small", "efficientnet_lite0", "regnetx_002", "fbnetc_100"]


def network(name, size=64):
    """Return one of timm's networks for 16 classes, its batch norms set by noise, and images."""
    import timm

    import edgelab  # noqa: F401 (which prepares torchvision, that timm imports)

    torch.manual_seed(0)
    model, images = timm.create_model(name, num_classes=16), torch.randn(16, 3, size, size)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # one batch sets the statistics
    with torch.no_grad():
        model.train()(images)
    return model.eval(), images


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_is_in_integers_and_every_norm_is_folded(name):
    model, images = network(name)
    prepared = prepare(model)
    layers = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert len(layer_report(prepared)) == len(layers)
    assert all(layer.integer for layer in layer_report(prepared))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in prepared.modules())
    with torch.no_grad():
        torch.testing.assert_close(prepared(images), model(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["test_byobnet", "test_efficientnet", "test_convnext2"])
def test_it_answers_in_onnx_runtime_as_its_float_self(name, tmp_path):
    model, images = network(name)
    converted = convert(calibrate(prepare(model), images))
    path = to_onnx(converted, images[:2], tmp_path / "model.onnx")
    with torch.no_grad():
        assert sqnr(model(images), Runner.open(path)(images)) > 18
    counts = operators(path)
    assert counts["QLinearConv"] + counts["QGemm"] == len(layer_report(converted))


# Small networks of tokens or of channels that lie last, and how many products of activations each has.
OF_TOKENS = {
    "VisionTransformer": ({"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2}, 4),
    "MlpMixer": ({"img_size": 32, "patch_size": 8, "embed_dim": 64, "num_blocks": 2}, 0),
    "ConvNeXt": ({"patch_size": 2, "depths": (1, 1, 1, 1), "dims": (16, 32, 48, 64)}, 0),
    "SwinTransformer": (
        {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4)},
        8,
    ),
}


def of_tokens(kind):
    """Return a small network of timm with weights that do something, images, and its number of products."""
    import timm.models

    import edgelab  # noqa: F401 (which prepares torchvision, that timm imports)

    torch.manual_seed(0)
    options, products = OF_TOKENS[kind]
    model = getattr(timm.models, kind)(num_classes=16, **options).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    return model, torch.randn(16, 3, 32, 32), products


@pytest.mark.parametrize("kind", OF_TOKENS)
def test_every_layer_and_product_of_a_network_of_tokens_is_in_integers(kind):
    model, images, products = of_tokens(kind)
    converted = convert(calibrate(prepare(model), images))
    report = layer_report(converted)
    layers = [module for module in model.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert len(report) == len(layers) + products
    assert [layer.name for layer in report if not layer.integer] == []
    with torch.no_grad():
        assert sqnr(model(images), converted(images)) > 18


@pytest.mark.parametrize("kind", ["VisionTransformer", "ConvNeXt"])
def test_onnx_runtime_has_an_integer_kernel_for_each_of_them(kind, tmp_path):
    model, images, products = of_tokens(kind)
    converted = convert(calibrate(prepare(model), images))
    path = to_onnx(converted, images[:2], tmp_path / "model.onnx")
    counts = operators(path)
    layers = sum(isinstance(module, (nn.Conv2d, nn.Linear)) for module in model.modules())
    assert (counts["QLinearConv"] + counts["QGemm"], counts["QLinearMatMul"]) == (layers, products)
    assert counts["QLinearSoftmax"] == products / 2
    assert not any(counts[kernel] for kernel in ("Conv", "FusedConv", "Gemm", "MatMul", "FusedMatMul", "Softmax"))
    with torch.no_grad():
        assert sqnr(model(images), Runner.open(path)(images)) > 18


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.parametrize("name", NETWORKS)
def test_int8_is_faster(name, tmp_path):
    if not machine.INT8 & set(machine.processor().instructions or ()):
        pytest.skip("this processor has no integer instructions for int8")
    model, images = network(name, 224)
    files = {"float": model, "int8": convert(calibrate(prepare(model), images))}
    runs = {
        name: Runner.open(to_onnx(each, images[:1], tmp_path / f"{name}.onnx")).once(images[:1])
        for name, each in files.items()
    }
    assert compare_latency(runs).ratio >= 1.5
