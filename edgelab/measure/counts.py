"""Parameters, multiply-accumulates (MACs) and bytes of any `torch.nn.Module`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgelab.errors import EdgelabError
from edgelab.i18n import _

if TYPE_CHECKING:
    import torch
    from torch import nn

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs in one forward pass.

    `name` is the module's dotted name ("" is the model itself: what it computes outside its submodules), `kind` its
    class, `params` the parameters it owns directly, `macs` its multiply-accumulates, `out_shape` its output's shape.
    """

    name: str
    kind: str
    params: int
    macs: int
    out_shape: tuple[int, ...]


def count_params(model: nn.Module) -> int:
    """Return how many numbers the model learns; a parameter shared by two layers counts once.

    Running statistics of batch normalisation are buffers, not parameters, and do not count.

    >>> from torch import nn
    >>> count_params(nn.Conv2d(3, 8, 3))  # 8 * 3 * 3 * 3 weights + 8 biases
    224
    """
    return sum(p.numel() for p in model.parameters())


def count_macs(model: nn.Module, example: torch.Tensor | tuple) -> int:
    """Return the multiply-accumulates of one forward pass on `example` (its batch included).

    A MAC is one multiplication and the addition of its product to a running sum. Counted: convolutions (transposed
    ones too), linear and bilinear layers, every other product of matrices or of two vectors, attention's included, and
    the squares in Euclidean distances. Not counted: adding a bias, batch
    normalisation, activations, pooling, residual additions. Products with the zeros of padding count, as they do in
    the papers. So this is half of what `torch.utils.flop_counter.FlopCounterMode` calls FLOPs.

    Raises `EdgelabError` when `example` does not fit the model.

    >>> import torch
    >>> from torch import nn
    >>> count_macs(nn.Conv2d(3, 8, 3, padding=1), torch.zeros(1, 3, 32, 32))  # 32 * 32 * 8 outputs, 27 MACs each
    221184
    """
    return sum(layer.macs for layer in layer_costs(model, example))


def layer_costs(model: nn.Module, example: torch.Tensor | tuple) -> list[LayerCost]:
    """Return the layers that own parameters or do MACs, in execution order; their sums are the model's totals.

    A layer that is called twice is one entry with the MACs of both calls. Layers that are never called come last.

    Raises `EdgelabError` when `example` does not fit the model.
    """
    from edgelab.measure.trace import run_traced, tensors_in

    macs: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    order: dict[str, None] = {}

    def on_operation(layer: str, op: torch._ops.OpOverload, args: tuple, _kwargs: dict, output: object) -> None:
        order.setdefault(layer)
        macs[layer] = macs.get(layer, 0) + _macs_of(op, args, tensors_in(output))

    def on_module(name: str, output: object) -> None:
        tensors = tensors_in(output)
        if tensors:
            shapes[name] = tuple(tensors[0].shape)

    run_traced(model, example, on_operation, on_module=on_module)
    modules = dict(model.named_modules())
    params = _own_params(model)
    names = [*order, *(name for name in modules if name not in order)]
    return [
        LayerCost(name, type(modules[name]).__name__, params[name], macs.get(name, 0), shapes.get(name, ()))
        for name in names
        if params[name] or macs.get(name, 0)
    ]


def model_bytes(model: nn.Module) -> int:
    """Return the bytes of the model's parameters, each at its own precision; a shared parameter counts once.

    >>> from torch import nn
    >>> model_bytes(nn.Conv2d(3, 8, 3))  # 224 parameters * 4 bytes
    896
    """
    return sum(p.numel() * p.element_size() for p in model.parameters())


def bytes_by_dtype(model: nn.Module) -> dict[str, int]:
    """Return the bytes of the parameters and persistent buffers for each precision, as `{"float32": bytes}`.

    >>> from torch import nn
    >>> bytes_by_dtype(nn.BatchNorm2d(8))  # weight, bias, mean, variance; and an int64 counter
    {'float32': 128, 'int64': 8}
    """
    totals: dict[str, int] = {}
    for tensor in _distinct_state(model).values():
        dtype = str(tensor.dtype).removeprefix("torch.")
        totals[dtype] = totals.get(dtype, 0) + tensor.numel() * tensor.element_size()
    return totals


def saved_bytes(model: nn.Module) -> int:
    """Return the bytes of the model on disk: the size of the safetensors file that holds its state.

    The file is the parameters and persistent buffers, plus a header that names them; nothing is written here.
    """
    import torch
    from safetensors.torch import save

    state = {
        name: torch.empty_like(tensor, device="cpu") if tensor.is_meta else tensor
        for name, tensor in _distinct_state(model).items()
    }
    return len(save({name: tensor.contiguous() for name, tensor in state.items()}))


