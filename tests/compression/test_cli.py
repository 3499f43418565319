"""`deepthin compress`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.compression import cli
from models.compression.registry import METHODS
from models.package import ModelPackage
from service.cli import main
from tests.compression import networks
from tests.compression.jobs import FRONT_END, corpus


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "My Net.onnx"
    path.write_bytes(networks.feed_forward().SerializeToString())
    return path


def test_it_lists_the_methods_on_a_line_each(capsys: pytest.CaptureFixture[str]):
    assert main(["compress", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, method in METHODS.items():
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert method.summary in line and method.source in line


def test_a_file_is_compressed(net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "out"
    argv = ["compress", str(net), "--method", "low-rank", "--size", ".4", "--allow-slower", "-o", str(out)]
    assert main([*argv, "--calibration", str(corpus(tmp_path / "calls")), "--front-end", json.dumps(FRONT_END)]) == 0
    captured = capsys.readouterr()
    assert "layer0.weight" in captured.out and "speed" in captured.out
    assert "compress: layer1.weight by low-rank" in captured.err
    assert ModelPackage.load(out / "my-net-low-rank-0.4").manifest.method == "low-rank"
    assert sorted(path.name for path in out.iterdir()) == ["model.dtz", "my-net-low-rank-0.4", "report.json"]


def test_json_is_the_report(net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rule = ["--rule", "layer0.weight=deepthin:.3", "--rule", "layer1.*=low-rank:.3"]
    argv = ["compress", str(net), *rule, "--allow-slower", "-o", str(tmp_path / "out"), "--json", "--quiet"]
    assert main(argv) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads((tmp_path / "out" / "report.json").read_text())
    assert captured.err == ""


def test_an_installed_model_is_compressed(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEEPTHIN_HOME", str(home))
    argv = ["compress", "tiny-dense", "--method", "low-rank", "--size", ".3", "--allow-slower", "--quiet"]
    assert main([*argv, "-o", str(tmp_path / "out")]) == 0
    manifest = ModelPackage.load(tmp_path / "out" / "tiny-dense-low-rank-0.3").manifest
    assert manifest.parent == "tiny-dense" and manifest.family == "tfkaldi"


def test_an_unaccepted_result_has_an_exit_code_of_its_own(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("models.compression.packaging.SLOWER", 0.0)
    argv = ["compress", str(net), "--method", "low-rank", "--size", ".4", "-o", str(tmp_path / "out"), "--quiet"]
    assert main(argv) == 3
    assert "NOT ACCEPTED: it takes" in capsys.readouterr().out


def test_an_interrupted_job_goes_on(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    argv = ["compress", str(net), "--method", "low-rank", "--size", ".4", "--allow-slower", "-o", str(tmp_path / "out")]
    plain = cli.Bar.__call__

    def stop(self: cli.Bar, event: object) -> None:
        if getattr(event, "stage", "") == "parity":
            raise KeyboardInterrupt

    monkeypatch.setattr(cli.Bar, "__call__", stop)
    assert main(argv) == 130
    begun: list[str] = []

    def note(self: cli.Bar, event: object) -> None:
        if getattr(event, "message", "").endswith(" begins"):
            begun.append(getattr(event, "stage", ""))

    monkeypatch.setattr(cli.Bar, "__call__", note)
    assert main(argv) == 0
    assert begun == ["parity", "evaluate", "gate"]
    monkeypatch.setattr(cli.Bar, "__call__", plain)


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["nowhere"], "there is no model 'nowhere'"),
        (["net.pt"], "must end in .onnx, .zip, .safetensors"),
        (["--method", "gzip", "--size", ".1"], "no compression method 'gzip'"),
        (["--rule", "layer0"], "is not PATTERN=METHOD:SIZE"),
        (["--rule", "layer9=deepthin:.1"], "'layer9' matches no weight"),
        (["--method", "deepthin"], "needs a size"),
        (["--method", "deepthin", "--size", ".1", "--calibration", "gone", "--front-end", '{"bins": 24}'], "gone"),
        (["--method", "deepthin", "--size", ".1", "--front-end", "{"], "is not JSON"),
    ],
    ids=str,
)
def test_what_is_wrong_is_said(
    net: Path, tmp_path: Path, argv: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "net.pt").write_bytes(b"\x80")
    first = [str(net)] if argv[0].startswith("--") else [str(tmp_path / argv[0]) if "." in argv[0] else argv[0]]
    rest = argv if argv[0].startswith("--") else ["--method", "dense"]
    assert main(["compress", *first, *rest, "-o", str(tmp_path / "out"), "--quiet"]) == 1
    assert complaint in capsys.readouterr().err
