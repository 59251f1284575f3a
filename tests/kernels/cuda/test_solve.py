"""The solver on a GPU, with a stand-in for CuPy: the same solution, errors, memory; `device` where there is a GPU."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nas_cntk import Builder, solver
from nas_cntk.errors import KernelError, RegressionError
from nas_cntk.kernels.backends import cuda, cuda_arrays
from nas_cntk.kernels.gram import Gram, gram
from nas_cntk.solver import Solution, solve

N = 150


@pytest.fixture
def small_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "PANEL", 32)
    for module in (solver, cuda_arrays):
        monkeypatch.setattr(module, "STRIPE", 50)
        monkeypatch.setattr(module, "BLOCK", (40, 70))


def labels(n: int = N) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, 3, n)


def matrix(n: int = N, noise: float = 1.0, backend: str = "cuda", **more: Any) -> Gram:
    """The Gram matrix of images that are a few patterns and noise: the less of it, the nearer to singular."""
    b = Builder()
    b.dense(b.flatten(b.relu(b.conv(b.input(), 3))))
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, 3, 2, 2))[np.arange(n) % 5] + noise * rng.standard_normal((n, 3, 2, 2))
    found = gram(b.build(), x, backend=backend, **more)
    assert isinstance(found, Gram)
    return found


def agree(found: Solution, other: Solution) -> None:
    assert found.method == other.method + " on a GPU" and found.jitter == other.jitter
    assert found.residual < 1e-9 and found.mean_diagonal == pytest.approx(other.mean_diagonal, rel=1e-6)
    np.testing.assert_allclose(found.alpha, other.alpha, rtol=0, atol=1e-6 * np.abs(other.alpha).max())


@pytest.fixture
def uploaded(fake_cupy: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of what was allocated on a GPU."""
    found: list[tuple[int, ...]] = []
    empty = fake_cupy.empty
    monkeypatch.setattr(fake_cupy, "empty", lambda shape, dtype: found.append(shape) or empty(shape, dtype))
    yield found


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
@pytest.mark.parametrize("noise", [1.0, 0.02])
def test_cuda_solve_is_that_of_the_cpu(
    noise: float, ridge: float, where: str, uploaded: list[Any], small_panels: None, tmp_path: Any
) -> None:
    on_gpu = matrix(noise=noise, **({"store": tmp_path / "tiles"} if where == "disk" else {}))
    assert on_gpu.gpus == (0,)
    seen: list[float] = []
    found = solve(on_gpu, labels(), 3, ridge, progress=seen.append)
    assert (N, N) in uploaded
    agree(found, solve(np.asarray(on_gpu), labels(), 3, ridge))
    assert seen[-1] == 1 and all(a <= b for a, b in zip(seen, seen[1:], strict=False))


def test_cuda_solve_needs_jitter_where_the_cpu_does(uploaded: list[Any], small_panels: None) -> None:
    one = matrix(60)
    x = np.repeat(np.random.default_rng(0).standard_normal((30, 3, 2, 2)), 2, axis=0)  # every image twice
    b = Builder()
    b.dense(b.flatten(b.relu(b.conv(b.input(), 3))))
    twice = gram(b.build(), x, backend="cuda")
    assert len(one) == len(twice)
    found = solve(twice, labels(60), 3)
    assert found.jitter > 0
    agree(found, solve(np.asarray(twice), labels(60), 3))


def test_cuda_solve_knows_a_matrix_without_a_factor(fake_cupy: Any) -> None:
    arrays = cuda_arrays.with_room(0, 0)
    assert arrays is not None
    with arrays.active():
        for diagonal, there in ((1.0, True), (-1.0, False)):
            found = arrays.cholesky(arrays.there(np.diag([4.0, diagonal, 9.0]).astype(np.float32)))
            assert (found is not None) == there
        assert np.array_equal(arrays.here(arrays.cholesky(arrays.there(np.float32([[4.0]])))), [[2.0]])


def test_cuda_solve_of_other_matrices_is_on_the_cpu(uploaded: list[Any]) -> None:
    other = matrix(40, backend="cpu")
    assert other.gpus == ()
    assert "GPU" not in solve(other, labels(40), 3).method
    assert "GPU" not in solve(np.asarray(matrix(40)), labels(40), 3).method
    assert (40, 40) not in uploaded


def test_cuda_solve_takes_the_first_of_its_gpus(uploaded: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    with_room = cuda_arrays.with_room
    monkeypatch.setattr(
        cuda_arrays, "with_room", lambda number, nbytes: asked.append(number) or with_room(number, nbytes)
    )
    solve(matrix(40, devices=[1, 0]), labels(40), 3)
    assert asked == [1]


def test_cuda_solve_without_room_is_on_the_cpu(
    fake_cupy: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, y = matrix(60), labels(60)
    wanted = solve(one, y, 3)
    with monkeypatch.context() as patch:
        patch.setattr(fake_cupy, "free_bytes", cuda_arrays.memory_of_solve(60))  # of which a share is left
        without = solve(one, y, 3)
    assert not caplog.records
    fake_cupy.most_bytes = 1000  # and what looked free is not
    with caplog.at_level(logging.WARNING, "nas_cntk"):
        refused = solve(one, y, 3)
    assert "GPU 0 has no room to solve for 60 images: solving on the CPU" in caplog.text
    for found in (without, refused):
        agree(wanted, found)


def test_cuda_solve_without_its_libraries_is_on_the_cpu(
    fake_cupy: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, y = matrix(60), labels(60)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.linalg", None)
    cuda.triangular_solver.cache_clear()
    with caplog.at_level(logging.WARNING, "nas_cntk"):
        found = solve(one, y, 3)
    assert "GPU" not in found.method
    assert "solving on the CPU: CuPy finds no cuBLAS or no cuSOLVER (" in caplog.text and "pip install" in caplog.text


def test_cuda_solve_says_what_failed(fake_cupy: Any) -> None:
    one = matrix(40)
    for error in (fake_cupy.CUDARuntimeError, fake_cupy.CompileException, PermissionError):
        fake_cupy.failures["cholesky"] = error("illegal\naddress")
        with pytest.raises(KernelError, match=r"GPU 0 failed \(illegal address\)"):
            solve(one, labels(40), 3)
    fake_cupy.failures["cholesky"] = RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")
    assert "GPU" not in solve(one, labels(40), 3).method
    fake_cupy.failures.clear()

    def broken(fraction: float) -> None:
        raise RuntimeError("the screen is gone")

    with pytest.raises(RuntimeError, match="the screen is gone"):
        solve(one, labels(40), 3, progress=broken)
    with pytest.raises(KeyboardInterrupt):
        solve(one, labels(40), 3, cancelled=lambda: True)
    with pytest.raises(RegressionError, match="labels"):
        solve(one, labels(39), 3)
    with pytest.raises(RegressionError, match="leave overwrite out"):
        solve(one, labels(40), 3, overwrite=True)


@pytest.mark.parametrize("n", [1000, 5000])
def test_cuda_solve_device(n: int) -> None:
    try:
        cuda.check()
    except Exception as error:
        pytest.skip(f"needs a GPU: {error}")
    one = matrix(n)
    agree(solve(one, labels(n), 3), solve(np.asarray(one), labels(n), 3))
