"""Lab 08: its pictures follow its numbers, and its sentences hold."""

from itertools import product
from statistics import fmean

import pytest
import torch

from edgelab import data, models
from edgelab.deploy import duel
from edgelab.labs.lab_08_light_architectures import bottleneck, duels, networks, record
from edgelab.measure import count_macs, peak_activation_bytes

pytestmark = pytest.mark.usefixtures("learners_folder")


@pytest.fixture(scope="module")
def measured():
    """Return made-up times: of the full layer as its MACs, of the separable one as its MACs and a call's overhead."""
    times = {}
    for kernel in duels.KERNELS:
        for resolution in duels.RESOLUTIONS:
            for channels in duels.CHANNELS:
                size = duel.Size(channels, kernel, resolution)
                macs = {kind: duel.macs(kind, size) for kind in duel.KINDS}
                times[size] = {
                    (kind, precision): macs[kind] / 1e9 + 0.01 * (kind == "separable")
                    for kind in duel.KINDS
                    for precision in duel.PRECISIONS
                }
    return times


def test_the_formula_is_drawn_beside_the_times(measured):
    found = duels.ratios(measured, 3, 16)
    assert [round(ratio, 1) for ratio in found["macs"]] == [4.2, 5.8, 7.0, 7.9, 8.4, 8.7]
    assert found["int8"][0] < 1 < found["int8"][-1] < found["macs"][-1]
    words = duels.ratio_plot(measured, 3, 16).description
    assert "8.7 times fewer MACs" in words
    assert "Slower in int8 with so many channels: 8" in words
    assert "at 256" in duels.time_plot(measured, 5, 32, "fp32").description


def test_each_kind_of_block_is_timed_and_named(monkeypatch):
    blocks = [bottleneck.Block(*switches, 2) for switches in ((0, 0), (0, 3), (5, 0), (3, 5))]
    costs = bottleneck.measure(blocks)
    assert [bottleneck.kind(block) for block in blocks] == [
        "feed-forward (FFN)", "inverted bottleneck", "ConvNeXt", "ExtraDW",
    ]  # fmt: skip
    assert [costs[block].reach for block in blocks] == [1, 3, 5, 7]
    assert costs[blocks[0]].macs == 2 * 64 * 128 * 256
    assert costs[blocks[3]].macs == (2 * 64 * 128 + 9 * 64 + 25 * 128) * 256
    words = bottleneck.bottleneck_plot(costs, 3, 5, 2, "int8").description
    assert "ExtraDW: 5.2 M MACs" in words
    assert "7×7" in words


def test_the_start_switch_costs_fewer_macs_for_the_same_reach():
    """Answer 1 of the explorer: 64 channels before the expansion, up to 384 behind it."""
    example = torch.zeros(1, bottleneck.CHANNELS, bottleneck.PIXELS, bottleneck.PIXELS)
    start, middle = (bottleneck.build(bottleneck.Block(*kernels, 2)) for kernels in ((5, 0), (0, 5)))
    assert count_macs(start, example) < count_macs(middle, example)


@pytest.mark.parametrize("dataset", ["signs", "fashion-mnist"])
def test_v2_has_fewer_macs_and_weights_and_more_memory_than_the_baseline(dataset):
    size, shape = (32, 3) if dataset == "signs" else (28, 1)
    image = torch.zeros(1, shape, size, size)
    baseline, v2 = (models.load_pretrained(name, dataset) for name in ("resnet", "mobilenet_v2_050"))
    assert count_macs(v2, image) < count_macs(baseline, image) / 6
    assert peak_activation_bytes(v2, image, fused=True) > peak_activation_bytes(baseline, image, fused=True)
    arenas = [record.network_cost(dataset, name, size)["arena_bytes"] for name in ("resnet", "mobilenet_v2_050")]
    assert arenas[1] > arenas[0]


