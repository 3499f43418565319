"""Settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service import settings_reference
from service.settings import Settings
from service.settings_reference import UndocumentedSettingError, reference

COMMITTED = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_environment_variables_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEEPTHIN_PORT", "9000")
    monkeypatch.setenv("DEEPTHIN_HOME", str(tmp_path))
    monkeypatch.setenv("DEEPTHIN_MODELS", "a, b,,c ")
    monkeypatch.setenv("DEEPTHIN_API_KEYS", "k1,k2")
    settings = Settings()
    assert settings.port == 9000
    assert settings.model_folders[0] == tmp_path / "models"
    assert settings.models == ("a", "b", "c")
    assert [key.get_secret_value() for key in settings.api_keys] == ["k1", "k2"]
    assert "k1" not in repr(settings)


def test_defaults_keep_to_this_machine_and_need_no_key() -> None:
    settings = Settings()
    assert settings.host == "127.0.0.1"
    assert settings.api_keys == ()
    assert settings.threads >= 1


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "99999"), ("QUEUE_LENGTH", "0"), ("MAX_SECONDS", "-1"), ("LOG_LEVEL", "loud")]
)
def test_bad_values_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"DEEPTHIN_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_the_reference_is_what_the_settings_are(tmp_path: Path) -> None:
    assert settings_reference.main([str(tmp_path / "written.md")]) == 0
    command = "python -m service.settings_reference docs/configuration.md"
    assert (tmp_path / "written.md").read_text() == COMMITTED.read_text(), f"run `{command}`"


def test_the_reference_gives_limits_defaults_and_meanings() -> None:
    rows = {line.split("`")[1]: line for line in reference().splitlines() if line.startswith("| `")}
    assert set(rows) == {f"DEEPTHIN_{name.upper()}" for name in Settings.model_fields}
    assert rows["DEEPTHIN_PORT"] == "| `DEEPTHIN_PORT` | whole number from 0 to 65535 | `8000` | port to listen on |"
    assert "| number above 0 | `600` |" in rows["DEEPTHIN_MAX_SECONDS"]
    assert "| `true` or `false` | `true` |" in rows["DEEPTHIN_JOB_IDLE"]
    assert "| `auto`, `json`, `text` | `auto` |" in rows["DEEPTHIN_LOG_FORMAT"]
    assert "| list | none |" in rows["DEEPTHIN_API_KEYS"]


def test_a_setting_without_a_meaning_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Settings, "__doc__", "Settings.\n\n    Attributes:\n        host: address.\n")
    with pytest.raises(UndocumentedSettingError, match="'port'"):
        reference()
