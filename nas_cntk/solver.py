"""Kernel regression of many images: one float32 matrix in memory, and a float64 solution.

The kernel K comes as float32, so its float64 Cholesky factor would say no more than the float32 one, refined: K and
its factor share one array, K in the strict upper triangle and the factor in the lower one, 4 n^2 bytes in all (10 GB
for 50,000 images instead of 20 and more). The factor is a preconditioner; residuals are computed in float64 against
the K that is still there. Letters in shapes: n images, c classes.

Own panels instead of one LAPACK call: they leave the other triangle alone, index no more than a panel at a time (n^2
does not fit the 32-bit integers of common BLAS builds beyond 46,340 images), and can be interrupted. One panel is a
matrix product over all columns before it, so the speed is that of the matrix product.

A Gram matrix that backend cuda computes is solved on the first of its GPUs by the same panels, if that has room for it;
iterations stay on the host.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nas_cntk.errors import RegressionError
from nas_cntk.regression import JITTERS, targets

if TYPE_CHECKING:
    from nas_cntk.kernels.backends.cuda_arrays import CupyArrays
    from nas_cntk.kernels.filling import Engine
    from nas_cntk.kernels.tiles import Tiled

Float = NDArray[np.float64]
Single = NDArray[np.float32]

PANEL = 1024  # columns factored at a time
STRIPE = 4096  # rows updated at a time: bounds scratch memory and the time to an interruption
BLOCK = 512, 8192  # of a product in float64: about 32 MB, however long the rows are
TOLERANCE = 1e-10  # of the residual, relative to the targets: that of a float64 solve of such a matrix
MOST_REFINEMENTS = 30
MOST_ITERATIONS = 300  # of conjugate gradients
PATIENCE = 40  # iterations that may gain less than a factor of ten
SHIFTS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2)
"""What is added to the factored matrix alone, in multiples of the mean diagonal, where float32 cannot factor it."""

log = logging.getLogger("nas_cntk")

EPS32 = float(np.finfo(np.float32).eps)
EPS64 = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """alpha of (K + (ridge + jitter) mean_diagonal I) alpha = targets, and how well it solves it.

    `residual` is the greatest over the classes of |targets - K alpha| / |targets|, in float64.
    """

    alpha: Float  # shape: (n, c)
    residual: float
    iterations: int
    ridge: float
    jitter: float
    mean_diagonal: float
    method: str  # "refinement", "conjugate gradients", either "on a GPU", the latter "on tiles [by a cluster]"
    shift: float  # what the preconditioner was shifted by, in multiples of the mean diagonal


def solve(
    kernel: NDArray[Any] | Tiled,
    y: NDArray[Any],
    num_classes: int,
    ridge: float = 0.0,
    *,
    overwrite: bool = False,
    tolerance: float = TOLERANCE,
    engine: Engine | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Solution:
    """Solve the regression with one float32 matrix of working memory.

    A Gram matrix of backend cuda is solved on its GPU if that has room for it. Else one on disk for which there is not
    that much memory goes to `conjugate_gradients.solve`.

    Jitter follows `regression.fit`: none unless the matrix is not positive definite to working precision, that is
    unless its least eigenvalue, as far as the iteration shows it, is below mean(diag K) (n eps64 + 4 eps32); then the
    least of `JITTERS` that mends it.

    Args:
        kernel: shape (n, n), symmetric, an array or a Gram matrix; the upper triangle counts, as float32.
        y: shape (n,), integers from 0.
        ridge: a multiple of the mean diagonal.
        overwrite: work in the caller's array, which must be C-contiguous float32; its lower triangle and diagonal
            are lost.
        tolerance: of the residual.
        engine: whose workers multiply the tiles of a matrix that is too large, if they see its disk.
        progress: called with the fraction done, roughly: of the factor up to 0.95, then 1.
        cancelled: polled about once a second of work; a true answer ends the solve with KeyboardInterrupt.

    Raises:
        RegressionError: on a kernel that is not finite, not square, has no positive diagonal or is far from positive
            definite, on labels as `regression.targets` does, on a bad ridge, and without memory for n^2 floats.
    """
    shape = kernel.shape
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise RegressionError(f"a kernel of shape {shape}; it must be square")
    n = int(shape[0])
    y_targets = targets(y, num_classes)
    if len(y_targets) != n:
        raise RegressionError(f"{len(y_targets)} labels for a kernel of {n} images; give one label an image")
    if isinstance(ridge, str) or not (math.isfinite(ridge) and ridge >= 0):
        raise RegressionError(f"a ridge of {ridge}; use a number from 0 up (times the mean diagonal)")
    problem = _Problem(kernel, y_targets, float(ridge), tolerance, progress, cancelled)
    try:
        gpu = None if overwrite else _gpu_for(kernel)
        if gpu is not None:
            found = _solved_there(problem, gpu)
            if found is not None:
                return found
            log.warning("%s has no room to solve for %d images: solving on the CPU", gpu.name, n)
        if not overwrite and _too_large(kernel):
            return _on_tiles(kernel, y, num_classes, ridge, tolerance, engine, progress, cancelled)
        return _solved(problem, Host(), overwrite)
    except MemoryError:
        raise RegressionError(
            f"not enough memory to solve for {n} images ({4e-9 * n * n:.1f} GB); take fewer"
        ) from None


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    kernel: NDArray[Any] | Tiled  # shape: (n, n)
    targets: Float  # shape: (n, c)
    ridge: float
    tolerance: float
    progress: Callable[[float], None] | None
    cancelled: Callable[[], bool] | None


def _solved_there(problem: _Problem, gpu: CupyArrays) -> Solution | None:
    """Solve on a GPU; None if it has no room after all."""
    from nas_cntk.kernels.backends.cuda_arrays import NoRoom

    try:
        with gpu.active():
            marked = replace(problem, progress=_marked(problem.progress), cancelled=_marked(problem.cancelled))
            return _solved(marked, gpu)
    except NoRoom:
        pass
    except _Foreign as error:
        raise error.error from None
    finally:
        gpu.release()  # nothing holds the matrix any more
    return None


class _Foreign(Exception):
    """An error of whoever is told of the progress: not the GPU's, whatever its kind."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def _marked(call: Callable[..., Any] | None) -> Callable[..., Any] | None:
    if call is None:
        return None
    marked = call

    def tell(*given: float) -> Any:
        try:
            return marked(*given)
        except Exception as error:
            raise _Foreign(error) from None

    return tell


