"""Other places than this computer: Codespaces, other systems, kernels without JupyterLab."""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
DEVCONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text("utf-8"))
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text("utf-8"))


def test_the_dev_container_sets_up_with_the_makefile_and_opens_a_lab_that_is_copied():
    made, copied = re.fullmatch(
        r"make (\S+) PYTHON=python3\.11 && \.venv/bin/edgelab lab --copy (\S+)", DEVCONTAINER["postCreateCommand"]
    ).groups()
    assert f"\n{made}: " in (ROOT / "Makefile").read_text("utf-8")
    assert DEVCONTAINER["image"].endswith("python:3.11")
    (opened,) = DEVCONTAINER["customizations"]["codespaces"]["openFiles"]
    assert opened.startswith(f"{copied}/")
    assert (ROOT / "labs" / opened.removeprefix(f"{copied}/")).is_file()
    ignored = subprocess.run(
        ["git", "-c", "safe.directory=*", "check-ignore", "-q", opened], cwd=ROOT, capture_output=True
    )
    assert ignored.returncode == 0  # a learner's work is not offered to be committed


def test_ci_runs_on_three_systems():
    systems = {job["runs-on"] for job in WORKFLOW["jobs"].values()}
    systems |= set(WORKFLOW["jobs"]["windows-and-macos"]["strategy"]["matrix"]["system"])
    assert {name.split("-")[0] for name in systems if "$" not in name} == {"ubuntu", "windows", "macos"}


def test_what_ci_leaves_out_elsewhere_is_there_to_be_left_out():
    steps = " ".join(step.get("run", "") for step in WORKFLOW["jobs"]["windows-and-macos"]["steps"])
    left_out = re.findall(r"--ignore=(\S+)", steps)
    assert "tests/grading" in left_out
    assert [path for path in left_out if not (ROOT / path).exists()] == []


def test_labs_need_nothing_of_jupyterlab():
    """Every module that a lab imports loads in a Python that has no JupyterLab, no server, and no notebook."""
    code = """
import importlib, sys
for name in ("jupyterlab", "jupyter_server", "jupyterlab_server", "notebook", "jupyterlab_widgets"):
    sys.modules[name] = None  # importing it fails
for name in sys.argv[1:]:
    importlib.import_module(name)
print("loaded", len(sys.argv) - 1)
"""
    modules = sorted(
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for folder in ("labs", "explore", "course")
        for path in (ROOT / "edgelab" / folder).rglob("*.py")
        if "template" not in path.parts
    )
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True)
    assert done.stdout.strip() == f"loaded {len(modules)}", done.stderr
