"""The self-checks of lab 04."""

from collections.abc import Callable

from edgelab.course.check import Case, Mistake, check_function, check_that, exercise, guarded, must_take
from edgelab.i18n import _
from edgelab.labs.lab_04_qat.training import Study, probe

LAB = "04_qat"
ENOUGH = 8_000  # lessons for which one epoch wins something back; of fewer of a learner's own it may not


def round_ste(answer: Callable) -> None:
    """Check `round_ste(x)` by its values and its gradients, on plain lists."""
    with exercise(LAB, "round-ste"):
        values, gradients = probe(answer)
        points, incoming = [-1.6, -0.5, 0.2, 0.5, 1.5, 2.7], [1.0, 2.0, -3.0, 0.5, 4.0, -1.0]
        mistakes = [
            Mistake(
                lambda points: points,
                _("Nothing is rounded. In x + (round(x) - x), is it only the bracket that is detached?"),
            ),
            Mistake(lambda points: [float(int(x // 1)) for x in points], _("That is floor. The nearest code counts.")),
            Mistake(
                lambda points: [2 * x - round(x) for x in points],
                _("The bracket is the wrong way round: round(x) - x."),
            ),
        ]
        check_function(values, [Case((points,), [-2.0, 0.0, 0.0, 0.0, 2.0, 3.0])], mistakes=mistakes)
        mistakes = [
            Mistake(
                lambda points, incoming: [0.0] * len(points),
                _("That is the staircase's true slope, and it teaches nothing. What must the gradient go around?"),
            ),
            Mistake(
                lambda points, incoming: [1.0] * len(points),
                _("Pass on the gradient that comes in. It is not always 1."),
            ),
            Mistake(
                lambda points, incoming: [-g for g in incoming],
                _("You detached x and let the gradient through -x. Detach the whole bracket."),
            ),
            Mistake(
                lambda points, incoming: [g * round(x) for x, g in zip(points, incoming, strict=True)],
                _("Do not multiply by what was rounded: y = x has slope 1."),
            ),
        ]
        check_function(gradients, [Case((points, incoming), incoming)], mistakes=mistakes)


def fake_quantize(answer: Callable) -> None:
    """Check `fake_quantize(x, scale, qmin, qmax)` by its values and its gradients, on plain lists."""
    with exercise(LAB, "fake-quantize"):
        values, gradients = probe(answer)
        weights, pixels = [-2.3, -0.9, -0.3, 0.1, 0.6, 2.0], [-0.31, 0.04, 0.77, 1.43, 1.9]
        cases = [
            Case((weights, 0.5, -3, 3), [-1.5, -1.0, -0.5, 0.0, 0.5, 1.5]),
            Case((pixels, 0.1, 0, 15), [0.0, 0.0, 0.8, 1.4, 1.5]),
        ]
        mistakes = [
            Mistake(
                lambda x, scale, qmin, qmax: [round(v / scale) * scale for v in x],
                _("Where are qmin and qmax? Beyond them there are no codes."),
            ),
            Mistake(
                lambda x, scale, qmin, qmax: _codes(x, scale, qmin, qmax),
                _("Those are the codes. Multiply by the scale to come back to real numbers."),
            ),
            Mistake(
                lambda x, scale, qmin, qmax: [round(min(max(v, qmin), qmax) / scale) * scale for v in x],
                _("qmin and qmax are codes: clip after you have divided by the scale."),
            ),
            Mistake(
                lambda x, scale, qmin, qmax: [min(max(v, qmin * scale), qmax * scale) for v in x],
                _("You clip, but nothing is rounded."),
            ),
            Mistake(
                lambda x, scale, qmin, qmax: [min(max(round(v), qmin), qmax) * scale for v in x],
                _("Divide by the scale first: a code counts steps of that size."),
            ),
        ]
        check_function(values, cases, mistakes=mistakes)
        first, second = [1.0, 2.0, -3.0, 0.5, 4.0, -1.0], [1.0, 2.0, -3.0, 0.5, 4.0]
        cases = [
            Case((weights, first, 0.5, -3, 3), [0.0, 2.0, -3.0, 0.5, 4.0, 0.0]),
            Case((pixels, second, 0.1, 0, 15), [0.0, 2.0, -3.0, 0.5, 0.0]),
        ]
        mistakes = [
            Mistake(
                lambda x, incoming, scale, qmin, qmax: incoming,
                _("Saturated values get a gradient too. Only the rounding belongs inside round_ste: clip outside."),
            ),
            Mistake(
                lambda x, incoming, scale, qmin, qmax: [0.0] * len(x),
                _("No gradient arrives anywhere. Round with your round_ste, not with torch.round."),
            ),
            Mistake(
                lambda x, incoming, scale, qmin, qmax: [
                    g if qmin <= v / scale <= qmax else g * scale for v, g in zip(x, incoming, strict=True)
                ],
                _("Saturated values should get no gradient at all."),
            ),
        ]
        check_function(gradients, cases, mistakes=mistakes)


def train_quantized(answer: Callable, study: Study) -> None:
    """Check `train_quantized(model, lessons, bits)` by a training with 4 bits, and a short one with 2."""
    with exercise(LAB, "train-quantized"):
        must_take(answer, study.model, study.lessons, 4)
        outcome = guarded("train_quantized(model, lessons, 4)", study.outcome, answer, bits=4)
        check_that(outcome.returned is not None, _("your function gives None. Did you forget `return`?"))
        check_that(
            hasattr(outcome.returned, "parameters"),
            _("return the model that you trained; this is a value of type %(type)s. (fit trains in place.)")
            % {"type": type(outcome.returned).__name__},
        )
        facts = {"codes": outcome.codes, "bits": outcome.bits, "allowed": 2**outcome.bits - 1}
        check_that(
            outcome.codes <= facts["allowed"],
            _(
                "a channel has %(codes)d different weights; %(bits)d bits allow %(allowed)d. Does the configuration "
                "get `bits`, was the model calibrated, and is it the prepared one that you return?"
            )
            % facts,
        )
        check_that(
            outcome.codes >= 2 ** (outcome.bits - 1),
            _("no channel has more than %(codes)d different weights; %(bits)d bits allow %(allowed)d. Use `bits`.")
            % facts,
        )
        codes = guarded("train_quantized(model, lessons[:512], 2)", study.codes, answer, bits=2, lessons=512)
        check_that(
            2 <= codes <= 3,
            _("asked for 2 bits, it gives a channel with %(codes)d different weights; 3 are allowed. Use `bits`.")
            % {"codes": codes},
        )
        percent = {
            "trained": 100 * outcome.trained,
            "untrained": 100 * outcome.untrained,
            "float": 100 * outcome.float_accuracy,
        }
        spread = outcome.float_accuracy * (1 - outcome.float_accuracy)
        chance = max(0.01, 2 * (spread / len(study.exam)) ** 0.5)  # few test images tell less
        check_that(
            outcome.trained > outcome.untrained - 2 * chance,
            _(
                "training has done harm: %(trained).1f %% after it, %(untrained).1f %% before. Batch norm is folded, "
                "so nothing tames large steps any more. Is the learning rate 0.001?"
            )
            % percent,
        )
        check_that(outcome.moved, _("no weight has changed: was the prepared model trained?"))
        lost, won = outcome.float_accuracy - outcome.untrained, outcome.trained - outcome.untrained
        check_that(
            lost < chance or won >= 0.25 * lost or len(study.lessons) < ENOUGH,
            _(
                "%(trained).1f %% after training, %(untrained).1f %% before, %(float).1f %% in float: hardly anything "
                "is won back. Was the prepared model trained after it was calibrated, and for a whole epoch?"
            )
            % percent,
        )


def spend(answer: Callable) -> None:
    """Check `spend(sizes, noise, budget)`."""
    with exercise(LAB, "spend"):
        sizes = {"first": 100, "middle": 1000, "large": 4000, "last": 300}
        loud = {"first": 3.0, "middle": 1.7, "large": 2.6, "last": 0.2}
        noise = {name: {bits: loud[name] * 4.1**-bits for bits in range(2, 9)} for name in sizes}
        total = sum(sizes.values())
        cases = [
            Case((sizes, noise, few * total), _spent(sizes, noise, few * total, _per_weight)) for few in (3, 4, 5.5, 8)
        ]
        mistakes = [
            Mistake(
                lambda sizes, noise, budget: _spent(sizes, noise, budget, lambda added, size: added),
                _(
                    "You ask where taking a bit adds least noise. A large layer saves more: "
                    "divide by the number of weights."
                ),
            ),
            Mistake(
                lambda sizes, noise, budget: _spent(sizes, noise, budget, lambda added, size: -added / size),
                _("You take the bit where it hurts most. Take it where the noise for each weight is least."),
            ),
            Mistake(
                lambda sizes, noise, budget: _spent(sizes, noise, budget, lambda added, size: -size),
                _("That empties the largest layers first. What does a bit cost there, in noise?"),
            ),
            Mistake(
                lambda sizes, noise, budget: _spent(sizes, noise, budget, _per_weight, before=True),
                _("That is the noise that the layer has with one bit less. What does this bit **add**?"),
            ),
            Mistake(
                lambda sizes, noise, budget: _spent(sizes, noise, 8 * budget, _per_weight),
                _("`budget` counts bits, not bytes."),
            ),
            Mistake(
                lambda sizes, noise, budget: _spent(sizes, noise, budget, _per_weight, least=1),
                _("A layer keeps 2 bits at least."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _per_weight(added, size):
    return added / size


def _spent(sizes, noise, budget, price, least=2, before=False):
    bits = dict.fromkeys(sizes, 8)

    def cost(layer):
        few = bits[layer] - 1
        return price(noise[layer][few] - (0 if before else noise[layer][few + 1]), sizes[layer])

    while sum(sizes[layer] * bits[layer] for layer in sizes) > budget:
        bits[min((layer for layer in sizes if bits[layer] > least), key=cost)] -= 1
    return bits


def _codes(x, scale, qmin, qmax):
    return [min(max(round(v / scale), qmin), qmax) for v in x]
