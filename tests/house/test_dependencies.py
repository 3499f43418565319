"""Imports point one way, and what serves needs no PyTorch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = {"ops": {"ops"}, "models": {"ops", "models"}, "service": {"ops", "models", "service"}}
TRAINING = ("models/training/", "models/families/")


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Top-level names of all imports in a file, those inside functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", ALLOWED)
def test_imports_point_one_way(package: str):
    ours = set(ALLOWED) | {"load_tests", "tests"}
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported(path)
        if name in ours - ALLOWED[package]
    }
    assert wrong == set()


def test_torch_is_imported_by_training_alone():
    users = {
        path.relative_to(ROOT).as_posix()
        for package in ALLOWED
        for path in sources(package)
        if {"torch", "torchaudio"} & set(imported(path))
    }
    assert {path for path in users if not path.startswith(TRAINING)} == set()


def test_everything_but_training_imports_without_torch():
    modules = [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for package in ALLOWED
        for path in sources(package)
        if not path.relative_to(ROOT).as_posix().startswith(TRAINING) and path.name != "__main__.py"
    ]
    assert {"ops.layout", "models.recognisers", "service.app"} <= set(modules)
    script = (
        "import importlib, sys\n"
        "sys.modules['torch'] = None\n"  # makes every import of it fail
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *modules], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr


def test_tests_are_collected_without_torch():
    """`make test` does without the extra `train`; what needs it has to be skipped, not to fail."""
    script = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "import pytest\n"
        "sys.exit(pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider', 'tests']))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stdout
