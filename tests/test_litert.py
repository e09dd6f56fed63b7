"""The LiteRT writer, operator by operator and network by network, against torch and against LiteRT itself."""

import copy

import flatbuffers
import numpy as np
import pytest
import torch
from ai_edge_litert import schema_py_generated as schema
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from edgelab import data
from edgelab.data import normalize
from edgelab.deploy import Runner, as_kernels, check_parity, litert_quantizers, to_litert, to_onnx
from edgelab.deploy.lowering import Lowering
from edgelab.deploy.tflite import inline_buffers, pack, unpack
from edgelab.errors import EdgelabError
from edgelab.models import load_pretrained, mobilenet_v1, mobilenet_v2, resnet
from edgelab.quantization import FakeQuantize, QuantizationConfig, calibrate, convert, dequantize, prepare, quantize

INT8, INT32, FLOAT32 = schema.TensorType.INT8, schema.TensorType.INT32, schema.TensorType.FLOAT32
KINDS = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}


def images(n=4, size=8, channels=3, seed=0):
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


W8A8 = QuantizationConfig()


def quantized(model, shown, config=W8A8):
    torch.manual_seed(0)
    return convert(calibrate(prepare(model, config), shown))


def opened(path):
    """Return the file's model by the schema, and its operators by name."""
    model = unpack(path.read_bytes(), str(path))
    codes = [KINDS[code.builtinCode] for code in model.operatorCodes]
    return model, [codes[node.opcodeIndex] for node in model.subgraphs[0].operators]


def step(model):
    return float([module for module in model.modules() if isinstance(module, FakeQuantize)][-1].scale)


class Wired(nn.Module):
    """Two convolutions of the picture, and what is made of them."""

    def __init__(self, wire):
        super().__init__()
        self.a, self.b, self.wire = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1), wire
        self.after = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.wire(self.a(x), self.b(x))


class Chain(nn.Module):
    """A convolution, an operation, another convolution: so that the operation lies between two grids."""

    def __init__(self, middle, channels=4):
        super().__init__()
        self.before, self.middle, self.after = nn.Conv2d(3, 4, 3, padding=1), middle, nn.Conv2d(channels, 5, 1)

    def forward(self, x):
        return self.after(self.middle(self.before(x)))


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.mix, self.head = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x):
        tokens = F.gelu(self.mix(self.embed(x).flatten(2).transpose(1, 2)))
        return self.head(tokens.mean(1))


