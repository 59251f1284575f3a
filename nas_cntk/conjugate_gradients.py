"""Kernel regression where no n x n array fits into memory: all that is asked of the kernel is its product with a few
columns, which tiles on disk (`nas_cntk.kernels.products`) or the workers of a cluster (`nas_cntk.cluster`) can give.

Block conjugate gradients: one space for all classes, which grows by as many directions an iteration as there are
classes, so that a product is needed far less often than for one class after the other. Preconditioned by a few columns
of the kernel (`nas_cntk.nystrom`). Letters in shapes: n images, c classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nas_cntk.blas import blas_threads
from nas_cntk.errors import RegressionError
from nas_cntk.nystrom import Nystrom, nystrom
from nas_cntk.regression import JITTERS, targets

if TYPE_CHECKING:
    from nas_cntk.kernels.tiles import Tiled

Float = NDArray[np.float64]
Cancelled = Callable[[], bool]

TOLERANCE = 1e-8  # of the residual, relative to the targets
MOST_ITERATIONS = 2000
PATIENCE = 200  # iterations that may gain less than a half
RESTARTS = 5  # from the true residual, where the one of the recurrence was too good
LEAST_RANK, MOST_RANK = 100, 2000
SHARE_OF_MEMORY = 8  # the columns of the preconditioner take at most one part in so many

EPS32 = float(np.finfo(np.float32).eps)
EPS64 = float(np.finfo(np.float64).eps)


class Operator(Protocol):
    """A symmetric matrix that is known by what it does."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""

    def diagonal(self) -> Float:
        """Return its diagonal, shape (n,)."""

    def times(self, x: Float, cancelled: Cancelled | None = None) -> Float:
        """Return its product with x, shape (n, c), summed in float64."""

    def columns(self, chosen: NDArray[np.intp], cancelled: Cancelled | None = None) -> NDArray[Any]:
        """Return some of its columns, shape (n, m), an array of the caller's own."""


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """alpha of (K + (ridge + jitter) mean_diagonal I) alpha = targets, and how well it solves it.

    `residual` is the greatest over the classes of |targets - K alpha| / |targets|, from one more product at the end;
    `history` has what the iteration thought it was after each of its products.
    """

    alpha: Float  # shape: (n, c)
    residual: float
    history: tuple[float, ...]
    ridge: float
    jitter: float
    mean_diagonal: float
    rank: int  # of the preconditioner; 0 for none

    @property
    def iterations(self) -> int:
        """How many products with the kernel it took, those at the end excepted."""
        return len(self.history)


