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
from torch import nn

from edgelab.quantization import fake_quantize, quantize
from edgelab.quantization.graph import is_called_once, rectifier_after, weighted_nodes
from edgelab.quantization.ptq import activation_grids, grid_of


@torch.no_grad()
def as_kernels(model):
    """Return a copy of a converted model that rounds where ONNX Runtime's integer kernels round, and as they do.

    It takes and gives what `model` does. Layers that read or write no codes stay as they are.
    """
    original, model = model, copy.deepcopy(model)
    for node in weighted_nodes(original):
        layer = original.get_submodule(node.target)
        last = rectifier_after(original, node) or node
        source, target = grid_of(original, node.args[0]), grid_of(original, next(iter(last.users)))
        if hasattr(layer, "weight_qparams") and is_called_once(original, node) and None not in (source, target):
            model.set_submodule(node.target, _Kernel(layer, source.scale, target.scale))
    for name, quantizer in activation_grids(original).items():
        model.set_submodule(name, _Round(quantizer.qparams))
    return model


class _Kernel(nn.Module):
    """A convolution or linear layer that adds up codes, and gives multiples of the output's scale."""

    def __init__(self, layer, input_scale, output_scale):
        super().__init__()
        self.layer, self.input_scale, self.output_scale = copy.deepcopy(layer), input_scale, output_scale
        step = input_scale * layer.weight_qparams.scale
        self.multiplier = (step / output_scale).reshape(-1, *[1] * (layer.weight.dim() - 2))
        self.layer.weight.copy_(quantize(layer.weight, layer.weight_qparams))
        if layer.bias is not None:
            self.layer.bias.copy_(layer.bias_codes)

    def forward(self, x):
        accumulator = self.layer(torch.round(x / self.input_scale))  # integers: exact in float32 up to 2^24
        return torch.round(accumulator * self.multiplier) * self.output_scale


class _Round(nn.Module):
    """A `FakeQuantize` that divides by the scale, as ONNX says; torch's multiplies by its reciprocal."""

    def __init__(self, qparams):
        super().__init__()
        self.qparams = qparams

    def forward(self, x):
        return fake_quantize(x, self.qparams)
