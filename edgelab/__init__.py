"""edgelab: optimising models for the edge, measured on your own CPU.

The subpackages are imported one by one (`from edgelab import measure`), so that `import edgelab` costs next to
nothing and loads no torch.
"""

from importlib.metadata import version

from edgelab import _torchvision

__version__ = version("edgelab")

_torchvision.install()
