"""The self-checks of lab 09."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgelab.course.check import Case, Mistake, ask, check_function, check_that, check_value, exercise
from edgelab.deploy import Runner
from edgelab.deploy.file_costs import file_costs
from edgelab.i18n import _
from edgelab.labs.lab_09_deployment.trial import small_network

LAB = "09_deployment"
_CALL = "export_and_compare(codes, model, images, folder)"


def export_and_compare(answer: Callable) -> None:
    """Check `export_and_compare(codes, model, images, folder)` on a small network and a folder of its own."""
    with exercise(LAB, "export-and-compare"), tempfile.TemporaryDirectory() as folder:
        codes, model, images = small_network(seed=4)
        given = ask(answer, codes, model, images, folder, call=_CALL)
        files = {kind: Path(folder) / f"model.{kind}" for kind in ("onnx", "tflite")}
        for kind, path in files.items():
            text = _("there is no file model.%(kind)s in the folder: to_onnx and to_litert take the path to write to.")
            check_that(path.is_file(), text % {"kind": kind})
        runners = {kind: Runner.open(path) for kind, path in files.items()}
        for kind, runner in runners.items():
            text = _("model.%(kind)s takes %(batch)d images at a time. Show one as the example: images[:1].")
            check_that(runner.batch == 1, text % {"kind": kind, "batch": runner.batch})
        for kind, path in files.items():
            text = _("model.%(kind)s computes in floats. Write `codes`, the int8 model; `model` is to compare with.")
            check_that(file_costs(path).precision == "int8", text % {"kind": kind})
        with torch.inference_mode():
            expected, ours = model(images), codes(images)
            logits = {kind: runner(images) for kind, runner in runners.items()}
        right = {kind: _apart(expected, got) for kind, got in logits.items()}
        text = _("The files are right. What your function returns")
        check_value(text, given, right, tolerance=1e-3, mistakes=_misread(expected, ours, logits, right))


def _apart(expected: torch.Tensor, got: torch.Tensor) -> tuple[float, float]:
    """Return the largest difference of a logit, and the share of images with the same class."""
    return float((got - expected).abs().max()), float((got.argmax(1) == expected.argmax(1)).float().mean())


def _misread(expected: torch.Tensor, ours: torch.Tensor, logits: dict, right: dict) -> list[tuple[Any, str]]:
    """Return what likely mistakes give, each with its hint."""

    def each(change: Callable) -> dict:
        return {kind: change(got) for kind, got in logits.items()}

    share = {kind: pair[1] for kind, pair in right.items()}
    return [
        (
            {kind: pair[::-1] for kind, pair in right.items()},
            _("Return the largest difference first, then the share of images with the same class."),
        ),
        (
            {kind: (pair[0], 100 * pair[1]) for kind, pair in right.items()},
            _("The share is a number from 0 to 1, not in per cent."),
        ),
        (
            each(lambda got: (float((got - expected).max()), _apart(expected, got)[1])),
            _("A difference may be negative: take its absolute value before you look for the largest."),
        ),
        (
            each(lambda got: (float((got - expected).abs().mean()), _apart(expected, got)[1])),
            _("That is the mean difference. One logit that is far off would hide in it: take the largest."),
        ),
        (
            each(lambda got: _apart(ours, got)),
            _("You compare with the int8 model. Compare with `model`, the one in floats that it was made from."),
        ),
        (
            {"onnx": right["tflite"], "tflite": right["onnx"]},
            _("The two files are mixed up: what is called onnx here is what the other one gives."),
        ),
        (share, _("Return a pair for each file: the largest difference, and the share.")),
    ]


def to_codes(answer: Callable) -> None:
    """Check `to_codes(pixels, scale, zero_point)`."""
    with exercise(LAB, "to-codes"):
        pixels = np.array([[0, 255, 128], [129, 131, 77], [200, 33, 254]], np.uint8)
        grids = [(1 / 128, 0), (1 / 64, 5), (1 / 256, 0), (1 / 64, -61), (1 / 32, 127)]
        cases = [Case((pixels, *grid), _codes(pixels, *grid)) for grid in grids]
        mistakes = [
            Mistake(
                lambda pixels, scale, zero: np.round(_real(pixels) / scale) + zero,
                _("Codes below -128 and above 127 do not exist: saturate, for instance with np.clip."),
            ),
            Mistake(
                lambda pixels, scale, zero: (np.round(_real(pixels) / scale) + zero).astype(np.int64).astype(np.int8),
                _("Your codes wrap around: beyond 127 comes -128. Saturate with np.clip, then convert."),
            ),
            Mistake(
                lambda pixels, scale, zero: np.clip(np.round(_real(pixels) / scale) + zero, 0, 255),
                _("You saturate as unsigned codes do. The file takes int8: from -128 to 127."),
            ),
            Mistake(
                lambda pixels, scale, zero: np.clip(np.round(_real(pixels) / scale) + zero, -127, 127),
                _("The lowest code is -128. Only weights leave that one out."),
            ),
            Mistake(
                lambda pixels, scale, zero: np.clip(np.round(_real(pixels) / scale + zero), -128, 127),
                _("Round before you add the zero point: with an odd one, ties go to the other neighbour."),
            ),
            Mistake(
                lambda pixels, scale, zero: np.clip(np.trunc(_real(pixels) / scale) + zero, -128, 127),
                _("You cut the fraction off. Round to the nearest, ties to even, as np.round does."),
            ),
            Mistake(
                lambda pixels, scale, zero: np.clip(np.round(pixels / scale) + zero, -128, 127),
                _("The model was trained on normalised pixels: first pixels / 128 - 1, then the grid."),
            ),
            Mistake(
                lambda pixels, scale, zero: np.clip(np.round((pixels / 127.5 - 1) / scale) + zero, -128, 127),
                _("You divide by 127.5. This model was trained on pixels / 128 - 1: give it the same."),
            ),
            Mistake(
                lambda pixels, scale, zero: np.clip(np.round(_real(pixels) / scale) - zero, -128, 127),
                _("The zero point is added: it is the code of 0."),
            ),
            Mistake(
                lambda pixels, scale, zero: np.clip(np.round(_real(pixels) * scale) + zero, -128, 127),
                _("Divide by the scale: it is the length of a step."),
            ),
            Mistake(
                lambda pixels, scale, zero: pixels.astype(np.int16) - 128,
                _("That is right for one grid alone, of scale 1/128 and zero point 0. Use the file's own."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _real(pixels: np.ndarray) -> np.ndarray:
    return pixels / 128 - 1


def _codes(pixels: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    return np.clip(np.round(_real(pixels) / scale) + zero_point, -128, 127).astype(np.int64)


def to_probabilities(answer: Callable) -> None:
    """Check `to_probabilities(codes, scale, zero_point)`."""
    with exercise(LAB, "to-probabilities"):
        given = [
            (np.array([-128, 127, 100, 90], np.int8), 0.0137, -47),
            (np.array([12, -3, 40, 38, -77], np.int8), 0.0713, 11),
            (np.array([-128, -120, -101], np.int8), 0.0291, 63),
        ]
        cases = [Case(each, _softmax(_logits(*each))) for each in given]
        mistakes = [
            Mistake(
                lambda codes, scale, zero: _softmax((codes - np.int8(zero)) * scale),
                _("The difference overflows in int8: 127 + 47 is no code. Convert to a wider type first."),
            ),
            Mistake(_logits, _("Those are the logits. A softmax makes probabilities of them.")),
            Mistake(
                lambda codes, scale, zero: _softmax(codes.astype(float)),
                _("A softmax of codes is far too sure of itself: multiply by the scale first."),
            ),
            Mistake(
                lambda codes, scale, zero: _softmax(_logits(codes, 1.0, zero)),
                _("The scale is missing: real = (q - zero_point) * scale."),
            ),
            Mistake(
                lambda codes, scale, zero: _softmax(_logits(codes, 1 / scale, zero)),
                _("Multiply by the scale: it is the length of a step."),
            ),
            Mistake(
                lambda codes, scale, zero: _logits(codes, scale, zero) / _logits(codes, scale, zero).sum(),
                _("Logits may be negative. Take their exponentials first, then divide by the sum."),
            ),
            Mistake(
                lambda codes, scale, zero: np.exp(_logits(codes, scale, zero)),
                _("Divide by the sum of the exponentials, so that the probabilities add up to 1."),
            ),
            Mistake(
                lambda codes, scale, zero: float(_softmax(_logits(codes, scale, zero)).max()),
                _("Return the probabilities of all classes, not the largest alone."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _logits(codes: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    return (codes.astype(np.int32) - zero_point) * scale


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def arena_by_hand(answer: Callable) -> None:
    """Check `arena_by_hand(tensors)`."""
    with exercise(LAB, "arena-by-hand"):
        cases = [
            Case(([(100, 0, 1), (50, 1, 2), (70, 2, 3)],), 176),
            Case(([(1000, 0, 0), (333, 0, 4), (520, 1, 2), (700, 2, 3), (90, 3, 4), (24, 4, 5)],), 1568),
            Case(([(3072, 0, 0), (8192, 0, 3), (8192, 1, 2), (8192, 2, 3), (2050, 3, 4)],), 24_576),
            Case(([(17, 0, 9), (31, 2, 5), (33, 5, 7), (47, 7, 9)],), 128),
            Case(([(15, 0, 2), (15, 1, 3), (15, 2, 4), (200, 6, 6)],), 208),
        ]
        mistakes = [
            Mistake(
                lambda tensors: _peak(tensors, rounded=lambda size: size),
                _("Every buffer begins at a multiple of 16: round its bytes up to one."),
            ),
            Mistake(
                lambda tensors: _up(_peak(tensors, rounded=lambda size: size)),
                _("Round every buffer up, not their sum: each of them begins at a multiple of 16."),
            ),
            Mistake(
                lambda tensors: _peak(tensors, rounded=lambda size: size // 16 * 16),
                _("You round down. A buffer needs at least its own bytes: go up to the next multiple of 16."),
            ),
            Mistake(
                lambda tensors: _peak(tensors, rounded=lambda size: size + 16),
                _("You add 16 to each. Round up to a multiple of 16; what is one stays as it is."),
            ),
            Mistake(
                lambda tensors: _peak(tensors, end=0),
                _("A buffer is still needed while its last operator runs: `last` counts as well."),
            ),
            Mistake(
                lambda tensors: sum(_up(size) for size, _first, _last in tensors),
                _("That is the sum of all. Only those alive at one time must lie beside each other."),
            ),
            Mistake(
                lambda tensors: max(_up(size) for size, _first, _last in tensors),
                _("That is the largest buffer alone. Add up all that are alive with it."),
            ),
            Mistake(
                lambda tensors: sum(sorted(_up(size) for size, _first, _last in tensors)[-2:]),
                _("The two largest need not be alive at once, and a third one may be. Go through the operators."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _up(size: int) -> int:
    return -(-size // 16) * 16


def _peak(tensors: list[tuple[int, int, int]], rounded: Callable[[int], int] = _up, end: int = 1) -> int:
    """Return the largest sum of the rounded bytes alive at one operator; with `end` 0 the last one does not count."""
    steps = range(1 + max(last for _size, _first, last in tensors))
    return max(sum(rounded(size) for size, first, last in tensors if first <= step < last + end) for step in steps)


def cortex_ms(answer: Callable) -> None:
    """Check `cortex_ms(macs, clock_hz, known)`."""
    with exercise(LAB, "cortex-ms"):
        given = [
            (12_500_000, 120e6, (2_500_000, 40.0, 120e6)),
            (3_217_000, 64e6, (11_300_000, 131.9, 100e6)),
            (7_489_664, 480e6, (2_656_768, 43.4, 120e6)),
            (901_337, 96e6, (5_113_000, 61.9, 80e6)),
        ]
        cases = [Case(each, _cortex(*each)) for each in given]

        def of_cycles(change: Callable) -> Callable:
            """Return a mistaken answer that has other cycles for a MAC, and goes on with them."""

            def wrong(macs, clock_hz, known):
                cycles = change(*known)
                return cycles, macs * cycles / clock_hz * 1000

            return wrong

        mistakes = [
            Mistake(lambda *args: _cortex(*args)[1], _("Return two numbers: the cycles for a MAC, and the ms.")),
            Mistake(lambda *args: _cortex(*args)[::-1], _("Return the cycles for a MAC first, then the ms.")),
            Mistake(
                of_cycles(lambda macs, ms, hz: ms * hz / macs),
                _("The known time is in ms, and the clock counts cycles in a second: divide it by 1000."),
            ),
            Mistake(
                of_cycles(lambda macs, ms, hz: macs / (ms / 1000 * hz)),
                _("Those are MACs in a cycle. Cycles for a MAC is the other way round."),
            ),
            Mistake(
                lambda macs, hz, known: (_cortex(macs, hz, known)[0], _cortex(macs, hz, known)[1] / 1000),
                _("The second number is in seconds: return ms."),
            ),
            Mistake(
                lambda macs, hz, known: (_cortex(macs, hz, known)[0], _cortex(macs, known[2], known)[1]),
                _("The ms are those at the known clock. The new device has a clock of its own, clock_hz."),
            ),
            Mistake(
                lambda macs, hz, known: _cortex(macs, hz, (known[0], known[1], hz)),
                _("The known result was measured at its own clock: the cycles follow from known_clock_hz."),
            ),
            Mistake(
                lambda macs, hz, known: (float(int(_cortex(macs, hz, known)[0])), _cortex(macs, hz, known)[1]),
                _("Cycles for a MAC need not be a whole number: use /, not //."),
            ),
        ]
        check_function(answer, cases, mistakes=mistakes)


def _cortex(macs: float, clock_hz: float, known: tuple[float, float, float]) -> tuple[float, float]:
    known_macs, known_ms, known_clock_hz = known
    cycles = known_ms / 1000 * known_clock_hz / known_macs
    return cycles, macs * cycles / clock_hz * 1000
