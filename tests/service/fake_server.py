"""A service whose compression jobs have the fake pipeline; run as a script, with the settings of the environment."""

from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[2]))

from service import logs
from service.app import create_app
from service.server import Server
from service.settings import Settings
from tests.service.jobs import INSPECTOR, WORKER

if __name__ == "__main__":
    settings = Settings()
    logs.configure(settings.log_level, settings.log_format)
    # The fake pipeline fine-tunes without PyTorch.
    with patch("service.routes.compress.find_spec"):
        Server(create_app(settings, worker=WORKER, inspector=INSPECTOR), settings).run()
