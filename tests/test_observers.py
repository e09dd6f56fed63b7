"""The observers against torch's, numpy's percentile, ONNX Runtime's entropy, theory, and searches by brute force."""

import math
import warnings

import numpy as np
import pytest
import torch

from edgelab.errors import EdgelabError
from edgelab.quantization.affine import QSpec, choose_qparams, fake_quantize
from edgelab.quantization.observers import MSE, OBSERVERS, Entropy, Histogram, MinMax, MovingAverage, Percentile
from edgelab.quantization.observers import divergence as our_divergence

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.ao announces its move to torchao
    torch_observer = pytest.importorskip("torch.ao.quantization.observer", exc_type=ImportError)

every_observer = pytest.mark.parametrize("name", OBSERVERS)
every_layout = pytest.mark.parametrize("axis", [None, 0, 1], ids=["per-tensor", "first-axis", "second-axis"])
ACTIVATIONS = QSpec(signed=False)
WEIGHTS = QSpec(symmetric=True, narrow=True)


def sample(kind, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if kind == "laplace":
        return torch.empty(shape).exponential_(generator=generator) * torch.randn(shape, generator=generator).sign()
    x = torch.randn(shape, generator=generator)
    return {"gauss": x, "relu": x.relu(), "shifted": x + 3, "skewed": x.exp() - 0.5, "negative": -x.abs()}[kind]


def observed(observer, *batches):
    for batch in batches:
        observer.observe(batch)
    return observer


@pytest.mark.parametrize(
    ("ours", "theirs", "theirs_by_channel"),
    [
        (MinMax, torch_observer.MinMaxObserver, torch_observer.PerChannelMinMaxObserver),
        (
            MovingAverage,
            torch_observer.MovingAverageMinMaxObserver,
            torch_observer.MovingAveragePerChannelMinMaxObserver,
        ),
    ],
    ids=["min-max", "moving-average"],
)
@every_layout
def test_the_range_is_that_of_torchs_observer(ours, theirs, theirs_by_channel, axis):
    theirs = theirs() if axis is None else theirs_by_channel(ch_axis=axis)
    ours = ours(QSpec(axis=axis))
    for seed in range(5):
        batch = sample("gauss", 4, 3, 5, seed=seed)
        ours.observe(batch)
        theirs(batch)
    low, high = ours.range()
    assert torch.equal(low, theirs.min_val)
    assert torch.equal(high, theirs.max_val)
    assert low.shape == (() if axis is None else ((4, 3)[axis],))


def test_histogram_counts_each_octave_as_numpy_does():
    x = torch.cat([sample("gauss", 20_000), sample("laplace", 20_000) * 100])
    histogram = Histogram()
    histogram.add(x)
    points, counts = (column.numpy() for column in histogram.points())
    x, points = x.double().numpy(), points.astype(np.float64)
    assert counts.sum() == x.size
    assert (np.diff(points) > 0).all()
    for sign in (1, -1):
        for octave in range(-6, 10):
            # numpy closes its last bin: one bin more, and away with it.
            ends = 2.0**octave, 2.0 ** (octave + 1) + 2.0 ** (octave - 10)
            expected, edges = np.histogram(sign * x, 1025, ends)
            found, _edges = np.histogram(sign * points, edges, weights=counts)
            np.testing.assert_array_equal(found[:-1], expected[:-1])


def test_histogram_depends_neither_on_the_order_of_batches_nor_on_the_memory_format():
    x = sample("laplace", 16, 5, 6, 7) ** 3
    one, other, third = Histogram(), Histogram(), Histogram()
    one.add(x)
    for batch in x.flip(0).split(3):
        other.add(batch)
    third.add(x.to(memory_format=torch.channels_last))
    for histogram in (other, third):
        assert torch.equal(histogram.bins, one.bins)
        assert torch.equal(histogram.counts, one.counts)


def test_histogram_keeps_exact_zeros_of_both_signs_apart_from_small_numbers():
    histogram = Histogram()
    histogram.add(torch.tensor([0.0, -0.0, 1e-30, -1e-30, 0.0]))
    points, counts = histogram.points()
    assert counts[points == 0].sum() == 3
    np.testing.assert_allclose(points[points != 0], [-1e-30, 1e-30], rtol=1e-3)


@pytest.mark.parametrize("kind", ["gauss", "laplace", "relu", "shifted", "skewed", "negative"])
@pytest.mark.parametrize("percentile", [90, 99, 99.9, 99.99])
@pytest.mark.parametrize("size", [7, 1000, 200_000])
def test_percentile_is_numpys_to_a_thousandth(kind, percentile, size):
    x = sample(kind, size)
    low, high = observed(Percentile(ACTIVATIONS, percentile), *x.split(max(size // 3, 1))).range()
    cut = (100 - percentile) / 2
    expected = np.percentile(x.double(), [cut, 100 - cut])
    np.testing.assert_allclose([low, high], expected, rtol=1e-3, atol=1e-6)


def test_percentile_drops_an_outlier_that_is_rare_enough():
    x = sample("gauss", 100_000)
    x[17] = 1e6
    low, high = observed(Percentile(ACTIVATIONS), x).range()
    assert -5 < low < -3
    assert 3 < high < 5


def squared_error(x, low, high, spec):
    return float((x.double() - fake_quantize(x, choose_qparams(low, high, spec)).double()).square().sum())


@pytest.mark.parametrize("kind", ["gauss", "laplace", "relu", "shifted", "skewed", "negative"])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "affine"])
def test_mse_is_within_a_fifth_of_a_decibel_of_a_search_by_brute_force(kind, bits, symmetric):
    x = sample(kind, 2000)
    spec = QSpec(bits, symmetric=symmetric, narrow=symmetric, signed=symmetric)
    found = squared_error(x, *observed(MSE(spec), x).range(), spec)
    low, high = x.min().clamp(max=0), x.max().clamp(min=0)
    shrink = torch.linspace(0.05, 1, 96) if symmetric else torch.linspace(0.05, 1, 20)
    pairs = zip(shrink, shrink, strict=True) if symmetric else torch.cartesian_prod(shrink, shrink)
    best = min(squared_error(x, a * low, b * high, spec) for a, b in pairs)
    assert 10 * math.log10(found / best) <= 0.2
    assert found <= squared_error(x, low, high, spec)


@every_layout
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "affine"])
def test_mse_of_each_channel_is_that_of_the_channel_alone(axis, symmetric):
    x = sample("laplace", 4, 3, 300) * torch.tensor([0.01, 1, 100])[:, None]
    spec = QSpec(4, symmetric=symmetric, axis=axis)
    low, high = observed(MSE(spec), x).range()
    if axis is None:
        assert low.shape == high.shape == ()
        return
    one_channel = QSpec(4, symmetric=symmetric)
    for channel, found in enumerate(zip(low, high, strict=True)):
        data = x.select(axis, channel).flatten()
        alone = observed(MSE(one_channel), data).range()
        # The bins of the histogram are a thousandth wide: the two searches may stop one step apart.
        assert squared_error(data, *found, one_channel) <= 1.02 * squared_error(data, *alone, one_channel)


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_mse_clips_laplace_where_theory_says(bits):
    # Banner et al., 2019, "Post training 4-bit quantization", section 3: error(t) = 2 exp(-t) + t^2 / (3 * 4^bits),
    # where t is the end of the last code's cell, half a step beyond its value.
    t = np.linspace(1, 15, 10_000)
    expected = t[np.argmin(2 * np.exp(-t) + t**2 / (3 * 4.0**bits))]
    observer = observed(MSE(QSpec(bits, symmetric=True)), sample("laplace", 1_000_000))
    assert float(observer.range()[1] + observer.qparams().scale / 2) == pytest.approx(expected, rel=0.03)


