# Answers that learners give in lab 04: each cell is named `exercise: right` or `exercise: wrong`, and then says why.
# Behind `exercise: hinted` stands what the self-check must say of a likely mistake.

# %% round-ste: right
class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.round(x)

    @staticmethod
    def backward(ctx, incoming):
        return incoming


def round_ste(x):
    return Round.apply(x)


# %% round-ste: wrong
# the true slope of the staircase
def round_ste(x):
    return torch.round(x) + 0 * x


# %% round-ste: wrong
# x detached, and not the bracket
def round_ste(x):
    return x.detach() + (torch.round(x) - x)


# %% fake-quantize: right
def fake_quantize(x, scale, qmin, qmax):
    return scale * round_ste(torch.clamp(x / scale, qmin, qmax))  # clips first, as Esser et al. write it


# %% fake-quantize: wrong
# saturated values get a gradient
class FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, scale, qmin, qmax):
        return torch.clamp(torch.round(x / scale), qmin, qmax) * scale

    @staticmethod
    def backward(ctx, incoming):
        return incoming, None, None, None


def fake_quantize(x, scale, qmin, qmax):
    return FakeQuantize.apply(x, scale, qmin, qmax)


# %% fake-quantize: wrong
# rounds without the estimator
def fake_quantize(x, scale, qmin, qmax):
    return torch.clamp(torch.round(x / scale), qmin, qmax) * scale


# %% train-quantized: right
def train_quantized(model, lessons, bits):
    config = QuantizationConfig(bits, weight_observer="mse")
    student = calibrate(prepare(model, config), data.normalize(lessons.images[:256]), batch_size=128)
    train.fit(student, lessons, lr=1e-3, epochs=1, progress=False)
    return student


# %% train-quantized: wrong
# trains first, and calibrates then
def train_quantized(model, lessons, bits):
    train.fit(model, lessons, epochs=1, lr=0.001)
    prepared = prepare(model, QuantizationConfig(weight_bits=bits, weight_observer="mse"))
    return calibrate(prepared, data.normalize(lessons.images[:256]))


# %% train-quantized: wrong
# always 8 bits
def train_quantized(model, lessons, bits):
    prepared = prepare(model, QuantizationConfig(weight_bits=8, weight_observer="mse"))
    calibrate(prepared, data.normalize(lessons.images[:256]))
    train.fit(prepared, lessons, epochs=1, lr=0.001)
    return prepared


# %% spend: right
def spend(sizes, noise, budget):
    bits = {layer: 8 for layer in sizes}
    spent = 8 * sum(sizes.values())
    while spent > budget:
        best = None
        for layer, count in bits.items():
            if count == 2:
                continue
            added = (noise[layer][count - 1] - noise[layer][count]) / sizes[layer]
            if best is None or added < best[0]:
                best = (added, layer)
        bits[best[1]] -= 1
        spent -= sizes[best[1]]
    return bits


# %% spend: wrong
# does not ask how many bits it saves
def spend(sizes, noise, budget):
    bits = dict.fromkeys(sizes, 8)
    while sum(sizes[layer] * bits[layer] for layer in sizes) > budget:
        layers = [layer for layer in sizes if bits[layer] > 2]
        bits[min(layers, key=lambda layer: noise[layer][bits[layer] - 1] - noise[layer][bits[layer]])] -= 1
    return bits


# %% spend: wrong
# gives all layers the same
def spend(sizes, noise, budget):
    return dict.fromkeys(sizes, int(budget / sum(sizes.values())))


# %% round-ste: hinted
# The bracket is the wrong way round
def round_ste(x):
    return x + (x - torch.round(x)).detach()


# %% fake-quantize: hinted
# Those are the codes
def fake_quantize(x, scale, qmin, qmax):
    return torch.clamp(round_ste(x / scale), qmin, qmax)


# %% spend: hinted
# divide by the number of weights
def spend(sizes, noise, budget):
    bits = dict.fromkeys(sizes, 8)
    while sum(sizes[layer] * bits[layer] for layer in sizes) > budget:
        layers = [layer for layer in sizes if bits[layer] > 2]
        bits[min(layers, key=lambda layer: noise[layer][bits[layer] - 1] - noise[layer][bits[layer]])] -= 1
    return bits
