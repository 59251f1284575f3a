"""Products by the workers of a cluster: as those of one process, whoever dies or comes, and errors in one line."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from plain_nets import plain

from nas_cntk import gram, regression, solver
from nas_cntk.conjugate_gradients import solve
from nas_cntk.errors import KernelError, RegressionError
from nas_cntk.kernels import budget
from nas_cntk.kernels.gram import Gram

distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed (the extra cluster)")

import cloudpickle  # noqa: E402

from nas_cntk.cluster import Products, Tiles, open_cluster  # noqa: E402

N = 300


# Workers do not find this file: what they run of it travels as it is.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with open_cluster("local:2") as opened:
        yield opened


@pytest.fixture
def matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gram:
    monkeypatch.setattr(budget, "SIDES", (64, 64))
    x = np.random.default_rng(0).standard_normal((N, 5, 5, 2)).astype(np.float32)
    return gram(plain(2), x, store=tmp_path / "s")


def labels(n: int = N) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, 10, n)


def files_read(client: Any) -> int:
    return sum(client.run(_files_read).values())


def _files_read() -> int:
    from nas_cntk.cluster.products import _parts

    return sum(part.read for _, part in _parts.values())


def _kept() -> int:
    from nas_cntk.cluster.products import _parts

    return sum(len(part.kept) for _, part in _parts.values())


def test_products_are_those_of_one_process_on_disk_in_memory_and_sent(client: Any, matrix: Gram) -> None:
    whole = np.asarray(matrix)
    k, x = whole.astype(np.float64), np.random.default_rng(2).standard_normal((N, 3))
    chosen = np.array([200, 3, 64, 299])
    for given, more in ((matrix, {}), (matrix, {"send": True}), (whole, {}), (matrix, {"memory": 0.0})):
        products = Products(client, given, **more)
        for _ in range(2):
            assert np.abs(products.times(x) - k @ x).max() < 1e-12 * np.abs(k @ x).max()
        assert np.array_equal(products.diagonal(), k.diagonal())
        assert np.array_equal(products.columns(chosen), whole[:, chosen])
        shares = products.shares.values()
        assert len(shares) == 2 and sum(map(len, shares)) == len({tile for one in shares for tile in one})
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    products = Products(client, matrix)
    products.times(x)
    tiles = sum(map(len, products.shares.values()))
    assert files_read(client) == tiles
    products.times(x)
    assert files_read(client) == tiles, "a tile was read twice, although there is memory for it"
    products.release()
    assert files_read(client) == 0
    products = Products(client, matrix, memory=0.0)
    products.times(x)
    products.times(x)
    assert files_read(client) == 2 * tiles


def test_the_solution_is_that_of_float64(client: Any, matrix: Gram) -> None:
    wanted = regression.fit(np.asarray(matrix), labels(), 10)
    for rank in (0, 60):
        found = solve(Products(client, matrix), labels(), 10, rank=rank, tolerance=1e-10)
        assert found.jitter == wanted.jitter == 0 and found.residual <= 1e-10
        assert np.abs(found.alpha - wanted.alpha).max() < 1e-7 * np.abs(wanted.alpha).max()


@pytest.mark.parametrize("sent", [False, True])
def test_workers_killed_and_added_in_mid_solve_change_nothing(client: Any, matrix: Gram, sent: bool) -> None:
    client.wait_for_workers(2, timeout=60)
    before, calls = client.run(os.getpid), 0

    class Watched(Products):
        def times(self, x: NDArray[np.float64], cancelled: Any = None) -> NDArray[np.float64]:
            nonlocal calls
            calls += 1
            if calls == 3:
                os.kill(min(before.values()), signal.SIGKILL)
            if calls == 5:
                client.cluster.scale(3)
                client.wait_for_workers(3, timeout=60)
            return super().times(x, cancelled)

    products = Watched(client, matrix, send=sent)
    found = solve(products, labels(), 10, rank=20, tolerance=1e-10)
    wanted = regression.fit(np.asarray(matrix), labels(), 10)
    assert np.abs(found.alpha - wanted.alpha).max() < 1e-7 * np.abs(wanted.alpha).max()
    assert calls > 6 and min(before.values()) not in client.run(os.getpid).values()
    assert set(products.shares) == set(client.nthreads()), "a worker that came has no share, or a dead one has"
    assert max(map(len, products.shares.values())) == 5
    assert sent or sum(client.run(_kept).values()) == 15, "a tile that moved stays with whom it left"
    client.cluster.scale(2)


def test_the_solver_lets_the_workers_of_a_cluster_multiply_a_matrix_that_is_too_large(
    client: Any, matrix: Gram, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.wait_for_workers(2, timeout=60)
    wanted = solver.solve(matrix, labels(), 10, engine=Tiles(client))
    assert "on tiles" not in wanted.method
    monkeypatch.setattr(budget, "available_memory", lambda: 4 * N**2 - 1)
    found = solver.solve(matrix, labels(), 10, engine=Tiles(client))
    assert found.method == "conjugate gradients on tiles by a cluster"
    assert files_read(client) == 0, "the workers keep tiles that nobody needs"
    assert np.abs(found.alpha - wanted.alpha).max() < 1e-7 * np.abs(wanted.alpha).max()
    monkeypatch.setattr("nas_cntk.cluster.tiles.see", lambda client, path: False)
    assert solver.solve(matrix, labels(), 10, engine=Tiles(client)).method == "conjugate gradients on tiles"


def test_errors_come_home_and_cancelling_ends_it(client: Any, matrix: Gram, tmp_path: Path) -> None:
    client.wait_for_workers(2, timeout=60)
    with pytest.raises(KeyboardInterrupt):
        solve(Products(client, matrix), labels(), 10, cancelled=lambda: True)
    spoiled = np.asarray(matrix).copy()
    spoiled[3, 280] = np.inf
    with pytest.raises(RegressionError, match="not finite"):
        solve(Products(client, spoiled), labels(), 10)
    with pytest.raises(RegressionError, match="not positive definite"):
        solve(Products(client, np.asarray(matrix) - 99 * (1 - np.eye(N, dtype=np.float32))), labels(), 10)
    products = Products(client, matrix)
    next((tmp_path / "s").glob("*-ntk/c/0/1")).unlink()
    with pytest.raises(KernelError, match=r"tile \(0, 1\) .* is missing or damaged"):
        solve(Products(client, matrix), labels(), 10)
    (tmp_path / "s").rename(tmp_path / "elsewhere")
    with pytest.raises(KernelError, match="is gone"):
        solve(products, labels(), 10)


def _other_machine(path: str) -> None:
    # What a worker on a machine with a disk of its own would find there.
    from nas_cntk.cluster import products

    products._digest = lambda given: "other"


def test_a_store_that_a_worker_does_not_see_is_not_read(client: Any, matrix: Gram) -> None:
    import importlib

    worker = min(client.nthreads())
    client.run(_other_machine, "", workers=[worker])
    try:
        with pytest.raises(KernelError, match="not all workers see the store"):
            Products(client, matrix)
        with Tiles(client).products(matrix) as products:
            assert products is None
    finally:
        client.run(lambda: importlib.reload(importlib.import_module("nas_cntk.cluster.products")) and None)
    with Tiles(client).products(matrix) as products:
        assert products is not None
