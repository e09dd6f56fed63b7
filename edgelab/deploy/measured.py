"""`edgelab measure`: all there is to know of a model: of the zoo's, in a file that anybody made, or a learner's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgelab import data
from edgelab.data import Dataset, normalize
from edgelab.data.inputs import run_on
from edgelab.deploy.file_costs import file_costs, session_inputs
from edgelab.deploy.litert_runner import TFLiteRunner, captured_stderr
from edgelab.deploy.microcontroller import arena
from edgelab.deploy.npu import NpuEstimate, npu_estimate
from edgelab.deploy.own_module import load_own, split_name
from edgelab.deploy.runner import Runner, open_session, session_options
from edgelab.errors import EdgelabError, first_line
from edgelab.i18n import _
from edgelab.measure import (
    DEVICES,
    Device,
    compare_latency,
    estimate_energy,
    measure_latency,
    measure_model,
)
from edgelab.measure.report import Row
from edgelab.models import load_pretrained
from edgelab.train import evaluate

SUFFIXES = (".onnx", ".tflite")
_SECONDS = 4.0  # for each latency, and for each comparison


@dataclass(frozen=True)
class Speed:
    """How many times faster than the first model: the ratio, its 95 % interval, and the verdict on it."""

    ratio: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Measured:
    """A model's row of figures, and what only some models have, None or empty for the others.

    `arena_bytes` is what TensorFlow Lite Micro takes; `npu` Arm's estimate; `speed` the comparison with the first
    model; `unmeasured` why a figure is missing, by its name; `breaks` the limits of the device that it breaks.
    """

    row: Row
    arena_bytes: int | None = None
    npu: NpuEstimate | None = None
    speed: Speed | None = None
    unmeasured: dict[str, str] | None = None
    breaks: tuple[str, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as plain numbers, for JSON."""
        return {**self.row.as_dict(), **{key: value for key, value in asdict(self).items() if key != "row"}}


def find_device(words: str) -> Device:
    """Return the card of `DEVICES` whose name has these words; raise `EdgelabError` unless there is exactly one."""
    found = [device for device in DEVICES if words.lower() in device.name.lower()]
    if len(found) != 1:
        raise EdgelabError(
            _("%(words)r names no card, or several. There are: %(known)s.")
            % {"words": words, "known": ", ".join(device.name for device in DEVICES)}
        )
    return found[0]


def must_be_there(names: Sequence[str]) -> None:
    """Raise `EdgelabError` for a file that is missing or of another kind; what is no file may be a model of the zoo."""
    for name in names:
        own = split_name(name)
        path = Path(name) if own is None else own[0]
        if own is not None and not path.is_file():
            raise EdgelabError(_("There is no file %(path)s.") % {"path": path})
        if own is not None:
            continue
        if path.suffix == ".py" and path.is_file():
            raise EdgelabError(
                _("%(path)s: say which function returns the module, as in %(path)s:build.") % {"path": path}
            )
        if path.suffix in SUFFIXES and not path.is_file():
            raise EdgelabError(_("There is no model file %(path)s.") % {"path": path})
        if path.suffix not in SUFFIXES and path.is_file():
            raise EdgelabError(_("%(path)s is neither an .onnx nor a .tflite file.") % {"path": path})


def measure_models(
    say: Callable[[str], None], names: Sequence[str], dataset: str, threads: int, device: str
) -> tuple[str, dict[str, Measured]]:
    """Return the name of the data set, and what was measured of files, own modules and models of the zoo, by name.

    `say` is told which is at work.

    Raise `EdgelabError` for what is none of these, and for a file that cannot be loaded or run.
    """
    card = find_device(device) if device else None
    loaded = data.load(dataset or None)
    runs: dict[str, Callable[[], object]] = {}
    found: dict[str, Measured] = {}
    for name in names:
        say(name)
        runs[name], measured = _measure(name, loaded, threads)
        first = names[0]
        speed = None
        if name != first:
            speed = speed_of(runs[name], runs[first], threads)
        breaks = None if card is None else tuple(_breaks(measured, card))
        found[name] = Measured(**{**vars(measured), "speed": speed, "breaks": breaks})
    return loaded.name, found


def speed_of(
    run: Callable[[], object], first: Callable[[], object], threads: int, *, seconds: float = _SECONDS
) -> Speed:
    """Return how many times as fast as `first` a model runs, measured in turns; see `compare_latency` for `seconds`."""
    compared = compare_latency({"first": first, "second": run}, threads=threads, max_seconds=seconds)
    return Speed(compared.ratio, compared.low, compared.high, compared.verdict)


def _measure(name: str, loaded: Dataset, threads: int) -> tuple[Callable[[], object], Measured]:
    if split_name(name) is not None:
        return _own(name, loaded, threads)
    return measure_file(name, loaded, threads) if Path(name).suffix in SUFFIXES else _zoo(name, loaded, threads)


def _own(name: str, loaded: Dataset, threads: int) -> tuple[Callable[[], object], Measured]:
    model, example = load_own(name, normalize(loaded.test.images[:1]))
    unmeasured: dict[str, str] = {}
    accuracy = _unless_refused(lambda: _accuracy_of(model, loaded), "accuracy", unmeasured)
    pictures = None if accuracy is None else len(loaded.test)
    row = measure_model(model, example, threads=threads, accuracy=accuracy, pictures=pictures)
    return Runner(model).once(example), Measured(row, unmeasured=unmeasured or None)


def _zoo(name: str, loaded: Dataset, threads: int) -> tuple[Callable[[], object], Measured]:
    model = load_pretrained(name, loaded.name)
    image = normalize(loaded.test.images[:1])
    run = Runner(model).once(image)
    accuracy = evaluate(model, loaded.test)
    row = measure_model(model, image, threads=threads, accuracy=accuracy, pictures=len(loaded.test))
    return run, Measured(row)