def _solved(problem: _Problem, arrays: Arrays, overwrite: bool = False) -> Solution:
    ridge, progress = problem.ridge, problem.progress
    matrix = _Matrix(_working_copy(problem.kernel, overwrite, arrays), arrays, progress, problem.cancelled)
    scale = float(matrix.diagonal.mean())
    if not scale > 0:
        raise RegressionError(f"the kernel's mean diagonal is {scale:g}; are all images black?")
    attempts = _Attempts(matrix, problem.targets, scale, problem.tolerance)
    for jitter in (0.0, *JITTERS):
        found = attempts.solve((ridge + jitter) * scale)
        if found is not None:
            alpha, residual, iterations, method, shift = found
            if progress is not None:
                progress(1.0)
            return Solution(alpha, residual, iterations, ridge, jitter, scale, method + arrays.where, shift)
    raise RegressionError(
        f"the kernel is not positive definite, nor with {JITTERS[-1]:g} of its mean diagonal added;"
        " compute it in float64, or give a ridge"
    )


class Arrays(Protocol):
    """Where the matrix is and who computes with it."""

    where: str  # what a method that uses it is called, beyond what it does
    stripe: int
    block: tuple[int, int]

    @property
    def library(self) -> Any:
        """NumPy, or what speaks as it does."""

    def there(self, array: NDArray[Any]) -> Any:
        """Return an array of the host as one of `library`."""

    def here(self, array: Any) -> NDArray[Any]:
        """Return it as one of the host."""

    def cholesky(self, matrix: Any) -> Any | None:
        """Return the lower factor of a float32 matrix, zero above; None if it has none."""

    def solve(self, factor: Any, b: Any, transposed: bool) -> Any:
        """Return L^-1 b, or L^-T b, of a float32 matrix whose lower triangle is L; b may be lost."""


