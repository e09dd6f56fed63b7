"""Export and runners against ONNX Runtime itself, the ONNX reference evaluator, and counts by hand."""

import copy
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from edgelab import data, train
from edgelab.data import Split, normalize
from edgelab.deploy import Runner, as_kernels, operators, to_onnx
from edgelab.deploy.saturation import sums_saturate
from edgelab.doctor.machine import INT8, processor
from edgelab.errors import EdgelabError
from edgelab.models import load_pretrained, resnet
from edgelab.quantization import FakeQuantize, QuantizationConfig, calibrate, convert, dequantize, prepare, quantize

FLOAT = {"Conv", "FusedConv", "NhwcFusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"}
# Convolutions and linear layers, counted by hand in the papers' tables.
NETWORKS = {
    "resnet": (9, 1),
    "resnet_tiny": (9, 1),
    "mobilenet_v2_050": (52, 1),
    "torchvision resnet18": (20, 1),
    "torchvision mobilenet_v2": (52, 1),
    "torchvision mobilenet_v3_small": (52, 2),
}
W8A8 = QuantizationConfig()
EPOCHS = {"resnet18": 3, "mobilenet_v2": 3, "mobilenet_v3_small": 4}


def torchvision_model(name):
    """Return a network of torchvision's for 16 classes, to be trained in a few steps."""
    from torchvision import models  # after edgelab, which prepares torch for it

    torch.manual_seed(0)
    model = getattr(models, name)(num_classes=16)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1  # MobileNetV3's 0.01 takes hundreds of steps to forget where it began
        if hasattr(module, "bn2") or getattr(module, "use_res_connect", False):
            last = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)][-1]
            nn.init.constant_(last.weight, 0.2)  # residual branches begin small, so that depth does not hinder
    return model


@torch.no_grad()
def fit_the_classifier(model, split):
    """Set the statistics of the batch norms, and by least squares the last layer: seconds, not minutes.

    Its logits tell the images of `split` apart, so that they span their grid as those of a trained network do.
    """
    images = normalize(split.images)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # one batch sets the statistics
    model.train()(images)
    model.eval()
    classifier = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    seen = []
    with classifier.register_forward_pre_hook(lambda _layer, inputs: seen.append(inputs[0])):
        model(images)
    features = nn.functional.pad(seen[0], (0, 1), value=1.0)
    wanted = 8 * nn.functional.one_hot(split.labels, 16).float()
    ridge = 0.1 * features.square().mean() * torch.eye(features.shape[1])
    solution = torch.linalg.solve(features.T @ features + ridge, features.T @ wanted)
    classifier.weight.copy_(solution[:-1].T)
    classifier.bias.copy_(solution[-1])


@pytest.fixture(scope="module")
def signs():
    return data.load("signs")


def set_up(model, signs, folder):
    """Return a network with its quantized self, exported, and the images to compare them on."""
    converted = convert(calibrate(prepare(model), normalize(signs.train.images[:256])))
    images = normalize(signs.test.images[:300])
    path = to_onnx(converted, images[:2], folder / "model.onnx", dynamic_batch=True)
    return SimpleNamespace(converted=converted, path=path, images=images)


@pytest.fixture(scope="module", params=NETWORKS)
def deployed(request, signs, tmp_path_factory):
    """Return a network, quantized and exported: the zoo's, or one of torchvision's, which come without weights."""
    name = request.param.removeprefix("torchvision ")
    if name == request.param:
        model = load_pretrained(name)
    else:
        model = torchvision_model(name)
        fit_the_classifier(model, signs.train[:256])
    found = set_up(model, signs, tmp_path_factory.mktemp("deployed"))
    found.name, found.trained = request.param, name == request.param
    return found


def steps_apart(model, runner, images):
    """Return how far the logits of `runner` and the model are apart, in quantization steps of the output."""
    with torch.inference_mode():
        return (runner(images) - model(images)).abs() / output_step(model)


def output_step(model):
    """Return the quantization step of the logits."""
    return [module for module in model.modules() if isinstance(module, FakeQuantize)][-1].scale