def test_mse_keeps_the_outlier_whose_square_outweighs_all_others():
    x = sample("gauss", 10_000)
    x[5] = 1e6
    low, high = observed(MSE(ACTIVATIONS), x).range()
    assert squared_error(x, low, high, ACTIVATIONS) <= squared_error(x, x.min(), x.max(), ACTIVATIONS)
    assert float(high) == pytest.approx(1e6, rel=0.01)


def slow_divergence(bins, size, levels):
    """The pseudo-code of Migacz's slides, element after element."""
    p = [float(count) for count in bins[:size]]
    p[-1] += float(sum(bins[size:]))
    q = [0.0] * size
    for level in range(levels):
        members = [i for i in range(size) if i * levels // size == level]
        occupied = [i for i in members if p[i] > 0]
        for i in occupied:
            q[i] = max(sum(float(bins[j]) for j in members) / len(occupied), 0.5)
    return sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize(("size", "levels"), [(8, 8), (50, 8), (64, 16), (99, 16), (100, 16)])
def test_divergence_is_that_of_the_plain_loops(size, levels):
    bins = torch.bincount((sample("laplace", 3000).abs() * 12).long().clamp(max=99), minlength=100).double()
    assert our_divergence(bins, size, levels) == pytest.approx(slow_divergence(bins.tolist(), size, levels), abs=1e-12)


def test_clipping_everything_away_is_infinitely_bad():
    assert our_divergence(torch.tensor([0.0, 0.0, 5.0]), 2, 1) == math.inf


@pytest.mark.parametrize("kind", ["gauss", "laplace"])
def test_entropy_clips_about_where_onnx_runtime_does(kind):
    calibrate = pytest.importorskip("onnxruntime.quantization.calibrate")
    x = sample(kind, 200_000)
    # Fewer bins than ours: its loops are in Python.
    collector = calibrate.HistogramCollector("entropy", True, 513, 63, None, "same")
    collector.collect({"x": [x.numpy()]})
    theirs = float(collector.get_entropy_threshold(collector.histogram_dict["x"], 63)[1])
    _low, high = observed(Entropy(QSpec(6, symmetric=True, narrow=True)), x).range()
    # Theirs gives all that does not divide evenly to the last level, and clips a little more.
    assert float(high) == pytest.approx(theirs, rel=0.2)
    assert float(high) < 0.95 * float(x.abs().max())


def test_entropy_of_a_rectified_tensor_does_not_depend_on_its_zeros():
    x = sample("gauss", 50_000).abs()
    padded = torch.cat([x, torch.zeros(500_000)])
    assert observed(Entropy(ACTIVATIONS), x).range()[1] == observed(Entropy(ACTIVATIONS), padded).range()[1]


@pytest.mark.parametrize(("outlier", "most"), [(20.0, 5), (200.0, 40), (1e6, 1e6)], ids=["near", "far", "off the bins"])
def test_entropy_clips_an_outlier_as_long_as_its_bins_tell_the_others_apart(outlier, most):
    x = sample("gauss", 10_000)
    x[3] = outlier
    high = float(observed(Entropy(ACTIVATIONS), x).range()[1])
    assert 3 < high <= most
    assert (high == outlier) == (outlier == 1e6)


@pytest.mark.parametrize("name", ["percentile", "mse", "entropy"])
def test_clipping_beats_min_max_on_long_tails_at_four_bits(name):
    x, spec = sample("laplace", 100_000), QSpec(4, signed=False)
    clipped = observed(OBSERVERS[name](spec), x).range()
    assert squared_error(x, *clipped, spec) < 0.8 * squared_error(x, x.min(), x.max(), spec)


def test_clipping_gains_nothing_where_there_are_no_tails():
    x = torch.rand(100_000, generator=torch.Generator().manual_seed(0))
    _low, high = observed(MSE(ACTIVATIONS), x).range()
    assert float(high) == pytest.approx(1, abs=0.01)


@every_observer
@pytest.mark.parametrize("spec", [ACTIVATIONS, WEIGHTS, QSpec(3)], ids=["activations", "weights", "3-bit"])
@pytest.mark.parametrize("value", [0.0, 5.0, -5.0, 1e-30, 1e30])
@pytest.mark.parametrize("shape", [(4, 3, 2), ()], ids=["constant", "one value"])
def test_a_constant_keeps_its_value(name, spec, value, shape):
    observer = observed(OBSERVERS[name](spec), torch.full(shape, value), torch.full(shape, value))
    x, (low, high) = torch.tensor(value), observer.range()
    assert (low.clamp(max=0), high.clamp(min=0)) == (x.clamp(max=0), x.clamp(min=0))
    torch.testing.assert_close(fake_quantize(x, observer.qparams()), x, rtol=1e-6, atol=0)


@every_observer
def test_nothing_observed_is_an_error_and_empty_batches_are_nothing(name):
    observer = observed(OBSERVERS[name](ACTIVATIONS), torch.zeros(0, 3))
    with pytest.raises(EdgelabError, match="ever reached this place"):
        observer.qparams()
    assert observed(observer, torch.tensor([1.0, 2.0]), torch.zeros(0)).range()[1] > 0


@every_observer
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_infinities_and_nan_are_refused_and_not_remembered(name, bad):
    observer = observed(OBSERVERS[name](ACTIVATIONS), torch.tensor([1.0, 2.0]))
    before = observer.range()
    with pytest.raises(EdgelabError, match="infinities or NaN"):
        observer.observe(torch.tensor([0.0, bad, 9.0]))
    assert observer.range() == before


@every_observer
def test_a_huge_outlier_leaves_a_finite_range_that_contains_most_of_the_data(name):
    x = sample("gauss", 10_000)
    x[3] = 1e6
    low, high = observed(OBSERVERS[name](ACTIVATIONS), x[:5000], x[5000:]).range()
    assert -10 < low <= x.quantile(0.01)
    assert x.quantile(0.99) <= high <= 1e6


@every_observer
def test_half_precision_and_any_memory_format_are_observed_alike(name):
    x = sample("gauss", 4, 3, 8, 8).half()
    one = observed(OBSERVERS[name](ACTIVATIONS), x).range()
    other = observed(OBSERVERS[name](ACTIVATIONS), x.float().to(memory_format=torch.channels_last)).range()
    assert one == other


@every_observer
def test_what_was_seen_in_inference_mode_can_be_added_to_outside(name):
    observer = OBSERVERS[name](ACTIVATIONS)
    with torch.inference_mode():
        observer.observe(sample("gauss", 100))
    observer.observe(sample("gauss", 100) * 2)
    low, high = observer.range()
    assert low < 0 < high


@pytest.mark.parametrize("name", ["percentile", "entropy"])
def test_observers_of_a_whole_tensor_refuse_channels(name):
    with pytest.raises(EdgelabError, match="not one for each channel"):
        OBSERVERS[name](QSpec(axis=0))
