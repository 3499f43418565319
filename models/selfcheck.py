"""Does this machine compute a stored model as it should: every DeepThin operator against its definition in NumPy.

`python -m models.selfcheck FOLDER...` writes a line of JSON for each package. A process of its own, because the
definitions work on dense weights in double precision, which a small box should not keep the memory for.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from models.compression.feeds import random_feeds
from models.package import GRAPH_FILE
from ops import library, reference

Array = npt.NDArray[Any]

TOLERANCE: Final = 1e-3
"""Largest root mean squared difference of an operator's output from its definition, by the spread of the latter.

Sums of some thousand fp32 products in another order differ by 1e-6; a wrong kernel by .1 and more.
"""

_DOMAIN: Final = "deepthin"
_MATRIX_OPS: Final[Mapping[str, Callable[..., Array]]] = {
    "DeepThinMatMul": reference.deepthin_matmul,
    "CsrMatMul": reference.csr_matmul,
    "CodebookMatMul": reference.codebook_matmul,
    "CodebookCsrMatMul": reference.codebook_csr_matmul,
    "HashedMatMul": reference.hashed_matmul,
}
# Attributes that the definitions take under the same name.
_TAKEN: Final = ("activation", "shuffle", "bits", "value_bits", "gap_bits", "seed")
_NEED_R: Final = ("DeepThinMatMul", "CodebookMatMul", "HashedMatMul")
# Inputs of an operator before its bias.
_WEIGHTS: Final = {"DeepThinMatMul": 2, "CsrMatMul": 3, "CodebookMatMul": 2, "CodebookCsrMatMul": 4, "HashedMatMul": 1}


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """How far this machine is from the definitions.

    Attributes:
        difference: root mean squared difference by the spread of the definition's values, of the worst operator.
        tolerance: what is allowed.
        operators: how many were compared; with none, there is nothing to say about the model.
        worst: the output of the worst operator, empty without any.
    """

    difference: float
    tolerance: float
    operators: int
    worst: str

    @property
    def passed(self) -> bool:
        """Whether the difference is allowed."""
        return self.difference <= self.tolerance


def self_check(model: onnx.ModelProto, *, seed: int = 0) -> SelfCheck:
    """Run `model` on random values, and every DeepThin operator's own inputs through its definition.

    Operators inside of loops and branches are left out.

    Raises:
        CompressionError: the network cannot be run on random values.
    """
    nodes = [node for node in model.graph.node if node.domain == _DOMAIN]
    if not nodes:
        return SelfCheck(0.0, TOLERANCE, 0, "")
    feed = random_feeds(model, 1, seed)[0]
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    seen = {**stored, **feed, **_tapped(model, nodes, feed, set(stored) | set(feed))}
    worst, name = 0.0, nodes[0].output[0]
    for node in nodes:
        wanted = _defined(node, [seen[value] if value else None for value in node.input])
        difference = _difference(seen[node.output[0]], wanted)
        if not difference <= worst:
            worst, name = difference, node.output[0]
    return SelfCheck(worst, TOLERANCE, len(nodes), name)


def _tapped(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], feed: Mapping[str, Array], known: set[str]
) -> dict[str, Array]:
    """What flows into and out of `nodes` while the whole network runs."""
    names = list(dict.fromkeys(name for node in nodes for name in (*node.input, node.output[0]) if name))
    names = [name for name in names if name not in known]
    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    given = {value.name for value in model.graph.output}
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in given)
    session = library.session(tapped.SerializeToString())
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


def _defined(node: onnx.NodeProto, inputs: list[Array | None]) -> Array:
    said = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    said = {key: value.decode() if isinstance(value, bytes) else value for key, value in said.items()}
    if node.op_type == "DeepThinGRU":
        return _defined_gru(said, inputs)
    count = 1 + _WEIGHTS[node.op_type]
    fields = {key: said[key] for key in _TAKEN if key in said}
    if node.op_type in _NEED_R:
        fields["R"] = said["R"]
    bias = inputs[count] if len(inputs) > count else None
    return _MATRIX_OPS[node.op_type](*inputs[:count], bias=bias, **fields)


def _defined_gru(said: Mapping[str, Any], inputs: list[Array | None]) -> Array:
    batch_first = bool(said.get("layout", 0))
    x, Xf_w, Wf_w, Xf_r, Wf_r, B, initial_h = [*inputs, None, None][:7]
    assert x is not None and Xf_w is not None and Wf_w is not None and Xf_r is not None and Wf_r is not None
    states, _ = reference.deepthin_gru(
        x.swapaxes(0, 1) if batch_first else x,
        Xf_w,
        Wf_w,
        Xf_r,
        Wf_r,
        said["hidden_size"],
        B,
        initial_h,
        linear_before_reset=bool(said.get("linear_before_reset", 1)),
        gate_order=said.get("gate_order", "zrh"),
    )
    return states.swapaxes(0, 1) if batch_first else states


def _difference(found: Array, wanted: Array) -> float:
    """Infinite for values that are missing or not finite."""
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float("inf")
    wrong = float(np.sqrt(np.mean(np.square(found - wanted))))
    # An output that hardly varies is compared by its level instead.
    scale = float(np.std(wanted)) or float(np.abs(wanted).max())
    return wrong / scale if scale else wrong


def main(folders: Sequence[str]) -> None:
    """Check the packages in `folders`; one line of JSON each, as it is done."""
    for folder in folders:
        try:
            found = self_check(onnx.load(Path(folder) / GRAPH_FILE))
            answer: dict[str, Any] = {
                "difference": min(found.difference, 1e9),
                "tolerance": found.tolerance,
                "operators": found.operators,
                "worst": found.worst,
            }
        except Exception as error:  # Whatever is wrong with one package must not keep the others from being checked.
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"folder": folder, **answer}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
