"""Where networks are trained: a processor by name, or the best one there is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nas_cntk.errors import BackendUnavailable, UsageError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Devices:
    """Torch's device for trainings, None where nothing is trained, and the GPUs that a kernel backend may use."""

    trainer: torch.device | None = None
    gpus: tuple[int, ...] = ()

    @property
    def train(self) -> torch.device:
        """The device of trainings, where there are any."""
        assert self.trainer is not None
        return self.trainer


def resolve_devices(text: str) -> Devices:
    """Return what `--devices` names: auto, cpu, mps, cuda, or a list such as cuda:0,cuda:1 or 0,1.

    Networks are trained one after the other, on the first; "auto" takes CUDA, else MPS, else the CPU.

    Raises:
        UsageError: on a word that names no device.
        BackendUnavailable: if torch, or the device, is not there.
    """
    try:
        import torch
    except ImportError:
        raise BackendUnavailable("validation needs torch, which is not installed; install nas-cntk[train]") from None

    parts = [f"cuda:{part}" if part.isdecimal() else part for part in map(str.strip, text.split(","))]
    for part in parts:
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", part) or (len(parts) > 1 and not part.startswith("cuda:")):
            raise UsageError(f"--devices {text[:40]!r} is no device; use auto, cpu, mps, cuda or cuda:0,cuda:1")
    has_mps = torch.backends.mps.is_available()
    if parts[0] == "auto":
        parts = ["cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"]
    if parts[0] == "mps" and not has_mps:
        raise BackendUnavailable("device mps is not there on this machine; use --devices auto or cpu")
    numbers = tuple(int(part.partition(":")[2] or 0) for part in parts if part.startswith("cuda"))
    for number in numbers:
        if number >= torch.cuda.device_count():
            raise BackendUnavailable(
                f"device cuda:{number} is not there (torch sees {torch.cuda.device_count()} CUDA devices);"
                " use --devices auto or cpu"
            )
    return Devices(torch.device(parts[0]), numbers)
