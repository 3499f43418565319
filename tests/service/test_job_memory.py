"""Networks that ask for more memory than there is end their job, and nothing else."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.app import create_app
from service.jobs.memory import OutOfMemoryError, half_of_memory, memory_limit
from service.settings import Settings
from tests.service.conftest import running
from tests.service.jobs import finished

FIFTY_GB = 50 * 10**9


def hungry(op: str) -> bytes:
    """A small file of a network that makes a tensor of 50 GB when it is run."""
    rng = np.random.default_rng(0)
    constants: dict[str, np.ndarray[Any, Any]] = {
        "W": rng.standard_normal((32, 32)).astype(np.float32),
        "one": np.ones(1, np.float32),
        "nothing": np.zeros((), np.int64),
        # Tile refuses to make more than 4 GiB at once.
        "size": np.array([FIFTY_GB // 4 if op != "Tile" else 2**30 - 1], np.int64),
    }
    made = {"ConstantOfShape": ["wanted"], "Expand": ["one", "wanted"], "Tile": ["one", "wanted"]}[op]
    nodes = [
        helper.make_node("MatMul", ["X", "W"], ["product"]),
        # What depends on the input cannot be found out when the network is opened.
        helper.make_node("Shape", ["X"], ["shape"]),
        helper.make_node("ReduceSum", ["shape"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "nothing"], ["zero"]),
        helper.make_node("Add", ["size", "zero"], ["wanted"]),
        helper.make_node(op, made, ["large"]),
        helper.make_node("ReduceSum", ["large"], ["total"], keepdims=0),
        helper.make_node("Add", ["product", "total"], ["Y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 32]) for name in ("X", "Y")]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "hungry", values[:1], values[1:], initializers)
    opsets = [helper.make_opsetid("", 17)]
    data: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    onnx.checker.check_model(data)
    return data


@pytest.mark.anyio
@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Tile"])
async def test_a_hungry_network_fails_its_own_job(settings: Callable[..., Settings], home: Path, op: str) -> None:
    limit = 1 << 30
    chosen = settings(models=("tiny-dense",), min_free_bytes=0, job_nice=0, job_idle=False, job_memory_bytes=limit)
    async with running(create_app(chosen)) as client:
        spec = '{"name": "made", "method": "int8", "host": false}'
        files = {"checkpoint": ("net.onnx", hungry(op))}
        response = await client.post("/compress", files=files, data={"spec": spec})
        assert response.status_code == 202, response.text
        job = await finished(client, response.json()["id"])
        assert job["state"] == "failed", job
        assert job["reason"] == f"it needs more memory than DEEPTHIN_JOB_MEMORY_BYTES ({limit} bytes)"
        assert (await client.get("/models/tiny-dense")).json()["state"] == "ready"


def test_the_limit_holds_and_is_lifted() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(OutOfMemoryError, match="DEEPTHIN_JOB_MEMORY_BYTES"), memory_limit(1 << 32):
        np.ones(FIFTY_GB, np.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(ZeroDivisionError), memory_limit(1 << 32):
        raise ZeroDivisionError


def test_a_hidden_refusal_is_found() -> None:
    def refused() -> None:
        try:
            raise RuntimeError("Status Message: std::bad_alloc")
        except RuntimeError as error:
            raise ValueError("the network does not run") from error

    with pytest.raises(OutOfMemoryError), memory_limit(1 << 32):
        refused()


def test_the_default_is_a_share_of_the_machine() -> None:
    assert 1 << 28 <= half_of_memory() <= 1 << 50
    assert Settings().job_memory_bytes == half_of_memory()
