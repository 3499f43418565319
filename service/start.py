"""How long this process has been running."""

from __future__ import annotations

import os
import time
from pathlib import Path


def since_start() -> dict[str, float]:
    """Seconds since the start of this process: by the clock ("elapsed", where there is /proc), and of "processor"."""
    seconds = {"processor": time.process_time()}
    try:
        stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return seconds
    # proc(5): field 22 is the start, in clock ticks since the machine's own; the name in field 2 may hold spaces.
    ticks = int(stat.rpartition(")")[2].split()[19])
    return {"elapsed": time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"), **seconds}