class Shuffled(nn.Module):
    """ShuffleNet's unit: half of the channels go on as they are, and then all are shuffled."""

    def __init__(self):
        super().__init__()
        self.stem, self.second, self.last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(8, 5, 1)

    def forward(self, x):
        a, b = self.stem(x).chunk(2, dim=1)
        x = torch.cat([a, self.second(b)], 1)
        n, c, h, w = x.shape
        return self.last(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


def with_stochastic_depth():
    from torchvision.ops import StochasticDepth  # after edgelab, which prepares torch for it

    return Chain(nn.Sequential(nn.Conv2d(4, 4, 1), StochasticDepth(0.2, "row")))


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


# What comes in between, and what its operator is in float and in integers.
MIDDLES = {
    "ReLU": (nn.ReLU(), "CONV_2D"),
    "ReLU6": (nn.ReLU6(), "CONV_2D"),
    "Hardswish": (nn.Hardswish(), "HARD_SWISH"),
    "Hardsigmoid": (nn.Hardsigmoid(), "ADD"),
    "Sigmoid": (nn.Sigmoid(), "LOGISTIC"),
    "SiLU": (nn.SiLU(), "LOGISTIC"),
    "Tanh": (nn.Tanh(), "TANH"),
    "LeakyReLU": (nn.LeakyReLU(0.1), "LEAKY_RELU"),
    "ELU": (nn.ELU(), "ELU"),
    "GELU": (nn.GELU(), "GELU"),
    "Hardtanh": (nn.Hardtanh(0, 6), "RELU6"),
    "MaxPool2d": (nn.MaxPool2d(2), "MAX_POOL_2D"),
    "MaxPool2d with padding": (nn.MaxPool2d(3, 2, 1), "PADV2"),
    "MaxPool2d with ceil_mode": (nn.MaxPool2d(3, 2, ceil_mode=True), "MAX_POOL_2D"),
    "AvgPool2d": (nn.AvgPool2d(2), "AVERAGE_POOL_2D"),
    "AvgPool2d with padding": (nn.AvgPool2d(3, 2, 1), "PAD"),
    "AdaptiveAvgPool2d(1)": (nn.AdaptiveAvgPool2d(1), "MEAN"),
    "AdaptiveAvgPool2d(2)": (nn.AdaptiveAvgPool2d(2), "AVERAGE_POOL_2D"),
    "AdaptiveAvgPool2d of the same size": (nn.AdaptiveAvgPool2d(8), "CONV_2D"),
    "BatchNorm2d behind a ReLU": (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)), "MUL"),
    "Upsample": (nn.Upsample(scale_factor=2), "RESIZE_NEAREST_NEIGHBOR"),
    "Dropout": (nn.Dropout(), "CONV_2D"),
    "zeros around": (Function(lambda x: F.pad(x, (1, 2, 0, 3))), "PAD"),
    "ZeroPad2d": (nn.ZeroPad2d(1), "PAD"),
    "channel shuffle": (nn.ChannelShuffle(2), "GATHER"),
    "channel shuffle, a function": (Function(lambda x: F.channel_shuffle(x, 2)), "GATHER"),
    "depthwise": (nn.Conv2d(4, 4, 3, padding=1, groups=4), "DEPTHWISE_CONV_2D"),
    "groups": (nn.Conv2d(4, 4, 3, padding=1, groups=2), "CONV_2D"),
}
WIRES = {
    "sum": (lambda a, b: a + b, "ADD"),
    "sum and ReLU": (lambda a, b: F.relu(a + b), "ADD"),
    "product": (lambda a, b: a * b, "MUL"),
    "gate": (lambda a, b: a * torch.sigmoid(b.mean((2, 3), keepdim=True)), "MUL"),
    "concatenation": (lambda a, b: torch.cat([a, b], 1), "CONCATENATION"),
    "mean": (lambda a, b: (a + b).mean((2, 3)), "MEAN"),
    "flattened": (lambda a, b: torch.flatten(a + b, 1), "RESHAPE"),
}
NETWORKS = {
    "linear behind a picture": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dropout(), nn.Linear(144, 6), nn.ReLU(), nn.Linear(6, 5)
    ),
    "tokens": Tokens,
    "shuffled channels": Shuffled,
    "stochastic depth": with_stochastic_depth,
    "ResNet": lambda: resnet((4, 8)),
    "MobileNetV1": lambda: mobilenet_v1(0.25),
    "MobileNetV2": lambda: mobilenet_v2(0.25),
}
CASES = {
    **{name: (lambda middle=middle: Chain(copy.deepcopy(middle)), kind) for name, (middle, kind) in MIDDLES.items()},
    **{name: (lambda wire=wire: Wired(wire), kind) for name, (wire, kind) in WIRES.items()},
    **{name: (build, "CONV_2D") for name, build in NETWORKS.items()},
}  # fmt: skip


def built(name):
    torch.manual_seed(0)
    model = CASES[name][0]()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


@pytest.mark.parametrize("name", CASES)
def test_a_float_model_gives_the_same_numbers(name, tmp_path):
    model = built(name)
    path = to_litert(model, images(1), tmp_path / "model.tflite")
    found, operators = opened(path)
    assert CASES[name][1] in operators
    assert INT8 not in {tensor.type for tensor in found.subgraphs[0].tensors}
    with torch.inference_mode():
        torch.testing.assert_close(Runner.open(path)(images()), model(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("MobileNet")])
def test_a_quantized_model_gives_the_same_codes(name, tmp_path):
    model = quantized(built(name), images(32))
    path = to_litert(model, images(1), tmp_path / "model.tflite")
    found, operators = opened(path)
    graph = found.subgraphs[0]
    assert CASES[name][1] in operators
    in_float = {"BatchNorm2d behind a ReLU"}
    if name not in in_float:
        assert "DEQUANTIZE" not in operators
        assert FLOAT32 not in {tensor.type for tensor in graph.tensors}
    assert [graph.tensors[place].type for place in (*graph.inputs, *graph.outputs)] == [INT8, INT8]
    with torch.inference_mode():
        expected = as_kernels(model)(images(32, seed=1))
    apart = (Runner.open(path)(images(32, seed=1)) - expected).abs() / step(model)
    assert (apart < 1.5).float().mean() >= 0.97


