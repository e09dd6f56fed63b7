# Answers that learners give in lab 05: each cell is named `exercise: right` or `exercise: wrong`, and then says why.
# Behind `exercise: hinted` stands what the self-check must say of a likely mistake.

# %% layer-mask: right
def layer_mask(weight, sparsity):
    order = weight.abs().flatten().argsort()
    keep = torch.zeros(weight.shape, dtype=torch.bool)
    keep.view(-1)[order[round(weight.numel() * sparsity) :]] = True
    return keep


# %% layer-mask: wrong
# the other way round
def layer_mask(weight, sparsity):
    gone = round(sparsity * weight.numel())
    mask = torch.zeros(weight.numel(), dtype=torch.bool)
    mask[torch.topk(weight.abs().flatten(), gone, largest=False).indices] = True
    return mask.reshape(weight.shape)


# %% layer-mask: wrong
# large negative weights go first
def layer_mask(weight, sparsity):
    gone = round(sparsity * weight.numel())
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[torch.topk(weight.flatten(), gone, largest=False).indices] = False
    return mask.reshape(weight.shape)


# %% global-masks: right
def global_masks(weights, sparsity):
    every = numpy.concatenate([weight.numpy().ravel() for weight in weights.values()])
    keep = numpy.ones(len(every), bool)
    keep[numpy.argsort(abs(every))[: round(sparsity * len(every))]] = False
    masks, start = {}, 0
    for name, weight in weights.items():
        masks[name] = keep[start : start + weight.numel()].reshape(tuple(weight.shape))
        start += weight.numel()
    return masks


import numpy


# %% global-masks: wrong
# the same share from every layer
def global_masks(weights, sparsity):
    return {name: layer_mask(weight, sparsity) for name, weight in weights.items()}


# %% global-masks: wrong
# each layer relative to its largest weight
def global_masks(weights, sparsity):
    every = torch.cat([(weight / weight.abs().max()).flatten() for weight in weights.values()])
    parts = layer_mask(every, sparsity).split([weight.numel() for weight in weights.values()])
    return {name: part.reshape(weights[name].shape) for name, part in zip(weights, parts, strict=True)}


# %% cubic: right
def cubic(step, steps, initial, final):
    left = (steps - step) / steps
    return final * (1 - left**3) + initial * left**3


# %% cubic: wrong
# grows evenly
def cubic(step, steps, initial, final):
    return initial + (final - initial) * step / steps


# %% cubic: wrong
# slow at first
def cubic(step, steps, initial, final):
    return initial + (final - initial) * (step / steps) ** 3


# %% bitmask: right
def bitmask(weight):
    there = [bool(number) for number in weight.ravel()]
    there += [False] * (-len(there) % 8)
    bits = [sum(bit << 7 - place for place, bit in enumerate(there[at : at + 8])) for at in range(0, len(there), 8)]
    return bits, [number for number in weight.ravel().tolist() if number]


# %% bitmask: wrong
# a byte for each bit
def bitmask(weight):
    flat = weight.flatten()
    return (flat != 0).astype(np.uint8), flat[flat != 0]


# %% bitmask: wrong
# all weights are still there
def bitmask(weight):
    return np.packbits(weight.flatten() != 0), weight.flatten()


# %% kmeans-step: right
def kmeans_step(values, codebook):
    groups = [[] for _ in codebook]
    for value in values.tolist():
        distances = [abs(value - float(centroid)) for centroid in codebook]
        groups[distances.index(min(distances))].append(value)
    return [sum(group) / len(group) if group else float(old) for group, old in zip(groups, codebook, strict=True)]


# %% kmeans-step: wrong
# an empty centroid becomes no number
def kmeans_step(values, codebook):
    codes = (values[:, None] - codebook).abs().argmin(1)
    return torch.stack([values[codes == code].mean() for code in range(len(codebook))])


# %% kmeans-step: wrong
# the median
def kmeans_step(values, codebook):
    codes = (values[:, None] - codebook).abs().argmin(1)
    moved = codebook.clone()
    for code in codes.unique():
        moved[code] = values[codes == code].median()
    return moved


# %% layer-mask: hinted
# Compare absolute values
def layer_mask(weight, sparsity):
    gone = round(sparsity * weight.numel())
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[torch.topk(weight.flatten(), gone, largest=False).indices] = False
    return mask.reshape(weight.shape)


# %% layer-mask: hinted
# Sparsity is no threshold
def layer_mask(weight, sparsity):
    return weight.abs() > sparsity