def default_rank(n: int) -> int:
    """Return how many columns the preconditioner is made of where the caller does not say."""
    from nas_cntk.kernels.budget import available_memory

    room = available_memory() // (SHARE_OF_MEMORY * 4 * n)
    return min(n, max(LEAST_RANK, min(n // 10, MOST_RANK, room)))


def solve(
    kernel: Operator | NDArray[Any] | Tiled,
    y: NDArray[Any],
    num_classes: int,
    ridge: float = 0.0,
    *,
    rank: int | None = None,
    tolerance: float = TOLERANCE,
    most: int = MOST_ITERATIONS,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
    cancelled: Cancelled | None = None,
) -> Solution:
    """Solve the regression by products with the kernel alone.

    Jitter follows `nas_cntk.solver.solve`: none unless the iteration meets a direction in which the matrix is below
    mean(diag K) (n eps64 + 4 eps32); then the least of `regression.JITTERS` that mends it.

    Args:
        kernel: an array or a Gram matrix, of which this process reads one tile after the other, or what else gives
            products, such as `nas_cntk.cluster.Products`.
        y: shape (n,), integers from 0.
        ridge: a multiple of the mean diagonal.
        rank: columns of the kernel that make the preconditioner, 0 for none; by default a tenth of the images, 2,000
            at most, and fewer where an eighth of the memory does not hold them.
        tolerance: of the residual; where rounding in float64 alone leaves more, that is enough.
        most: iterations.
        seed: of the drawn columns.
        progress: called with the fraction of the digits that are won.
        cancelled: polled once a tile; a true answer ends the solve with KeyboardInterrupt.

    Raises:
        RegressionError: if the residual does not come down to the tolerance, saying how far it came; on a kernel that
            is not finite, not square, has no positive diagonal or is far from positive definite; on labels as
            `regression.targets` does; on a bad ridge, rank or tolerance.
        KernelError: if a tile is missing or damaged, or the workers that had it are lost.
    """
    operator = _operator(kernel)
    n = operator.shape[0]
    b = targets(y, num_classes)
    if len(b) != n:
        raise RegressionError(f"{len(b)} labels for a kernel of {n} images; give one label an image")
    if isinstance(ridge, str) or not (math.isfinite(ridge) and ridge >= 0):
        raise RegressionError(f"a ridge of {ridge}; use a number from 0 up (times the mean diagonal)")
    if rank is not None and not 0 <= rank <= n:
        raise RegressionError(f"a preconditioner of {rank} columns of {n}; use 0 (none) up to {n}")
    if not 0 < tolerance < 1:
        raise RegressionError(f"a tolerance of {tolerance}; use a number between 0 and 1, such as {TOLERANCE:g}")
    scale = float(operator.diagonal().mean())
    if not math.isfinite(scale):
        raise RegressionError("the kernel is not finite; compute it in float64, or scale the images")
    if not scale > 0:
        raise RegressionError(f"the kernel's mean diagonal is {scale:g}; are all images black?")
    return _solved(operator, b, float(ridge), rank, tolerance, most, seed, scale, progress, cancelled)


def _solved(
    operator: Operator,
    b: Float,
    ridge: float,
    rank: int | None,
    tolerance: float,
    most: int,
    seed: int,
    scale: float,
    progress: Callable[[float], None] | None,
    cancelled: Cancelled | None,
) -> Solution:
    n = len(b)
    columns = default_rank(n) if rank is None else rank
    with blas_threads(columns):
        few = nystrom(operator, columns, seed, cancelled) if columns else None
    least = scale * (n * EPS64 + 4 * EPS32)
    for jitter in (0.0, *JITTERS):
        added = (ridge + jitter) * scale
        run = Run(operator, b, added, few, tolerance, most, least, n * scale, seed, progress, cancelled)
        try:
            with blas_threads(1):  # products have threads of their own, and what else there is has a few columns
                run.go()
        except NotPositive:
            continue
        if not run.converged:
            raise RegressionError(
                f"the residual is {run.residual:.1e} after {len(run.history)} iterations, more than {tolerance:.1e};"
                f" give a larger rank than {columns}, more iterations than {most}, a larger tolerance, or a ridge"
            )
        if progress is not None:
            progress(1.0)
        return Solution(run.x, run.residual, tuple(run.history), ridge, jitter, scale, columns)
    raise RegressionError(
        f"the kernel is not positive definite, nor with {JITTERS[-1]:g} of its mean diagonal added;"
        " compute it in float64, or give a ridge"
    )


class NotPositive(Exception):
    """A direction was met in which the matrix is not positive definite to working precision."""


@dataclass(slots=True, eq=False)
class Run:
    """Block conjugate gradients for (K + added I) x = b; `go` sets what is below the line.

    Source: Dubrulle, "Retooling the method of block conjugate gradients" (2001), the variant with a QR factorisation
    of the residuals, here of the system F (K + added I) F z = F b, x = F z with the root F of the preconditioner. It
    needs no full rank of the residuals: classes may depend on each other (targets sum to zero over the classes) or be
    solved before the others.
    """

    operator: Operator
    b: Float  # shape: (n, c)
    added: float
    preconditioner: Nystrom | None
    tolerance: float = TOLERANCE
    most: int = MOST_ITERATIONS
    least: float = 0.0
    """What (K + added I) must be in every direction that is met."""
    size: float = 0.0
    """About the greatest that it is in any direction: the sum of its diagonal, say."""
    seed: int = 0
    progress: Callable[[float], None] | None = None
    cancelled: Cancelled | None = None
    # ---
    x: Float = field(init=False)  # shape: (n, c)
    residual: float = field(init=False, default=math.inf)
    converged: bool = field(init=False, default=False)
    history: list[float] = field(init=False, default_factory=list)

    def go(self) -> None:
        """Iterate until the residual is small, or nothing is gained any more.

        Raises:
            NotPositive: if a direction is met in which the matrix is less than `least`.
        """
        self.x = np.zeros_like(self.b)
        r = self.b.copy()
        self.residual = self._relative(r)
        for _ in range(RESTARTS):
            self.converged = self.residual <= self.tolerance or self._good()
            if self.converged or len(self.history) >= self.most:
                return
            before = self.residual
            self._iterate(r)
            r = self.b - self._times(self.x)  # the true one; that of the recurrence drifts
            self.residual = self._relative(r)
            if not self.residual < before / 2:
                break
        self.converged = self.residual <= self.tolerance or self._good()

    def _iterate(self, r: Float) -> None:
        from scipy.linalg import LinAlgError, cho_factor, cho_solve

        # A random column beside the targets: it shows what the targets may not, a direction in which K is nothing.
        probe = np.random.default_rng(self.seed).standard_normal((len(r), 1))
        probe *= np.linalg.norm(r, axis=0).max() / np.linalg.norm(probe)
        root = (lambda v: v) if self.preconditioner is None else self.preconditioner.root(self.added)
        q, small = np.linalg.qr(root(np.concatenate([r, probe], axis=1)))
        s = q
        aim = self.tolerance / 2
        best, since = self.residual, len(self.history)
        while len(self.history) < self.most:
            p = root(s)
            product = self._times(p)
            if np.any(np.sum(p * product, axis=0) < self.least * np.sum(p * p, axis=0)):
                raise NotPositive
            turned = root(product)
            inner = s.T @ turned
            try:
                factor = cho_factor((inner + inner.T) / 2)
            except LinAlgError:
                raise NotPositive from None
            step = cho_solve(factor, small[:, :-1])
            self.x += p @ step
            r = r - product @ step
            residual = self._relative(r)
            self.history.append(residual)
            self._tell(residual)
            if residual <= aim:
                return
            if residual < best / 2:
                best, since = residual, len(self.history)
            elif len(self.history) - since > PATIENCE:
                return
            q, change = np.linalg.qr(q - turned @ cho_solve(factor, np.eye(len(inner))))
            s = q + s @ change.T
            small = change @ small

    def _times(self, x: Float) -> Float:
        product = self.operator.times(x, self.cancelled)
        if self.added:
            product += self.added * x
        return product

    def _relative(self, r: Float) -> float:
        norms = np.linalg.norm(self.b, axis=0)
        return float((np.linalg.norm(r, axis=0) / np.where(norms, norms, 1)).max())

    def _good(self) -> bool:
        # Whether no float64 solve would leave less: its rounding alone is eps64 |K| |x|.
        norms = np.linalg.norm(self.b, axis=0)
        growth = float((np.linalg.norm(self.x, axis=0) / np.where(norms, norms, 1)).max())
        return self.residual <= EPS64 * self.size * growth

    def _tell(self, residual: float) -> None:
        if self.progress is not None and residual > 0:
            self.progress(min(1.0, max(0.0, math.log(residual) / math.log(self.tolerance))))


def _operator(kernel: Operator | NDArray[Any] | Tiled) -> Operator:
    from nas_cntk.kernels.products import Products
    from nas_cntk.kernels.tiles import Tiled

    return Products(kernel) if isinstance(kernel, (np.ndarray, Tiled)) else kernel
