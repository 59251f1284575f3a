"""A kernel regression as a model: fitted on training images, kept as arrays, read back and asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nas_cntk import regression
from nas_cntk.architecture import Architecture
from nas_cntk.errors import ModelError
from nas_cntk.export.arrays import read_arrays, write_arrays
from nas_cntk.export.manifest import KERNEL, Manifest, Regression

AT_A_TIME = 1024  # images predicted in one call of the kernel

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, eq=False)
class KernelModel:
    """The images that were fitted, standardised, and the coefficients of the regression."""

    architecture: Architecture
    images: NDArray[np.float32]  # shape: (n, h, w, c)
    fitted: regression.Fit
    kernel: Literal["ntk", "nngp"]
    dtype: str


def fit_kernel(
    architecture: Architecture,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    num_classes: int,
    *,
    kernel: Literal["ntk", "nngp"],
    dtype: str,
    ridge: float | Literal["loo"],
    backend: str,
    progress: Progress | None = None,
) -> KernelModel:
    """Fit the regression; tiles go to a temporary folder where the kernel does not fit into memory.

    Args:
        x: shape (n, h, w, c), standardised; y: shape (n,), integers from 0.
        ridge, kernel, dtype, backend: as for `regression.fit` and `nas_cntk.gram`.

    Raises:
        KernelError, RegressionError, IllegalArchitecture: if kernel or regression cannot be computed.
    """
    from nas_cntk.kernels.gram import gram

    matrix: Any = gram(architecture, x, kind=kernel, backend=backend, dtype=dtype, progress=progress)
    fitted = regression.fit(matrix, y, num_classes, ridge)
    return KernelModel(architecture, x, fitted, kernel, dtype)


def predict_kernel(
    model: KernelModel, x: NDArray[np.float32], backend: str, progress: Progress | None = None
) -> regression.Float:
    """Return what the regression says of standardised images, shape (m, classes): about one-hot minus 1/classes.

    Raises:
        KernelError: if the kernel cannot be computed.
    """
    from nas_cntk.kernels.exact import kernel

    found = []
    for start in range(0, len(x), AT_A_TIME):
        part = x[start : start + AT_A_TIME]
        rows = kernel(
            model.architecture,
            part,
            model.images,
            kind=model.kernel,
            backend=backend,
            dtype=model.dtype,
            progress=_part(progress, start / len(x), len(part) / len(x)),
        )
        found.append(regression.predict(model.fitted, rows))
    return np.concatenate(found)


def describe(model: KernelModel) -> Regression:
    """Return how the coefficients were found, for model.json."""
    fitted = model.fitted
    return Regression(model.kernel, model.dtype, len(model.images), fitted.ridge, fitted.jitter, fitted.mean_diagonal)


def pack(model: KernelModel) -> bytes:
    """Return the content of kernel.safetensors."""
    return write_arrays({"images": model.images, "coefficients": model.fitted.alpha})


def load_kernel(folder: Path, manifest: Manifest, architecture: Architecture) -> KernelModel:
    """Return the model in a folder.

    Raises:
        ModelError: if its arrays are missing, damaged, or not those that model.json speaks of.
    """
    about = manifest.model
    assert isinstance(about, Regression)
    path = folder / KERNEL
    arrays = read_arrays(path)
    n, c = about.train_images, len(manifest.classes)
    due = {"images": ((n, *manifest.image_shape), "float32"), "coefficients": ((n, c), "float64")}
    for name, (shape, dtype) in due.items():
        array = arrays.get(name)
        if array is None:
            raise ModelError(f"{path} has no {name}; export the model again")
        if array.shape != shape or array.dtype != dtype:
            raise ModelError(
                f"{path} has {name} of shape {array.shape} and {array.dtype}, not {shape} and {dtype} as"
                " model.json says; export the model again"
            )
        if not np.isfinite(array).all():
            raise ModelError(f"{path} has {name} that are not finite; export the model again")
    unknown = math.nan  # what a fit says beside its coefficients
    fitted = regression.Fit(arrays["coefficients"], about.ridge, about.jitter, about.mean_diagonal, *[unknown] * 5)
    return KernelModel(architecture, arrays["images"], fitted, about.kernel, about.dtype)


def _part(progress: Progress | None, offset: float, length: float) -> Progress | None:
    if progress is None:
        return None
    report = progress
    return lambda fraction: report(offset + length * fraction)
