"""How a worker stands back for everything else."""

from __future__ import annotations

import subprocess
import sys

import pytest

SHOW = """
import os, sys
from pathlib import Path
from service.jobs.process import stand_back
stand_back(7, idle=sys.argv[1] == "idle")
print(os.nice(0), os.sched_getscheduler(0) == os.SCHED_IDLE, Path("/proc/self/oom_score_adj").read_text().strip())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has processes that run when nothing else does")
@pytest.mark.parametrize("how", ["idle", "nice"])
def test_a_worker_stands_back(how: str) -> None:
    # A session of its own, so that what is said of the session does not hold for these tests too.
    shown = subprocess.run(
        [sys.executable, "-c", SHOW, how],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        start_new_session=True,
    )
    nice, idle, victim = shown.stdout.split()
    assert int(nice) >= 7
    assert idle == str(how == "idle")
    assert victim == "600"
