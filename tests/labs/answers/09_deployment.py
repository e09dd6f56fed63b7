# Answers that learners give in lab 09: each cell is named `exercise: right` or `exercise: wrong`, and then says why.
# Behind `exercise: hinted` stands what the self-check must say of a likely mistake.

# %% export-and-compare: right
from pathlib import Path

from edgelab.deploy import check_parity


def export_and_compare(codes, model, images, folder):
    to_onnx(codes, images[:1], Path(folder, "model.onnx"))
    to_litert(codes, images[3:4], Path(folder, "model.tflite"))
    result = {}
    for kind in ("tflite", "onnx"):
        parity = check_parity(model, Runner.open(Path(folder, "model." + kind)), images)
        result[kind] = [parity.largest, parity.agreement]
    return result


# %% export-and-compare: wrong
# compares with the int8 model
def export_and_compare(codes, model, images, folder):
    found = {}
    for kind, write in {"onnx": to_onnx, "tflite": to_litert}.items():
        got, expected = Runner.open(write(codes, images[:1], f"{folder}/model.{kind}"))(images), codes(images)
        share = (got.argmax(1) == expected.argmax(1)).float().mean()
        found[kind] = float((got - expected).abs().max()), float(share)
    return found


# %% export-and-compare: wrong
# writes the model in floats
def export_and_compare(codes, model, images, folder):
    found = {}
    for kind, write in {"onnx": to_onnx, "tflite": to_litert}.items():
        got, expected = Runner.open(write(model, images[:1], f"{folder}/model.{kind}"))(images), model(images)
        share = (got.argmax(1) == expected.argmax(1)).float().mean()
        found[kind] = float((got - expected).abs().max()), float(share)
    return found


# %% to-codes: right
def to_codes(pixels, scale, zero_point):
    codes = np.rint((pixels.astype(np.float32) - 128) / (128 * scale)) + zero_point
    codes[codes > 127] = 127
    codes[codes < -128] = -128
    return codes.astype("int8")


# %% to-codes: wrong
# wraps around where it should saturate
def to_codes(pixels, scale, zero_point):
    return (np.round((pixels / 128 - 1) / scale) + zero_point).astype(int).astype(np.int8)


# %% to-codes: wrong
# forgets to normalise
def to_codes(pixels, scale, zero_point):
    return np.clip(np.round(pixels / scale) + zero_point, -128, 127).astype(np.int8)


# %% to-probabilities: right
def to_probabilities(codes, scale, zero_point):
    return torch.softmax((torch.from_numpy(codes).double() - zero_point) * scale, 0).numpy()


# %% to-probabilities: wrong
# overflows in int8
def to_probabilities(codes, scale, zero_point):
    powers = np.exp((codes - np.int8(zero_point)) * scale)
    return powers / powers.sum()


# %% to-probabilities: wrong
# a softmax of the codes
def to_probabilities(codes, scale, zero_point):
    powers = np.exp(codes.astype(float) - codes.max())
    return powers / powers.sum()


# %% arena-by-hand: right
def arena_by_hand(tensors):
    changes = {}
    for size, first, last in tensors:
        size = (size + 15) // 16 * 16
        changes[first] = changes.get(first, 0) + size
        changes[last + 1] = changes.get(last + 1, 0) - size
    most = now = 0
    for step in sorted(changes):
        now += changes[step]
        most = max(most, now)
    return most


