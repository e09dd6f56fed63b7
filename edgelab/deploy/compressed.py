"""Weights compressed inside a `.tflite` file, and decoded by TensorFlow Lite Micro while it runs.

Before every layer an operator `TFLM_DECODE` writes that layer's weights into the arena: flash shrinks, and RAM grows by
the largest layer. It reads two tensors of bytes: the encoded weights, and a header of 16 bytes with what decoding needs
behind it. Source of the format: tensorflow/lite/micro/kernels/decode_state_prune.cc and decode_state_lut.cc of
https://github.com/tensorflow/tflite-micro. No other runtime knows the operator.

| method | encoded weights | behind the header |
| --- | --- | --- |
| `bitmask` | one bit for each weight: is it there? | the weights that are there |
| `look-up table` | for each weight the place of its value in its channel's table, in few bits | the tables |
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelab.data.storage import atomic_write
from edgelab.deploy.microcontroller import TFLMRunner
from edgelab.deploy.tflite import inline_buffers, pack, unpack
from edgelab.errors import EdgelabError
from edgelab.i18n import _

_OPERATOR = "TFLM_DECODE"
_LOOK_UP, _PRUNED = 0, 2  # the format's own numbers
_MOST_BITS = 7  # of a place in a table
_WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
_PICTURES = 4

Encoded = tuple[bytes, bytes]  # the two tensors that `TFLM_DECODE` reads


def compress_weights(path: str | Path, out: str | Path, *, method: str = "bitmask") -> Path:
    """Write the int8 `.tflite` file `path` to `out` with its weights compressed, and return `out`.

    Layers whose weights would not get smaller stay as they are. The file takes its name only when TensorFlow Lite Micro
    was seen to give the very codes of the uncompressed one, on pictures of noise.

    Raise `EdgelabError` for an unknown method, where no layer gets smaller, where TensorFlow Lite Micro is not
    installed, and where it gives other codes.
    """
    path, out = Path(path), Path(out)
    if method not in METHODS:
        known = ", ".join(METHODS)
        raise EdgelabError(_("There is no method %(name)r. There are: %(known)s.") % {"name": method, "known": known})
    if not path.is_file():
        raise EdgelabError(_("There is no model file %(path)s.") % {"path": path})
    model = unpack(inline_buffers(path.read_bytes(), str(path)), str(path))
    if not _compress(model, METHODS[method]):
        raise EdgelabError(_("No layer of %(path)s gets smaller by a %(method)s.") % {"path": path, "method": method})
    content = pack(model)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out.with_suffix(".trial.tflite")) as file:
        file.write(content)
    trial = out.with_suffix(".trial.tflite")
    try:
        _must_give_the_same_codes(path, trial)
        trial.replace(out)
    finally:
        trial.unlink(missing_ok=True)
    return out


def _compress(model: Any, encode: Callable[[np.ndarray, int], Encoded | None]) -> int:
    """Put a `TFLM_DECODE` before every layer whose weights get smaller, in place; return how many they are."""
    graph, kinds = model.subgraphs[0], {getattr(schema.BuiltinOperator, name) for name in _WEIGHTED}
    buffers: dict[int, Encoded | None] = {}  # two layers may read the same weights
    operators, count = [], 0
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        if max(code.builtinCode, code.deprecatedBuiltinCode) in kinds:
            tensor = graph.tensors[operator.inputs[1]]
            encoded = buffers.setdefault(tensor.buffer, _encoded(model, tensor, encode))
            if encoded is not None:
                operators.append(_decoding(model, graph, operator, encoded))
                count += 1
        operators.append(operator)
    graph.operators = operators
    for number, encoded in buffers.items():
        if encoded is not None:
            model.buffers[number].data = None
    return count


def _encoded(model: Any, tensor: Any, encode: Callable[[np.ndarray, int], Encoded | None]) -> Encoded | None:
    data = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.INT8 or data is None:
        return None
    weight = np.asarray(data, np.uint8).view(np.int8).reshape(tensor.shape)
    grid = tensor.quantization
    axis = int(grid.quantizedDimension) if grid is not None and len(grid.scale) > 1 else -1
    encoded = encode(weight, axis)
    return encoded if encoded is not None and sum(map(len, encoded)) < weight.size else None


def _decoding(model: Any, graph: Any, consumer: Any, encoded: Encoded) -> Any:
    """Return the operator that decodes the weights of `consumer`, which from now on reads what it writes."""
    original = graph.tensors[consumer.inputs[1]]
    decoded = copy.copy(original)
    decoded.buffer, decoded.name = 0, f"{_text(original.name)}/decoded"
    if decoded.quantization is not None and len(decoded.quantization.scale) == 1:
        decoded.quantization = copy.copy(decoded.quantization)
        decoded.quantization.quantizedDimension = 0  # it says nothing where there is one scale, and the decoder asks
    inputs = []
    for part, content in zip(("encoded", "header"), encoded, strict=True):
        model.buffers.append(schema.BufferT(data=np.frombuffer(content, np.uint8)))
        name, shape = f"{_text(original.name)}/{part}", [len(content)]
        place = len(model.buffers) - 1
        graph.tensors.append(schema.TensorT(shape=shape, type=schema.TensorType.UINT8, buffer=place, name=name))
        inputs.append(len(graph.tensors) - 1)
    graph.tensors.append(decoded)
    consumer.inputs = [consumer.inputs[0], len(graph.tensors) - 1, *consumer.inputs[2:]]
    return schema.OperatorT(opcodeIndex=_operator_code(model), inputs=inputs, outputs=[len(graph.tensors) - 1])


def _operator_code(model: Any) -> int:
    """Return the index of `TFLM_DECODE` among the operators of a model, where it is put if need be."""
    for place, code in enumerate(model.operatorCodes):
        if _text(code.customCode or "") == _OPERATOR:
            return place
    custom = schema.BuiltinOperator.CUSTOM
    model.operatorCodes.append(
        schema.OperatorCodeT(deprecatedBuiltinCode=custom, builtinCode=custom, customCode=_OPERATOR, version=1)
    )
    return len(model.operatorCodes) - 1


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _bitmask(weight: np.ndarray, _axis: int) -> Encoded:
    """Return one bit for each code that is not zero, and those codes."""
    return np.packbits(weight != 0).tobytes(), _header(_PRUNED, bytes([1])) + weight[weight != 0].tobytes()


def _look_up_table(weight: np.ndarray, axis: int) -> Encoded | None:
    """Return for each code its place in the table of its channel, and the tables; None where a table is too long.

    The tables must run along the axis of the scales: with one table for all, the decoder would still read one for each
    channel, and nothing would tell.
    """
    channels = np.moveaxis(weight, axis, 0) if axis >= 0 else weight[None]
    tables = [np.unique(channel) for channel in channels]
    stride = max(map(len, tables))
    bits = max(1, (stride - 1).bit_length())
    if bits > _MOST_BITS:
        return None
    places = np.stack([np.searchsorted(table, channel) for table, channel in zip(tables, channels, strict=True)])
    places = np.moveaxis(places, 0, axis) if axis >= 0 else places[0]
    packed = np.packbits(np.unpackbits(places.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - bits :])
    values = b"".join(np.pad(table, (0, stride - len(table))).tobytes() for table in tables)
    along = axis if axis >= 0 else 15
    return packed.tobytes(), _header(_LOOK_UP, bytes([1, along << 4 | bits, stride])) + values


def _header(kind: int, options: bytes = b"") -> bytes:
    """Return the 16 bytes before what decoding needs: the kind, the version, and the options of a kind from byte 4."""
    return bytes([kind, 1, 0, 0]) + options.ljust(12, b"\0")


METHODS: dict[str, Callable[[np.ndarray, int], Encoded | None]] = {
    "bitmask": _bitmask,
    "look-up table": _look_up_table,
}


def _must_give_the_same_codes(path: Path, trial: Path) -> None:
    before, after = TFLMRunner(path), TFLMRunner(trial)
    rng = np.random.default_rng(0)
    for _picture in range(_PICTURES):
        codes = rng.integers(-128, 128, before.input.shape, dtype=np.int8)
        if not np.array_equal(before.run(codes), after.run(codes)):
            raise EdgelabError(_("TensorFlow Lite Micro gives other codes with compressed weights: not written."))
