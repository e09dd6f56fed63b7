"""Every encoding gives back what it was given, takes the bytes that its formula says, and refuses what is damaged."""

import gzip
import hashlib
import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgelab import models, pruning
from edgelab.errors import EdgelabError
from edgelab.pruning import ENCODINGS, huffman, load_sparse, save_sparse


def sparse(shape, sparsity, *, values=None, seed=0):
    """Return float32 weights of which so many are zero, and which take only so many other values."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=shape).astype(np.float32)
    if values is not None:
        weight = rng.normal(size=values).astype(np.float32)[rng.integers(values, size=shape)]
    weight[rng.random(shape) < sparsity] = 0
    return weight


WEIGHTS = {
    "a convolution": sparse((8, 5, 3, 3), 0.8, values=15),
    "a matrix": sparse((7, 300), 0.97, values=4),
    "a long gap": np.eye(1, 2000, 1999, dtype=np.float32).reshape(2, 1000),
    "gaps of 255": np.tile(np.eye(1, 256, 255, dtype=np.float32), (3, 5)),
    "all zero": np.zeros((4, 9), dtype=np.float32),
    "no zero": sparse((4, 9), 0.0, values=3),
    "one value": np.full((3, 3), 2.5, dtype=np.float32),
    "256 values": np.arange(1, 257, dtype=np.float32).reshape(16, 16),
    "one weight": np.array([[-3.0]], dtype=np.float32),
    "none": np.zeros((0, 4), dtype=np.float32),
    "more columns than 16 bits": sparse((1, 70_000), 0.999, values=3),
    "minus zero": np.array([[-0.0, 1.0]], dtype=np.float32),
    "what is no number": np.array([[np.inf, 0.0, -np.inf, 1e-45]], dtype=np.float32),
}


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("weight", WEIGHTS.values(), ids=WEIGHTS)
def test_what_is_decoded_is_what_was_encoded(name, weight):
    encoded = ENCODINGS[name].encode(weight)
    decoded = ENCODINGS[name].decode(encoded, weight.shape)
    assert decoded.dtype == np.float32
    assert decoded.shape == weight.shape
    np.testing.assert_array_equal(decoded, weight)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 6), st.integers(1, 400), st.floats(0, 1), st.integers(1, 20), st.integers(0, 99),
    st.sampled_from(sorted(ENCODINGS)),
)  # fmt: skip
def test_any_sparse_matrix_comes_back(rows, columns, sparsity, values, seed, name):
    weight = sparse((rows, columns), sparsity, values=values, seed=seed)
    np.testing.assert_array_equal(ENCODINGS[name].decode(ENCODINGS[name].encode(weight), weight.shape), weight)


def test_the_bytes_are_those_of_the_formulas():
    weight = sparse((16, 40, 3, 3), 0.9, values=15)
    n, kept, rows = weight.size, int((weight != 0).sum()), 16
    size = {name: len(encoding.encode(weight)) for name, encoding in ENCODINGS.items()}
    assert size["dense"] == 4 * n
    assert size["bitmask"] == math.ceil(n / 8) + 4 * kept
    assert size["csr"] == 4 * rows + (2 + 4) * kept
    assert size["shared"] == 2 + 4 * 15 + math.ceil(n / 8) + math.ceil(4 * kept / 8)
    assert size["zip"] < len(gzip.compress(weight.tobytes(), 9))  # the same stream with a shorter head
    assert size["huffman"] < size["shared"]


def test_huffman_codes_come_within_two_hundredths_of_the_entropy_and_a_bit_for_each_value():
    rng = np.random.default_rng(0)
    symbols = np.minimum(rng.geometric(0.1, 20_000) - 1, 254).astype(np.uint8)
    shares = np.bincount(symbols) / len(symbols)
    entropy = -sum(share * math.log2(share) for share in shares if share)
    bits = 8 * (len(huffman.encode(symbols)) - 1 - len(shares)) / len(symbols)
    assert entropy <= bits < 1.02 * entropy


@pytest.mark.parametrize(
    ("counts", "lengths"),
    [([1, 1, 2, 4], [3, 3, 2, 1]), ([0, 7, 0], [0, 1, 0]), ([0], [0]), ([1] * 4, [2] * 4), ([8, 1, 1], [1, 2, 2])],
)
def test_code_lengths_are_those_of_huffman_s_tree(counts, lengths):
    assert huffman.code_lengths(counts) == lengths


def test_no_code_begins_with_another():
    counts = np.random.default_rng(1).integers(0, 1000, 200).tolist()
    codes = sorted(filter(None, huffman.canonical_codes(huffman.code_lengths(counts))))
    assert not any(longer.startswith(shorter) for shorter, longer in itertools.pairwise(codes))


@pytest.mark.parametrize("name", ["shared", "huffman"])
def test_weights_that_share_nothing_are_refused(name):
    with pytest.raises(EdgelabError, match="1000 different weights"):
        ENCODINGS[name].encode(np.arange(1001, dtype=np.float32))


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("cut", [1, 5, 40])
def test_bytes_that_end_too_early_or_too_late_are_refused(name, cut):
    weight = sparse((8, 5, 3, 3), 0.5, values=15)
    encoded = ENCODINGS[name].encode(weight)
    for damaged in (encoded[:-cut], encoded + bytes(cut), b""):
        with pytest.raises(EdgelabError, match="damaged"):
            ENCODINGS[name].decode(damaged, weight.shape)


@pytest.mark.parametrize("name", ENCODINGS)
def test_changed_bytes_are_refused_or_give_other_weights_but_never_another_error(name):
    weight = sparse((6, 5, 3, 3), 0.7, values=9)
    encoded = bytearray(ENCODINGS[name].encode(weight))
    for place in range(0, len(encoded), 7):
        changed = bytearray(encoded)
        changed[place] ^= 0xFF
        try:
            decoded = ENCODINGS[name].decode(bytes(changed), weight.shape)
        except EdgelabError:
            continue
        assert decoded.shape == weight.shape


@pytest.fixture
def model():
    torch.manual_seed(0)
    return models.resnet((8, 12), num_classes=4)


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_model_s_file_gives_every_number_back(model, tmp_path, name):
    pruning.remove_sharing(pruning.share_weights(pruning.prune(model, 0.8), bits=4))
    model(torch.randn(4, 3, 8, 8))  # batch norm has counted
    path = save_sparse(model.state_dict(), tmp_path / "new" / "model.sparse", encoding=name)
    state = load_sparse(path)
    assert state.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert state[key].dtype == value.dtype
        assert torch.equal(state[key], value)
    fresh = models.resnet((8, 12), num_classes=4)
    fresh.load_state_dict(state)
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(fresh.eval()(x), model.eval()(x))


def test_the_contents_are_the_bytes_of_the_file(model, tmp_path):
    path = save_sparse(model.state_dict(), tmp_path / "model.sparse", encoding="csr")
    listed = pruning.contents(path)
    assert [tensor.name for tensor in listed] == list(model.state_dict())
    assert {tensor.encoding for tensor in listed} == {"csr", "dense"}
    head = path.read_bytes().index(b"}]") + 2
    assert head + sum(tensor.bytes for tensor in listed) + 32 == path.stat().st_size


def test_each_tensor_may_have_an_encoding_of_its_own(model, tmp_path):
    path = save_sparse(model.state_dict(), tmp_path / "model.sparse", encoding={"stem.0.weight": "zip"})
    assert [tensor.name for tensor in pruning.contents(path) if tensor.encoding == "zip"] == ["stem.0.weight"]


def test_a_file_that_was_cut_off_or_changed_anywhere_is_refused(model, tmp_path):
    path = save_sparse(model.state_dict(), tmp_path / "model.sparse")
    whole = path.read_bytes()
    damages = [whole[:-1], whole[: len(whole) // 2], whole + b"\0", whole[:20], b""]
    for place in range(0, len(whole), len(whole) // 25):
        damages.append(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    for damaged in damages:
        path.write_bytes(damaged)
        with pytest.raises(EdgelabError, match=r"is damaged|is no file of sparse weights"):
            load_sparse(path)


def test_a_header_that_lies_is_refused_even_with_the_right_sum(model, tmp_path):
    path = save_sparse({"weight": torch.zeros(4, 4)}, tmp_path / "model.sparse")
    whole = path.read_bytes()[:-32]
    for before, after in (
        (b"[4,4]", b"[9,9]"),
        (b"[4,4]", b"[4,x]"),
        (b"bitmask", b"bitmush"),
        (b"float32", b"float64"),
    ):
        lying = whole.replace(before, after)
        assert lying != whole
        path.write_bytes(lying + hashlib.sha256(lying).digest())
        with pytest.raises(EdgelabError, match="damaged"):
            load_sparse(path)


def test_a_huge_tensor_is_refused_before_memory_is_asked_for(tmp_path):
    path = save_sparse({"weight": torch.zeros(4, 4)}, tmp_path / "model.sparse", encoding="csr")
    lying = path.read_bytes()[:-32].replace(b"[4,4]", b"[4,999999999999]")
    size = len(lying) - len(path.read_bytes()[:-32])
    at = len(b"edgelab sparse 1\n")
    length = int.from_bytes(lying[at : at + 4], "little") + size
    lying = lying[:at] + length.to_bytes(4, "little") + lying[at + 4 :]
    path.write_bytes(lying + hashlib.sha256(lying).digest())
    with pytest.raises(EdgelabError, match="header does not fit"):
        load_sparse(path)


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 100_000,
        json.dumps(2 * [{"name": "a", "dtype": "float32", "shape": [0], "encoding": "dense", "bytes": 0}]).encode(),
        json.dumps([
            {"name": str(n), "dtype": "float32", "shape": [1, 2**28], "encoding": "csr", "bytes": 0} for n in range(4)
        ]).encode(),
    ],
    ids=["nested", "a name twice", "huge together"],
)  # fmt: skip
def test_no_header_costs_memory_or_another_error(tmp_path, header):
    content = b"edgelab sparse 1\n" + len(header).to_bytes(4, "little") + header
    (tmp_path / "model.sparse").write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(EdgelabError, match="header does not fit"):
        load_sparse(tmp_path / "model.sparse")


@pytest.mark.parametrize(
    ("state", "encoding", "words"),
    [
        ({"a": torch.zeros(2, 2)}, "rar", "no encoding 'rar'"),
        ({"a": torch.zeros(2, 2, dtype=torch.float16)}, "zip", "a holds float16"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_written(tmp_path, state, encoding, words):
    with pytest.raises(EdgelabError, match=words):
        save_sparse(state, tmp_path / "model.sparse", encoding=encoding)
    assert list(tmp_path.iterdir()) == []


def test_masks_have_to_be_taken_off_before_a_model_is_stored(model, tmp_path):
    with pytest.raises(EdgelabError, match="take the masks or the sharing off"):
        save_sparse(pruning.prune(model, 0.5).state_dict(), tmp_path / "model.sparse")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "text.sparse").write_text("edgelab")
    with pytest.raises(EdgelabError, match="no file of sparse weights"):
        load_sparse(tmp_path / "text.sparse")
    with pytest.raises(EdgelabError, match="no model file"):
        load_sparse(tmp_path / "none.sparse")