# %% arena-by-hand: wrong
# the last operator does not count
def arena_by_hand(tensors):
    steps = range(1 + max(last for _, _, last in tensors))
    return max(sum(-(-size // 16) * 16 for size, first, last in tensors if first <= now < last) for now in steps)


# %% arena-by-hand: wrong
# nothing is rounded
def arena_by_hand(tensors):
    steps = range(1 + max(last for _, _, last in tensors))
    return max(sum(size for size, first, last in tensors if first <= now <= last) for now in steps)


# %% cortex-ms: right
def cortex_ms(macs, clock_hz, known):
    cycles_in_all = known[1] * 1e-3 * known[2]
    return [cycles_in_all / known[0], known[1] * macs / known[0] * known[2] / clock_hz]


# %% cortex-ms: wrong
# the clocks are mixed up
def cortex_ms(macs, clock_hz, known):
    known_macs, known_ms, _ = known
    cycles = known_ms / 1000 * clock_hz / known_macs
    return cycles, 1000 * macs * cycles / clock_hz


# %% cortex-ms: wrong
# MACs in a cycle
def cortex_ms(macs, clock_hz, known):
    known_macs, known_ms, known_clock_hz = known
    rate = known_macs / (known_ms / 1000 * known_clock_hz)
    return rate, 1000 * macs / rate / clock_hz


# %% export-and-compare: hinted
# You compare with the int8 model
def export_and_compare(codes, model, images, folder):
    found = {}
    for kind, write in {"onnx": to_onnx, "tflite": to_litert}.items():
        got, expected = Runner.open(write(codes, images[:1], f"{folder}/model.{kind}"))(images), codes(images)
        share = (got.argmax(1) == expected.argmax(1)).float().mean()
        found[kind] = float((got - expected).abs().max()), float(share)
    return found


# %% export-and-compare: hinted
# images at a time
def export_and_compare(codes, model, images, folder):
    for kind, write in {"onnx": to_onnx, "tflite": to_litert}.items():
        write(codes, images, f"{folder}/model.{kind}")
    return {"onnx": (0.0, 1.0), "tflite": (0.0, 1.0)}


# %% export-and-compare: hinted
# the mean difference
def export_and_compare(codes, model, images, folder):
    found = {}
    for kind, write in {"onnx": to_onnx, "tflite": to_litert}.items():
        got, expected = Runner.open(write(codes, images[:1], f"{folder}/model.{kind}"))(images), model(images)
        share = (got.argmax(1) == expected.argmax(1)).float().mean()
        found[kind] = float((got - expected).abs().mean()), float(share)
    return found


# %% to-codes: hinted
# wrap around
def to_codes(pixels, scale, zero_point):
    return (np.round((pixels / 128 - 1) / scale) + zero_point).astype(int).astype(np.int8)


# %% to-codes: hinted
# Round before you add
def to_codes(pixels, scale, zero_point):
    return np.clip(np.round((pixels / 128 - 1) / scale + zero_point), -128, 127).astype(np.int8)


# %% to-codes: hinted
# one grid alone
def to_codes(pixels, scale, zero_point):
    return (pixels.astype(int) - 128).astype(np.int8)


# %% to-codes: hinted
# normalised pixels
def to_codes(pixels, scale, zero_point):
    return np.clip(np.round(pixels / scale) + zero_point, -128, 127).astype(np.int8)


# %% to-probabilities: hinted
# overflows in int8
def to_probabilities(codes, scale, zero_point):
    logits = (codes - np.int8(zero_point)) * scale
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


# %% to-probabilities: hinted
# Those are the logits
def to_probabilities(codes, scale, zero_point):
    return (codes.astype(int) - zero_point) * scale


# %% arena-by-hand: hinted
# round its bytes up
def arena_by_hand(tensors):
    steps = range(1 + max(last for _, _, last in tensors))
    return max(sum(size for size, first, last in tensors if first <= now <= last) for now in steps)


# %% arena-by-hand: hinted
# the sum of all
def arena_by_hand(tensors):
    return sum(-(-size // 16) * 16 for size, _, _ in tensors)


# %% arena-by-hand: hinted
# not their sum
def arena_by_hand(tensors):
    steps = range(1 + max(last for _, _, last in tensors))
    most = max(sum(size for size, first, last in tensors if first <= now <= last) for now in steps)
    return -(-most // 16) * 16


# %% cortex-ms: hinted
# in seconds: return ms
def cortex_ms(macs, clock_hz, known):
    known_macs, known_ms, known_clock_hz = known
    cycles = known_ms / 1000 * known_clock_hz / known_macs
    return cycles, macs * cycles / clock_hz


# %% cortex-ms: hinted
# divide it by 1000
def cortex_ms(macs, clock_hz, known):
    known_macs, known_ms, known_clock_hz = known
    cycles = known_ms * known_clock_hz / known_macs
    return cycles, 1000 * macs * cycles / clock_hz


# %% export-and-compare: hinted
# computes in floats
def export_and_compare(codes, model, images, folder):
    for kind, write in {"onnx": to_onnx, "tflite": to_litert}.items():
        write(model, images[:1], f"{folder}/model.{kind}")
    return {"onnx": (0.0, 1.0), "tflite": (0.0, 1.0)}