def measure_file(name: str | Path, loaded: Dataset, threads: int) -> tuple[Callable[[], object], Measured]:
    """Return what runs a file once, and all that was measured of it.

    Raise `EdgelabError` for a file that cannot be loaded or run.
    """
    path = Path(name)
    run = any_run(path, threads)
    costs = file_costs(path)
    unmeasured: dict[str, str] = {}
    counted = _unless_refused(lambda: _accuracy(path, loaded, threads), "accuracy", unmeasured)
    accuracy, pictures = counted or (None, None)
    latency = measure_latency(run, threads=threads, max_seconds=_SECONDS)
    arena_bytes = estimate = None
    if path.suffix == ".tflite":
        found = _unless_refused(lambda: arena(path), "arena_bytes", unmeasured)
        arena_bytes = None if found is None else found.bytes
        estimate = _unless_refused(lambda: npu_estimate(path), "npu", unmeasured)
    row = Row(
        params=costs.params,
        size_bytes=path.stat().st_size,
        macs=costs.macs,
        p50_ms=latency.p50_ms,
        p95_ms=latency.p95_ms,
        threads=threads,
        peak_bytes=costs.peak_bytes,
        energy_j=estimate_energy(costs.macs, costs.weight_bytes, precision=costs.precision),
        accuracy=accuracy,
        runtime="ONNX Runtime" if path.suffix == ".onnx" else "LiteRT",
        pictures=pictures,
    )
    return run, Measured(row, arena_bytes, estimate, unmeasured=unmeasured or None)


def _unless_refused(find: Callable[[], Any], figure: str, unmeasured: dict[str, str]) -> Any:
    """Return what `find` finds; where it is refused, None, and the reason under the figure's name."""
    try:
        return find()
    except EdgelabError as error:
        unmeasured[figure] = str(error)
        return None


def any_run(path: Path, threads: int) -> Callable[[], object]:
    """Return one inference of any file, whatever its inputs, on numbers that mean nothing."""
    try:
        if path.suffix == ".onnx":
            session = open_session(path, session_options(threads))
            feed = session_inputs(session)
            session.run(None, feed)
            return lambda: session.run(None, feed)
        return _tflite_run(path, threads)
    except EdgelabError:
        raise
    except Exception as error:  # the runtimes' own classes
        raise EdgelabError(
            _("%(path)s cannot be run: %(reason)s") % {"path": path, "reason": first_line(error)}
        ) from None


def _tflite_run(path: Path, threads: int) -> Callable[[], object]:
    from ai_edge_litert.interpreter import Interpreter

    with captured_stderr():
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
    generator = np.random.default_rng(0)
    feeds = []
    for details in interpreter.get_input_details():
        numbers = generator.standard_normal(details["shape"])
        is_float = np.issubdtype(details["dtype"], np.floating)
        feeds.append((details["index"], (numbers if is_float else np.zeros_like(numbers)).astype(details["dtype"])))
    outputs = [details["index"] for details in interpreter.get_output_details()]

    def run() -> object:
        for index, numbers in feeds:
            interpreter.set_tensor(index, numbers)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    run()
    return run


def _accuracy(path: Path, loaded: Dataset, threads: int) -> tuple[float, int]:
    """Return the accuracy of a file on the test images, and how many those are, in whole batches of the file's size.

    Raise `EdgelabError` where it was not made for them.
    """
    runner = Runner.open(path, threads=threads)
    images = loaded.test.images[: runner.batch]
    _must_name_classes(runner(normalize(images)), loaded)
    whole, batch_size = len(loaded.test) // runner.batch * runner.batch, max(1, 250 // runner.batch) * runner.batch
    return evaluate(_as_it_takes_them(runner), loaded.test[:whole], batch_size=batch_size), whole


def _accuracy_of(model: torch.nn.Module, loaded: Dataset) -> float:
    """Return the accuracy of a module on the test images; raise `EdgelabError` where it was not made for them."""
    with torch.inference_mode():
        _must_name_classes(run_on(model, normalize(loaded.test.images[:2])), loaded)
    return evaluate(model, loaded.test)


def _must_name_classes(logits: object, loaded: Dataset) -> None:
    found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else (0, type(logits).__name__)
    if len(found) != 2 or found[1] != len(loaded.classes):
        raise EdgelabError(
            _("It gives %(found)s, and %(dataset)s has %(classes)s classes.")
            % {"found": found[1:], "dataset": loaded.name, "classes": len(loaded.classes)}
        )


def _as_it_takes_them(runner: Runner) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function of normalised images that hands them on as the file takes them.

    Integers of an input tell: where none stands for a number below 0, it takes pixels, from 0 to 255 or from 0 to 1.
    """
    if isinstance(runner, TFLiteRunner) and runner.input.scale > 0:
        limits = np.iinfo(runner.input.dtype)
        low, high = ((limit - runner.input.zero_point) * runner.input.scale for limit in (limits.min, limits.max))
        if low >= 0:
            factor = 128.0 if high > 2 else 128.0 / 255
            return lambda images: runner((images + 1) * factor)
    return runner


def _breaks(measured: Measured, device: Device) -> list[str]:
    """Return which limits of a device a model breaks: "flash", "RAM"."""
    ram = measured.arena_bytes or measured.row.peak_bytes
    limits = {"flash": (measured.row.size_bytes, device.flash_bytes), "RAM": (ram, device.ram_bytes)}
    return [name for name, (need, most) in limits.items() if need > most]
