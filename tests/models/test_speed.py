"""The benchmark of whole networks runs, on networks that are what it says."""

import json
from pathlib import Path

import numpy as np
import pytest

from models import speed, speed_networks
from ops.layout import reconstruct, solve
from ops.library import session


@pytest.mark.parametrize("build", [speed_networks.tfkaldi, speed_networks.deepspeech])
def test_a_network_has_the_same_inputs_and_outputs_at_every_size(build) -> None:
    made = [build(np.random.default_rng(0), 48, size) for size in (None, 0.3)]
    dense, thin = (session(network.model) for network in made)
    for one, other in zip(
        [*dense.get_inputs(), *dense.get_outputs()], [*thin.get_inputs(), *thin.get_outputs()], strict=True
    ):
        assert (one.name, one.type) == (other.name, other.type)
    rng = np.random.default_rng(1)
    feeds = {
        given.name: rng.standard_normal([2 if size == "batch" else size for size in given.shape], np.float32)
        for given in dense.get_inputs()
    }
    results = [ready.run(None, feeds) for ready in (dense, thin)]
    assert [value.shape for value in results[0]] == [value.shape for value in results[1]]
    assert all(np.isfinite(value).all() for values in results for value in values)
    assert 0.1 < made[1].weight_bytes / made[0].weight_bytes < 0.5


def test_a_layer_is_the_product_with_its_matrix() -> None:
    """The dense and the DeepThin form of a layer mean the same: sigmoid, bias and all."""
    rng = np.random.default_rng(0)
    geometry = solve(20, 30, 0.3)
    graph = speed_networks._Graph(rng, 0.3)
    graph.linear("X", 20, 30, "sigmoid", "Y")
    network = graph.network({"X": ["batch", 20]}, {"Y": ["batch", 30]})
    factors = {name.rstrip("0123456789"): array for name, array in graph._constants.items()}
    assert factors["Xf"].shape == (geometry.m, geometry.r)
    x = rng.standard_normal((3, 20)).astype(np.float32)
    expected = 1 / (1 + np.exp(-x @ reconstruct(factors["Xf"], factors["Wf"], 20, 30)))
    np.testing.assert_allclose(session(network.model).run(None, {"X": x})[0], expected, atol=1e-5)


def test_rows_and_page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    real = speed.measure
    monkeypatch.setattr(speed, "measure", lambda *_: real({"tfkaldi": 32, "deepspeech": 32}, (0.5, 0.3), 1))
    page = tmp_path / "performance.md"
    page.write_text("<!-- models: begin (written by `deepthin bench models --write docs`) -->\n<!-- models: end -->")
    assert speed.main(["--json", "--write", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["network"], row["batch"], row["size"]) for row in rows] == [
        (network, batch, size) for network in ("tfkaldi", "deepspeech") for batch in (1, 16) for size in (0.5, 0.3)
    ]
    for row in rows:
        assert row["speedup"] == pytest.approx(row["dense_seconds"] / row["seconds"])
        assert (row["front_seconds"] is None) == (row["network"] == "tfkaldi")
        assert min(row["features_seconds"], row["decoding_seconds"]) > 0
        assert 0.1 < row["reached"] < 1
    assert "| `deepspeech`, 32 wide, batch 16 |" in page.read_text()
