"""Let torchvision's public wheel work beside a CPU-only torch.

The wheel on the package index is built against CUDA. Beside a CPU build of torch its compiled extension cannot be
loaded, so the operators `torchvision::nms` and `qnms` are never declared, and `import torchvision` stops with
"operator torchvision::nms does not exist" while it describes their output shapes. Nothing in this course calls
them: it is enough that they are declared. Data sets, transforms and classification models then work.

A declaration needs torch, and `import edgelab` must stay light, so it is put off until somebody imports
torchvision: a finder at the head of `sys.meta_path` steps in once, and leaves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_SIGNATURES = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []  # torch forgets a declaration when its Library object dies


class _DeclareOperatorsFirst(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:
        """Return None, always: this finder only prepares torch for the finders after it."""
        if name == "torchvision":
            sys.meta_path.remove(self)
            spec = PathFinder.find_spec(name)
            if spec is not None and spec.origin is not None:
                _declare_missing_operators(Path(spec.origin).parent)
        return None


def _declare_missing_operators(folder: Path) -> None:
    """Declare the two operators unless the compiled extension in `folder` declares them itself."""
    import torch

    extensions = sorted(path for path in folder.glob("_C*") if path.suffix in {".so", ".pyd", ".dylib"})
    try:
        for extension in extensions:
            torch.ops.load_library(str(extension))
    except OSError:
        extensions = []
    if not extensions:
        library = torch.library.Library("torchvision", "DEF")
        for signature in _SIGNATURES:
            library.define(signature)
        _libraries.append(library)


def install() -> None:
    """Prepare for `import torchvision`; do nothing when it is already there."""
    if "torchvision" not in sys.modules and not any(isinstance(f, _DeclareOperatorsFirst) for f in sys.meta_path):
        sys.meta_path.insert(0, _DeclareOperatorsFirst())
