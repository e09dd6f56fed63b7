"""Microcontrollers without one: TensorFlow Lite Micro itself, on this computer, and files as firmware holds them.

The interpreter is the one that firmware links (Python package `tflite-micro`, built for Linux on x86-64 alone), with
its portable kernels: every code is what a Cortex-M would give, its speed says nothing. It has no file system and no
`malloc`: the model is an array of bytes, and one block of memory, the arena, holds all the rest.

David et al., 2021, "TensorFlow Lite Micro: Embedded Machine Learning for TinyML Systems".
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgelab.deploy.litert_runner import LiteRTRunner, TFLiteRunner, captured_stderr
from edgelab.deploy.runner import Runner
from edgelab.deploy.tflite import inline_buffers, unpack
from edgelab.errors import EdgelabError, first_line
from edgelab.i18n import _

_ARENA = 64 * 2**20  # what is set aside; `arena_bytes` says how much of it is used
_SECONDS = 120


class TFLMRunner(TFLiteRunner):
    """A `.tflite` file in TensorFlow Lite Micro, on one thread. Constants outside the FlatBuffer are brought inside.

    `inside`: the file may have any outputs. Like the interpreter on a device it trusts the file: one that comes from a
    stranger is for a process of its own.

    Raise `EdgelabError` where the interpreter is not installed, and for a file that it cannot load, with its reason.
    """

    def __init__(self, path: Path, *, inside: bool = False):
        runtime = _tflm()
        content = inline_buffers(path.read_bytes(), str(path))
        with captured_stderr() as words:
            try:
                self._interpreter = runtime.Interpreter.from_bytes(content, arena_size=_ARENA)
                count = len(unpack(content, str(path)).subgraphs[0].outputs) if inside else 1
                inputs = [self._interpreter.get_input_details(0)]
                outputs = [self._interpreter.get_output_details(place) for place in range(count)]
            except (RuntimeError, ValueError) as error:
                reason = words().strip().partition("\n")[0] or first_line(error)
                raise EdgelabError(
                    _("TensorFlow Lite Micro cannot load %(path)s: %(reason)s") % {"path": path, "reason": reason}
                ) from None
        self.name, self.threads, self.file = "tflm", 1, path
        self._connect(inputs, outputs, str(path), inside)

    def run(self, stored: np.ndarray) -> np.ndarray:
        self._invoke(stored)
        return self._interpreter.get_output(0).copy()

    def every_output(self, stored: np.ndarray) -> list[np.ndarray]:
        self._invoke(stored)
        return [self._interpreter.get_output(place).copy() for place in range(len(self.outputs))]

    def _invoke(self, stored: np.ndarray) -> None:
        self._interpreter.set_input(stored, 0)
        with captured_stderr() as words:
            try:
                self._interpreter.invoke()
            except RuntimeError as error:
                reason = words().strip().partition("\n")[0] or first_line(error)
                raise EdgelabError(
                    _("TensorFlow Lite Micro cannot run this file: %(reason)s") % {"reason": reason}
                ) from None


def open_tflm(path: Path) -> Runner:
    """Return the file in TensorFlow Lite Micro; where it is not built for this system, in LiteRT's reference kernels.

    They are what Micro's are made after, and give the same codes but for a few; a line says that they stand in.
    """
    if _is_built_for_this_system():
        return TFLMRunner(path)
    print(_("TensorFlow Lite Micro is built for Linux on x86-64 alone: LiteRT's reference kernels stand in for it."))
    return LiteRTRunner(path, reference=True)


@dataclass(frozen=True)
class Arena:
    """What TensorFlow Lite Micro takes of its arena, in bytes: `activations` and `records`.

    Activations are in one place after another: what `measure.peak_activation_bytes` counts, rounded up to 16 for each
    tensor, and the kernels' scratch memory. Records stay: the interpreter's own of each tensor and operator, and for
    each channel of a layer the multiplier and shift that bring its sum back to a code, 8 bytes.
    """

    activations: int
    records: int

    @property
    def bytes(self) -> int:
        """The bytes of arena that firmware must set aside."""
        return self.activations + self.records


def arena_bytes(path: str | Path) -> int:
    """Return the bytes of arena that TensorFlow Lite Micro takes for a `.tflite` file; see `arena`."""
    return arena(path).bytes


def arena(path: str | Path) -> Arena:
    """Return what TensorFlow Lite Micro allocates for a `.tflite` file, in its own count. The model stays in flash.

    The records hold pointers, of 8 bytes here and of 4 on a Cortex-M: there they are somewhat smaller.

    Raise `EdgelabError` as `TFLMRunner`, and where the interpreter crashes: it runs in a process of its own.
    """
    path = _existing(path)
    _tflm()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.tflite"
        model.write_bytes(inline_buffers(path.read_bytes(), str(path)))
        command = [sys.executable, str(Path(__file__).with_name("tflm_arena.py")), str(model), str(_ARENA)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise EdgelabError(
                _("%(path)s took more than %(seconds)s s: stopped.") % {"path": path, "seconds": _SECONDS}
            ) from None
    parts = [re.search(rf"Arena allocation {part} (\d+) bytes", done.stderr) for part in ("head", "tail")]
    if parts[0] is None or parts[1] is None:
        reason = done.stderr.strip().partition("\n")[0] if done.returncode > 0 else f"crash ({done.returncode})"
        raise EdgelabError(
            _("TensorFlow Lite Micro cannot load %(path)s: %(reason)s") % {"path": path, "reason": reason}
        )
    return Arena(int(parts[0][1]), int(parts[1][1]))


class CArray(NamedTuple):
    """A model as C source: the header that declares it and the source that holds its bytes."""

    header: str
    source: str


def c_array(path: str | Path, name: str = "model") -> CArray:
    """Return a `.tflite` file as C source for firmware: `name`, an aligned constant array, and `<name>_len`, its bytes.

    As a constant it stays in flash; TensorFlow Lite Micro reads it in place, from an address that 16 divides. Constants
    outside the FlatBuffer are brought inside. Raise `EdgelabError` for a name that C does not take.
    """
    path = _existing(path)
    if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
        raise EdgelabError(_("%(name)r is no name for an array in C.") % {"name": name})
    content = inline_buffers(path.read_bytes(), str(path))
    header = (
        f"#ifndef {name.upper()}_H\n#define {name.upper()}_H\n\n"
        f"extern const unsigned char {name}[];\nextern const unsigned int {name}_len;\n\n#endif\n"
    )
    lines = [", ".join(f"0x{byte:02x}" for byte in content[start : start + 16]) for start in range(0, len(content), 16)]
    source = (
        f'#include "{name}.h"\n\n#include <stdalign.h>\n\n'
        f"alignas(16) const unsigned char {name}[] = {{\n  " + ",\n  ".join(lines) + "\n};\n"
        f"const unsigned int {name}_len = {len(content)};\n"
    )
    return CArray(header, source)


def _existing(path: str | Path) -> Path:
    if not Path(path).is_file():
        raise EdgelabError(_("There is no model file %(path)s.") % {"path": path})
    return Path(path)


def _is_built_for_this_system() -> bool:
    return sys.platform == "linux" and platform.machine() == "x86_64"


def _tflm() -> Any:
    """Return the interpreter's module."""
    try:
        from tflite_micro.python.tflite_micro import runtime
    except ImportError as error:
        if not _is_built_for_this_system():
            raise EdgelabError(_("TensorFlow Lite Micro is built for Linux on x86-64 alone.")) from error
        raise _missing("tflite-micro") from error
    return runtime


def _missing(package: str) -> EdgelabError:
    return EdgelabError(
        _('%(package)s is missing: install the tools for microcontrollers with pip install "edgelab[mcu]".')
        % {"package": package}
    )
