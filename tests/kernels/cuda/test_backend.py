"""The backend through the door, with a stand-in for CuPy: tiles, devices, memory, errors."""

from __future__ import annotations

import logging
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from random_architectures import random_case, random_images

from nas_cntk import Architecture, Builder, gram, kernel, kernel_family
from nas_cntk.errors import BackendUnavailable, KernelError, UnsupportedByBackend
from nas_cntk.kernels.backends import cuda
from nas_cntk.kernels.exact import resolve_backend

SHAPE = (5, 4, 2)


def small(depth: int = 2) -> Architecture:
    b = Builder()
    x = b.input()
    for _ in range(depth):
        x = b.relu(b.conv(x, 3))
    b.dense(b.global_avg_pool(x))
    return b.build()


def pooled() -> Architecture:
    b = Builder()
    x = b.avg_pool(b.relu(b.conv(b.input(), 3)), 2, 2)
    b.dense(b.global_avg_pool(b.relu(b.conv(x, 3))))
    return b.build()


def close(got: Any, true: Any, tolerance: float = 5e-5) -> None:
    np.testing.assert_allclose(got, true, rtol=0, atol=tolerance * np.abs(true).max())


@pytest.mark.parametrize("seed", range(8000, 8008))
def test_cuda_backend_random_architecture(seed: int, fake_cupy: Any) -> None:
    case = random_case(seed)
    for x2 in (case.x2, None):
        for dtype, tolerance in (("float64", 1e-9), ("float32", 5e-5)):
            got = kernel(case.arch, case.x1, x2, kind="both", backend="cuda", dtype=dtype)
            true = kernel(case.arch, case.x1, x2, kind="both", backend="reference", dtype="float64")
            for a, b in zip(got, true, strict=True):
                assert a.dtype == dtype
                close(a, b, tolerance)