# %% layer-mask: hinted
# Return the mask
def layer_mask(weight, sparsity):
    gone = round(sparsity * weight.numel())
    mask = torch.ones(weight.numel())
    mask[torch.topk(weight.abs().flatten(), gone, largest=False).indices] = 0
    return weight * mask.reshape(weight.shape)


# %% layer-mask: hinted
# Make them True and False
def layer_mask(weight, sparsity):
    gone = round(sparsity * weight.numel())
    mask = torch.ones(weight.numel())
    mask[torch.topk(weight.abs().flatten(), gone, largest=False).indices] = 0
    return mask.reshape(weight.shape)


# %% layer-mask: hinted
# The places are right, and the shape is not
def layer_mask(weight, sparsity):
    gone = round(sparsity * weight.numel())
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[torch.topk(weight.abs().flatten(), gone, largest=False).indices] = False
    return mask


# %% layer-mask: hinted
# You round down
def layer_mask(weight, sparsity):
    gone = int(sparsity * weight.numel())
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[torch.topk(weight.abs().flatten(), gone, largest=False).indices] = False
    return mask.reshape(weight.shape)


# %% layer-mask: hinted
# Did you forget `return`
def layer_mask(weight, sparsity):
    torch.topk(weight.abs().flatten(), round(sparsity * weight.numel()), largest=False)


# %% global-masks: hinted
# Let all weights compete
def global_masks(weights, sparsity):
    return {name: layer_mask(weight, sparsity) for name, weight in weights.items()}


# %% global-masks: hinted
# under the names of the layers
def global_masks(weights, sparsity):
    every = torch.cat([weight.flatten() for weight in weights.values()])
    parts = layer_mask(every, sparsity).split([weight.numel() for weight in weights.values()])
    return [part.reshape(weight.shape) for part, weight in zip(parts, weights.values(), strict=True)]


# %% global-masks: hinted
# each mask has the shape of its weight
def global_masks(weights, sparsity):
    every = torch.cat([weight.flatten() for weight in weights.values()])
    parts = layer_mask(every, sparsity).split([weight.numel() for weight in weights.values()])
    return dict(zip(weights, parts, strict=True))


# %% global-masks: hinted
# one long mask
def global_masks(weights, sparsity):
    return layer_mask(torch.cat([weight.flatten() for weight in weights.values()]), sparsity)


# %% cubic: hinted
# what is *left*
def cubic(step, steps, initial, final):
    return initial + (final - initial) * (step / steps) ** 3


# %% cubic: hinted
# whatever the initial sparsity is
def cubic(step, steps, initial, final):
    return final - final * (1 - step / steps) ** 3


# %% cubic: hinted
# initial and final are swapped
def cubic(step, steps, initial, final):
    return initial + (final - initial) * (1 - step / steps) ** 3


# %% bitmask: hinted
# Negative weights are there as well
def bitmask(weight):
    flat = weight.flatten()
    return np.packbits(flat > 0), flat[flat > 0]


# %% bitmask: hinted
# where the zeros are
def bitmask(weight):
    flat = weight.flatten()
    return np.packbits(flat == 0), flat[flat != 0]


# %% bitmask: hinted
# in the other order
def bitmask(weight):
    flat = weight.flatten()
    return np.packbits(flat != 0, bitorder="little"), flat[flat != 0]


# %% bitmask: hinted
# Each row begins with a byte of its own
def bitmask(weight):
    return np.packbits(weight != 0, axis=-1), weight[weight != 0]


# %% bitmask: hinted
# Return the bits first
def bitmask(weight):
    flat = weight.flatten()
    return flat[flat != 0], np.packbits(flat != 0)


# %% kmeans-step: hinted
# let it stay where it is
def kmeans_step(values, codebook):
    codes = (values[:, None] - codebook).abs().argmin(1)
    return torch.stack([values[codes == code].mean() for code in range(len(codebook))])


# %% kmeans-step: hinted
# Those are the codes
def kmeans_step(values, codebook):
    return (values[:, None] - codebook).abs().argmin(1)


# %% kmeans-step: hinted
# each replaced by its centroid
def kmeans_step(values, codebook):
    return codebook[(values[:, None] - codebook).abs().argmin(1)]


# %% kmeans-step: hinted
# It does not go to 0
def kmeans_step(values, codebook):
    codes = (values[:, None] - codebook).abs().argmin(1)
    sums = torch.zeros(len(codebook)).index_add(0, codes, values)
    return sums / torch.bincount(codes, minlength=len(codebook)).clamp(min=1)


# %% kmeans-step: hinted
# That is the median
def kmeans_step(values, codebook):
    codes = (values[:, None] - codebook).abs().argmin(1)
    moved = codebook.clone()
    for code in codes.unique():
        moved[code] = values[codes == code].median()
    return moved
