"""DeepThin weights: the torch parametrization and the post-training factorisation."""

import copy

import numpy as np
import pytest
from pydantic import ValidationError

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from models.compression.deepthin import factorise
from models.families.base import linear
from models.families.deepspeech import Gru
from models.training.cli import initial_network
from models.training.config import ConfigError
from models.training.deepthin import DeepThinWeight, parametrize_by_factors, worthwhile
from models.training.network import compress, sizes, weight_names
from models.training.soft_targets import load_run
from models.training.trainer import saved_network
from ops import fastest, training
from ops.costs import CostModel
from ops.errors import GeometryError, LibraryMissingError
from ops.layout import Geometry, inverse_relayout, reconstruct, solve
from tests.training.support import config, network, noise_cache
from tests.training.test_trainer import TRAIN, trainer


@pytest.mark.parametrize("geometry", [solve(64, 48, 0.1), solve(30, 77, 0.2, 2), Geometry(10, 6, 13, 5, 3)])
def test_the_parametrized_weight_is_the_re_layout(geometry):
    layer = torch.nn.Linear(geometry.Q, geometry.R)
    parametrization = DeepThinWeight(geometry, layer.weight.shape, keep=False)
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", parametrization)
    entry = layer.parametrizations["weight"]
    expected = reconstruct(entry.original0.detach().numpy(), entry.original1.detach().numpy(), geometry.Q, geometry.R)
    np.testing.assert_allclose(layer.weight.detach().numpy().T, expected, rtol=1e-5, atol=1e-7)
    layer(torch.randn(3, geometry.Q)).square().sum().backward()
    assert entry.original0.grad.abs().sum() > 0
    assert entry.original1.grad.abs().sum() > 0


@pytest.mark.parametrize("activation", ["", "relu", "sigmoid", "clipped_relu"])
@pytest.mark.parametrize(("size", "rank"), [(0.1, 1), (0.3, 2)])
def test_a_layer_of_factors_is_the_layer_of_the_rebuilt_weight(size, rank, activation):
    geometry = solve(60, 90, size, rank)
    layer = torch.nn.Linear(60, 90)
    parametrize_by_factors(layer, "weight", DeepThinWeight(geometry, layer.weight.shape, keep=False))
    dense = copy.deepcopy(layer).double()
    x = torch.randn(3, 17, 60, requires_grad=True)
    exact = x.detach().double().requires_grad_()
    assert worthwhile(geometry)
    y, expected = linear(layer, x, activation), linear(dense, exact, activation)
    torch.testing.assert_close(y, expected.float(), rtol=0, atol=1e-5)
    weights = torch.randn(3, 17, 90)
    (y * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad, exact.grad.float(), rtol=1e-4, atol=1e-4)
    assert layer.state_dict().keys() == dense.state_dict().keys()
    for (name, ours), theirs in zip(layer.named_parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad.float(), rtol=1e-4, atol=1e-3, msg=name)


def test_a_layer_of_factors_never_builds_its_weight(monkeypatch):
    layer = torch.nn.Linear(60, 90)
    parametrize_by_factors(layer, "weight", DeepThinWeight(solve(60, 90, 0.1), layer.weight.shape, keep=False))
    x = torch.randn(5, 60)
    expected = torch.nn.functional.linear(x, layer.weight, layer.bias)
    monkeypatch.setattr(DeepThinWeight, "forward", None)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("leaves", [("weight_ih", "weight_hh"), ("weight_hh",), ("weight_ih",)])
