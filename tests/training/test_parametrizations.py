"""The trainable forms of compressed weights: exact both ways, and their gradients."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from torch.nn.utils import parametrize

from models.compression.base import CompressionError, Plan
from models.compression.deepthin import geometry_of
from models.compression.registry import METHODS, method
from models.training.deepthin import reconstruct
from models.training.gathering import gathered, permuted, placed
from models.training.parametrizations import PARAMETRIZATIONS, parametrization

Q, R = 48, 36
SIZES = {"int8": 0.3, "int4": 0.25, "dense": 1.0}


def weight(seed=0):
    """A matrix with some structure and some noise."""
    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=(Q, 4)) @ rng.normal(size=(4, R))
    return (0.1 * smooth + 0.05 * rng.normal(size=(Q, R))).astype(np.float32)


def compressed(name, seed=0):
    chosen = method(name)
    if name == "separable-conv":
        return chosen.compress(weight(seed), chosen.plan_conv((R, Q // 6, 3, 2), 0.25))
    return chosen.compress(weight(seed), chosen.plan(Q, R, SIZES.get(name, 0.25)))


def layer(name, inputs_first, seed=0):
    """A linear layer whose weight is compressed, its parametrization and the trained values."""
    linear = torch.nn.Linear(R, Q) if inputs_first else torch.nn.Linear(Q, R)
    form = parametrization(compressed(name, seed), linear.weight.shape, inputs_first=inputs_first)
    parametrize.register_parametrization(linear, "weight", form)
    values = list(linear.parametrizations["weight"].parameters())
    return linear, form, values


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("inputs_first", [False, True])
def test_the_weight_is_the_decompressed_one(name, inputs_first):
    linear, form, _ = layer(name, inputs_first)
    expected = method(name).decompress(form.compressed)
    found = linear.weight.detach().numpy()
    np.testing.assert_allclose(found if inputs_first else found.T, expected, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_untrained_values_give_the_very_same_arrays(name):
    _, form, values = layer(name, False)
    again = form.finish(values, weight())
    assert again.plan == form.compressed.plan
    assert list(again.arrays) == list(form.compressed.arrays)
    for key, array in form.compressed.arrays.items():
        assert again.arrays[key].dtype == array.dtype
        assert again.arrays[key].shape == array.shape
        np.testing.assert_array_equal(again.arrays[key], array)
    assert again.relative_error == pytest.approx(form.compressed.relative_error, rel=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_training_brings_the_weight_closer_in_as_many_bytes(name):
    linear, form, values = layer(name, False)
    target = torch.from_numpy(weight(seed=1)).t()
    optimiser = torch.optim.Adam(values, lr=0.01)
    first = (linear.weight - target).square().mean().item()
    for _ in range(60):
        optimiser.zero_grad()
        (linear.weight - target).square().mean().backward()
        optimiser.step()
    assert (linear.weight - target).square().mean().item() < 0.95 * first
    trained = form.finish(values, weight())
    assert sum(array.nbytes for array in trained.arrays.values()) == form.compressed.plan.disk_bytes
    np.testing.assert_allclose(method(name).decompress(trained), linear.weight.detach().numpy().T, atol=1e-6)
    stream = method(name).encode(trained)
    for key, array in method(name).decode(stream, trained.plan).items():
        np.testing.assert_array_equal(array, trained.arrays[key])


@pytest.mark.parametrize("name", METHODS)
def test_gradients_are_those_of_an_explicit_reconstruction(name):
    """Each trained value's gradient is the inner product of the weight's with what the weight gains by it."""
    linear, form, values = layer(name, False)
    pull = torch.from_numpy(np.random.default_rng(3).normal(size=(R, Q)).astype(np.float32))
    (linear.weight * pull).sum().backward()
    rounded = name.startswith("int")
    rng = np.random.default_rng(4)
    for position, value in enumerate(values):
        for _ in range(6):
            place = tuple(int(rng.integers(size)) for size in value.shape)
            if rounded:  # passed through the rounding as it is
                assert float(value.grad[place]) == float(pull.t()[place])
                continue
            changed = [v.detach().double() for v in values]
            changed[position] = changed[position].clone()
            changed[position][place] += 1.0
            double = form.double()
            # Where values are rounded, the gradient is that of the rounded ones, passed through.
            exact = _product if name in ("deepthin-float16", "deepthin-int8") else type(form).matrix
            gain = exact(double, *changed) - exact(double, *[v.detach().double() for v in values])
            expected = float((gain * pull.double().t()).sum())
            assert float(value.grad[place]) == pytest.approx(expected, rel=1e-4, abs=1e-5)
        form.float()


def _product(form, Wf, Xf):
    return reconstruct(Xf, Wf, geometry_of(form.compressed.plan))


@pytest.mark.parametrize("name", [n for n in METHODS if hasattr(PARAMETRIZATIONS[n], "product")])
def test_a_product_from_the_factors_is_that_with_the_matrix(name):
    _, form, values = layer(name, False)
    x = torch.randn(3, 2, Q, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(form.product(x, *values), x @ form.matrix(*values), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_a_saved_state_is_taken_up_by_another_weights_form(name):
    """What is sparse in one weight need not be in another: the places are part of the state."""
    linear, _, _ = layer(name, False)
    other, form, values = layer(name, False, seed=7)
    other.load_state_dict(linear.state_dict())
    torch.testing.assert_close(other.weight, linear.weight)
    expected = method(name).decompress(form.finish(values, weight()))
    np.testing.assert_allclose(linear.weight.detach().numpy().T, expected, atol=1e-6)


def test_every_method_of_one_matrix_can_be_trained():
    assert set(METHODS) == set(PARAMETRIZATIONS)


def test_a_method_that_cannot_be_trained_is_named():
    made = compressed("dense")
    unknown = type(made)(Plan("magic", Q, R, made.plan.disk_bytes), made.arrays, 0.0)
    with pytest.raises(CompressionError, match=r"'magic' cannot be trained: use .*low-rank"):
        parametrization(unknown, (R, Q), inputs_first=False)


def test_the_gradient_of_a_shared_value_is_the_sum_over_its_members():
    values = torch.randn(5, dtype=torch.double, requires_grad=True)
    index = torch.tensor([[0, 4, 4], [1, 0, 4]])
    pull = torch.randn(2, 3, dtype=torch.double)
    (gathered(values, index) * pull).sum().backward()
    expected = [float(pull[index == k].sum()) for k in range(5)]
    np.testing.assert_allclose(values.grad.numpy(), expected, rtol=1e-12)
    assert values.grad[2] == values.grad[3] == 0
    torch.autograd.gradcheck(lambda v: gathered(v, index).sin(), (values,))


def test_the_gradients_of_scattered_values():
    values = torch.randn(4, dtype=torch.double, requires_grad=True)
    places = torch.tensor([5, 0, 3, 2])
    torch.autograd.gradcheck(lambda v: placed(v, places, 7).sin(), (values,))
    assert placed(values, places, 7)[[1, 4, 6]].abs().sum() == 0
    more = torch.randn(6, dtype=torch.double, requires_grad=True)
    torch.autograd.gradcheck(lambda v: permuted(v, places).sin(), (more,))
