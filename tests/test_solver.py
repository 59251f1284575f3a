"""The solver for many images, against the float64 solve."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from systems import exact, labels, mirrored

from nas_cntk import Builder, regression, solver
from nas_cntk.errors import RegressionError
from nas_cntk.kernels.gram import gram
from nas_cntk.solver import solve


def kernel(n: int, least: float, seed: int = 0) -> NDArray[np.float32]:
    """A matrix with a few large eigenvalues and the rest at `least`, like a kernel's."""
    rng = np.random.default_rng(seed)
    scales = np.exp(-np.arange(40) / 8)
    features = rng.standard_normal((n, 40)) * scales / np.linalg.norm(scales)
    k = (features @ features.T + 0.5 + least * np.eye(n)).astype(np.float32)
    return mirrored(k)


@pytest.fixture
def small_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "PANEL", 64)
    monkeypatch.setattr(solver, "STRIPE", 100)


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.parametrize(
    "least, method",
    [(1e-2, "refinement"), (1e-5, "conjugate gradients"), (3e-6, "conjugate gradients")],
)
def test_equal_to_the_float64_solve(least: float, method: str, ridge: float, small_panels: None) -> None:
    k, y = kernel(700, least), labels(700)
    before = k.copy()
    found = solve(k, y, 10, ridge)
    assert np.array_equal(k, before), "the caller's array was written to"
    assert found.method == (method if not ridge else "refinement")
    assert found.jitter == 0 and found.ridge == ridge
    assert found.residual < 1e-8 and found.iterations > 0
    wanted = exact(k, y, found)
    assert np.abs(found.alpha - wanted).max() < 3e-8 * np.abs(wanted).max()
    b = regression.targets(y, 10)
    left = b - k.astype(np.float64) @ found.alpha - ridge * found.mean_diagonal * found.alpha
    reported = (np.linalg.norm(left, axis=0) / np.linalg.norm(b, axis=0)).max()
    assert found.residual == pytest.approx(reported, rel=0.5)


@pytest.mark.slow
def test_equal_to_the_float64_solve_at_5000() -> None:
    from nas_cntk import kernel as exact_kernel

    b = Builder()
    x = b.relu(b.conv(b.relu(b.conv(b.input(), 3)), 3))
    b.dense(b.flatten(x))
    images = np.random.default_rng(0).random((5000, 6, 6, 3), dtype=np.float32)
    k, y = exact_kernel(b.build(), images), labels(5000)
    found, fitted = solve(k, y, 10), regression.fit(k, y, 10)
    assert found.jitter == fitted.jitter
    assert np.abs(found.alpha - fitted.alpha).max() < 1e-7 * np.abs(fitted.alpha).max()


def test_jitter_is_that_of_the_float64_fit(small_panels: None) -> None:
    k, y = kernel(600, 1e-2), labels(600)
    k[7], k[:, 7] = k[300], k[:, 300]  # the same image twice
    k[7, 7] = k[300, 300] = k[7, 300] = k[300, 7]
    for label in (y[300], (y[300] + 1) % 10):
        y[7] = label
        found, fitted = solve(k, y, 10), regression.fit(k, y, 10)
        assert found.jitter == fitted.jitter > 0
        assert np.abs(found.alpha - fitted.alpha).max() < 1e-5 * np.abs(fitted.alpha).max()


def test_overwriting_needs_no_second_matrix(small_panels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    k, y = kernel(300, 1e-2), labels(300)
    wanted = solve(k, y, 10).alpha
    upper = np.triu(k, 1)
    shapes: list[Any] = []
    real: Any = np.empty
    monkeypatch.setattr(np, "empty", lambda shape, *rest, **more: shapes.append(shape) or real(shape, *rest, **more))
    found = solve(k, y, 10, overwrite=True)
    monkeypatch.undo()
    assert (300, 300) not in shapes
    assert np.array_equal(found.alpha, wanted)
    assert np.array_equal(np.triu(k, 1), upper), "the upper triangle is the kernel still"
    assert not np.allclose(np.tril(k, -1), upper.T)
    with pytest.raises(RegressionError, match="cannot|can be overwritten"):
        solve(k.astype(np.float64), y, 10, overwrite=True)


def test_a_gram_matrix_on_disk(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas_cntk.kernels import budget

    monkeypatch.setattr(budget, "SIDES", (64, 64))
    b = Builder()
    b.dense(b.flatten(b.relu(b.conv(b.input(), 3))))
    x, y = np.random.default_rng(0).standard_normal((200, 5, 5, 2)).astype(np.float32), labels(200)
    found = gram(b.build(), x, store=tmp_path / "s")
    k = np.asarray(found)
    wanted = solve(k, y, 10).alpha
    empty = np.empty

    def poisoned(*args: Any, **kwargs: Any) -> Any:
        array = empty(*args, **kwargs)
        return np.full_like(array, np.nan) if array.dtype.kind == "f" else array

    monkeypatch.setattr(np, "empty", poisoned)  # below the diagonal tiles nothing is written, and nothing may be read
    assert np.array_equal(solve(found, y, 10).alpha, wanted)


def test_fit_uses_it_when_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    k, y = kernel(300, 1e-2), labels(300)
    wanted = regression.fit(k, y, 10)
    monkeypatch.setattr(regression, "_too_large", lambda n: n == 300)
    found = regression.fit(k, y, 10)
    assert np.abs(found.alpha - wanted.alpha).max() < 1e-8 * np.abs(wanted.alpha).max()
    assert np.isnan(found.loo_mse) and not np.isnan(wanted.loo_mse)
    assert found.mean_diagonal == pytest.approx(wanted.mean_diagonal)
    with pytest.raises(RegressionError, match="too many for this memory"):
        regression.fit(k, y, 10, "loo")


def test_progress_and_interruption(small_panels: None) -> None:
    k, y = kernel(400, 1e-2), labels(400)
    seen: list[float] = []
    solve(k, y, 10, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 1
    with pytest.raises(KeyboardInterrupt):
        solve(k, y, 10, cancelled=lambda: True)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda k: k[:, :-1], "must be square"),
        (lambda k: np.where(np.eye(len(k)), np.nan, k), "not finite"),
        (lambda k: -k, "mean diagonal is -"),
        (lambda k: k - 10 * np.triu(np.ones_like(k), 1) - 10 * np.tril(np.ones_like(k), -1), "not positive definite"),
    ],
)
def test_kernels_that_cannot_be_solved(spoil: Any, words: str) -> None:
    k = spoil(kernel(80, 1e-2))
    with pytest.raises(RegressionError, match=words) as caught:
        solve(k, labels(80), 10)
    assert "\n" not in str(caught.value)


def test_bad_labels_and_ridges() -> None:
    k, y = kernel(20, 1e-2), labels(20)
    with pytest.raises(RegressionError, match="19 labels for a kernel of 20"):
        solve(k, y[1:], 10)
    for ridge in (-1.0, float("nan")):
        with pytest.raises(RegressionError, match="a ridge of"):
            solve(k, y, 10, ridge)


def test_a_kernel_beyond_float32_is_not_finite() -> None:
    with pytest.raises(RegressionError, match="not finite"):
        solve(np.diag([1.0, 1e39, 1.0]), np.array([0, 1, 0]), 2)
