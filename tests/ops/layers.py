"""Training by the compiled library on NumPy arrays, and the same by its definition in double precision."""

import numpy as np

from ops import training
from ops.layout import Geometry, reconstruct, solve

GEOMETRIES = [
    Geometry(64, 96, 879, 7),
    Geometry(100, 133, 430, 31, 2),
    Geometry(37, 65, 700, 4, 3),  # surplus entries: 2800 values for 2405
    Geometry(48, 64, 256, 12),  # n not coprime to Q
    Geometry(20, 30, 8, 77),  # n above Q
    Geometry(9, 4, 1, 50, 2),  # n above Q * R, unused phases
    Geometry(1, 5, 2, 3),
    Geometry(5, 1, 2, 3),
    Geometry(1, 1, 1, 1),
    solve(130, 70, 0.06),
]


def address(array):
    return array.ctypes.data


def forward(geometry, Xf, Wf, bias, x, **options):
    y = np.full((len(x), geometry.R), np.nan, np.float32)
    offset = None if bias is None else address(bias)
    training.forward(geometry, address(Xf), address(Wf), offset, address(x), len(x), address(y), **options)
    return y


def transposed(geometry, Xf, Wf, dy, **options):
    dx = np.full((len(dy), geometry.Q), np.nan, np.float32)
    training.transposed(geometry, address(Xf), address(Wf), address(dy), len(dy), address(dx), **options)
    return {"x": dx}


def backward(geometry, Xf, Wf, x, y, dy, *, inputs=True, **options):
    found = {
        "x": np.full_like(x, np.nan),
        "Xf": np.full_like(Xf, np.nan),
        "Wf": np.full_like(Wf, np.nan),
        "bias": np.full(geometry.R, np.nan, np.float32),
    }
    to = training.Gradients(
        address(found["Xf"]), address(found["Wf"]), address(found["x"]) if inputs else None, address(found["bias"])
    )
    outputs = None if y is None else address(y)
    arguments = (address(Xf), address(Wf), address(x), outputs, address(dy), len(x), to)
    training.backward(geometry, *arguments, **options)
    if not inputs:
        del found["x"]
    return found


def reference(geometry, Xf, Wf, x, dy):
    """Gradients in double precision: the dense ones, then through W_aux = Xf · Wf without its surplus."""
    Xf, Wf, x, dy = (a.astype(np.float64) for a in (Xf, Wf, x, dy))
    W = reconstruct(Xf, Wf, geometry.Q, geometry.R)
    dW_aux = np.zeros(geometry.m * geometry.n)
    dW_aux[: W.size] = (x.T @ dy).T.reshape(-1)
    dW_aux = dW_aux.reshape(geometry.m, geometry.n)
    return {"x": dy @ W.T, "Xf": dW_aux @ Wf.T, "Wf": Xf.T @ dW_aux, "bias": dy.sum(0)}


def values(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def layer(geometry, rows, seed=0):
    rng = np.random.default_rng(seed)
    scale = np.float32((geometry.Q * geometry.r) ** -0.5)
    Xf, Wf = values(rng, geometry.m, geometry.r) * scale, values(rng, geometry.r, geometry.n)
    return Xf, Wf, values(rng, geometry.R), values(rng, rows, geometry.Q), values(rng, rows, geometry.R)


def check(found, geometry, Xf, Wf, x, dy):
    """Every gradient to within rounding of the sum of its terms' magnitudes."""
    expected = reference(geometry, Xf, Wf, x, dy)
    magnitudes = reference(geometry, *(np.abs(a) for a in (Xf, Wf, x, dy)))
    for name, value in found.items():
        error = np.abs(value - expected[name])
        assert (error <= 3e-6 * magnitudes[name] + 1e-30).all(), (name, error.max(initial=0))


def ctc(log_probs, lengths, sequences):
    """Losses [batch] and gradient of the library."""
    labels = np.array([label for sequence in sequences for label in sequence], np.int64)
    lengths, label_lengths = (np.array(n, np.int64) for n in (lengths, [len(sequence) for sequence in sequences]))
    losses, gradient = np.full(len(sequences), np.nan), np.full_like(log_probs, np.nan)
    arrays = (lengths, labels, label_lengths, losses, gradient)
    training.ctc(address(log_probs), log_probs.shape, *map(address, arrays))
    return losses, gradient


def ctc_reference(log_probs, lengths, sequences):
    """The same by the recursions of Graves et al. (ICML 2006), state by state."""
    losses, gradient = np.zeros(len(sequences)), np.zeros(log_probs.shape)
    for index, (frames, sequence) in enumerate(zip(lengths, sequences, strict=True)):
        states = [0] + [unit for label in sequence for unit in (label, 0)]
        rows = log_probs[index, :frames, states].T.astype(np.float64)
        forward = _lattice(rows, states)
        backward = _lattice(rows[::-1, ::-1], states[::-1])[::-1, ::-1]
        likelihood = np.logaddexp.reduce(forward[-1, -2:])
        if likelihood == -np.inf:
            continue
        losses[index] = -likelihood
        for state, unit in enumerate(states):
            gradient[index, :frames, unit] -= np.exp(forward + backward - rows - likelihood)[:, state]
    return losses, gradient


def _lattice(rows, states):
    """Log probability [frames, states] of all ways into each state, its own emission included."""
    reached = np.full(rows.shape, -np.inf)
    reached[0, :2] = rows[0, :2]
    for t in range(1, len(rows)):
        for s, unit in enumerate(states):
            first = s - 2 if s > 1 and unit and unit != states[s - 2] else s - 1
            reached[t, s] = np.logaddexp.reduce(reached[t - 1, max(first, 0) : s + 1]) + rows[t, s]
    return reached


def utterances(lengths, label_counts, units, scale=1.0, seed=0):
    """Random log probabilities [batch, frames, units] and label sequences."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((len(lengths), max(lengths), units))
    log_probs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return log_probs.astype(np.float32), [rng.integers(1, units, count).tolist() for count in label_counts]
