"""Scores of channels against sums by hand; targets in ratios, MACs and milliseconds; and the way into int8."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgelab import data, models
from edgelab.deploy import Runner, operators, time_layer, to_litert, to_onnx
from edgelab.errors import EdgelabError
from edgelab.measure import count_macs
from edgelab.pruning import (
    LayerTimes,
    channel_importance,
    choose_latency,
    choose_macs,
    choose_ratio,
    find_dependencies,
    keep_count,
    prune_channels,
    remove_channels,
)
from edgelab.quantization import calibrate, convert, prepare
from tests.own_models import conv, net, norm
from tests.test_structured import TORCHVISION, settled


def a_split(images=12, size=16):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, size, size), dtype=torch.uint8, generator=generator)
    return data.Split(pixels, torch.arange(images) % 4, None)


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return find_dependencies(settled(models.resnet((16, 32), num_classes=4)), torch.randn(1, 3, 16, 16))


def test_l1_is_the_sum_of_a_filters_absolute_weights_relative_to_its_layer():
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 2, 1))
    model[0].weight.data = torch.tensor([3.0, -1.0]).reshape(2, 1, 1, 1)
    scores = channel_importance(find_dependencies(model, torch.randn(1, 1, 4, 4)), "l1")
    torch.testing.assert_close(scores["0"], torch.tensor([1.5, 0.5]))


@pytest.mark.parametrize(("criterion", "expected"), [("l1", [7.0, 6.0]), ("l2", [5.0, 6.0])])
def test_l1_adds_and_l2_adds_squares(criterion, expected):
    model = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.Conv2d(2, 2, 1))
    model[0].weight.data = torch.tensor([[3.0, -4.0], [0.0, 6.0]]).reshape(2, 2, 1, 1)
    scores = channel_importance(find_dependencies(model, torch.randn(1, 2, 4, 4)), criterion)["0"]
    torch.testing.assert_close(scores, torch.tensor(expected) / sum(expected) * 2)


def test_layers_that_are_added_are_asked_together():
    case = net(lambda m, x: m.c(m.a(x) + m.b(x)), a=conv(1, 2, 1, bias=False), b=conv(1, 2, 1, bias=False), c=conv(2))
    model = case.build()
    model.a.weight.data = torch.tensor([3.0, 4.0]).reshape(2, 1, 1, 1)
    model.b.weight.data = torch.tensor([10.0, -30.0]).reshape(2, 1, 1, 1)
    dependencies = find_dependencies(model, torch.randn(1, 1, 4, 4))
    expected = (torch.tensor([3.0, 4.0]) / 3.5 + torch.tensor([10.0, 30.0]) / 20) / 2
    torch.testing.assert_close(channel_importance(dependencies, "l2")["a"], expected)


def test_the_scale_of_a_batch_norm_is_a_criterion():
    model = settled(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)))
    scores = channel_importance(find_dependencies(model, torch.randn(1, 3, 4, 4)), "bn-scale")["0"]
    torch.testing.assert_close(scores, model[1].weight.abs().detach() / model[1].weight.abs().mean().item())


@pytest.mark.parametrize("with_norm", [True, False], ids=["batch norm", "no batch norm"])
def test_taylor_is_the_slope_of_the_loss_along_a_fading_channel(with_norm):
    layers = {"a": conv(3, 4), "b": conv(4, 4)}
    layers |= {"n": norm(4)} if with_norm else {"n": nn.Identity}
    model = settled(net(lambda m, x: m.b(F.relu(m.n(m.a(x)))).mean((2, 3)), **layers).build())
    split = a_split(6, size=8)
    dependencies = find_dependencies(model, data.normalize(split.images[:1]))
    scores = channel_importance(dependencies, "taylor", split)["a"]
    gate = torch.ones(1, 4, 1, 1, requires_grad=True)
    images = data.normalize(split.images)
    loss = F.cross_entropy(model.b(F.relu(gate * model.n(model.a(images)))).mean((2, 3)), split.labels)
    (slope,) = torch.autograd.grad(loss, gate)
    torch.testing.assert_close(scores, slope.flatten().square(), rtol=1e-4, atol=1e-9)
    assert all(parameter.requires_grad for parameter in dependencies.model.parameters())


def test_what_cannot_be_scored_is_said(resnet):
    plain = find_dependencies(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)), torch.randn(1, 3, 4, 4))
    for dependencies, name, words in (
        (resnet, "taylor", "give it images"),
        (resnet, "magnitude", "no criterion 'magnitude'"),
        (plain, "bn-scale", "Group 0 has no batch norm"),
    ):
        with pytest.raises(EdgelabError, match=words):
            channel_importance(dependencies, name)


def test_the_least_important_go_and_a_multiple_stays(resnet):
    scores = channel_importance(resnet, "l1")
    channels = choose_ratio(resnet, scores, 0.4, round_to=8)
    for name, group in resnet.groups.items():
        gone = channels[name]
        assert len(group) - len(gone) == keep_count(len(group), 0.4, 8)
        stays = [channel for channel in range(len(group)) if channel not in gone]
        assert scores[name][gone].max() <= scores[name][stays].min()


def test_a_layers_channels_are_rounded_and_not_those_of_one_of_its_groups():
    """A ResNeXt block: 32 groups of 4 channels each, of which all lose the same ones."""
    layers = {"a": conv(3, 128), "b": conv(128, 128, groups=32), "c": conv(128, 4)}
    dependencies = find_dependencies(
        settled(net(lambda m, x: m.c(m.b(m.a(x))), **layers).build()), torch.randn(1, 3, 8, 8)
    )
    scores = channel_importance(dependencies)
    half = remove_channels(dependencies, choose_ratio(dependencies, scores, 0.5, round_to=8))
    macs = 0.6 * count_macs(dependencies.model, dependencies.example)
    less = remove_channels(dependencies, choose_macs(dependencies, scores, macs, round_to=8))
    for smaller in (half, less):
        widths = [size for m in smaller.modules() if isinstance(m, nn.Conv2d) for size in m.weight.shape[:1]]
        assert all(width % 8 == 0 for width in widths[:2])
        assert max(widths[:2]) < 128
        assert widths[2] == 4


def test_one_threshold_for_all_takes_more_of_some(resnet):
    scores = dict(channel_importance(resnet, "random", seed=1))
    scores["stem.0"] = scores["stem.0"] + 2
    channels = choose_ratio(resnet, scores, 0.3, scope="global")
    total = sum(map(len, resnet.groups.values()))
    assert "stem.0" not in channels
    assert abs(sum(map(len, channels.values())) - 0.3 * total) <= len(resnet.groups)


def test_what_is_to_be_kept_stays_whole(resnet):
    scores = channel_importance(resnet)
    assert "stem.0" not in choose_ratio(resnet, scores, 0.5, keep=("stem.0",))
    by_member = choose_ratio(resnet, scores, 0.5, keep=("stages.0.body.1.0",))  # which is added to the stem
    assert by_member == choose_ratio(resnet, scores, 0.5, keep=("stem.0",))
    assert choose_ratio(resnet, scores, 0.5, keep=("classifier",)) == choose_ratio(resnet, scores, 0.5)
    whole = prune_channels(resnet.model, resnet.example, 0.5, keep=tuple(resnet.groups))
    assert count_macs(whole, resnet.example) == count_macs(resnet.model, resnet.example)
    for wrong in (
        lambda: choose_ratio(resnet, scores, 0.5, keep=("stem",)),
        lambda: choose_ratio(resnet, scores, 1.0),
        lambda: choose_ratio(resnet, scores, 0.5, scope="all"),
        lambda: choose_ratio(resnet, scores, 0.5, round_to=0),
    ):
        with pytest.raises(EdgelabError):
            wrong()


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("criterion", ["l1", "random"])
def test_a_target_in_macs_is_met(resnet, criterion, scope):
    target = 0.5 * count_macs(resnet.model, resnet.example)
    channels = choose_macs(resnet, channel_importance(resnet, criterion), target, scope=scope, round_to=4)
    macs = count_macs(remove_channels(resnet, channels), resnet.example)
    assert 0.35 * target < macs <= target


def test_macs_are_known_before_anything_is_cut():
    torch.manual_seed(0)
    dependencies = find_dependencies(settled(models.mobilenet_v2(0.25)), torch.randn(1, 3, 32, 32))
    target = 0.6 * count_macs(dependencies.model, dependencies.example)
    channels = choose_macs(dependencies, channel_importance(dependencies, "l1"), target, round_to=2)
    assert count_macs(remove_channels(dependencies, channels), dependencies.example) <= target


def by_weights(layer, image):
    """A clock for tests, which knows no noise: a microsecond for each product."""
    return layer.weight.numel() * (image[0, 0].numel() if image.dim() == 4 else 1) / 1000


def test_a_target_in_milliseconds_is_met(resnet):
    times = LayerTimes(resnet, by_weights, whole_ms=10_000.0)
    whole = times.predict({})
    assert whole == pytest.approx(10_000)
    target = 0.6 * whole
    channels = choose_latency(resnet, channel_importance(resnet), target, times, round_to=4)
    assert 0.9 * target < times.predict(channels) <= target
    smaller = remove_channels(resnet, channels)  # between the widths of the table, products are interpolated exactly
    assert times.predict(channels) == pytest.approx(
        times.scale
        * sum(
            by_weights(layer, torch.zeros([1, *resnet.shapes[name][1:]]))
            for name, layer in smaller.named_modules()
            if isinstance(layer, (nn.Conv2d, nn.Linear))
        )
    )
    assert len(times.table) <= 16 * len(resnet.shapes)


def test_depthwise_layers_are_timed_at_one_width():
    torch.manual_seed(0)
    dependencies = find_dependencies(settled(models.mobilenet_v1(0.25)), torch.randn(1, 3, 32, 32))
    asked = []

    def clock(layer, image):
        asked.append((layer.groups == layer.in_channels == layer.out_channels) if layer.weight.dim() == 4 else True)
        assert image.shape[1 if layer.weight.dim() == 4 else -1] == layer.weight.shape[1] * getattr(layer, "groups", 1)
        return layer.weight.numel() / 1000

    times = LayerTimes(dependencies, clock)
    channels = choose_ratio(dependencies, channel_importance(dependencies, "random"), 0.3)
    assert 0 < times.predict(channels) < times.predict({})
    assert True in asked


def test_what_cannot_be_reached_is_said(resnet):
    scores = channel_importance(resnet)
    with pytest.raises(EdgelabError, match=r"The target 1 MACs cannot be reached: what is left takes \d+ MACs"):
        choose_macs(resnet, scores, 1)
    times = LayerTimes(resnet, by_weights, whole_ms=100.0)
    with pytest.raises(EdgelabError, match="The target 1 ms cannot be reached"):
        choose_latency(resnet, scores, 1, times)


def test_a_layer_is_timed_in_both_precisions_and_no_other():
    image = torch.rand(1, 8, 6, 6)
    depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    for layer, given, precision in (
        (nn.Conv2d(8, 4, 3, stride=2), image, "fp32"),
        (nn.Conv2d(8, 4, 3, bias=False), image, "int8"),
        (depthwise, image, "int8"),
        (nn.Linear(6, 3), image[0, 0], "fp32"),
    ):
        assert time_layer(layer, given, precision=precision, max_seconds=0.01) > 0
    for layer, precision in ((nn.ReLU(), "fp32"), (depthwise, "int4"), (nn.Linear(6, 3), "int8")):
        with pytest.raises(EdgelabError, match="Only convolutions"):
            time_layer(layer, image, precision=precision)


def test_three_steps_in_one_call():
    model = settled(models.resnet((8, 16), num_classes=4))
    smaller = prune_channels(model, torch.randn(1, 3, 16, 16), 0.5, round_to=4)
    assert smaller.get_submodule("stem.0").out_channels == 4
    assert smaller.get_submodule("classifier").in_features == 8
    assert smaller.get_submodule("classifier").out_features == 4


def test_a_pruned_model_trains_and_comes_back_from_a_file(tmp_path):
    # Eight channels at least: oneDNN's backward pass writes past its memory with 4 that lie last (torch 2.13, AVX2).
    model = settled(models.resnet((16, 32), num_classes=4))
    smaller = prune_channels(model, torch.randn(1, 3, 16, 16), 0.5, round_to=8)
    from edgelab.train import fit

    before = copy.deepcopy(smaller.state_dict())
    fit(smaller, a_split(32), epochs=1, progress=False)
    assert any(not torch.equal(before[name], tensor) for name, tensor in smaller.state_dict().items())
    torch.save(smaller, tmp_path / "smaller.pt")
    again = torch.load(tmp_path / "smaller.pt", weights_only=False)
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(again(image), smaller(image))


def shuffled(m, x):
    left, right = m.a(x).chunk(2, 1)
    y = F.channel_shuffle(torch.cat([F.relu(left), F.relu(m.b(right))], 1), 2)
    return m.d(F.relu(m.c(y))).mean((2, 3))


def shufflenet_v2():
    from torchvision import models as torchvision_models  # after edgelab, which prepares torch for it

    return torchvision_models.shufflenet_v2_x0_5(num_classes=4)


CHAIN = {
    "resnet": lambda: models.resnet((8, 16), num_classes=4),
    "mobilenet_v2": lambda: models.mobilenet_v2(0.25, num_classes=4),
    "shufflenet_v2": shufflenet_v2,
    "a shuffle": net(shuffled, a=conv(3, 16), b=conv(8, 8), c=conv(16, 8), d=conv(8, 4)).build,
}


@pytest.mark.parametrize("build", CHAIN.values(), ids=CHAIN)
def test_what_was_pruned_is_quantized_and_deployed_as_any_other_model(build, tmp_path):
    torch.manual_seed(0)
    must_go_through(settled(build()), torch.randn(8, 3, 16, 16), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_networks_go_through_pruned(name, tmp_path):
    torchvision_models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    must_go_through(
        settled(torchvision_models.get_model(name, **TORCHVISION[name])), torch.randn(4, 3, 64, 64), tmp_path
    )


@torch.no_grad()
def must_go_through(model, images, tmp_path):
    """Prune, and compare in float and in int8 with what ONNX Runtime and LiteRT give."""
    dependencies = find_dependencies(model, images[:1])
    scores = channel_importance(dependencies, "random")
    smaller = remove_channels(dependencies, choose_ratio(dependencies, scores, 0.4))
    converted = convert(calibrate(prepare(smaller), images))
    onnx = to_onnx(converted, images, tmp_path / "int8.onnx")
    assert operators(onnx)["QLinearConv"] == sum(isinstance(m, nn.Conv2d) for m in smaller.modules())
    floats = to_onnx(smaller, images, tmp_path / "float.onnx"), to_litert(smaller, images, tmp_path / "float.tflite")
    codes = onnx, to_litert(converted, images, tmp_path / "int8.tflite")
    for made, paths, apart in ((smaller, floats, 1e-3), (converted, codes, 0.05)):
        expected = made(images)
        for path in paths:
            torch.testing.assert_close(
                Runner.open(path)(images), expected, rtol=0, atol=apart * float(expected.abs().max())
            )
