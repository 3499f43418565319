"""Sizes of files, and the parts of the house that must agree with each other."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("ops", "models", "service", "load_tests", "tests", "docker", ".ci")
SUFFIXES = {".py", ".cpp", ".h", ".inl", ".sh", ".js", ".css"}
LONGEST = 400
# Files that may be longer, each with its reason.
LONGER: dict[str, str] = {}

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_files_are_short():
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in SUFFIXES]
    long = {path.relative_to(ROOT).as_posix() for path in files if lines(path) > LONGEST}
    assert long == set(LONGER), "split the file, or give its reason in LONGER; take out what is short again"


def test_installed_version_is_the_declared_one():
    assert version("deepthin") == PROJECT["version"]


@pytest.mark.parametrize(
    "command", [[], ["serve"], ["transcribe"], ["models"], ["evaluate"], ["compress"], ["bench"]], ids=" ".join
)
def test_the_command_explains_itself(command: list[str]):
    (script,) = entry_points(group="console_scripts", name="deepthin")
    assert script.value == PROJECT["scripts"]["deepthin"]
    program = "import sys; from service.cli import main; sys.exit(main())"
    result = subprocess.run(
        [sys.executable, "-c", program, *command, "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("usage: ")


def test_python_versions_are_the_same_everywhere():
    assert PROJECT["requires-python"] == ">=3.11"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "Python 3.11 to 3.14" in readme
    assert re.findall(r"\(3, 11\) <= sys.version_info < \(3, 15\)", makefile)


def test_torch_is_pinned_for_the_checks_only():
    assert not any(requirement.startswith("torch") for requirement in PROJECT["dependencies"])
    assert "torch==2.13.0" in (ROOT / "Makefile").read_text(encoding="utf-8")