@pytest.mark.parametrize("rank", [1, 2])
def test_a_recurrent_layer_of_factors_is_that_of_the_rebuilt_weights(rank, leaves):
    layer = Gru(50, 40)
    for leaf in leaves:
        R, Q = getattr(layer, leaf).shape
        parametrize_by_factors(layer, leaf, DeepThinWeight(solve(Q, R, 0.1 * rank, rank), (R, Q), keep=False))
    torch.nn.init.normal_(layer.bias_ih)
    torch.nn.init.normal_(layer.bias_hh)
    dense = copy.deepcopy(layer).double()
    x = torch.randn(3, 17, 50, requires_grad=True)
    exact = x.detach().double().requires_grad_()
    y, expected = layer(x), dense(exact)
    torch.testing.assert_close(y, expected.float(), rtol=0, atol=1e-5)
    weights = torch.randn(3, 17, 40)
    (y * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(x.grad, exact.grad.float(), rtol=1e-4, atol=1e-4)
    for (name, ours), theirs in zip(layer.named_parameters(), dense.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad.float(), rtol=1e-4, atol=1e-3, msg=name)


def test_a_recurrent_layer_of_factors_never_builds_its_weights(monkeypatch):
    layer = Gru(50, 40)
    for leaf in ("weight_ih", "weight_hh"):
        R, Q = getattr(layer, leaf).shape
        parametrize_by_factors(layer, leaf, DeepThinWeight(solve(Q, R, 0.1), (R, Q), keep=False))
    x = torch.randn(2, 9, 50)
    expected = Gru.recur(layer, Gru.project(layer, x.transpose(0, 1))).transpose(0, 1)
    monkeypatch.setattr(DeepThinWeight, "forward", None)
    y = layer(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-5)
    y.sum().backward()


def test_a_large_rank_takes_the_rebuilt_weight():
    assert not worthwhile(solve(60, 90, 0.9, 6))
    assert worthwhile(solve(1024, 1024, 0.02))
    geometry = solve(60, 90, 0.9, 6)
    layer = torch.nn.Linear(60, 90)
    parametrize_by_factors(layer, "weight", DeepThinWeight(geometry, layer.weight.shape, keep=False))
    x = torch.randn(5, 60)
    assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))


def test_without_the_library_the_weight_is_rebuilt(monkeypatch):
    geometry = solve(60, 90, 0.1)
    layer = torch.nn.Linear(60, 90)
    parametrize_by_factors(layer, "weight", DeepThinWeight(geometry, layer.weight.shape, keep=False))
    x = torch.randn(5, 60)
    expected = layer(x)

    def missing():
        raise LibraryMissingError

    monkeypatch.setattr(training, "load", missing)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)


def test_names_of_the_parameters_are_those_of_a_parametrized_linear():
    ours, plain = torch.nn.Linear(60, 90), torch.nn.Linear(60, 90)
    weight = DeepThinWeight(solve(60, 90, 0.1), plain.weight.shape, keep=False)
    parametrize_by_factors(ours, "weight", weight)
    torch.nn.utils.parametrize.register_parametrization(plain, "weight", weight)
    assert list(ours.state_dict()) == list(plain.state_dict())
    torch.nn.utils.parametrize.remove_parametrizations(ours, "weight")
    assert list(ours.state_dict()) == ["weight", "bias"] or list(ours.state_dict()) == ["bias", "weight"]
    x = torch.randn(5, 60)
    assert torch.equal(ours(x), torch.nn.functional.linear(x, ours.weight, ours.bias))


def test_random_factors_keep_the_scale_of_the_weight():
    layer = torch.nn.Linear(400, 300)
    torch.nn.init.normal_(layer.weight, std=0.05)
    parametrization = DeepThinWeight(solve(400, 300, 0.05), layer.weight.shape, keep=False)
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", parametrization)
    assert float(layer.weight.detach().std()) == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize(("n", "rank"), [(7, 1), (7, 3), (60, 2), (999, 2)])
