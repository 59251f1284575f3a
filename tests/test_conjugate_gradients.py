"""Block conjugate gradients on products alone, against the float64 solve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from plain_nets import plain
from systems import exact, labels, mirrored

from nas_cntk import gram, regression, solver
from nas_cntk.conjugate_gradients import NotPositive, Run, solve
from nas_cntk.errors import KernelError, RegressionError
from nas_cntk.kernels import budget
from nas_cntk.kernels.products import ArraySource, Part, Products, source_of
from nas_cntk.nystrom import nystrom


def kernel(n: int, least: float, seed: int = 0) -> NDArray[np.float32]:
    """A matrix whose eigenvalues fall over the whole of it, down to `least` of the greatest."""
    rng = np.random.default_rng(seed)
    turns = np.linalg.qr(rng.standard_normal((n, n)))[0]
    k = ((turns * least ** (np.arange(n) / (n - 1))) @ turns.T * n).astype(np.float32)
    return mirrored(k)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "SIDES", (64, 64))
    monkeypatch.setattr("nas_cntk.kernels.products.SCRATCH", 64 * 7)
    monkeypatch.setattr("nas_cntk.nystrom.CHUNK", 50)
    monkeypatch.setattr(ArraySource.__init__, "__defaults__", (64,))


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.parametrize("rank", [0, 60, 250])
@pytest.mark.parametrize("least", [1e-1, 1e-4])
def test_equal_to_the_float64_solve(least: float, rank: int, ridge: float, small_tiles: None) -> None:
    k, y = kernel(250, least), labels(250)
    before = k.copy()
    found = solve(k, y, 10, ridge, rank=rank, tolerance=1e-10)
    assert np.array_equal(k, before), "the caller's array was written to"
    assert found.jitter == 0 and found.ridge == ridge and found.rank == rank
    assert found.iterations == len(found.history) > 0
    wanted = exact(k, y, found)
    assert np.abs(found.alpha - wanted).max() < 1e-9 / least * np.abs(wanted).max()
    b = regression.targets(y, 10)
    left = b - k.astype(np.float64) @ found.alpha - ridge * found.mean_diagonal * found.alpha
    reported = (np.linalg.norm(left, axis=0) / np.linalg.norm(b, axis=0)).max()
    assert found.residual <= 1e-10
    assert found.residual == pytest.approx(reported, rel=0.2)


def test_one_space_for_all_classes_and_a_few_columns_save_iterations() -> None:
    k, y = kernel(400, 1e-4), labels(400)
    plainly = solve(k, y, 10, rank=0)
    helped = solve(k, y, 10, rank=150)
    assert helped.iterations < 0.8 * plainly.iterations
    # One class after the other, each by itself, with no random column beside it that could help.
    alone = 0
    product, b = k.astype(np.float64), regression.targets(y, 10)
    x, r = np.zeros(400), b[:, 0].copy()
    p = r.copy()
    while np.linalg.norm(r) > 1e-8 * np.linalg.norm(b[:, 0]):
        q = product @ p
        step = (r @ r) / (p @ q)
        x, older = x + step * p, r
        r = r - step * q
        p = r + (r @ r) / (older @ older) * p
        alone += 1
    assert plainly.iterations < alone / 2


def test_a_gram_matrix_on_disk_is_read_once_a_product_or_once_in_all(tmp_path: Path, small_tiles: None) -> None:
    x = np.random.default_rng(0).standard_normal((256, 5, 5, 2)).astype(np.float32)
    matrix = gram(plain(2), x, store=tmp_path / "s")
    k, given = np.asarray(matrix).astype(np.float64), np.random.default_rng(1).standard_normal((256, 3))
    tiles = 4 * 5 // 2
    # The four columns have nothing to do with the diagonal tile of rows 128 to 191.
    for memory, reads in ((0, 4 * tiles - 1), (3.5 * 64 * 64 * 4, 4 * tiles - 1 - 3 * 3), (1e9, tiles)):
        products = Products(matrix, memory=memory, threads=1)
        for _ in range(2):
            assert np.abs(products.times(given) - k @ given).max() < 1e-12 * np.abs(k @ given).max()
        chosen = np.array([255, 3, 64, 5])
        assert np.array_equal(products.columns(chosen), k[:, chosen].astype(np.float32))
        products.times(given)
        assert products.read == reads, memory
        assert np.array_equal(products.diagonal(), k.diagonal())
    part = Part(source_of(matrix), 2 * 64 * 64 * 4)
    for j in range(3):
        part.tile(0, j)
    assert set(part.kept) == {(0, 0), (0, 1)}
    part.forget([(0, 1), (0, 2)])
    part.tile(0, 2)
    assert set(part.kept) == {(0, 1), (0, 2)}, "the room of what was forgotten is lost"
    y = labels(256)
    wanted = regression.fit(np.asarray(matrix), y, 10)
    found = solve(matrix, y, 10, tolerance=1e-10)
    assert found.jitter == wanted.jitter == 0
    assert np.abs(found.alpha - wanted.alpha).max() < 1e-7 * np.abs(wanted.alpha).max()
    with pytest.raises(RegressionError, match="pass the Gram matrix"):
        solve(matrix.against(x), y, 10)
    next((tmp_path / "s").glob("*-ntk/c/0/1")).unlink()
    with pytest.raises(KernelError, match="missing or damaged"):
        solve(matrix, y, 10)


def test_the_solver_uses_it_when_memory_is_short(
    tmp_path: Path, small_tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = np.random.default_rng(0).standard_normal((200, 5, 5, 2)).astype(np.float32), labels(200)
    matrix = gram(plain(2), x, store=tmp_path / "s")
    wanted = solver.solve(matrix, y, 10)
    assert "on tiles" not in wanted.method
    monkeypatch.setattr(budget, "available_memory", lambda: 4 * 200**2 - 1)
    whole: list[Any] = []
    monkeypatch.setattr(solver, "_working_copy", lambda *given: whole.append(given))
    found = solver.solve(matrix, y, 10)
    assert not whole and found.method == "conjugate gradients on tiles"
    assert found.residual <= solver.TOLERANCE
    assert np.abs(found.alpha - wanted.alpha).max() < 1e-7 * np.abs(wanted.alpha).max()


def test_jitter_is_that_of_the_float64_fit() -> None:
    k, y = kernel(300, 1e-1), labels(300)
    k[7], k[:, 7] = k[200], k[:, 200]  # the same image twice
    k[7, 7] = k[200, 200] = k[7, 200] = k[200, 7]
    for label in (y[200], (y[200] + 1) % 10):
        y[7] = label
        for rank in (0, 30, 300):
            found, fitted = solve(k, y, 10, rank=rank), regression.fit(k, y, 10)
            assert found.jitter == fitted.jitter > 0
            assert np.abs(found.alpha - fitted.alpha).max() < 1e-5 * np.abs(fitted.alpha).max()


def test_right_hand_sides_that_depend_on_each_other_or_are_nothing() -> None:
    k = kernel(200, 1e-3)
    one = np.random.default_rng(0).standard_normal((200, 1))
    b = np.concatenate([one, 0 * one, 2 * one, one + np.roll(one, 1), np.roll(one, 1)], axis=1)
    for few in (None, nystrom(Products(k), 50)):
        run = Run(Products(k), b, 0.0, few)
        run.go()
        assert run.converged and run.residual <= 1e-8 and not run.x[:, 1].any()
        assert np.abs(run.x - np.linalg.solve(k.astype(np.float64), b)).max() < 1e-4 * np.abs(run.x).max()
        nothing = Run(Products(k), 0 * b, 0.0, few)
        nothing.go()
        assert nothing.converged and nothing.residual == 0 and not nothing.x.any() and not nothing.history


def test_what_does_not_converge_says_how_far_it_came() -> None:
    k, y = kernel(200, 1e-4), labels(200)
    with pytest.raises(RegressionError, match=r"the residual is \d.*e.0\d after 4 iterations, more than") as caught:
        solve(k, y, 10, rank=0, most=4)
    assert "\n" not in str(caught.value)
    run = Run(Products(k), regression.targets(y, 10), 0.0, None, most=4)
    run.go()
    left = run.b - k.astype(np.float64) @ run.x
    assert not run.converged
    assert run.residual == pytest.approx((np.linalg.norm(left, axis=0) / np.linalg.norm(run.b, axis=0)).max())


def test_a_matrix_that_changes_under_the_iteration_is_not_called_solved() -> None:
    class Shaking(Products):
        def times(self, x: NDArray[np.float64], cancelled: Any = None) -> NDArray[np.float64]:
            product = super().times(x)
            product[0] *= 1 + 1e-3 * self.calls % 2
            self.calls += 1
            return product

        calls = 0

    with pytest.raises(RegressionError, match="the residual is"):
        solve(Shaking(kernel(200, 1e-2)), labels(200), 10, rank=0)


@pytest.mark.parametrize("rank", [0, 20, 80])
@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda k: k[:, :-1], "must be square"),
        (lambda k: np.where(np.eye(len(k)), np.nan, k), "not finite"),
        (lambda k: -k, "mean diagonal is -"),
        (lambda k: k - 99 * (1 - np.eye(len(k), dtype=np.float32)), "not positive definite"),
    ],
)
def test_kernels_that_cannot_be_solved(spoil: Any, words: str, rank: int) -> None:
    with pytest.raises(RegressionError, match=words) as caught:
        solve(spoil(kernel(80, 1e-2)), labels(80), 10, rank=rank)
    assert "\n" not in str(caught.value)


def test_a_direction_without_targets_in_it_is_found() -> None:
    # The targets see nothing of the direction in which the matrix is negative; the random column does.
    k = np.zeros((200, 200), dtype=np.float32)
    k[:199, :199] = kernel(199, 1e-3)
    b = np.zeros((200, 3))
    b[:199] = np.random.default_rng(2).standard_normal((199, 3))
    k[199, 199] = 0.01
    run = Run(Products(k), b, 0.0, None)
    run.go()
    assert run.converged
    k[199, 199] = -0.01
    with pytest.raises(NotPositive):
        Run(Products(k), b, 0.0, None).go()


def test_bad_labels_ridges_ranks_and_tolerances() -> None:
    k, y = kernel(20, 1e-1), labels(20)
    with pytest.raises(RegressionError, match="19 labels for a kernel of 20"):
        solve(k, y[1:], 10)
    for ridge in (-1.0, float("nan")):
        with pytest.raises(RegressionError, match="a ridge of"):
            solve(k, y, 10, ridge)
    for rank in (-1, 21):
        with pytest.raises(RegressionError, match="a preconditioner of"):
            solve(k, y, 10, rank=rank)
    for tolerance in (0.0, 1.0, float("nan")):
        with pytest.raises(RegressionError, match="a tolerance of"):
            solve(k, y, 10, tolerance=tolerance)


def test_progress_and_interruption() -> None:
    k, y = kernel(200, 1e-2), labels(200)
    seen: list[float] = []
    solve(k, y, 10, progress=seen.append)
    assert len(seen) > 3 and seen[0] < 0.9 and seen[-1] == 1 and min(seen) >= 0
    with pytest.raises(KeyboardInterrupt):
        solve(k, y, 10, cancelled=lambda: True)