@pytest.mark.parametrize("dataset", ["signs", "fashion-mnist"])
def test_what_the_text_says_of_the_npu_is_on_record(dataset):
    size = 32 if dataset == "signs" else 28
    cost = {name: record.network_cost(dataset, name, size) for name in ("resnet", "mobilenet_v2_050")}
    assert 80 < cost["resnet"]["macs_per_cycle"] < 91
    assert 19 < cost["mobilenet_v2_050"]["macs_per_cycle"] < 22
    assert 0.5 < cost["mobilenet_v2_050"]["us"] / cost["resnet"]["us"] < 0.7
    for name in networks.WIDTHS:  # the resolution hardly saves time, the width does
        half, whole = (record.network_cost(dataset, name, pixels)["us"] for pixels in (size // 2, size))
        assert 1 < whole / half < 1.5
    narrow, wide = (record.network_cost(dataset, f"mobilenet_v1_{width}", size)["us"] for width in ("025", "100"))
    assert wide / narrow > 9


@pytest.mark.parametrize(("name", "pixels"), [("signs", 32), ("fashion-mnist", 28)])
def test_separable_convolutions_cost_one_point_or_two_on_record(name, pixels):
    full, separable = (record.accuracies(name, "mobilenet_v1_025" + kind, pixels) for kind in ("-full", ""))
    assert len(full) >= 2 and len(separable) >= 2
    assert 0.01 < fmean(full) - fmean(separable) < 0.025


def test_on_the_npu_few_channels_save_nothing():
    for channels, least, most in ((8, 0.5, 0.7), (16, 0.9, 1.1), (256, 5, 8)):
        full, separable = (record.layer_cost(kind, duel.Size(channels))["us"] for kind in duel.KINDS)
        assert least < full / separable < most


def test_a_separable_layer_never_needs_less_ram(measured):
    """Answer 4 of the explorer, in all of its sizes."""
    for kernel in duels.KERNELS:
        for resolution in duels.RESOLUTIONS:
            found = duels.ratios(measured, kernel, resolution)["arena"]
            assert len(found) == len(duels.CHANNELS)
            assert found == sorted(found)
            assert found[-1] <= 1
    assert duels.ratios(measured, 3, 8)["arena"][0] == pytest.approx(1 / 1.57, abs=0.01)


def test_every_control_of_lab_08_draws_again(measured, monkeypatch, redraws):
    monkeypatch.setattr(duels.duel, "sweep", lambda _sizes: measured)
    cost = bottleneck.Cost(macs=10**6, peak_bytes=4096, ms={"int8": 0.1, "fp32": 0.2}, reach=3)
    blocks = (bottleneck.Block(*switches) for switches in product(*2 * [bottleneck.KERNELS], bottleneck.EXPAND))
    made_up = dict.fromkeys(blocks, cost)
    monkeypatch.setattr(bottleneck, "measure", lambda: made_up)
    assert redraws([duels.duel_explorer(), bottleneck.bottleneck_explorer()])


def test_the_record_is_what_the_tools_say():
    """Vela's compiler and TensorFlow Lite Micro, where they are installed."""
    pytest.importorskip("ethosu")
    pytest.importorskip("tflite_micro")
    from edgelab.bench.light_record import on_microcontroller

    size = duel.Size(16)
    torch.manual_seed(0)
    layer = on_microcontroller(duel.layers("separable", size), torch.randn(size.example.shape))
    assert layer["us"] / size.depth == pytest.approx(record.layer_cost("separable", size)["us"], rel=0.02)
    images = data.normalize(data.load("signs").train.images[:64])
    network = on_microcontroller(models.load_pretrained("resnet_tiny", "signs"), images)
    known = record.network_cost("signs", "resnet_tiny", 32)
    assert network["us"] == pytest.approx(known["us"], rel=0.02)
    assert network["arena_bytes"] == pytest.approx(known["arena_bytes"], rel=0.05)


def right(x, depthwise, pointwise, stride):
    weight, bias = depthwise
    x = torch.relu(torch.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=len(weight)))
    return torch.relu(torch.conv2d(x, *pointwise))


def test_the_learners_block_is_tried_in_the_trained_network(capsys):
    model = models.load_pretrained("mobilenet_v1_025", "signs")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    networks.try_separable(model, images, right)
    networks.try_separable(model, images, lambda x, depthwise, pointwise, stride: right(x, depthwise, pointwise, 1))
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("✓ 13 of 13")
    assert second.startswith("✗ 10 of 13")


@pytest.fixture
def small():
    split = data.Split(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.zeros(4, dtype=torch.long))
    return data.Dataset("signs", ("a", "b"), split, split)


def test_tables_show_what_is_on_record(small):
    html = networks.accuracy_table(small)._repr_html_()
    assert html.count('scope="row"') == 4
    zoo = {name: models.load_pretrained(name, "signs") for name in ("resnet", "mobilenet_v2_050")}
    assert "MobileNetV2 0.5" in networks.memory_table(zoo, small)._repr_html_()


@pytest.mark.parametrize("judged", [False, True], ids=["no record", "accuracies on record"])
def test_the_family_is_drawn_by_width_and_by_resolution(monkeypatch, judged):
    monkeypatch.setattr(record, "mean_accuracy", lambda dataset, name, pixels: pixels / 40 if judged else None)
    costs = {
        (name, size): {"macs": size * size * width, "npu": 100 * width + size}
        for name, width in networks.WIDTHS.items()
        for size in (16, 24, 32)
    }
    for lines, label in (("width", "0.25×"), ("resolution", "16 px")):
        picture = networks.family_plot("signs", costs, "npu", lines)
        assert label in picture.svg
        assert "half the width 1.6 times less, half the resolution 1.1 times less" in picture.description
        assert ("On the front" in picture.description) is judged
        assert ("accuracy on record" in picture.svg) is judged
