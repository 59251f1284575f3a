"""How many threads the libraries of linear algebra use, beneath NumPy and SciPy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

ONE_THREAD = 2048
"""Side of a matrix up to which one thread is used.

Several threads wait for each other by spinning, some hundred times a factorisation. Where other work keeps a core busy
each wait may take a time slice: a regression on 384 images took 1.3 s on two threads of a machine with three other
processes, 25 ms on one; on 2,000 images 4.7 s and 0.45 s. Alone on two cores two threads save a third at 2,000.
"""


@contextmanager
def blas_threads(n: int) -> Iterator[None]:
    """Let matrices with sides of about n be worked on by one thread if they are small; the old number comes back."""
    if n > ONE_THREAD:
        yield
        return
    with _controller().limit(limits=1, user_api="blas"):
        yield


def in_threads(work: Callable[[T], R], items: Iterable[T], threads: int | None = None) -> Iterator[R]:
    """Yield what `work` returns of each item, in order, on some threads of which each uses one of BLAS."""
    from nas_cntk.kernels.backends import cpu

    with blas_threads(1), ThreadPoolExecutor(cpu.threads() if threads is None else threads) as pool:
        yield from pool.map(work, items)


@functools.cache
def _controller() -> Any:
    import scipy.linalg  # noqa: F401  its library, beside NumPy's, is found only where it is loaded
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
