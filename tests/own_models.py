"""Models as learners bring them, by kind: each small, each a way in which a network may be written.

A `Form` says what must come of it: the same function in integers, or one sentence that says why not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.parametrize import register_parametrization

SIZE = 12


class Net(nn.Module):
    """Some layers, and a function of them and of the input that says how they are wired."""

    def __init__(self, wire, **layers):
        super().__init__()
        self.wire = wire
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.wire(self, x)


@dataclass(frozen=True)
class Form:
    """A model and what must come of it.

    `build` makes it, for images of `shape`. `refused` is what the sentence says, where it is refused by the time that
    it is calibrated. `floats` are the layers that stay in float, by name; all other convolutions and linear layers
    run on integers. `exported` also puts it through ONNX Runtime, which takes most of the time.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...] = (3, SIZE, SIZE)
    refused: str = ""
    floats: frozenset[str] = field(default_factory=frozenset)
    exported: bool = False


def form(build, *shape, refused="", floats=(), exported=False):
    return Form(build, shape or (3, SIZE, SIZE), refused, frozenset(floats), exported)


def net(wire, *shape, refused="", floats=(), exported=False, **layers):
    """Return the form of a `Net` whose layers are made by functions without arguments."""
    build = lambda: Net(wire, **{name: make() for name, make in layers.items()})  # noqa: E731
    return form(build, *shape, refused=refused, floats=floats, exported=exported)


