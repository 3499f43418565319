"""The same-size network: one narrowed matrix, and narrowed chains of layers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.compression.base import Calibration, CompressionError, SizeError, StreamError
from models.compression.coding import encode_arrays
from models.compression.narrowing import ChainLayer, Inputs, narrow, plan_chain, refit, select
from models.compression.same_size import SameSize
from tests.compression import contract
from tests.compression.contract import correlated, weight

METHOD = SameSize()


def test_the_whole_range_can_be_had() -> None:
    contract.check_reaches(METHOD, 64, 96, within=0.2, start=20.0)
    plan = METHOD.plan(1024, 512, 0.02)
    assert plan.relative_size > 0.0199
    assert 1 / 1.2 < int(plan.geometry["q"]) / 1024 / (int(plan.geometry["r"]) / 512) < 1.2


def test_a_stream_with_a_wrong_place_is_refused() -> None:
    plan = METHOD.plan(20, 10, 0.3)
    compressed = METHOD.compress(weight(20, 10), plan)
    for key, beyond in (("inputs", 20), ("outputs", 10)):
        arrays = {**compressed.arrays, key: np.full_like(compressed.arrays[key], beyond)}
        with pytest.raises(StreamError, match=f"{key} of the stream"):
            METHOD.decode(encode_arrays(arrays), plan)


def test_selection_is_greedily_best() -> None:
    """Every step picks the input whose addition, with all the weights refitted, leaves the smallest error."""
    Q, R = 9, 6
    W, H = weight(Q, R), correlated(Q)[1].damped()

    def error(kept: list[int]) -> float:
        V = np.zeros((Q, R))
        V[sorted(kept)] = refit(W, H, np.array(sorted(kept)))
        return float(np.trace((W - V).T @ H @ (W - V)))

    chosen: list[int] = []
    for count in range(1, 6):
        chosen.append(min((q for q in range(Q) if q not in chosen), key=lambda q: error([*chosen, q])))
        np.testing.assert_array_equal(select(W, H, count), sorted(chosen))


@settings(max_examples=80, deadline=None)
@given(
    units=st.lists(st.integers(1, 30), min_size=2, max_size=5),
    taps=st.lists(st.integers(1, 3), min_size=5, max_size=5),
    wish=st.floats(0.0, 1.2),
)
def test_chain_plans_are_exact_and_full(units: list[int], taps: list[int], wish: float) -> None:
    windows = [1, *taps[1 : len(units) - 1]]
    shapes = [(t * q, r) for t, q, r in zip(windows, units, units[1:], strict=False)]
    total = sum(Q * R for Q, R in shapes)
    try:
        plan = plan_chain(shapes, wish)
    except SizeError as error:
        smallest = float(str(error).split("reaches ")[1].split(" to")[0])
        assert wish < smallest * (1 + 1e-5)
        return
    narrowed = narrow([ChainLayer(weight(Q, R)) for Q, R in shapes], plan)
    assert plan.disk_bytes == sum(layer.weight.nbytes for layer in narrowed.layers)
    assert plan.relative_size == plan.disk_bytes / (4 * total)
    assert plan.relative_size <= min(wish, 1.0) * (1 + 1e-9)
    assert plan.widths[-1] == units[-1]
    for layer, window in enumerate(windows[1:]):
        if plan.widths[layer] == units[layer + 1]:
            continue
        # One more unit would not fit.
        before = shapes[0][0] if layer == 0 else windows[layer] * plan.widths[layer - 1]
        more = 4 * (before + window * plan.widths[layer + 1])
        assert plan.disk_bytes + more > min(wish, 1.0) * 4 * total


def chain(seed: int = 0) -> tuple[list[ChainLayer], list[int]]:
    """Three layers, the second reading two frames of the first."""
    rng = np.random.default_rng(seed)
    shapes, taps = [(10, 24), (48, 20), (20, 6)], [1, 2, 1]
    layers = []
    for Q, R in shapes:
        W = (rng.standard_normal((Q, 6)) @ rng.standard_normal((6, R)) / np.sqrt(Q)).astype(np.float32)
        layers.append(ChainLayer(W, rng.standard_normal(R).astype(np.float32)))
    return layers, taps


def forward(
    layers: tuple[ChainLayer, ...] | list[ChainLayer], taps: list[int], x: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.floating], list[npt.NDArray[np.floating]]]:
    """The last layer's output and the inputs of every layer, for frames x [frames, Q]."""
    inputs = []
    hidden: npt.NDArray[np.floating] = x
    for number, (layer, count) in enumerate(zip(layers, taps, strict=True)):
        hidden = np.concatenate([hidden[t : len(hidden) - count + 1 + t] for t in range(count)], axis=1)
        inputs.append(hidden)
        hidden = hidden @ layer.weight + (0 if layer.bias is None else layer.bias)
        if number < len(layers) - 1:
            hidden = 1 / (1 + np.exp(-hidden))
    return hidden, inputs


