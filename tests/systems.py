"""Systems of kernel regression for the tests of what solves them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk import conjugate_gradients, regression, solver


def mirrored(k: NDArray[np.float32]) -> NDArray[np.float32]:
    """The matrix that is k above its diagonal, to the last bit on both sides."""
    upper = np.triu(k)
    return upper + np.triu(upper, 1).T


def labels(n: int, seed: int = 1) -> NDArray[np.int64]:
    """Labels of ten classes."""
    return np.random.default_rng(seed).integers(0, 10, n)


def exact(
    k: NDArray[Any], y: NDArray[Any], found: solver.Solution | conjugate_gradients.Solution
) -> NDArray[np.float64]:
    """The float64 solution of the system that a solver says it has solved."""
    system = k.astype(np.float64)
    system[np.diag_indices_from(system)] += (found.ridge + found.jitter) * found.mean_diagonal
    return np.linalg.solve(system, regression.targets(y, 10))