def conv(inputs=3, outputs=4, size=3, **options):
    return lambda: nn.Conv2d(inputs, outputs, size, **{"padding": size // 2} | options)


def norm(channels=4):
    return lambda: nn.BatchNorm2d(channels)


def linear(inputs, outputs=5):
    return lambda: nn.Linear(inputs, outputs)


# --- layers that are subclasses, and layers that compute what another one does ---------------------------------------


class PlainConv(nn.Conv2d):
    """A subclass that adds nothing."""


class PlainNorm(nn.BatchNorm2d):
    """A subclass that adds nothing."""


class FunctionalConv(nn.Conv2d):
    def forward(self, input):
        return F.conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class FunctionalLinear(nn.Linear):
    def forward(self, input):
        return F.linear(input, self.weight, bias=self.bias)


class SamePadded(nn.Conv2d):
    """A convolution that pads as TensorFlow does, by arithmetic on the picture's size."""

    def forward(self, x):
        down = max((-(-SIZE // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - SIZE, 0)
        x = F.pad(x, [down // 2, down - down // 2, down // 2, down - down // 2])
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Standardised(nn.Conv2d):
    """A convolution whose weights are standardised each time it runs."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        weight = weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Scaled(nn.Conv2d):
    """A subclass that does more than its class."""

    def forward(self, x):
        return 3 * super().forward(x)


class NormAndActivation(nn.BatchNorm2d):
    """Batch norm, and the activation inside it."""

    def __init__(self, channels, act):
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), act

    def forward(self, x):
        torch._assert(x.ndim == 4, "four dimensions")
        x = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, self.momentum, self.eps
        )
        return self.act(self.drop(x))


class Recipe(nn.Sequential):
    """A container of a learner's own."""

    def forward(self, x):
        for layer in self:
            x = layer(x)
        return x


class Attends(nn.Module):
    """Attention among the patches of a picture, all of q, k and v from one layer, as in a vision transformer."""

    def __init__(self, attend):
        super().__init__()
        self.attend = attend
        self.patch, self.qkv, self.project = nn.Conv2d(3, 8, 4, stride=4), nn.Linear(8, 24), nn.Linear(8, 8)
        self.place = nn.Parameter(torch.randn(1, 9, 8))

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2) + self.place
        n, tokens, channels = x.shape
        q, k, v = self.qkv(x).reshape(n, tokens, 3, 2, channels // 2).permute(2, 0, 3, 1, 4).unbind(0)
        return self.project(self.attend(q, k, v).transpose(1, 2).reshape(n, tokens, channels)) + x


def lazy():
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    model(torch.zeros(2, 3, SIZE, SIZE))
    return model


SUBCLASSES = {
    "a convolution of an own class": form(lambda: nn.Sequential(PlainConv(3, 4, 3), PlainNorm(4), nn.ReLU())),
    "a convolution that calls the function": form(
        lambda: nn.Sequential(FunctionalConv(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), PlainConv(4, 4, 1)),
        exported=True,
    ),
    "a linear layer that calls the function": form(
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), FunctionalLinear(400, 5))
    ),
    "norm and activation in one": form(
        lambda: nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False),
            NormAndActivation(4, nn.ReLU()),
            nn.Conv2d(4, 4, 1, bias=False),
            NormAndActivation(4, nn.Identity()),
        ),
        exported=True,
    ),
    "padding by arithmetic": form(
        lambda: nn.Sequential(SamePadded(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU()), exported=True
    ),
    "weights that are standardised": form(lambda: nn.Sequential(Standardised(3, 4, 3), nn.ReLU())),
    "a subclass that does more": form(lambda: nn.Sequential(Scaled(3, 4, 3), nn.BatchNorm2d(4))),
    "batch norm across computers": form(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.SyncBatchNorm(4), nn.ReLU())),
    "lazy layers": form(lazy),
    "a container of one's own": form(lambda: Recipe(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))),
    "a single layer": form(lambda: nn.Conv2d(3, 4, 3)),
    "a module list": net(
        lambda m, x: sum([layer(x) for layer in m.layers]),
        layers=lambda: nn.ModuleList([nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)]),
    ),
    "padding that reflects": net(lambda m, x: m.b(m.a(x)), a=conv(padding_mode="reflect"), b=conv(4), exported=True),
    "padding that goes round": net(
        lambda m, x: m.b(F.relu(m.n(m.a(x)))), a=conv(), n=norm(), b=conv(4, padding_mode="circular"), exported=True
    ),
    "padding that repeats": net(lambda m, x: m.b(m.a(x)), a=conv(), b=conv(4, padding_mode="replicate")),
    "padding by name": net(lambda m, x: m.b(m.a(x)), a=conv(padding="same"), b=conv(4, dilation=2, padding="same")),
    "transposed": net(
        lambda m, x: m.c(m.b(m.a(x))),
        a=conv(),
        b=lambda: nn.ConvTranspose2d(4, 4, 2, stride=2),
        c=conv(4),
        exported=True,
    ),
    "transposed, a norm behind it": net(
        lambda m, x: m.c(F.relu(m.n(m.b(m.a(x))))),
        a=conv(),
        b=lambda: nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
        n=norm(),
        c=conv(4),
        exported=True,
    ),
    "transposed, to a size that is asked for": net(
        lambda m, x: m.b(m.a(x), output_size=(24, 24)),
        a=conv(),
        b=lambda: nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1),
        floats={"b"},
    ),
    "one dimension": form(
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), nn.ReLU(), nn.Flatten(), nn.Linear(40, 5)),
        *(3, SIZE),
        exported=True,
    ),
    "sound": form(
        lambda: nn.Sequential(
            nn.Conv1d(1, 8, 9, stride=4, padding=4, bias=False),
            nn.BatchNorm1d(8),
            nn.ReLU(),
            nn.Conv1d(8, 8, 3, padding=2, dilation=2, groups=8, padding_mode="reflect"),
            nn.Conv1d(8, 4, 1),
            nn.ReLU(),
            nn.ConvTranspose1d(4, 4, 4, stride=2, padding=1),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(4, 5),
        ),
        *(1, 64),
        exported=True,
    ),
    "three dimensions": form(
        lambda: nn.Sequential(nn.Conv3d(2, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.Flatten(), nn.Linear(72, 5)),
        *(2, 4, 5, 5),
        exported=True,
    ),
    "features": form(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5)), 6, exported=True
    ),
    "a function with weights of its own": net(
        lambda m, x: F.conv2d(m.a(x), m.kernel), a=conv(), kernel=lambda: nn.Parameter(torch.randn(5, 4, 1, 1))
    ),
    "functions of one dimension, and back": net(
        lambda m, x: F.conv_transpose1d(F.relu(F.conv1d(x, m.w, m.b, 2, 1)), m.w, stride=2, padding=1),
        *(3, SIZE),
        w=lambda: nn.Parameter(torch.randn(4, 3, 4)),
        b=lambda: nn.Parameter(torch.randn(4)),
        exported=True,
    ),
    "a matrix of its own": net(
        lambda m, x: torch.matmul(F.relu(x @ m.w), m.v),
        6,
        w=lambda: nn.Parameter(torch.randn(6, 8)),
        v=lambda: nn.Parameter(torch.randn(8, 5)),
        exported=True,
    ),
    "weights that the picture makes": net(
        lambda m, x: F.conv2d(
            m.a(x), x.mean((0, 2, 3)).reshape(1, 3, 1, 1).expand(2, 3, 1, 1)[:, :2].repeat(1, 2, 1, 1)
        ),
        a=conv(),
        floats={"conv2d"},
    ),
    "tokens": net(
        lambda m, x: m.b(F.gelu(m.a(m.patch(x).flatten(2).transpose(1, 2)))).mean(1),
        patch=conv(3, 8, 4, stride=4, padding=0),
        a=linear(8, 16),
        b=linear(16, 8),
        exported=True,
    ),
    "tokens mixed": net(
        lambda m, x: (lambda t: m.b(t + m.a(t.transpose(1, 2)).transpose(1, 2)))(m.patch(x).flatten(2).transpose(1, 2)),
        patch=conv(3, 8, 4, stride=4, padding=0),
        a=linear(9, 9),
        b=linear(8),
        exported=True,
    ),
    "a norm of channels that lie last": net(
        lambda m, x: (lambda y: y + m.c(F.gelu(m.b(m.n(m.a(y).permute(0, 2, 3, 1))))).permute(0, 3, 1, 2))(m.stem(x)),
        stem=conv(3, 8, 2, stride=2, padding=0),
        a=conv(8, 8, groups=8),
        n=lambda: nn.LayerNorm(8),
        b=linear(8, 32),
        c=linear(32, 8),
        exported=True,
    ),
    "attention by a function": form(lambda: Attends(F.scaled_dot_product_attention), exported=True),
    "attention by hand": form(
        lambda: Attends(lambda q, k, v: (q * 0.5 @ k.transpose(-2, -1)).softmax(dim=-1) @ v), exported=True
    ),
    "attention to what came before": form(
        lambda: Attends(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
        floats={"scaled_dot_product_attention"},
    ),
    "attention with a mask": form(
        lambda: Attends(
            lambda q, k, v: (
                (q @ k.transpose(-2, -1)).masked_fill(torch.ones(9, 9).triu(1) > 0, -torch.inf).softmax(-1) @ v
            )
        ),
        exported=True,
    ),
    "attention with a mask of numbers": form(
        lambda: Attends(lambda q, k, v: (q @ k.transpose(-2, -1) - 100 * torch.ones(9, 9).triu(1)).softmax(-1) @ v)
    ),
    "windows that are shifted": net(
        lambda m, x: m.b(torch.roll(m.a(x), (-2, -2), (2, 3)).reshape(-1, 4, 3, 4, 3, 4).permute(0, 2, 4, 3, 5, 1)),
        a=conv(),
        b=linear(4),
        exported=True,
    ),
    "recurrent": net(lambda m, x: m.a(x[:, 0])[0], a=lambda: nn.GRU(SIZE, 4), refused="nothing to"),
    "attention": net(
        lambda m, x: m.t(m.patch(x).flatten(2).transpose(1, 2)).mean(1),
        patch=conv(3, 8, 4, stride=4, padding=0),
        t=lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        floats={"t"},
    ),
}