@pytest.mark.parametrize("name", ["ResNet", "MobileNetV1", "MobileNetV2", "linear behind a picture"])
def test_nothing_is_transposed(name, tmp_path):
    _found, operators = opened(to_litert(built(name), images(1), tmp_path / "model.tflite"))
    assert "TRANSPOSE" not in operators


geometry = st.fixed_dictionaries(
    {
        "kernel_size": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "padding": st.tuples(st.integers(0, 3), st.integers(0, 3)),
        "dilation": st.integers(1, 2),
        "groups": st.sampled_from([1, 2, 4]),
        "bias": st.booleans(),
    }
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(options=geometry, height=st.integers(4, 9), width=st.integers(4, 9))
def test_a_convolution_of_any_geometry_is_torchs(options, height, width, tmp_path_factory):
    spans = [(k - 1) * options["dilation"] + 1 for k in options["kernel_size"]]
    assume(all(size + 2 * p >= span for size, p, span in zip((height, width), options["padding"], spans, strict=True)))
    torch.manual_seed(0)
    model = nn.Conv2d(4, 8, **options)
    shown = torch.randn(8, 4, height, width)
    path = tmp_path_factory.mktemp("geometry") / "model.tflite"
    with torch.inference_mode():
        got = Runner.open(to_litert(model, shown[:1], path))(shown)
        torch.testing.assert_close(got, model(shown), rtol=1e-4, atol=1e-5)
        codes = quantized(model, shown)
        got = Runner.open(to_litert(codes, shown[:1], path))(shown)
        assert (got - as_kernels(codes)(shown)).abs().max() < 1.5 * step(codes)


@pytest.mark.parametrize(
    "options",
    [{"padding": "same"}, {"padding": "same", "kernel_size": (4, 2), "dilation": 2}, {"padding": "valid"}],
    ids=str,
)
def test_padding_by_name(options, tmp_path):
    layer = nn.Conv2d(3, 4, **{"kernel_size": 3, **options})
    runner = Runner.open(to_litert(layer, images(1), tmp_path / "model.tflite"))
    with torch.inference_mode():
        torch.testing.assert_close(runner(images()), layer(images()), rtol=1e-4, atol=1e-5)


def test_the_file_holds_the_models_codes(tmp_path):
    torch.manual_seed(0)
    model = quantized(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten(), nn.Linear(64, 5)),
        images(32),
    )
    path = to_litert(model, images(1), tmp_path / "model.tflite")
    found, _operators = opened(path)
    tensors = {tensor.name.decode(): tensor for tensor in found.subgraphs[0].tensors}
    layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "weight_qparams")}
    assert len(layers) == 3
    for (name, layer), axis in zip(layers.items(), (0, 3, 0), strict=True):
        tensor = tensors[f"{name}.weight"]
        codes = torch.from_numpy(found.buffers[tensor.buffer].data.view(np.int8).reshape(tensor.shape).copy())
        if axis == 3:
            codes = codes.permute(3, 0, 1, 2)
        elif codes.dim() == 4:
            codes = codes.permute(0, 3, 1, 2)
        else:  # the columns as the picture lies in the file
            codes = codes.reshape(-1, 4, 4, 4).permute(0, 3, 1, 2).reshape(codes.shape)
        assert torch.equal(codes, quantize(layer.weight, layer.weight_qparams))
        assert torch.equal(dequantize(codes, layer.weight_qparams), layer.weight)
        assert tensor.quantization.quantizedDimension == axis
        assert np.array_equal(tensor.quantization.scale, layer.weight_qparams.scale.numpy())
        bias = tensors[f"{name}.bias"]
        assert bias.type == INT32
        assert np.array_equal(found.buffers[bias.buffer].data.view(np.int32), layer.bias_codes.numpy())
        assert np.array_equal(bias.quantization.scale, layer.bias_scale.numpy())


def test_constants_lie_in_the_file_and_aligned(tmp_path):
    path = to_litert(quantized(resnet((4, 8)), images(32)), images(1), tmp_path / "model.tflite")
    content = path.read_bytes()
    root = schema.Model.GetRootAs(content)
    for place in range(root.BuffersLength()):
        buffer = root.Buffers(place)
        assert buffer.Offset() == 0
        if buffer.DataLength():
            data = buffer.DataAsNumpy()
            start = (
                data.__array_interface__["data"][0] - np.frombuffer(content, np.uint8).__array_interface__["data"][0]
            )
            assert start % 16 == 0
    assert inline_buffers(content, "model.tflite") is content


