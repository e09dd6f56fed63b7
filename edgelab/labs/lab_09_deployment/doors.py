"""int8 in and out: the learner's own pre- and post-processing, in front of a file and behind it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from edgelab import data
from edgelab.deploy.litert_runner import LiteRTRunner, Port
from edgelab.i18n import _

_IMAGES = 200


def try_doors(path: str | Path, dataset: data.Dataset, to_codes: Callable, to_probabilities: Callable) -> None:
    """Print the grids of a `.tflite` file, and how well a learner's way into it and out of it replaces the package's.

    `to_codes(pixels, scale, zero_point)` gets pixels as a camera gives them, `(H, W, C)`, and
    `to_probabilities(codes, scale, zero_point)` the codes of one picture. 200 test pictures are tried.
    """
    runner = LiteRTRunner(Path(path), reference=True)
    grid_in, grid_out = (_grid(port) for port in (runner.input, runner.output))
    print(_("in:  scale %(scale).6f, zero point %(zero)d") % {"scale": grid_in[0], "zero": grid_in[1]})
    print(_("out: scale %(scale).4f, zero point %(zero)d") % {"scale": grid_out[0], "zero": grid_out[1]})
    same_codes = same_answers = 0
    images = dataset.test.images[:_IMAGES]
    for picture in images:
        stored = runner.stored(data.normalize(picture[None]))
        codes = np.asarray(to_codes(picture.permute(1, 2, 0).numpy(), *grid_in))
        same_codes += codes.shape == stored.shape[1:] and bool((codes == stored[0]).all())
        output = runner.run(stored)[0]
        expected = torch.softmax(torch.from_numpy(runner.output.numbers(output)), 0).numpy()
        got = np.asarray(to_probabilities(output, *grid_out), dtype=float)
        same_answers += got.shape == expected.shape and bool(np.abs(got - expected).max() < 1e-4)
    text = _("%(mark)s %(right)d of %(n)d pictures become the same codes")
    print(text % {"mark": _mark(same_codes, len(images)), "right": same_codes, "n": len(images)})
    text = _("%(mark)s %(right)d of %(n)d answers are the same probabilities")
    print(text % {"mark": _mark(same_answers, len(images)), "right": same_answers, "n": len(images)})


def _grid(port: Port) -> tuple[float, int]:
    return port.scale, port.zero_point


def _mark(right: int, count: int) -> str:
    return "✓" if right == count else "✗"
