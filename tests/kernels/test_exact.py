"""The door: what it accepts, refuses and reports, and that no result depends on how the work is cut."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from random_architectures import random_architecture, random_images

from nas_cntk import Architecture, Builder, kernel, kernel_family
from nas_cntk.errors import BackendUnavailable, IllegalArchitecture, KernelError, NasCntkError, UsageError
from nas_cntk.kernels.backends import cpu

SHAPE = (5, 4, 2)
BACKENDS = ("reference", "cpu")


def small(depth: int = 2, trainable: bool = True, gap: bool = True, add: int = 0) -> Architecture:
    b = Builder()
    x = b.input()
    for _ in range(depth):
        x = b.relu(b.conv(x, 3, trainable=trainable))
    for _ in range(add):
        x = b.add(x, x)
    b.dense(b.global_avg_pool(x) if gap else b.flatten(x), trainable=trainable)
    return b.build()


def with_sums() -> Architecture:
    b = Builder()
    x = b.conv(b.input(), 3)
    x = b.add(x, b.avg_pool(x, 3, 1, "same"), b.conv(b.relu(x), 3))
    x = b.add(b.relu(x), b.relu(b.conv(x, 3)))
    b.dense(b.global_avg_pool(b.avg_pool(b.conv(x, 3, 2), 2)))
    return b.build()


def images(n: int, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> NDArray[np.float64]:
    return random_images(seed, n, shape)


@pytest.mark.parametrize("arch", [small(), small(gap=False), with_sums()], ids=["gap", "flatten", "sums"])
@pytest.mark.parametrize("n1, n2", [(1, 1), (1, 40), (33, 17), (16, 16), (7, 50)])
def test_no_result_depends_on_the_tiling(arch: Architecture, n1: int, n2: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x1, x2 = images(n1, seed=1), images(n2, seed=2)
    for dtype, tolerance in (("float64", 1e-14), ("float32", 3e-7)):
        whole = kernel(arch, x1, x2, backend="cpu", dtype=dtype)
        with monkeypatch.context() as patch:
            patch.setattr(cpu, "TILE_ENTRY_LAYERS", 1)
            tiny = kernel(arch, x1, x2, backend="cpu", dtype=dtype)
            gram = kernel(arch, x2, backend="cpu", dtype=dtype)
        np.testing.assert_array_equal(tiny, whole)
        one = kernel(arch, x1[-1:], x2[n2 // 2 :], backend="cpu", dtype=dtype)
        np.testing.assert_allclose(one[0], whole[-1, n2 // 2 :], rtol=0, atol=tolerance * np.abs(whole).max())
        np.testing.assert_array_equal(gram, kernel(arch, x2, backend="cpu", dtype=dtype))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(6))
def test_the_symmetric_matrix_is_the_full_one(backend: str, seed: int) -> None:
    n = 21 if backend == "cpu" else 5
    _, arch = random_architecture(5000 + seed, SHAPE)
    x = images(n, seed=seed)
    for dtype, tolerance in (("float64", 1e-9), ("float32", 1e-5)):
        for gram, full in zip(
            kernel(arch, x, kind="both", backend=backend, dtype=dtype),
            kernel(arch, x, x.copy(), kind="both", backend=backend, dtype=dtype),
            strict=True,
        ):
            np.testing.assert_array_equal(gram, gram.T)
            np.testing.assert_allclose(gram, full, rtol=0, atol=tolerance * np.abs(full).max(), err_msg=arch.to_json())
            np.testing.assert_allclose(
                np.diag(gram), np.diag(full), rtol=tolerance, atol=tolerance * np.abs(full).max()
            )


@pytest.mark.parametrize("backend", BACKENDS)
def test_progress_grows_to_one(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "TILE_ENTRY_LAYERS", 1)
    for x2 in (None, images(20, seed=3)):
        seen: list[float] = []
        kernel_family([small(), small(3)], images(19), x2, backend=backend, progress=seen.append)
        assert seen[-1] == pytest.approx(1) and 0 <= seen[0]
        assert all(a <= b for a, b in pairwise(seen))
        if backend == "cpu":
            assert len(seen) > 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_cancelled_ends_early(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "TILE_ENTRY_LAYERS", 1)
    monkeypatch.setattr("nas_cntk.kernels.backends.reference.BYTES", 1)
    asked = 0

    def after_two() -> bool:
        nonlocal asked
        asked += 1
        return asked > 2

    with pytest.raises(KeyboardInterrupt):
        kernel(small(), images(40), backend=backend, cancelled=after_two)
    assert asked == 3
    assert kernel(small(), images(3), backend=backend, cancelled=lambda: False).shape == (3, 3)


def test_a_progress_that_raises_ends_the_computation() -> None:
    def broken(fraction: float) -> None:
        raise RuntimeError("the screen is gone")

    with pytest.raises(RuntimeError, match="the screen is gone"):
        kernel(small(), images(40), backend="cpu", progress=broken)


@pytest.mark.parametrize("backend", BACKENDS)
def test_kinds_and_dtypes(backend: str) -> None:
    x = images(3)
    for dtype in ("float32", "float64"):
        nngp, ntk = kernel(small(), x, kind="both", backend=backend, dtype=dtype)
        assert nngp.dtype == ntk.dtype == dtype and nngp.shape == ntk.shape == (3, 3)
        np.testing.assert_array_equal(kernel(small(), x, backend=backend, dtype=dtype), ntk)
        np.testing.assert_array_equal(kernel(small(), x, kind="nngp", backend=backend, dtype=dtype), nngp)
        assert not np.allclose(nngp, ntk)


@pytest.mark.parametrize("given", [np.uint8, np.int64, np.float32, np.float64, np.float16])
def test_images_of_every_number_type(given: type) -> None:
    x = np.random.default_rng(0).integers(0, 2, (4, *SHAPE)).astype(given)
    for backend in BACKENDS:
        k = kernel(small(), x, x.tolist(), backend=backend, dtype="float64")
        np.testing.assert_allclose(k, kernel(small(), x.astype(float), backend="reference", dtype="float64"), rtol=1e-9)


def test_images_in_any_memory_order() -> None:
    x = images(6)
    true = kernel(small(), x, x[::-1].copy(), dtype="float64")
    fortran = np.asfortranarray(x)
    fortran.flags.writeable = False
    swapped = x.astype(x.dtype.newbyteorder("S"))
    np.testing.assert_array_equal(kernel(small(), fortran, x[::-1], dtype="float64"), true)
    np.testing.assert_array_equal(kernel(small(), swapped, swapped[::-1], dtype="float64"), true)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_hundred_doublings(backend: str) -> None:
    k = kernel(small(add=100), images(3), backend=backend, dtype="float64")
    true = 4.0**100 * kernel(small(), images(3), backend="reference", dtype="float64")
    np.testing.assert_allclose(k, true, rtol=0, atol=1e-9 * true.max())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "add, dtype, mend",
    [
        (100, "float32", "ask for float64"),
        (600, "float64", "scale the images or sum fewer branches"),
        (1100, "float64", "scale the images or sum fewer branches"),
    ],
)
def test_a_kernel_that_overflows_is_an_error(backend: str, add: int, dtype: str, mend: str) -> None:
    with pytest.raises(KernelError, match=f"too large for {dtype}; {mend}"):
        kernel(small(add=add), images(3), backend=backend, dtype=dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_dim_and_bright_images(backend: str, scale: float) -> None:
    arch, x = with_sums(), images(3)
    for dtype, tolerance in (("float64", 1e-9), ("float32", 5e-5)):
        true = kernel(arch, x, backend="reference", dtype="float64")
        k = kernel(arch, scale * x, x / scale, backend=backend, dtype=dtype)
        np.testing.assert_allclose(k, true, rtol=0, atol=tolerance * np.abs(true).max())


@pytest.mark.parametrize("backend", BACKENDS)
def test_black_images_have_kernel_zero(backend: str) -> None:
    x = images(3)
    x[1] = 0
    for dtype in ("float32", "float64"):
        for k in kernel(with_sums(), x, kind="both", backend=backend, dtype=dtype):
            assert (k[1] == 0).all() and (k[:, 1] == 0).all() and k[0, 0] > 0
    assert (kernel(with_sums(), x[1:2], backend=backend) == 0).all()


BAD_CALLS: dict[str, tuple[dict[str, object], type[NasCntkError], str]] = {
    "three axes": ({"x1": np.zeros((2, 5, 4))}, KernelError, r"x1 must have shape \(n, h, w, c\), got \(2, 5, 4\)"),
    "five axes": ({"x2": np.zeros((2, 5, 4, 2, 1))}, KernelError, "x2 must have shape"),
    "a number": ({"x1": 3.0}, KernelError, "x1 must have shape"),
    "no images": ({"x1": np.zeros((0, 5, 4, 2))}, KernelError, "x1 is empty"),
    "no channels": ({"x1": np.zeros((2, 5, 4, 0))}, KernelError, "x1 is empty"),
    "two sizes": ({"x2": np.zeros((2, 5, 5, 2))}, KernelError, r"\(5, 4, 2\).*\(5, 5, 2\)"),
    "ragged": ({"x1": [[[[1.0, 2.0]]], [[[1.0]]]]}, KernelError, "images of one size"),
    "text": ({"x1": np.full((1, 5, 4, 2), "a")}, KernelError, "must hold numbers"),
    "truth values": ({"x1": np.ones((1, 5, 4, 2), bool)}, KernelError, "must hold numbers, got dtype bool"),
    "objects": ({"x1": np.full((1, 5, 4, 2), None)}, KernelError, "must hold numbers"),
    "complex": ({"x1": np.zeros((1, 5, 4, 2), complex)}, KernelError, "must hold numbers"),
    "NaN": ({"x1": np.full((1, 5, 4, 2), np.nan)}, KernelError, "x1 holds NaN or infinite"),
    "infinity": ({"x2": np.full((1, 5, 4, 2), np.inf)}, KernelError, "x2 holds NaN or infinite"),
    "kind": ({"kind": "ntkk"}, UsageError, "kind must be .*'ntkk'"),
    "dtype": ({"dtype": "float16"}, UsageError, "dtype must be .*'float16'"),
    "backend": ({"backend": "tpu"}, UsageError, "backend must be one of .*'tpu'"),
    "devices": ({"devices": [0]}, BackendUnavailable, r"devices \[0\]"),
    "no ntk": ({"arch": small(trainable=False)}, IllegalArchitecture, 'no trainable layer.*kind "nngp"'),
    "no ntk, both": ({"arch": small(trainable=False), "kind": "both"}, IllegalArchitecture, "no trainable layer"),
    "too small": ({"arch": with_sums(), "x1": np.zeros((1, 1, 1, 2))}, IllegalArchitecture, "node 11.*does not fit"),
}


@pytest.mark.parametrize("name", list(BAD_CALLS))
def test_bad_calls(name: str) -> None:
    changed, error, message = BAD_CALLS[name]
    arguments: dict[str, object] = {"arch": small(), "x1": images(2), "x2": None, **changed}
    with pytest.raises(error, match=message) as caught:
        kernel(**arguments)  # type: ignore[call-overload]
    assert "\n" not in str(caught.value)


def test_without_a_trainable_layer_the_nngp_is_there() -> None:
    for backend in BACKENDS:
        frozen = kernel(small(trainable=False), images(3), kind="nngp", backend=backend, dtype="float64")
        np.testing.assert_allclose(frozen, kernel(small(), images(3), kind="nngp", dtype="float64"), rtol=1e-12)


def test_an_empty_family() -> None:
    assert kernel_family([], images(2)) == []