# --- weights that are shared, or made each time ----------------------------------------------------------------------


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


def normed(register, position=0):
    """Return a convolution and its batch norm, with `register` applied to the convolution."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1))
    register(model[position])
    return model


def old_style(register):
    def apply(layer):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch deprecates them; checkpoints are full of them
            register(layer)

    return apply


def tied(*names):
    """Return two convolutions that share their parameters `names`, a batch norm behind each."""
    model = Net(
        lambda m, x: m.n2(m.b(F.relu(m.n1(m.a(x))))),
        a=nn.Conv2d(4, 4, 3, padding=1),
        n1=nn.BatchNorm2d(4),
        b=nn.Conv2d(4, 4, 3, padding=1),
        n2=nn.BatchNorm2d(4),
    )
    for name in names:
        setattr(model.b, name, getattr(model.a, name))
    return model


WEIGHTS = {
    "weight norm": form(lambda: normed(parametrizations.weight_norm), exported=True),
    "weight norm behind the batch norm": form(lambda: normed(parametrizations.weight_norm, 3)),
    "weight norm of old": form(lambda: normed(old_style(nn.utils.weight_norm))),
    "spectral norm": form(lambda: normed(parametrizations.spectral_norm)),
    "spectral norm of old": form(lambda: normed(old_style(nn.utils.spectral_norm))),
    "a parametrization of one's own": form(
        lambda: normed(lambda layer: register_parametrization(layer, "weight", Doubled()))
    ),
    "a parametrized bias": form(lambda: normed(lambda layer: register_parametrization(layer, "bias", Doubled()))),
    "pruned, the mask still on": form(lambda: normed(lambda layer: prune.l1_unstructured(layer, "weight", 0.5))),
    "pruned channels, twice": form(
        lambda: normed(
            lambda layer: prune.random_unstructured(prune.ln_structured(layer, "weight", 0.5, 2, 0), "weight", 0.2)
        )
    ),
    "shared weights": form(lambda: tied("weight"), *(4, SIZE, SIZE), exported=True),
    "shared weights and biases": form(lambda: tied("weight", "bias"), *(4, SIZE, SIZE)),
    "shared biases": form(lambda: tied("bias"), *(4, SIZE, SIZE), exported=True),
    "one layer, two norms": net(
        lambda m, x: m.n2(m.a(F.relu(m.n1(m.a(x))))), 4, SIZE, SIZE, a=conv(4), n1=norm(), n2=norm(), exported=True
    ),
    "one norm, two layers": net(lambda m, x: m.n(m.a(x)) + m.n(m.b(x)), a=conv(), b=conv(), n=norm()),
    "one layer under two names": form(
        lambda: (lambda layer: nn.Sequential(layer, nn.BatchNorm2d(3), nn.ReLU(), layer))(
            nn.Conv2d(3, 3, 3, padding=1)
        ),
    ),
    "an autoencoder with one matrix": net(
        lambda m, x: F.linear(F.relu(m.enc(x)), m.enc.weight.t()), 6, enc=linear(6, 4)
    ),
    "norms behind one another": net(lambda m, x: m.n2(m.n1(m.a(x))), a=conv(), n1=norm(), n2=norm()),
    "a norm without weights": net(lambda m, x: m.n(m.a(x)), a=conv(), n=lambda: nn.BatchNorm2d(4, affine=False)),
    "a norm of the batch": net(
        lambda m, x: m.n(m.a(x)), a=conv(), n=lambda: nn.BatchNorm2d(4, track_running_stats=False)
    ),
    "a norm first": net(lambda m, x: m.a(m.n(x)), n=norm(3), a=conv()),
    "a scale for each channel": net(
        lambda m, x: m.a(x) * m.scale, a=conv(), scale=lambda: nn.Parameter(torch.rand(1, 4, 1, 1) + 0.5)
    ),
    "dead channels": form(lambda: normed(lambda layer: nn.init.zeros_(layer.weight[:2].detach()))),
    "NaN in a weight": form(
        lambda: normed(lambda layer: nn.init.constant_(layer.weight.detach()[0], torch.nan)), refused="NaN"
    ),
}


# --- models that do something else when they are traced, or something else each time ---------------------------------


class KeepsDropout(nn.Module):
    """Dropout that stays live in evaluation, as for Monte Carlo estimates."""

    def __init__(self):
        super().__init__()
        self.a, self.drop = nn.Conv2d(3, 4, 3), nn.Dropout(0.5)

    def train(self, mode=True):
        super().train(mode)
        self.drop.train()
        return self

    def forward(self, x):
        return self.drop(self.a(x))


class AsksForTensors(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.culprit = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = self.a(x)
        return self.culprit(2 * x if isinstance(x, torch.Tensor) else x)


class Counts(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.calls = nn.Conv2d(3, 4, 3), 0

    def forward(self, x):
        self.calls += 1
        return self.a(x) * self.calls


class TakesOptions(nn.Module):
    """A forward with options that are left alone."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x, mask=None, features=False):
        x = self.a(x)
        if mask is not None:
            x = x * mask
        x = x.mean((2, 3))
        return x if features else self.b(x)


