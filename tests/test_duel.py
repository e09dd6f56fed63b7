"""What is timed is what would be deployed; a duel's figures are of one layer."""

from collections import Counter

import onnx
import pytest
import torch
from torch import nn

from edgelab.deploy import Runner, duel, operators, to_onnx
from edgelab.deploy.chain import chain_for_timing, open_chain
from edgelab.errors import EdgelabError
from edgelab.measure import count_macs
from edgelab.models import conv_bn, mobilenet_v1
from edgelab.quantization import calibrate, convert, prepare

CHAINS = {
    "full": lambda: duel.layers("full", duel.Size(8, 3, 8), 2),
    "separable": lambda: duel.layers("separable", duel.Size(8, 5, 8), 2),
    "a picture, strides, no ReLU": lambda: nn.Sequential(
        conv_bn(3, 8, stride=2), conv_bn(8, 16, 1, activation=None), conv_bn(16, 16, groups=16, activation=nn.ReLU6)
    ).eval(),
}


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("build", CHAINS.values(), ids=CHAINS)
def test_a_chain_to_be_timed_has_the_operators_of_a_real_file(build, int8, tmp_path):
    model = build()
    example = torch.randn(1, model[0][0].in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    real = convert(calibrate(prepare(model), example)) if int8 else model
    to_onnx(real, example, tmp_path / "real.onnx")
    onnx.save(chain_for_timing(model, example, int8=int8), tmp_path / "timed.onnx")
    ours, theirs = (operators(tmp_path / f"{name}.onnx") for name in ("timed", "real"))
    ours.pop("Pad", None), theirs.pop("Pad", None)  # zeros beside the three channels of a picture
    assert ours == theirs
    assert Runner.open(tmp_path / "timed.onnx")(example).shape == model(example).shape


def test_weights_of_a_float_chain_are_the_models(tmp_path):
    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.ReLU())
    example = torch.randn(1, 4, 6, 6)
    onnx.save(chain_for_timing(model, example), tmp_path / "timed.onnx")
    with torch.no_grad():
        expected = torch.relu(model[0](example) + 0.1)
    torch.testing.assert_close(Runner.open(tmp_path / "timed.onnx")(example), expected)


def test_int8_weights_take_a_byte(tmp_path):
    for int8, size in ((False, 4), (True, 1)):
        proto = chain_for_timing(duel.layers("full", duel.Size(16)), duel.Size(16).example, int8=int8)
        weights = [onnx.numpy_helper.to_array(one) for one in proto.graph.initializer if len(one.dims) == 4]
        assert {array.itemsize for array in weights} == {size}
        assert len(weights) == duel.Size(16).depth == 8


def test_what_is_no_chain_is_refused():
    with pytest.raises(EdgelabError, match="AdaptiveAvgPool2d"):
        chain_for_timing(nn.Sequential(conv_bn(3, 8), nn.AdaptiveAvgPool2d(1)), torch.zeros(1, 3, 8, 8))
    with pytest.raises(EdgelabError, match="Hardswish"):
        chain_for_timing(conv_bn(3, 8, activation=nn.Hardswish), torch.zeros(1, 3, 8, 8))


def test_the_features_of_a_mobilenet_v1_are_a_chain():
    model = mobilenet_v1(0.25).eval()
    proto = chain_for_timing(model.features, torch.zeros(1, 3, 32, 32))
    assert Counter(node.op_type for node in proto.graph.node) == {"Conv": 27, "Relu": 27}


@pytest.mark.parametrize("size", [duel.Size(8), duel.Size(64, 5, 8)], ids=str)
@pytest.mark.parametrize("kind", duel.KINDS)
def test_macs_are_those_that_are_counted(size, kind):
    assert duel.macs(kind, size) == count_macs(duel.layers(kind, size, 1), size.example)


def test_a_sweep_gives_each_size_four_times_of_one_layer():
    ((size, times),) = duel.sweep([duel.Size(8, 3, 8)])
    assert size == duel.Size(8, 3, 8)
    assert set(times) == {(kind, precision) for kind in duel.KINDS for precision in duel.PRECISIONS}
    assert all(0 < ms < 100 for ms in times.values())


def test_the_fastest_call_counts_and_all_take_turns():
    calls = []
    best = duel.fastest({name: lambda name=name: calls.append(name) for name in "ab"}, turns=3)
    assert set(best) == {"a", "b"}
    turns = [name for place, name in enumerate(calls[2:], start=2) if calls[place - 1] != name]
    assert turns == ["a", "b"] * 3


def test_a_chain_without_padding_is_timed_as_it_is():
    model, example = nn.Sequential(nn.Conv2d(4, 8, 3, dilation=2), nn.Conv2d(8, 4, 3)), torch.zeros(1, 4, 12, 12)
    for precision in duel.PRECISIONS:
        assert open_chain(model, example, precision)().shape == tuple(model(example).shape)


def test_padding_by_name_is_refused():
    with pytest.raises(EdgelabError, match="'same'"):
        chain_for_timing(nn.Sequential(nn.Conv2d(3, 8, 3, padding="same")), torch.zeros(1, 3, 8, 8))
