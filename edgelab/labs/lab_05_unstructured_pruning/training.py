"""Lab 05: pruning by the learner's masks and schedule, with training in between."""

import copy
from collections.abc import Callable, Mapping, Sequence
from html import escape

import torch
from torch import nn

from edgelab import data
from edgelab.bars import track
from edgelab.explore.html import HtmlTable
from edgelab.explore.prediction import Prediction, predict
from edgelab.i18n import _
from edgelab.labs.lab_05_unstructured_pruning.explorers import weights_of
from edgelab.pruning import apply_masks, choose_masks, magnitude, n_m_masks, prunable, remove_masks, sparsity_of
from edgelab.train import evaluate, fit, remembering

LAB = "05_unstructured_pruning"
MODELS = "models"  # in the learner's folder: what was trained lies there, and need not be trained again
IMAGES = 480  # for each step

Choose = Callable[[Mapping[str, torch.Tensor], float], Mapping[str, torch.Tensor]]


def predict_speed() -> Prediction:
    """Return the prediction of how many times faster 90 % zeros run."""
    return predict(LAB, "speed", _("times faster with 90 % zeros"), unit="×", low=0.5, high=12)


def prune_and_train(model: nn.Module, lessons: data.Split, sparsities: Sequence[float], choose: Choose) -> nn.Module:
    """Return a copy of `model`, pruned to each of `sparsities` in turn by the masks `choose(weights, sparsity)`.

    After each step it trains on the next `IMAGES` of `lessons`, with the masks on. Trainings are kept on disk; one that
    is interrupted counts for nothing.
    """
    pruned = copy.deepcopy(model)
    with remembering(MODELS):
        for step, sparsity in enumerate(track(sparsities, _("pruning and training"))):
            apply_masks(pruned, choose(weights_of(pruned), sparsity))
            first = step * IMAGES % max(1, len(lessons) - IMAGES + 1)  # few images are seen again
            fit(pruned, lessons[first : first + IMAGES], epochs=1, lr=0.02, batch_size=32, progress=False)
    return remove_masks(pruned)


def accuracy_table(
    dense: nn.Module, in_steps: nn.Module, at_once: nn.Module, exam: data.Split, choose: Choose
) -> HtmlTable:
    """Return what is left of the accuracy without training, and with it: pruned at once, and in steps.

    Both trained models have seen the same pictures.
    """
    sparsity = sparsity_of(in_steps)
    untrained = remove_masks(apply_masks(copy.deepcopy(dense), choose(weights_of(dense), sparsity)))
    models = {
        _("dense"): dense,
        _("%(zeros).0f %% zeros at once, not trained") % {"zeros": 100 * sparsity}: untrained,
        _("%(zeros).0f %% zeros at once, trained") % {"zeros": 100 * sparsity}: at_once,
        _("%(zeros).0f %% zeros in steps, trained") % {"zeros": 100 * sparsity}: in_steps,
    }
    rows = [[escape(name), f"{100 * evaluate(model, exam):.1f}"] for name, model in models.items()]
    return HtmlTable([_("baseline"), _("accuracy (%)")], rows)


def pattern_table(dense: nn.Module, exam: data.Split) -> HtmlTable:
    """Return the accuracy of half the weights chosen freely and of the 2:4 pattern, in the same layers, untrained."""
    grouped = [name for name, layer in prunable(dense).items() if layer.weight.shape[1] % 4 == 0]
    scores = {name: score for name, score in magnitude(dense).items() if name in grouped}
    masks = {
        _("half of each layer, the smallest"): choose_masks(scores, 0.5, scope="layer"),
        _("2 of every 4 neighbours"): n_m_masks(scores, 2, 4),
    }
    rows = [[_("none: dense"), "0.0", f"{100 * evaluate(dense, exam):.1f}"]]
    for name, chosen in masks.items():
        pruned = remove_masks(apply_masks(copy.deepcopy(dense), chosen))
        rows.append([escape(name), f"{100 * sparsity_of(pruned):.1f}", f"{100 * evaluate(pruned, exam):.1f}"])
    return HtmlTable([_("which weights go"), _("zeros (%)"), _("accuracy (%)")], rows)
