"""edgelab: optimising models for the edge, measured on your own CPU.

The subpackages are imported one by one (`from edgelab import measure`), so that `import edgelab` costs next to
nothing and loads no torch.
"""

import os

from edgelab import _torchvision

_torchvision.install()
# Torch's threads sleep while they wait for one another. By default they spin: as fast on an idle machine, and on a busy
# one, where another program holds a core, training took 1.6 times as long (two threads on two cores). It holds for a
# torch that is imported afterwards, and for all that is started from here: kernels, graders, measuring children.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> str:
    if name == "__version__":  # read when asked for: importlib.metadata takes longer than all the rest
        from importlib.metadata import version

        return version("edgelab")
    raise AttributeError(f"module 'edgelab' has no attribute {name!r}")
