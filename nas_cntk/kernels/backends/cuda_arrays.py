"""Dense matrices on a GPU for the solver, through CuPy: its arrays, cuBLAS and cuSOLVER."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.errors import BackendUnavailable, KernelError
from nas_cntk.kernels.backends import cuda

STRIPE = 8_192  # rows updated at a time
BLOCK = 4_096, 16_384  # of a product in float64: half a gigabyte
SCRATCH = 4 * 2**30  # bytes beside the matrix: CuPy copies a stripe before it multiplies it, and a block
NO_ROOM = ("ALLOC_FAILED", "OUT_OF_MEMORY", "out of memory")  # what CUDA's libraries say


class NoRoom(MemoryError):
    """A GPU, or a library on it, is out of memory."""


def memory_of_solve(n: int) -> int:
    """Return the bytes that a solve for n images takes on a GPU."""
    return 4 * n * n + min(SCRATCH, 24 * n * n)


def with_room(number: int, nbytes: int) -> CupyArrays | None:
    """Return a GPU if it has so many bytes free, and what the solver needs; says so where a library is missing."""
    try:
        cuda.triangular_solver()
    except BackendUnavailable as error:
        cuda.log.warning("solving on the CPU: %s", error)
        return None
    arrays = CupyArrays(number)
    return arrays if arrays.free_bytes() * cuda.MEMORY_SHARE >= nbytes else None


class CupyArrays:
    """One GPU, as `solver.Arrays` has it; what fails but for memory is a KernelError."""

    where = " on a GPU"

    def __init__(self, number: int) -> None:
        self._device = cuda.CupyDevice(number)
        self.library = self._device.cupy
        self.name = f"GPU {number}"
        self.stripe, self.block = STRIPE, BLOCK

    def free_bytes(self) -> int:
        """Return what it could still give."""
        self._device.release()
        return self._device.free_bytes()

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make it the GPU that arrays are on.

        Raises:
            NoRoom: if it is out of memory.
            KernelError: whatever else fails; errors of other things must not be RuntimeError or OSError.
        """
        compiler = self.library.cuda.compiler.CompileException
        try:
            with self._device.device, self._device.stream:
                yield
        except self.library.cuda.memory.OutOfMemoryError:
            raise NoRoom from None
        except (RuntimeError, OSError, ImportError, compiler) as error:
            if any(words in str(error) for words in NO_ROOM):
                raise NoRoom from None
            raise KernelError(f"{self.name} failed ({cuda.short(error)}); try backend cpu") from None

    def release(self) -> None:
        """Give back what nothing holds any more; a GPU that has failed has nothing to give."""
        with suppress(KernelError):
            self._device.release()

    def there(self, array: NDArray[Any]) -> Any:
        """Copy an array to the GPU."""
        return self.library.asarray(np.ascontiguousarray(array))

    def here(self, array: Any) -> NDArray[Any]:
        """Copy an array from the GPU."""
        copied: NDArray[Any] = self.library.asnumpy(array)
        return copied

    def cholesky(self, matrix: Any) -> Any:
        """By cuSOLVER."""
        try:
            with cuda.checked_factors():
                return self.library.linalg.cholesky(matrix)
        except np.linalg.LinAlgError:
            return None

    def solve(self, factor: Any, b: Any, transposed: bool) -> Any:
        """By cuBLAS."""
        solve = cuda.triangular_solver()
        return solve(factor, b, trans=int(transposed), lower=True, overwrite_b=True, check_finite=False)