class TakesTwo(nn.Module):
    def forward(self, image, other):
        return image + other


def hooked(position, kind="register_forward_hook", change=lambda *seen: 2 * seen[-1]):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    module = model if position is None else model[position]
    getattr(module, kind)(change)
    return model


BEHAVIOUR = {
    "a hook on the layer": form(lambda: hooked(0), refused="0 has a hook"),
    "a hook on the batch norm": form(lambda: hooked(1), refused="1 has a hook"),
    "a hook on the whole": form(lambda: hooked(None), refused="Sequential has a hook"),
    "a hook before": form(
        lambda: hooked(2, "register_forward_pre_hook", lambda _layer, seen: (2 * seen[0],)), refused="2 has a hook"
    ),
    "dropout that is live": net(
        lambda m, x: m.b(F.dropout(m.a(x))), a=conv(), b=conv(4), refused="from one run to the next.* b"
    ),
    "dropout that is not": net(lambda m, x: F.dropout(m.a(x), 0.5, m.training), a=conv()),
    "dropout that is kept": form(KeepsDropout, refused="from one run to the next.* drop"),
    "dropout of channels": net(lambda m, x: m.b(F.dropout2d(m.a(x), 0.5, m.training)), a=conv(), b=conv(4)),
    "noise": net(lambda m, x: m.a(x) + torch.rand(4, 1, 1), a=conv(), refused="from one run to the next"),
    "a question for the type": form(AsksForTensors, refused="something else.* culprit"),
    "a count of the calls": form(Counts, refused="from one run to the next"),
    "options": form(TakesOptions),
    "two inputs": form(TakesTwo, refused="one input.*image, other"),
    "in place": net(lambda m, x: F.relu_(m.a(x)).add_(m.b(x)).mul_(0.5), a=conv(), b=conv()),
    "in place, read again": net(lambda m, x: (lambda y: F.relu_(y) + y)(m.a(x)), a=conv(), exported=True),
    "its own input, in place": net(lambda m, x: m.a(F.relu(x - 0.5, inplace=True)), a=conv()),
    "a question for the size": form(
        lambda: Net(lambda m, x: m.a(x) if x.shape[-1] > 4 else x, a=nn.Conv2d(3, 4, 3)), refused="cannot follow"
    ),
}


