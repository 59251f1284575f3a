"""Where there is a GPU: the same text on the device. Skipped, visibly, where there is none."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
from random_architectures import random_case, random_images

from nas_cntk import Architecture, Builder, kernel
from nas_cntk.errors import BackendUnavailable
from nas_cntk.kernels.backends import cuda

TOLERANCES = {"float64": 1e-9, "float32": 5e-5}


@pytest.fixture(scope="module", autouse=True)
def device() -> cuda.Found:
    """What is there."""
    try:
        return cuda.found()
    except BackendUnavailable as error:
        pytest.skip(str(error))


def compare(arch: Architecture, x1: np.ndarray, x2: np.ndarray | None, dtype: str) -> None:
    true = kernel(arch, x1, x2, kind="both", backend="cpu", dtype="float64")
    got = kernel(arch, x1, x2, kind="both", backend="cuda", dtype=dtype)
    for a, b in zip(got, true, strict=True):
        assert float(np.abs(a - b).max()) <= TOLERANCES[dtype] * (float(np.abs(b).max()) or 1.0), arch.to_json()


@pytest.mark.parametrize("dtype", list(TOLERANCES))
@pytest.mark.parametrize("seed", range(9000, 9026))
def test_cuda_device_random_architecture(seed: int, dtype: str) -> None:
    case = random_case(seed)
    compare(case.arch, case.x1, case.x2, dtype)
    compare(case.arch, case.x1, None, dtype)


@pytest.mark.parametrize("dtype", list(TOLERANCES))
def test_cuda_device_golden(dtype: str, shared_dir: Path) -> None:
    for path in sorted((shared_dir / "golden").glob("*.npz")):
        with np.load(path, allow_pickle=False) as golden:
            arch = Architecture.from_json(str(golden["architecture"]))
            got = kernel(arch, golden["x1"], golden["x2"], kind="both", backend="cuda", dtype=dtype)
            for a, kind in zip(got, ("nngp", "ntk"), strict=True):
                assert np.abs(a - golden[kind]).max() < TOLERANCES[dtype] * np.abs(golden[kind]).max(), path.name


@pytest.mark.parametrize("head", ["global", "local", "flatten"])
@pytest.mark.parametrize("size", [8, 16, 28, 32])
def test_cuda_device_image_sizes(size: int, head: str) -> None:
    b = Builder()
    x = b.input()
    for _ in range(4):
        x = b.relu(b.conv(x, 3))
    x = b.avg_pool(x, 3) if head == "local" else x
    b.dense(b.global_avg_pool(x) if head == "global" else b.flatten(x))
    images = random_images(1, 6, (size, size, 3))
    compare(b.build(), images[:3], images[3:], "float32")


def test_cuda_device_an_image_with_itself() -> None:
    """Roots and reciprocals of the special function unit keep correlation 1 where it is 1."""
    b = Builder()
    x = b.input()
    for _ in range(10):
        x = b.relu(b.conv(x, 3))
    b.dense(b.flatten(x))
    images = random_images(1, 64, (16, 16, 3))
    got, true = (
        np.diag(kernel(b.build(), images, backend=backend, dtype=dtype))
        for backend, dtype in (("cuda", "float32"), ("cpu", "float64"))
    )
    np.testing.assert_allclose(got, true, rtol=5e-5)


def test_cuda_device_little_memory(caplog: pytest.LogCaptureFixture) -> None:
    """A limit on CuPy's pool stands for a full GPU."""
    import cupy

    b = Builder()
    x = b.avg_pool(b.relu(b.conv(b.input(), 3)), 2, 2)
    b.dense(b.global_avg_pool(b.relu(b.conv(x, 3))))
    images = random_images(1, 64, (16, 16, 3)).astype(np.float32)
    whole = kernel(b.build(), images, backend="cuda")
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    before = pool.get_limit()
    pool.set_limit(size=64 * 2**20)
    try:
        with caplog.at_level(logging.WARNING, "nas_cntk"):
            np.testing.assert_array_equal(kernel(b.build(), images, backend="cuda"), whole)
    finally:
        pool.set_limit(size=before)
    assert "out of memory" in caplog.text


@pytest.mark.skipif(os.environ.get("CUDA_VISIBLE_DEVICES", "0") == "", reason="no GPU is visible")
def test_cuda_device_all_of_them(device: cuda.Found) -> None:
    images = random_images(1, 40, (8, 8, 3))
    b = Builder()
    b.dense(b.global_avg_pool(b.relu(b.conv(b.relu(b.conv(b.input(), 3)), 3))))
    every = [gpu.number for gpu in device.gpus]
    got = kernel(b.build(), images, backend="cuda", devices=every)
    np.testing.assert_array_equal(got, kernel(b.build(), images, backend="cuda"))
