"""Parameters, MACs and bytes, against hand counts, torch's own counter and the files themselves."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from edgelab.errors import EdgelabError
from edgelab.measure import (
    bytes_by_dtype,
    count_macs,
    count_params,
    file_bytes,
    format_bytes,
    layer_costs,
    model_bytes,
    saved_bytes,
)

IMAGE = torch.zeros(1, 3, 32, 32)


def flops(model, *inputs):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(*inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("layer", "shape", "by_hand"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (1, 3, 32, 32), 32 * 32 * 8 * 3 * 9),
        (nn.Conv2d(3, 8, 3, padding=1, bias=False), (1, 3, 32, 32), 32 * 32 * 8 * 3 * 9),
        (nn.Conv2d(16, 32, 3, stride=2, padding=1), (4, 16, 8, 8), 4 * 4 * 4 * 32 * 16 * 9),
        (nn.Conv2d(8, 8, 3, groups=8, padding=1), (1, 8, 10, 10), 10 * 10 * 8 * 9),
        (nn.Conv2d(8, 4, 3, dilation=2), (1, 8, 9, 9), 5 * 5 * 4 * 8 * 9),
        (nn.Conv1d(2, 4, 5), (1, 2, 20), 16 * 4 * 2 * 5),
        (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (2, 4, 5, 5), 2 * 4 * 5 * 5 * 3 * 9),
        (nn.Linear(100, 10), (7, 100), 7 * 100 * 10),
        (nn.Linear(100, 10, bias=False), (1, 5, 100), 5 * 100 * 10),
        (nn.BatchNorm2d(3), (1, 3, 8, 8), 0),
        (nn.Sequential(nn.ReLU(), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)), (1, 3, 8, 8), 0),
        (nn.LSTM(8, 16), (5, 1, 8), 5 * 4 * 16 * (8 + 16)),
    ],
    ids=[
        "conv",
        "conv-without-bias",
        "strided-batch",
        "depthwise",
        "dilated",
        "conv1d",
        "transposed-grouped",
        "linear",
        "linear-of-a-sequence",
        "batchnorm-is-free",
        "pooling-is-free",
        "lstm",
    ],
)
def test_macs_equal_the_count_by_hand(layer, shape, by_hand):
    assert count_macs(layer, torch.zeros(shape)) == by_hand


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small"])
def test_macs_are_half_the_flops_of_torch(name):
    import torchvision

    model, image = getattr(torchvision.models, name)(), torch.zeros(1, 3, 224, 224)
    assert 2 * count_macs(model, image) == flops(model, image)
    layers = layer_costs(model, image)
    assert sum(layer.macs for layer in layers) == count_macs(model, image)
    assert sum(layer.params for layer in layers) == count_params(model)


@settings(max_examples=30, deadline=None)
@given(
    groups=st.integers(1, 3),
    channels=st.integers(1, 4),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    transposed=st.booleans(),
)
def test_macs_of_any_convolution_are_half_the_flops_of_torch(groups, channels, kernel, stride, transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    layer = kind(2 * groups, channels * groups, kernel, stride=stride, groups=groups)
    image = torch.zeros(2, 2 * groups, 9, 7)
    assert 2 * count_macs(layer, image) == flops(layer, image)


def test_named_layers_of_a_model_equal_the_count_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8192, 10)
    )
    layers = layer_costs(model, IMAGE)
    assert [(x.name, x.kind, x.params, x.macs, x.out_shape) for x in layers] == [
        ("0", "Conv2d", 224, 221_184, (1, 8, 32, 32)),
        ("1", "BatchNorm2d", 16, 0, (1, 8, 32, 32)),
        ("4", "Linear", 81_930, 81_920, (1, 10)),
    ]


def test_functional_products_count_for_the_module_they_happen_in():
    class Attention(nn.Module):
        def forward(self, x):
            return F.scaled_dot_product_attention(x, x, x) + torch.einsum("bhqd,de->bhqe", x, torch.ones(4, 4))

    layers = layer_costs(Attention(), torch.zeros(2, 3, 5, 4))
    assert [(x.name, x.kind, x.macs) for x in layers] == [
        ("", "Attention", 2 * 3 * 5 * 5 * (4 + 4) + 2 * 3 * 5 * 4 * 4)
    ]


def test_multi_head_attention_counts_its_fused_kernel():
    # 10 positions: three projections of 32 to 32, two products of 10 x 10 in 4 heads of 8, one projection out.
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
    assert (
        count_macs(layer, torch.zeros(1, 10, 32))
        == 10 * 32 * 96 + 2 * 4 * 10 * 10 * 8 + 10 * 32 * 32 + 2 * 10 * 32 * 64
    )


def test_shared_layer_has_its_parameters_once_and_its_macs_twice():
    linear = nn.Linear(10, 10)
    model = nn.Sequential(linear, nn.ReLU(), linear)
    (layer,) = layer_costs(model, torch.zeros(1, 10))
    assert (layer.params, layer.macs) == (110, 200)
    assert (count_params(model), model_bytes(model)) == (110, 440)


def test_layer_that_never_runs_keeps_its_parameters():
    model = nn.Sequential(nn.Linear(4, 4), nn.ModuleDict({"spare": nn.Linear(4, 4)}))
    model.forward = model[0].forward
    assert sum(layer.params for layer in layer_costs(model, torch.zeros(1, 4))) == count_params(model) == 40


def test_counting_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    model[2].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_macs(model, torch.randn(2, 3, 8, 8))
    assert [m.training for m in model] == [True, True, False]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_counting_works_inside_inference_mode_and_on_the_meta_device():
    with torch.inference_mode():
        assert count_macs(nn.Linear(4, 4), torch.zeros(1, 4)) == 16
    with torch.device("meta"):
        assert count_macs(nn.Conv2d(3, 8, 3), torch.empty(1, 3, 32, 32)) == 30 * 30 * 8 * 27


def test_example_of_the_wrong_shape_is_one_clear_sentence():
    model = nn.Linear(10, 10)
    with pytest.raises(EdgelabError, match=r"shape \(1, 3\)"):
        count_macs(model, torch.zeros(1, 3))
    assert not model._forward_hooks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_model_bytes_follow_the_precision(dtype):
    model = nn.Conv2d(3, 8, 3).to(dtype)
    assert model_bytes(model) == 224 * torch.finfo(dtype).bits // 8
    assert bytes_by_dtype(model) == {str(dtype).removeprefix("torch."): model_bytes(model)}


def test_saved_bytes_are_the_bytes_of_the_file(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    assert saved_bytes(model) == file_bytes(tmp_path / "model.safetensors")
    assert file_bytes(tmp_path) == saved_bytes(model)
    assert saved_bytes(model) > sum(bytes_by_dtype(model).values())


def test_saved_bytes_store_tied_weights_once():
    a, b = nn.Linear(50, 50), nn.Linear(50, 50)
    b.weight = a.weight
    assert saved_bytes(nn.Sequential(a, b)) < 1.1 * saved_bytes(a) + 500


def test_missing_file_is_one_clear_sentence(tmp_path):
    with pytest.raises(EdgelabError, match="no file"):
        file_bytes(tmp_path / "nothing.onnx")


def test_kib_has_1024_bytes():
    assert [format_bytes(n) for n in (1023, 1024, 1024**2)] == ["1023 B", "1.0 KiB", "1.00 MiB"]


def test_importing_measure_loads_no_torch():
    code = "import sys; from edgelab import measure; measure.estimate_energy(1); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