def test_weights_alone_can_be_quantized(tmp_path):
    network = resnet((32, 64))
    model = quantized(network, images(32), QuantizationConfig(8, None))
    path = to_litert(model, images(1), tmp_path / "model.tflite")
    float_path = to_litert(network, images(1), tmp_path / "float.tflite")
    assert path.stat().st_size < 0.3 * float_path.stat().st_size
    with torch.inference_mode():
        torch.testing.assert_close(Runner.open(path)(images()), model(images()), rtol=1e-3, atol=1e-3)


def test_a_layer_left_in_float_is_told(tmp_path, capsys):
    model = quantized(resnet((4, 8)), images(32), QuantizationConfig(skip=("classifier",)))
    path = to_litert(model, images(1), tmp_path / "model.tflite")
    with torch.inference_mode():
        apart = (Runner.open(path)(images()) - model(images())).abs().max()
    assert apart < 0.1 * model(images()).abs().max()
    assert FLOAT32 in {tensor.type for tensor in opened(path)[0].subgraphs[0].tensors}


def test_a_batch_is_run_at_once_and_any_multiple_of_it(tmp_path):
    model = resnet((4, 8)).eval()
    runner = Runner.open(to_litert(model, images(2), tmp_path / "model.tflite"), threads=2)
    assert runner(images(6)).shape == (6, 16)
    assert runner.once(images(2))().shape == (2, 16)
    assert (runner.name, runner.threads) == ("litert", 2)
    with pytest.raises(EdgelabError, match=r"2 images at a time, and 5 "):
        runner(images(5))
    with pytest.raises(EdgelabError, match=r"images of shape \(2, 8, 8, 3\), not \(2, 3, 9, 9\)"):
        runner(images(2, size=9))


def test_the_zoos_tiny_student_agrees_in_both_runtimes(tmp_path):
    signs = data.load("signs")
    model = quantized(load_pretrained("resnet_tiny"), normalize(signs.train.images[:256]))
    shown = normalize(signs.test.images[:200])
    litert = Runner.open(to_litert(model, shown[:1], tmp_path / "model.tflite"))
    onnx = Runner.open(to_onnx(model, shown[:1], tmp_path / "model.onnx"))
    assert check_parity(onnx, litert, shown).agreement >= 0.99
    assert check_parity(model, litert, shown).agreement >= 0.985


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5"])
def test_torchvisions_networks_are_written_in_integers(name, tmp_path):
    from torchvision import models  # after edgelab, which prepares torch for it

    torch.manual_seed(0)
    shown = images(6, 32)
    model = getattr(models, name)(num_classes=16)
    with torch.no_grad():
        model.train()(shown)
    path = to_litert(quantized(model.eval(), shown), shown[:1], tmp_path / "model.tflite")
    found, operators = opened(path)
    assert FLOAT32 not in {tensor.type for tensor in found.subgraphs[0].tensors}
    convolutions = operators.count("CONV_2D") + operators.count("DEPTHWISE_CONV_2D")
    assert (convolutions, operators.count("FULLY_CONNECTED")) == {
        "resnet18": (20, 1), "mobilenet_v2": (52, 1), "mobilenet_v3_small": (52, 2), "shufflenet_v2_x0_5": (56, 1),
    }[name]  # fmt: skip
    assert path.stat().st_size < 1.15 * sum(parameter.numel() for parameter in model.parameters()) + 2**16


