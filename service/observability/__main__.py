"""`python -m service.observability [FOLDER]`: write the dashboard and the alert rules into docker/."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from service.observability.alerts import rules
from service.observability.dashboard import DASHBOARD

FOLDER: Final = Path(__file__).parents[2] / "docker"


def files() -> dict[str, str]:
    """What is written, by the path below docker/."""
    return {
        "grafana/dashboards/deepthin.json": json.dumps(DASHBOARD.to_json(), indent=2) + "\n",
        "prometheus/alerts.yml": rules(),
    }


def main(folder: Path = FOLDER) -> None:
    """Write the files below `folder`."""
    for name, text in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