def file_bytes(path: str | Path) -> int:
    """Return the bytes of the file at `path`, the whole of a folder's files where it is a folder.

    Raises `EdgelabError` when there is nothing at `path`.
    """
    path = Path(path)
    if path.is_file():
        return path.stat().st_size
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    raise EdgelabError(_("There is no file at %(path)s; check its name.") % {"path": path})


def format_bytes(count: float) -> str:
    """Return a byte count for people, in B, KiB (1024 bytes) or MiB.

    >>> format_bytes(512), format_bytes(98_496), format_bytes(4_913_000)
    ('512 B', '96.2 KiB', '4.69 MiB')
    """
    if count < KIB:
        return f"{count:.0f} B"
    if count < MIB:
        return f"{count / KIB:.1f} KiB"
    return f"{count / MIB:.2f} MiB"


def _own_params(model: nn.Module) -> dict[str, int]:
    """Return how many parameters each module owns itself; a shared one belongs to the first that names it."""
    seen: set[int] = set()
    counts = {}
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if id(p) not in seen]
        seen.update(id(p) for p in own)
        counts[name] = sum(p.numel() for p in own)
    return counts


def must_not_be_negative(**amounts: float) -> None:
    """Raise `EdgelabError` that names the first of `amounts` below zero, or that is not a number."""
    for name, amount in amounts.items():
        if not amount >= 0:
            raise EdgelabError(_("%(name)s must be 0 or more, not %(amount)s.") % {"name": name, "amount": amount})


def _distinct_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state dict without the second and later names of a shared tensor."""
    seen: set[tuple] = set()
    state = {}
    for name, tensor in model.state_dict().items():
        # Not the address of its data: on the device `meta` no tensor has any.
        place = tensor.untyped_storage()._cdata, tensor.storage_offset()
        key = (*place, tuple(tensor.shape), tensor.stride(), tensor.dtype)
        if tensor.numel() and key in seen:
            continue
        seen.add(key)
        state[name] = tensor
    return state


def _macs_of(op: torch._ops.OpOverload, args: tuple, outputs: list[torch.Tensor]) -> int:
    """Return the MACs of one ATen operation: 0 for all that multiply nothing by a weight or a matrix."""
    name = op.overloadpacket.__name__
    if name in _CONVOLUTIONS:
        signal, weight, transposed = args[0], args[1], name == "convolution" and args[6]
        # Each output of a convolution is one dot product as long as a filter; transposed, each input makes one.
        return (signal if transposed else outputs[0]).numel() * math.prod(weight.shape[1:])
    if name in _PRODUCTS:
        left, right = args[_PRODUCTS[name] : _PRODUCTS[name] + 2]
        return left.numel() * (right.shape[-1] if right.dim() > 1 else 1)
    if name.startswith("_scaled_dot_product"):
        query, key, value = args[:3]
        return math.prod(query.shape[:-1]) * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    if name == "_trilinear":  # a bilinear layer: each of its weights once, for each example
        left, weight = args[:2]
        return math.prod(left.shape[:-1]) * weight.numel()
    if name in ("_cdist_forward", "_euclidean_dist"):  # squares of differences, added up
        squares = name == "_euclidean_dist" or args[2] == 2
        return outputs[0].numel() * args[0].shape[-1] if squares else 0
    if name == "_pdist_forward":
        return outputs[0].numel() * args[0].shape[-1] if args[1:] in ((), (2,)) else 0
    if name in ("addr", "vdot"):
        return args[1 if name == "addr" else 0].numel() * (args[2].numel() if name == "addr" else 1)
    if name == "conv_tbc":
        return outputs[0].numel() * math.prod(args[1].shape[:2])
    return outputs[0].numel() if name in ("mul", "mul_") and _is_outer(args, outputs) else 0


def _is_outer(factors: tuple, outputs: list[torch.Tensor]) -> bool:
    """Return whether a product is one of vectors, row by column: each factor is repeated along the other."""
    if not all(hasattr(factor, "shape") for factor in factors[:2]):
        return False
    size = outputs[0].shape
    one, other = ([1] * (len(size) - factor.dim()) + list(factor.shape) for factor in factors[:2])
    repeated = [{place for place, length in enumerate(sizes) if length == 1 < size[place]} for sizes in (one, other)]
    return bool(repeated[0] and repeated[1])


_CONVOLUTIONS = {"convolution", "_convolution", "conv2d", "mkldnn_convolution"}
# Where the two matrices stand among the arguments: addmm's first argument is what is added.
_PRODUCTS = {"mm": 0, "bmm": 0, "mv": 0, "dot": 0, "_int_mm": 0, "addmm": 1, "baddbmm": 1, "addbmm": 1, "addmv": 1}
