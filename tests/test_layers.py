"""Imports go down only, and `import edgelab` stays light."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "edgelab"
# What each part may import, besides itself and the ground, GROUND below.
FOUNDATION = {"data", "models", "train", "resuming", "measure"}
TECHNIQUES = {"quantization", "pruning", "distillation"}  # they never import each other
MAY_IMPORT = {
    "errors": set(),
    "i18n": set(),
    "bars": set(),
    "interrupts": set(),
    "numbers": set(),
    "html_page": set(),
    "_torchvision": set(),
    "data": set(),
    "measure": set(),
    "models": FOUNDATION,
    "resuming": {"data"},
    "train": {"data", "resuming"},
    "tracing": {"data"},
    "quantization": FOUNDATION | {"tracing"},
    "pruning": FOUNDATION | {"tracing"},
    "distillation": FOUNDATION,
    "deploy": FOUNDATION | TECHNIQUES | {"tracing"},
    "bench": FOUNDATION | TECHNIQUES | {"course", "deploy", "doctor", "grading"},
    "doctor": {"data", "course"},
    "course": set(),
    "explore": FOUNDATION | {"course", "deploy"},
    "leaderboard": FOUNDATION | {"course", "deploy", "doctor", "explore", "grading"},
    "labs": FOUNDATION | TECHNIQUES | {"tracing", "course", "deploy", "doctor", "explore", "leaderboard"},
    "grading": {"course"},
    "site": {"course"},
    "typer_words": set(),
    "cli": FOUNDATION | {"course", "deploy", "explore", "leaderboard", "grading", "doctor", "typer_words"},
    "__main__": {"cli"},
    "__init__": {"_torchvision"},
}
GROUND = {"errors", "i18n", "bars", "interrupts", "numbers", "html_page", "__init__"}
# The template of a new lab is no part of the house before it is copied to where it belongs.
FILES = sorted(path for path in PACKAGE.rglob("*.py") if PACKAGE / "course" / "template" not in path.parents)


def imported_parts(path):
    """Yield the top-level parts of edgelab that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "edgelab" else [node.module]
            )
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("edgelab."))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert set(imported_parts(path)) <= MAY_IMPORT[part] | GROUND | {part}


@pytest.mark.parametrize(
    "path",
    [path for path in FILES if path.relative_to(PACKAGE).parts[0] in ("course", "grading", "site")],
    ids=lambda path: path.name,
)
def test_building_grading_and_the_site_need_no_torch(path):
    roots = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert roots.isdisjoint({"torch", "torchvision", "onnxruntime"})


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_edgelab_loads_no_torch():
    heavy = run("import sys, edgelab; print(sorted({'torch', 'numpy', 'matplotlib', 'IPython'} & sys.modules.keys()))")
    assert heavy.strip() == "[]"


@pytest.mark.alone
def test_import_edgelab_costs_less_than_a_tenth_of_a_second():
    code = "import time; t = time.process_time(); import edgelab; print(time.process_time() - t)"
    assert min(float(run(code)) for _ in range(3)) < 0.1


def test_torchvision_imports_after_edgelab_and_its_models_work():
    code = "import edgelab, torchvision; print(sum(p.numel() for p in torchvision.models.resnet18().parameters()))"
    assert run(code).strip() == "11689512"


@pytest.mark.parametrize(("chosen", "left"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_somebody_chose_otherwise(chosen, left):
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": chosen} if chosen else {}
    code = "import os, edgelab; print(os.environ['OMP_WAIT_POLICY'])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert shown.stdout == f"{left}\n"