def test_every_convolution_and_linear_layer_runs_on_integers(deployed):
    counts = operators(deployed.path)
    assert not FLOAT & counts.keys()
    assert (counts["QLinearConv"], counts["QGemm"]) == NETWORKS[deployed.name]


def test_the_fake_quantized_model_is_within_a_step_of_what_runs(deployed):
    # Without training there are no margins: what differs in one code at the beginning may be anything at the end.
    within, decided, agreeing = (0.99, 0.95, 0.99) if deployed.trained else (0.8, 0.4, 0.9)
    apart, clear, agree = compared(deployed)
    assert (apart < 1.5).float().mean() >= within
    assert clear.float().mean() >= decided
    assert agree[clear].float().mean() >= agreeing


@pytest.mark.long
@pytest.mark.parametrize("name", EPOCHS)
def test_trained_for_some_epochs_it_is_within_a_step_of_what_runs(name, signs, tmp_path):
    model, some = torchvision_model(name), signs.train[:1500]
    history = train.fit(model, some, epochs=EPOCHS[name], lr=0.05, batch_size=50, progress=False)
    assert history.loss[-1] < 0.9 * history.loss[0]
    apart, clear, agree = compared(set_up(model, signs, tmp_path))
    assert (apart < 1.5).float().mean() >= 0.99
    assert clear.float().mean() >= 0.1  # they have learned so little that many of their classes share a code
    assert agree[clear].float().mean() >= 0.99


def compared(deployed):
    """Return how far the logits are apart, which images have a best class, and for which both have the same one."""
    runner = Runner.open(deployed.path)
    with torch.inference_mode():
        logits, got = deployed.converted(deployed.images), runner(deployed.images)
    best, second = logits.topk(2).values.T
    step = output_step(deployed.converted)
    return (got - logits).abs() / step, best - second > 1.5 * step, got.argmax(1) == logits.argmax(1)


def test_computed_as_kernels_do_it_is_the_same_code_for_code(deployed):
    """On every processor: without VNNI, ONNX Runtime's default kernels saturate, and three codes in four differ."""
    runner, kernels = Runner.open(deployed.path), as_kernels(deployed.converted)
    with torch.inference_mode():
        equal = kernels(deployed.images) == runner(deployed.images)
    # Additions round in an order of their own: three codes in two million; a deep untrained network makes more of them.
    least = {"torchvision mobilenet_v2": 0.85}
    assert equal.float().mean() >= least.get(deployed.name, 0.97)


