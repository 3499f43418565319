"""Settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings


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