@pytest.mark.parametrize("arch", [small(), pooled()], ids=["global", "pooled"])
@pytest.mark.parametrize("n1, n2", [(1, 9), (13, 6), (11, 0)])
def test_cuda_no_result_depends_on_tiles(
    arch: Architecture, n1: int, n2: int, fake_cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x1, x2 = random_images(1, n1, SHAPE), random_images(2, n2, SHAPE) if n2 else None
    whole = kernel(arch, x1, x2, backend="cuda")
    with monkeypatch.context() as patch:
        patch.setattr(cuda, "TILE_ENTRIES", 1)
        tiny = kernel(arch, x1, x2, backend="cuda")
    np.testing.assert_array_equal(tiny, whole)
    if x2 is None:
        np.testing.assert_array_equal(whole, whole.T)
    close(whole, kernel(arch, x1, x2, backend="reference"))


def test_cuda_several_gpus_share_one_queue(fake_cupy: Any) -> None:
    x = random_images(1, 40, SHAPE)
    got = kernel(small(), x, backend="cuda", devices=[0, 1])
    assert {number for number, _ in fake_cupy.launches} == {0, 1}
    np.testing.assert_array_equal(got, kernel(small(), x, backend="cuda"))
    np.testing.assert_array_equal(got, kernel(small(), x, devices=[1]))  # auto
    fake_cupy.launches.clear()
    kernel(small(), x, backend="cuda")
    assert {number for number, _ in fake_cupy.launches} == {0}


def test_cuda_progress_grows_to_one(fake_cupy: Any) -> None:
    for x2 in (None, random_images(3, 9, SHAPE)):
        seen: list[float] = []
        kernel_family([small(), small(3)], random_images(1, 12, SHAPE), x2, backend="cuda", progress=seen.append)
        assert len(seen) > 3 and seen[-1] == 1 and all(a < b for a, b in pairwise(seen))


def test_cuda_cancelled_ends_early(fake_cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "TILE_ENTRIES", 1)
    asked = 0

    def after_two() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2

    with pytest.raises(KeyboardInterrupt):
        kernel(small(), random_images(1, 30, SHAPE), backend="cuda", cancelled=after_two)
    assert asked == 3 and len(fake_cupy.launches) < 30 * 31
    assert kernel(small(), random_images(1, 3, SHAPE), backend="cuda").shape == (3, 3)


def test_cuda_a_progress_that_raises_ends_the_computation(fake_cupy: Any) -> None:
    def broken(fraction: float) -> None:
        raise RuntimeError("the screen is gone")

    with pytest.raises(RuntimeError, match="the screen is gone"):
        kernel(small(), random_images(1, 20, SHAPE), backend="cuda", progress=broken)


@pytest.mark.parametrize("arch", [small(), pooled()], ids=["global", "pooled"])
def test_cuda_out_of_memory_halves_the_tile_and_says_so(
    arch: Architecture, fake_cupy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    x = random_images(1, 24, SHAPE)
    whole = kernel(arch, x, backend="cuda")
    fake_cupy.most_bytes = 4000
    with caplog.at_level(logging.WARNING, "nas_cntk"):
        np.testing.assert_array_equal(kernel(arch, x, backend="cuda"), whole)
    assert fake_cupy.refused > 2
    assert "out of memory: going on with half as much at a time" in caplog.text


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("arch", [small(), pooled()], ids=["global", "pooled"])
def test_cuda_out_of_memory_leaves_the_diagonal_whole(
    arch: Architecture, dtype: str, fake_cupy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "UNDER_WAY", 1)
    x = random_images(1, 23, SHAPE)
    whole = kernel(arch, x, kind="both", backend="cuda", dtype=dtype)
    begin = cuda.Engine.start
    squares: list[int] = []

    def start(engine: Any, x1: Any, x2: Any, capacity: int, skip_below: int) -> Any:
        started = begin(engine, x1, x2, capacity, skip_below)  # what is out of memory is not noted
        assert (skip_below == 0) == (x2 is None)
        if x2 is None:
            squares.append(len(x1))
        else:
            assert not any(np.array_equal(a, b) for a in x1 for b in x2), "an image with itself, not on the diagonal"
        return started

    monkeypatch.setattr(cuda.Engine, "start", start)
    fake_cupy.most_bytes = 1000 * np.dtype(dtype).itemsize
    seen: list[float] = []
    got = kernel(arch, x, kind="both", backend="cuda", dtype=dtype, progress=seen.append)
    assert fake_cupy.refused > 0 and sum(squares) == len(x) and max(squares) < 9
    for a, b in zip(got, whole, strict=True):
        np.testing.assert_array_equal(np.diagonal(a), np.diagonal(b))
        np.testing.assert_array_equal(a, b)
    assert seen[-1] == 1 and all(a < b for a, b in pairwise(seen))


@pytest.mark.parametrize("diagonal", [True, False])
@pytest.mark.parametrize("side", [2, 3, 7, 8])
def test_cuda_parts_of_a_tile_have_its_pairs(side: int, diagonal: bool) -> None:
    def pairs(tile: cuda._Tile) -> list[tuple[int, int]]:
        found = [(a, b) for a in range(*tile.rows) for b in range(*tile.columns) if a <= b or not tile.diagonal]
        assert tile.pairs == len(found)
        return found

    tile = cuda._Tile((3, 3 + side), (3, 3 + side), diagonal)
    parts = tile.parts()
    assert sorted(pair for part in parts for pair in pairs(part)) == pairs(tile)
    assert all(not diagonal or part.diagonal == (part.rows == part.columns) for part in parts)


def test_cuda_one_pair_that_does_not_fit_is_unsupported(fake_cupy: Any, caplog: pytest.LogCaptureFixture) -> None:
    x = random_images(1, 3, SHAPE)
    kernel(pooled(), x, backend="cuda")
    fake_cupy.most_bytes = 1500  # less than one field of one pair
    with pytest.raises(UnsupportedByBackend, match="one pair of images does not fit.*use backend cpu"):
        kernel(pooled(), x, backend="cuda")
    with caplog.at_level(logging.WARNING, "nas_cntk"):
        got = kernel(pooled(), x)
    assert "backend auto goes on with cpu" in caplog.text
    np.testing.assert_array_equal(got, kernel(pooled(), x, backend="cpu"))


def test_cuda_a_gray_chain_is_computed_in_float64(fake_cupy: Any) -> None:
    b = Builder()
    x = b.conv(b.input(), 1)
    x = b.add(x, b.conv(x, 1))
    b.dense(b.flatten(b.relu(b.conv(b.relu(x), 1))))
    images = random_images(1, 4, (3, 3, 1))
    close(kernel(b.build(), images, backend="cuda"), kernel(b.build(), images, backend="reference"), 1e-6)


def test_cuda_gram_matrices(fake_cupy: Any) -> None:
    x = random_images(1, 20, SHAPE)
    matrix = gram(small(), x[:12], backend="cuda").extend(x[12:])
    np.testing.assert_array_equal(np.asarray(matrix), kernel(small(), x, backend="cuda"))


def test_cuda_without_its_compiler_is_unavailable(fake_cupy: Any) -> None:
    fake_cupy.failures["nvrtc"] = RuntimeError("Failure finding libnvrtc.so.13:\nno such file")
    cuda._cupy.cache_clear()
    with pytest.raises(BackendUnavailable, match=r"needs NVRTC.*\(Failure finding.*no such file\); pip"):
        kernel(small(), random_images(1, 2, SHAPE), backend="cuda")
    assert resolve_backend("auto") == "cpu"


def test_cuda_is_what_auto_takes_where_it_is_there(fake_cupy: Any) -> None:
    assert resolve_backend("auto") == "cuda" == resolve_backend("cuda")
    fake_cupy.gpus = 0
    cuda._cupy.cache_clear()
    assert resolve_backend("auto") == "cpu"
    with pytest.raises(BackendUnavailable, match="finds no GPU; use backend cpu"):
        resolve_backend("cuda")
    with pytest.raises(BackendUnavailable, match="finds no GPU"):
        resolve_backend("auto", [0])


def test_cuda_errors_of_the_driver_are_one_line(fake_cupy: Any) -> None:
    fake_cupy.broken = fake_cupy.CUDARuntimeError("cudaErrorInsufficientDriver: driver\nis too old")
    cuda._cupy.cache_clear()
    with pytest.raises(BackendUnavailable, match="no usable GPU.*driver is too old.*older CUDA.*backend cpu") as caught:
        kernel(small(), random_images(1, 2, SHAPE), backend="cuda")
    assert "\n" not in str(caught.value)
    assert resolve_backend("auto") == "cpu"


@pytest.mark.parametrize(
    "where, kind, text",
    [
        ("stream", "CUDARuntimeError", "cudaErrorECCUncorrectable: uncorrectable\nerror"),
        ("empty", "CUDARuntimeError", "cudaErrorIllegalAddress: an illegal\naddress"),
        ("pinned", "CUDARuntimeError", "cudaErrorMemoryAllocation: out of\nmemory"),
        ("compile", "CompileException", "gram.cu(12): error: expected a ';'\n" + "one more line of a log\n" * 100),
        ("compile", "CUDADriverError", "CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel\nimage"),
        ("launch", "CUDADriverError", "CUDA_ERROR_INVALID_VALUE: invalid\nargument"),
        ("launch", "CUDARuntimeError", "cudaErrorLaunchFailure: unspecified\nlaunch failure"),
    ],
)
def test_cuda_failures_of_a_gpu_are_one_line(where: str, kind: str, text: str, fake_cupy: Any) -> None:
    fake_cupy.failures[where] = getattr(fake_cupy, kind)(text)
    with pytest.raises(KernelError, match=r"^GPU 1 failed \(.*\); try backend cpu$") as caught:
        kernel(small(), random_images(1, 5, SHAPE), backend="cuda", devices=[1])
    said = str(caught.value)
    assert " ".join(text.split())[:30] in said and "\n" not in said and len(said) < 400
    fake_cupy.failures.clear()
    assert kernel(small(), random_images(1, 3, SHAPE), backend="cuda").shape == (3, 3)


def test_cuda_a_failure_while_results_are_copied_is_one_line(fake_cupy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def finish(engine: Any, started: Any) -> Any:
        fake_cupy.failures["pinned"] = fake_cupy.CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")
        return end(engine, started)

    end = cuda.Engine.finish
    monkeypatch.setattr(cuda.Engine, "finish", finish)
    with pytest.raises(KernelError, match=r"^GPU 0 failed \(cudaErrorMemoryAllocation.*try backend cpu$"):
        kernel(small(), random_images(1, 5, SHAPE), backend="cuda")


def test_cuda_a_plan_that_does_not_fit_is_unsupported(fake_cupy: Any) -> None:
    fake_cupy.most_bytes = 8
    with pytest.raises(UnsupportedByBackend, match="plan of the kernels does not fit in the memory of GPU 0"):
        kernel(small(), random_images(1, 3, SHAPE), backend="cuda")


@pytest.mark.parametrize("devices", [[2], [-1], [0, 5]])
def test_cuda_unknown_devices_are_named(devices: list[int], fake_cupy: Any) -> None:
    with pytest.raises(BackendUnavailable, match=r"devices \[.*but this machine has 2 GPUs, numbers 0 to 1"):
        kernel(small(), random_images(1, 2, SHAPE), backend="cuda", devices=devices)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_cuda_devices_are_for_cuda_alone(backend: str, fake_cupy: Any) -> None:
    with pytest.raises(BackendUnavailable, match=rf"devices \[0\] asked for, but backend {backend} uses no GPU"):
        kernel(small(), random_images(1, 2, SHAPE), backend=backend, devices=[0])


def test_cuda_without_cupy_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # an import fails
    cuda._cupy.cache_clear()
    with pytest.raises(BackendUnavailable, match=r"needs CuPy.*pip install 'nas-cntk\[cuda12\]' or.*nvidia-smi"):
        kernel(small(), random_images(1, 2, SHAPE), backend="cuda")


def test_cuda_what_is_found(fake_cupy: Any) -> None:
    there = cuda.found()
    assert (there.cupy, there.driver, len(there.gpus)) == ("fake", 13000, 2)
    assert (there.gpus[1].number, there.gpus[1].name, there.gpus[1].compute_capability) == (1, "Fake GPU", "9.0")
