# Answers that learners give in lab 02: each cell is named `exercise: right` or `exercise: wrong`, and then says why.
# Behind `exercise: hinted` stands what the self-check must say of a likely mistake.

# %% choose-qparams: right
def choose_qparams(min_val, max_val, bits):
    low, high = (min(0, min_val), max(0, max_val))
    steps = (1 << bits) - 1
    if high - low == 0:
        return 1.0, 0
    return (high - low) / steps, round(-low * steps / (high - low))


# %% choose-qparams: wrong
# the range does not contain 0
def choose_qparams(min_val, max_val, bits):
    if min_val == max_val:
        return 1.0, 0
    scale = (max_val - min_val) / (2**bits - 1)
    return scale, round(-min_val / scale)


# %% choose-qparams: wrong
# ties go up
def choose_qparams(min_val, max_val, bits):
    low, high = min(min_val, 0.0), max(max_val, 0.0)
    if low == high:
        return 1.0, 0
    scale = (high - low) / (2**bits - 1)
    return scale, int(-low / scale + 0.5)


# %% quantize: right
def quantize(x, scale, zero_point, bits):
    codes = (x / scale).round().int() + zero_point
    return torch.clip(codes, 0, (1 << bits) - 1).to(torch.uint8)


# %% quantize: wrong
# wraps around
def quantize(x, scale, zero_point, bits):
    return (torch.round(x / scale) + zero_point).int().to(torch.uint8)


# %% quantize: wrong
# cuts the fraction off
def quantize(x, scale, zero_point, bits):
    return (torch.trunc(x / scale) + zero_point).clamp(0, 2**bits - 1).to(torch.uint8)


# %% dequantize: right
def dequantize(q, scale, zero_point):
    return scale * q.float() - scale * zero_point


# %% dequantize: wrong
# subtracts in uint8
def dequantize(q, scale, zero_point):
    return (q - zero_point) * scale


# %% dequantize: wrong
# the zero point taken for a real number
def dequantize(q, scale, zero_point):
    return q.float() * scale - zero_point


# %% to-blame: right
def to_blame(weight):
    ranges = [float(channel.abs().max()) for channel in weight]
    first, second = sorted(ranges)[-1], sorted(ranges)[-2]
    bits = 0.0
    while first >= 2 * second:
        first, bits = first / 2, bits + 1
    return ranges.index(max(ranges)), bits + float(torch.log2(torch.tensor(first / second)))


# %% to-blame: wrong
# forgets that negative weights are large, too
def to_blame(weight):
    ranges = weight.flatten(1).amax(1)
    first, second = ranges.sort(descending=True).values[:2]
    return int(ranges.argmax()), float(torch.log2(first / second))


# %% to-blame: wrong
# says how many times longer the step is
def to_blame(weight):
    ranges = weight.abs().flatten(1).amax(1)
    first, second = ranges.sort(descending=True).values[:2]
    return int(ranges.argmax()), float(first / second)


# %% to-blame: hinted
# the second largest sets the step
def to_blame(weight):
    ranges = weight.abs().flatten(1).amax(1)
    return int(ranges.argmax()), float(torch.log2(ranges.max() / ranges.min()))


# %% integer-linear: right
def integer_linear(q_x, z_x, q_weight, q_bias, multiplier, z_y):
    # The zero point of the input, moved into the bias: z_x sum(q_w) is known beforehand.
    bias = q_bias.long() - z_x * q_weight.long().sum(1)
    accumulator = torch.einsum("ni,oi->no", q_x.long(), q_weight.long()) + bias
    return (torch.round(accumulator.double() * multiplier) + z_y).clip(0, 255).byte()


# %% integer-linear: wrong
# the bias after the multiplier
def integer_linear(q_x, z_x, q_weight, q_bias, multiplier, z_y):
    accumulator = (q_x.int() - z_x) @ q_weight.int().T
    return (torch.round(accumulator * multiplier) + q_bias + z_y).clamp(0, 255).to(torch.uint8)


# %% integer-linear: wrong
# saturates before the zero point
def integer_linear(q_x, z_x, q_weight, q_bias, multiplier, z_y):
    accumulator = (q_x.int() - z_x) @ q_weight.int().T + q_bias
    return (torch.round(accumulator * multiplier).clamp(0, 255) + z_y).to(torch.uint8)


# %% choose-qparams: hinted
# but the zero point is a float
def choose_qparams(min_val, max_val, bits):
    low, high = min(min_val, 0.0), max(max_val, 0.0)
    if low == high:
        return 1.0, 0.0
    scale = (high - low) / (2**bits - 1)
    return scale, float(round(-low / scale))


# %% choose-qparams: hinted
# the zero point is a float
def choose_qparams(min_val, max_val, bits):
    low, high = min(min_val, 0.0), max(max_val, 0.0)
    scale = (high - low) / (2**bits - 1) or 1.0
    return torch.tensor([scale, round(-low / scale)])


# %% choose-qparams: hinted
# That is for signed codes
def choose_qparams(min_val, max_val, bits):
    low, high = min(min_val, 0.0), max(max_val, 0.0)
    scale = (high - low) / (2**bits - 1) or 1.0
    return scale, round(-low / scale) - 2 ** (bits - 1)


# %% quantize: hinted
# You saturate as signed codes do
def quantize(x, scale, zero_point, bits):
    q = torch.round(x / scale) + zero_point
    return q.clamp(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).to(torch.uint8)


# %% quantize: hinted
# a number loses its fraction
def quantize(x, scale, zero_point, bits):
    return (x / scale + zero_point).clamp(0, 2**bits - 1).to(torch.uint8)


# %% quantize: hinted
# Nothing is rounded
def quantize(x, scale, zero_point, bits):
    return (x / scale + zero_point).clamp(0, 2**bits - 1)


# %% quantize: hinted
# You clip the real numbers
def quantize(x, scale, zero_point, bits):
    return torch.round(x.clamp(0, 2**bits - 1) / scale) + zero_point


# %% quantize: hinted
# as whole numbers of 8 bits
def quantize(x, scale, zero_point, bits):
    return (torch.round(x / scale) + zero_point).clamp(0, 2**bits - 1)


# %% dequantize: hinted
# int8 ends at 127
def dequantize(q, scale, zero_point):
    return (q.to(torch.int8) - zero_point) * scale


# %% integer-linear: hinted
# transpose it
def integer_linear(q_x, z_x, q_weight, q_bias, multiplier, z_y):
    accumulator = (q_x.int() - z_x) @ q_weight.int() + q_bias
    return (torch.round(accumulator * multiplier) + z_y).clamp(0, 255).to(torch.uint8)


# %% integer-linear: hinted
# int16 ends at 32 767
def integer_linear(q_x, z_x, q_weight, q_bias, multiplier, z_y):
    accumulator = (q_x.short() - z_x) @ q_weight.short().T + q_bias
    return (torch.round(accumulator * multiplier) + z_y).clamp(0, 255).to(torch.uint8)


# %% integer-linear: hinted
# a number loses its fraction
def integer_linear(q_x, z_x, q_weight, q_bias, multiplier, z_y):
    accumulator = (q_x.int() - z_x) @ q_weight.int().T + q_bias
    return (accumulator * multiplier + z_y).clamp(0, 255).to(torch.uint8)
