"""The checkpoints are as accurate as their manifest says, and as the course needs them to be."""

import re
from pathlib import Path

import pytest

from edgelab import data
from edgelab.models import load_pretrained, manifest
from edgelab.models.zoo import RECIPES, SHAPES
from edgelab.train import evaluate

# Signs are drawn anew on every machine, equal up to one grey level: an image in a thousand may change sides.
TOLERANCE = 0.002


def test_every_model_of_the_zoo_has_a_checkpoint_for_every_data_set():
    assert set(manifest()) == {f"{dataset}/{name}" for dataset in SHAPES for name in RECIPES}


@pytest.mark.parametrize("name", RECIPES)
def test_it_reads_the_signs_as_well_as_its_manifest_says(name):
    accuracy = evaluate(load_pretrained(name, "signs"), data.load("signs").test)
    assert accuracy == pytest.approx(manifest()[f"signs/{name}"]["accuracy"], abs=TOLERANCE)


@pytest.mark.parametrize("name", RECIPES)
def test_it_reads_the_clothes_as_well_as_its_manifest_says(name, needs_fashion_mnist):
    accuracy = evaluate(load_pretrained(name, "fashion-mnist"), data.load("fashion-mnist").test)
    assert accuracy == pytest.approx(manifest()[f"fashion-mnist/{name}"]["accuracy"], abs=TOLERANCE)


def test_the_baseline_leaves_the_tiny_student_something_to_learn():
    baseline, tiny = (manifest()[f"signs/{name}"]["accuracy"] for name in ("resnet", "resnet_tiny"))
    assert 0.96 <= baseline <= 0.985
    assert tiny <= baseline - 0.04
    assert manifest()["fashion-mnist/resnet"]["accuracy"] >= 0.93


def test_the_readme_states_the_accuracies_of_the_manifest():
    readme = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
    stated = {}
    for dataset in SHAPES:
        table = readme.partition(f"**{dataset}**")[2].partition("\n\n")[2].partition("\n\n")[0]
        for name, accuracy in re.findall(r"^\| (\w+) \|.* ([\d.]+) \|$", table, re.MULTILINE):
            stated[f"{dataset}/{name}"] = accuracy
    assert stated == {key: f"{100 * entry['accuracy']:.2f}" for key, entry in manifest().items()}
