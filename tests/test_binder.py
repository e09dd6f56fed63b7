"""What Binder builds: the pinned versions, on the right Python, within a folder that switches the root's files off."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PINS = (ROOT / "constraints.txt").read_text()


@pytest.fixture(scope="module")
def dockerfile():
    assert importlib.util.find_spec("repo2docker"), "jupyter-repo2docker is one of the test tools"
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout + result.stderr


def test_the_dockerfile_installs_the_pins_from_the_binder_folder(dockerfile):
    assert re.search(r"pip install .*-r \"?binder/requirements.txt", dockerfile)
    requirements = (ROOT / "binder" / "requirements.txt").read_text()
    assert "-c ../constraints.txt" in requirements
    assert "\n-e ." in requirements


def test_the_dockerfile_has_the_courses_python_and_data(dockerfile):
    assert (ROOT / "binder" / "runtime.txt").read_text().strip() == "python-3.11"
    assert "3.11" in dockerfile
    assert "dataset-fashion-mnist" in dockerfile
    assert "binder/postBuild" in dockerfile


def test_kernels_on_binder_get_what_importing_edgelab_sets(dockerfile):
    assert re.search(r"ENV R2D_ENTRYPOINT=.*binder/start", dockerfile)
    shown = subprocess.run(
        [ROOT / "binder" / "start", "printenv", "OMP_WAIT_POLICY"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"{os.environ['OMP_WAIT_POLICY']}\n"


@pytest.mark.parametrize("package", ["torch", "torchvision", "onnxruntime", "jupyterlab", "ipywidgets", "numpy"])
def test_every_package_that_labs_import_is_pinned_exactly(package):
    assert re.search(rf"^{package}==\d", PINS, re.MULTILINE)
