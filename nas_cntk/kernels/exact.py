"""The door: exact kernels of one architecture, or of a family in one pass."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Sequence
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_cntk.architecture import Architecture
from nas_cntk.errors import BackendUnavailable, IllegalArchitecture, KernelError, UnsupportedByBackend, UsageError

Kind = Literal["ntk", "nngp", "both"]
Matrix = NDArray[np.floating]  # shape: (n1, n2)

BACKENDS = ("reference", "cpu", "cuda", "auto")
KINDS = ("ntk", "nngp", "both")
DTYPES = ("float32", "float64")


@overload
def kernel(
    arch: Architecture,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    kind: Literal["both"],
    backend: str = "auto",
    dtype: str = "float32",
    devices: Sequence[int] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[Matrix, Matrix]: ...


@overload
def kernel(
    arch: Architecture,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    kind: Literal["ntk", "nngp"] = "ntk",
    backend: str = "auto",
    dtype: str = "float32",
    devices: Sequence[int] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Matrix: ...


def kernel(
    arch: Architecture,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    kind: Kind = "ntk",
    backend: str = "auto",
    dtype: str = "float32",
    devices: Sequence[int] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Matrix | tuple[Matrix, Matrix]:
    """Return the exact kernel of the infinitely wide network between images x1 and x2.

    Args:
        x1: images, shape (n1, h, w, c), standardised by the caller.
        x2: images, shape (n2, h, w, c), or None for the symmetric Gram matrix of x1.
        kind: "ntk" (every layer marked trainable is trained), "nngp" (only the readout is), or "both", a pair
            (nngp, ntk) from one pass.
        backend: "reference" (float64 NumPy), "cpu" (the compiled core), "cuda" (GPUs, through CuPy) or "auto", which is
            cuda if CuPy and a GPU are there, else cpu.
        dtype: "float32" or "float64", of the arithmetic and of the result; the reference computes in float64 always.
        devices: numbers of the GPUs that backend cuda uses; None is the first.
        progress: called with the fraction done, from 0 to 1.
        cancelled: asked between tiles; a true answer ends the computation with KeyboardInterrupt.

    Returns:
        shape (n1, n2), or a pair of such.

    Raises:
        KernelError: if the arrays are no images, or the kernel does not fit the dtype.
        IllegalArchitecture: if the architecture does not fit the images, or has no ntk (no trainable layer).
        BackendUnavailable: if the backend, or one of the devices, is not there.
        UnsupportedByBackend: if backend cuda was asked for and not even one pair of images fits in a GPU's memory; auto
            takes the cpu then, with a warning in the log "nas_cntk".
    """
    family = kernel_family(
        [arch],
        x1,
        x2,
        kind=kind,
        backend=backend,
        dtype=dtype,
        devices=devices,
        progress=progress,
        cancelled=cancelled,
    )
    return family[0]


def kernel_family(
    archs: Sequence[Architecture],
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    kind: Kind = "ntk",
    backend: str = "auto",
    dtype: str = "float32",
    devices: Sequence[int] | None = None,
    progress: Callable[[float], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Matrix] | list[tuple[Matrix, Matrix]]:
    """Return the kernels of several architectures in one pass: shared sub-graphs are computed once.

    Arguments and errors are those of `kernel`; one result an architecture, in order.
    """
    if kind not in KINDS:
        raise UsageError(f'kind must be "ntk", "nngp" or "both", got {kind!r}')
    if dtype not in DTYPES:
        raise UsageError(f'dtype must be "float32" or "float64", got {dtype!r}')
    name = resolve_backend(backend, devices)
    a1 = checked_images("x1", x1)
    a2 = a1 if x2 is None else checked_images("x2", x2)
    if a1.shape[1:] != a2.shape[1:]:
        raise KernelError(f"x1 holds images of shape {a1.shape[1:]} and x2 of {a2.shape[1:]}; they must be equal")
    for arch in archs:
        arch.check(a1.shape[1:])
        if kind != "nngp" and not arch.trainable:
            raise IllegalArchitecture(
                'this architecture has no trainable layer, so it has no ntk; ask for kind "nngp" (scores nngp_...)'
            )

    def tick(fraction: float) -> None:
        if progress is not None:
            progress(fraction)
        if cancelled is not None and cancelled():
            raise KeyboardInterrupt

    if not archs:
        return []
    if name == "reference":
        from nas_cntk.kernels.backends import reference

        with np.errstate(over="ignore", invalid="ignore"):
            pairs = reference.kernels(archs, a1.astype(np.float64), a2.astype(np.float64), x2 is None, tick)
    else:
        pairs = _fast(name, backend == "auto", archs, a1, a2, x2 is None, kind, np.dtype(dtype), tick, devices)
    with np.errstate(over="ignore"):  # a kernel that is too large is an error of ours, below
        results = [(nngp.astype(dtype, copy=False), ntk.astype(dtype, copy=False)) for nngp, ntk in pairs]
    for nngp, ntk in results:
        if not (np.isfinite(nngp).all() and (kind == "nngp" or np.isfinite(ntk).all())):
            mend = "ask for float64" if dtype == "float32" else "scale the images or sum fewer branches"
            raise KernelError(f"the kernel of an architecture is too large for {dtype}; {mend}")
    if kind == "both":
        return results
    return [nngp if kind == "nngp" else ntk for nngp, ntk in results]


def _fast(
    name: str,
    or_cpu: bool,
    archs: Sequence[Architecture],
    x1: NDArray[np.floating],
    x2: NDArray[np.floating],
    symmetric: bool,
    kind: Kind,
    dtype: np.dtype[np.floating],
    tick: Callable[[float], None],
    devices: Sequence[int] | None,
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    # The compiled engines; `or_cpu`: whether the cpu is taken for what the GPU cannot do.
    from nas_cntk.kernels.fields import degenerate

    if dtype == np.float32 and degenerate(archs, x1.shape[3]):
        dtype = np.dtype(np.float64)
    if name == "cuda":
        from nas_cntk.kernels.backends import cuda

        try:
            return cuda.kernels(archs, x1, x2, symmetric, kind, dtype, tick, devices)
        except UnsupportedByBackend as error:
            if not or_cpu:
                raise
            logging.getLogger("nas_cntk").warning("backend auto goes on with cpu: %s", error)
    from nas_cntk.kernels.backends import cpu

    return cpu.kernels(archs, x1, x2, symmetric, kind, dtype, tick)


def resolve_backend(name: str, devices: Sequence[int] | None = None) -> str:
    """Return the backend that `name` stands for: itself, or for "auto" the best one that is there.

    Args:
        devices: numbers of GPUs that were asked for.

    Raises:
        UsageError: if there is no backend of that name.
        BackendUnavailable: if it is not installed, has none of these devices, or takes none.
    """
    if name not in BACKENDS:
        raise UsageError(f"backend must be one of {', '.join(BACKENDS)}; got {name!r}")
    # Looking for a module is quick; importing CuPy to find out is not.
    if name == "cuda" or (name == "auto" and importlib.util.find_spec("cupy") is not None):
        from nas_cntk.kernels.backends import cuda

        try:
            cuda.check(devices)
            return "cuda"
        except BackendUnavailable:
            if name == "cuda" or devices:
                raise
    if devices:
        raise BackendUnavailable(
            f"devices {list(devices)} asked for, but backend {'cpu' if name == 'auto' else name} uses no GPU;"
            " leave them out, or install CuPy for backend cuda"
        )
    if name == "reference":
        return name
    try:
        from nas_cntk.kernels import _native  # noqa: F401
    except ImportError as error:
        raise BackendUnavailable(
            f"the compiled core of backend cpu cannot be loaded ({error}); reinstall with a C++ compiler at hand"
        ) from None
    return "cpu"


def checked_images(name: str, x: ArrayLike) -> NDArray[np.floating]:
    """Return `x` as finite float images, shape (n, h, w, c), float32 or float64 kept; `name` is for the errors.

    Raises:
        KernelError: if it is no such array.
    """
    try:
        array = np.asarray(x)
    except ValueError:
        raise KernelError(f"{name} must be an array of images of one size") from None
    if array.dtype == object or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise KernelError(f"{name} must hold numbers, got dtype {array.dtype}")
    if array.ndim != 4:
        raise KernelError(f"{name} must have shape (n, h, w, c), got {array.shape}")
    if 0 in array.shape:
        raise KernelError(f"{name} is empty: shape {array.shape}")
    if not np.isfinite(array).all():
        raise KernelError(f"{name} holds NaN or infinite pixels; clean the images first")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
