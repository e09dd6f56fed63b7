"""Peak activation memory: which tensors are alive at each step of a forward pass, and where their bytes peak."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

# What a deployment runtime merges into the layer before, so that no second buffer exists.
_FUSED = {
    "_native_batch_norm_legit_no_training",
    "native_batch_norm",
    "batch_norm",
    "relu",
    "hardtanh",
    "clamp",
    "clamp_min",
    "hardswish",
    "hardsigmoid",
    "leaky_relu",
    "silu",
    "gelu",
    "sigmoid",
    "tanh",
}


@dataclass(frozen=True)
class Moment:
    """One operation of the forward pass: the layer it ran in, its name, and the bytes alive while it ran."""

    layer: str
    op: str
    live_bytes: int


@dataclass(frozen=True)
class PeakActivations:
    """The largest sum of live activations in bytes, the layer that ran then, and every moment in order."""

    bytes: int
    layer: str
    timeline: tuple[Moment, ...]


@dataclass
class _Buffer:
    """One allocation: its bytes, and the operations (by index) that make it and use it last; -1 is the input."""

    size: int
    born: int
    last: int


@dataclass
class _Ledger:
    """Buffers by the storage that holds them, while a model runs."""

    buffers: dict[int, _Buffer] = field(default_factory=dict)
    constants: set[int] = field(default_factory=set)
    extras: set[int] = field(default_factory=set)
    steps: list[tuple[str, str]] = field(default_factory=list)
    # Freed storages would be handed out again under the same identity, so every tensor is held until the end.
    held: list[object] = field(default_factory=list)


def peak_activation_bytes(model: nn.Module, example: torch.Tensor | tuple, *, fused: bool = False) -> int:
    """Return the most bytes of activations alive at once in one forward pass; see `peak_activations`.

    >>> import torch
    >>> from torch import nn
    >>> chain = nn.Sequential(nn.Linear(100, 50), nn.Linear(50, 10))
    >>> peak_activation_bytes(chain, torch.zeros(1, 100))  # (100 + 50) floats while the first layer runs
    600
    """
    return peak_activations(model, example, fused=fused).bytes


def peak_activations(model: nn.Module, example: torch.Tensor | tuple, *, fused: bool = False) -> PeakActivations:
    """Return the peak of live activations, with the timeline that leads to it.

    A tensor lives from the operation that makes it to the last operation that reads it: a residual branch keeps its
    input alive until the addition. The input counts until its last use, the output until the end. Views share the
    memory of what they view, and an in-place operation needs none. Parameters and buffers of the model do not count,
    nor does scratch memory inside a kernel, nor a second output that nothing reads. With `fused`, batch normalisation
    and activations write over their input where nothing else reads it, as in a runtime that folds them into the
    layer before (TensorFlow Lite Micro, ONNX Runtime).

    Raises `EdgelabError` when `example` does not fit the model.
    """
    from edgelab.measure.trace import run_traced, tensors_in

    ledger = _Ledger(constants={_storage(t) for t in [*model.parameters(), *model.buffers()]})
    for tensor in tensors_in(example):
        ledger.buffers[_storage(tensor)] = _Buffer(tensor.nbytes, -1, -1)

    def on_operation(layer: str, op: torch._ops.OpOverload, args: tuple, kwargs: dict, output: object) -> None:
        inputs = tensors_in((args, kwargs))
        outputs = tensors_in(output)
        ledger.held.append((inputs, outputs))
        _enter(ledger, (layer, op.overloadpacket.__name__), inputs, outputs)

    result = run_traced(model, example, on_operation)
    for tensor in tensors_in(result):
        if (buffer := ledger.buffers.get(_storage(tensor))) is not None:
            buffer.last = len(ledger.steps)
    for storage in ledger.extras:
        # Max pooling makes indices for a backward pass that never comes: what nothing reads is not counted.
        if ledger.buffers[storage].last == ledger.buffers[storage].born:
            del ledger.buffers[storage]
    # `fused` needs to know each buffer's last use, so it is settled after the run.
    merged = _merge_fused(ledger) if fused else list(ledger.buffers.values())
    return _peak(ledger.steps, merged)


def _enter(ledger: _Ledger, step: tuple[str, str], inputs: list, outputs: list) -> None:
    """Write one operation into the ledger: who is read, who is new."""
    known = ledger.buffers
    new = [t for t in outputs if _storage(t) not in known and _storage(t) not in ledger.constants and t.numel()]
    in_place = step[1].endswith("_") and not step[1].startswith("_")
    if not new and not in_place:
        # A view, or an operation on parameters alone: no memory, no step of its own.
        return
    now = len(ledger.steps)
    ledger.steps.append(step)
    for tensor in inputs:
        if (buffer := known.get(_storage(tensor))) is not None:
            buffer.last = now
    for tensor in new:
        known.setdefault(_storage(tensor), _Buffer(tensor.nbytes, now, now))
        if tensor is not outputs[0]:
            ledger.extras.add(_storage(tensor))


def _merge_fused(ledger: _Ledger) -> list[_Buffer]:
    """Return the buffers, with the output of a fused operation laid over an input that dies there."""
    ending: dict[int, list[_Buffer]] = {}
    merged: list[_Buffer] = []
    for buffer in ledger.buffers.values():
        heir = None
        if buffer.born >= 0 and ledger.steps[buffer.born][1] in _FUSED:
            heir = next((b for b in ending.get(buffer.born, []) if b.size == buffer.size), None)
        if heir is None:
            heir = _Buffer(buffer.size, buffer.born, buffer.last)
            merged.append(heir)
        else:
            ending[buffer.born].remove(heir)
            heir.last = buffer.last
        ending.setdefault(heir.last, []).append(heir)
    return merged


def _peak(steps: list[tuple[str, str]], buffers: list[_Buffer]) -> PeakActivations:
    """Return the peak of a finished ledger: the sum, at each step, of the buffers alive then."""
    change = [0] * (len(steps) + 2)
    for buffer in buffers:
        first = max(buffer.born, 0)
        change[first] += buffer.size
        change[max(buffer.last, first) + 1] -= buffer.size
    timeline = []
    live = 0
    for (layer, op), delta in zip(steps, change, strict=False):
        live += delta
        timeline.append(Moment(layer, op, live))
    if not timeline:
        return PeakActivations(sum(b.size for b in buffers), "", ())
    peak = max(timeline, key=lambda moment: moment.live_bytes)
    return PeakActivations(peak.live_bytes, peak.layer, tuple(timeline))


def _storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
