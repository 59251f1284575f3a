"""Kernel regression: targets, float64 solve, ridge and jitter, leave-one-out, likelihood, alignment.

Letters in shapes: n subset images, m other images, c classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas_cntk.blas import blas_threads
from nas_cntk.errors import RegressionError

Float = NDArray[np.float64]

SMALL = 4096
"""Images up to which the float64 solve is taken whatever the system says of its memory."""

PREDICTED_AT_A_TIME = 4096

RIDGE_GRID = (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""What `ridge="loo"` chooses from, in multiples of the mean diagonal."""

JITTERS = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
"""What is tried, in multiples of the mean diagonal, on a kernel that is not positive definite."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A solved regression, with every score that needs no held-out image.

    `ridge` and `jitter` are multiples of `mean_diagonal`; the solved matrix is
    K + (ridge + jitter) mean_diagonal I. `alignment` is that of K itself. Of a kernel solved by `solver.solve`, for
    want of memory, the leave-one-out scores, the likelihood and the alignments are nan.
    """

    alpha: Float  # shape: (n, c)
    ridge: float
    jitter: float
    mean_diagonal: float
    loo_accuracy: float
    loo_mse: float
    log_marginal_likelihood: float
    alignment: float
    correlation_alignment: float

    @property
    def num_classes(self) -> int:
        """The number of classes, c."""
        return int(self.alpha.shape[1])


@dataclass(frozen=True, slots=True, eq=False)
class Holdout:
    """Scores on images that the fit has not seen."""

    accuracy: float
    mse: float
    standard_error: float  # of the accuracy
    correct: NDArray[np.bool_]  # shape: (m,)


def targets(y: NDArray[Any], num_classes: int) -> Float:
    """Return one-hot minus 1/classes, shape (n, c).

    Source: section 6 (-0.1 and 0.9 for ten classes).

    Raises:
        RegressionError: if a label is no integer in [0, num_classes).
    """
    labels = np.asarray(y)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise RegressionError(
            f"labels must be a vector of integers, got shape {labels.shape} of {labels.dtype};"
            " number the classes from 0"
        )
    if num_classes < 2:
        raise RegressionError(f"{num_classes} class(es); regression needs two or more")
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise RegressionError(
            f"labels from {labels.min()} to {labels.max()} with {num_classes} classes;"
            f" number them 0 to {num_classes - 1}"
        )
    result = np.full((len(labels), num_classes), -1 / num_classes)
    result[np.arange(len(labels)), labels] += 1
    return result


def fit(kernel: NDArray[Any], y: NDArray[Any], num_classes: int, ridge: float | Literal["loo"] = 0.0) -> Fit:
    """Solve (K + ridge mean(diag K) I) alpha = targets in float64.

    Jitter is added only where the matrix is not positive definite to working precision: where Cholesky breaks
    down, or a pivot (the variance of an image given those before it) is below what rounding alone explains,
    mean(diag K) (n eps64 + 4 eps), eps being that of the dtype `kernel` comes in. It is then the least of
    `JITTERS` that leaves every pivot above that. A duplicate image is the usual cause.

    A kernel whose float64 matrices do not fit into the available memory goes to `solver.solve`, which needs n^2
    float32 numbers and gives alpha alone.

    Args:
        kernel: shape (n, n), symmetric (the lower triangle is read); an array or a Gram matrix.
        y: shape (n,), integers from 0.
        ridge: a multiple of the mean diagonal, or "loo": the one of `RIDGE_GRID` with the least leave-one-out
            mean squared error (the first of equals). Held-out images are never asked.

    Raises:
        RegressionError: on a kernel that is not finite, not square, not symmetric, has no positive diagonal
            or is far from positive definite; on labels as `targets` does, or of one class; on a bad ridge.
    """
    if getattr(kernel, "ndim", 0) == 2 and _too_large(len(kernel)):
        return _fit_large(kernel, y, num_classes, ridge)
    k = _checked(kernel)
    y_targets = targets(y, num_classes)
    if len(y_targets) != len(k):
        raise RegressionError(f"{len(y_targets)} labels for a kernel of {len(k)} images; give one label an image")
    if len(np.unique(y)) < 2:
        raise RegressionError(f"all {len(k)} subset images are of class {int(y[0])}; regression needs two classes")
    if ridge == "loo":
        with blas_threads(len(k)):
            fits = [_solve(k, y_targets, candidate) for candidate in RIDGE_GRID]
        return min(fits, key=lambda candidate: candidate.loo_mse)
    if isinstance(ridge, str) or not (math.isfinite(ridge) and ridge >= 0):
        raise RegressionError(f'a ridge of {ridge}; use a number from 0 up (times the mean diagonal), or "loo"')
    with blas_threads(len(k)):
        return _solve(k, y_targets, float(ridge))


