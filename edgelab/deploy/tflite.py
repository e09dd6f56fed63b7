"""TensorFlow Lite's file format: a graph of tensors and operators in one FlatBuffer, written and read.

The schema is the one that ai-edge-litert ships, https://ai.google.dev/edge/litert, so nothing here knows an offset of a
byte. A tensor of integers has a grid, real = (q - zero_point) * scale; a constant's numbers lie in a buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgelab.errors import EdgelabError, first_line
from edgelab.i18n import _

TYPES: dict[np.dtype, int] = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int32): schema.TensorType.INT32,
}
# The versions of operators at which they took int8, and what of float needs more than version 1. Older runtimes look.
_INT8_VERSIONS = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "LEAKY_RELU": 2, "HARD_SWISH": 1,
    "DEQUANTIZE": 2, "QUANTIZE": 1, "GELU": 1, "ELU": 1, "RESIZE_NEAREST_NEIGHBOR": 2,
}  # fmt: skip
_SAME_IN_BOTH = {"RESHAPE", "QUANTIZE"}
_IDENTIFIER = b"TFL3"


@dataclass(frozen=True)
class Grid:
    """The grid of a tensor of int8 or int32: a scale, or one for each entry along `axis`, and one zero point."""

    scale: tuple[float, ...]
    zero_point: int
    axis: int = 0

    @classmethod
    def of_channels(cls, scale: np.ndarray, axis: int) -> Grid:
        """Return the symmetric grid of weights or biases, with the scales `(C,)` along `axis`, or `(1,)` for all."""
        return cls(tuple(scale.reshape(-1).tolist()), 0, axis)


class _Aligned(schema.BufferT):
    """A buffer whose bytes begin at a multiple of 16, as the schema demands and Python's generated code forgets."""

    def Pack(self, builder: flatbuffers.Builder) -> int:
        data = None
        if self.data is not None and len(self.data):
            content = np.asarray(self.data, np.uint8).tobytes()
            builder.StartVector(1, len(content), 16)
            builder.head -= len(content)
            builder.Bytes[builder.head : builder.head + len(content)] = content
            data = builder.EndVector()
        schema.BufferStart(builder)
        if data is not None:
            schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


class _Builder(flatbuffers.Builder):
    """Writes equal vectors once: the shapes, the scales, and the zero points, of which each channel has one."""

    def __init__(self) -> None:
        super().__init__(1024)
        self._written: dict[tuple, int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        key = (x.dtype, x.tobytes())
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]


