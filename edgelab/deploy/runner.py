"""One way to run a model, whatever runs it: normalised images in, logits out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from edgelab.data.inputs import as_input
from edgelab.deploy.saturation import sums_saturate
from edgelab.errors import EdgelabError, first_line
from edgelab.i18n import _

# ONNX Runtime quantizes weights by itself where their layer lies between codes; what we leave in float stays in float.
_NOT_OURS = ["WeightBiasQuantization"]
# ONNX Runtime's graph optimisations by how far they go: https://onnxruntime.ai/docs/performance/model-optimizations
LEVELS = {
    "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}

# The runtimes by the names that `Runner.open` takes, and the files that they run.
RUNTIMES = {"onnxruntime": ".onnx", "litert": ".tflite", "litert-reference": ".tflite", "tflm": ".tflite"}


class Runner:
    """A model in its runtime: call it with float32 images `(N, C, H, W)` and get logits `(N, classes)`, a tensor.

    `Runner(model)` runs a module in torch, `Runner.open(path)` a file in the runtime of its kind. It is a function of
    images, so `train.evaluate` takes it; `runner.once(image)` is what to time.
    """

    def __init__(self, model: nn.Module):
        self.name, self.model, self.batch = "torch", model.eval(), 1

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        runtime: str = "",
        threads: int = 1,
        level: str = "all",
        exact: bool | None = None,
        save_as: str | Path | None = None,
    ) -> Runner:
        """Return the runner of an `.onnx` or `.tflite` file, with so many threads.

        `runtime` is one of `RUNTIMES` that takes such files, by default the first: for `.tflite` LiteRT with XNNPACK's
        kernels, with its reference kernels, or TensorFlow Lite Micro (one thread). For `.onnx`, `level` is how far
        graph optimisation goes, `exact` forces its exact integer kernels (True) or its fast ones (False), see
        `session_options`, and `save_as` is where to write the graph that it made.

        Raise `EdgelabError` for a file that is missing, of another kind, no model of images, or that its runtime cannot
        load, and for an unknown level or runtime.
        """
        path = Path(path)
        if not path.is_file():
            raise EdgelabError(_("There is no model file %(path)s.") % {"path": path})
        fitting = [name for name, suffix in RUNTIMES.items() if suffix == path.suffix]
        if not fitting:
            raise EdgelabError(_("%(path)s is neither an .onnx nor a .tflite file.") % {"path": path})
        runtime = runtime or fitting[0]
        if runtime not in fitting:
            raise EdgelabError(
                _("%(runtime)s does not run %(path)s. There are: %(known)s.")
                % {"runtime": runtime, "path": path, "known": ", ".join(fitting)}
            )
        if runtime == "tflm":
            from edgelab.deploy.microcontroller import open_tflm

            return open_tflm(path)
        if runtime != "onnxruntime":
            from edgelab.deploy.litert_runner import LiteRTRunner

            return LiteRTRunner(path, threads=threads, reference=runtime == "litert-reference")
        if level not in LEVELS:
            known = ", ".join(LEVELS)
            raise EdgelabError(
                _("There is no level %(level)r. There are: %(known)s.") % {"level": level, "known": known}
            )
        return OnnxRunner(path, threads=threads, level=level, exact=exact, save_as=save_as)

    def once(self, image: torch.Tensor) -> Callable[[], object]:
        """Return a function without arguments that runs the model on `image` once: for `measure_latency`."""
        image = image.contiguous()

        def run() -> object:
            with torch.inference_mode():
                return self.model(image)

        return run

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images)


def session_options(threads: int = 1, *, exact: bool | None = None) -> onnxruntime.SessionOptions:
    """Return options for a session of so many threads whose integer kernels never saturate a sum of two products.

    On x86 processors without VNNI the fast kernels do, silently: the pair of products goes into 16 bits, and three in
    four of the baseline's logits are another code. The exact ones take 5 to 27 % more time there. Elsewhere the fast
    ones are exact, and those that the entry asks for are slow: with VNNI they take two thirds of the speed and more.
    So it is set where sums saturate alone; `exact=True` sets it everywhere, `exact=False` nowhere. Source:
    `session.x64quantprecision` in ONNX Runtime's onnxruntime_session_options_config_keys.h, "only effective with AVX2
    or AVX512 platforms": that is, with VNNI as well.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors only: a learner can do nothing about its warnings
    if sums_saturate() if exact is None else exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def with_outputs(proto: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """Return a copy of a model that also gives the tensors of these names."""
    opened = onnx.ModelProto()
    opened.CopyFrom(proto)
    known = {value.name for value in opened.graph.output}
    opened.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    return opened


def every_value(
    proto: onnx.ModelProto, names: list[str], batches: list[torch.Tensor]
) -> list[tuple[torch.Tensor, ...]]:
    """Return, for each batch, the values of so many tensors inside a model of one input, as its kernels have them.

    Raise `EdgelabError` where ONNX Runtime cannot load or run the model.
    """
    opened = with_outputs(proto, names)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.onnx"
        onnx.save(opened, path)
        try:
            session = open_session(path, session_options())
            feeds = ({session.get_inputs()[0].name: batch.contiguous().numpy()} for batch in batches)
            return [tuple(map(torch.from_numpy, session.run(names, feed))) for feed in feeds]
        except Exception as error:  # the runtime's own classes
            raise EdgelabError(
                _("ONNX Runtime cannot run this model: %(reason)s") % {"reason": first_line(error)}
            ) from None


def open_session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """Return a session of the file; where two layers share their codes, of a copy in memory in which each has its own.

    ONNX Runtime 1.32 rewrites int8 weights for its exact kernels, and stops where it meets the same ones again.
    """
    try:
        return _open(path, options)
    except Exception as error:
        if "replace the existing tensor" not in str(error):
            raise
    proto = onnx.load(path)
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    weights = {node.output[0]: node for node in graph.node if node.input and node.input[0] in constants}
    seen: set[str] = set()
    own: list[onnx.NodeProto] = []
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in weights and name in seen:
                twin = onnx.NodeProto()
                twin.CopyFrom(weights[name])
                for number, constant in enumerate(twin.input):
                    twin.input[number] = f"{constant}.{len(own)}"
                    graph.initializer.add().CopyFrom(constants[constant])
                    graph.initializer[-1].name = twin.input[number]
                node.input[place] = twin.name = twin.output[0] = f"{name}.{len(own)}"
                own.append(twin)
            seen.add(name)
    for twin in own:
        graph.node.insert(0, twin)
    return _open(proto.SerializeToString(), options)


def _open(model: Path | bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=_NOT_OURS
    )


class OnnxRunner(Runner):
    """A model file in ONNX Runtime, on the CPU."""

    def __init__(self, path: Path, *, threads: int, level: str, exact: bool | None, save_as: str | Path | None):
        options = session_options(threads, exact=exact)
        options.graph_optimization_level = LEVELS[level]
        if save_as is not None:
            options.optimized_model_filepath = str(save_as)
        try:
            self._session = open_session(path, options)
        except Exception as error:  # the runtime raises a class of its own for every kind of trouble
            raise EdgelabError(
                _("ONNX Runtime cannot load %(path)s: %(reason)s") % {"path": path, "reason": first_line(error)}
            ) from None
        self.name, self.threads, self.file = "onnxruntime", threads, path
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) < 2:
            raise EdgelabError(
                _("%(path)s is no model of images: it should take one input (N, C, H, W).") % {"path": path}
            )
        if len(outputs) != 1:
            raise EdgelabError(
                _("%(path)s gives %(count)s outputs (%(names)s): it should give the logits alone.")
                % {"path": path, "count": len(outputs), "names": ", ".join(output.name for output in outputs)}
            )
        for value in (inputs[0], outputs[0]):
            if value.type != "tensor(float)":
                raise EdgelabError(
                    _("%(path)s takes or gives %(type)s at %(name)s: it should be float32, tensor(float).")
                    % {"path": path, "type": value.type, "name": value.name}
                )
        self._input, self._shape = inputs[0].name, inputs[0].shape
        self._batch = self._shape[0] if isinstance(self._shape[0], int) else None
        self.batch = self._batch or 1

    def once(self, image: torch.Tensor) -> Callable[[], np.ndarray]:
        array = np.ascontiguousarray(as_input(image).numpy())
        sizes = zip(self._shape, array.shape, strict=False)
        if len(array.shape) != len(self._shape) or any(isinstance(own, int) and own != size for own, size in sizes):
            wanted = ", ".join("N" if not isinstance(size, int) else str(size) for size in self._shape)
            raise EdgelabError(
                _("This file takes images of shape (%(wanted)s), not %(found)s.")
                % {"wanted": wanted, "found": array.shape}
            )
        feed = {self._input: array}
        return lambda: self._session.run(None, feed)[0]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        images = as_input(images)
        step = self._batch or max(1, len(images))
        if self._batch and len(images) % self._batch:
            raise EdgelabError(
                _("This file takes %(batch)s images at a time, and %(images)s do not divide into that.")
                % {"batch": self._batch, "images": len(images)}
            )
        runs = [self.once(part) for part in images.split(step)]
        try:
            return torch.from_numpy(np.concatenate([run() for run in runs]))
        except Exception as error:  # the runtime's own classes
            raise EdgelabError(
                _("ONNX Runtime cannot run this file: %(reason)s") % {"reason": first_line(error)}
            ) from None


@dataclass(frozen=True)
class Parity:
    """How far a deployed model's logits are from the model's own.

    `largest` and `mean` are absolute differences of logits, `span` the largest logit less the smallest, `agreement`
    the share of images with the same best class, in [0, 1].
    """

    largest: float
    mean: float
    span: float
    agreement: float


def check_parity(
    model: Callable[[torch.Tensor], torch.Tensor], runner: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> Parity:
    """Return the `Parity` of `runner` with `model`, two functions of images `(N, C, H, W)`."""
    with torch.inference_mode():
        return parity_of(model(images), runner(images))


def parity_of(expected: torch.Tensor, got: torch.Tensor) -> Parity:
    """Return the `Parity` of two runs' logits, `(N, classes)`."""
    difference = (got - expected).abs()
    return Parity(
        largest=float(difference.max()),
        mean=float(difference.mean()),
        span=float(expected.max() - expected.min()),
        agreement=float((got.argmax(1) == expected.argmax(1)).float().mean()),
    )
