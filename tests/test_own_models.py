"""Models that no one here made: the learner's own model comes out of the path, or a sentence that says why not."""

import copy
import zlib

import pytest
import torch
from torch import nn

from edgelab.deploy import Runner, operators, to_onnx
from edgelab.errors import EdgelabError
from edgelab.quantization import FakeQuantize, calibrate, convert, layer_report, prepare, sqnr
from tests.own_models import FORMS

ALL = {f"{kind}, {name}": form for kind, forms in FORMS.items() for name, form in forms.items()}
WORKING = {name: form for name, form in ALL.items() if not form.refused}
REFUSED = {name: form for name, form in ALL.items() if form.refused}


def made(name, form):
    """Return the form's model, its batch norms far from the identity, and images for it."""
    torch.manual_seed(zlib.crc32(name.encode()))
    model = form.build()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            with torch.no_grad():
                for tensor in (module.weight, module.running_var):
                    if tensor is not None:
                        tensor.uniform_(0.5, 2)
                for tensor in (module.bias, module.running_mean):
                    if tensor is not None:
                        tensor.normal_(0, 0.5)
    return model.eval(), torch.randn(24, *form.shape)


def run(model, images):
    with torch.inference_mode():
        return model(images.clone())


@pytest.mark.parametrize(("name", "form"), WORKING.items(), ids=WORKING)
def test_it_is_the_learners_own_model(name, form, tmp_path):
    model, images = made(name, form)
    expected = run(model, images)
    prepared = prepare(model)
    torch.testing.assert_close(run(prepared, images), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    converted = convert(calibrate(prepared, images))
    assert sqnr(expected, run(converted, images)) > 12
    assert {layer.name for layer in layer_report(converted) if not layer.integer} == form.floats
    if form.exported:
        runner = Runner.open(to_onnx(converted, images[:8], tmp_path / "model.onnx"))
        got, want = runner(images), run(converted, images)
        counts = operators(tmp_path / "model.onnx")
        kernels = sum(counts[kernel] for kernel in ("QLinearConv", "QGemm", "QLinearMatMul"))
        assert kernels == sum(layer.integer for layer in layer_report(converted))
        grids = [module.scale for module in converted.modules() if isinstance(module, FakeQuantize)]
        step = float(grids[-1]) if grids else 1e-4
        assert ((got - want).abs() < 1.5 * step).float().mean() > 0.99
        assert sqnr(expected, got) > 12


@pytest.mark.parametrize(("name", "form"), REFUSED.items(), ids=REFUSED)
def test_it_says_why_not(name, form):
    model, images = made(name, form)
    with pytest.raises(EdgelabError, match=form.refused) as caught:
        calibrate(prepare(model), images)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["weights, weight norm of old", "weights, pruned, the mask still on"])
def test_the_callers_model_keeps_what_makes_its_weights(name):
    model, images = made(name, ALL[name])
    before, names = run(model, images), set(model.state_dict())
    prepare(model)
    assert set(model.state_dict()) == names
    assert torch.equal(run(copy.copy(model), images), before)
