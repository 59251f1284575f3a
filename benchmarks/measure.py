"""Correctness first, then time: medians of runs of a second or so."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nas_cntk
from nas_cntk import Architecture

TOLERANCE = 5e-5  # of a float32 kernel: greatest error over greatest entry


def images(n: int, size: int, seed: int = 0, channels: int = 3) -> NDArray[np.float32]:
    """Return random images, shape (n, size, size, channels)."""
    return np.random.default_rng(seed).standard_normal((n, size, size, channels)).astype(np.float32)


def greatest_error(archs: Sequence[Architecture], size: int, kind: Any = "ntk", n1: int = 2, n2: int = 3) -> float:
    """Return the greatest error of the cpu backend over the greatest entry, against the float64 reference."""
    x1, x2 = images(n1, size, 1), images(n2, size, 2)
    worst = 0.0
    got: Any = nas_cntk.kernel_family(archs, x1, x2, kind=kind, backend="cpu")
    for arch, mine in zip(archs, got, strict=True):
        right: Any = nas_cntk.kernel(arch, x1, x2, kind=kind, backend="reference", dtype="float64")
        pairs = zip(mine, right, strict=True) if kind == "both" else [(mine, right)]
        worst = max(worst, *(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs))
    if not worst <= TOLERANCE:
        raise SystemExit(f"error: the cpu kernel is {worst:.1e} off the reference; no speed of a wrong result is shown")
    return worst


@dataclass(frozen=True, slots=True)
class Timing:
    """Pairs a second: the median of the runs, and their spread."""

    pairs_per_second: float
    slowest: float
    fastest: float
    pairs: int
    runs: int


def pairs_per_second(
    run: Callable[[NDArray[np.float32], NDArray[np.float32]], object], size: int, seconds: float, runs: int
) -> Timing:
    """Time `run(x1, x2)` on square blocks of random images, as large as `seconds` allow."""
    side, took = 16, 0.0
    run(images(side, size, 1), images(side, size, 2))  # what is paid once
    while True:
        x1, x2 = images(side, size, 1), images(side, size, 2)
        started = time.perf_counter()
        run(x1, x2)
        took = time.perf_counter() - started
        if took > 0.4 * seconds or side >= 1024:
            break
        grown = side * min(8.0, max(1.3, (seconds / max(took, 1e-4)) ** 0.5))
        side = min(1024, max(side + 16, int(grown) // 16 * 16))
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        run(x1, x2)
        times.append(time.perf_counter() - started)
    pairs = side * side
    return Timing(pairs / statistics.median(times), pairs / max(times), pairs / min(times), pairs, runs)


def seconds_of(calls: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """Return the median time of each call, the calls taken in turn so that a busy moment hits them all."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(runs):
        for call, spent in zip(calls, times, strict=True):
            started = time.perf_counter()
            call()
            spent.append(time.perf_counter() - started)
    return [statistics.median(spent) for spent in times]
