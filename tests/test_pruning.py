"""Masks are torch's own where it has the method, and a pruned weight stays zero whatever becomes of the model."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as theirs
from torch.nn.utils.parametrizations import weight_norm

from edgelab import data, models, pruning, train
from edgelab.errors import EdgelabError
from edgelab.pruning import criteria
from edgelab.quantization import calibrate, convert, prepare


@pytest.fixture
def model():
    torch.manual_seed(0)
    return models.resnet((8, 12), num_classes=4)


@pytest.fixture(scope="module")
def lessons():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (96, 3, 8, 8), dtype=torch.uint8, generator=generator)
    return data.Split(images, torch.arange(96) % 4)


def fit(model, lessons, **options):
    return train.fit(model, lessons, **{"epochs": 1, "batch_size": 32, "lr": 0.05, "progress": False, **options})


def test_the_layers_to_prune_are_convolutions_and_linear_layers_in_order(model):
    assert list(pruning.prunable(model)) == [
        "stem.0",
        *("stages.0.body.0.0", "stages.0.body.1.0"),
        *("stages.1.body.0.0", "stages.1.body.1.0", "stages.1.shortcut.0"),
        "classifier",
    ]


@pytest.mark.parametrize("sparsity", [0.0, 0.301, 0.5, 0.999, 1.0])
def test_a_magnitude_mask_is_that_of_torch(sparsity):
    layer = nn.Conv2d(5, 7, 3)
    ours = pruning.magnitude_mask(layer.weight, sparsity)
    theirs.l1_unstructured(layer, "weight", amount=sparsity)
    assert torch.equal(ours, layer.weight_mask.bool())


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.93])
def test_global_masks_are_those_of_torch(model, sparsity):
    ours = pruning.choose_masks(pruning.magnitude(model), sparsity)
    layers = pruning.prunable(model)
    theirs.global_unstructured([(layer, "weight") for layer in layers.values()], theirs.L1Unstructured, amount=sparsity)
    assert ours.keys() == layers.keys()
    assert all(torch.equal(mask, layers[name].weight_mask.bool()) for name, mask in ours.items())


def test_layer_wise_masks_are_those_of_torch_and_each_has_its_share(model):
    ours = pruning.choose_masks(pruning.magnitude(model), 0.6, scope="layer")
    for name, layer in pruning.prunable(model).items():
        theirs.l1_unstructured(layer, "weight", amount=0.6)
        assert torch.equal(ours[name], layer.weight_mask.bool())


def test_random_masks_are_torch_s_for_the_same_seed():
    layer = nn.Conv2d(5, 7, 3)
    ours = pruning.choose_masks(pruning.random(nn.Sequential(layer), seed=3), 0.4)
    torch.manual_seed(3)
    theirs.random_unstructured(layer, "weight", amount=0.4)
    assert torch.equal(ours["0"], layer.weight_mask.bool())


def test_taylor_scores_are_the_slope_of_the_loss_times_the_weight(model, lessons):
    scores = pruning.taylor(model, split=lessons[:32])
    x, y = data.normalize(lessons.images[:32]), lessons.labels[:32]
    model.eval()
    name, place = "stages.1.body.0.0", (3, 2, 1, 0)
    before, losses = float(model.get_submodule(name).weight.detach()[place]), []
    model.double()
    weight = model.get_submodule(name).weight.detach()
    for step in (-1e-4, 1e-4):
        weight[place] = before + step
        losses.append(float(nn.functional.cross_entropy(model(x.double()), y).detach()))
    slope = (losses[1] - losses[0]) / 2e-4
    assert float(scores[name][place]) == pytest.approx(abs(before * slope), rel=1e-3)


def test_taylor_scores_are_a_mean_over_batches(model, lessons):
    halves = [pruning.taylor(model, split=half)["stem.0"] for half in (lessons[:16], lessons[16:32])]
    both = pruning.taylor(model, split=lessons[:32], batch_size=16)["stem.0"]
    torch.testing.assert_close(both, sum(halves) / 2)


def test_movement_is_positive_where_training_moves_a_weight_away_from_zero():
    torch.manual_seed(0)
    layer = nn.Linear(6, 1, bias=False)
    model, weight = nn.Sequential(layer), layer.weight
    before = weight.detach().clone()
    with pruning.movement(model) as scores:
        for _step in range(5):
            model(torch.ones(1, 6)).backward()
            with torch.no_grad():
                weight -= 1e-4 * weight.grad
            weight.grad = None
    away = (weight.abs() - before.abs()).sign()
    assert torch.equal(scores["0"].sign(), away)
    model(torch.ones(1, 6)).backward()
    assert torch.equal(scores["0"].sign(), away), "nothing is counted behind the block"


def test_movement_adds_up_over_a_training(model, lessons):
    with pruning.movement(model) as scores:
        fit(model, lessons)
    assert all(score.abs().sum() > 0 for score in scores.values())
    pruning.apply_masks(model, pruning.choose_masks(scores, 0.5))
    assert pruning.sparsity_of(model) == pytest.approx(0.5, abs=1e-3)


def test_two_of_four_keeps_the_two_largest_of_four_input_channels():
    score = torch.tensor([[1.0, 5.0, 2.0, 4.0, 9.0, 8.0, 7.0, 6.0]])
    mask = pruning.n_m_masks({"layer": score})["layer"]
    assert mask.tolist() == [[False, True, False, True, True, True, False, False]]
    weight = torch.randn(3, 8, 2, 2)
    mask = pruning.n_m_masks({"layer": weight.abs()})["layer"]
    groups = mask.permute(0, 2, 3, 1).reshape(-1, 4)
    assert set(groups.sum(1).tolist()) == {2}
    kept = weight.abs().permute(0, 2, 3, 1).reshape(-1, 4)
    assert torch.all(torch.where(groups, kept, torch.inf).amin(1) >= torch.where(groups, 0.0, kept).amax(1))


def test_a_layer_without_groups_of_four_is_refused_by_name(model):
    with pytest.raises(EdgelabError, match=r"stem\.0 has no groups of 4"):
        pruning.n_m_masks(pruning.magnitude(model))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(EdgelabError, match=r"stem\.0 has no groups of 4"):
        pruning.prune_n_m(model)
    assert before.keys() == model.state_dict().keys()


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2)])
def test_n_of_m_stay_through_a_training_and_what_was_gone_stays_gone(model, lessons, n, m):
    pruning.prune(model, 0.3, skip=("stem.0",))
    before = {name: mask.clone() for name, mask in pruning.masks_of(model).items()}
    fit(pruning.prune_n_m(model, n, m, skip=("stem.0",)), lessons, lr=0.01)
    stem, *others = pruning.prunable(model).items()
    assert (stem[1].weight != 0).all()
    for name, layer in others:
        assert (layer.weight != 0).movedim(1, -1).reshape(-1, m).sum(1).max() == n
        assert not (pruning.masks_of(model)[name] & ~before[name]).any()
    whole = pruning.prune_n_m(models.resnet((8, 12), num_classes=4), n, m, skip=("stem.0",))
    assert all(
        set((layer.weight != 0).movedim(1, -1).reshape(-1, m).sum(1).tolist()) == {n}
        for name, layer in pruning.prunable(whole).items()
        if name != "stem.0"
    )


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda model: pruning.prune(model, 80), "80 is none"),
        (lambda model: pruning.prune(model, -0.1), "-0.1 is none"),
        (lambda model: pruning.prune(model, 0.5, scope="all"), "no scope 'all'"),
        (lambda model: pruning.apply_masks(model, {"head": torch.ones(1)}), "no layer head"),
        (lambda model: pruning.apply_masks(model, {"classifier": torch.ones(4)}), r"shape \(4,\), and its weight \(4,"),
        (lambda model: pruning.prune(nn.ReLU(), 0.5), "nothing to prune"),
        (lambda model: pruning.choose_masks({"a": torch.tensor([torch.nan])}, 0.5), "layer a are not all numbers"),
        (lambda model: pruning.n_m_masks({}, n=5, m=4), "5 of every 4"),
        (lambda model: pruning.n_m_masks({"a": torch.full((1, 4), torch.nan)}), "layer a are not all numbers"),
        (lambda model: pruning.prune(model, 0.5, skip=("stem",)), "no layer stem to skip"),
        (lambda model: pruning.prune(model, 0.5, skip=pruning.prunable(model)), "all of them are left out"),
        (lambda model: pruning.cubic_schedule(4, 80), "80 is none"),
        (lambda model: pruning.cubic_sparsity(1, 0, 0.5), "one step or more"),
        (lambda model: pruning.share_weights(model, 9), "1 to 8 bits"),
        (lambda model: pruning.share_weights(pruning.share_weights(model, 3), 3), "stem.0 is computed already"),
        (lambda model: pruning.kmeans(torch.zeros(0), 2), "one value or more"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(model, wrong, words):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(EdgelabError, match=words):
        wrong(model)
    if "computed" not in words:
        assert before.keys() == model.state_dict().keys()


def test_a_weight_that_two_layers_share_is_refused_by_their_names():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    with pytest.raises(EdgelabError, match="0 and 1 share one weight"):
        pruning.prune(model, 0.5)


def test_masks_survive_training_with_momentum_and_weight_decay(model, lessons):
    fit(model, lessons)  # so that no moment of the optimizer is zero
    pruning.prune(model, 0.7)
    zeros = {name: layer.weight == 0 for name, layer in pruning.prunable(model).items()}
    before = model.classifier.weight.detach().clone()
    fit(model, lessons, weight_decay=0.1, epochs=2)
    assert not torch.equal(before, model.classifier.weight)
    assert all(torch.equal(layer.weight == 0, zeros[name]) for name, layer in pruning.prunable(model).items())
    assert pruning.sparsity_of(model) == pytest.approx(0.7, abs=1e-3)


def test_masks_survive_deepcopy_and_a_round_trip_of_the_state_dict(model):
    pruning.prune(model, 0.6)
    x = torch.randn(2, 3, 8, 8)
    model.eval()(x)
    twin = copy.deepcopy(model)
    pruning.prune(model, 0.9)
    assert pruning.sparsity_of(twin) == pytest.approx(0.6, abs=1e-3), "a copy has masks of its own"
    fresh = pruning.prune(models.resnet((8, 12), num_classes=4), 0.0)
    fresh.load_state_dict(twin.state_dict())
    assert torch.equal(fresh.eval()(x), twin.eval()(x))
    assert all(torch.equal(mask, pruning.masks_of(fresh)[name]) for name, mask in pruning.masks_of(twin).items())


@pytest.mark.parametrize("name", ["magnitude", "random", "taylor"])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_what_is_pruned_stays_pruned_when_more_goes(model, lessons, name, scope):
    criterion = getattr(pruning, name) if name != "taylor" else partial(pruning.taylor, split=lessons[:16])
    pruning.prune(model, 0.5, criterion=criterion, scope=scope)
    before = {name: mask.clone() for name, mask in pruning.masks_of(model).items()}
    pruning.prune(model, 0.7, criterion=criterion, scope=scope)
    pruning.prune(model, 0.8, criterion=partial(pruning.random, seed=9), scope=scope)
    after = pruning.masks_of(model)
    assert pruning.sparsity_of(model) == pytest.approx(0.8, abs=0.01)
    assert all(not (after[name] & ~mask).any() for name, mask in before.items())


def test_layers_to_skip_keep_all_their_weights(model):
    pruning.prune(model, 0.9, skip=("stem.0", "classifier"))
    assert pruning.masks_of(model).keys() == pruning.prunable(model).keys() - {"stem.0", "classifier"}
    assert (model.classifier.weight != 0).all()


def test_without_masks_the_model_is_ordinary_and_computes_the_same(model):
    keys = list(model.state_dict())
    pruning.prune(model, 0.6)
    x = torch.randn(2, 3, 8, 8)
    expected = model.eval()(x)
    pruning.remove_masks(model)
    assert list(model.state_dict()) == sorted(keys, key=list(model.state_dict()).index)
    assert torch.equal(model(x), expected)
    assert pruning.sparsity_of(model) == pytest.approx(0.6, abs=1e-3)
    signs = torch.cat([layer.weight.detach()[layer.weight == 0] for layer in pruning.prunable(model).values()])
    assert not signs.signbit().any(), "no -0.0"


def test_taking_masks_or_sharing_off_a_copy_leaves_the_original_as_it_was(model):
    pruning.prune(model, 0.6)
    pruning.remove_masks(copy.deepcopy(model))
    assert pruning.sparsity_of(model) == pytest.approx(0.6, abs=1e-3)
    pruning.share_weights(model, 3)
    pruning.remove_sharing(copy.deepcopy(model))
    assert len(model.classifier.weight.unique()) <= 8
    pruning.remove_sharing(model)
    assert len(model.classifier.weight.unique()) <= 8


def test_a_weight_that_is_computed_from_several_parameters_is_refused_by_name(model):
    weight_norm(model.stem[0])
    with pytest.raises(EdgelabError, match=r"stem\.0 is computed from several"):
        pruning.prune(model, 0.5)


def test_zeros_stay_zeros_through_quantization_and_training_for_few_bits(model, lessons):
    pruning.remove_masks(pruning.prune(model, 0.7))
    images = data.normalize(lessons.images[:32])
    prepared = calibrate(prepare(model), images)
    pruning.apply_masks(prepared, pruning.zero_masks(prepared))
    fit(prepared, lessons, lr=0.01)
    converted = convert(pruning.remove_masks(prepared))
    assert pruning.sparsity_of(converted) >= 0.69


def test_a_model_with_its_masks_on_can_be_quantized_as_it_is(model, lessons):
    pruning.prune(model, 0.7)
    images = data.normalize(lessons.images[:32])
    masked = convert(calibrate(prepare(model), images))
    bare = convert(calibrate(prepare(pruning.remove_masks(copy.deepcopy(model))), images))
    torch.testing.assert_close(masked(images), bare(images))


def test_the_sensitivity_scan_prunes_one_layer_at_a_time_and_leaves_the_model_as_it_was(model):
    before, seen = copy.deepcopy(model.state_dict()), []

    def score(pruned):
        seen.append(
            {name: (layer.weight == 0).float().mean().item() for name, layer in pruning.prunable(pruned).items()}
        )
        return len(seen)

    scores = pruning.sensitivity(model, score, (0.25, 0.75))
    assert scores["stem.0"] == {0.25: 1, 0.75: 2}
    assert list(scores) == list(pruning.prunable(model))
    for number, shares in enumerate(seen):
        layer, sparsity = list(scores)[number // 2], (0.25, 0.75)[number % 2]
        assert shares.pop(layer) == pytest.approx(sparsity, abs=0.01)
        assert set(shares.values()) == {0.0}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_an_error_in_the_score_leaves_the_model_as_it_was(model):
    before = model.stem[0].weight.detach().clone()
    with pytest.raises(ZeroDivisionError):
        pruning.sensitivity(model, lambda _pruned: 1 / 0)
    assert torch.equal(model.stem[0].weight, before)


def test_the_cubic_schedule_is_that_of_the_paper():
    """Equation 1 of Zhu and Gupta: s_t = s_f + (s_i - s_f)(1 - (t - t_0) / (n Δt))^3, here with t_0 = 0, Δt = 1."""
    assert pruning.cubic_sparsity(0, 10, 0.9, initial=0.5) == 0.5
    assert pruning.cubic_sparsity(5, 10, 0.9, initial=0.5) == pytest.approx(0.9 - 0.4 / 8)
    assert pruning.cubic_sparsity(99, 10, 0.9) == 0.9
    assert pruning.cubic_schedule(4, 0.8)[-1] == 0.8
    steps = pruning.cubic_schedule(6, 0.9)
    gains = [after - before for before, after in zip([0.0, *steps], steps, strict=False)]
    assert gains == sorted(gains, reverse=True)


def test_gradual_pruning_trains_after_each_step(model):
    seen = []
    pruning.prune_gradually(model, [0.3, 0.6, 0.9], lambda pruned: seen.append(pruning.sparsity_of(pruned)))
    assert seen == pytest.approx([0.3, 0.6, 0.9], abs=1e-3)


def test_rewinding_gives_back_early_weights_and_keeps_the_masks(model, lessons):
    early = copy.deepcopy(model.state_dict())
    fit(model, lessons)
    late = model.classifier.weight.detach().clone()
    starts = []

    def note(pruned):
        starts.append(pruned.classifier.weight.detach().clone())
        fit(pruned, lessons)

    pruning.prune_gradually(model, [0.5, 0.8], note, rewind_to=early)
    for start in starts:
        kept = start != 0
        assert torch.equal(start[kept], early["classifier.weight"][kept])
        assert not torch.equal(start[kept], late[kept])
    assert pruning.sparsity_of(model) == pytest.approx(0.8, abs=1e-3)


def test_rewinding_to_another_model_is_refused(model):
    pruning.prune(model, 0.5)
    with pytest.raises(EdgelabError, match="of another model"):
        pruning.rewind(model, models.resnet((8, 16), num_classes=4).state_dict())


def test_k_means_leaves_no_value_nearer_to_another_centroid_and_every_centroid_in_the_middle_of_its_own():
    values = torch.randn(2000, generator=torch.Generator().manual_seed(0))
    codebook, codes = pruning.kmeans(values, 15, steps=500)
    distances = (values[:, None] - codebook).abs()
    assert torch.equal(distances.argmin(1), codes)
    means = torch.stack([values[codes == code].mean() for code in range(15)])
    torch.testing.assert_close(means, codebook, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 7, 15, 40])
def test_k_means_keeps_its_shape_and_a_centroid_without_values_stays(count):
    values = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    codebook, codes = pruning.kmeans(values, count)
    assert codebook.shape == (count,)
    assert codes.shape == values.shape
    assert torch.all(codebook.diff() >= 0)
    assert count == 1 or torch.equal(codebook[codes], values)


def test_shared_weights_are_few_and_zeros_stay_zeros(model):
    pruning.prune(model, 0.5)
    zeros = {name: layer.weight == 0 for name, layer in pruning.prunable(model).items()}
    pruning.share_weights(model, bits=3)
    for name, layer in pruning.prunable(model).items():
        assert torch.equal(layer.weight == 0, zeros[name])
        assert len(layer.weight.unique()) <= 8


def test_training_shared_weights_moves_the_values_and_not_who_shares_them(model, lessons):
    pruning.share_weights(pruning.prune(model, 0.5), bits=3)
    layer = model.stages[0].body[0][0]
    before, weights = layer.parametrizations.weight[0].codes.clone(), layer.weight.detach().clone()
    fit(model, lessons)
    assert torch.equal(layer.parametrizations.weight[0].codes, before)
    assert not torch.equal(layer.weight, weights)
    assert len(layer.weight.unique()) <= 8
    fresh = pruning.share_weights(models.resnet((8, 12), num_classes=4), bits=3)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh.stages[0].body[0][0].weight, layer.weight)


def test_the_gradient_of_a_shared_value_is_the_sum_over_all_who_share_it():
    layer = nn.Linear(6, 4, bias=False)
    pruning.share_weights(nn.Sequential(layer), bits=2)
    weight = layer.weight.detach().clone().requires_grad_()
    x = torch.randn(5, 6)
    layer(x).square().sum().backward()
    nn.functional.linear(x, weight).square().sum().backward()
    codes = layer.parametrizations.weight[0].codes
    sums = torch.stack([weight.grad[codes == code].sum() for code in (1, 2, 3)])
    torch.testing.assert_close(layer.parametrizations.weight.original.grad, sums)


def test_without_sharing_the_model_is_ordinary_and_its_values_are_few(model):
    keys = list(model.state_dict())
    pruning.share_weights(pruning.prune(model, 0.5), bits=4)
    x = torch.randn(2, 3, 8, 8)
    expected = model.eval()(x)
    pruning.remove_sharing(model)
    assert set(model.state_dict()) == set(keys)
    assert model.stem[0].weight.shape == (8, 3, 3, 3)
    assert torch.equal(model(x), expected)
    assert all(len(layer.weight.unique()) <= 16 for layer in pruning.prunable(model).values())


def test_a_layer_of_zeros_can_be_shared():
    layer = nn.Linear(4, 4)
    nn.init.zeros_(layer.weight)
    pruning.share_weights(nn.Sequential(layer), bits=2)
    assert (layer.weight == 0).all()


def test_the_criteria_know_every_layer_of_a_network_that_is_not_ours():
    import torchvision

    model = torchvision.models.mobilenet_v3_small(num_classes=5).eval()
    pruning.prune(model, 0.8)
    x = torch.randn(1, 3, 64, 64)
    expected = model(x)
    pruning.remove_masks(model)
    assert torch.equal(model(x), expected)
    assert criteria.prunable(model).keys() == pruning.magnitude(model).keys()
    assert pruning.sparsity_of(model) == pytest.approx(0.8, abs=1e-3)