class NoSuchOperator(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return torch.linalg.norm(self.conv(x), dim=1)


class TwoTensors(nn.Module):
    def forward(self, x):
        return x, x


REFUSED = {
    "an operator that LiteRT lacks": (NoSuchOperator, "no LiteRT operator for .*norm at "),
    "a pooling over parts that overlap": (lambda: nn.AdaptiveAvgPool2d(3), r"adaptive_?avg.*at .*\(8, 8\) -> "),
    "two tensors": (TwoTensors, "one tensor"),
    "4-bit activations": (lambda: quantized(resnet((4, 8)), images(8), QuantizationConfig(8, 4)), "8 bits.* not of 4"),
    "a model that is not converted": (lambda: calibrate(prepare(resnet((4, 8))), images()), "not converted"),
}


@pytest.mark.parametrize(("build", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_no_file_is_written_for(build, words, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"the file of yesterday")
    with pytest.raises(EdgelabError, match=f"(?i){words}") as caught:
        to_litert(build(), images(1), path)
    assert "\n" not in str(caught.value)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"the file of yesterday"]


@pytest.mark.parametrize(
    ("recipe", "dtype"), [("static", np.int8), ("dynamic", np.float32), ("weight-only", np.float32)]
)
def test_litert_has_a_quantizer_of_its_own(recipe, dtype, tmp_path):
    pytest.importorskip("ai_edge_quantizer", reason="ai-edge-quantizer is not installed")
    model = resnet((32, 64)).eval()
    path = to_litert(model, images(1), tmp_path / "float.tflite")
    theirs = litert_quantizers.quantize(path, tmp_path / "theirs.tflite", images(16), recipe=recipe)
    runner = Runner.open(theirs)
    assert runner.input.dtype == dtype
    assert theirs.stat().st_size < 0.35 * path.stat().st_size
    found = check_parity(model, runner, images(16))
    assert found.mean < 0.1 * found.span


def test_a_file_of_another_ending_is_refused(tmp_path):
    with pytest.raises(EdgelabError, match=r"ends in \.tflite"):
        to_litert(resnet((4, 8)), images(1), tmp_path / "model.lite")


@pytest.mark.parametrize(
    "content", [b"", b"not a model at all", b"\x1c\0\0\0TFL3" + bytes(40)], ids=["empty", "text", "header"]
)
def test_a_file_that_cannot_be_run_is_named(content, tmp_path):
    path = tmp_path / "corrupt.tflite"
    path.write_bytes(content)
    with pytest.raises(EdgelabError, match=r"corrupt\.tflite") as caught:
        Runner.open(path)
    assert "\n" not in str(caught.value)


def outside(content):
    """Return the same file with its larger constants behind the FlatBuffer, as ai-edge-quantizer writes large ones."""
    model = unpack(content, "model.tflite")
    large = [buffer for buffer in model.buffers if buffer.data is not None and len(buffer.data) > 64]
    constants = [bytes(buffer.data) for buffer in large]
    for buffer in large:
        buffer.data, buffer.offset, buffer.size = None, 2**20, 2**20  # fields of the size that they will have
    length = len(packed_as_is(model)) + 15 & ~15
    tail = b""
    for buffer, constant in zip(large, constants, strict=True):
        buffer.offset, buffer.size = length + len(tail), len(constant)
        tail += constant + bytes(-len(constant) % 16)
    return packed_as_is(model).ljust(length, b"\0") + tail


def packed_as_is(model):
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_constants_behind_the_flatbuffer_are_brought_inside(tmp_path):
    path = to_litert(quantized(resnet((4, 8)), images(32)), images(1), tmp_path / "model.tflite")
    moved = tmp_path / "moved.tflite"
    moved.write_bytes(outside(path.read_bytes()))
    assert torch.equal(Runner.open(moved)(images()), Runner.open(path)(images()))
    inlined = inline_buffers(moved.read_bytes(), "moved.tflite")
    assert inlined == pack(unpack(path.read_bytes(), "model.tflite"))
    with pytest.raises(EdgelabError, match="cut off"):
        inline_buffers(moved.read_bytes()[:-32], "moved.tflite")


@pytest.mark.parametrize("integer", [False, True], ids=["float", "int8"])
def test_a_file_that_computes_something_else_takes_no_name(integer, tmp_path, monkeypatch):
    """A writer with a fault: one channel of the largest constant, the weights, is upside down."""
    torch.manual_seed(0)
    model, path = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)), tmp_path / "m.tflite"
    right = Lowering.run

    def faulty(lowering):
        file = unpack(right(lowering), "m.tflite")
        weights = max((one for one in file.buffers if one.data is not None), key=lambda one: len(one.data))
        numbers = np.asarray(weights.data, np.uint8).view(np.int8 if integer else np.float32).copy()
        numbers[: len(numbers) // 4] *= -1
        weights.data = numbers.view(np.uint8)
        return pack(file)

    monkeypatch.setattr(Lowering, "run", faulty)
    with pytest.raises(EdgelabError, match="LiteRT does not compute from the file what the model does"):
        to_litert(quantized(model, images()) if integer else model.eval(), images(1), path)
    assert not path.exists()
