"""What a symmetric positive matrix is to a few of its columns: a preconditioner for the rest.

Letters in shapes: n rows, m columns that were drawn, c columns of what is multiplied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas_cntk.blas import in_threads
from nas_cntk.errors import RegressionError

if TYPE_CHECKING:
    from nas_cntk.conjugate_gradients import Cancelled, Operator

Float = NDArray[np.float64]

SHIFTS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""Added to the block of the drawn columns, in multiples of its mean diagonal; the first is the rounding of float32."""

CHUNK = 2048  # rows that are float64 at a time


@dataclass(frozen=True, slots=True, eq=False)
class Nystrom:
    """About K: vectors diag(values) vectors^T, and `rest` on the diagonal for what that leaves of K."""

    vectors: NDArray[np.float32]  # shape: (n, m), orthonormal
    values: Float  # shape: (m,), positive, ascending
    rest: float

    def root(self, added: float) -> Callable[[Float], Float]:
        """Return how to multiply by about (K + added I)^(-1/2), up to a factor: shape (n, c) to (n, c).

        It is I + vectors diag(...) vectors^T with the vectors as they are, so it is symmetric to the last bit that
        matters, whatever the rounding of the vectors.
        """
        level = self.rest + added
        weights = np.sqrt(level / (self.values + level)) - 1

        def times(x: Float) -> Float:
            product, tops = x.copy(), range(0, len(x), CHUNK)

            def inward(top: int) -> Float:
                found: Float = self.vectors[top : top + CHUNK].T.astype(np.float64) @ x[top : top + CHUNK]
                return found

            def outward(top: int) -> None:
                product[top : top + CHUNK] += self.vectors[top : top + CHUNK].astype(np.float64) @ inner

            inner = np.zeros((len(weights), x.shape[1]))
            for part in in_threads(inward, tops):
                inner += part
            inner *= weights[:, None]
            for _ in in_threads(outward, tops):
                pass
            return product

        return times


def nystrom(operator: Operator, rank: int, seed: int = 0, cancelled: Cancelled | None = None) -> Nystrom:
    """Draw columns at random, all alike, and return what they say of the whole.

    Source: Williams, Seeger, "Using the Nystrom method to speed up kernel machines" (2000); as a preconditioner,
    Frangella, Tropp, Udell, "Randomized Nystrom preconditioning" (2021), here with the mean of the diagonal that is
    left in place of the least eigenvalue found.

    Raises:
        RegressionError: if the drawn block of the matrix is far from positive definite.
    """
    from scipy.linalg import LinAlgError, cholesky, eigh, solve_triangular

    n = operator.shape[0]
    chosen = np.sort(np.random.default_rng(seed).choice(n, min(rank, n), replace=False))
    drawn = operator.columns(chosen, cancelled)  # shape: (n, m)
    block = drawn[chosen].astype(np.float64)
    block = (block + block.T) / 2
    size = float(np.trace(block)) / len(chosen)
    for shift in SHIFTS:
        try:
            factor = cholesky(block + shift * size * np.eye(len(chosen)), lower=True)
            break
        except LinAlgError:
            continue
    else:
        raise RegressionError(
            f"the kernel is not positive definite: {len(chosen)} of its images already show that, even with"
            f" {SHIFTS[-1]:g} of their mean diagonal added; compute it in float64, or give a ridge"
        )
    # B, the columns times the inverse of the factor's transpose, gives about K = B B^T, with the eigenvalues of B^T B.
    inner = np.zeros((len(chosen), len(chosen)))
    left = operator.diagonal().sum()
    for top in range(0, n, CHUNK):
        part = solve_triangular(factor, drawn[top : top + CHUNK].T.astype(np.float64), lower=True)
        inner += part @ part.T
        left -= float(np.sum(part * part))
        if cancelled is not None and cancelled():
            raise KeyboardInterrupt
    values, turns = eigh(inner)
    good = values > values[-1] * 1e-13  # below that rounding is all there is
    values, turns = values[good], turns[:, good]
    turns = solve_triangular(factor, turns / np.sqrt(values), lower=True, trans=1)
    for top in range(0, n, CHUNK):  # in their place: no second array of that size
        drawn[top : top + CHUNK, : len(values)] = drawn[top : top + CHUNK].astype(np.float64) @ turns
    rest = left / max(1, n - len(chosen))
    return Nystrom(drawn[:, : len(values)], values, max(rest, float(np.finfo(np.float32).eps) * size))
