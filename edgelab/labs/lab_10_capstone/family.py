"""A family of small networks that are cut from one: trained together, so that each can be judged without a training.

The largest is a `resnet` of three stages. Of each group of its channels (lab 06) a smaller network keeps those that
matter most, so that the networks lie inside one another like Russian dolls. Source: Cai et al., "Once-for-All", 2020;
Yu et al., "Slimmable Neural Networks", 2019.
"""

import copy
from collections.abc import Iterator
from itertools import chain, product

import torch
from torch import nn
from torch.func import functional_call

from edgelab import data
from edgelab.data.inputs import plain_layout
from edgelab.models import resnet
from edgelab.pruning import channel_importance, find_dependencies
from edgelab.pruning.channels import IN, OUT

Shape = tuple[int, int, int]  # channels of the three stages
WHOLE: Shape = (8, 16, 32)  # `resnet_tiny`
WIDTHS = ((4, 5, 6, 8), (8, 10, 12, 16), (16, 20, 24, 32))
SHOWN = 256  # images from which a network's batch norms take their means and variances again


def shapes() -> list[Shape]:
    """Return all shapes of the family, the smallest first."""
    return [(first, second, third) for first, second, third in product(*WIDTHS)]


def neighbours(shape: Shape) -> Iterator[Shape]:
    """Yield the shapes in which one stage is a step wider or narrower."""
    for stage, widths in enumerate(WIDTHS):
        place = widths.index(shape[stage])
        for other in (place - 1, place + 1):
            if 0 <= other < len(widths):
                yield (*shape[:stage], widths[other], *shape[stage + 1 :])  # type: ignore[misc]


class Family(nn.Module):
    """All networks of the family, in the weights of the largest: `(N, C, H, W) -> (N, classes)`.

    In training every batch goes through another one of them, drawn at random; in evaluation it is the largest.
    """

    def __init__(self, largest: nn.Module, example: torch.Tensor, classes: int):
        super().__init__()
        self.largest = copy.deepcopy(largest)
        self._built = {"in_channels": example.shape[1], "num_classes": classes}
        self._dependencies = find_dependencies(largest, example)
        self._scores = channel_importance(self._dependencies, "l1")
        self._kept: dict[Shape, dict[tuple[str, str], torch.Tensor]] = {}
        self._skeletons: dict[Shape, list[nn.Module]] = {}  # in a list, so that they are no part of this module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return self.largest(x)
        every = shapes()
        shape = every[int(torch.randint(len(every), ()))]
        if shape not in self._skeletons:
            self._skeletons[shape] = [resnet(shape, **self._built)]
        (skeleton,) = self._skeletons[shape]
        weights = {name: value.contiguous() for name, value in self._weights(shape).items()}
        return functional_call(skeleton, weights, (plain_layout(x),))  # see `data.inputs.is_safe_fast`

    def cut(self, shape: Shape) -> nn.Module:
        """Return one network of the family by itself, with its weights as they are."""
        model = resnet(shape, **self._built)
        model.load_state_dict({name: value.detach().clone() for name, value in self._weights(shape).items()})
        return model.eval()

    def _weights(self, shape: Shape) -> dict[str, torch.Tensor]:
        """Return the part of every weight that a network has: the outputs and inputs that it keeps."""
        kept, found = self._places(shape), {}
        for name, value in chain(self.largest.named_parameters(), self.largest.named_buffers()):
            layer = name.rpartition(".")[0]
            for axis, direction in enumerate((OUT, IN)):
                if value.dim() > axis and (layer, direction) in kept:
                    value = value.index_select(axis, kept[layer, direction])
            found[name] = value
        return found

    def _places(self, shape: Shape) -> dict[tuple[str, str], torch.Tensor]:
        if shape not in self._kept:
            width_of = dict(zip(WHOLE, shape, strict=True))
            going = {
                name: self._scores[name].argsort()[: len(group) - width_of[len(group)]].tolist()
                for name, group in self._dependencies.groups.items()
            }
            removed = self._dependencies.removed(going)
            self._kept[shape] = {slot: (~gone).nonzero().flatten() for slot, gone in removed.items()}
        return self._kept[shape]


@torch.no_grad()
def settle(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """Let the batch norms of a network that was cut out see uint8 `images`, and return it: its statistics are others.

    It takes a forward pass and no training. Source: Yu and Huang, "Universally Slimmable Networks", 2019, section 3.3.
    """
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # a plain mean over what is shown
    model.train()(data.normalize(images[:SHOWN]))
    return model.eval()
