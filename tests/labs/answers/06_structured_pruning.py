# Answers that learners give in lab 06: each cell is named `exercise: right` or `exercise: wrong`, and then says why.
# Behind `exercise: hinted` stands what the self-check must say of a likely mistake.

# %% kept-channels: right
import math


def kept_channels(size, ratio, step):
    left = size - ratio * size
    steps = math.floor(left / step + 0.5)
    return step if steps < 1 else int(steps * step)


# %% kept-channels: wrong
# rounds down
def kept_channels(size, ratio, step):
    return max(step, int((1 - ratio) * size) // step * step)


# %% kept-channels: wrong
# may leave nothing
def kept_channels(size, ratio, step):
    return step * round((1 - ratio) * size / step)


# %% kept-channels: hinted
# That is how many go
def kept_channels(size, ratio, step):
    return step * max(1, round(ratio * size / step))


# %% kept-channels: hinted
# That counts steps
def kept_channels(size, ratio, step):
    return max(1, round((1 - ratio) * size / step))


# %% kept-channels: hinted
# The step is missing
def kept_channels(size, ratio, step):
    return max(1, round(size * (1 - ratio)))


# %% kept-channels: hinted
# You round up
def kept_channels(size, ratio, step):
    import math

    return step * max(1, math.ceil((1 - ratio) * size / step))


# %% taylor: right
def taylor(weight, gradient):
    return torch.einsum("cijk,cijk->c", weight, gradient).abs()


# %% taylor: wrong
# absolute values before the sum
def taylor(weight, gradient):
    return (weight * gradient).abs().sum((1, 2, 3))


# %% taylor: wrong
# along the input channels
def taylor(weight, gradient):
    return (weight * gradient).sum((0, 2, 3)).abs()


# %% taylor: hinted
# the absolute value of the sum is missing
def taylor(weight, gradient):
    return (weight * gradient).sum((1, 2, 3))


# %% taylor: hinted
# Where is the gradient?
def taylor(weight, gradient):
    return weight.abs().sum((1, 2, 3))


# %% taylor: hinted
# one number for the whole layer
def taylor(weight, gradient):
    return (weight * gradient).sum().abs()


# %% together: right
def together(additions):
    parent = {}

    def root(name):
        parent.setdefault(name, name)
        return name if parent[name] == name else root(parent[name])

    for one, other in additions:
        parent[root(one)] = root(other)
    found = {}
    for name in parent:
        found.setdefault(root(name), []).append(name)
    return sorted(sorted(names) for names in found.values())


# %% together: wrong
# the pairs
def together(additions):
    return sorted(sorted(pair) for pair in additions)


# %% together: wrong
# does not join two groups
def together(additions):
    groups = []
    for pair in additions:
        for group in groups:
            if group & set(pair):
                group |= set(pair)
                break
        else:
            groups.append(set(pair))
    return sorted(sorted(group) for group in groups)


# %% together: hinted
# all layers into one group
def together(additions):
    return [sorted({name for pair in additions for name in pair})] if additions else []


# %% together: hinted
# Sort the names in each
def together(additions):
    groups = []
    for pair in additions:
        met = [group for group in groups if group[0] in pair or any(name in group for name in pair)]
        groups = [group for group in groups if group not in met]
        merged = []
        for part in [*met, pair]:
            merged += [name for name in part if name not in merged]
        groups.append(merged)
    return groups


# %% cut: right
def cut(first, norm, second, keep):
    keep = torch.tensor(keep)
    return first.index_select(0, keep), norm.index_select(1, keep), second.index_select(1, keep)


# %% cut: wrong
# the second convolution's outputs
def cut(first, norm, second, keep):
    return first[keep], norm[:, keep], second[[channel for channel in keep if channel < len(second)]]


# %% cut: wrong
# the channels that go
def cut(first, norm, second, keep):
    gone = [channel for channel in range(len(first)) if channel not in keep]
    return first[gone], norm[:, gone], second[:, gone]


# %% cut: hinted
# The batch norm has a number
def cut(first, norm, second, keep):
    return first[keep], norm, second[:, keep]


# %% cut: hinted
# still reads the channels
def cut(first, norm, second, keep):
    return first[keep], norm[:, keep], second


# %% cut: hinted
# axis 1
def cut(first, norm, second, keep):
    return first[keep], norm[:, keep], second[keep]
