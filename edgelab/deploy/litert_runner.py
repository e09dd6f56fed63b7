"""Model files in LiteRT: float images in, float logits out, whatever the file takes and gives."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ai_edge_litert import interpreter as litert

from edgelab.data.inputs import as_input
from edgelab.deploy.runner import Runner
from edgelab.errors import EdgelabError, first_line
from edgelab.i18n import _

_XNNPACK = litert.OpResolverType.AUTO
_REFERENCE = litert.OpResolverType.BUILTIN_REF
_NO_DELEGATE = litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES


@dataclass(frozen=True)
class Port:
    """An input or output of a file; int8 and uint8 stand for (q - zero_point) * scale."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    scale: float
    zero_point: int

    @classmethod
    def of(cls, details: dict[str, Any]) -> Port:
        """Return the port that an interpreter describes."""
        grid = details["quantization_parameters"]
        scale, zero_point = (float(grid["scales"][0]), int(grid["zero_points"][0])) if len(grid["scales"]) else (0.0, 0)
        shape = tuple(int(size) for size in details["shape"])
        return cls(details.get("name", ""), shape, np.dtype(details["dtype"]), scale, zero_point)

    def codes(self, numbers: np.ndarray) -> np.ndarray:
        """Return real numbers as the tensor has them: rounded, ties to even, and saturated; or as they are."""
        if self.dtype == np.float32:
            return np.ascontiguousarray(numbers)
        limits = np.iinfo(self.dtype)
        codes = np.rint(numbers / np.float32(self.scale)) + self.zero_point
        return np.ascontiguousarray(np.clip(codes, limits.min, limits.max).astype(self.dtype))

    def numbers(self, codes: np.ndarray) -> np.ndarray:
        """Return the real numbers that the tensor's codes stand for."""
        if self.dtype == np.float32:
            return codes
        return (codes.astype(np.int32) - self.zero_point).astype(np.float32) * np.float32(self.scale)


class TFLiteRunner(Runner):
    """A `.tflite` file in a runtime of its family, which gives `run`."""

    file: Path | bytes
    input: Port
    output: Port
    outputs: tuple[Port, ...]

    def _connect(
        self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]], path: str, inside: bool
    ) -> None:
        """Take the file's inputs and outputs; raise `EdgelabError` unless it is one model of images.

        `inside`: it may have any outputs, for `every_output`.
        """
        if len(inputs) != 1 or len(inputs[0]["shape"]) < 2:
            raise EdgelabError(
                _("%(path)s is no model of images: it should take one input (N, C, H, W).") % {"path": path}
            )
        if len(outputs) != 1 and not inside:
            raise EdgelabError(
                _("%(path)s gives %(count)s outputs (%(names)s): it should give the logits alone.")
                % {"path": path, "count": len(outputs), "names": ", ".join(out["name"] for out in outputs)}
            )
        for details in (inputs[0], *([] if inside else outputs)):
            port = Port.of(details)
            if not (port.dtype == np.float32 or (port.dtype in (np.int8, np.uint8) and port.scale > 0)):
                raise EdgelabError(
                    _("%(path)s takes or gives %(type)s at %(name)s: it should be float32, or int8 with a scale.")
                    % {"path": path, "type": port.dtype.name, "name": port.name or "-"}
                )
        self.input, self.outputs = Port.of(inputs[0]), tuple(Port.of(details) for details in outputs)
        self.output, self.batch = self.outputs[0], max(1, self.input.shape[0])

    @abstractmethod
    def run(self, stored: np.ndarray) -> np.ndarray:
        """Return what the output tensor holds after a run on `stored`, which the input tensor is to hold."""

    @abstractmethod
    def every_output(self, stored: np.ndarray) -> list[np.ndarray]:
        """Return what each output tensor holds after a run on `stored`."""

    def stored(self, images: torch.Tensor) -> np.ndarray:
        """Return what the input tensor is to hold for a batch of images: its codes, channels last where it has them so.

        Raise `EdgelabError` for images of another shape.
        """
        array = as_input(images).numpy()
        if array.ndim == 4 and array.transpose(0, 2, 3, 1).shape == self.input.shape:
            array = array.transpose(0, 2, 3, 1)
        elif array.shape != self.input.shape:
            raise EdgelabError(
                _("This file takes images of shape (%(wanted)s), not %(found)s.")
                % {"wanted": ", ".join(map(str, self.input.shape)), "found": array.shape}
            )
        return self.input.codes(array)

    def once(self, image: torch.Tensor) -> Callable[[], np.ndarray]:
        """Return a function that runs the model on the codes of `image`, which are made once, beforehand."""
        stored = self.stored(image)
        return lambda: self.run(stored)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        images, batch = as_input(images), self.batch
        if len(images) % batch:
            raise EdgelabError(
                _("This file takes %(batch)s images at a time, and %(images)s do not divide into that.")
                % {"batch": batch, "images": len(images)}
            )
        runs = [self.run(self.stored(part)) for part in images.split(batch)]
        return torch.from_numpy(self.output.numbers(np.concatenate(runs)))


