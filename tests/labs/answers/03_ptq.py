# Answers that learners give in lab 03: each cell is named `exercise: right` or `exercise: wrong`, and then says why.
# Behind `exercise: hinted` stands what the self-check must say of a likely mistake.

# %% fold: right
def fold(weight, bias, mean, var, gamma, beta, eps):
    factor = gamma * (var + eps).rsqrt()
    return torch.einsum("c,cijk->cijk", factor, weight), beta + factor * bias - factor * mean


# %% fold: wrong
# eps is missing
def fold(weight, bias, mean, var, gamma, beta, eps):
    factor = gamma / torch.sqrt(var)
    return weight * factor.reshape(-1, 1, 1, 1), (bias - mean) * factor + beta


# %% fold: wrong
# along the input channels
def fold(weight, bias, mean, var, gamma, beta, eps):
    factor = gamma / torch.sqrt(var + eps)
    return weight * factor.reshape(1, -1, 1, 1), (bias - mean) * factor + beta


# %% percentile-range: right
import numpy


def percentile_range(batches, percent):
    values = numpy.concatenate([batch.numpy().ravel() for batch in batches]).astype(float)
    outside = (100 - percent) / 2
    return tuple(numpy.percentile(values, [outside, 100 - outside]))


# %% percentile-range: wrong
# cuts too much off
def percentile_range(batches, percent):
    values = torch.cat([batch.flatten() for batch in batches])
    tail = 1 - percent / 100
    return float(torch.quantile(values, tail)), float(torch.quantile(values, 1 - tail))


# %% percentile-range: wrong
# averages over the batches
def percentile_range(batches, percent):
    tail = (1 - percent / 100) / 2
    ends = [[float(torch.quantile(batch.flatten(), t)) for batch in batches] for t in (tail, 1 - tail)]
    return tuple(sum(end) / len(end) for end in ends)


# %% quantize-model: right
from edgelab.quantization import QuantizationConfig


def quantize_model(model, images, path):
    ready = prepare(model, QuantizationConfig())
    ready = calibrate(ready, images, batch_size=32)
    to_onnx(convert(ready), images[3:4], path)
    return path


# %% quantize-model: wrong
# exports the float model
def quantize_model(model, images, path):
    calibrate(prepare(model), images)
    return to_onnx(model, images[:1], path)


# %% quantize-model: wrong
# calibrated on a single picture
def quantize_model(model, images, path):
    prepared = prepare(model)
    calibrate(prepared, images[:1])
    return to_onnx(convert(prepared), images[:1], path)


# %% channel-spread: right
def channel_spread(weight):
    ranges = sorted(float(channel.abs().max()) for channel in weight)
    return ranges[-1] / ranges[(len(ranges) - 1) // 2]


# %% channel-spread: wrong
# divides by the mean
def channel_spread(weight):
    ranges = weight.abs().flatten(1).amax(1)
    return float(ranges.max() / ranges.mean())


# %% channel-spread: wrong
# negative weights left out
def channel_spread(weight):
    ranges = weight.flatten(1).amax(1)
    return float(ranges.max() / ranges.median())


# %% breaking: right
def breaking(weights, bits):
    names = []
    for name in weights:
        spread = channel_spread(weights[name])
        if 2 * spread > 2 ** (bits - 1) - 1:
            names.append(name)
    return names


# %% breaking: wrong
# counts the codes on both sides of zero
def breaking(weights, bits):
    return [name for name, weight in weights.items() if (2**bits - 1) / channel_spread(weight) < 2]


# %% breaking: wrong
# names the worst layer alone
def breaking(weights, bits):
    return [max(weights, key=lambda name: channel_spread(weights[name]))]


# %% fold: hinted
# eps is added to the variance
def fold(weight, bias, mean, var, gamma, beta, eps):
    factor = gamma / (var.sqrt() + eps)
    return weight * factor.reshape(-1, 1, 1, 1), (bias - mean) * factor + beta


# %% fold: hinted
# Return the weight first
def fold(weight, bias, mean, var, gamma, beta, eps):
    factor = gamma / torch.sqrt(var + eps)
    return (bias - mean) * factor + beta, weight * factor.reshape(-1, 1, 1, 1)


# %% fold: hinted
# changes what it was given
def fold(weight, bias, mean, var, gamma, beta, eps):
    factor = gamma / torch.sqrt(var + eps)
    weight *= factor.reshape(-1, 1, 1, 1)
    return weight, (bias - mean) * factor + beta


# %% percentile-range: hinted
# You take absolute values
def percentile_range(batches, percent):
    values = torch.cat([batch.flatten() for batch in batches]).abs()
    tail = (1 - percent / 100) / 2
    return float(torch.quantile(values, tail)), float(torch.quantile(values, 1 - tail))


# %% channel-spread: hinted
# a channel's mean absolute weight
def channel_spread(weight):
    ranges = weight.abs().flatten(1).mean(1)
    return float(ranges.max() / ranges.median())


# %% channel-spread: hinted
# a channel's standard deviation
def channel_spread(weight):
    ranges = weight.flatten(1).std(1)
    return float(ranges.max() / ranges.median())


# %% channel-spread: hinted
# That is maximum minus minimum
def channel_spread(weight):
    ranges = weight.flatten(1).amax(1) - weight.flatten(1).amin(1)
    return float(ranges.max() / ranges.median())


# %% quantize-model: hinted
# Did you forget `return`?
def quantize_model(model, images, path):
    to_onnx(convert(calibrate(prepare(model), images)), images[:1], path)


# %% quantize-model: hinted
# cannot run on an example of shape (3, 32, 32)
def quantize_model(model, images, path):
    return to_onnx(convert(calibrate(prepare(model), images)), images[0], path)


# %% breaking: hinted
# Which of them break?
def breaking(weights, bits):
    return [name for name, weight in weights.items() if (2 ** (bits - 1) - 1) / channel_spread(weight) >= 2]
