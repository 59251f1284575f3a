"""GPUs: what the driver shows, whether CuPy fits it, and what to install where something is missing."""

from __future__ import annotations

import csv
import importlib.util
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from nas_cntk.doctor.check import OK, WARNING, Check, of_error, size
from nas_cntk.doctor.software import PACKAGE, cupys
from nas_cntk.errors import BackendUnavailable

QUERY = ("nvidia-smi", "--query-gpu=name,driver_version,compute_cap,memory.total", "--format=csv,noheader,nounits")
PATIENCE = 10.0  # seconds for nvidia-smi, which waits for a driver that is not awake
# The oldest driver of each CUDA major version, newest first (CUDA compatibility guide, "minor version compatibility").
EXTRAS = ((580, "cuda13"), (525, "cuda12"))


@dataclass(frozen=True, slots=True)
class Seen:
    """A GPU as the driver shows it."""

    name: str
    driver: str
    compute_capability: str
    memory: str  # MiB


def gpu(command: Sequence[str] = QUERY) -> Check:
    """Return what there is for backend cuda; a machine without an NVIDIA GPU needs nothing."""
    seen, trouble = look(command)
    installed = cupys()
    if trouble:
        return Check("gpu", WARNING, trouble, "restart the machine, or install NVIDIA's driver again")
    words = ", ".join(
        f"{one.name} ({one.memory} MiB, compute capability {one.compute_capability}, driver {one.driver})"
        for one in seen
    )
    if len(installed) > 1:
        found = f"{len(installed)} packages of CuPy are installed ({', '.join(installed)}) and overwrite each other"
        names = " ".join(one.split()[0] for one in installed)
        return Check("gpu", WARNING, found, f"pip uninstall {names}, then {install(seen)}")
    if importlib.util.find_spec("cupy") is None:
        if not seen:
            return Check("gpu", OK, "no NVIDIA GPU; kernels are computed on the cpu")
        return Check("gpu", WARNING, f"{words}, but CuPy is not installed: kernels use the cpu", install(seen))
    from nas_cntk.kernels.backends import cuda

    try:
        there = cuda.found()
    except BackendUnavailable as error:
        if not seen:
            return Check("gpu", OK, f"no NVIDIA GPU; {', '.join(installed) or 'CuPy'} is installed and not used")
        check = of_error("gpu", error, WARNING)
        return Check("gpu", WARNING, f"{words}: {check.found}", install(seen))
    gpus = ", ".join(
        f"{one.number}: {one.name} (compute capability {one.compute_capability}, {size(one.free_bytes)} of"
        f" {size(one.total_bytes)} free)"
        for one in there.gpus
    )
    said = f"{gpus}; CuPy {there.cupy} for CUDA {_cuda(there.runtime)}, driver {_driver(seen, there.driver)}"
    if there.runtime // 1000 > there.driver // 1000:
        return Check("gpu", WARNING, f"{said}: the driver is older than CuPy's CUDA", install(seen))
    return Check("gpu", OK, said)


def look(command: Sequence[str]) -> tuple[list[Seen], str | None]:
    """Return the GPUs that the driver shows, and what is wrong with it; no driver at all is no trouble."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, errors="replace")
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return [], None
    except (subprocess.TimeoutExpired, OSError) as error:
        return [], f"{command[0]} does not answer ({type(error).__name__})"
    if result.returncode != 0:
        words = " ".join((result.stdout + " " + result.stderr).split())[:200]
        return [], None if "no devices" in words.lower() else f"{command[0]} fails ({words or result.returncode})"
    rows = [[cell.strip() for cell in row] for row in csv.reader(result.stdout.splitlines())]
    return [Seen(*row) for row in rows if len(row) == 4], None


def install(seen: Sequence[Seen]) -> str:
    """Return the command that installs the CuPy which fits the driver of these GPUs."""
    for oldest, extra in EXTRAS:
        if seen and min(_major(one.driver) for one in seen) >= oldest:
            return f"pip install '{PACKAGE}[{extra}]'"
    if seen:
        return f"install NVIDIA's driver {EXTRAS[0][0]} or newer, then pip install '{PACKAGE}[{EXTRAS[0][1]}]'"
    return f"pip install '{PACKAGE}[{EXTRAS[0][1]}]' (or {EXTRAS[1][1]}, after the CUDA version that nvidia-smi shows)"


def _major(driver: str) -> int:
    head = driver.partition(".")[0]
    return int(head) if head.isdigit() else 0


def _cuda(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _driver(seen: Sequence[Seen], number: int) -> str:
    return f"{seen[0].driver} (CUDA {_cuda(number)})" if seen else f"for CUDA {_cuda(number)}"
