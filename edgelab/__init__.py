"""edgelab: optimising models for the edge, measured on your own CPU.

The subpackages are imported one by one (`from edgelab import measure`), so that `import edgelab` costs next to
nothing and loads no torch.
"""

from edgelab import _torchvision

_torchvision.install()


def __getattr__(name: str) -> str:
    if name == "__version__":  # read when asked for: importlib.metadata takes longer than all the rest
        from importlib.metadata import version

        return version("edgelab")
    raise AttributeError(f"module 'edgelab' has no attribute {name!r}")
