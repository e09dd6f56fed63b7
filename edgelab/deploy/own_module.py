"""A network of the learner's own, named on the command line as `path.py:function`: the function returns the module.

The file is Python, so it can do all that its owner can. It is imported in a process of its own (`isolated`), as other
people's model files are opened: what crashes there, loops or eats the memory is one sentence here. It is no sandbox.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from edgelab import data
from edgelab.data.inputs import as_input, run_on
from edgelab.deploy.onnx import to_onnx
from edgelab.errors import EdgelabError, first_line
from edgelab.i18n import _

_MODULE = "edgelab_own_module"


def split_name(name: str) -> tuple[Path, str] | None:
    """Return the file and the function that a name such as `net.py:build` names; None for a name of another kind.

    >>> split_name("nets/small.py:build")[1], split_name("model.onnx"), split_name("resnet")
    ('build', None, None)
    """
    file, colon, function = name.rpartition(":")
    return (Path(file), function) if colon and file.endswith(".py") else None


def load_own(name: str, image: torch.Tensor) -> tuple[nn.Module, torch.Tensor]:
    """Return the module that `path.py:function` names, in evaluation mode, and an example of its input.

    The function takes no arguments. It returns the module, which is then shown `image`, or the module and an example,
    `(N, C, H, W)`. Whatever the file prints goes to stderr.

    Raise `EdgelabError` for a file that is missing or cannot be imported, for a function that is missing, wants
    arguments, or fails, and for what is no module or cannot run on the example.
    """
    found = split_name(name)
    if found is None:
        raise EdgelabError(_("%(name)s names no function: write path.py:function.") % {"name": name})
    path, function = found
    with contextlib.redirect_stdout(sys.stderr):
        build = _function(_imported(path), function, path)
        returned = _guarded(build, path, _("%(function)s fails") % {"function": function})
        model, example = _module_and_example(returned, function, image)
        try:
            run_on(model.eval(), example)
        except EdgelabError as error:
            tip = _("Let %(function)s return the module and an example of its input.") % {"function": function}
            raise EdgelabError(f"{error} {tip if not isinstance(returned, tuple) else ''}".strip()) from None
    return model, example


def export_own(say: Callable[[str], None], name: str, dataset: str, path: str) -> None:
    """Write the module that `path.py:function` names to `path` as ONNX: for a process of its own. Raise as `load_own`.

    `dataset` gives the image that it is traced with.
    """
    say(name)
    model, example = load_own(name, data.normalize(data.load(dataset or None).test.images[:1]))
    with contextlib.redirect_stdout(sys.stderr):
        to_onnx(model, example, path)


def _imported(path: Path) -> ModuleType:
    if not path.is_file():
        raise EdgelabError(_("There is no file %(path)s.") % {"path": path})
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    assert spec is not None and spec.loader is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # dataclasses and pickles look for it there
    sys.path.insert(0, str(path.resolve().parent))  # it may import what lies beside it
    _guarded(partial(spec.loader.exec_module, module), path, _("it cannot be imported"))
    return module


def _function(module: ModuleType, name: str, path: Path) -> Callable[[], Any]:
    found = getattr(module, name, None)
    if found is None:
        own = [key for key, value in vars(module).items() if callable(value) and _is_of(value, module)]
        known = ", ".join(own) or _("none")
        words = {"path": path, "function": name, "known": known}
        raise EdgelabError(_("%(path)s has no function %(function)r. Its functions: %(known)s.") % words)
    if not callable(found) or isinstance(found, nn.Module):
        words = {"path": path, "function": name, "found": type(found).__name__}
        raise EdgelabError(
            _("%(function)s of %(path)s is a %(found)s: name a function that returns the module.") % words
        )
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        words = {"function": name, "reason": first_line(error)}
        raise EdgelabError(
            _("%(function)s is called without arguments (%(reason)s): give each a default.") % words
        ) from None
    except ValueError:  # a function of another language: the call will tell
        pass
    return found


def _is_of(value: object, module: ModuleType) -> bool:
    return getattr(value, "__module__", "") == module.__name__


def _module_and_example(returned: object, function: str, image: torch.Tensor) -> tuple[nn.Module, torch.Tensor]:
    pair = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, image)
    model, example = pair
    if isinstance(model, type) or not isinstance(model, nn.Module):
        found = _("the class itself") if isinstance(model, type) else type(model).__name__
        words = {"function": function, "found": found}
        raise EdgelabError(
            _("%(function)s returns %(found)s, and not a torch.nn.Module, alone or with an example of its input.")
            % words
        )
    return model, as_input(example)


def _guarded(call: Callable[[], Any], path: Path, what: str) -> Any:
    """Return what `call` returns; its error is one sentence that names the line of the learner's file."""
    try:
        return call()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit as well: the learner's file may be a program
        kind = type(error).__name__
        reason = f"{kind}: {first_line(error)}" if str(error).strip() else kind
        words = {"path": path, "what": what, "line": _line(error, path), "reason": reason}
        raise EdgelabError(_("%(path)s, line %(line)s: %(what)s (%(reason)s).") % words) from None


def _line(error: BaseException, path: Path) -> int | str:
    """Return the line of the learner's file where an error came from."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).resolve() == path.resolve():
        return error.lineno or "?"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
    return own[-1] or "?" if own else "?"
