"""What ONNX Runtime's integer kernels compute, step by step in torch: the truth that an exported file is held to.

A fake-quantized model adds up products of real numbers in float32. The last bits of such a sum depend on its order, so
that one code in a hundred thousand or so rounds to the other neighbour, and a network without margins, as an untrained
one, makes much of it. A kernel adds up products of codes, integers, and rounds once:

    q_out = round(accumulator M) + z_out, saturated             M = scale_x scale_w / scale_out, a float32

Here it is done in the same order with the same roundings. `edgelab.quantization.integer` has the arithmetic of devices
without floating point.
"""

import copy

import torch
from torch import fx, nn

from edgelab.quantization import QParams, fake_quantize, quantize
from edgelab.quantization.conversion import Codes, activation_grids, codes_of, grid_of
from edgelab.quantization.graph import Weighted, is_called_once, rectifier_after, weighted_layers


@torch.no_grad()
def as_kernels(model: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of a converted model that rounds where ONNX Runtime's integer kernels round, and as they do.

    It takes and gives what `model` does. Layers that read or write no codes stay as they are.
    """
    original, model = model, copy.deepcopy(model)
    for node, layer in weighted_layers(original).items():
        codes = codes_of(layer)
        last = rectifier_after(original, node) or node
        source, target = grid_of(original, node.all_input_nodes[0]), grid_of(original, next(iter(last.users)))
        if codes is None or source is None or target is None or not is_called_once(original, node):
            continue
        model.set_submodule(str(node.target), _Kernel(layer, codes, source.scale, target.scale))
    for name, quantizer in activation_grids(original).items():
        model.set_submodule(name, _Round(quantizer.qparams))
    return model


class _Kernel(nn.Module):
    """A convolution or linear layer that adds up codes, and gives multiples of the output's scale."""

    def __init__(self, layer: Weighted, codes: Codes, input_scale: torch.Tensor, output_scale: torch.Tensor):
        super().__init__()
        self.layer, self.input_scale, self.output_scale = copy.deepcopy(layer), input_scale, output_scale
        step = input_scale * codes.weight_qparams.scale
        self.multiplier = (step / output_scale).reshape(-1, *[1] * (layer.weight.dim() - 2))
        self.layer.weight.copy_(quantize(layer.weight, codes.weight_qparams))
        if self.layer.bias is not None and codes.bias_codes is not None:
            self.layer.bias.copy_(codes.bias_codes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        accumulator = self.layer(torch.round(x / self.input_scale))  # integers: exact in float32 up to 2^24
        return torch.round(accumulator * self.multiplier) * self.output_scale


class _Round(nn.Module):
    """A `FakeQuantize` that divides by the scale, as ONNX says; torch's multiplies by its reciprocal."""

    def __init__(self, qparams: QParams):
        super().__init__()
        self.qparams = qparams

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return fake_quantize(x, self.qparams)
