"""The self-checks of lab 05."""

from collections.abc import Callable, Mapping
from statistics import fmean

import numpy as np
import torch
from torch import Tensor, tensor

from edgelab.course.check import Case, Mistake, check_function, exercise
from edgelab.i18n import _

LAB = "05_unstructured_pruning"


def layer_mask(answer: Callable) -> None:
    """Check `layer_mask(weight, sparsity)`."""
    with exercise(LAB, "layer-mask"):
        one = tensor([[0.3, -0.1, 2.0, -0.05], [-3.0, 0.2, 0.01, -0.4]])
        two = tensor([[[[0.7, -0.9]], [[-0.02, 0.6]], [[0.5, -8.0]]]])  # (1, 3, 1, 2)
        cases = [Case((one, 0.5), _mask(one, 4)), Case((one, 0.3), _mask(one, 2)), Case((two, 0.7), _mask(two, 4))]
        cases += [Case((one, 0.7), _mask(one, 6)), Case((two, 0.0), _mask(two, 0)), Case((one, 1.0), _mask(one, 8))]
        mistakes = [
            Mistake(
                lambda weight, sparsity: ~_mask(weight, round(sparsity * weight.numel())),
                _("That is the other way round: True keeps a weight, False drops it."),
            ),
            Mistake(
                lambda weight, sparsity: _mask(weight, round(sparsity * weight.numel()), key=lambda w: w),
                _("A large negative weight is not small. Compare absolute values."),
            ),
            Mistake(
                lambda weight, sparsity: _mask(weight, round((1 - sparsity) * weight.numel())),
                _("You keep as many as should go. Sparsity is the share of zeros."),
            ),
            Mistake(
                lambda weight, sparsity: _mask(weight, round(sparsity * weight.numel()), key=lambda w: -abs(w)),
                _("You drop the largest weights. The smallest ones are to go."),
            ),
            Mistake(
                lambda weight, sparsity: _mask(weight, round(sparsity * weight.numel())).flatten(),
                _("The places are right, and the shape is not: the mask has the shape of the weight."),
            ),
            Mistake(
                lambda weight, sparsity: _mask(weight, round(sparsity * weight.numel())).float(),
                _("The places are right. Make them True and False: .bool() does it."),
            ),
            Mistake(
                lambda weight, sparsity: weight * _mask(weight, round(sparsity * weight.numel())),
                _("That is the pruned weight. Return the mask: True where a weight stays."),
            ),
            Mistake(
                lambda weight, sparsity: weight.abs() > sparsity,
                _("Sparsity is no threshold: it says how many weights go, not how large they are."),
            ),
            Mistake(
                lambda weight, sparsity: weight.abs() > sparsity * weight.abs().max(),
                _("That cuts at a share of the largest weight. Sparsity is a share of the *number* of weights."),
            ),
            Mistake(
                lambda weight, sparsity: _mask(weight, int(sparsity * weight.numel())),
                _("You round down. The nearest whole number of weights goes: round(...)."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _mask(weight: Tensor, gone: int, key: Callable = abs) -> Tensor:
    """Return the mask without the `gone` weights of smallest `key`."""
    order = sorted(range(weight.numel()), key=lambda place: key(float(weight.flatten()[place])))
    keep = [place not in order[:gone] for place in range(weight.numel())]
    return torch.tensor(keep).reshape(weight.shape)


def global_masks(answer: Callable) -> None:
    """Check `global_masks(weights, sparsity)`, which may call the learner's `layer_mask`."""
    with exercise(LAB, "global-masks"):
        weights = {
            "stem": tensor([[0.9, -0.8], [0.7, 0.03]]),
            "body": tensor([0.3, -0.2, 0.1, 0.02, 0.015, -0.6]),
            "classifier": tensor([[0.5, -4.0, 0.04]]),
        }
        fewer = {name: weights[name] for name in ("classifier", "body")}
        cases = [Case((weights, 0.5), _global(weights, 6)), Case((weights, 0.8), _global(weights, 10))]
        cases += [Case((fewer, 0.2), _global(fewer, 2)), Case((weights, 0.0), _global(weights, 0))]

        def layer_wise(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
            return {name: _mask(weight, round(sparsity * weight.numel())) for name, weight in weights.items()}

        def normalized(weights: Mapping[str, Tensor], sparsity: float) -> dict[str, Tensor]:
            relative = {name: weight / weight.abs().max() for name, weight in weights.items()}
            return _global(relative, _number(weights, sparsity))

        mistakes = [
            Mistake(
                layer_wise,
                _("That takes the same share from every layer. Let all weights compete: join them first."),
            ),
            Mistake(
                lambda weights, sparsity: {
                    name: ~mask for name, mask in _global(weights, _number(weights, sparsity)).items()
                },
                _("That is the other way round: True keeps a weight, False drops it."),
            ),
            Mistake(
                lambda weights, sparsity: {
                    name: mask.flatten() for name, mask in _global(weights, _number(weights, sparsity)).items()
                },
                _("The places are right, and the shapes are not: each mask has the shape of its weight."),
            ),
            Mistake(
                lambda weights, sparsity: list(_global(weights, _number(weights, sparsity)).values()),
                _("Those are the masks. Return them as a dictionary, under the names of the layers."),
            ),
            Mistake(
                lambda weights, sparsity: torch.cat(
                    [mask.flatten() for mask in _global(weights, _number(weights, sparsity)).values()]
                ),
                _("That is one long mask. Cut it into pieces again, one for each layer."),
            ),
            Mistake(
                lambda weights, sparsity: {
                    name: weights[name] * mask for name, mask in _global(weights, _number(weights, sparsity)).items()
                },
                _("Those are the pruned weights. Return the masks: True where a weight stays."),
            ),
            Mistake(
                normalized, _("You divide each layer by its largest weight first. Compare the weights as they are.")
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _number(weights: Mapping[str, Tensor], sparsity: float) -> int:
    return round(sparsity * sum(weight.numel() for weight in weights.values()))


def _global(weights: Mapping[str, Tensor], gone: int) -> dict[str, Tensor]:
    sizes = [weight.numel() for weight in weights.values()]
    parts = _mask(torch.cat([weight.flatten() for weight in weights.values()]), gone).split(sizes)
    return {name: part.reshape(weight.shape) for part, (name, weight) in zip(parts, weights.items(), strict=True)}


def cubic(answer: Callable) -> None:
    """Check `cubic(step, steps, initial, final)`."""
    with exercise(LAB, "cubic"):
        inputs = [(1, 4, 0.0, 0.8), (3, 4, 0.0, 0.8), (2, 10, 0.5, 0.95), (4, 4, 0.2, 0.9), (0, 5, 0.1, 0.7)]

        def schedule(power: float = 3, grows: bool = True) -> Callable:
            def answer(step: float, steps: float, initial: float, final: float) -> float:
                left = 1 - step / steps
                return final + (initial - final) * left**power if grows else initial + (final - initial) * left**power

            return answer

        mistakes = [
            Mistake(schedule(power=1), _("That grows evenly. The cube of what is left of the steps is missing.")),
            Mistake(schedule(power=2), _("That is the square. The schedule has a cube: ** 3.")),
            Mistake(schedule(grows=False), _("It ends where it should begin: initial and final are swapped.")),
            Mistake(
                lambda step, steps, initial, final: initial + (final - initial) * (step / steps) ** 3,
                _("That is slow at first and fast at the end. Take the cube of what is *left*: 1 - t/n."),
            ),
            Mistake(
                lambda step, steps, initial, final: final - final * (1 - step / steps) ** 3,
                _("It begins with 0, whatever the initial sparsity is."),
            ),
            Mistake(
                lambda step, steps, initial, final: final + (final - initial) * (1 - step / steps) ** 3,
                _("Look at the signs: the factor before the cube is initial - final, and that is negative."),
            ),
            Mistake(
                lambda step, steps, initial, final: (initial - final) * (1 - step / steps) ** 3,
                _("The first term is missing: the final sparsity, from which the cube takes something away."),
            ),
            Mistake(
                lambda step, steps, initial, final: final + (initial - final) * (1 - step // steps) ** 3,
                _("step // steps is a whole number. Divide with a single /."),
            ),
        ]
        check_function(answer, [Case(given, schedule()(*given)) for given in inputs], mistakes=mistakes)


def bitmask(answer: Callable) -> None:
    """Check `bitmask(weight)`, which returns the bits and the weights that are there."""
    with exercise(LAB, "bitmask"):
        one = np.array([[0.0, 1.5137, 0.0, -2.2571], [0.0, 0.0, 0.5039, 0.0]], dtype=np.float32)
        two = np.zeros((2, 3, 1, 3), dtype=np.float32)
        two[0, 1, 0, 2], two[1, 0, 0, 0], two[1, 2, 0, 1] = -1.0, 0.125, 3.0
        three = np.array([[-7.0, 0.0, 0.25]], dtype=np.float32)

        def packed(present: np.ndarray, order: str = "big") -> np.ndarray:
            return np.packbits(present, bitorder=order)  # type: ignore[call-overload]

        def flat(weight: np.ndarray) -> np.ndarray:
            return weight.flatten()

        mistakes = [
            Mistake(
                lambda weight: (packed(flat(weight) == 0), flat(weight)[flat(weight) != 0]),
                _("Your bits say where the zeros are. A 1 says that a weight is there."),
            ),
            Mistake(
                lambda weight: (packed(flat(weight) > 0), flat(weight)[flat(weight) > 0]),
                _("Negative weights are there as well: ask for != 0."),
            ),
            Mistake(
                lambda weight: (packed(flat(weight) != 0, "little"), flat(weight)[flat(weight) != 0]),
                _("The bits of each byte are in the other order. The first weight is the highest bit."),
            ),
            Mistake(
                lambda weight: (packed(flat(weight) != 0), flat(weight)),
                _("All weights are still there. Keep only those that are not zero."),
            ),
            Mistake(
                lambda weight: ((flat(weight) != 0).astype(int), flat(weight)[flat(weight) != 0]),
                _("That is a number for each weight. Eight of them fit into a byte: np.packbits."),
            ),
            Mistake(
                lambda weight: ((flat(weight) != 0), flat(weight)[flat(weight) != 0]),
                _("True and False take a byte each. Eight of them fit into one: np.packbits."),
            ),
            Mistake(
                lambda weight: (flat(weight)[flat(weight) != 0], packed(flat(weight) != 0)),
                _("Return the bits first, then the weights."),
            ),
            Mistake(
                lambda weight: (packed(flat(weight.T) != 0), flat(weight.T)[flat(weight.T) != 0]),
                _("The order is another one: flatten the weight as it is, the last axis running fastest."),
            ),
            Mistake(
                lambda weight: (np.packbits(weight != 0, axis=-1), weight[weight != 0]),
                _("Each row begins with a byte of its own. Flatten the weight first, then pack all its bits at once."),
            ),
        ]
        cases = [
            Case((weight,), (packed(flat(weight) != 0), flat(weight)[flat(weight) != 0]))
            for weight in (one, two, three)
        ]
        check_function(answer, cases, mistakes=mistakes)


def kmeans_step(answer: Callable) -> None:
    """Check `kmeans_step(values, codebook)`."""
    with exercise(LAB, "kmeans-step"):
        one = (tensor([0.0, 1.0, 2.0, 9.0, 11.5, -4.0]), tensor([0.0, 10.0]))
        two = (tensor([-3.0, -2.5, -1.8, 0.4, 0.7, 0.43, 5.25]), tensor([-3.0, -1.0, 0.0, 2.0]))
        three = (tensor([1.0, 2.0, 4.5]), tensor([-9.0, 2.0, 30.0]))

        def moved(values: Tensor, codebook: Tensor, mean: Callable = fmean, empty: Callable = lambda old: old) -> list:
            groups: list[list[float]] = [[] for _value in codebook]
            for value in values.tolist():
                groups[min(range(len(codebook)), key=lambda code: abs(value - float(codebook[code])))].append(value)
            pairs = zip(groups, codebook.tolist(), strict=True)
            return [mean(group) if group else empty(old) for group, old in pairs]

        def codes(values: Tensor, codebook: Tensor) -> list[int]:
            return [
                min(range(len(codebook)), key=lambda code: abs(value - float(codebook[code])))
                for value in values.tolist()
            ]

        mistakes = [
            Mistake(
                codes,
                _("Those are the codes: which centroid each value is next to. Return where the centroids move to."),
            ),
            Mistake(
                lambda values, codebook: [codebook.tolist()[code] for code in codes(values, codebook)],
                _("Those are the values, each replaced by its centroid. Return the centroids, moved."),
            ),
            Mistake(
                lambda values, codebook: moved(values, codebook, empty=lambda _old: float("nan")),
                _("A centroid that no value is next to has no mean: let it stay where it is."),
            ),
            Mistake(
                lambda values, codebook: moved(values, codebook, empty=lambda _old: 0.0),
                _("A centroid that no value is next to stays where it is. It does not go to 0."),
            ),
            Mistake(
                lambda values, codebook: [
                    one for one in moved(values, codebook, empty=lambda _old: None) if one is not None
                ],
                _("There must be as many centroids as before: one that no value is next to stays where it is."),
            ),
            Mistake(
                lambda values, codebook: moved(values, codebook, mean=sum),
                _("That is the sum of a centroid's values. Divide it by how many they are."),
            ),
            Mistake(
                lambda values, codebook: moved(
                    values, codebook, mean=lambda group: sorted(group)[(len(group) - 1) // 2]
                ),
                _("That is the median. The mean is what makes the squared error least."),
            ),
            Mistake(
                lambda values, codebook: moved(values, codebook, mean=lambda group: (min(group) + max(group)) / 2),
                _("That is halfway between the ends. Take the mean of all values that belong to the centroid."),
            ),
        ]
        cases = [Case(given, moved(*given)) for given in (one, two, three)]
        check_function(answer, cases, mistakes=mistakes)
