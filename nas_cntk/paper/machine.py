"""What a result was computed on, and by which command line: for whoever reads it later."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from nas_cntk.machine import processor_name


def machine() -> str:
    """Return the processor, how many of it, and the system."""
    return f"{os.cpu_count()} x {processor_name()}, {platform.system()}, Python {platform.python_version()}"


def command_line(arguments: list[str] | None = None) -> str:
    """Return the command as it may be typed elsewhere: of paths, the last name alone."""
    shown = []
    for word in sys.argv[1:] if arguments is None else arguments:
        kind, colon, path = word.partition(":")
        shown.append(f"{kind}:{Path(path).name}" if colon and "/" in path else Path(word).name if "/" in word else word)
    return shlex.join(["nas-cntk", *shown])


def provenance(backend: str) -> Mapping[str, object]:
    """Return what is recorded with every cell."""
    from nas_cntk import __version__

    return {"version": __version__, "machine": machine(), "command": command_line(), "kernel_backend": backend}
