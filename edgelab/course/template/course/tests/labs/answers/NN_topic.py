# Answers that learners give in lab NN: each cell is named `exercise: right` or `exercise: wrong`, and then says why.
# Behind `exercise: hinted` stands what the self-check must say of a likely mistake.

# %% shares: right
def shares(amounts):
    result = []
    for amount in amounts:
        result.append(amount / sum(amounts) * 100)
    return result


# %% shares: wrong
# fractions, not percentages
def shares(amounts):
    return [amount / sum(amounts) for amount in amounts]


# %% shares: wrong
# divides by the largest
def shares(amounts):
    return [100 * amount / max(amounts) for amount in amounts]


# %% layers-for: right
def layers_for(shares, percent):
    left = sorted(shares)
    while left and sum(shares) - sum(left) < percent:
        left.pop()
    return len(shares) - len(left)


# %% layers-for: wrong
# takes the layers as they come
def layers_for(shares, percent):
    reached, count = 0, 0
    while reached < percent:
        reached, count = reached + shares[count], count + 1
    return count


# %% layers-for: wrong
# stops one layer too early
def layers_for(shares, percent):
    reached, count = 0, -1
    for share in sorted(shares, reverse=True):
        if reached >= percent:
            break
        reached, count = reached + share, count + 1
    return count


# %% reuse: right
def reuse(macs, params):
    return float(macs) * params**-1


# %% reuse: wrong
# upside down
def reuse(macs, params):
    return params / macs if macs else 0


# %% reuse: wrong
# rounds down
def reuse(macs, params):
    return macs // params


# %% shares: hinted
# You divide by how many there are
def shares(amounts):
    return [100 * amount / len(amounts) for amount in amounts]


# %% layers-for: hinted
# You begin with the smallest layer
def layers_for(shares, percent):
    reached = 0
    for count, share in enumerate(sorted(shares), start=1):
        reached += share
        if reached >= percent:
            return count
