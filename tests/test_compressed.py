"""TensorFlow Lite Micro gives the very codes of the uncompressed file, and what cannot be compressed is refused."""

import copy

import numpy as np
import pytest
import torch

from edgelab import data, models
from edgelab.deploy import arena, to_litert
from edgelab.deploy.compressed import METHODS, compress_weights
from edgelab.errors import EdgelabError
from edgelab.pruning import prune, remove_masks, remove_sharing, share_weights
from edgelab.quantization import QuantizationConfig, calibrate, convert, prepare

runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")


@pytest.fixture(scope="module")
def images():
    return data.normalize(data.load("signs").train.images[:32])


@pytest.fixture(scope="module")
def float_models():
    """Return models of which most weights are zero, and of which those that are not share 15 values a layer."""
    made = {}
    for name in ("resnet_tiny", "mobilenet_v1_025"):
        zeros = remove_masks(prune(models.load_pretrained(name), 0.8))
        made[name] = {"zeros": zeros, "shared": remove_sharing(share_weights(copy.deepcopy(zeros), 4))}
    return made


def written(model, images, path, **options):
    return to_litert(convert(calibrate(prepare(model, QuantizationConfig(**options)), images)), images[:1], path)


def outputs(path, count=6):
    """Return what the interpreter itself, not our runner, gives for some codes."""
    interpreter = runtime.Interpreter.from_file(str(path))
    shape, rng, found = interpreter.get_input_details(0)["shape"], np.random.default_rng(9), []
    for _picture in range(count):
        interpreter.set_input(rng.integers(-128, 128, shape, dtype=np.int8), 0)
        interpreter.invoke()
        found.append(interpreter.get_output(0).copy())
    return np.stack(found)


@pytest.mark.parametrize("per_channel", [True, False], ids=["per-channel", "per-tensor"])
@pytest.mark.parametrize("name", ["resnet_tiny", "mobilenet_v1_025"])
@pytest.mark.parametrize("method", METHODS)
def test_compressed_weights_give_the_same_codes(float_models, images, tmp_path, name, method, per_channel):
    kind = "zeros" if method == "bitmask" else "shared"
    plain = written(float_models[name][kind], images, tmp_path / "plain.tflite", per_channel=per_channel)
    small = compress_weights(plain, tmp_path / "new" / "small.tflite", method=method)
    assert small.stat().st_size < plain.stat().st_size
    expected = outputs(plain)
    assert len(np.unique(expected)) > 20, "outputs that differ from picture to picture"
    np.testing.assert_array_equal(outputs(small), expected)
    assert list((tmp_path / "new").iterdir()) == [small]


def test_fewer_bits_make_smaller_tables_with_the_same_codes(float_models, images, tmp_path):
    sizes = []
    for bits in (2, 3, 4):
        shared = remove_sharing(share_weights(copy.deepcopy(float_models["resnet_tiny"]["zeros"]), bits))
        plain = written(shared, images, tmp_path / f"plain-{bits}.tflite")
        small = compress_weights(plain, tmp_path / f"small-{bits}.tflite", method="look-up table")
        np.testing.assert_array_equal(outputs(small), outputs(plain))
        sizes.append(small.stat().st_size)
    assert sizes == sorted(set(sizes))


def test_flash_shrinks_and_the_arena_grows(float_models, images, tmp_path):
    """The decoded layer lies in RAM: 1 x 1 convolutions of many channels have more weights than activations."""
    plain = written(float_models["mobilenet_v1_025"]["zeros"], images, tmp_path / "plain.tflite")
    small = compress_weights(plain, tmp_path / "small.tflite")
    assert arena(small).activations > 2 * arena(plain).activations


def test_a_bitmask_takes_a_bit_for_each_code_and_a_byte_for_each_that_is_not_zero():
    weight = np.zeros((2, 3, 3, 5), dtype=np.int8)
    weight[1, 2, 0] = 7
    bits, values = METHODS["bitmask"](weight, 0)
    assert len(bits) == -(-weight.size // 8)
    assert len(values) == 16 + 5


@pytest.mark.parametrize("axis", [0, 3, -1])
def test_a_look_up_table_has_the_values_of_each_channel_along_the_axis_of_the_scales(axis):
    weight = np.random.default_rng(0).integers(-3, 4, (4, 3, 3, 6), dtype=np.int8)
    packed, header = METHODS["look-up table"](weight, axis)
    channels = weight.shape[axis] if axis >= 0 else 1
    bits, stride = header[5] & 0b111, header[6]
    assert (bits, stride, header[5] >> 4) == (3, 7, axis if axis >= 0 else 15)
    tables = np.frombuffer(header[16:], np.int8).reshape(channels, stride)
    places = np.packbits(
        np.pad(np.unpackbits(np.frombuffer(packed, np.uint8))[: 3 * weight.size].reshape(-1, 3), ((0, 0), (5, 0))),
        axis=1,
    ).reshape(weight.shape)
    channel = np.indices(weight.shape)[axis] if axis >= 0 else np.zeros(weight.shape, int)
    np.testing.assert_array_equal(tables[channel, places], weight)


def test_a_table_of_more_values_than_seven_bits_is_no_table():
    assert METHODS["look-up table"](np.arange(-128, 128, dtype=np.int8).reshape(1, 256), -1) is None


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_gets_no_smaller_is_refused_and_nothing_is_written(images, tmp_path, method):
    plain = written(models.load_pretrained("resnet_tiny"), images, tmp_path / "plain.tflite")
    with pytest.raises(EdgelabError, match="gets smaller"):
        compress_weights(plain, tmp_path / "new" / "small.tflite", method=method)
    assert not (tmp_path / "new").exists()


def test_a_float_file_and_an_unknown_method_are_refused(images, tmp_path):
    plain = to_litert(models.load_pretrained("resnet_tiny"), images[:1], tmp_path / "float.tflite")
    with pytest.raises(EdgelabError, match="gets smaller"):
        compress_weights(plain, tmp_path / "small.tflite")
    with pytest.raises(EdgelabError, match="no method 'zip'"):
        compress_weights(plain, tmp_path / "small.tflite", method="zip")
    with pytest.raises(EdgelabError, match="no model file"):
        compress_weights(tmp_path / "none.tflite", tmp_path / "small.tflite")


def test_other_codes_are_noticed_and_the_file_is_not_written(float_models, images, tmp_path, monkeypatch):
    def spoiled(weight, axis):
        bits, values = METHODS["bitmask"](np.where(np.arange(weight.size).reshape(weight.shape) < 40, 0, weight), axis)
        return bits, values

    plain = written(float_models["resnet_tiny"]["zeros"], images, tmp_path / "plain.tflite")
    monkeypatch.setitem(METHODS, "spoiled", spoiled)
    with pytest.raises(EdgelabError, match="gives other codes"):
        compress_weights(plain, tmp_path / "small.tflite", method="spoiled")
    assert [path.name for path in tmp_path.iterdir()] == ["plain.tflite"]


def test_a_pruned_model_in_the_file_computes_what_the_converted_model_does(float_models, images, tmp_path):
    from edgelab.deploy import Runner

    quantized = convert(calibrate(prepare(float_models["resnet_tiny"]["zeros"]), images))
    small = compress_weights(to_litert(quantized, images[:1], tmp_path / "plain.tflite"), tmp_path / "small.tflite")
    with torch.inference_mode():
        expected = quantized(images[:4]).argmax(1)
    assert torch.equal(Runner.open(small, runtime="tflm")(images[:4]).argmax(1), expected)
