# Answers that learners give in lab 01: each cell is named `exercise: right` or `exercise: wrong`, and then says why.
# Behind `exercise: hinted` stands what the self-check must say of a likely mistake.

# %% weight-bytes: right
def weight_bytes(params, bits):
    return -(-params * bits // 8)


# %% weight-bytes: wrong
# rounds down
def weight_bytes(params, bits):
    return params * bits // 8


# %% weight-bytes: wrong
# rounds every parameter up to whole bytes
def weight_bytes(params, bits):
    return params * math.ceil(bits / 8)


# %% conv-macs: right
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    per_output = kernel * kernel * c_in / groups
    return int(per_output * c_out * height * width)


# %% conv-macs: wrong
# forgets the groups
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return c_out * height * width * c_in * kernel**2


# %% conv-macs: wrong
# counts multiplications and additions
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return 2 * c_out * height * width * (c_in // groups) * kernel**2


# %% inference-energy: right
def inference_energy(macs, bytes_moved, pj_per_mac, pj_per_byte):
    pj = macs * pj_per_mac + bytes_moved * pj_per_byte
    return pj / 1e12


# %% inference-energy: wrong
# moving the bytes is free
def inference_energy(macs, bytes_moved, pj_per_mac, pj_per_byte):
    return macs * pj_per_mac * 1e-12


# %% inference-energy: wrong
# takes pJ for nJ
def inference_energy(macs, bytes_moved, pj_per_mac, pj_per_byte):
    return (macs * pj_per_mac + bytes_moved * pj_per_byte) * 1e-9


# %% edge-or-cloud: right
def edge_or_cloud(compute_joules, image_bytes, joules_per_bit):
    costs = {"cloud": image_bytes * 8 * joules_per_bit, "edge": compute_joules}
    place = min(costs, key=costs.get)
    return place, costs[place]


# %% edge-or-cloud: wrong
# bytes taken for bits
def edge_or_cloud(compute_joules, image_bytes, joules_per_bit):
    sending = image_bytes * joules_per_bit
    return ("edge", compute_joules) if compute_joules < sending else ("cloud", sending)


# %% edge-or-cloud: wrong
# the dearer place
def edge_or_cloud(compute_joules, image_bytes, joules_per_bit):
    sending = 8 * image_bytes * joules_per_bit
    return ("cloud", sending) if compute_joules < sending else ("edge", compute_joules)


# %% weight-bytes: hinted
# You always add a byte
def weight_bytes(params, bits):
    return params * bits // 8 + 1


# %% weight-bytes: hinted
# Multiply first
def weight_bytes(params, bits):
    return params * (bits // 8)


# %% weight-bytes: hinted
# in float32, which keeps 7 digits
import numpy


def weight_bytes(params, bits):
    return numpy.ceil(numpy.float32(params) * numpy.float32(bits) / numpy.float32(8))


# %% conv-macs: hinted
# You count the bias
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return c_out * height * width * (c_in // groups * kernel**2 + 1)


# %% conv-macs: hinted
# You divide by the groups twice
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return c_out // groups * height * width * (c_in // groups) * kernel**2


# %% conv-macs: hinted
# height × width positions
def conv_macs(c_in, c_out, kernel, height, width, groups=1):
    return c_out * height * height * (c_in // groups) * kernel**2


# %% conv-macs: hinted
# does not fit its parameters
def conv_macs(c_in, c_out, kernel, height, width):
    return c_out * height * width * c_in * kernel**2


# %% inference-energy: hinted
# That is in microjoules
def inference_energy(macs, bytes_moved, pj_per_mac, pj_per_byte):
    return (macs * pj_per_mac + bytes_moved * pj_per_byte) * 1e-6


# %% inference-energy: hinted
# Did you forget `return`?
def inference_energy(macs, bytes_moved, pj_per_mac, pj_per_byte):
    (macs * pj_per_mac + bytes_moved * pj_per_byte) * 1e-12


# %% edge-or-cloud: hinted
# gives a text; it should be a sequence of values
def edge_or_cloud(compute_joules, image_bytes, joules_per_bit):
    return "edge" if compute_joules < 8 * image_bytes * joules_per_bit else "cloud"


# %% moved-home: right
def moved_home(devices):
    moved = []
    for device in devices:
        if device[1] >= device[3] and device[2] < device[3]:
            moved.append(device[0])
    return moved


# %% moved-home: wrong
# names those that computed for themselves all the time
def moved_home(devices):
    return [name for name, before, after, sending in devices if after < sending]


# %% moved-home: wrong
# names those that became cheaper
def moved_home(devices):
    return [name for name, before, after, sending in devices if after < before]


# %% moved-home: hinted
# from edge to cloud
def moved_home(devices):
    return [name for name, before, after, sending in devices if (before < sending) != (after < sending)]
