"""The training file and the command that reads it."""

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed (extra `train`)")

from pathlib import Path

from models.training import cli
from models.training.config import ConfigError, load_config
from models.training.network import build, compress, sizes

CONFIGS = sorted((Path(__file__).parents[2] / "models" / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_every_shipped_configuration_builds(path):
    config = load_config(path)
    assert config.name == path.stem
    net = build(config)
    compress(net, config.compress, keep=False)
    stored, dense, _, _ = sizes(net)
    for size in (50, 250):
        if path.stem.endswith(f"-{size}"):
            assert 0.8 / size < stored / dense < 1.1 / size
    if path.stem.endswith("-dense"):
        assert stored == dense


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = 'x'", "family"),
        ("name = 'x'\nfamily = 'rnn'", "family"),
        ("name = 'x'\nfamily = 'tfkaldi'\nepochs = 3", "epochs"),
        ("name = 'x'\nfamily = 'tfkaldi'\n[train]\nepochs = -1", r"train\.epochs"),
        ("name = 'x'\nfamily = 'tfkaldi'\n[[compress]]\nsize = 0.1", r"compress\.0\.pattern"),
        ("name = ", "not TOML"),
    ],
)
def test_a_bad_file_is_explained(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(path)


def test_the_command_reports_errors_in_one_line(tmp_path, capsys):
    assert cli.main([str(tmp_path / "none.toml")]) == 2
    assert "no such configuration" in capsys.readouterr().err


def test_the_command_needs_the_data(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("DEEPTHIN_DATA", raising=False)
    assert cli.main([str(CONFIGS[0]), "--runs", str(tmp_path)]) == 2
    assert "DEEPTHIN_DATA" in capsys.readouterr().err
