"""A learner's own network, `net.py:build`: taken where it can be, and one sentence where it cannot."""

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from edgelab.cli import app
from edgelab.deploy.isolated import isolated
from edgelab.deploy.own_module import export_own, load_own, split_name
from edgelab.deploy.runner import Runner
from edgelab.errors import EdgelabError

NET = """
import torch
from torch import nn

SIZE = 8

def net(channels=3, classes=16):
    return nn.Sequential(nn.Conv2d(channels, SIZE, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(SIZE, classes))

def with_example():
    print("building")
    return net(5, 2), torch.zeros(1, 5, 12, 12)

def another_input():
    return net(channels=5)

def wants(width):
    return net()

def fails():
    return 1 / 0

def leaves():
    raise SystemExit

def a_class():
    return nn.Linear

def text():
    return "net"

def codes():
    return net(), torch.zeros(1, 3, 12, 12, dtype=torch.uint8)
"""


@pytest.fixture
def net(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    return tmp_path / "net.py"


def image() -> torch.Tensor:
    return torch.zeros(1, 3, 32, 32)


def test_a_function_gives_the_module_alone_or_with_an_example(net: Path):
    model, example = load_own(f"{net}:net", image())
    assert (tuple(example.shape), model(example).shape, model.training) == ((1, 3, 32, 32), (1, 16), False)
    model, example = load_own(f"{net}:with_example", image())
    assert (tuple(example.shape), model(example).shape) == ((1, 5, 12, 12), (1, 2))


def test_the_file_may_import_what_lies_beside_it(net: Path, monkeypatch):
    monkeypatch.setattr("sys.path", [])
    (net.parent / "main.py").write_text("from net import net as build\n")
    monkeypatch.setattr("sys.modules", dict(__import__("sys").modules))
    assert isinstance(load_own(f"{net.parent}/main.py:build", image())[0], torch.nn.Sequential)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("nothing", r"has no function 'nothing'. Its functions: net, with_example, another_input, wants"),
        ("SIZE", r"SIZE of .*net.py is a int: name a function"),
        ("wants", r"wants is called without arguments \(missing a required argument: 'width'\)"),
        ("fails", r"net.py, line 22: fails fails \(ZeroDivisionError: division by zero\)"),
        ("leaves", r"net.py, line 25: leaves fails \(SystemExit\)"),
        ("a_class", r"a_class returns the class itself, and not a torch.nn.Module"),
        ("text", r"text returns str, and not a torch.nn.Module"),
        ("codes", r"Expected normalised images as one float32 tensor"),
        ("another_input", r"run on an example of shape \(1, 3, 32, 32\).* Let another_input return the module"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_function_is_one_sentence(net: Path, function: str, sentence: str):
    with pytest.raises(EdgelabError, match=sentence) as caught:
        load_own(f"{net}:{function}", image())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("def net(:\n", r"line 1: it cannot be imported \(SyntaxError: invalid syntax"),
        ("x = 1\nimport nowhere_to_be_found\n", r"line 2: it cannot be imported \(ModuleNotFoundError: No module"),
        ("import sys\nsys.exit(3)\n", r"line 2: it cannot be imported \(SystemExit: 3\)"),
    ],
    ids=["syntax", "missing module", "a program"],
)  # fmt: skip
def test_a_file_that_cannot_be_imported_is_named_with_its_line(tmp_path: Path, content: str, sentence: str):
    (tmp_path / "bad.py").write_text(content)
    with pytest.raises(EdgelabError, match=sentence):
        load_own(f"{tmp_path}/bad.py:net", image())


def test_only_a_python_file_and_a_function_are_such_a_name(tmp_path: Path):
    assert split_name("C:\\nets\\a.py:build") == (Path("C:\\nets\\a.py"), "build")
    assert [split_name(name) for name in ("a.py", "model.onnx", "resnet", "a.onnx:build")] == [None] * 4
    with pytest.raises(EdgelabError, match="There is no file"):
        load_own(f"{tmp_path}/gone.py:build", image())
    with pytest.raises(EdgelabError, match=r"write path\.py:function"):
        load_own("net.py", image())


def test_a_module_is_exported_in_a_process_of_its_own(net: Path, tmp_path: Path):
    isolated(export_own, f"{net}:net", "signs", str(tmp_path / "net.onnx"))
    assert Runner.open(tmp_path / "net.onnx")(image()).shape == (1, 16)


def test_measure_takes_it_beside_files_and_says_what_is_missing(net: Path):
    result = CliRunner().invoke(app, ["measure", f"{net}:with_example", f"{net}:net", "--dataset", "signs", "--json"])
    assert result.exit_code == 0, result.output
    first, second = json.loads(result.stdout)["models"].values()  # what the file prints is not in between
    assert (first["params"], first["runtime"], first["accuracy"]) == (5 * 8 * 9 + 8 + 8 * 2 + 2, "PyTorch", None)
    assert "cannot run on an example" in first["unmeasured"]["accuracy"]
    assert 0 < second["accuracy"] < 0.3  # never trained
    assert second["speed"]["verdict"] in ("faster", "slower", "inconclusive")


def test_measure_asks_for_the_function(net: Path):
    result = CliRunner().invoke(app, ["measure", str(net)])
    assert (result.exit_code, "say which function returns the module" in result.stderr) == (2, True)
