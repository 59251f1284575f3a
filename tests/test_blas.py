"""One thread for small matrices, and the old number afterwards."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from nas_cntk import regression
from nas_cntk.blas import ONE_THREAD, blas_threads


def threads() -> list[int]:
    return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]


def test_small_matrices_have_one_thread_and_large_ones_all() -> None:
    import scipy.linalg  # noqa: F401

    before = threads()
    assert before, "no BLAS was found: the test shows nothing"
    with blas_threads(ONE_THREAD):
        assert set(threads()) == {1}
    assert threads() == before
    with blas_threads(ONE_THREAD + 1):
        assert threads() == before
    with pytest.raises(ZeroDivisionError), blas_threads(10):
        raise ZeroDivisionError
    assert threads() == before


def test_a_regression_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []
    solve = regression._solve

    def watched(*arguments: object) -> regression.Fit:
        seen.append(threads())
        return solve(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(regression, "_solve", watched)
    k = np.eye(20) + 0.1
    regression.fit(k, np.arange(20) % 2, 2, ridge="loo")
    regression.fit(k, np.arange(20) % 2, 2)
    assert len(seen) == len(regression.RIDGE_GRID) + 1 and all(set(one) == {1} for one in seen)
