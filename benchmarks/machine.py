"""The machine: what it is, and the most that its arithmetic allows."""

from __future__ import annotations

import os
import platform
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from nas_cntk.kernels import _native
from nas_cntk.kernels.backends import cpu
from nas_cntk.machine import processor_name

OPERATIONS = 19  # multiplications or FMAs of one entry-layer: the form with one square root, counted


def description() -> dict[str, object]:
    """Return processor, cores in use, instruction set, system."""
    return {
        "cpu": processor_name(),
        "threads": cpu.threads(),
        "instruction_set": cpu.instruction_set(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def bound(seconds: float = 0.25) -> float:
    """Return the counted bound now, in entry-layers/s: FMAs of a register-only loop on all threads, over 19."""
    threads = cpu.threads()
    rounds = 1 << 18

    def run(pool: ThreadPoolExecutor, rounds: int) -> float:
        started = time.perf_counter()
        done = sum(pool.map(_native.burn, [rounds] * threads))
        return float(done) / (time.perf_counter() - started)

    with ThreadPoolExecutor(threads) as pool:
        rate = run(pool, rounds)
        per_run = max(1, int(seconds / 3 * rate / threads / (12 * 16)))
        return statistics.median(run(pool, per_run) for _ in range(3)) / OPERATIONS
