import pytest
import torch
from torch.nn.utils import parameters_to_vector

from edgelab import models
from edgelab.course.check import NotYet
from edgelab.labs.lab_09_deployment import check, explorers
from edgelab.measure import count_params, layer_costs

pytestmark = pytest.mark.usefixtures("learners_folder")


@pytest.mark.parametrize("model", explorers.MODELS)
def test_shares_are_of_all_the_weights_that_torch_knows(model):
    network = explorers.MODELS[model]()
    shares = explorers.shares(model, "params")
    weights = network.get_submodule(next(iter(shares))).parameters()
    everything = parameters_to_vector(network.parameters()).numel()
    assert max(shares.values()) == pytest.approx(100 * parameters_to_vector(weights).numel() / everything)
    assert sum(shares.values()) == pytest.approx(100)


def test_the_plots_say_what_they_show():
    assert explorers.largest_plot("ResNet", "params").description.startswith("ResNet, weights: 48 %")
    assert explorers.coverage_plot("ResNet", 50).description.startswith("ResNet: 50 % of the weights in 2 layers")


def test_every_control_draws_again():
    for explorer in (explorers.largest_explorer(), explorers.coverage_explorer()):
        for control in explorer.children[0].children:
            for _label, value in control.options:
                before, unchanged = explorer.picture.value, control.value == value
                control.value = value
                assert (explorer.picture.value == before) == unchanged


@pytest.mark.parametrize(
    ("exercise", "answer", "hint"),
    [
        (check.shares, lambda amounts: [100 * amount / max(amounts) for amount in amounts], "by the sum"),
        (check.layers_for, lambda shares, percent: 1 + sum(sum(shares[:n]) < percent for n in (1, 2, 3)), "sort them"),
        (check.reuse, lambda macs, params: params / macs, "upside down"),
    ],
    ids=["shares", "layers-for", "reuse"],
)
def test_a_mistake_gets_its_hint(exercise, answer, hint):
    with pytest.raises(NotYet, match=hint):
        exercise(answer)


@pytest.mark.parametrize(("channels", "classes", "side"), [(3, 16, 32), (1, 10, 28)], ids=["signs", "fashion-mnist"])
def test_what_the_text_says_of_the_stages_holds_on_both_data_sets(channels, classes, side):
    network = models.resnet(in_channels=channels, num_classes=classes).eval()
    layers = layer_costs(network, torch.zeros(1, channels, side, side))

    def share(what, stage):
        inside = sum(getattr(layer, what) for layer in layers if layer.name.startswith(stage))
        return inside / sum(getattr(layer, what) for layer in layers)

    assert len(layers) == 19
    assert share("params", "stages.2") == pytest.approx(3 / 4, abs=0.01)
    assert share("macs", "stages.2") < 1 / 3 < share("macs", "stages.0")
    assert share("params", "stages.0") == pytest.approx(1 / 16, abs=0.005)
    tiny = models.resnet((8, 16, 32), in_channels=channels, num_classes=classes)
    assert count_params(network) / count_params(tiny) == pytest.approx(60, abs=2)
