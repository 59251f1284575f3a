"""What a kernel costs, before it is computed: entry-layers, and the rate of this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from nas_cntk.architecture import Architecture, Builder
from nas_cntk.kernels.exact import kernel, resolve_backend
from nas_cntk.kernels.fields import Fields, lower
from nas_cntk.kernels.schedule import needs

# What one entry of each kind of field costs, in entry-layers (a relu and the conv after it): least squares over times
# of 38 architectures (plain ones, each space, NAS-Bench-201 cells) on the cpu backend with AVX2; right within 15 %.
_COST = {"input": 0.3, "conv": 0.6, "relu": 0.4, "pool": 0.8, "sum": 0.8}


def entry_layers(arch: Architecture | Sequence[Architecture], image_shape: Sequence[int], pairs: int) -> float:
    """Return the predicted entry-layers of the kernels of one architecture, or of a family in one pass.

    An entry-layer is one covariance entry through one conv and relu, covariance and tangent together. Other work is
    counted as fractions of it.

    Args:
        image_shape: (h, w, c).
        pairs: pairs of images; n (n + 1) / 2 for a symmetric matrix.

    Raises:
        IllegalArchitecture: if an architecture does not fit the image.
    """
    archs = [arch] if isinstance(arch, Architecture) else list(arch)
    return pairs * _of_one_pair(lower(archs, image_shape))


def _of_one_pair(family: Fields) -> float:
    needed = needs(family, range(len(family.heads)), variances=False)
    return sum(
        _COST[family.fields[number].kind] * int(rows.sum()) * int(columns.sum())
        for number, (rows, columns) in needed.items()
    )


def measure_rate(backend: str = "auto", seconds: float = 0.4, devices: Sequence[int] = ()) -> float:
    """Return the entry-layers per second of this machine now, or of some of its GPUs, measured for about `seconds`.

    Raises:
        BackendUnavailable: if the backend is not there.
    """
    b = Builder()
    x = b.input()
    for _ in range(5):
        x = b.relu(b.conv(x, 3))
    b.dense(b.global_avg_pool(x))
    arch = b.build()
    wanted = devices or None
    images = {"reference": 4, "cpu": 96, "cuda": 1024}[resolve_backend(backend, wanted)]  # a GPU is slow at little work
    x1 = np.random.default_rng(0).standard_normal((images, 8, 8, 1)).astype(np.float32)
    kernel(arch, x1[:1], backend=backend, devices=wanted)  # what is paid once
    best, spent = 0.0, 0.0
    while spent < seconds:
        started = time.perf_counter()
        kernel(arch, x1, x1, backend=backend, devices=wanted)
        took = time.perf_counter() - started
        spent += took
        best = max(best, entry_layers(arch, (8, 8, 1), images**2) / took)
    return best