def images(n=4, size=8, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def small(config=W8A8, model=None):
    torch.manual_seed(0)
    return convert(calibrate(prepare(model or resnet((4, 8)), config), images(32)))


def test_a_float_model_gives_the_same_logits_and_stays_as_it_was(tmp_path):
    model = resnet((4, 8)).train()
    before = copy.deepcopy(model.state_dict())
    runner = Runner.open(to_onnx(model, images(), tmp_path / "model.onnx"))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with torch.inference_mode():
        torch.testing.assert_close(runner(images()), model.eval()(images()), rtol=1e-4, atol=1e-5)
    assert {"Conv", "FusedConv", "NhwcFusedConv"} & operators(tmp_path / "model.onnx").keys()


CONFIGS = {
    "per-channel": W8A8,
    "per-tensor": QuantizationConfig(per_channel=False),
    "4-bit weights": QuantizationConfig(4),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_the_file_means_to_onnxs_reference_what_the_model_computes(config, tmp_path):
    model = small(config)
    path = to_onnx(model, images(), tmp_path / "model.onnx")
    reference = ReferenceEvaluator(str(path))
    runner = lambda images: torch.from_numpy(reference.run(None, {"input": images.numpy()})[0])  # noqa: E731
    assert (steps_apart(model, runner, images()) < 1.5).float().mean() >= 0.99
    assert not FLOAT & operators(path).keys()
    assert FLOAT & operators(path, level="none").keys()  # as written, before the runtime fuses


def test_weights_alone_can_be_quantized(tmp_path):
    model = small(QuantizationConfig(4, None))
    runner = Runner.open(to_onnx(model, images(), tmp_path / "model.onnx"))
    with torch.inference_mode():
        torch.testing.assert_close(runner(images()), model(images()), rtol=1e-4, atol=1e-4)


def test_the_file_holds_the_models_codes_and_is_small(tmp_path):
    torch.manual_seed(0)
    network = resnet((32, 64))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
    model = small(model=network)
    tensors = {
        tensor.name: tensor for tensor in onnx.load(to_onnx(model, images(), tmp_path / "i.onnx")).graph.initializer
    }
    layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "weight_qparams")}
    assert len(layers) == 7
    for name, layer in layers.items():
        codes = torch.from_numpy(numpy_helper.to_array(tensors[f"{name}.weight_codes"]).copy())
        assert codes.dtype == torch.int8
        codes = codes[:, : layer.weight.shape[1]]  # the first layer's may be filled up with zeros
        assert torch.equal(codes, quantize(layer.weight, layer.weight_qparams))
        assert torch.equal(dequantize(codes, layer.weight_qparams), layer.weight)
        bias = numpy_helper.to_array(tensors[f"{name}.bias_codes"])
        assert bias.dtype == np.int32
        assert np.array_equal((bias * layer.bias_scale.double().numpy()).astype(np.float32), layer.bias.numpy())
    to_onnx(network, images(), tmp_path / "f.onnx")
    assert (tmp_path / "f.onnx").stat().st_size > 3.3 * (tmp_path / "i.onnx").stat().st_size


class Wired(nn.Module):
    def __init__(self, wire):
        super().__init__()
        self.a, self.b, self.wire = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1), wire

    def forward(self, x):
        return self.wire(self.a(x), self.b(x))


class CalledTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3)

    def forward(self, x):
        return self.conv(self.conv(x))


MODELS = {
    "addition": (Wired(lambda a, b: a + b), {"QLinearConv": 2, "QLinearAdd": 1}),
    "concatenation": (Wired(lambda a, b: torch.cat([a, b], 1)), {"QLinearConv": 2, "QLinearConcat": 1}),
    "gate": (Wired(lambda a, b: a * torch.sigmoid(b)), {"QLinearConv": 2, "QLinearSigmoid": 1, "QLinearMul": 1}),
    "mean of the picture": (
        Wired(lambda a, b: (a + b).mean((2, 3), keepdim=True)),
        {"QLinearConv": 2, "QLinearAdd": 1, "QLinearGlobalAveragePool": 1},
    ),
    "a layer called twice": (CalledTwice(), {}),  # right, if not fast
}


@pytest.mark.parametrize(("model", "kernels"), MODELS.values(), ids=MODELS.keys())
def test_the_kernels_of(model, kernels, tmp_path):
    converted = small(model=copy.deepcopy(model))
    path = to_onnx(converted, images(), tmp_path / "model.onnx")
    assert kernels.items() <= operators(path).items()
    assert (steps_apart(converted, Runner.open(path), images()) < 1.5).float().mean() >= 0.99


def test_a_dynamic_batch_takes_any_number_of_images_and_a_static_one_its_multiples(tmp_path):
    model = small()
    dynamic = Runner.open(to_onnx(model, images(1), tmp_path / "dynamic.onnx", dynamic_batch=True))
    static = Runner.open(to_onnx(model, images(2), tmp_path / "static.onnx"))
    for n in (1, 2, 5):
        assert dynamic(images(n)).shape == (n, 16)
    assert torch.equal(static(images(6)), dynamic(images(6)))
    assert static.once(images(2))().shape == (2, 16)
    with pytest.raises(EdgelabError, match=r"2 images at a time, and 5 "):
        static(images(5))


