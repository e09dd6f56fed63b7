"""A traced model, node by node, as a TensorFlow Lite graph: layouts, grids, and what goes into one operator.

torch keeps a picture as (N, C, H, W), TensorFlow Lite as (N, H, W, C). So weights are turned once, here, and pictures
never: a value knows how it is stored, and an operator that needs it otherwise gets a TRANSPOSE, which hardly any does.

The rounding behind an integer operation is not an operator of its own but the grid of its output: the convolution, its
ReLU and the `FakeQuantize` behind them are one CONV_2D. What merely moves codes keeps their grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from edgelab.data.inputs import run_on
from edgelab.deploy.tflite import Graph, Grid
from edgelab.errors import EdgelabError
from edgelab.i18n import _
from edgelab.quantization.graph import called_module, does_nothing, is_number, operation, rectifier_after
from edgelab.quantization.quantizer import FakeQuantize, SameGrid

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
_ACTIVATIONS = {"relu": 1, "relu6": 3}  # the schema's ActivationFunctionType


@dataclass(frozen=True)
class Value:
    """An activation of the graph: its tensor, its shape as torch has it, and how it is stored.

    `last`: as (N, H, W, C). `grid`: int8 codes, else float32. `order`: features `(N, F)` that stand in another order
    than torch's; feature i is torch's feature `order[i]`.
    """

    tensor: int
    shape: tuple[int, ...]
    last: bool = False
    grid: Grid | None = None
    order: np.ndarray | None = field(default=None, compare=False)

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape in the file."""
        return tuple(self.shape[axis] for axis in TO_LAST) if self.last else self.shape

    def to_torch(self, stored: np.ndarray) -> np.ndarray:
        """Return what the tensor holds as torch has it."""
        if self.order is not None:
            found = np.empty_like(stored)
            found[:, self.order] = stored
            return found
        return stored.transpose(TO_FIRST) if self.last else stored


