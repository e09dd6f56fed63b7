"""Learn from the inside of a teacher: its features, where it looks, and how its images lie to each other.

Features are what a layer puts out, `(N, C, H, W)`. The losses return one number, the mean over the batch, and give the
teacher no gradient.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from edgelab.data import Split, normalize
from edgelab.data.inputs import run_on
from edgelab.distillation.losses import distillation_loss
from edgelab.distillation.training import answers, frozen
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.train import History, device_of, fit


def hint_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return half the mean squared difference of two features of the same shape.

    Source: Romero et al., 2015, "FitNets: Hints for Thin Deep Nets", equation 3, which sums where we take the mean, so
    that a weight means the same for a large layer and a small one. A student with fewer channels comes through a
    regressor, a 1x1 convolution: `distill_features` makes one.
    """
    _must_align(student, teacher)
    return (student - teacher.detach()).square().mean() / 2


def attention_map(features: torch.Tensor) -> torch.Tensor:
    """Return where a layer is active, shape `(N, H * W)`: squares summed over the channels, scaled to length 1.

    Source: Zagoruyko and Komodakis, 2017, "Paying More Attention to Attention", section 3.1, F² sum.

    >>> attention_map(torch.tensor([[[[3.0, 0.0]], [[0.0, 2.0]]]]) ** 0.5)
    tensor([[0.8321, 0.5547]])
    """
    return F.normalize(features.square().sum(dim=1).flatten(1), dim=1)


def attention_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the distance of two attention maps; channels may differ, height and width must not.

    Source: Zagoruyko and Komodakis, 2017, equation 2, with p = 2.
    """
    _must_align(student, teacher)
    return (attention_map(student) - attention_map(teacher).detach()).norm(dim=1).mean()


def relational_loss(
    student: torch.Tensor, teacher: torch.Tensor, *, distance_weight: float = 1.0, angle_weight: float = 2.0
) -> torch.Tensor:
    """Return how differently the images of a batch lie to each other in two spaces, whose sizes may differ.

    Compared by Huber's loss are the distances of all pairs, in units of their mean, and the cosines of the angles in
    all triplets. Features are averaged over height and width first. Three images or more are needed. Source: Park et
    al., 2019, "Relational Knowledge Distillation", equations 4 to 9; the weights are the paper's for RKD-DA.
    """
    student, teacher = _embedding(student), _embedding(teacher).detach()
    if len(student) < 3:
        raise EdgelabError(_("Relations need three images in a batch, here %(n)d.") % {"n": len(student)})
    distance = F.smooth_l1_loss(_distances(student), _distances(teacher))
    images = len(student)
    triplets = images * (images - 1) * (images - 2)
    angle = F.smooth_l1_loss(_angles(student), _angles(teacher), reduction="sum") / triplets
    return distance_weight * distance + angle_weight * angle


def _must_align(student: torch.Tensor, teacher: torch.Tensor) -> None:
    if student.shape[2:] != teacher.shape[2:]:
        raise EdgelabError(
            _("The student's features are %(student)s, the teacher's %(teacher)s: height and width must be the same.")
            % {"student": tuple(student.shape), "teacher": tuple(teacher.shape)}
        )


def _embedding(features: torch.Tensor) -> torch.Tensor:
    return features.mean(dim=(2, 3)) if features.dim() == 4 else features.flatten(1)


def _distances(embedding: torch.Tensor) -> torch.Tensor:
    """Return the distances of all pairs of `(N, D)`, divided by their mean."""
    distances = torch.pdist(embedding)
    return distances / distances.mean().clamp(min=1e-12)


def _angles(embedding: torch.Tensor) -> torch.Tensor:
    """Return the cosine of the angle at `j` between `i` and `k`, shape `(j, i, k)`; 0 or 1 where two are the same."""
    towards = F.normalize(embedding[None] - embedding[:, None], dim=2)  # [j, i]: from j to i
    return torch.bmm(towards, towards.transpose(1, 2))


@contextmanager
def tapped(model: nn.Module, layers: Iterable[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Give a dictionary that holds, after each run of `model` in the block, what its `layers` have put out, by name.

    Raise `EdgelabError` for a name that no layer has.
    """
    found: dict[str, torch.Tensor] = {}
    known = dict(model.named_modules())
    hooks = []
    try:
        for name in layers:
            if name not in known:
                raise EdgelabError(_("This model has no layer %(name)r.") % {"name": name})

            def keep(_layer: nn.Module, _inputs: Any, output: torch.Tensor, name: str = name) -> None:
                found[name] = output

            hooks.append(known[name].register_forward_hook(keep))
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def distill_features(
    student: nn.Module,
    teacher: nn.Module,
    train: Split,
    *,
    layers: Mapping[str, str],
    feature_loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = hint_loss,
    weight: float = 1.0,
    loss_fn: Callable[..., torch.Tensor] = partial(distillation_loss, temperature=4.0, alpha=0.9),  # noqa: B008
    **options: Any,
) -> History:
    """Train `student` in place to answer as `teacher` does, and to resemble it inside; return the `History`.

    `layers` names the teacher's layer for each layer of the student that is to resemble it. Added to `loss_fn` is
    `weight` times the mean of `feature_loss` over these pairs. For `hint_loss` the student's features go through a
    regressor first, which is trained along and thrown away; FitNets does so in a stage of its own, before the answers,
    and here both are learned at once. The teacher sees the crop that the student sees; `options` go to
    `edgelab.train.fit`.

    Raise `EdgelabError` as `fit`, for a layer that is not there, and for a pair whose heights or widths differ.
    """
    guide = frozen(teacher)
    with tapped(student, layers) as mine, tapped(guide, layers.values()) as theirs:
        with torch.no_grad():
            for model in (student.eval(), guide):
                run_on(model, normalize(train.images[:2]).to(device_of(model)))
        torch.manual_seed(options.get("seed", 0))
        learner = _Learner(student, _regressors(mine, theirs, layers) if feature_loss is hint_loss else {})

        def taught(images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
            logits = answers(guide, images)
            return logits, [theirs[name].float() for name in layers.values()]

        def loss(logits: torch.Tensor, taught: tuple, labels: torch.Tensor) -> torch.Tensor:
            teacher_logits, features = taught
            pairs = zip(layers, features, strict=True)
            inside = [feature_loss(learner.regress(name, mine[name].float()), feature) for name, feature in pairs]
            return loss_fn(logits, teacher_logits, labels) + weight * torch.stack(inside).mean()

        history = fit(learner, train, teacher=taught, loss_fn=loss, **options)
    student.eval()
    return history


class _Learner(nn.Module):
    """A student whose regressors are trained along with it."""

    def __init__(self, student: nn.Module, regressors: Mapping[str, nn.Module]):
        super().__init__()
        self.student = student
        self.regressors = nn.ModuleDict({name.replace(".", "/"): layer for name, layer in regressors.items()})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.student(images)

    def regress(self, name: str, features: torch.Tensor) -> torch.Tensor:
        name = name.replace(".", "/")  # the name of a module has no dot
        return self.regressors[name](features) if name in self.regressors else features


def _regressors(
    mine: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor], layers: Mapping[str, str]
) -> dict[str, nn.Module]:
    """Return a 1x1 convolution for each pair of layers, from the student's channels to the teacher's."""
    pairs = {name: (mine[name], theirs[other]) for name, other in layers.items()}
    return {
        name: nn.Conv2d(small.shape[1], large.shape[1], 1).to(small.device) for name, (small, large) in pairs.items()
    }