def memory_of_fit(n: int) -> int:
    """Return the bytes that `fit` needs for n images: the kernel in float64, its factor, two more for the alignment."""
    return 4 * 8 * n * n


def _too_large(n: int) -> bool:
    from nas_cntk.kernels.budget import available_memory

    return n > SMALL and memory_of_fit(n) > available_memory()


def _fit_large(kernel: NDArray[Any], y: NDArray[Any], num_classes: int, ridge: float | Literal["loo"]) -> Fit:
    from nas_cntk.solver import solve

    if ridge == "loo":
        raise RegressionError(
            f"{len(kernel)} images are too many for this memory to choose a ridge by leave-one-out;"
            " choose it on fewer images, and give the number"
        )
    solution = solve(kernel, y, num_classes, ridge)
    unknown = math.nan
    return Fit(
        solution.alpha,
        solution.ridge,
        solution.jitter,
        solution.mean_diagonal,
        loo_accuracy=unknown,
        loo_mse=unknown,
        log_marginal_likelihood=unknown,
        alignment=unknown,
        correlation_alignment=unknown,
    )


def predict(fitted: Fit, kernel: NDArray[Any]) -> Float:
    """Return predictions, shape (m, c); the class is the argmax, the lowest one of equals.

    Args:
        kernel: shape (m, n): other images by subset images.

    Raises:
        RegressionError: on a kernel that is not finite or does not have n columns.
    """
    shape = np.shape(kernel)
    n = len(fitted.alpha)
    if len(shape) != 2 or shape[1] != n:
        raise RegressionError(f"a kernel of shape {shape} for a fit of {n} images; it must be (images, {n})")
    predictions: Float = np.empty((shape[0], fitted.num_classes))
    for start in range(0, shape[0], PREDICTED_AT_A_TIME):  # of a kernel on disk, no more than these rows are read
        rows = np.asarray(kernel[start : start + PREDICTED_AT_A_TIME])
        if not np.isfinite(rows).all():
            raise RegressionError("the held-out kernel is not finite; compute it in float64, or scale the images")
        with blas_threads(n):
            predictions[start : start + len(rows)] = rows.astype(np.float64, copy=False) @ fitted.alpha
    return predictions


def holdout_scores(fitted: Fit, kernel: NDArray[Any], y: NDArray[Any]) -> Holdout:
    """Score a fit on other images: accuracy, its binomial standard error, mean squared error.

    The squared error is averaged over images and classes.

    Args:
        kernel: shape (m, n).
        y: shape (m,).

    Raises:
        RegressionError: as `predict` and `targets` do, and without images.
    """
    y_targets = targets(y, fitted.num_classes)
    predictions = predict(fitted, kernel)
    if len(y_targets) != len(predictions) or not len(y_targets):
        raise RegressionError(
            f"{len(y_targets)} held-out labels for {len(predictions)} images; give one label an image"
        )
    correct = predictions.argmax(axis=1) == np.asarray(y)
    accuracy = float(correct.mean())
    mse = float(np.mean((predictions - y_targets) ** 2))
    return Holdout(accuracy, mse, standard_error(accuracy, len(correct)), correct)