def moments(values: list[npt.NDArray[np.floating]]) -> list[Inputs | None]:
    return [
        Inputs(Calibration(x.astype(np.float64).T @ x / len(x), len(x)), x.mean(axis=0, dtype=np.float64))
        for x in values
    ]


def test_a_narrowed_chain_keeps_its_output_where_the_data_say_how() -> None:
    layers, taps = chain()
    x = np.random.default_rng(3).standard_normal((800, 10)).astype(np.float32)
    whole, inputs = forward(layers, taps, x)
    plan = plan_chain([(len(layer.weight), layer.weight.shape[1]) for layer in layers], 0.4)
    errors = {}
    for name, known in (("data", moments(inputs)), ("weights", None)):
        narrowed = narrow(layers, plan, known)
        assert [layer.weight.shape[1] for layer in narrowed.layers] == list(plan.widths)
        for before, layer, count in zip(narrowed.layers, narrowed.layers[1:], taps[1:], strict=False):
            assert len(layer.weight) == count * before.weight.shape[1]
            assert before.bias is not None and len(before.bias) == before.weight.shape[1]
        found, _ = forward(narrowed.layers, taps, x)
        errors[name] = np.linalg.norm(found - whole) / np.linalg.norm(whole - whole.mean(axis=0))
    assert errors["data"] < 0.5 * errors["weights"]
    assert errors["data"] < 0.35


def test_copies_of_a_unit_go_without_loss() -> None:
    """Half the units are copies of the others: with data the narrowed network is the same function."""
    layers, taps = chain(4)
    first, second, last = layers
    twice = [
        ChainLayer(np.concatenate([first.weight] * 2, axis=1), np.concatenate([first.bias, first.bias])),
        ChainLayer(np.concatenate([np.concatenate([tap, tap]) for tap in np.split(second.weight, 2)]), second.bias),
        last,
    ]
    x = np.random.default_rng(5).standard_normal((900, 10)).astype(np.float32)
    whole, inputs = forward(twice, taps, x)
    size = sum(layer.weight.size for layer in layers) / sum(layer.weight.size for layer in twice)
    plan = plan_chain([layer.weight.shape for layer in twice], size)
    plan = type(plan)((24, 20, 6), plan.disk_bytes, plan.relative_size)
    narrowed = narrow(twice, plan, moments(inputs))
    # Damping lets a copy in where the last original hardly adds anything.
    assert len({unit % 24 for unit in narrowed.kept[0]}) >= 22
    found, _ = forward(narrowed.layers, taps, x)
    assert np.abs(found - whole).max() < 0.05 * np.std(whole)


def test_the_full_size_changes_nothing() -> None:
    layers, taps = chain()
    x = np.random.default_rng(3).standard_normal((50, 10)).astype(np.float32)
    _, inputs = forward(layers, taps, x)
    plan = plan_chain([layer.weight.shape for layer in layers], 1.0)
    for known in (None, moments(inputs)):
        for before, after in zip(layers, narrow(layers, plan, known).layers, strict=True):
            np.testing.assert_array_equal(before.weight, after.weight)
            np.testing.assert_array_equal(before.bias, after.bias)


def test_what_is_no_chain_is_refused() -> None:
    with pytest.raises(CompressionError, match="does not follow"):
        plan_chain([(4, 5), (6, 3)], 0.5)
    with pytest.raises(CompressionError, match="at least one layer"):
        plan_chain([], 0.5)
    with pytest.raises(SizeError, match=r"10 -> 24 -> 20 -> 6 to relative size 0.001: it reaches"):
        plan_chain([(10, 24), (48, 20), (20, 6)], 0.001)
    layers, _ = chain()
    with pytest.raises(CompressionError, match="a plan for 2 layers"):
        narrow(layers, plan_chain([(10, 24), (24, 6)], 0.5))
