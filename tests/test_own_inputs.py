"""What learners show a model, and where they put it: it works, or one sentence says what is expected."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from edgelab import data, train
from edgelab.data import Split
from edgelab.deploy import Runner, operators, to_onnx
from edgelab.errors import EdgelabError
from edgelab.measure import count_macs, estimate_energy, predict_latency, saved_bytes
from edgelab.measure.devices import DEVICES
from edgelab.quantization import (
    QuantizationConfig,
    calibrate,
    convert,
    correct_bias,
    equalize,
    layer_report,
    prepare,
    quantizers,
)
from tests.own_models import LeNet, Net


def images(n=8, size=18, seed=0):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def pixels(n=40, size=18):
    generator = torch.Generator().manual_seed(0)
    return Split(
        torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=generator), torch.arange(n) % 10
    )


def lenet():
    torch.manual_seed(0)
    return LeNet()


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    ).eval()


def one_sentence(words, call):
    with pytest.raises(EdgelabError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


# --- LeNet's view, and other habits --------------------------------------------------------------------------------


def test_lenet_goes_all_the_way(tmp_path):
    model, split = lenet(), pixels()
    history = train.fit(model, split, val=split, epochs=2, batch_size=13, lr=0.01, progress=False)
    assert history.loss[-1] < history.loss[0]
    with torch.no_grad():
        logits = model(data.normalize(split.images))  # it still runs as it ran before
    assert torch.equal(train.predict(model, split), logits)
    prepared = correct_bias(calibrate(prepare(equalize(model)), images()), images())
    train.fit(prepared, split, epochs=1, batch_size=20, lr=0.001, progress=False)
    path = to_onnx(convert(prepared), images(1), tmp_path / "lenet.onnx", dynamic_batch=True)
    assert train.evaluate(Runner.open(path), split) == pytest.approx(train.evaluate(convert(prepared), split), abs=0.06)
    assert operators(path)["QGemm"] == operators(path)["QLinearConv"] == 2


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [(41, 20, [20, 21]), (40, 20, [20, 20]), (42, 20, [20, 20, 2]), (3, 1, [1, 1, 1]), (1, 8, [1]), (7, 8, [7])],
)
def test_no_last_batch_of_one(n, batch_size, sizes):
    seen = []

    def note(batch):
        seen.append(len(batch))
        return batch

    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 10))
    train.fit(model, pixels(n, 8), epochs=1, batch_size=batch_size, augment=note, progress=False)
    assert seen == sizes


def test_a_batch_norm_of_features_survives_a_last_image(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    assert len(train.fit(model, pixels(21, 8), epochs=1, batch_size=10, progress=False).loss) == 1
    one_sentence("cannot run on an example", lambda: train.fit(model, pixels(1, 8), epochs=1, progress=False))


def test_linear_layers_on_tokens_are_corrected_and_left_by_equalization():
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    x = torch.randn(32, 5, 6) + 1
    prepared = calibrate(prepare(nn.Sequential(layer), QuantizationConfig(2, None, per_channel=False)), x)
    with torch.no_grad():
        before = (prepared(x) - layer(x)).mean((0, 1)).abs().max()
        after = (correct_bias(prepared, x, batch_size=5)(x) - layer(x)).mean((0, 1)).abs().max()
    assert after < 1e-3 * before
    across = nn.Sequential(nn.Conv2d(3, 10, 3), nn.ReLU(), nn.Linear(10, 10))  # the linear layer runs along the width
    picture = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(equalize(across)(picture), across(picture))


def test_equalizing_leaves_alone_what_shares_the_weights():
    model = Net(
        lambda m, x: m.c(torch.relu(m.b(torch.relu(m.a(x)) + torch.relu(m.tied(x))))),
        a=nn.Conv2d(3, 3, 1), tied=nn.Conv2d(3, 3, 1), b=nn.Conv2d(3, 3, 1), c=nn.Conv2d(3, 3, 1),
    )  # fmt: skip
    model.tied.weight = model.b.weight
    with torch.no_grad():
        torch.testing.assert_close(equalize(model)(images()), model(images()), rtol=1e-4, atol=1e-5)


# --- wrappers ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize(
    "wrap", [nn.DataParallel, torch.compile, lambda model: nn.Sequential(torch.compile(model))],
    ids=["DataParallel", "compile", "compiled inside"],
)  # fmt: skip
def test_models_come_out_of_their_wrappers(wrap, tmp_path):
    model = small()
    converted = convert(calibrate(prepare(wrap(model)), images()))
    assert all(layer.integer for layer in layer_report(converted))
    with torch.no_grad():
        assert torch.equal(converted(images()), convert(calibrate(prepare(model), images()))(images()))


STRANGE_MODELS = {
    "TorchScript": (lambda: torch.jit.script(small()), "TorchScript"),
    "a TorchScript trace": (lambda: torch.jit.trace(small(), images()), "TorchScript"),
    "float64": (lambda: small().double(), r"torch.float64.*model.float\(\)"),
    "bfloat16": (lambda: small().bfloat16(), r"torch.bfloat16"),
    "the device meta": (lambda: small().to("meta"), "not on the CPU"),
    "a function": (lambda: lambda x: x, "not function"),
    "a lazy layer": (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), "run it once"),
    "no layers": (lambda: nn.Sequential(nn.ReLU()), "nothing to quantize"),
    "everything skipped": (lambda: small(), None),
}


@pytest.mark.parametrize(("build", "words"), STRANGE_MODELS.values(), ids=STRANGE_MODELS)
def test_a_strange_model_is_one_sentence(build, words):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript's own
        model = build()
    if words is None:
        return one_sentence(
            "all skipped", lambda: prepare(model, QuantizationConfig(activation_bits=None, skip=("0", "5")))
        )
    one_sentence(words, lambda: prepare(model))


# --- what is shown -------------------------------------------------------------------------------------------------

SHOWN = {
    "NumPy": lambda: images().numpy(),
    "float64": lambda: images().double(),
    "float64 of NumPy": lambda: images().double().numpy(),
    "no layout": lambda: images().transpose(2, 3),
    "read-only": lambda: np.broadcast_to(images().numpy(), (8, 3, 18, 18)),
}
NOT_SHOWN = {
    "pixels": (lambda: pixels().images, r"torch.uint8 \(40, 3, 18, 18\).*normalize"),
    "a list": (lambda: list(images()), "not list"),
    "a loader": (lambda: DataLoader(TensorDataset(images())), "not DataLoader.*torch.cat"),
    "a split": (lambda: pixels(), "not Split"),
    "a path": (lambda: "pictures", "not str"),
    "a row": (lambda: torch.zeros(5), r"torch.float32 \(5,\)"),
    "other channels": (lambda: torch.randn(4, 1, 18, 18), r"cannot run on an example of shape \(4, 1, 18, 18\)"),
    "one picture": (lambda: torch.randn(18, 18), r"cannot run on an example of shape \(\d+, 18\)"),
}


@pytest.mark.parametrize("show", SHOWN.values(), ids=SHOWN)
def test_images_may_come_as(show, tmp_path):
    prepared = calibrate(prepare(small()), show())
    want = calibrate(prepare(small()), torch.tensor(show().tolist()))
    for name, quantizer in quantizers(prepared).items():
        assert torch.equal(quantizer.scale, quantizers(want)[name].scale), name
    correct_bias(prepared, show())
    runner = Runner.open(foreign(tmp_path / "model.onnx", shape=("n", 3, 18, 18)))
    assert runner(show()).shape == (8, 3, 18, 18)
    assert runner.once(show())().shape == (8, 3, 18, 18)


def test_a_file_is_made_of_an_array_as_well(tmp_path):
    assert to_onnx(small(), images().double().numpy(), tmp_path / "model.onnx").is_file()


@pytest.mark.parametrize(("show", "words"), NOT_SHOWN.values(), ids=NOT_SHOWN)
def test_images_may_not_come_as(show, words, tmp_path):
    one_sentence(words, lambda: calibrate(prepare(small()), show()))
    one_sentence(words, lambda: correct_bias(calibrate(prepare(small()), images()), show()))
    one_sentence(words, lambda: to_onnx(small(), show(), tmp_path / "model.onnx"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", [train.evaluate, train.predict, lambda m, s: train.fit(m, s, progress=False)],
                         ids=["evaluate", "predict", "fit"])  # fmt: skip
@pytest.mark.parametrize(
    "what", [images(), DataLoader(TensorDataset(images())), "signs"], ids=["tensor", "loader", "name"]
)
def test_what_is_no_split_is_named(call, what):
    one_sentence("Expected a split", lambda: call(small(), what))


OUTPUTS = {
    "a tuple": (lambda m, x: (m.a(x), x), "tuple"),
    "a dict": (lambda m, x: {"out": m.a(x)}, "dict"),
    "a list": (lambda m, x: [m.a(x)], "list"),
}


@pytest.mark.parametrize(("wire", "kind"), OUTPUTS.values(), ids=OUTPUTS)
def test_a_model_that_gives_more_than_a_tensor_calibrates_and_is_told_so_when_it_is_run(wire, kind, tmp_path):
    model = Net(wire, a=nn.Conv2d(3, 4, 3))
    converted = convert(calibrate(prepare(model), images()))
    for candidate in (model, converted):
        one_sentence(f"gives one tensor.*{kind}", lambda m=candidate: to_onnx(m, images(), tmp_path / "model.onnx"))
        one_sentence(f"not {kind}", lambda m=candidate: train.evaluate(m, pixels()))
    one_sentence(r"not \(40, 4, 16, 16\)", lambda: train.evaluate(nn.Conv2d(3, 4, 3), pixels()))


def test_training_what_has_nothing_to_learn_is_one_sentence():
    converted = convert(calibrate(prepare(small()), images()))
    one_sentence("no parameters to train", lambda: train.fit(converted, pixels(), progress=False))


# --- the guard -----------------------------------------------------------------------------------------------------


class ExportsAnother(nn.Module):
    """Gives the file something else than the learner: by how much, `change` says."""

    def __init__(self, change):
        super().__init__()
        self.a, self.change = nn.Conv2d(3, 4, 3), change

    def forward(self, x):
        y = self.a(x)
        return self.change(y) if torch.compiler.is_exporting() else y


CHANGES = {
    "one per cent": lambda y: 1.01 * y,
    "one channel of four": lambda y: torch.cat([y[:, :3], y[:, 3:] * 1.05], 1),
    "below a threshold that the example stays above": lambda y: torch.where(y < -1.2, y - 1, y),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_the_guard_sees(change, tmp_path):
    torch.manual_seed(0)
    one_sentence("does not compute", lambda: to_onnx(ExportsAnother(change), images(), tmp_path / "model.onnx"))
    assert not list(tmp_path.iterdir())


def test_the_guard_sees_a_difference_of_two_codes_inside_a_quantized_model(tmp_path, monkeypatch):
    converted = convert(calibrate(prepare(small()), images()))
    path = to_onnx(converted, images(), tmp_path / "model.onnx")
    from edgelab.deploy import onnx as export

    def spoil(graph):
        (codes,) = (tensor for tensor in graph.initializer if tensor.name == "0.bias_codes")
        values = onnx.numpy_helper.to_array(codes).copy()
        scale = converted.get_submodule("0").bias_scale[0]
        values[0] += round(2.5 * float(converted.get_submodule("quantize__2").scale / scale))
        codes.CopyFrom(onnx.numpy_helper.from_array(values, codes.name))

    before, written = export._strip, path.read_bytes()
    monkeypatch.setattr(export, "_strip", lambda graph: (before(graph), spoil(graph)))
    one_sentence("does not compute.*apart at _2", lambda: to_onnx(converted, images(), path))
    assert path.read_bytes() == written


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=["NaN", "infinite"])
def test_logits_that_are_not_finite_are_refused(value, tmp_path):
    model = Net(
        lambda m, x: m.a(x).mean((2, 3)) + m.b, a=nn.Conv2d(3, 4, 3), b=nn.Buffer(torch.tensor([0, 0, 0, value]))
    )
    one_sentence("infinities or NaN", lambda: to_onnx(model, images(), tmp_path / "model.onnx"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("skip", ["2", "6"])
def test_what_skip_leaves_in_float_stays_in_float_in_the_session(skip, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )  # fmt: skip
    converted = convert(calibrate(prepare(model, QuantizationConfig(skip=(skip,))), images()))
    counts = operators(to_onnx(converted, images(), tmp_path / "model.onnx"))
    assert counts["QLinearConv"] + counts["QGemm"] == 2
    assert counts["Conv"] + counts["FusedConv"] + counts["NhwcFusedConv"] + counts["Gemm"] == 1


# --- files and places ----------------------------------------------------------------------------------------------


def foreign(path, shape=(1, 3, 8, 8), kind=TensorProto.FLOAT, outputs=1):
    """Write a file as another tool would: so many copies of its input."""
    names = [f"y{n}" for n in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], [name]) for name in names],
        "graph",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, kind, shape) for name in names],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": TensorProto.UINT8}, r"tensor\(uint8\)"),
        ({"kind": TensorProto.DOUBLE}, r"tensor\(double\)"),
        ({"kind": TensorProto.FLOAT16}, r"tensor\(float16\)"),
        ({"outputs": 2}, r"2 outputs \(y0, y1\)"),
    ],
    ids=["uint8", "double", "half", "two outputs"],
)
def test_a_foreign_file_of_another_type_is_named(options, words, tmp_path):
    one_sentence(words, lambda: Runner.open(foreign(tmp_path / "model.onnx", **options)))


@pytest.mark.parametrize("shape", [(1, 8, 8, 3), (1, 3, 16, 16), ("n", 1, 8, 8)], ids=["NHWC", "size", "channels"])
def test_a_foreign_file_of_another_layout_says_what_it_takes(shape, tmp_path):
    runner = Runner.open(foreign(tmp_path / "model.onnx", shape=shape))
    words = rf"takes images of shape \([N1], {shape[1]}, {shape[2]}, {shape[3]}\), not \(1, 3, 8, 8\)"
    one_sentence(words, lambda: runner(images(1, 8)))
    one_sentence(words, lambda: runner.once(images(1, 8)))


@pytest.mark.parametrize("shape", [("n", 6), ("n", 3, 20)], ids=["features", "a signal"])
def test_a_file_need_not_take_pictures(shape, tmp_path):
    x = torch.randn(5, *shape[1:])
    assert torch.equal(Runner.open(foreign(tmp_path / "model.onnx", shape=shape))(x), x)


@pytest.mark.parametrize("place", ["file/model.onnx", "folder"], ids=["below a file", "a folder"])
def test_a_place_that_cannot_be_written_is_named(place, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    one_sentence("cannot be written", lambda: to_onnx(small(), images(), tmp_path / place))


# --- counting ------------------------------------------------------------------------------------------------------

PRODUCTS = {
    "bilinear": (nn.Bilinear(5, 6, 7), [(3, 5), (3, 6)], 3 * 7 * 5 * 6),
    "outer": (torch.outer, [(4,), (5,)], 20),
    "outer by broadcasting": (lambda a, b: a[:, None] * b, [(4,), (5,)], 20),
    "a gate is none": (lambda a, b: a * b, [(2, 4, 1, 1), (2, 4, 3, 3)], 0),
    "nor is a scale": (lambda a, b: a * b, [(2, 4, 3), (3,)], 0),
    "addr": (torch.addr, [(4, 5), (4,), (5,)], 20),
    "vdot": (torch.vdot, [(4,), (4,)], 4),
    "distances of a few": (torch.cdist, [(4, 3), (5, 3)], 60),
    "distances of many": (torch.cdist, [(40, 3), (50, 3)], 6000),
    "distances without squares": (lambda a, b: torch.cdist(a, b, p=1), [(4, 3), (5, 3)], 0),
    "distances within": (nn.functional.pdist, [(6, 3)], 15 * 3),
}


class Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


@pytest.mark.parametrize(("product", "shapes", "by_hand"), PRODUCTS.values(), ids=PRODUCTS)
def test_products_are_counted(product, shapes, by_hand):
    assert count_macs(Calls(product), tuple(torch.randn(shape) for shape in shapes)) == by_hand


def test_a_model_without_numbers_has_the_same_size():
    one, other = small(), small().to("meta")
    assert saved_bytes(other) == saved_bytes(one)
    assert count_macs(other, images(1)) == count_macs(one, images(1))


@pytest.mark.parametrize(
    "call",
    [lambda: estimate_energy(-1), lambda: predict_latency(DEVICES[0], -1, 0), lambda: estimate_energy(float("nan"))],
    ids=["energy", "latency", "NaN"],
)
def test_less_than_no_work_is_refused(call):
    one_sentence("macs must be 0 or more", call)
