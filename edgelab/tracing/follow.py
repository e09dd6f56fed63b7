"""From a model in Python to a graph: a copy whose weights are plain tensors, and whose layers are torch's own.

What a learner's model is made of decides nothing: a subclass of a layer, a function that computes what a layer does,
weights that a parametrization, a mask or standardisation makes anew each time. What cannot be followed is refused.
"""

import copy
import inspect
import operator
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from edgelab.errors import EdgelabError, first_line
from edgelab.i18n import _
from edgelab.tracing.attention import open_attention
from edgelab.tracing.lifting import keep_dimensions, lift

# torch's own ways, before parametrizations, to make a weight anew each time: by a hook.
_MAKERS = (WeightNorm, SpectralNorm, prune.BasePruningMethod)
# Of what they find, nothing is left but numbers and booleans.
_QUESTIONS = {getattr, operator.getitem, *(getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge"))}
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LAYERS = (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d)


def trace(model: nn.Module) -> fx.GraphModule:
    """Return a copy of `model` as a `torch.fx.GraphModule` of one input, in evaluation mode.

    Raise `EdgelabError` where `torch.fx` cannot follow the model, naming file and line; for hooks, which it would leave
    out; and for more than one input.
    """
    root = own_copy(model)
    for module in root.modules():
        make_plain(module)
    for name, module in root.named_modules():
        if module._forward_hooks or module._forward_pre_hooks:
            raise EdgelabError(
                _("%(layer)s has a hook, which may change what it computes: remove the hook first.")
                % {"layer": name or type(module).__name__}
            )
    graph = copy.deepcopy(root.graph) if isinstance(root, fx.GraphModule) else _graph_of(root)
    _normalise(root, graph)
    lifted = dict.fromkeys(lift(root, graph))
    keep_dimensions(graph)
    open_attention(graph)
    graph.lint()
    graph_module = fx.GraphModule(root, graph, class_name=type(root).__name__).eval()
    graph_module.meta.update(getattr(root, "meta", {}))  # what is known of a graph that was traced before
    graph_module.meta["stands_for"] = {**graph_module.meta.get("stands_for", {}), **lifted}
    return graph_module


def own_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a learner's model in evaluation mode, out of the wrappers that torch puts around models."""
    if isinstance(model, torch.jit.ScriptModule):
        raise EdgelabError(_("This is a TorchScript model, which has no Python code to follow: give the model before."))
    if not isinstance(model, nn.Module):
        raise EdgelabError(_("A model is expected, a torch.nn.Module, not %(kind)s.") % {"kind": type(model).__name__})
    tensors = [*model.parameters(), *model.buffers()]
    if any(isinstance(tensor, (UninitializedBuffer, UninitializedParameter)) for tensor in tensors):
        raise EdgelabError(_("This model has lazy layers without a size yet: run it once on an image."))
    if strange := {tensor.dtype for tensor in tensors if tensor.is_floating_point()} - {torch.float32}:
        raise EdgelabError(
            _("This model computes in %(dtype)s, and float32 is what is followed: call model.float() first.")
            % {"dtype": ", ".join(sorted(map(str, strange)))}
        )
    if any(tensor.device.type != "cpu" for tensor in tensors):
        raise EdgelabError(_("This model is not on the CPU, where it is followed: call model.cpu() first."))
    # Weights that a hook has made are no leaves of the autograd graph, and torch does not copy such.
    made = [value for module in model.modules() for value in vars(module).values() if isinstance(value, torch.Tensor)]
    try:
        copied = copy.deepcopy(model, {id(value): value.detach().clone() for value in made})
    except Exception as error:  # whatever the learner's own attributes raise
        raise EdgelabError(_("This model cannot be copied: %(reason)s") % {"reason": first_line(error)}) from None
    for name, module in list(copied.named_modules()):
        if name and (inside := _unwrapped(module)) is not module:
            copied.set_submodule(name, inside)
    return _unwrapped(copied).eval()


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the model inside `torch.compile` and `DataParallel`; the first one's class would load a compiler."""
    while isinstance(module, (DataParallel, DistributedDataParallel)) or "_orig_mod" in module._modules:
        module = module.get_submodule("_orig_mod" if "_orig_mod" in module._modules else "module")
    return module


def make_plain(module: nn.Module) -> None:
    """Give a module the tensors that its parametrizations and masks make as parameters, and nothing that makes them."""
    made: dict[str, torch.Tensor] = {}
    if parametrize.is_parametrized(module):
        made = {name: getattr(module, name) for name in module.get_submodule("parametrizations")._modules}
        # Not `remove_parametrizations`: it would take `weight` from the class, which a copy shares with its original.
        module.__class__ = parametrize.type_before_parametrizations(module)
        del module.parametrizations
    for key, hook in list(module._forward_pre_hooks.items()):
        if isinstance(hook, _MAKERS):
            hook(module, ())
            name = hook._tensor_name if isinstance(hook, prune.BasePruningMethod) else hook.name
            made[name] = vars(module).pop(name)
            del module._forward_pre_hooks[key]
            for left in [left for left in module._parameters if left in (f"{name}_g", f"{name}_v", f"{name}_orig")]:
                del module._parameters[left]
    for name, tensor in made.items():
        setattr(module, name, nn.Parameter(tensor.detach().clone()))


class _Tracer(fx.Tracer):
    """Goes into every module but torch's own; into those as well where a subclass or a padding changes the code."""

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        if "forward" in vars(module) or isinstance(module, nn.Sequential):
            return False
        if isinstance(module, _CONVOLUTIONS) and module.padding_mode != "zeros":
            return False  # torch's own code makes two steps of it: padding, then a convolution
        # What a subclass inherits is what runs. But layers that are rewritten must be their class in all that they do.
        ours = type(module).forward.__module__.startswith("torch.nn")
        return ours and all(_keeps_code(module, layer) for layer in _LAYERS if isinstance(module, layer))

    def create_args_for_root(
        self, root_fn: Callable, is_module: bool, concrete_args: dict[str, Any] | tuple[Any, ...] | None = None
    ) -> tuple[Callable, list[Any]]:
        """Make one input, whatever the options of `forward`: those have the values that Python gives them."""
        _self, *parameters = inspect.signature(root_fn).parameters.values()
        needed = [
            p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if len(needed) > 1 or not parameters:
            raise EdgelabError(
                _("Models of one input are followed, a tensor (N, C, H, W); this one takes: %(names)s.")
                % {"names": ", ".join(needed) or "-"}
            )
        name = (needed or [parameters[0].name])[0]
        return root_fn, [self.root, self.create_proxy("placeholder", name, (), {})]


def _keeps_code(module: nn.Module, layer: type[nn.Module]) -> bool:
    return all(getattr(type(module), name, None) is getattr(layer, name, None) for name in ("forward", "_conv_forward"))


def _graph_of(root: nn.Module) -> fx.Graph:
    try:
        return _Tracer().trace(root)
    except EdgelabError:
        raise
    except Exception as error:
        torch_folder = str(Path(torch.__file__).parent)
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if torch_folder not in frame.filename]
        place = frames[-1]
        raise EdgelabError(
            _("torch.fx cannot follow this model at %(file)s, line %(line)s: %(code)s (%(reason)s)")
            % {
                "file": place.filename,
                "line": place.lineno,
                "code": place.line,
                "reason": first_line(error),
            }
        ) from None


def _normalise(root: nn.Module, graph: fx.Graph) -> None:
    """Write the same graph in one way: no assertions, nothing that does nothing, layers called by position.

    And no view of a memory layout, so that channels may lie last.
    """
    for node in reversed(graph.nodes):
        asserts = node.op == "call_function" and node.target is torch._assert
        if asserts or (not node.users and _only_asks(node)):  # also what only the assertion asked
            graph.erase_node(node)
    for node in list(graph.nodes):
        if node.op == "call_module" and isinstance(root.get_submodule(str(node.target)), nn.Identity):
            node.replace_all_uses_with(node.all_input_nodes[0])  # a kernel must see its ReLU
            graph.erase_node(node)
        elif node.op == "call_module" and not node.args and set(node.kwargs) == {"input"}:
            node.args, node.kwargs = (node.kwargs["input"],), {}
        elif node.op == "call_method" and node.target == "view" and not _holds_dtype(node.args, node.kwargs):
            node.target = "reshape"  # the same numbers, whatever the order of the memory; channels-last, say


def _only_asks(node: fx.Node) -> bool:
    """Return whether a node asks a tensor for its shape or type, or compares or reckons with what it was told."""
    if node.op == "call_method":
        return node.target in ("size", "dim", "numel", "is_floating_point")
    return node.op == "call_function" and node.target in _QUESTIONS


def _holds_dtype(args: tuple, kwargs: Mapping) -> bool:
    return any(isinstance(value, torch.dtype) for value in (*args, *kwargs.values()))
