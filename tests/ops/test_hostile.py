"""Arrays that stand for no matrix: a clear error when the session is made, never a crash or a read out of bounds."""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops import graph
from ops.errors import FormatError
from ops.library import session
from ops.weights import codebook_csr_weight, codebook_weight, csr_weight
from tests.ops.operators import REFUSED, matrix_model

examples = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def floats(*values: float) -> Any:
    return np.array(values, np.float32)


def bytes_of(*values: int) -> Any:
    return np.array(values, np.uint8)


def narrow(*values: int) -> Any:
    return np.array(values, np.uint16)


def numbers(*values: int) -> Any:
    return np.array(values, np.int32)


GOOD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "CsrMatMul": ({"values": floats(1, 2), "inputs": narrow(2, 0), "starts": numbers(0, 1, 2)}, {}),
    "CodebookMatMul": ({"codebook": floats(0.5, 1, 2), "indices": bytes_of(0b100100, 0b000110)}, {"bits": 2}),
    "CodebookCsrMatMul": (
        {
            "codebook": floats(0, 1, 2),
            "symbols": bytes_of(0b1001),
            "gaps": bytes_of(0b000010),
            "starts": numbers(0, 1, 2),
        },
        {"value_bits": 2, "gap_bits": 3},
    ),
    "HashedMatMul": ({"values": floats(1, 2)}, {"seed": 1}),
    "DeepThinMatMul": ({"Xf": np.ones((3, 1), np.float32), "Wf": np.ones((1, 2), np.float32)}, {"shuffle": 5}),
}


def build(op: str, Q: int = 3, R: int = 2, **changes: Any) -> None:
    inputs, attributes = GOOD[op]
    changed = {name: changes.pop(name, array) for name, array in inputs.items()}
    session(matrix_model(op, Q, R, changed, **attributes | changes))


@pytest.mark.parametrize("op", GOOD)
def test_the_smallest_model_builds(op: str) -> None:
    build(op)


