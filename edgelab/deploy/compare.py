"""Is it the same model? Two runs of it side by side: how far their answers are apart, and where they part.

Runtimes keep what is inside a network to themselves. So a copy of each file is made in which every tensor is an output,
and both copies get the same images. Layers are known by their names: those of the file where both runs are of one file,
those of the model's roundings between torch, ONNX Runtime and LiteRT.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import fx, nn

from edgelab.data.inputs import as_input, run_on
from edgelab.deploy.litert_runner import LiteRTRunner, TFLiteRunner
from edgelab.deploy.lowering import TO_FIRST
from edgelab.deploy.microcontroller import TFLMRunner
from edgelab.deploy.runner import OnnxRunner, Parity, Runner, every_value, parity_of
from edgelab.deploy.tflite import inline_buffers, pack, unpack
from edgelab.quantization.quantizer import FakeQuantize

_FEW = 4  # images whose insides are compared
_ALIKE = 1e-3  # of a float tensor's largest number: two orders of magnitude above another order of additions


@dataclass(frozen=True)
class LayerDifference:
    """How far two runs are apart at one layer: the largest difference, in its `unit`, and the share that differs.

    `unit` is the step of the codes, or a thousandth of the largest number where there are none; `share`, in [0, 1], is
    of the numbers that differ by more than half of it.
    """

    name: str
    largest: float
    unit: float
    share: float


@dataclass(frozen=True)
class Agreement(Parity):
    """How far two runs of a model are from each other, and at each layer that both have, in order of execution."""

    layers: tuple[LayerDifference, ...] = ()

    @property
    def first_apart(self) -> LayerDifference | None:
        """The first layer that differs; None where none does, or where the two have no layer by the same name."""
        return next((layer for layer in self.layers if layer.share > 0), None)


Run = nn.Module | Runner | str | Path


def compare(first: Run, second: Run, images: torch.Tensor) -> Agreement:
    """Return the `Agreement` of two runs on `images` `(N, C, H, W)`.

    Each is a model in torch, a file in the runtime of its kind, or a `Runner`, as `Runner.open(path, runtime="tflm")`.
    Logits are compared on all images, layers on those few whose logits are furthest apart. Raise `EdgelabError` as
    `Runner.open` and the runs.
    """
    images = as_input(images)
    runs = [_run(part) for part in (first, second)]
    with torch.inference_mode():
        logits = [run(images) for run in runs]
    parity = parity_of(*logits)
    few = _furthest_apart(logits, images, max(run.batch for run in runs))
    files = [getattr(run, "file", None) for run in runs]
    same_file = files[0] is not None and files[0] == files[1]
    ours, theirs = (_layers(run, few, same_file) for run in runs)
    differences = [_difference(name, *ours[name], *theirs[name]) for name in ours if name in theirs]
    return Agreement(**vars(parity), layers=tuple(found for found in differences if found is not None))


def _furthest_apart(logits: list[torch.Tensor], images: torch.Tensor, batch: int) -> torch.Tensor:
    """Return the images whose logits differ most: a few, and as many as a file of a larger batch takes."""
    apart = (logits[0] - logits[1]).abs().flatten(1).amax(1)
    return images[apart.topk(min(len(images), -(-_FEW // batch) * batch)).indices]


def _run(part: Run) -> Runner:
    if isinstance(part, Runner):
        return part
    return Runner(part) if isinstance(part, nn.Module) else Runner.open(part)


_Layers = dict[str, tuple[torch.Tensor, float]]  # by name: real numbers, and the step of their codes or 0


def _layers(run: Runner, images: torch.Tensor, by_place: bool) -> _Layers:
    """Return what a run holds inside for some images."""
    if isinstance(run, OnnxRunner):
        return _onnx_layers(run.file, images)
    if isinstance(run, TFLiteRunner):
        return _tflite_layers(run, images, by_place)
    return _torch_layers(run.model, images)


class _Roundings(fx.Interpreter):
    """Runs a converted model and keeps what each rounding gives."""

    def __init__(self, model: fx.GraphModule):
        super().__init__(model)
        self.layers: _Layers = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        module = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        if isinstance(module, FakeQuantize):
            self.layers[str(n.target).removeprefix("quantize_")] = result, float(module.scale)
        return result


@torch.inference_mode()
def _torch_layers(model: nn.Module, images: torch.Tensor) -> _Layers:
    if not isinstance(model, fx.GraphModule):
        return {}
    roundings = _Roundings(model)
    run_on(roundings.run, images.clone())
    return roundings.layers


def _onnx_layers(path: Path, images: torch.Tensor) -> _Layers:
    """Return what is rounded in a file, by the names of the scales: `quantize_NAME.scale` in ours."""
    proto = onnx.load(path)
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    nodes = [node for node in proto.graph.node if node.op_type == "QuantizeLinear" and node.input[1] in constants]
    batch = proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value or len(images)
    parts = list(images[: max(1, len(images) // batch) * batch].split(batch))
    runs = every_value(proto, [node.output[0] for node in nodes], parts)
    layers: _Layers = {}
    for node, *codes in zip(nodes, *runs, strict=True):
        scale = float(numpy_helper.to_array(constants[node.input[1]]))
        zero_point = int(numpy_helper.to_array(constants[node.input[2]])) if len(node.input) > 2 else 0
        name = node.input[1].removeprefix("quantize_").removesuffix(".scale")
        layers.setdefault(name, ((torch.cat(codes).to(torch.int32) - zero_point).float() * scale, scale))
    return layers


def _tflite_layers(run: TFLiteRunner, images: torch.Tensor, by_place: bool) -> _Layers:
    """Return every activation of a file in its runtime, pictures as torch has them."""
    content, tensors = _with_every_output(run)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "opened.tflite"
        path.write_bytes(content)
        opened: TFLiteRunner
        if isinstance(run, TFLMRunner):
            opened = TFLMRunner(path, inside=True)
        else:
            opened = LiteRTRunner(path, reference=run.name == "litert-reference", inside=True)
        values = [opened.every_output(opened.stored(part)) for part in images.split(opened.input.shape[0])]
    layers: _Layers = {}
    counts = Counter(name for _place, name in tensors)
    for (place, name), port, *parts in zip(tensors, opened.outputs, *values, strict=True):
        if port.dtype not in (np.float32, np.int8, np.uint8):
            continue
        array = np.concatenate([port.numbers(part) for part in parts])
        turned = array.transpose(TO_FIRST) if array.ndim == 4 else array
        if by_place or counts[name] == 1:  # one name may stand for several tensors
            key = name if counts[name] == 1 else f"{name} ({place})"
            layers[key] = torch.from_numpy(np.ascontiguousarray(turned)), port.scale
    return layers


def _with_every_output(run: TFLiteRunner) -> tuple[bytes, list[tuple[int, str]]]:
    """Return a file whose every activation is an output, and their places and names in order of execution."""
    content = run.file if isinstance(run.file, bytes) else run.file.read_bytes()
    model = unpack(inline_buffers(content, str(run.file)), str(run.file))
    graph = model.subgraphs[0]
    kept = list(dict.fromkeys(int(place) for node in graph.operators for place in node.outputs))
    graph.outputs = np.array(kept, np.int32)
    return pack(model), [(place, (graph.tensors[place].name or b"").decode(errors="replace")) for place in kept]


def _difference(
    name: str, ours: torch.Tensor, our_step: float, theirs: torch.Tensor, their_step: float
) -> LayerDifference | None:
    """Return how far two tensors are apart, or None where they have different shapes."""
    if ours.shape != theirs.shape:
        return None
    unit = max(our_step, their_step) or _ALIKE * float(ours.abs().max()) or 1.0
    apart = (ours - theirs).abs() / unit
    return LayerDifference(name, float(apart.max()), unit, float((apart > 0.5).float().mean()))