def test_factorise_is_as_good_as_the_truncated_svd(n, rank):
    weight = np.random.default_rng(0).normal(size=(40, 25))
    geometry = Geometry(40, 25, -(-1000 // n), n, rank)
    factors = factorise(weight, geometry)
    u, s, v = np.linalg.svd(inverse_relayout(weight, n), full_matrices=False)
    best = (u[:, :rank] * s[:rank]) @ v[:rank]
    np.testing.assert_allclose(factors.Xf @ factors.Wf, best, atol=1e-9)
    error = np.linalg.norm(reconstruct(factors.Xf, factors.Wf, 40, 25) - weight) / np.linalg.norm(weight)
    # The surplus values are approximated too, so the error within the matrix is at most the one reported.
    assert error <= factors.relative_error + 1e-9
    assert factors.relative_error == pytest.approx(np.sqrt(np.square(s[rank:]).sum() / np.square(s).sum()), abs=1e-7)


def test_factorise_of_nothing_is_nothing():
    factors = factorise(np.zeros((6, 5)), Geometry(6, 5, 6, 5, 1))
    assert not np.any(factors.Xf @ factors.Wf)
    assert factors.relative_error == 0


def test_starting_from_a_weight_keeps_what_can_be_kept():
    settings = config("tfkaldi")
    net = network(settings)
    geometry = solve(net.hidden[1].in_features, net.hidden[1].out_features, 0.2)
    weight = net.hidden[1].weight.detach().numpy().T.copy()
    rules = config("tfkaldi", 0.2).compress
    compress(net, tuple(r.model_copy(update={"pattern": "hidden.1.weight"}) for r in rules), keep=True)
    expected = factorise(weight, geometry)
    np.testing.assert_allclose(
        net.hidden[1].weight.detach().numpy().T, reconstruct(expected.Xf, expected.Wf, *weight.shape), atol=1e-6
    )


@pytest.mark.parametrize("family", ["tfkaldi", "deepspeech"])
def test_sizes_count_factors_and_what_they_replace(family):
    dense = network(config(family))
    thin = network(config(family, 0.3))
    stored, dense_values, parameters, dense_parameters = sizes(thin)
    assert dense_values == sum(p.numel() for p in dense.parameters() if p.dim() >= 2)
    assert dense_parameters == sum(p.numel() for p in dense.parameters())
    assert parameters == sum(p.numel() for p in thin.parameters())
    assert stored < dense_values * 0.6


def test_a_rule_that_matches_nothing_is_an_error():
    net = network(config("tfkaldi"))
    rules = config("tfkaldi", 0.3).compress
    with pytest.raises(ConfigError, match=r"matches no weight.*hidden\.0\.weight"):
        compress(net, tuple(r.model_copy(update={"pattern": "hiden.*"}) for r in rules), keep=False)


def test_a_size_that_a_weight_cannot_have_is_an_error():
    with pytest.raises(GeometryError, match="smallest reachable"):
        network(config("tfkaldi", 1e-6))


def test_the_last_matching_rule_decides():
    settings = config(
        "tfkaldi",
        compress=[
            {"pattern": "*weight", "size": 0.3},
            {"pattern": "output.weight", "method": "dense"},
        ],
    )
    names = [name for name, _ in network(settings).named_parameters()]
    assert "output.weight" in names
    assert "hidden.0.weight" not in names
    assert "hidden.0.weight" in weight_names(network(config("tfkaldi")))


def test_the_geometry_of_least_time_is_chosen_once(tmp_path, monkeypatch):
    """A run goes on, and is loaded, with the geometry that it was started with, whatever the processor there is."""
    only_band, only_correlation = (0.0, 0.0, 0.0, 1e-9), (0.0, 1e-9, 1e-9, 0.0)
    settings = config("tfkaldi", compress=[{"pattern": "hidden.*.weight", "size": 0.3, "rank": "fastest"}], train=TRAIN)
    monkeypatch.setattr(fastest, "cost_model", lambda: CostModel(only_band, only_band))
    first = initial_network(settings)
    shapes = {name: value.shape for name, value in first.state_dict().items()}
    cache = noise_cache(tmp_path)
    started = trainer(tmp_path / "run", cache, settings)
    assert {name: value.shape for name, value in started.net.state_dict().items()} == shapes
    started.save()
    monkeypatch.setattr(fastest, "cost_model", lambda: CostModel(only_correlation, only_correlation))
    assert {name: value.shape for name, value in initial_network(settings).state_dict().items()} != shapes
    again = initial_network(settings, saved_network(tmp_path / "run"))
    assert {name: value.shape for name, value in again.state_dict().items()} == shapes
    assert {name: value.shape for name, value in load_run(tmp_path / "run").state_dict().items()} == shapes
    assert saved_network(tmp_path / "none") is None


def test_other_methods_choose_no_rank_by_time():
    with pytest.raises(ValidationError, match="low-rank cannot choose its rank"):
        config("tfkaldi", compress=[{"pattern": "*weight", "method": "low-rank", "rank": "fastest"}])
