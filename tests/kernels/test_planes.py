"""What the compiled core does in ways of its own: planes that meet around an edge, poolings added as they are made."""

from __future__ import annotations

import numpy as np
import pytest

import nas_cntk
from nas_cntk import Architecture, Builder
from nas_cntk.kernels.fields import lower
from nas_cntk.kernels.schedule import Schedule


def plain(convs: int, kernel: int, head: str) -> Architecture:
    b = Builder()
    x = b.input()
    for _ in range(convs):
        x = b.relu(b.conv(x, kernel))
    b.dense(b.flatten(x) if head == "flatten" else b.global_avg_pool(x))
    return b.build()


def pooled_branches() -> Architecture:
    b = Builder()
    x = b.conv(b.input(), 3)
    y = b.add(b.avg_pool(x, 3, stride=1, padding="same"), x)
    z = b.add(b.avg_pool(y, 3, stride=1, padding="same"), b.conv(b.relu(y), 3), x)
    b.dense(b.global_avg_pool(b.relu(b.conv(b.relu(z), 1))))
    return b.build()


def check(arch: Architecture, shape: tuple[int, int], dtype: str, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    x1, x2 = rng.standard_normal((2, *shape, 2)), rng.standard_normal((3, *shape, 2))
    got = nas_cntk.kernel(arch, x1, x2, kind="both", backend="cpu", dtype=dtype)
    right = nas_cntk.kernel(arch, x1, x2, kind="both", backend="reference", dtype="float64")
    for mine, exact in zip(got, right, strict=True):
        assert np.abs(mine - exact).max() <= tolerance * np.abs(exact).max()


# Sides below, at and above those up to which two planes are carried as one, rows and columns apart.
@pytest.mark.parametrize("shape", [(8, 8), (1, 6), (2, 2), (7, 5), (5, 9), (17, 4), (3, 33)])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_planes_that_meet_around_an_edge(shape: tuple[int, int], kernel: int) -> None:
    check(plain(4, kernel, "gap"), shape, "float32", 1e-5)
    check(plain(3, kernel, "flatten"), shape, "float64", 1e-12)


@pytest.mark.parametrize("shape", [(8, 8), (1, 4), (5, 3), (3, 9)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_poolings_added_as_they_are_made(shape: tuple[int, int], dtype: str, tolerance: float) -> None:
    check(pooled_branches(), shape, dtype, tolerance)


def test_the_schedule_adds_poolings_as_they_are_made() -> None:
    family = lower([pooled_branches()], (8, 8, 3))
    schedule = Schedule(family, [0], variances=False, tangents=True)
    assert schedule.added
    for total, pool in schedule.added.items():
        assert family.fields[pool].kind == "pool" and family.fields[total].kind == "sum"
        assert pool not in {op.out for run in schedule.instructions.values() for op in run}
