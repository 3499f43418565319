"""The command `deepthin`, called as a user calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from models.package import ModelPackage
from service.cli import main
from tests.support import babble, encode, tiny_manifest


@pytest.fixture(autouse=True)
def tiny_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEEPTHIN_HOME", str(home))
    return home


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    file = tmp_path / "clip.wav"
    file.write_bytes(encode(babble(1.0)))
    return file


def test_transcribe_prints_the_text(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transcribe", str(clip)]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.strip()
    assert "\n" not in output.out.strip()


def test_transcribe_several_files_as_json(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transcribe", str(clip), str(clip), "--json", "--model", "tiny-thin"]) == 0
    first, second = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert first["text"] == second["text"]
    assert first["file"] == str(clip)
    assert (first["model"], first["method"]) == ("tiny-thin", "deepthin")
    assert first["duration_seconds"] == 1.0
    assert set(first["words"][0]) == {"text", "start", "end", "confidence"}


def test_a_bad_file_does_not_stop_the_others(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("hello")
    files = [str(tmp_path / "text.txt"), str(tmp_path / "gone.wav"), str(tmp_path), str(clip)]
    assert main(["transcribe", *files]) == 1
    output = capsys.readouterr()
    assert output.out.startswith(f"{clip}: ")
    assert [line.startswith("deepthin: error: ") for line in output.err.splitlines()] == [True] * 3


def test_model_may_be_a_folder(clip: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["transcribe", str(clip), "--json", "--model", str(home / "models" / "tiny-recurrent")]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "tiny-recurrent"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--model", "nothing"], "there is no model 'nothing'"),
        (["--model", "../tiny-dense"], "there is no model"),
        (["--decoder", "graph"], "no decoder 'graph'"),
    ],
)
def test_errors_are_one_line(
    clip: Path, arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["transcribe", str(clip), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("deepthin: error: ")
    assert complaint in error
    assert error.count("\n") == 1


def test_models_are_listed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ModelPackage.save(home / "models", tiny_manifest("broken"), b"")
    (home / "models" / "broken" / "manifest.json").write_text("{")
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("NAME")
    rows = {line.split()[0]: line for line in lines[1:]}
    assert "tiny-dense*" in rows
    assert "25.0%" in rows["tiny-dense*"]
    assert "cannot be used" in rows["broken"]
    assert main(["models", "--json"]) == 0
    entries = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert entries["tiny-dense"]["default"] is True
    assert entries["tiny-thin"]["wer"] == {"an4-test": 0.27}
    assert "not JSON" in entries["broken"]["error"]


def test_evaluate_prints_ratios_as_json(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.tsv").write_text(
        "utterance\tspeaker\tpath\tseconds\ttranscript\n" + "a\tx\tclip.wav\t1.0\tONE TWO\n" * 3
    )
    command = ["evaluate", "tiny-dense", "--corpus", str(tmp_path), "--limit", "2", "--json"]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"model", "method", "wer", "cer", "rtf", "utterances", "words"}
    assert (result["utterances"], result["words"]) == (2, 4)
    assert main(command[:-1]) == 0
    assert "word error rate" in capsys.readouterr().out
    assert main(["evaluate", "tiny-dense", "--corpus", str(tmp_path / "gone")]) == 1
    assert "is not a corpus" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["transcribe"], ["evaluate", "x"], ["evaluate", "x", "--corpus", "y", "--limit", "0"]]
)
def test_wrong_calls_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "transcribe", "models", "evaluate"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert len(capsys.readouterr().out) > 300


def test_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DEEPTHIN_QUEUE_LENGTH", "0")
    assert main(["serve"]) == 1
    assert "DEEPTHIN_QUEUE_LENGTH" in capsys.readouterr().err


def test_missing_library_is_named_at_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEEPTHIN_OPS_LIBRARY", "/nowhere/lib.so")
    assert main(["serve", "--port", "0"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("deepthin: error: ")
    assert "/nowhere/lib.so" in error


def test_training_without_pytorch_says_how_to_get_it() -> None:
    code = "import sys; sys.modules['torch'] = None; from service.cli import main; sys.exit(main(['train', 'x.toml']))"
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "deepthin: error: training needs torch: pip install 'deepthin[train]'\n"


@pytest.mark.parametrize("arguments", [["bench"], ["bench", "fly"]])
def test_bench_needs_a_known_benchmark(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "kernels" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["torch", "onnx", "scipy", "models.training", "models.catalogue"])
def test_serving_imports_nothing_that_only_others_need(package: str) -> None:
    code = f"import sys, service.app, service.server, service.cli.serve; sys.exit({package!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_explaining_serve_loads_no_service() -> None:
    code = (
        "import sys; from service.cli import main\n"
        "try: main(['serve', '--help'])\n"
        "finally: sys.exit(any(name in sys.modules for name in ('fastapi', 'numpy', 'onnxruntime')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_serve_answers_over_a_socket_and_stops_when_told(clip: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "service.cli", "serve", "--port", "0", "--model", "tiny-dense"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stderr=output, stdout=output, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        base = _address(process, log)
        for _ in range(2400):
            if httpx.get(f"{base}/readyz").status_code == 200:
                break
            time.sleep(0.05)
        with clip.open("rb") as file:
            response = httpx.post(f"{base}/transcribe", files={"file": file}, timeout=120)
        assert response.status_code == 200
        assert response.json()["text"]
        process.send_signal(signal.SIGTERM)
        # After an orderly shutdown the server ends by the signal itself, as supervisors expect.
        assert process.wait(120) == -signal.SIGTERM, log.read_text()
        assert "shutdown complete" in log.read_text()
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in log.read_text()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(2400):
        for line in log.read_text().splitlines():
            if "running on" in line:
                return line.split("running on ")[1].split()[0]
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(f"the service did not start: {log.read_text()}")