class Lowering:
    """The TensorFlow Lite graph of `model`, for inputs as `example`.

    `handlers` write one operation each, by what it is. `rounded` has the values that lie where the model rounds, by the
    node that does; `slack` how much further than a step a value may be off, where several operators round in turn;
    `in_float` the names of layers with codes whose operator computes in float.
    """

    def __init__(self, model: fx.GraphModule, example: torch.Tensor, handlers: Mapping[Any, Callable[[Call], Any]]):
        self.model, self.graph, self._handlers = model, Graph(), handlers
        self.results = _Results(model)
        run_on(self.results.run, example)
        self.values: dict[fx.Node, Any] = {}
        self.rounded: dict[fx.Node, Value] = {}
        self.slack: dict[fx.Node, float] = {}
        self.in_float: list[str] = []
        self._made: dict[tuple, Value] = {}
        self._inputs: list[int] = []

    def run(self) -> bytes:
        """Return the file's bytes. Raise `EdgelabError` for what has no operator, naming it and its place."""
        output = next(node for node in self.model.graph.nodes if node.op == "output")
        for node in self.model.graph.nodes:
            if node not in self.values and node is not output and not is_number(node):
                self._lower(node)
        result = output.args[0]
        if not isinstance(result, fx.Node) or not isinstance(self.values.get(result), Value):
            raise EdgelabError(_("A model to deploy gives one tensor: return the logits alone."))
        value = self.values[result]
        value = self.as_first(value) if value.last else value
        self.graph.tensors[value.tensor].name = "output"
        return self.graph.serialize(self._inputs, [value.tensor])

    def _lower(self, node: fx.Node) -> None:
        module = called_module(self.model, node)
        if node.op == "placeholder":
            shape, rounding = self.results.shapes[node], self._rounding(node)
            value = self.new("input", shape, grid=self.grid(rounding) if rounding else None, last=len(shape) == 4)
            self._inputs.append(value.tensor)
            self._keep(value, node, rounding)
            self.graph.tensors[value.tensor].name = "input"
        elif node.op == "get_attr":
            self.values[node] = self.results.constants[node]
        elif isinstance(module, (FakeQuantize, SameGrid)):
            self._keep(self.on_grid(self.values[node.all_input_nodes[0]], self.grid(node)), node, node)
        elif does_nothing(self.model, node):
            self.values[node] = self.values[node.all_input_nodes[0]]
        else:
            rectifier = rectifier_after(self.model, node)
            last = rectifier or node
            rounding = self._rounding(last)
            call = Call(self, node, module, rectifier, self.grid(rounding) if rounding else None)
            handler = self._handlers.get(operation(self.model, node))
            if handler is None:
                raise call.unknown()
            value = handler(call)
            self._keep(value, node, rectifier)
            if rounding is not None:
                self._keep(self.on_grid(value, self.grid(rounding)), rounding, rounding)
                self.slack[rounding] = self.slack.pop(node, 0.0)

    def _keep(self, value: Any, node: fx.Node, other: fx.Node | None) -> None:
        for place in (node, other):
            if place is not None:
                self.values[place] = value
                module = called_module(self.model, place)
                if isinstance(module, (FakeQuantize, SameGrid)):
                    self.rounded[place] = value
                if isinstance(module, FakeQuantize):  # the name that the scale has in an ONNX file
                    self.graph.tensors[value.tensor].name = str(place.target).removeprefix("quantize_")

    def _rounding(self, node: fx.Node) -> fx.Node | None:
        """Return the node that rounds what `node` gives, where nothing else reads it."""
        while len(node.users) == 1:
            node = next(iter(node.users))
            if isinstance(called_module(self.model, node), (FakeQuantize, SameGrid)):
                return node
            if not does_nothing(self.model, node):
                return None
        return None

    def grid(self, node: fx.Node) -> Grid:
        """Return the int8 grid to which a node rounds: the model's own codes, moved by 128 where they are unsigned."""
        module = called_module(self.model, node)
        module = module.quantizer if isinstance(module, SameGrid) else module
        assert isinstance(module, FakeQuantize)
        qparams = module.qparams
        if qparams.spec.bits != 8 or qparams.spec.axis is not None or qparams.spec.narrow:
            raise EdgelabError(
                _("LiteRT has integer kernels for activations of 8 bits, one scale each, not of %(bits)s.")
                % {"bits": qparams.spec.bits}
            )
        return Grid((float(qparams.scale),), int(qparams.zero_point) - (0 if qparams.spec.signed else 128))

    def new(self, name: str, shape: Sequence[int], *, grid: Grid | None = None, last: bool = False) -> Value:
        """Return a new value of torch's `shape`."""
        value = Value(-1, tuple(shape), last, grid)
        return replace(value, tensor=self.graph.tensor(name, value.stored, grid))

    def on_grid(self, value: Value, grid: Grid | None) -> Value:
        """Return `value` as codes of `grid`, or as float32 where that is None."""
        if value.grid == grid:
            return value
        if grid is None:
            return self._once("DEQUANTIZE", value, None, "DequantizeOptions")
        return self._once("QUANTIZE", value, grid, "QuantizeOptions")

    def _once(self, kind: str, value: Value, grid: Grid | None, options: str) -> Value:
        key = (kind, value.tensor, grid)
        if key not in self._made:
            name = f"{self.graph.tensors[value.tensor].name}_{kind.lower()}"
            made = replace(self.new(name, value.shape, grid=grid, last=value.last), order=value.order)
            self.graph.operator(kind, [value.tensor], made.tensor, options)
            self._made[key] = made
        return self._made[key]

    def as_last(self, value: Value) -> Value:
        """Return a picture `(N, C, H, W)` stored with its channels last."""
        return value if value.last or len(value.shape) != 4 else self._turned(value, TO_LAST)

    def as_first(self, value: Value) -> Value:
        """Return a value stored as torch stores it."""
        if value.order is not None:
            raise EdgelabError(_("Flattened pictures go into linear layers only."))
        return self._turned(value, TO_FIRST) if value.last else value

    def _turned(self, value: Value, order: tuple[int, ...]) -> Value:
        key = ("TRANSPOSE", value.tensor)
        if key not in self._made:
            name = f"{self.graph.tensors[value.tensor].name}_transpose"
            made = self.new(name, value.shape, grid=value.grid, last=not value.last)
            self.transpose(value, order, made)
            self._made[key] = made
        return self._made[key]

    def transpose(self, value: Value, order: Sequence[int], made: Value) -> Value:
        """Add a TRANSPOSE from `value` to `made` by the stored dimensions; return `made`."""
        axes = self.graph.constant("axes", np.asarray(order, np.int32))
        self.graph.operator("TRANSPOSE", [value.tensor, axes], made.tensor, "TransposeOptions")
        return made


