"""What the machine is called."""

from __future__ import annotations

import platform
from pathlib import Path


def processor_name(proc: Path = Path("/proc")) -> str:
    """Return the processor's name, as the system tells it."""
    try:
        for line in (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown processor"