class Host:
    """NumPy's arrays and LAPACK."""

    def __init__(self) -> None:
        self.where, self.stripe, self.block = "", STRIPE, BLOCK

    @property
    def library(self) -> Any:
        """NumPy."""
        return np

    def there(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return it."""
        return array

    def here(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return it."""
        return array

    def cholesky(self, matrix: Single) -> Single | None:
        """By spotrf."""
        from scipy.linalg import lapack

        factor, broken = lapack.spotrf(matrix, lower=1, clean=1, overwrite_a=0)
        return None if broken else factor

    def solve(self, factor: Single, b: Single, transposed: bool) -> Single:
        """By strsm."""
        from scipy.linalg import blas

        corner = np.asfortranarray(factor)
        found: Single = blas.strsm(1.0, corner, b, side=0, lower=1, trans_a=int(transposed), overwrite_b=1)
        return found


def _gpu_for(kernel: NDArray[Any] | Tiled) -> CupyArrays | None:
    from nas_cntk.kernels.gram import Gram

    if not isinstance(kernel, Gram) or not kernel.gpus:
        return None
    from nas_cntk.kernels.backends import cuda_arrays

    return cuda_arrays.with_room(kernel.gpus[0], cuda_arrays.memory_of_solve(len(kernel)))


class _Matrix:
    """K in the strict upper triangle of an array, its diagonal beside it, and room for a factor in the rest."""

    def __init__(
        self,
        array: Any,  # shape: (n, n), float32
        arrays: Arrays,
        progress: Callable[[float], None] | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.array, self.arrays = array, arrays
        self.diagonal = arrays.here(array.diagonal()).astype(np.float64)
        self.progress, self.cancelled = progress, cancelled

    def __len__(self) -> int:
        return len(self.array)

    def poll(self, fraction: float | None = None) -> None:
        if self.cancelled is not None and self.cancelled():
            raise KeyboardInterrupt
        if fraction is not None and self.progress is not None:
            self.progress(fraction)

    def times(self, x: Float) -> Float:
        """Return K x in float64, shape (n, c)."""
        n, array, lib = len(self), self.array, self.arrays.library
        height, width = self.arrays.block
        product, x = self.arrays.there(self.diagonal[:, None] * x), self.arrays.there(x)
        for top, left, right in _blocks(n, height, width):
            bottom = min(top + height, n)
            block = array[top:bottom, left:right].astype(np.float64)
            if left < bottom:  # on the diagonal: what is there below it is the factor
                block = lib.triu(block, 1 + top - left)
            product[top:bottom] += block @ x[left:right]
            product[left:right] += block.T @ x[top:bottom]
            self.poll()
        return self.arrays.here(product)

    def factor(self, added: float, least_pivot: float) -> bool:
        """Factor K + added I into the lower triangle; false if a pivot is not at least `least_pivot`."""
        n, array, arrays, lib = len(self), self.array, self.arrays, self.arrays.library
        for first in range(0, n, PANEL):
            last = min(first + PANEL, n)
            before = array[first:last, :first]  # the factor's rows of this panel
            corner = array[first:last, first:last]
            head = lib.triu(corner, 1)
            head = lib.ascontiguousarray(head + head.T)
            diagonal = (self.diagonal[first:last] + added).astype(np.float32)
            head.reshape(-1)[:: last - first + 1] = arrays.there(diagonal)
            if first:
                head -= before @ before.T
            factor = arrays.cholesky(head)
            if factor is None or float(lib.square(factor.diagonal()).min()) < least_pivot:
                return False
            corner[...] = lib.tril(factor) + lib.triu(corner, 1)
            for top in range(last, n, arrays.stripe):
                bottom = min(top + arrays.stripe, n)
                stripe = lib.ascontiguousarray(array[first:last, top:bottom].T)
                if first:
                    stripe -= array[top:bottom, :first] @ before.T
                # L_panel = stripe L_corner^-T, as L_corner L_panel^T = stripe^T in the column order of LAPACK.
                array[top:bottom, first:last] = arrays.solve(factor, stripe.T, False).T
                self.poll()
            self.poll(0.95 * (last / n) ** 2 * (3 - 2 * last / n))
        return True

    def apply_inverse(self, r: Float) -> Float:
        """Return about (K + added I)^-1 r, through the factor in float32."""
        n, array, arrays = len(self), self.array, self.arrays
        size = np.abs(r).max(axis=0)
        size[size == 0] = 1
        x = arrays.there((r / size).astype(np.float32))
        panels = [(first, min(first + PANEL, n)) for first in range(0, n, PANEL)]
        for first, last in panels:
            if first:
                x[first:last] -= array[first:last, :first] @ x[:first]
            x[first:last] = arrays.solve(array[first:last, first:last], x[first:last], False)
        for first, last in reversed(panels):
            x[first:last] = arrays.solve(array[first:last, first:last], x[first:last], True)
            if first:
                x[:first] -= array[first:last, :first].T @ x[first:last]
            self.poll()
        solved: Float = arrays.here(x).astype(np.float64) * size
        return solved


def _blocks(n: int, height: int, width: int) -> Iterator[tuple[int, int, int]]:
    # (top, left, right) of blocks that cover the upper triangle; the first of a row begins at the diagonal.
    for top in range(0, n, height):
        for left in range(top, n, width):
            yield top, left, min(left + width, n)


class _NotPositive(Exception):
    """The matrix is not positive definite to working precision."""


class _Stalled(Exception):
    """The factor is too far from the matrix to help."""


@dataclass(slots=True)
class _Attempts:
    """Solves (K + added I) x = b with whatever factor helps, and keeps the factor from one attempt to the next."""

    matrix: _Matrix
    b: Float
    scale: float
    tolerance: float
    factored: float | None = None  # what the factored matrix has on its diagonal beside K
    too_small: float = -1.0  # the most that was too little for float32

    def solve(self, added: float) -> tuple[Float, float, int, str, float] | None:
        """Return alpha, residual, iterations, method and shift; None if more must be added."""
        # Rounding of a float32 factor moves a pivot by about eps32 times the root of n: smaller ones mean nothing.
        least_pivot = self.scale * 4 * EPS32 * math.sqrt(len(self.matrix))
        for shift in SHIFTS:
            wanted = added + shift * self.scale
            if self.factored is None or self.factored < wanted:
                if wanted <= self.too_small:
                    continue
                self.factored = wanted if self.matrix.factor(wanted, least_pivot) else None
                if self.factored is None:
                    self.too_small = wanted
                    continue
            try:
                if self.factored == added:
                    return *self.refined(added), "refinement", 0.0
            except _Stalled:
                pass
            try:
                found = self.conjugate_gradients(added)
                return *found, "conjugate gradients", (self.factored - added) / self.scale
            except _NotPositive:
                return None
            except _Stalled:
                # A factor of more is further from the matrix but nearer to what float32 can hold.
                self.too_small = self.factored
                self.factored = None
        return None

    def left(self, x: Float, added: float) -> tuple[Float, float]:
        """Return the residuals and the greatest of their relative norms."""
        r = self.b - self.matrix.times(x) - added * x
        return r, self.relative(r)

    def relative(self, r: Float) -> float:
        norms = np.linalg.norm(self.b, axis=0)
        return float((np.linalg.norm(r, axis=0) / np.where(norms, norms, 1)).max())

    def good(self, x: Float, residual: float) -> bool:
        """Whether no float64 solve would leave less: its rounding alone is eps64 |K| |x|."""
        norms = np.linalg.norm(self.b, axis=0)
        growth = (np.linalg.norm(x, axis=0) / np.where(norms, norms, 1)).max()
        return residual <= EPS64 * len(x) * self.scale * float(growth)

    def refined(self, added: float) -> tuple[Float, float, int]:
        x = self.matrix.apply_inverse(self.b)
        r, residual = self.left(x, added)
        for count in range(MOST_REFINEMENTS):
            if residual <= self.tolerance:
                return x, residual, count
            better = x + self.matrix.apply_inverse(r)
            r_better, smaller = self.left(better, added)
            if not smaller < residual / 2:
                if self.good(x, residual):
                    return x, residual, count
                break
            x, r, residual = better, r_better, smaller
        raise _Stalled

    def conjugate_gradients(self, added: float) -> tuple[Float, float, int]:
        # One independent iteration a class, in step, and one of a random column that shows what the targets may not:
        # a direction in which the matrix is nothing. Polak-Ribiere, since a float32 preconditioner is not quite
        # symmetric.
        matrix, n = self.matrix, len(self.matrix)
        least = self.scale * (n * EPS64 + 4 * EPS32)
        probe = np.random.default_rng(0).standard_normal((n, 1))
        x = np.zeros((n, self.b.shape[1] + 1))
        r = np.concatenate([self.b, probe], axis=1)
        z = matrix.apply_inverse(r)
        p, rz = z.copy(), np.sum(r * z, axis=0)
        best, since = 1.0, 0
        for count in range(1, MOST_ITERATIONS + 1):
            q = matrix.times(p) + added * p
            pq, length = np.sum(p * q, axis=0), np.sum(p * p, axis=0)
            if np.any(pq < least * length):
                raise _NotPositive
            step = np.divide(rz, pq, out=np.zeros_like(rz), where=pq > 0)
            x += step * p
            older, r = r, r - step * q
            residual = self.relative(r[:, :-1])
            if residual <= self.tolerance:
                r[:, :-1], residual = self.left(x[:, :-1], added)  # the true ones; the recurrence drifts
                if residual <= 2 * self.tolerance or self.good(x[:, :-1], residual):
                    return np.ascontiguousarray(x[:, :-1]), residual, count
                older = r  # begin again from here
            if residual < best / 10:
                best, since = residual, count
            elif count - since > PATIENCE:
                break
            z = matrix.apply_inverse(r)
            again = np.sum(z * (r - older), axis=0) if older is not r else np.zeros_like(rz)
            p = z + np.divide(again, rz, out=np.zeros_like(rz), where=rz > 0) * p
            rz = np.sum(r * z, axis=0)
        raise _Stalled


def _too_large(kernel: NDArray[Any] | Tiled) -> bool:
    from nas_cntk.kernels.budget import available_memory
    from nas_cntk.kernels.tiles import Tiled

    return isinstance(kernel, Tiled) and kernel.path is not None and 4 * len(kernel) ** 2 > available_memory()


def _on_tiles(
    kernel: NDArray[Any] | Tiled,
    y: NDArray[Any],
    num_classes: int,
    ridge: float,
    tolerance: float,
    engine: Engine | None,
    progress: Callable[[float], None] | None,
    cancelled: Callable[[], bool] | None,
) -> Solution:
    from nas_cntk import conjugate_gradients
    from nas_cntk.kernels.tiles import Tiled

    assert isinstance(kernel, Tiled)
    with nullcontext() if engine is None else engine.products(kernel) as theirs:
        found = conjugate_gradients.solve(
            kernel if theirs is None else theirs,
            y,
            num_classes,
            ridge,
            tolerance=tolerance,
            progress=progress,
            cancelled=cancelled,
        )
    method = "conjugate gradients on tiles" + ("" if theirs is None else " by a cluster")
    return Solution(
        found.alpha, found.residual, found.iterations, found.ridge, found.jitter, found.mean_diagonal, method, 0.0
    )


def _working_copy(kernel: NDArray[Any] | Tiled, overwrite: bool, arrays: Arrays) -> Any:
    from nas_cntk.kernels.tiles import Tiled

    if overwrite:
        if isinstance(kernel, Tiled) or kernel.dtype != np.float32 or not kernel.flags.c_contiguous:
            raise RegressionError("only a C-contiguous float32 array can be overwritten; leave overwrite out")
        for top in range(0, len(kernel), PANEL):
            _check_finite(kernel[top : top + PANEL, top:])
        return kernel
    array = arrays.library.empty(kernel.shape, np.float32)
    if isinstance(kernel, Tiled):
        for (top, bottom), (left, right), block in kernel.tiles():
            array[top:bottom, left:right] = arrays.there(_single(block))
    else:
        for top in range(0, len(kernel), PANEL):
            array[top : top + PANEL, top:] = _single(kernel[top : top + PANEL, top:])
    return array


def _single(block: NDArray[Any]) -> Single:
    with np.errstate(over="ignore"):
        found = np.asarray(block, dtype=np.float32)
    _check_finite(found)
    return found


def _check_finite(block: NDArray[Any]) -> None:
    if not np.isfinite(block).all():
        raise RegressionError("the kernel is not finite; compute it in float64, or scale the images")