class _Results(fx.Interpreter):
    """Runs the model once: the shape of each tensor, each number, each constant."""

    def __init__(self, model: fx.GraphModule):
        super().__init__(model)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}
        self.numbers: dict[fx.Node, Any] = {}
        self.constants: dict[fx.Node, torch.Tensor] = {}

    @torch.no_grad()
    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.shapes[n] = tuple(result.shape)
            if n.op == "get_attr":
                self.constants[n] = result.detach()
        else:
            self.numbers[n] = result
        return result


@dataclass(frozen=True)
class Call:
    """One operation of the model, to be written: what calls what, the ReLU in it, and the grid of its output."""

    lowering: Lowering
    node: fx.Node
    module: nn.Module | None
    rectifier: fx.Node | None
    grid: Grid | None

    @property
    def graph(self) -> Graph:
        return self.lowering.graph

    @property
    def name(self) -> str:
        """The learner's name of the layer, or the node's."""
        return str(self.node.target) if self.module is not None else self.node.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the output, as torch has it."""
        return self.lowering.results.shapes[self.node]

    @cached_property
    def inputs(self) -> list[Value]:
        """The activations that are read."""
        found = [self.lowering.values.get(node) for node in self.node.all_input_nodes if not is_number(node)]
        if not all(isinstance(value, Value) for value in found):
            raise self.unknown()
        return [value for value in found if isinstance(value, Value)]

    @property
    def integer(self) -> bool:
        """Whether codes go in and codes come out."""
        return self.grid is not None and all(value.grid is not None for value in self.inputs)

    @cached_property
    def sources(self) -> list[Value]:
        """The activations as the operator reads them: codes where it is an integer one, else float32."""
        return self.inputs if self.integer else [self.lowering.on_grid(value, None) for value in self.inputs]

    @property
    def activation(self) -> int:
        """The schema's number of the ReLU or ReLU6 behind it."""
        if self.rectifier is None:
            return 0
        kind = operation(self.lowering.model, self.rectifier)
        name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
        return _ACTIVATIONS[name.lower().rstrip("_")]

    def option(self, name: str, position: int = 0, default: Any = None) -> Any:
        """Return an option: the module's attribute, or a function's argument `name`, which stands at `position`."""
        if self.module is not None:
            return getattr(self.module, name, default)
        args = self.node.args
        given = self.node.kwargs.get(name, args[position] if 0 < position < len(args) else default)
        return fx.node.map_arg(given, lambda node: self.lowering.results.numbers[node])

    def emit(
        self,
        kind: str,
        inputs: Sequence[int],
        options: str = "",
        *,
        shape: Sequence[int] | None = None,
        grid: Grid | None = None,
        last: bool = False,
        **values: Any,
    ) -> Value:
        """Add an operator whose output has torch's `shape`, by default the call's; return the output."""
        made = self.lowering.new(self.name, self.shape if shape is None else shape, grid=grid, last=last)
        self.graph.operator(kind, inputs, made.tensor, options, **values)
        return made

    def allow(self, slack: float) -> None:
        """Let the output be so much further from the model's than a step: an operator before it rounds as well."""
        self.lowering.slack[self.node] = slack

    def unknown(self, reason: str = "") -> EdgelabError:
        """Return the error for what has no operator."""
        kind = operation(self.lowering.model, self.node)
        what = kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
        return EdgelabError(
            _("There is no LiteRT operator for %(what)s at %(place)s%(reason)s.")
            % {"what": what, "place": self.name, "reason": f" ({reason})" if reason else ""}
        )


Handler = Callable[[Call], Any]
