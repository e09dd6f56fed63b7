import json

import pytest
import torch
from safetensors.torch import load_file

from edgelab.errors import EdgelabError
from edgelab.measure import count_macs
from edgelab.models import (
    InvertedResidual,
    SqueezeExcite,
    UniversalInvertedBottleneck,
    conv_bn,
    depthwise_separable,
    load_pretrained,
    make_divisible,
    manifest,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3_small,
    mobilenet_v4_small,
    resnet,
    zoo,
)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.fixture(scope="module")
def torchvision_models():
    import torchvision

    return torchvision.models


def settled(model, size):
    """Give batch norm the statistics of noise, so that no scale of an untrained network is left to chance."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # one batch sets them
    with torch.no_grad():
        model.train()(torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(1)))
    return model.eval()


def copied(ours, theirs):
    """Give our model their weights, in order."""
    pairs = zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict({name: value.reshape(own.shape) for (name, own), value in pairs})
    return ours.eval()


@torch.inference_mode()
def must_answer_alike(ours, theirs, size):
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    expected = theirs(images)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("width_mult", "params"), [(1.0, 3_504_872), (0.5, 1_968_680)])
def test_mobilenet_v2_has_exactly_torchvisions_parameters_and_outputs(torchvision_models, width_mult, params):
    theirs = settled(torchvision_models.mobilenet_v2(width_mult=width_mult), 64)
    ours = copied(mobilenet_v2(width_mult, num_classes=1000, total_stride=32), theirs)
    assert parameters(ours) == parameters(theirs) == params
    must_answer_alike(ours, theirs, 64)


@pytest.mark.parametrize("width_mult", [1.0, 0.5])
def test_mobilenet_v3_small_has_exactly_torchvisions_parameters_and_outputs(torchvision_models, width_mult):
    theirs = settled(torchvision_models.mobilenet_v3_small(width_mult=width_mult), 64)
    ours = copied(mobilenet_v3_small(width_mult, num_classes=1000, total_stride=32), theirs)
    assert parameters(ours) == parameters(theirs)
    must_answer_alike(ours, theirs, 64)


def test_mobilenet_v4_small_has_exactly_timms_parameters_and_outputs(torchvision_models):
    import timm

    theirs = settled(timm.create_model("mobilenetv4_conv_small", num_classes=1000), 64)
    ours = copied(mobilenet_v4_small(num_classes=1000, total_stride=32), theirs)
    assert parameters(ours) == parameters(theirs)
    must_answer_alike(ours, theirs, 64)


@pytest.mark.parametrize(
    ("start", "middle"), [(0, 3), (3, 0), (5, 3), (0, 0)], ids=["IB", "ConvNeXt", "ExtraDW", "FFN"]
)
@pytest.mark.parametrize("stride", [1, 2])
def test_the_universal_block_is_timms_in_each_position_of_its_switches(torchvision_models, start, middle, stride):
    from timm.models._efficientnet_blocks import UniversalInvertedResidual

    if stride == 2 and not (start or middle):
        with pytest.raises(ValueError, match="depthwise"):
            UniversalInvertedBottleneck(3, 3, 2, 4, start_kernel=0, middle_kernel=0)
        return
    options = {"dw_kernel_size_start": start, "dw_kernel_size_mid": middle, "stride": stride, "exp_ratio": 6}
    theirs = settled(UniversalInvertedResidual(3, 3, layer_scale_init_value=None, **options), 16)
    ours = copied(UniversalInvertedBottleneck(3, 3, stride, 6, start_kernel=start, middle_kernel=middle), theirs)
    must_answer_alike(ours, theirs, 16)


def test_squeeze_excite_weighs_channels_by_their_means():
    block = SqueezeExcite(16)
    x = torch.randn(2, 16, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        weighed = block(x) / x
    assert weighed.amin() >= 0 and weighed.amax() <= 1
    torch.testing.assert_close(weighed, weighed.mean((2, 3), keepdim=True).expand_as(x))
    assert sum(p.numel() for p in block.parameters()) == 16 * 8 + 8 + 8 * 16 + 16  # a quarter of 16, at least 8


@pytest.mark.parametrize(
    ("network", "fewest"),
    [
        (lambda **kind: mobilenet_v1(1.0, **kind), 8.0),
        (lambda **kind: mobilenet_v1(0.25, **kind), 7.0),
        (lambda **kind: mobilenet_v2(0.5, **kind), 15.0),
    ],
    ids=["V1", "V1 0.25", "V2 0.5"],
)
def test_full_convolutions_make_so_many_times_more_macs(network, fewest):
    image = torch.zeros(1, 3, 32, 32)
    light, full = (network(depthwise=kind).eval() for kind in (True, False))
    assert not any(m.groups > 1 for m in full.modules() if isinstance(m, torch.nn.Conv2d))
    assert light(image).shape == full(image).shape
    assert count_macs(full, image) / count_macs(light, image) > fewest


def test_mobilenet_v1_saves_what_its_paper_says():
    # Howard et al., 2017, table 4: 4866 and 569 million MACs, 29.3 and 4.2 million parameters.
    image = torch.zeros(1, 3, 224, 224, device="meta")
    for depthwise, millions, params in ((False, 4866, 29.3), (True, 569, 4.2)):
        with torch.device("meta"):
            model = mobilenet_v1(num_classes=1000, total_stride=32, depthwise=depthwise).eval()
        assert count_macs(model, image) / 1e6 == pytest.approx(millions, rel=0.002)
        assert parameters(model) / 1e6 == pytest.approx(params, abs=0.05)


@pytest.mark.parametrize(("pixels", "millions"), [(224, 569), (192, 418), (160, 290), (128, 186)])
def test_fewer_pixels_save_what_the_paper_says(pixels, millions):
    # Howard et al., 2017, table 7: MobileNet 1.0 at four resolutions.
    with torch.device("meta"):
        model = mobilenet_v1(num_classes=1000, total_stride=32).eval()
    assert count_macs(model, torch.zeros(1, 3, pixels, pixels, device="meta")) / 1e6 == pytest.approx(
        millions, rel=0.005
    )


def test_a_block_that_does_not_widen_has_no_expansion():
    assert len(InvertedResidual(8, 16, 1, 1).body) == 2
    assert len(InvertedResidual(8, 16, 1, 6, squeeze_excite=True).body) == 4


@pytest.mark.parametrize("width_mult", [0.35, 0.5, 0.75, 1.4])
def test_mobilenet_v2_has_torchvisions_parameters_at_width(torchvision_models, width_mult):
    theirs = torchvision_models.mobilenet_v2(width_mult=width_mult)
    assert parameters(mobilenet_v2(width_mult, num_classes=1000, total_stride=32)) == parameters(theirs)


def test_mobilenet_v1_has_the_papers_parameters():
    # Howard et al., 2017, table 8: 4.2 million at width 1.0, 1.3 million at 0.5 (with 1000 classes).
    assert round(parameters(mobilenet_v1(1.0, num_classes=1000)) / 1e6, 1) == 4.2
    assert round(parameters(mobilenet_v1(0.5, num_classes=1000)) / 1e6, 1) == 1.3


def test_baseline_parameters_by_hand():
    stem = 3 * 64 * 9 + 2 * 64
    first = 2 * (64 * 64 * 9 + 2 * 64)
    second = 64 * 128 * 9 + 128 * 128 * 9 + 64 * 128 + 3 * 2 * 128
    third = 128 * 256 * 9 + 256 * 256 * 9 + 128 * 256 + 3 * 2 * 256
    assert parameters(resnet()) == stem + first + second + third + 256 * 16 + 16


@pytest.mark.parametrize("build", [resnet, mobilenet_v1, mobilenet_v2, mobilenet_v3_small, mobilenet_v4_small])
@pytest.mark.parametrize("size", [28, 32, 96])
def test_models_take_images_of_size(build, size):
    model = build(in_channels=1, num_classes=10).eval()
    with torch.inference_mode():
        assert model(torch.zeros(2, 1, size, size)).shape == (2, 10)


@pytest.mark.parametrize(("total_stride", "size"), [(1, 32), (4, 8), (8, 4), (32, 1)])
def test_total_stride_is_how_often_the_resolution_is_halved(total_stride, size):
    features = mobilenet_v2(0.35, total_stride=total_stride).eval().features
    with torch.inference_mode():
        assert features(torch.zeros(1, 3, 32, 32)).shape[2:] == (size, size)


def test_a_total_stride_that_is_no_power_of_two_is_refused():
    with pytest.raises(ValueError, match="power of two"):
        mobilenet_v1(total_stride=12)


def test_residual_networks_are_traceable_and_add_with_a_plain_plus():
    graph = torch.fx.symbolic_trace(resnet()).graph
    assert sum(node.name.startswith("add") for node in graph.nodes) == 3


def test_depthwise_separable_saves_what_the_formula_says():
    # Howard et al., 2017, section 3.1: 1/N + 1/D_K^2 of a full convolution's weights.
    full = conv_bn(64, 128)[0].weight.numel()
    separable = sum(layer[0].weight.numel() for layer in depthwise_separable(64, 128))
    assert separable / full == pytest.approx(1 / 128 + 1 / 9)


@pytest.mark.parametrize("channels", range(1, 200))
def test_make_divisible_never_loses_more_than_a_tenth(channels):
    assert make_divisible(channels) % 8 == 0
    assert make_divisible(channels) >= 0.9 * channels


def test_the_zoo_fits_in_20_mb_and_every_checkpoint_is_in_the_manifest():
    files = sorted(path.name for path in zoo.CHECKPOINTS.glob("*.safetensors"))
    assert files == sorted(entry["file"] for entry in manifest().values())
    assert sum((zoo.CHECKPOINTS / file).stat().st_size for file in files) <= 20e6


@pytest.mark.parametrize("key", manifest())
def test_checkpoint_loads_and_is_the_one_that_was_measured(key):
    dataset, name = key.split("/")
    model = load_pretrained(name, dataset)
    entry = manifest()[key]
    assert not model.training
    assert zoo.sha256(zoo.CHECKPOINTS / entry["file"]) == entry["sha256"]
    assert (entry["epochs"], entry["options"]) == (zoo.RECIPES[name].epochs[dataset], zoo.RECIPES[name].options)
    assert load_file(zoo.CHECKPOINTS / entry["file"]).keys() == model.state_dict().keys()


def test_an_unknown_checkpoint_is_refused_with_the_ones_there_are():
    with pytest.raises(EdgelabError, match="signs/resnet"):
        load_pretrained("alexnet")


def test_a_damaged_checkpoint_is_recognised(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "CHECKPOINTS", tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"half a file")
    (tmp_path / "manifest.json").write_text(json.dumps({"signs/resnet": {"file": "x.safetensors", "sha256": "0"}}))
    with pytest.raises(EdgelabError, match="damaged or missing"):
        load_pretrained("resnet")