def test_a_runner_has_the_threads_it_was_given_and_counts_accuracy(tmp_path):
    model = small()
    runner = Runner.open(to_onnx(model, images(), tmp_path / "model.onnx"), threads=2)
    assert runner._session.get_session_options().intra_op_num_threads == runner.threads == 2
    assert torch.equal(runner(images()), Runner.open(tmp_path / "model.onnx")(images()))
    split = Split((images(8) * 40 + 128).clamp(0, 255).to(torch.uint8), torch.arange(8))
    assert train.evaluate(Runner(model), split, batch_size=4) == train.evaluate(model, split)
    assert Runner(model).once(images(1))().shape == (1, 16)


@pytest.mark.parametrize(
    ("saturates", "exact", "asked"),
    [(True, None, True), (False, None, False), (True, False, False), (False, True, True)],
)
def test_the_exact_kernels_are_asked_for_where_sums_saturate_alone(saturates, exact, asked, tmp_path, monkeypatch):
    monkeypatch.setattr("edgelab.deploy.runner.sums_saturate", lambda: saturates)
    runner = Runner.open(to_onnx(small(), images(), tmp_path / "model.onnx"), exact=exact)
    options = runner._session.get_session_options()
    if asked:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    else:  # with VNNI it would take most of the speed
        with pytest.raises(RuntimeError, match="does not have"):
            options.get_session_config_entry("session.x64quantprecision")


def test_the_kernel_and_the_processors_own_flags_agree_on_saturation():
    here = processor()
    if here.instructions is None:
        pytest.skip("this system does not tell what its processor can do")
    x86 = here.architecture.lower() in ("x86_64", "amd64")
    assert sums_saturate() == (x86 and not set(here.instructions) & INT8)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.onnx", None, "There is no model file .*gone.onnx"),
        ("model.bin", b"", r"neither an \.onnx nor a \.tflite file"),
        ("corrupt.onnx", b"not a model at all", "cannot load .*corrupt.onnx: "),
        ("empty.onnx", b"", "cannot load .*empty.onnx: "),
    ],
)
def test_a_file_that_cannot_be_run_is_named(name, content, words, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EdgelabError, match=words) as caught:
        Runner.open(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shapes", [[(1, 3, 8, 8), (1, 3, 8, 8)], [(4,)]], ids=["two", "no batch"])
def test_a_file_of_no_model_of_images_is_named(shapes, tmp_path):
    kind = onnx.TensorProto.FLOAT
    inputs = [onnx.helper.make_tensor_value_info(f"x{n}", kind, shape) for n, shape in enumerate(shapes)]
    output = onnx.helper.make_tensor_value_info("sum", kind, shapes[0])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Sum", [x.name for x in inputs], ["sum"])], "graph", inputs, [output]
    )
    opset = [onnx.helper.make_opsetid("", 20)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), tmp_path / "model.onnx")
    with pytest.raises(EdgelabError, match="no model of images"):
        Runner.open(tmp_path / "model.onnx")


def test_an_unknown_level_is_named(tmp_path):
    to_onnx(small(), images(), tmp_path / "model.onnx")
    with pytest.raises(EdgelabError, match=r"no level .most.\. There are: none, basic, extended, all"):
        Runner.open(tmp_path / "model.onnx", level="most")


class NoSuchOperator(nn.Module):
    def forward(self, x):
        return torch.linalg.svd(x)[0]


class TwoFaced(nn.Module):
    def forward(self, x):
        return -x if torch.compiler.is_exporting() else x


REFUSED = {
    "an operator that ONNX lacks": (NoSuchOperator, "cannot be written as ONNX: .*svd"),
    "another model in the file": (TwoFaced, "does not compute"),
    "4-bit activations": (lambda: small(QuantizationConfig(8, 4)), "8 bits, not of 4"),
    "a model that is not converted": (lambda: calibrate(prepare(resnet((4, 8))), images()), "not converted"),
}


@pytest.mark.parametrize(("build", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_no_file_is_written_for(build, words, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"the file of yesterday")
    with pytest.raises(EdgelabError, match=words) as caught:
        to_onnx(build(), images(), path)
    assert "\n" not in str(caught.value)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"the file of yesterday"]