def standard_error(accuracy: float, images: int) -> float:
    """Return the binomial standard error of an accuracy over `images` images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def alignment(kernel: NDArray[Any], y_targets: Float) -> float:
    """Return the centred alignment of a kernel and the targets' Gram matrix, in [-1, 1].

    It is 0 if either is constant, else
    <HKH, HYY'H> / (|HKH| |HYY'H|) in the Frobenius norm, H = I - 11'/n.

    Source: Cortes, Mohri, Rostamizadeh, "Algorithms for learning kernels based on centered alignment" (2012).
    """
    k = np.asarray(kernel, dtype=np.float64)
    means = k.mean(axis=0)
    centred = k - means - means[:, None] + means.mean()
    y_centred = y_targets - y_targets.mean(axis=0)
    size, y_size = float(np.linalg.norm(centred)), float(np.linalg.norm(y_centred.T @ y_centred))
    # Rounding leaves a few eps of a constant kernel: no direction to be aligned with.
    if y_size == 0 or size <= 4 * np.finfo(kernel.dtype).eps * float(np.linalg.norm(k)):
        return 0.0
    return float(np.sum(y_centred * (centred @ y_centred))) / (size * y_size)


def correlation_alignment(kernel: NDArray[Any], y_targets: Float) -> float:
    """Return the alignment of the kernel's correlations, K_ij / sqrt(K_ii K_jj), and the targets' Gram matrix.

    Only pairs of different images count, and the centring is that of the unbiased estimate: an image is no witness for
    its own label. It is 0 where that leaves nothing. In [-1, 1].

    Source: Song, Smola, Gretton, Bedo, Borgwardt, "Feature selection via dependence maximization" (2012), equation 5,
    normalised as in Cortes, Mohri, Rostamizadeh (2012).
    """
    k = np.asarray(kernel, dtype=np.float64)
    n = len(k)
    if n < 4:
        return 0.0
    scale = np.sqrt(np.diagonal(k))
    correlations = _off_diagonal_centred(k / scale / scale[:, None])
    labels = _off_diagonal_centred(y_targets @ y_targets.T)
    size, y_size = float(np.linalg.norm(correlations)), float(np.linalg.norm(labels))
    rounding = 4 * np.finfo(kernel.dtype).eps * n
    if size <= rounding or y_size <= rounding:
        return 0.0
    return float(np.sum(correlations * labels)) / (size * y_size)


def _off_diagonal_centred(matrix: Float) -> Float:
    n = len(matrix)
    centred = matrix.copy()
    np.fill_diagonal(centred, 0.0)
    sums = centred.sum(axis=0)
    centred -= sums / (n - 2)
    centred -= sums[:, None] / (n - 2)
    centred += sums.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(centred, 0.0)
    return centred


def _checked(kernel: NDArray[Any]) -> NDArray[Any]:
    k = np.asarray(kernel)
    if k.ndim != 2 or k.shape[0] != k.shape[1] or not len(k) or k.dtype.kind != "f":
        raise RegressionError(
            f"a kernel of shape {k.shape} and {k.dtype}; it must be square, of floating point numbers"
        )
    if not np.isfinite(k).all():
        bad = np.argwhere(~np.isfinite(k))[0]
        raise RegressionError(
            f"the kernel is {k[tuple(bad)]} at images {bad[0]} and {bad[1]}; compute it in float64, or scale the images"
        )
    mean_diagonal = float(np.mean(np.diagonal(k), dtype=np.float64))
    if not mean_diagonal > 0:
        raise RegressionError(f"the kernel's mean diagonal is {mean_diagonal:g}; are all images black?")
    # Far above the rounding of any backend, far below any mistake.
    if float(np.abs(k - k.T).max()) > 1e-3 * mean_diagonal:
        raise RegressionError("the kernel is not symmetric; pass the images' kernel with themselves, in one order")
    return k


def _solve(k: NDArray[Any], y_targets: Float, ridge: float) -> Fit:
    from scipy.linalg import lapack

    n, c = y_targets.shape
    scale = float(np.mean(np.diagonal(k), dtype=np.float64))
    least_pivot = scale * (n * np.finfo(np.float64).eps + 4 * np.finfo(k.dtype).eps)
    for jitter in (0.0, *JITTERS):
        factor, broken = lapack.dpotrf(_with_diagonal(k, (ridge + jitter) * scale), lower=1, overwrite_a=1)
        if not broken and float(np.square(np.diagonal(factor)).min()) >= least_pivot:
            break
    else:
        raise RegressionError(
            f"the kernel is not positive definite, nor with {JITTERS[-1]:g} of its mean diagonal added;"
            " compute it in float64"
        )
    alpha, failed = lapack.dpotrs(factor, y_targets, lower=1)
    assert not failed
    log_determinant = 2 * float(np.log(np.diagonal(factor)).sum())
    inverse, failed = lapack.dpotri(factor, lower=1, overwrite_c=1)
    assert not failed
    residuals = alpha / np.diagonal(inverse)[:, None]
    loo_predictions = y_targets - residuals
    return Fit(
        alpha=np.ascontiguousarray(alpha),
        ridge=ridge,
        jitter=jitter,
        mean_diagonal=scale,
        loo_accuracy=float(np.mean(loo_predictions.argmax(axis=1) == y_targets.argmax(axis=1))),
        loo_mse=float(np.mean(residuals**2)),
        log_marginal_likelihood=_likelihood(float(np.sum(y_targets * alpha)), log_determinant, n, c),
        alignment=alignment(k, y_targets),
        correlation_alignment=correlation_alignment(k, y_targets),
    )


def _with_diagonal(k: NDArray[Any], added: float) -> Float:
    """Return a float64 copy of `k` with `added` on the diagonal, in the column order LAPACK overwrites."""
    matrix = np.array(k, dtype=np.float64, order="F")
    matrix[np.diag_indices_from(matrix)] += added
    return matrix


def _likelihood(quadratic: float, log_determinant: float, n: int, c: int) -> float:
    """Return the log marginal likelihood of one class, on average, under the best scale s of the kernel.

    With c independent columns of covariance s K, s = tr(Y' K^-1 Y) / (n c) is best, and the likelihood is c
    times this value, minus c n/2 (1 + log 2 pi), which depends on no kernel and is left out.
    """
    return -n / 2 * math.log(quadratic / (n * c)) - log_determinant / 2
