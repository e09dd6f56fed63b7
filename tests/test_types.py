import importlib
import inspect
from pathlib import Path

import pytest

import edgelab

PUBLIC = ("data", "deploy", "explore", "leaderboard", "measure", "models", "quantization", "train")


def functions(thing):
    """Yield the functions that a public name stands for: itself, or the methods that its class defines."""
    if inspect.isfunction(thing):
        yield thing
    elif inspect.isclass(thing):
        for name, member in vars(thing).items():
            member = getattr(member, "fget", getattr(member, "__func__", member))
            if inspect.isfunction(member) and (name in ("__init__", "__call__") or not name.startswith("_")):
                yield member


def untyped(function):
    """Return the parameters that have no type, and "return" where the result has none."""
    signature = inspect.signature(function)
    missing = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls")
    ]
    result = signature.return_annotation is signature.empty and function.__name__ != "__init__"
    return missing + ["return"] * result


@pytest.mark.parametrize("name", PUBLIC)
def test_public_functions_have_all_their_types(name):
    module = importlib.import_module(f"edgelab.{name}")
    own = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]
    names = getattr(module, "__all__", [key for key in own if not key.startswith("_")])
    found = [function for key in names for function in functions(getattr(module, key))]
    assert len(found) >= 3
    assert {function.__qualname__: missing for function in found if (missing := untyped(function))} == {}


def test_what_has_no_type_is_found():
    class Thing:
        def __init__(self, a): ...

        @property
        def b(self): ...

        @staticmethod
        def c(d, e: int): ...

        def _f(self, g): ...

    assert [untyped(function) for function in functions(Thing)] == [["a"], ["return"], ["d", "return"]]


def test_the_package_says_that_it_is_typed():
    assert (Path(edgelab.__file__).parent / "py.typed").is_file()  # and a wheel has what lies in the package
