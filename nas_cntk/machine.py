"""What the machine is called, and its GPUs by number."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from nas_cntk.errors import UsageError


def processor_name(proc: Path = Path("/proc")) -> str:
    """Return the processor's name, as the system tells it."""
    try:
        for line in (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown processor"


def gpu_numbers(text: str | None) -> tuple[int, ...]:
    """Return the GPUs that `--devices` names, such as "0,1" or "cuda:0,cuda:1"; none for None, "auto" or "cuda".

    Raises:
        UsageError: on anything else.
    """
    if text is None or text.strip() in ("auto", "cuda"):
        return ()
    numbers = []
    for part in text.split(","):
        found = re.fullmatch(r"(?:cuda:)?([0-9]{1,3})", part.strip())
        if found is None:
            raise UsageError(f"--devices {text[:40]!r} names no GPUs; give their numbers, such as 0 or 0,1")
        numbers.append(int(found[1]))
    return tuple(dict.fromkeys(numbers))