# --- what flows through the graph besides activations ----------------------------------------------------------------


class LeNet(nn.Module):
    """As every tutorial has it: a view behind the convolutions."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 16, 3)
        self.fc1, self.fc2 = nn.Linear(144, 12), nn.Linear(12, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), (2, 2))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.view(-1, 144)
        return self.fc2(F.relu(self.fc1(x)))


class Squeezing(nn.Module):
    """Squeeze and excitation, with a mean that keeps no dimensions."""

    def __init__(self):
        super().__init__()
        self.a, self.down, self.up = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), nn.Linear(4, 8)

    def forward(self, x):
        x = self.a(x)
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean([2, 3])))))
        return x * gate.unsqueeze(-1).unsqueeze(-1)


GRAPHS = {
    "LeNet": form(lambda: LeNet(), 3, 18, 18, exported=True),
    "a view by the batch": net(lambda m, x: m.b(m.a(x).view(x.size(0), -1)), a=conv(padding=0), b=linear(400)),
    "a product of sizes": net(
        lambda m, x: m.b(m.a(x).reshape(-1, 4, x.size(2) * x.size(3)).mean(2)), a=conv(), b=linear(4), exported=True
    ),
    "a division by a size": net(lambda m, x: m.a(x).sum((2, 3)) / (x.shape[2] * x.shape[3] + 1), a=conv()),
    "sizes joined": net(lambda m, x: m.a(x).reshape(x.shape[:1] + (4, -1)).amax(2), a=conv()),  # noqa: RUF005
    "a mask of booleans": net(lambda m, x: (lambda y: y * (y > 0))(m.a(x)), a=conv(), exported=True),
    "a choice": net(lambda m, x: (lambda y: torch.where(y > 0, y, 0.1 * y))(m.a(x)), a=conv()),
    "an index": net(lambda m, x: (lambda y: y.gather(1, y.argmax(1, keepdim=True)) + y)(m.a(x)), a=conv()),
    "a table of whole numbers": net(
        lambda m, x: m.a(x)[:, m.order] + 1, a=conv(), order=lambda: nn.Buffer(torch.tensor([2, 0, 1, 3]))
    ),
    "a sum of indices": net(lambda m, x: F.one_hot(m.a(x).argmax(1) + m.a(x).argmin(1), 8).float(), a=conv(outputs=4)),
    "pooling with its indices": net(
        lambda m, x: m.b(F.max_pool2d(m.a(x), 2, return_indices=True)[0]), a=conv(), b=conv(4)
    ),
    "chunks": net(lambda m, x: (lambda p: torch.cat([p[0], m.b(p[1])], 1))(m.a(x).chunk(2, 1)), a=conv(), b=conv(2)),
    "mean": net(lambda m, x: m.b(F.relu(m.a(x)).mean((2, 3))), a=conv(), b=linear(4), exported=True),
    "mean from the end": net(lambda m, x: m.b(m.a(x).mean([-1, -2])), a=conv(), b=linear(4), exported=True),
    "mean by name": net(lambda m, x: m.b(torch.mean(m.a(x), dim=(2, 3), keepdim=False)), a=conv(), b=linear(4)),
    "mean, twice": net(lambda m, x: m.b(m.a(x).mean(3).mean(2)), a=conv(), b=linear(4), exported=True),
    "mean of the last two of three": net(
        lambda m, x: m.a(x).flatten(2).mean((-2, -1), keepdim=True), a=conv(), exported=True
    ),
    "mean of the channels": net(lambda m, x: (lambda y: y * y.mean(1, keepdim=True))(m.a(x)), a=conv(), exported=True),
    "mean of everything else": net(lambda m, x: m.a(x).mean((1, 2, 3)).unsqueeze(1), a=conv()),
    "squeeze and excitation": form(Squeezing, exported=True),
    "keyword calls": net(
        lambda m, x: F.relu(input=torch.cat(tensors=[m.n(input=m.a(input=x)), m.b(input=x)], dim=1)),
        a=conv(),
        n=norm(),
        b=conv(),
        exported=True,
    ),
    "two readers of the picture": net(lambda m, x: m.a(x) + m.b(F.max_pool2d(x, 3, 1, 1)), a=conv(), b=conv()),
    "shuffling": net(
        lambda m, x: m.b(F.pixel_shuffle(F.channel_shuffle(m.a(x), 2), 2)), a=conv(), b=conv(1), exported=True
    ),
    "a resize to the same size": net(
        lambda m, x: (lambda y: m.b(F.interpolate(y, size=x.shape[2:])) + y)(m.a(x)), a=conv(), b=conv(4), exported=True
    ),
    "the same layer of the same": net(lambda m, x: m.b(m.a(x)) + m.a(x), a=conv(), b=conv(4)),
    "nearest neighbours": net(lambda m, x: m.b(F.interpolate(m.a(x), scale_factor=2)), a=conv(), b=conv(4)),
    "bilinear": net(
        lambda m, x: m.b(F.interpolate(m.a(x), scale_factor=2, mode="bilinear")), a=conv(), b=conv(4), exported=True
    ),
    "other norms": net(
        lambda m, x: m.i(m.l(m.g(m.a(x)))),
        a=conv(),
        g=lambda: nn.GroupNorm(2, 4),
        l=lambda: nn.LayerNorm(SIZE),
        i=lambda: nn.InstanceNorm2d(4),
    ),
    "all activations": net(
        lambda m, x: F.silu(F.hardswish(F.elu(m.p(F.leaky_relu(m.a(x)))) + F.gelu(m.b(x)))).tanh() + F.mish(m.c(x)),
        a=conv(),
        b=conv(),
        c=conv(),
        p=lambda: nn.PReLU(4),
        exported=True,
    ),
    "softmax": net(lambda m, x: F.softmax(m.a(x).mean((2, 3)), 1), a=conv(), exported=True),
    "arithmetic": net(
        lambda m, x: (2 - m.a(x)) / 3 + m.b(x) ** 2 - torch.add(m.c(x), x.mean((1, 2, 3), keepdim=True), alpha=2) * 0.5,
        a=conv(),
        b=conv(),
        c=conv(),
        exported=True,
    ),
    "a stack": net(lambda m, x: torch.stack([m.a(x), m.b(x)], 1).sum(1), a=conv(), b=conv()),
    "einsum": net(
        lambda m, x: torch.einsum("nchw,kc->nkhw", m.a(x), m.a.weight[:, :, 0, 0].t()), a=conv(), floats={"einsum"}
    ),
    "a gate": net(lambda m, x: m.a(x) * torch.sigmoid(m.b(x)), a=conv(), b=conv()),
    "dropout between layer and norm": net(lambda m, x: m.n(m.d(m.a(x))), a=conv(), d=lambda: nn.Dropout(), n=norm()),
    "a norm of tokens as wide as they are many": net(
        lambda m, x: m.n(m.a(x)), *(6, 6), a=linear(6, 6), n=lambda: nn.BatchNorm1d(6), refused="something else.* n"
    ),
    "a linear layer on a picture": net(
        lambda m, x: m.n(m.b(m.a(x))), a=conv(outputs=SIZE), b=linear(SIZE, SIZE), n=norm(SIZE)
    ),
}
FORMS = {"subclasses": SUBCLASSES, "weights": WEIGHTS, "behaviour": BEHAVIOUR, "graphs": GRAPHS}
