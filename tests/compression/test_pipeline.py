"""Whole jobs: what they leave behind, and that they go on after being killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models.compression import job as job_module
from models.compression.base import CompressionError, SizeError
from models.compression.parity import ParityError
from models.compression.pipeline import STAGES, Event, run
from models.compression.registry import METHODS
from models.compression.transport import unpack
from models.errors import CorpusError, NoTranscriptionError
from models.package import ModelPackage
from models.recognisers import load
from ops import library
from tests.compression import networks
from tests.compression.jobs import FRONT_END, Desk, corpus, spec, zipped
from tests.support import tiny_graph, tiny_manifest

BASIC: dict[str, Any] = {"method": "low-rank", "size": 0.4, "allow_slower": True}


def test_a_bare_network_is_compressed_and_packed(tmp_path: Path):
    desk = Desk(tmp_path, networks.feed_forward())
    outcome = desk.run(name="thin", **BASIC)
    assert outcome.accepted and outcome.reasons == ()
    package = ModelPackage.load(outcome.package)
    assert package.manifest.family == "network" and package.manifest.method == "low-rank"
    assert package.manifest.relative_size <= 0.4
    report = desk.report()
    assert [layer["name"] for layer in report["layers"]] == ["layer0.weight", "layer1.weight", "layer2.weight"]
    assert report["bytes"]["disk"] == package.graph_file.stat().st_size
    assert report["bytes"]["transport"] == outcome.transport.stat().st_size == package.manifest.weights.transport_bytes
    model = onnx.load(package.graph_file)
    assert report["bytes"]["initialisers"] == sum(onnx.numpy_helper.to_array(t).nbytes for t in model.graph.initializer)
    assert report["weights"]["disk"] == sum(layer["disk"] for layer in report["layers"])
    with pytest.raises(NoTranscriptionError):
        load(outcome.package)


def test_an_old_file_lists_its_weights_among_the_inputs(tmp_path: Path):
    model = networks.gemm()
    model.ir_version = 3
    model.opset_import[0].version = 9
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, 1, list(tensor.dims)))
    Desk(tmp_path, model).run(method="deepthin", size=0.5, allow_slower=True)


def test_convolutions_are_split_and_packed(tmp_path: Path):
    desk = Desk(tmp_path, networks.conv(strides=[2, 1], pads=[1, 0, 2, 1]))
    outcome = desk.run(method="separable-conv", size=0.5, allow_slower=True)
    (layer,) = desk.report()["layers"]
    assert layer["method"] == "separable-conv" and layer["relative_size"] <= 0.5
    unpack(outcome.transport.read_bytes(), tmp_path / "unpacked")


def test_the_bitstream_gives_the_package_back(tmp_path: Path):
    outcome = Desk(tmp_path, networks.feed_forward()).run(name="thin", **BASIC)
    unpack(outcome.transport.read_bytes(), tmp_path / "unpacked")
    (copy,) = (tmp_path / "unpacked").rglob("model.onnx")
    x = {"features": networks.random(4, 24)}
    one, other = (library.session(path.read_bytes()).run(None, x) for path in (copy, outcome.package / "model.onnx"))
    np.testing.assert_array_equal(one[0], other[0])


def test_progress_names_stages_and_layers_and_never_goes_back(tmp_path: Path):
    desk = Desk(tmp_path, networks.feed_forward())
    desk.run(**BASIC)
    fractions = [event.fraction for event in desk.events]
    assert fractions == sorted(fractions) and fractions[-1] == pytest.approx(1.0)
    assert list(dict.fromkeys(event.stage for event in desk.events)) == list(STAGES)
    assert {event.layer for event in desk.events} - {None} == {f"layer{n}.weight" for n in range(3)}


class Killed(BaseException):
    """What a signal would do."""


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_job_goes_on_where_it_was(tmp_path: Path, stage: str):
    desk = Desk(tmp_path, networks.feed_forward())
    fields = {**BASIC, "front_end": FRONT_END, "calibration": ["first"], "evaluation": ["second"], "name": "thin"}
    whole = tmp_path / "whole"
    whole.mkdir()
    reference = Desk(whole, networks.feed_forward())
    expected = reference.run(**fields)

    def kill(event: Event) -> None:
        desk.events.append(event)
        if event.stage == stage and event.message != f"{stage} done":
            raise Killed

    with pytest.raises(Killed):
        run(desk.folder, spec(**fields), progress=kill, corpora=desk.corpora)
    desk.events.clear()
    outcome = desk.run(**fields)
    begun = [event.stage for event in desk.events if event.message.endswith(" begins")]
    assert begun == list(STAGES[STAGES.index(stage) :]), "finished stages are not done again"
    assert (outcome.package / "model.onnx").read_bytes() == (expected.package / "model.onnx").read_bytes()


def test_layers_that_are_done_are_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    desk = Desk(tmp_path, networks.feed_forward())

    def kill(event: Event) -> None:
        if event.layer == "layer2.weight":
            raise Killed

    with pytest.raises(Killed):
        run(desk.folder, spec(**BASIC), progress=kill, corpora=desk.corpora)
    done: list[str] = []
    plain = job_module.compress_layer

    def counted(network: Any, layer: Any, *rest: Any) -> Any:
        done.append(layer.name)
        return plain(network, layer, *rest)

    monkeypatch.setattr(job_module, "compress_layer", counted)
    desk.run(**BASIC)
    assert done == ["layer2.weight"]


def test_a_finished_job_says_the_same_again(tmp_path: Path):
    desk = Desk(tmp_path, networks.feed_forward())
    assert desk.run(**BASIC) == desk.run(**BASIC)


def test_rules_win_over_the_method_and_the_last_one_counts(tmp_path: Path):
    desk = Desk(tmp_path, networks.feed_forward())
    rules = [
        {"pattern": "layer*", "method": "deepthin", "size": 0.2},
        {"pattern": "layer1.*", "method": "low-rank", "size": 0.3},
        {"pattern": "layer2.*", "method": "dense"},
    ]
    desk.run(compress=rules, allow_slower=True)
    methods = {layer["name"]: layer["method"] for layer in desk.report()["layers"]}
    assert methods == {"layer0.weight": "deepthin", "layer1.weight": "low-rank", "layer2.weight": "dense"}
    assert ModelPackage.load(next((desk.folder / "result").glob("*/"))).manifest.method == "mixed"


def test_a_pattern_that_matches_nothing_is_an_error_that_lists_the_weights(tmp_path: Path):
    desk = Desk(tmp_path, networks.feed_forward())
    with pytest.raises(CompressionError, match=r"'hidden\.\*' matches no weight; the weights are layer0\.weight"):
        desk.run(compress=[{"pattern": "hidden.*", "method": "deepthin", "size": 0.2}])


def test_a_size_out_of_reach_names_the_range(tmp_path: Path):
    desk = Desk(tmp_path, networks.feed_forward())
    with pytest.raises(SizeError, match=r"network at relative size 0\.001: it reaches 0\.\d+ to 1"):
        desk.run(method="deepthin", size=0.001)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(SizeError, match=r"layer0\.weight: .*reaches"):
        Desk(other, networks.feed_forward()).run(
            compress=[{"pattern": "layer0.*", "method": "deepthin", "size": 0.001}]
        )


def test_small_weights_take_their_smallest_size_and_others_make_up_for_it(tmp_path: Path):
    desk = Desk(tmp_path, networks.feed_forward(sizes=(64, 256, 256, 5)))
    desk.run(method="low-rank", size=0.05, allow_slower=True)
    layers = {layer["name"]: layer for layer in desk.report()["layers"]}
    assert layers["layer2.weight"]["relative_size"] > 0.15
    assert desk.report()["weights"]["relative_size"] <= 0.05


def test_calibration_makes_the_output_error_smaller(tmp_path: Path):
    errors = {}
    for name, more in (("plain", {}), ("aware", {"calibration": ["first"]})):
        root = tmp_path / name
        root.mkdir()
        desk = Desk(root, networks.feed_forward(sizes=(24, 64, 64, 12)))
        desk.run(method="low-rank", size=0.25, front_end=FRONT_END, evaluation=["first"], allow_slower=True, **more)
        errors[name] = desk.report()["agreement"]["output_error"]
    assert errors["aware"] < 0.9 * errors["plain"]


def test_a_model_with_a_decoder_is_transcribed_with_and_judged(tmp_path: Path):
    package = ModelPackage.save(tmp_path, tiny_manifest("tiny", log_priors=[]), tiny_graph(recurrent=False))
    desk = Desk(tmp_path)
    zipped(package.path, desk.folder / "checkpoint.zip")
    outcome = desk.run(method="low-rank", size=0.3, evaluation=["first"], max_wer_delta=0.0, allow_slower=True)
    report = desk.report()
    assert report["quality"]["first"]["words"] == report["parent_quality"]["first"]["words"] == 6
    manifest = ModelPackage.load(outcome.package).manifest
    assert manifest.parent == "tiny" and manifest.family == "tfkaldi" and manifest.quality["first"].words == 6
    worse = report["quality"]["first"]["wer"] > report["parent_quality"]["first"]["wer"]
    assert outcome.accepted is not worse
    load(outcome.package)


def test_the_gate_keeps_out_what_differs_too_much(tmp_path: Path):
    desk = Desk(tmp_path, networks.feed_forward())
    outcome = desk.run(
        method="deepthin", size=0.13, front_end=FRONT_END, evaluation=["first"], max_wer_delta=0.0, allow_slower=True
    )
    assert not outcome.accepted and "0.00% are allowed" in outcome.reasons[0]
    assert (outcome.package / "model.onnx").is_file()


def test_the_gate_keeps_out_what_is_slower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    desk = Desk(tmp_path, networks.feed_forward())
    monkeypatch.setattr("models.compression.packaging.SLOWER", 0.0)
    outcome = desk.run(method="low-rank", size=0.4)
    assert not outcome.accepted and "times the parent's time" in outcome.reasons[0]


def test_a_wrong_export_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain = METHODS["low-rank"].export

    def forgetful(self: Any, compressed: Any, builder: Any, name: str, x: str, bias: str | None) -> str:
        return plain(compressed, builder, name, x, None)

    monkeypatch.setattr(type(METHODS["low-rank"]), "export", forgetful)
    with pytest.raises(ParityError, match="differs by"):
        Desk(tmp_path, networks.feed_forward()).run(**BASIC)


def test_uploaded_corpora(tmp_path: Path):
    desk = Desk(tmp_path, networks.feed_forward())
    zipped(corpus(tmp_path / "mine" / "calls"), desk.folder / "calibration.zip")
    zipped(tmp_path / "mine", desk.folder / "evaluation.zip")
    desk.run(front_end=FRONT_END, calibration=["upload"], evaluation=["upload"], **BASIC)
    assert desk.report()["agreement"]["inputs"] == "recordings"


def test_an_uploaded_table_cannot_name_files_outside(tmp_path: Path):
    desk = Desk(tmp_path, networks.feed_forward())
    folder = corpus(tmp_path / "mine")
    (folder / "manifest.tsv").write_text("utterance\tpath\ttranscript\nu\t../../../../../etc/passwd\tHELLO\n")
    zipped(folder, desk.folder / "evaluation.zip")
    with pytest.raises(CorpusError, match=r"not in the zip file: .*etc/passwd"):
        desk.run(front_end=FRONT_END, evaluation=["upload"], **BASIC)


def test_calibration_needs_to_know_the_front_end(tmp_path: Path):
    with pytest.raises(CompressionError, match="front_end"):
        Desk(tmp_path, networks.feed_forward()).run(calibration=["first"], **BASIC)


def test_a_front_end_that_does_not_fit_is_named(tmp_path: Path):
    with pytest.raises(CompressionError, match=r"351 values a frame.*features float\[frames, 24\]"):
        Desk(tmp_path, networks.feed_forward()).run(front_end="ami-dnn", **BASIC)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({}, "nothing to do"),
        ({"method": "deepthin"}, "needs a size"),
        ({"method": "gzip", "size": 0.1}, "no compression method 'gzip'"),
        ({"method": "deepthin", "size": 0.1, "typo": 1}, "typo"),
        ({"method": "deepthin", "size": 0.1, "budget": {"target_bytes": 5}}, "takes the place"),
        ({"budget": {}}, "needs target_bytes"),
        ({"budget": {"max_wer_delta": 0.1}}, "needs evaluation"),
        ({"method": "deepthin", "size": 0.1, "fine_tune": {}}, "needs calibration"),
        (
            {"method": "deepthin", "size": 0.1, "calibration": ["first"], "fine_tune": {"steps": 2}},
            "steps is for deep-compression alone",
        ),
        ({"method": "deepthin", "size": 0.1, "calibration": ["../x"]}, "calibration"),
        ({"method": "deepthin", "size": 2}, "size"),
        ({"method": "deepthin", "size": 0.1, "front_end": "mel"}, "ami-dnn"),
    ],
    ids=str,
)
def test_a_bad_spec_is_named(fields: dict[str, Any], complaint: str):
    with pytest.raises(CompressionError, match=complaint):
        spec(**fields)


def test_methods_of_one_size_need_none():
    assert spec(method="int8").size is None


@pytest.mark.parametrize("model", [networks.conv(), networks.gru(), networks.gemm(), networks.shared()])
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("dense", "same-size", "separable-conv")])
def test_every_method_on_every_kind_of_layer(tmp_path: Path, model: onnx.ModelProto, method: str):
    desk = Desk(tmp_path, model)
    size = {} if method in ("int8", "int4") else {"size": 0.6}
    outcome = desk.run(method=method, allow_slower=True, **size)
    report = desk.report()
    assert outcome.accepted
    assert any(layer["method"] == method for layer in report["layers"])
    assert json.loads(outcome.report.read_text())["parity"]["difference"] <= report["parity"]["tolerance"]
