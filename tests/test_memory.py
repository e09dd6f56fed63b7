"""Peak activations, against sums by hand and against an independent count on the symbolic graph."""

import operator

import pytest
import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from edgelab.errors import EdgelabError
from edgelab.measure import peak_activation_bytes, peak_activations


class Residual(nn.Module):
    """x + conv(relu(conv(x))): the input lives until the addition."""

    def __init__(self, inplace):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, x):
        return x + self.second(self.relu(self.first(x)))


class Concatenate(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Conv2d(4, 2, 1), nn.Conv2d(4, 6, 1)

    def forward(self, x):
        return torch.cat([self.left(x), self.right(x)], dim=1)


PLANE = 8 * 8 * 4  # bytes of one 8 x 8 channel of floats


@pytest.mark.parametrize(
    ("model", "shape", "by_hand", "layer"),
    [
        (nn.Sequential(nn.Linear(100, 50), nn.Linear(50, 10)), (1, 100), 4 * 150, "0"),
        (nn.Sequential(nn.Linear(10, 50), nn.Linear(50, 100)), (1, 10), 4 * 150, "1"),
        (nn.Sequential(nn.Linear(100, 50), nn.Linear(50, 10)), (8, 100), 8 * 4 * 150, "0"),
        (nn.Sequential(nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Conv2d(8, 1, 1)), (1, 4, 8, 8), 16 * PLANE, "1"),
        (nn.Sequential(nn.Conv2d(4, 8, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 1, 1)), (1, 4, 8, 8), 12 * PLANE, "0"),
        (nn.Sequential(nn.Conv2d(4, 8, 1), nn.Flatten(), nn.Linear(512, 1)), (1, 4, 8, 8), 12 * PLANE, "0"),
        (nn.Sequential(nn.Conv2d(4, 8, 1), nn.MaxPool2d(2)), (1, 4, 8, 8), 12 * PLANE, "0"),
        (Residual(inplace=True), (1, 4, 8, 8), 12 * PLANE, "second"),
        (Residual(inplace=False), (1, 4, 8, 8), 12 * PLANE, "relu"),
        (Concatenate(), (1, 4, 8, 8), 16 * PLANE, ""),
        (nn.Identity(), (1, 100), 400, ""),
    ],
    ids=[
        "chain",
        "chain-that-widens",
        "batch-of-8",
        "relu-needs-a-buffer",
        "relu-in-place",
        "flatten-is-a-view",
        "pooling-keeps-no-indices",
        "residual",
        "residual-with-relu-buffer",
        "concatenation",
        "no-operation",
    ],
)
def test_peak_equals_the_sum_by_hand(model, shape, by_hand, layer):
    peak = peak_activations(model, torch.zeros(shape))
    assert (peak.bytes, peak.layer) == (by_hand, layer)


def test_timeline_of_a_residual_block_by_hand():
    timeline = peak_activations(Residual(inplace=False), torch.zeros(1, 4, 8, 8)).timeline
    # input + conv; + relu; relu's output and the second conv beside the input; the sum beside both of its terms.
    assert [(m.layer, m.op, m.live_bytes // PLANE) for m in timeline] == [
        ("first", "convolution", 8),
        ("relu", "relu", 12),
        ("second", "convolution", 12),
        ("", "add", 12),
    ]


def test_fused_activations_and_batchnorm_need_no_second_buffer():
    model = nn.Sequential(nn.Conv2d(4, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    image = torch.zeros(1, 4, 8, 8)
    assert peak_activation_bytes(model, image) == 16 * PLANE
    assert peak_activation_bytes(model, image, fused=True) == 12 * PLANE


def test_fused_activation_keeps_an_input_that_another_branch_reads():
    class Both(nn.Module):
        def forward(self, x):
            y = x * 2
            return torch.relu(y) + y

    assert peak_activation_bytes(Both(), torch.zeros(1, 100), fused=True) == 3 * 400


def test_output_of_a_parameter_is_not_an_activation():
    model = nn.Linear(100, 100)
    assert peak_activation_bytes(model, torch.zeros(1, 100)) == 800


def test_a_slice_of_a_data_set_counts_as_one_image():
    images = torch.zeros(500, 3, 8, 8)
    assert peak_activation_bytes(nn.Conv2d(3, 1, 1), images[:1]) == 4 * PLANE


def fx_peak(model, image):
    """Return the peak by lifetimes on torch.fx's graph: another tracer, another way to count."""
    graph = fx.symbolic_trace(model.eval())
    with torch.no_grad():
        ShapeProp(graph).propagate(image)
    modules, nodes = dict(graph.named_modules()), [n for n in graph.graph.nodes if n.op != "get_attr"]
    buffer = {}
    for node in nodes:
        module = modules.get(node.target) if node.op == "call_module" else None
        shares = isinstance(module, nn.Dropout | nn.Identity) or getattr(module, "inplace", False)
        shares = shares or node.target in (operator.iadd, torch.flatten, "flatten", "view")
        buffer[node] = buffer[node.args[0]] if shares else node
    last = {}
    for place, node in enumerate(nodes):
        for read in [node, *node.all_input_nodes]:
            last[buffer[read]] = place
    size = {n: n.meta["tensor_meta"].shape.numel() * 4 for n in nodes if n.op != "output"}
    first = {node: place for place, node in enumerate(nodes)}
    alive = [
        sum(size[b] for b, end in last.items() if b in size and first[b] <= place <= end)
        for place in range(len(nodes) - 1)
    ]
    return max(alive)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1"])
def test_peak_of_a_torchvision_model_equals_the_count_on_its_symbolic_graph(name):
    import torchvision

    model, image = getattr(torchvision.models, name)(), torch.zeros(1, 3, 64, 64)
    assert peak_activation_bytes(model, image) == fx_peak(model, image)


def test_peak_needs_no_data():
    with torch.device("meta"):
        assert peak_activation_bytes(nn.Linear(100, 50), torch.empty(1, 100)) == 600


def test_example_that_does_not_fit_is_one_clear_sentence():
    with pytest.raises(EdgelabError, match="cannot run"):
        peak_activations(nn.Conv2d(3, 8, 3), torch.zeros(1, 1, 8, 8))
