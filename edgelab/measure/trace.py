"""Run a model once and hand every operation that torch executes to a listener, with the module it happened in.

One tracer serves the two counters (`counts`, `memory`): what is counted is what runs, so functional calls
(`F.conv2d`, `torch.cat`, `x + y`) are seen as well as modules, and no symbolic tracing is needed.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from edgelab.errors import EdgelabError
from edgelab.i18n import _

Listener = Callable[[str, torch._ops.OpOverload, tuple, dict, object], None]


def run_traced(
    model: nn.Module,
    example: torch.Tensor | tuple,
    listener: Listener,
    *,
    on_module: Callable[[str, object], None] | None = None,
) -> object:
    """Return the model's output for `example`, after telling `listener` each operation in execution order.

    `listener(layer, op, args, kwargs, output)` is called once per ATen operation; `layer` is the dotted name of the
    innermost module that was running, "" for the model itself. `on_module(name, output)` is called when a module
    returns. The forward pass runs in evaluation mode without gradients, and the model is left as it was found.

    Raises `EdgelabError` when `example` does not fit the model.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    if any(parameter.is_meta for parameter in model.parameters()):  # no numbers, only shapes: the example has them too
        inputs = tree_map(lambda part: part.to("meta") if isinstance(part, torch.Tensor) else part, inputs)
    stack: list[str] = [""]

    class _Tell(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: torch._ops.OpOverload, types: object, args: tuple = (), kwargs: dict | None = None
        ) -> object:
            if func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
                # Tensors made in inference mode arrive here before torch has taken the operation apart.
                with self:
                    return func.decompose(*args, **(kwargs or {}))
            output = func(*args, **(kwargs or {}))
            listener(stack[-1], func, args, kwargs or {}, output)
            return output

    with ExitStack() as cleanup:
        cleanup.enter_context(evaluating(model))
        for name, module in model.named_modules():
            cleanup.callback(module.register_forward_pre_hook(_entering(stack, name)).remove)
            cleanup.callback(module.register_forward_hook(_leaving(stack, name, on_module), always_call=True).remove)
        cleanup.enter_context(torch.inference_mode(False))
        cleanup.enter_context(torch.no_grad())
        cleanup.enter_context(_unfused())
        cleanup.enter_context(_Tell())
        try:
            return model(*inputs)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            shapes = ", ".join(str(tuple(t.shape)) for t in tree_leaves(inputs) if isinstance(t, torch.Tensor))
            raise EdgelabError(
                _("The model cannot run on an example of shape %(shapes)s: %(error)s")
                % {
                    "shapes": shapes or "()",
                    "error": str(error).splitlines()[0] if str(error) else type(error).__name__,
                }
            ) from error


def tensors_in(value: object) -> list[torch.Tensor]:
    """Return the tensors nested anywhere in `value` (tuples, lists, dicts, dataclasses known to torch)."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _entering(stack: list[str], name: str) -> Callable:
    def hook(_module: nn.Module, _args: object) -> None:
        stack.append(name)

    return hook


def _leaving(stack: list[str], name: str, on_module: Callable | None) -> Callable:
    def hook(_module: nn.Module, _args: object, output: object) -> None:
        stack.pop()
        if on_module is not None:
            on_module(name, output)

    return hook


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and each back in its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _unfused() -> Iterator[None]:
    """Have torch run attention and recurrent layers as plain matrix products, which can be counted."""
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    # oneDNN runs a whole recurrent layer as one operation; without it, convolutions only run slower, once.
    onednn, *_rest = torch.backends.mkldnn.set_flags(_enabled=False, _fp32_precision=None)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
        torch.backends.mkldnn.set_flags(_enabled=onednn, _fp32_precision=None)
