"""Every test that asks for `isa` runs once on each instruction set that this processor has."""

import pytest

from ops.library import available_instruction_sets


@pytest.fixture(params=available_instruction_sets())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An instruction set, forced for the sessions that the test creates."""
    monkeypatch.setenv("DEEPTHIN_OPS_ISA", request.param)
    return str(request.param)
