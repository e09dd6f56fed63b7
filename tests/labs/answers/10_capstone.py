# Answers that learners give in lab 10: each cell is named `exercise: right` or `exercise: wrong`, and then says why.
# Behind `exercise: hinted` stands what the self-check must say of a likely mistake.

# %% broken: right
def broken(measured, limits):
    found = []
    for name in limits:
        value = measured.get(name)
        if value is None or not value <= limits[name]:
            found += [name]
    return tuple(found)


# %% broken: wrong
# what was not measured counts as kept
def broken(measured, limits):
    return [name for name, most in limits.items() if (measured.get(name) or 0) > most]


# %% broken: wrong
# exactly at the limit counts as broken
def broken(measured, limits):
    return [name for name, most in limits.items() if measured.get(name) is None or measured[name] >= most]


# %% proof: right
import numpy as np


def proof(table, limits, images):
    bound = 0.0
    for row in table:
        if all(row[name] <= limits[name] for name in limits):
            bound = max(bound, row["accuracy"])
    return np.array([bound, bound + 1.96 * np.sqrt(bound * (1 - bound) / images)])


# %% proof: wrong
# any limit will do
def proof(table, limits, images):
    kept = [row["accuracy"] for row in table if any(row[name] <= limits[name] for name in limits)]
    bound = max(kept, default=0.0)
    return bound, bound + 1.96 * (bound * (1 - bound) / images) ** 0.5


# %% proof: wrong
# the variance instead of its root
def proof(table, limits, images):
    kept = [row["accuracy"] for row in table if all(row[name] <= limits[name] for name in limits)]
    bound = max(kept, default=0.0)
    return bound, bound + 1.96 * bound * (1 - bound) / images


# %% rank: right
def rank(table, limits):
    within, outside = [], []
    for number, row in enumerate(table):
        excess = max([row[name] / limits[name] for name in limits])
        if excess > 1:
            outside.append((excess, number))
        else:
            within.append((-row["accuracy"], number))
    return [number for _value, number in sorted(within) + sorted(outside)]


# %% rank: wrong
# by accuracy everywhere
def rank(table, limits):
    def key(number):
        row = table[number]
        return max(row[name] / limits[name] for name in limits) > 1, -row["accuracy"]

    return sorted(range(len(table)), key=key)


# %% rank: wrong
# bytes and microseconds are added
def rank(table, limits):
    def key(number):
        row = table[number]
        over = sum(max(0, row[name] - limits[name]) for name in limits)
        return (0, -row["accuracy"]) if over == 0 else (1, over)

    return sorted(range(len(table)), key=key)


# %% days: right
def days(mah, volts, joules, per_second, watts):
    watt_hours = mah * volts / 1000
    return watt_hours / (per_second * joules + watts) / 24


# %% days: wrong
# hours
def days(mah, volts, joules, per_second, watts):
    return mah / 1000 * volts / (joules * per_second + watts)


# %% days: wrong
# the voltage is forgotten
def days(mah, volts, joules, per_second, watts):
    return mah / 1000 * 3600 / (joules * per_second + watts) / 86_400


# %% broken: hinted
# does not count as kept
def broken(measured, limits):
    return [name for name, most in limits.items() if (measured.get(name) or 0) > most]


# %% broken: hinted
# exactly at a limit keeps it
def broken(measured, limits):
    return [name for name, most in limits.items() if measured.get(name) is None or measured[name] >= most]


# %% broken: hinted
# the limits that are kept
def broken(measured, limits):
    return [name for name, most in limits.items() if measured.get(name) is not None and measured[name] <= most]


# %% broken: hinted
# Return the names of the limits, in a list
def broken(measured, limits):
    return any(measured.get(name) is None or measured[name] > most for name, most in limits.items())


# %% proof: hinted
# leave out what breaks a limit
def proof(table, limits, images):
    bound = max(row["accuracy"] for row in table)
    return bound, bound + 1.96 * (bound * (1 - bound) / images) ** 0.5


# %% proof: hinted
# The square root is missing
def proof(table, limits, images):
    bound = max((row["accuracy"] for row in table if not broken(row, limits)), default=0.0)
    return bound, bound + 1.96 * bound * (1 - bound) / images


# %% proof: hinted
# the bound *plus* the width
def proof(table, limits, images):
    bound = max((row["accuracy"] for row in table if not broken(row, limits)), default=0.0)
    return bound, 1.96 * (bound * (1 - bound) / images) ** 0.5


# %% proof: hinted
# not the number of rows
def proof(table, limits, images):
    bound = max((row["accuracy"] for row in table if not broken(row, limits)), default=0.0)
    return bound, bound + 1.96 * (bound * (1 - bound) / len(table)) ** 0.5


# %% rank: hinted
# What keeps all limits comes first
def rank(table, limits):
    return sorted(range(len(table)), key=lambda number: -table[number]["accuracy"])


# %% rank: hinted
# the smallest excess comes first
def rank(table, limits):
    def key(number):
        row = table[number]
        return max(row[name] / limits[name] for name in limits) > 1, -row["accuracy"]

    return sorted(range(len(table)), key=key)


# %% rank: hinted
# divide by the limit, do not subtract it
def rank(table, limits):
    def key(number):
        row = table[number]
        over = max(row[name] - limits[name] for name in limits)
        return (0, -row["accuracy"]) if over <= 0 else (1, over)

    return sorted(range(len(table)), key=key)


# %% rank: hinted
# not their sum
def rank(table, limits):
    def key(number):
        ratios = [table[number][name] / limits[name] for name in limits]
        return (0, -table[number]["accuracy"]) if max(ratios) <= 1 else (1, sum(ratios))

    return sorted(range(len(table)), key=key)


# %% rank: hinted
# the worst one first
def rank(table, limits):
    def key(number):
        excess = max(table[number][name] / limits[name] for name in limits)
        return (0, -table[number]["accuracy"]) if excess <= 1 else (1, excess)

    return sorted(range(len(table)), key=key)[::-1]


# %% days: hinted
# 1 000 mAh are 1 Ah
def days(mah, volts, joules, per_second, watts):
    return mah * 3600 * volts / (joules * per_second + watts) / 86_400


# %% days: hinted
# A day has 24
def days(mah, volts, joules, per_second, watts):
    return mah / 1000 * volts / (joules * per_second + watts)


# %% days: hinted
# asleep is missing
def days(mah, volts, joules, per_second, watts):
    return mah / 1000 * 3600 * volts / (joules * per_second) / 86_400


# %% days: hinted
# The voltage is missing
def days(mah, volts, joules, per_second, watts):
    return mah / 1000 * 3600 / (joules * per_second + watts) / 86_400
