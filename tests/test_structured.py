"""Structured pruning: a model without some channels computes what it did with the same channels zeroed, or says no."""

import copy
import random
import zlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from edgelab import models
from edgelab.errors import EdgelabError
from edgelab.measure import count_macs
from edgelab.pruning import find_dependencies, remove_channels, surgery, zero_channels
from tests.own_models import FORMS, SIZE, Net, conv, form, linear, net, norm


def settled(model, seed=0):
    """Return a model in evaluation whose norms are far from the identity, and different in each channel."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if (
            isinstance(module, nn.modules.batchnorm._BatchNorm)
            and module.weight is not None
            and module.track_running_stats
        ):
            with torch.no_grad():
                for tensor in (module.weight, module.running_var):
                    tensor.copy_(0.5 + 1.5 * torch.rand(len(tensor), generator=generator))
                for tensor in (module.bias, module.running_mean):
                    tensor.copy_(torch.randn(len(tensor), generator=generator) / 2)
    return model.eval()


def a_third(dependencies, seed=0):
    """Return a third of the channels of every group, at random: nothing that a ratio or a rounding would choose."""
    draw = random.Random(seed)
    return {
        name: draw.sample(range(len(group)), max(1, len(group) // 3))
        for name, group in dependencies.groups.items()
        if len(group) > 1
    }


@torch.no_grad()
def must_be_exact(model, example, channels=None):
    """Prune, and compare with the original in which the same channels are zero, in float64."""
    dependencies = find_dependencies(model, example)
    channels = channels or a_third(dependencies)
    smaller, zeroed = remove_channels(dependencies, channels), zero_channels(dependencies, channels)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in model.parameters())
    noise = torch.randn(2, *example.shape[1:], generator=torch.Generator().manual_seed(1)).double()
    expected, got = (copy.deepcopy(made).double()(noise.clone()) for made in (zeroed, smaller))
    assert float((got - expected).abs().max()) <= 1e-9 * float(expected.abs().max())
    whole = copy.deepcopy(dependencies.model).double()(noise.clone())
    assert float((whole - expected).abs().max()) > 1e-4 * float(whole.abs().max())  # what went did matter
    return dependencies, smaller


ZOO = {
    "resnet": lambda: models.resnet((8, 16), blocks=2),
    "mobilenet_v1": lambda: models.mobilenet_v1(0.25),
    "mobilenet_v2": lambda: models.mobilenet_v2(0.25),
    "mobilenet_v3_small": models.mobilenet_v3_small,
    "mobilenet_v4_small": models.mobilenet_v4_small,
    "the zoo's baseline": lambda: models.load_pretrained("resnet"),
}


@pytest.mark.parametrize("build", ZOO.values(), ids=ZOO)
def test_our_own_networks_are_pruned_exactly(build):
    must_be_exact(settled(build()), torch.randn(1, 3, 32, 32))


TORCHVISION = {
    "resnet18": {},
    "mobilenet_v2": {},
    "mobilenet_v3_small": {},
    "densenet121": {},
    "shufflenet_v2_x1_0": {},
    "efficientnet_b0": {},
    "googlenet": {"aux_logits": False, "init_weights": False},
    "squeezenet1_1": {},
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_networks_are_pruned_exactly(name):
    torchvision_models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = settled(torchvision_models.get_model(name, **TORCHVISION[name]))
    dependencies, _smaller = must_be_exact(model, torch.randn(1, 3, 64, 64))
    layers = {layer for layer, _direction in dependencies.slots}
    convolutions = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    assert convolutions <= layers
    assert {group.why for group in dependencies.kept.values()} == {"they are the model's output"}


def a_shuffle(m, x):
    n, c, h, w = x.size()
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


def shuffled(m, x):
    left, right = m.a(x).chunk(2, dim=1)
    return m.c(a_shuffle(m, torch.cat([left, F.relu(m.b(right))], 1)))


def excited(m, x):
    y = F.relu(m.a(x))
    return m.b(y * torch.sigmoid(m.up(F.relu(m.down(y.mean((2, 3), keepdim=True))))))


def padded(m, x):
    """Shorten with no weights: every second pixel, and zeros for the new channels (He et al., 2016, option A)."""
    y = F.relu(m.a(x))
    return m.d(F.relu(m.c(F.relu(m.b(y))) + F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))))


def parameter(*shape):
    return lambda: nn.Parameter(torch.rand(shape) + 0.5)


WORKING = {
    "depthwise": net(lambda m, x: m.c(F.relu(m.b(m.a(x)))), a=conv(3, 6), b=conv(6, 6, groups=6), c=conv(6, 4)),
    "depthwise with a multiplier": net(
        lambda m, x: m.c(F.relu(m.b(m.a(x)))), a=conv(3, 6), b=conv(6, 12, groups=6), c=conv(12, 4)
    ),
    "grouped": net(lambda m, x: m.c(F.relu(m.b(m.a(x)))), a=conv(3, 12), b=conv(12, 18, groups=3), c=conv(18, 4)),
    "a residual addition": net(lambda m, x: m.c(F.relu(m.a(x) + m.b(x))), a=conv(3, 6), b=conv(3, 6), c=conv(6, 4)),
    "a concat": net(
        lambda m, x: m.c(m.n(torch.cat([F.relu(m.a(x)), m.b(x), x], 1))),
        a=conv(3, 6),
        b=conv(3, 5),
        n=norm(14),
        c=conv(14, 4),
    ),
    "a concat of one thing twice": net(
        lambda m, x: (lambda y: m.c(torch.cat([y, F.relu(-y)], 1)))(m.a(x)), a=conv(3, 6), c=conv(12, 4)
    ),
    "a split by sizes": net(
        lambda m, x: (lambda p: m.c(p[0]) + m.d(p[1]))(m.a(x).split([2, 6], 1)), a=conv(3, 8), c=conv(2), d=conv(6)
    ),
    "a chunk": net(
        lambda m, x: (lambda p: m.c(p[0]) + m.d(p[1]))(torch.chunk(m.a(x), 2, 1)), a=conv(3, 8), c=conv(4), d=conv(4)
    ),
    "a slice": net(lambda m, x: m.c(m.a(x)[:, 2:7]), a=conv(3, 8), c=conv(5)),
    "a channel shuffle": net(shuffled, a=conv(3, 12), b=conv(6, 6), c=conv(12)),
    "torch's channel shuffle": net(lambda m, x: m.c(F.channel_shuffle(m.a(x), 3)), a=conv(3, 12), c=conv(12)),
    "a pixel shuffle": net(lambda m, x: m.c(F.pixel_shuffle(m.a(x), 2)), a=conv(3, 12), c=conv(3)),
    "a flatten": net(lambda m, x: m.c(torch.flatten(F.relu(m.a(x)), 1)), a=conv(3, 6), c=linear(6 * SIZE * SIZE)),
    "a view with numbers in it": net(
        lambda m, x: m.c(F.relu(m.a(x)).view(-1, 6 * SIZE * SIZE)), a=conv(3, 6), c=linear(6 * SIZE * SIZE)
    ),
    "a reshape to rows of a channel": net(
        lambda m, x: m.c(m.a(x).reshape(1, 6, SIZE * SIZE).mean(2)), 3, SIZE, SIZE, a=conv(3, 6), c=linear(6)
    ),
    "squeeze and excitation": net(excited, a=conv(3, 8), down=conv(8, 4, 1), up=conv(4, 8, 1), b=conv(8, 4)),
    "a shortcut padded with zeros": net(padded, a=conv(3, 4), b=conv(4, 8, stride=2), c=conv(8, 8), d=conv(8)),
    "a scale for each channel": net(
        lambda m, x: m.c(m.s * m.a(x) + m.t), a=conv(3, 6), s=parameter(6, 1, 1), t=parameter(1, 6, 1, 1), c=conv(6)
    ),
    "one layer twice": net(lambda m, x: m.c(F.relu(m.b(F.relu(m.b(m.a(x)))))), a=conv(3, 6), b=conv(6, 6), c=conv(6)),
    "transposed": net(
        lambda m, x: m.c(m.b(m.a(x))), a=conv(3, 6), b=lambda: nn.ConvTranspose2d(6, 8, 2, stride=2), c=conv(8)
    ),
    "norms for each channel": net(
        lambda m, x: m.c(m.i(m.p(m.g(m.a(x))))),
        a=conv(3, 6),
        g=lambda: nn.GroupNorm(6, 6),
        p=lambda: nn.PReLU(6),
        i=lambda: nn.InstanceNorm2d(6, affine=True),
        c=conv(6),
    ),
    "a LayerNorm over height and width": net(
        lambda m, x: m.c(m.l(m.a(x))), a=conv(3, 6), l=lambda: nn.LayerNorm([SIZE, SIZE]), c=conv(6)
    ),
    "channels last, and linear layers": net(
        lambda m, x: m.c(F.gelu(m.b(F.relu(m.a(x)).permute(0, 2, 3, 1)))).permute(0, 3, 1, 2),
        a=conv(3, 6),
        b=linear(6, 8),
        c=linear(8, 4),
    ),
    "spatial attention": net(lambda m, x: m.c(m.a(x) * torch.sigmoid(m.b(x))), a=conv(3, 6), b=conv(3, 1), c=conv(6)),
    "the picture beside its channels": net(
        lambda m, x: m.c(torch.cat([x, F.relu(m.a(x))], 1)), a=conv(3, 6), c=conv(9)
    ),
    "pooling and resizing": net(
        lambda m, x: m.c(
            F.interpolate(F.avg_pool2d(F.max_pool2d(m.a(x), 2), 3, 1, 1), scale_factor=2, mode="bilinear")
        ),
        a=conv(3, 6),
        c=conv(6),
    ),
    "three dimensions": form(
        lambda: nn.Sequential(nn.Conv3d(2, 6, 3), nn.BatchNorm3d(6), nn.ReLU(), nn.Conv3d(6, 2, 1)), *(2, 4, 5, 5)
    ),
}


@pytest.mark.parametrize(("name", "case"), WORKING.items(), ids=WORKING)
@torch.no_grad()
def test_it_computes_what_it_did_with_the_same_channels_zeroed(name, case):
    torch.manual_seed(zlib.crc32(name.encode()))
    example = torch.randn(1, *case.shape)
    if name == "a reshape to rows of a channel":  # its code is written for a batch of one
        dependencies = find_dependencies(settled(case.build()), example)
        channels = a_third(dependencies)
        smaller, zeroed = remove_channels(dependencies, channels), zero_channels(dependencies, channels)
        torch.testing.assert_close(smaller(example), zeroed(example))
        return
    must_be_exact(settled(case.build()), example)


def used_norm():
    """Return a norm without weights whose running mean is not 0, as after training."""
    layer = nn.BatchNorm2d(6, affine=False)
    layer.running_mean += 0.5
    return layer


REFUSED = {
    "a LayerNorm over the channels": (
        net(lambda m, x: m.b(m.l(m.a(x).mean((2, 3)))), a=conv(3, 6), l=lambda: nn.LayerNorm(6), b=linear(6)),
        r"a: l \(layernorm\) reckons with all",
    ),
    "a GroupNorm": (
        net(lambda m, x: m.b(m.g(m.a(x))), a=conv(3, 6), g=lambda: nn.GroupNorm(2, 6), b=conv(6)),
        r"a: g \(groupnorm\)",
    ),
    "softmax over channels": (net(lambda m, x: m.b(F.softmax(m.a(x), 1)), a=conv(3, 6), b=conv(6)), "a: softmax"),
    "the mean of the channels": (
        net(lambda m, x: m.b(m.a(x).mean(1, keepdim=True)), a=conv(3, 6), b=conv(1)),
        "a: mean reckons",
    ),
    "the largest channel": (
        net(lambda m, x: m.b(F.one_hot(m.a(x).argmax(1), 6).float().mean((1, 2))), a=conv(3, 6), b=linear(6)),
        "a: argmax",
    ),
    "a sigmoid that is read": (
        net(lambda m, x: m.b(torch.sigmoid(m.a(x))), a=conv(3, 6), b=conv(6)),
        "a: sigmoid makes something else than zero of zero",
    ),
    "a constant that is added": (
        net(lambda m, x: m.b(m.a(x) + 1), a=conv(3, 6), b=conv(6)),
        "a: add makes something else",
    ),
    "a norm without weights": (
        net(lambda m, x: m.b(m.n(m.a(x))), a=conv(3, 6), n=used_norm, b=conv(6)),
        "a: n makes something else",
    ),
    "shared weights": (FORMS["weights"]["shared weights"], "a shares its weights"),
    "the picture itself": (
        net(lambda m, x: m.b(m.a(x) + x), a=conv(3, 3), b=conv(3)),
        "a: they meet values that no layer makes",
    ),
    "nothing but an output": (form(lambda: nn.Sequential(nn.Conv2d(3, 4, 3))), "they are the model's output"),
    "attention": (FORMS["subclasses"]["attention"], r"patch: t \(transformerencoderlayer\)"),
}


@pytest.mark.parametrize(("case", "words"), REFUSED.values(), ids=REFUSED)
def test_it_says_by_name_what_cannot_go(case, words):
    with pytest.raises(EdgelabError, match=words) as caught:
        find_dependencies(case.build().eval(), torch.randn(1, *case.shape))
    assert "\n" not in str(caught.value)


EVERY = {f"{kind}, {name}": case for kind, cases in FORMS.items() for name, case in cases.items() if not case.refused}


@pytest.mark.parametrize(("name", "case"), EVERY.items(), ids=EVERY)
@torch.no_grad()
def test_a_learners_model_is_pruned_exactly_or_refused(name, case):
    torch.manual_seed(zlib.crc32(name.encode()))
    model = settled(case.build())
    try:
        dependencies = find_dependencies(model, torch.randn(1, *case.shape))
        channels = a_third(dependencies)
        smaller, zeroed = remove_channels(dependencies, channels), zero_channels(dependencies, channels)
    except EdgelabError as refusal:
        assert "\n" not in str(refusal)
        return
    images = torch.randn(4, *case.shape)
    expected = zeroed(images.clone())
    torch.testing.assert_close(smaller(images.clone()), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_a_group_is_told_as_layer_direction_and_indices():
    dependencies = find_dependencies(models.resnet((8, 16), blocks=1), torch.zeros(1, 3, 32, 32))
    assert list(dependencies.groups) == [
        "stem.0",
        "stages.0.body.0.0",
        "stages.1.body.0.0",
        "stages.1.body.1.0",
    ]
    assert str(dependencies.groups["stages.1.body.1.0"]).splitlines() == [
        "stages.1.body.1.0: 16 channels",
        "  (stages.1.body.1.0, out, 0-15)",
        "  (stages.1.body.1.1, out, 0-15)",
        "  (stages.1.shortcut.0, out, 0-15)",
        "  (stages.1.shortcut.1, out, 0-15)",
        "  (classifier, in, 0-15)",
    ]
    assert "classifier: 16 channels (they stay: they are the model's output)" in str(dependencies)


def test_channels_of_a_concat_are_counted_behind_it():
    case = net(lambda m, x: m.c(torch.cat([m.a(x), m.b(x)], 1)), a=conv(3, 2), b=conv(3, 3), c=conv(5))
    dependencies = find_dependencies(case.build(), torch.randn(1, 3, SIZE, SIZE))
    assert [str(member) for member in dependencies.groups["b"].members] == ["(b, out, 0-2)", "(c, in, 2-4)"]


def test_channels_that_stay_are_refused_by_name():
    dependencies = find_dependencies(models.resnet((8, 16)), torch.zeros(1, 3, 32, 32))
    for channels, words in (
        ({"classifier": [0]}, "The channels of classifier must stay: they are the model's output"),
        ({"stages.0.body.1.0": [0]}, "go with those of stem.0"),
        ({"stem": [0]}, "There is no group stem"),
        ({"stem.0": [8]}, "has the channels 0 to 7, and no 8"),
        ({"stem.0": range(8)}, "would lose all its channels"),
    ):
        with pytest.raises(EdgelabError, match=words):
            remove_channels(dependencies, channels)


def test_a_model_from_which_something_else_was_cut_does_not_come_out(monkeypatch):
    right = surgery.shrink_layer
    monkeypatch.setattr(surgery, "shrink_layer", lambda layer, out, into: right(layer, out.flip(0), into))
    dependencies = find_dependencies(settled(models.resnet((8, 16))), torch.randn(1, 3, 32, 32))
    with pytest.raises(EdgelabError, match="does not compute what this one does with the same channels zeroed"):
        remove_channels(dependencies, {"stem.0": [0]})


def test_the_learners_model_stays_as_it_was():
    model = settled(models.resnet((8, 16)))
    before = copy.deepcopy(model.state_dict())
    dependencies, smaller = must_be_exact(model, torch.randn(1, 3, 32, 32))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(p.requires_grad for p in smaller.parameters())
    assert find_dependencies(smaller, torch.randn(1, 3, 32, 32)).groups.keys() == dependencies.groups.keys()


def test_half_of_all_channels_leave_a_quarter_of_the_macs():
    model = settled(
        Net(lambda m, x: m.b(m.a(m.s(x))), s=nn.Conv2d(3, 8, 1), a=nn.Conv2d(8, 8, 1), b=nn.Conv2d(8, 2, 1))
    )
    image = torch.randn(1, 3, 4, 4)
    dependencies = find_dependencies(model, image)
    smaller = remove_channels(dependencies, {"s": range(4), "a": range(4)})
    assert count_macs(smaller, image) == 16 * (3 * 4 + 4 * 4 + 4 * 2)
