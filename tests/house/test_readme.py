"""What the README and the other pages promise must be there."""

import re
import tomllib
from pathlib import Path

import pytest

from models import table
from models.store import BUNDLED, ModelStore
from service.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page: Path):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+://|#", target)]
    missing = [target for target in local if not (page.parent / target).exists()]
    assert missing == []


def test_make_commands_exist():
    used = set(re.findall(r"`?\bmake ([a-z][a-z-]*)\b(?:`|  |.*`)", README))
    defined = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert {"demo", "test", "serve", "help", "clean"} <= used
    assert used <= defined


def test_commands_of_the_program_exist(capsys: pytest.CaptureFixture[str]):
    used = set(re.findall(r"\.venv/bin/deepthin ([a-z]+)", README))
    assert {"transcribe", "models", "evaluate", "train"} <= used
    with pytest.raises(SystemExit):
        main(["--help"])
    known = set(re.findall(r"^    ([a-z]+)\b", capsys.readouterr().out, re.MULTILINE))
    assert used <= known


def test_every_make_command_is_listed_by_help():
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    documented = re.findall(r"^([a-z0-9-]+):.*## ", MAKEFILE, re.MULTILINE)
    assert sorted(phony[1].split()) == sorted(documented)


def test_folders_exist():
    rows = re.findall(r"^\| `([^|]*)\|", README, re.MULTILINE)
    folders = [folder for row in rows for folder in re.findall(r"([a-z_-]+(?:/|\.yml))`", f"`{row}")]
    assert {"ops/", "models/", "service/"} <= set(folders)
    assert [folder for folder in folders if not (ROOT / folder).exists()] == []


def test_the_table_of_models_is_what_the_manifests_say():
    store = ModelStore([BUNDLED])
    wanted = table.render([store.load(name) for name in store.names()], store.default())
    assert table.update(README, wanted) == README, "run `make readme-table`"


def test_version_is_in_the_changelog():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