class Graph:
    """A TensorFlow Lite graph in the making; tensors are known by their index."""

    def __init__(self) -> None:
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]  # by the schema the first is empty: that of all activations
        self._codes: dict[tuple[int, int], int] = {}
        self._constants: dict[tuple, int] = {}

    def tensor(self, name: str, shape: Sequence[int], grid: Grid | None = None) -> int:
        """Return a new activation: int8 on `grid`, or float32."""
        return self._add(name, shape, np.dtype(np.int8 if grid else np.float32), grid, 0)

    def constant(self, name: str, values: np.ndarray, grid: Grid | None = None) -> int:
        """Return a tensor of constant numbers, float32, int8 or int32; the same one for the same numbers."""
        values = np.ascontiguousarray(values)
        key = (values.tobytes(), values.dtype, values.shape, grid)
        if key not in self._constants:
            self._buffers.append(_Aligned(data=np.frombuffer(values.tobytes(), np.uint8)))
            self._constants[key] = self._add(name, values.shape, values.dtype, grid, len(self._buffers) - 1)
        return self._constants[key]

    def _add(self, name: str, shape: Sequence[int], dtype: np.dtype, grid: Grid | None, buffer: int) -> int:
        quantization = None
        if grid is not None:
            quantization = schema.QuantizationParametersT(
                scale=np.array(grid.scale, np.float32),
                zeroPoint=np.full(len(grid.scale), grid.zero_point, np.int64),  # LiteRT wants as many
                quantizedDimension=grid.axis,
            )
        self.tensors.append(
            schema.TensorT(
                shape=np.array(shape, np.int32),
                type=TYPES[dtype],
                buffer=buffer,
                name=name,
                quantization=quantization,
                hasRank=True,
            )
        )
        return len(self.tensors) - 1

    def dtype(self, tensor: int) -> int:
        """Return the schema's number of a tensor's type."""
        return self.tensors[tensor].type

    def operator(self, kind: str, inputs: Sequence[int], output: int, options: str = "", **values: Any) -> int:
        """Add the operator `kind`, a name of the schema's `BuiltinOperator`; return its output.

        `options` is the name of its options in the schema, `values` are what they hold.
        """
        code = getattr(schema.BuiltinOperator, kind)
        integer = self.dtype(output) == schema.TensorType.INT8 or kind == "DEQUANTIZE"
        version = _INT8_VERSIONS.get(kind, 1 if kind in _SAME_IN_BOTH else 2) if integer else 1
        index = self._codes.setdefault((code, version), len(self._codes))
        self.operators.append(
            schema.OperatorT(
                opcodeIndex=index,
                inputs=list(inputs),
                outputs=[output],
                builtinOptionsType=getattr(schema.BuiltinOptions, options) if options else 0,
                builtinOptions=getattr(schema, f"{options}T")(**values) if options else None,
            )
        )
        return output

    def serialize(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """Return the file's bytes; tools ask for inputs and outputs by the names in its signature."""
        codes = [
            schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=version)
            for code, version in self._codes
        ]
        graph = schema.SubGraphT(
            tensors=self.tensors, inputs=list(inputs), outputs=list(outputs), operators=self.operators, name="main"
        )
        signature = schema.SignatureDefT(
            inputs=[schema.TensorMapT(name=self.tensors[place].name, tensorIndex=place) for place in inputs],
            outputs=[schema.TensorMapT(name=self.tensors[place].name, tensorIndex=place) for place in outputs],
            signatureKey="serving_default",
        )
        model = schema.ModelT(
            version=3,
            operatorCodes=codes,
            subgraphs=[graph],
            description="edgelab",
            buffers=self._buffers,
            signatureDefs=[signature],
        )
        return pack(model)


def pack(model: Any) -> bytes:
    """Return the bytes of the schema's `ModelT`, with all buffers inside the FlatBuffer and aligned."""
    model.buffers = [_Aligned(data=buffer.data) for buffer in model.buffers]
    builder = _Builder()
    builder.Finish(model.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def unpack(content: bytes, name: str) -> Any:
    """Return the schema's `ModelT` of a file's bytes; `name` stands in the errors.

    Raise `EdgelabError` for what is no TensorFlow Lite file, or has offsets that lead out of it.
    """
    if content[4:8] != _IDENTIFIER:
        raise EdgelabError(_("%(path)s is no TensorFlow Lite file.") % {"path": name})
    try:
        return schema.ModelT.InitFromPackedBuf(content)
    except Exception as error:  # whatever reading at a wrong offset comes to
        raise EdgelabError(_("%(path)s is damaged: %(reason)s") % {"path": name, "reason": first_line(error)}) from None


def inline_buffers(content: bytes, name: str) -> bytes:
    """Return a file with all its constants inside the FlatBuffer; the same bytes where they are there already.

    Files of more than some megabytes may keep them behind it (`Buffer.offset`), where TensorFlow Lite Micro, which
    knows no such thing, reads nothing and computes with what lies in memory.

    Raise `EdgelabError` where the file is damaged, or keeps constants in other files.
    """
    model = unpack(content, name)
    if model.externalBuffers:
        raise EdgelabError(_("%(path)s keeps its weights in other files: they are not read.") % {"path": name})
    outside = [buffer for buffer in model.buffers if buffer.offset > 1]  # 1 says: none, and not inside either
    for buffer in outside:
        if buffer.offset + buffer.size > len(content):
            raise EdgelabError(_("%(path)s is cut off: its weights lie behind its end.") % {"path": name})
        buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
    return pack(model) if outside else content