@pytest.mark.parametrize(
    ("op", "changes", "message"),
    [
        ("CsrMatMul", {"values": floats(1)}, "values must have 2 values"),
        ("CsrMatMul", {"inputs": narrow(2)}, "inputs must have 2 values"),
        ("CsrMatMul", {"inputs": narrow(2, 3)}, "entry 1 is at input 3, and Q is 3"),
        ("CsrMatMul", {"inputs": numbers(2, -1)}, "entry 1 is at input -1"),
        ("CsrMatMul", {"inputs": floats(2, 1)}, "inputs must be of type uint16 or int32"),
        ("CsrMatMul", {"inputs": narrow(2, 1)[None]}, "inputs must have one axis"),
        ("CsrMatMul", {"starts": numbers(0, 2)}, "starts must have 3 values"),
        ("CsrMatMul", {"starts": numbers(1, 1, 2)}, "starts must begin with 0"),
        ("CsrMatMul", {"starts": numbers(0, 3, 2)}, "starts must not fall"),
        ("CsrMatMul", {"starts": numbers(0, 1, -2)}, "starts must not fall"),
        ("CsrMatMul", {"starts": numbers(0, 1, 2**31 - 1)}, "values must have 2147483647 values"),
        ("CsrMatMul", {"starts": np.array([0, 1, 2])}, "tensor\\(int64\\)"),
        ("CsrMatMul", {"Q": 0}, "Q must be between 1"),
        ("CsrMatMul", {"R": -1}, "R must be between 1"),
        ("CsrMatMul", {"activation": "gelu"}, "activation must be"),
        ("CodebookMatMul", {"codebook": floats()}, "codebook must have 1 to 256 values, not 0"),
        ("CodebookMatMul", {"codebook": np.ones(257, np.float32)}, "1 to 256 values, not 257"),
        ("CodebookMatMul", {"codebook": floats(1, 2)}, "an index is 2, and the codebook has 2"),
        ("CodebookMatMul", {"indices": bytes_of(0)}, "indices must have 2 values"),
        ("CodebookMatMul", {"indices": bytes_of(0, 0, 0)}, "indices must have 2 values"),
        ("CodebookMatMul", {"indices": bytes_of(0b110000, 0)}, "an index is 3, and the codebook has 3"),
        ("CodebookMatMul", {"indices": numbers(0, 0)}, "tensor\\(int32\\)"),
        ("CodebookMatMul", {"bits": 0}, "bits must be between 1 and 8, not 0"),
        ("CodebookMatMul", {"bits": 9}, "bits must be between 1 and 8, not 9"),
        ("CodebookMatMul", {"Q": 2**31, "R": 2**31}, "indices must have"),
        ("CodebookCsrMatMul", {"codebook": floats(1, 1, 2)}, "first value of codebook must be 0"),
        ("CodebookCsrMatMul", {"codebook": floats(np.nan, 1, 2)}, "first value of codebook must be 0"),
        ("CodebookCsrMatMul", {"codebook": floats(0, 1)}, "a symbol is 2, and the codebook has 2"),
        ("CodebookCsrMatMul", {"codebook": floats()}, "1 to 256 values, not 0"),
        ("CodebookCsrMatMul", {"symbols": bytes_of()}, "symbols must have 1 values"),
        ("CodebookCsrMatMul", {"symbols": bytes_of(0, 0)}, "symbols must have 1 values"),
        ("CodebookCsrMatMul", {"gaps": bytes_of()}, "gaps must have 1 values"),
        ("CodebookCsrMatMul", {"gaps": bytes_of(0b011000)}, "gaps of output 1 lead to input 3, and Q is 3"),
        ("CodebookCsrMatMul", {"starts": numbers(0, 2, 1)}, "starts must not fall"),
        ("CodebookCsrMatMul", {"starts": numbers(0, 1, 2**31 - 1)}, "symbols must have"),
        ("CodebookCsrMatMul", {"value_bits": 0}, "value_bits must be between 1 and 8"),
        ("CodebookCsrMatMul", {"gap_bits": 9}, "gap_bits must be between 1 and 8"),
        ("HashedMatMul", {"values": floats()}, "the number of values must be between 1"),
        ("HashedMatMul", {"values": np.ones((2, 1), np.float32)}, "values must have one axis"),
        ("HashedMatMul", {"Q": 1 << 17, "R": 1 << 16}, "more than the 2\\^32 entries"),
        ("DeepThinMatMul", {"Xf": np.ones((2, 1), np.float32)}, "2 x 2 values cannot fill a 3 x 2 matrix"),
        ("DeepThinMatMul", {"Q": 1 << 17, "R": 1 << 16}, "more than the 2\\^32 entries"),
    ],
)
def test_what_stands_for_no_matrix_is_refused(op: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(REFUSED, match=message):
        build(op, **changes)


@pytest.mark.parametrize(
    ("op", "left_out"),
    [("CodebookMatMul", "bits"), ("CodebookCsrMatMul", "gap_bits"), ("HashedMatMul", "seed"), ("CsrMatMul", "Q")],
)
def test_an_attribute_left_out_is_named(op: str, left_out: str) -> None:
    inputs, attributes = GOOD[op]
    kept = {name: value for name, value in ({"Q": 3, "R": 2} | attributes).items() if name != left_out}
    node = graph.node(op, ["X", *inputs], ["Y"], "deepthin", **kept)
    constants = [graph.tensor(name, values) for name, values in inputs.items()]
    model = graph.model([node], [graph.value("X", ["N", 3])], [graph.value("Y", ["N", 2])], constants)
    with pytest.raises(REFUSED, match=f"attribute {left_out} is missing"):
        session(model)


@pytest.mark.parametrize("op", [op for op in GOOD if op != "DeepThinMatMul"])
def test_stored_arrays_must_be_constant(op: str) -> None:
    inputs, attributes = GOOD[op]
    computed = next(iter(inputs))
    node = [
        graph.node("Relu", [f"{computed}_in"], [computed]),
        graph.node(op, ["X", *inputs], ["Y"], "deepthin", Q=3, R=2, **attributes),
    ]
    constants = [graph.tensor(name, values) for name, values in inputs.items() if name != computed]
    given_ = [graph.value("X", ["N", 3]), graph.value(f"{computed}_in", [len(inputs[computed])])]
    with pytest.raises(REFUSED, match=f"{computed} must be a constant initializer"):
        session(graph.model(node, given_, [graph.value("Y", ["N", 2])], constants))


@pytest.mark.parametrize("op", GOOD)
def test_wrong_inputs_are_refused_at_run_time(op: str) -> None:
    inputs, attributes = GOOD[op]
    node = graph.node(op, ["X", *inputs, "bias"], ["Y"], "deepthin", Q=3, R=2, **attributes)
    constants = [graph.tensor(name, values) for name, values in inputs.items()]
    taken = [graph.value("X", ["N", "any"]), graph.value("bias", ["B"])]
    ready = session(graph.model([node], taken, [graph.value("Y", ["N", 2])], constants))
    ready.run(None, {"X": np.ones((4, 3), np.float32), "bias": floats(1, 2)})
    with pytest.raises(REFUSED, match="last axis of X must have Q = 3"):
        ready.run(None, {"X": np.ones((4, 4), np.float32), "bias": floats(1, 2)})
    with pytest.raises(REFUSED, match="bias must have R = 2"):
        ready.run(None, {"X": np.ones((4, 3), np.float32), "bias": floats(1, 2, 3)})


def agree(op: str, Q: int, R: int, inputs: dict[str, Any], weight: Callable[[], Any], **attributes: int) -> None:
    """The operator refuses what the reference refuses, and computes what it computes."""
    expected = None
    with contextlib.suppress(FormatError):
        expected = weight()
    model = matrix_model(op, Q, R, inputs, **attributes)
    if expected is None:
        with pytest.raises(REFUSED, match=op):
            session(model)
        return
    ready = session(model)
    for rows in (1, 20):
        x = np.random.default_rng(0).standard_normal((rows, Q)).astype(np.float32)
        np.testing.assert_allclose(ready.run(None, {"X": x})[0], x @ expected, rtol=0, atol=1e-4)


def stream(longest: int) -> st.SearchStrategy[Any]:
    return st.binary(max_size=longest).map(lambda content: np.frombuffer(content, np.uint8))


STARTS = st.lists(st.integers(0, 9), min_size=4, max_size=4).map(lambda tail: np.array([0, *tail], np.int32))
RISING = STARTS.map(np.sort)


@examples
@given(
    count=st.integers(0, 9),
    inputs=st.lists(st.integers(-1, 6), max_size=9),
    starts=st.one_of(STARTS, RISING),
    fitting=st.booleans(),
)
def test_any_csr(isa: str, count: int, inputs: list[int], starts: Any, fitting: bool) -> None:
    if fitting:
        inputs = inputs[: starts[-1]] + [0] * (int(starts[-1]) - len(inputs))
        count = len(inputs)
    stored = {"values": np.arange(count, dtype=np.float32), "inputs": np.array(inputs, np.int32), "starts": starts}
    agree("CsrMatMul", 6, 4, stored, lambda: csr_weight(6, *stored.values()))


@examples
@given(bits=st.integers(1, 8), size=st.integers(1, 256), content=stream(30), fitting=st.booleans())
def test_any_codebook(isa: str, bits: int, size: int, content: Any, fitting: bool) -> None:
    if fitting:
        content = np.resize(content, 3 * -(-7 * bits // 8)) if content.size else content
    stored = {"codebook": np.linspace(-1, 1, size, dtype=np.float32), "indices": content}
    agree("CodebookMatMul", 7, 3, stored, lambda: codebook_weight(7, 3, *stored.values(), bits), bits=bits)


@examples
@given(
    value_bits=st.integers(1, 8),
    gap_bits=st.integers(1, 8),
    size=st.integers(1, 256),
    symbols=stream(9),
    gaps=stream(9),
    starts=st.one_of(STARTS, RISING),
    Q=st.integers(1, 300),
)
def test_any_codebook_csr(
    isa: str, value_bits: int, gap_bits: int, size: int, symbols: Any, gaps: Any, starts: Any, Q: int
) -> None:
    entries = int(starts[-1])
    if symbols.size and gaps.size:
        symbols, gaps = np.resize(symbols, -(-entries * value_bits // 8)), np.resize(gaps, -(-entries * gap_bits // 8))
    codebook = np.linspace(0, 1, size, dtype=np.float32)
    stored = {"codebook": codebook, "symbols": symbols, "gaps": gaps, "starts": starts}
    bits = {"value_bits": value_bits, "gap_bits": gap_bits}
    agree("CodebookCsrMatMul", Q, 4, stored, lambda: codebook_csr_weight(Q, *stored.values(), **bits), **bits)