class LiteRTRunner(TFLiteRunner):
    """A `.tflite` file in LiteRT, on the CPU.

    By default its kernels are XNNPACK's. `reference` takes the reference kernels, plain loops, after which TensorFlow
    Lite Micro's are made. `keep` keeps every tensor for `real`, and does without XNNPACK. `inside`: the file may have
    any outputs.

    Raise `EdgelabError` for a file that LiteRT cannot load, or that is no model of images.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        threads: int = 1,
        reference: bool = False,
        keep: bool = False,
        inside: bool = False,
    ):
        path = str(model) if isinstance(model, Path) else "model.tflite"
        if isinstance(model, Path) and model.stat().st_size == 0:
            raise EdgelabError(_("%(path)s is empty.") % {"path": path})
        source: dict[str, Any] = {"model_path": path} if isinstance(model, Path) else {"model_content": model}
        try:
            with captured_stderr():
                self._interpreter = litert.Interpreter(
                    **source,
                    num_threads=threads,
                    experimental_op_resolver_type=_REFERENCE if reference else _NO_DELEGATE if keep else _XNNPACK,
                    experimental_preserve_all_tensors=keep,
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise EdgelabError(
                _("LiteRT cannot load %(path)s: %(reason)s") % {"path": path, "reason": first_line(error)}
            ) from None
        self.name, self.threads, self.file = "litert-reference" if reference else "litert", threads, model
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._connect(inputs, outputs, path, inside)
        self._place, self._places = inputs[0]["index"], [details["index"] for details in outputs]

    def run(self, stored: np.ndarray) -> np.ndarray:
        self._invoke(stored)
        return self._interpreter.get_tensor(self._places[0])

    def every_output(self, stored: np.ndarray) -> list[np.ndarray]:
        self._invoke(stored)
        return [self._interpreter.get_tensor(place) for place in self._places]

    def _invoke(self, stored: np.ndarray) -> None:
        self._interpreter.set_tensor(self._place, stored)
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise EdgelabError(_("LiteRT cannot run this file: %(reason)s") % {"reason": first_line(error)}) from None

    def real(self, tensor: int) -> np.ndarray:
        """Return the real numbers that a tensor, known by its index, held in the last run; for `keep` only."""
        details = next(found for found in self._interpreter.get_tensor_details() if found["index"] == tensor)
        return Port.of(details).numbers(self._interpreter.get_tensor(tensor))


@contextlib.contextmanager
def captured_stderr() -> Iterator[Callable[[], str]]:
    """Keep what a runtime writes to stderr, past Python, off the learner's notebook; yield a function that gives it."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        try:
            stderr = os.dup(2)
        except OSError:  # no such stream, as under a service
            yield lambda: ""
            return

        def words() -> str:
            kept.seek(0)
            return kept.read().decode(errors="replace")

        try:
            os.dup2(kept.fileno(), 2)
            yield words
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
