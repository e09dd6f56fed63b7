# Answers that learners give in lab 08: each cell is named `exercise: right` or `exercise: wrong`, and then says why.
# Behind `exercise: hinted` stands what the self-check must say of a likely mistake.

# %% separable-macs: right
def separable_macs(c_in, c_out, kernel, height, width):
    pixels = height * width
    depthwise, pointwise = pixels * c_in * kernel * kernel, pixels * c_in * c_out
    return [depthwise + pointwise, 1 / (1 / c_out + 1 / kernel**2)]


# %% separable-macs: wrong
# the pointwise convolution is missing
def separable_macs(c_in, c_out, kernel, height, width):
    pair = c_in * kernel**2 * height * width
    return pair, c_in * c_out * kernel**2 * height * width / pair


# %% separable-macs: wrong
# the depthwise convolution is a full one
def separable_macs(c_in, c_out, kernel, height, width):
    pair = (c_in * c_in * kernel**2 + c_in * c_out) * height * width
    return pair, c_in * c_out * kernel**2 * height * width / pair


# %% separable: right
import torch


def separable(x, depthwise, pointwise, stride):
    size = depthwise[0].shape[2]
    y = F.conv2d(x, depthwise[0], depthwise[1], stride, size // 2, groups=x.shape[1]).clamp(min=0)
    weight = pointwise[0].flatten(1)
    return (torch.einsum("oc,nchw->nohw", weight, y) + pointwise[1][:, None, None]).clamp(min=0)


# %% separable: wrong
# one ReLU alone
def separable(x, depthwise, pointwise, stride):
    x = F.conv2d(x, *depthwise, stride, depthwise[0].shape[-1] // 2, groups=len(depthwise[0]))
    return F.relu(F.conv2d(x, *pointwise))


# %% separable: wrong
# the stride is forgotten
def separable(x, depthwise, pointwise, stride):
    x = F.relu(F.conv2d(x, *depthwise, 1, depthwise[0].shape[-1] // 2, groups=len(depthwise[0])))
    return F.relu(F.conv2d(x, *pointwise))


# %% inverted-residual: right
def inverted_residual(x, expand, depthwise, project, stride):
    y = F.conv2d(x, *expand).clamp(0, 6)
    y = F.conv2d(y, *depthwise, stride, depthwise[0].shape[-1] // 2, groups=y.shape[1]).clamp(0, 6)
    y = F.conv2d(y, *project)
    if stride == 1 and y.shape[1] == x.shape[1]:
        y = y + x
    return y


# %% inverted-residual: wrong
# an activation behind the projection
def inverted_residual(x, expand, depthwise, project, stride):
    y = F.relu6(F.conv2d(x, *expand))
    y = F.relu6(F.conv2d(y, *depthwise, stride, depthwise[0].shape[-1] // 2, groups=y.shape[1]))
    y = F.relu6(F.conv2d(y, *project))
    return x + y if y.shape == x.shape else y


# %% inverted-residual: wrong
# the input is not added
def inverted_residual(x, expand, depthwise, project, stride):
    y = F.relu6(F.conv2d(x, *expand))
    y = F.relu6(F.conv2d(y, *depthwise, stride, depthwise[0].shape[-1] // 2, groups=y.shape[1]))
    return F.conv2d(y, *project)


# %% make-divisible: right
import math


def make_divisible(channels, divisor):
    steps = math.floor(channels / divisor + 0.5)
    while steps * divisor < 0.9 * channels or steps == 0:
        steps += 1
    return steps * divisor


# %% make-divisible: wrong
# may lose more than a tenth
def make_divisible(channels, divisor):
    return max(divisor, int((channels + divisor / 2) // divisor) * divisor)


# %% make-divisible: wrong
# rounds up
def make_divisible(channels, divisor):
    return -(-channels // divisor) * divisor


# %% separable-macs: hinted
# Return two numbers
def separable_macs(c_in, c_out, kernel, height, width):
    return (c_in * kernel**2 + c_in * c_out) * height * width


# %% separable-macs: hinted
# it has c_in channels, and not yet c_out
def separable_macs(c_in, c_out, kernel, height, width):
    pair = (c_out * kernel**2 + c_in * c_out) * height * width
    return pair, c_in * c_out * kernel**2 * height * width / pair


# %% separable-macs: hinted
# upside down
def separable_macs(c_in, c_out, kernel, height, width):
    pair = (c_in * kernel**2 + c_in * c_out) * height * width
    return pair, pair / (c_in * c_out * kernel**2 * height * width)


# %% separable-macs: hinted
# Those are the weights
def separable_macs(c_in, c_out, kernel, height, width):
    pair = c_in * kernel**2 + c_in * c_out
    return pair, c_in * c_out * kernel**2 / pair


# %% separable: hinted
# as many groups as channels
def separable(x, depthwise, pointwise, stride):
    weight, bias = depthwise
    x = F.relu(F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2))
    return F.relu(F.conv2d(x, *pointwise))


# %% separable: hinted
# The ReLU behind the pointwise convolution is missing
def separable(x, depthwise, pointwise, stride):
    weight, bias = depthwise
    x = F.relu(F.conv2d(x, weight, bias, stride, weight.shape[-1] // 2, groups=len(weight)))
    return F.conv2d(x, *pointwise)


# %% separable: hinted
# The padding does not fit every kernel
def separable(x, depthwise, pointwise, stride):
    weight, bias = depthwise
    x = F.relu(F.conv2d(x, weight, bias, stride, 1, groups=len(weight)))
    return F.relu(F.conv2d(x, *pointwise))


# %% separable: hinted
# The biases are missing
def separable(x, depthwise, pointwise, stride):
    weight = depthwise[0]
    x = F.relu(F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=len(weight)))
    return F.relu(F.conv2d(x, pointwise[0]))


# %% inverted-residual: hinted
# the channels must be as many
def inverted_residual(x, expand, depthwise, project, stride):
    y = F.relu6(F.conv2d(x, *expand))
    y = F.relu6(F.conv2d(y, *depthwise, stride, depthwise[0].shape[-1] // 2, groups=y.shape[1]))
    y = F.conv2d(y, *project)
    return x + y if stride == 1 else y


# %% inverted-residual: hinted
# That is ReLU. MobileNetV2 has ReLU6
def inverted_residual(x, expand, depthwise, project, stride):
    y = F.relu(F.conv2d(x, *expand))
    y = F.relu(F.conv2d(y, *depthwise, stride, depthwise[0].shape[-1] // 2, groups=y.shape[1]))
    y = F.conv2d(y, *project)
    return x + y if y.shape == x.shape else y


# %% inverted-residual: hinted
# The ReLU6 behind the expansion is missing
def inverted_residual(x, expand, depthwise, project, stride):
    y = F.conv2d(x, *expand)
    y = F.relu6(F.conv2d(y, *depthwise, stride, depthwise[0].shape[-1] // 2, groups=y.shape[1]))
    y = F.conv2d(y, *project)
    return x + y if y.shape == x.shape else y


# %% make-divisible: hinted
# goes to the even multiple
def make_divisible(channels, divisor):
    rounded = max(divisor, round(channels / divisor) * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


# %% make-divisible: hinted
# You round down
def make_divisible(channels, divisor):
    rounded = max(divisor, int(channels // divisor) * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
