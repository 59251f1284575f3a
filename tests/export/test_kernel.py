"""The kernel as a model: it predicts as the regression does, and comes back from the disk bit by bit."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nas_cntk
from nas_cntk import Builder, regression
from nas_cntk.architecture import Architecture
from nas_cntk.errors import ModelError
from nas_cntk.export import kernel
from nas_cntk.export.arrays import read_arrays, write_arrays
from nas_cntk.export.manifest import Manifest

SHAPE = (5, 4, 2)


def architecture() -> Architecture:
    b = Builder()
    x = b.relu(b.conv(b.input(), 3))
    b.dense(b.flatten(b.avg_pool(x, 2)))
    return b.build()


def data(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, *SHAPE)).astype(np.float32), rng.permutation(np.arange(n) % 3)


def fitted(dtype: str = "float32", kind: str = "ntk") -> kernel.KernelModel:
    x, y = data(30)
    return kernel.fit_kernel(
        architecture(),
        x,
        y,
        3,
        kernel=kind,  # type: ignore[arg-type]
        dtype=dtype,
        ridge=1e-3,
        backend="auto",
    )


def manifest(model: kernel.KernelModel) -> Manifest:
    return Manifest(("a", "b", "c"), SHAPE, "never", (0.0, 0.0), (1.0, 1.0), kernel.describe(model), {})


@pytest.mark.parametrize("dtype, kind", [("float32", "ntk"), ("float64", "nngp")])
def test_it_predicts_as_the_regression_does(
    dtype: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (x, y), (x_test, _) = data(30), data(17, seed=1)
    one = nas_cntk.kernel(architecture(), x, kind=kind, dtype=dtype)  # type: ignore[call-overload]
    other = nas_cntk.kernel(architecture(), x_test, x, kind=kind, dtype=dtype)  # type: ignore[call-overload]
    due = regression.predict(regression.fit(one, y, 3, 1e-3), other)
    model = fitted(dtype, kind)
    (tmp_path / "kernel.safetensors").write_bytes(kernel.pack(model))
    loaded = kernel.load_kernel(tmp_path, manifest(model), architecture())
    fractions: list[float] = []
    monkeypatch.setattr(kernel, "AT_A_TIME", 5)
    for asked in (model, loaded):
        found = kernel.predict_kernel(asked, x_test, "auto", fractions.append)
        np.testing.assert_allclose(found, due, rtol=0, atol=1e-12)  # BLAS rounds otherwise for other numbers of rows
    assert fractions[-1] == 1 and all(0 <= fraction <= 1 for fraction in fractions)
    assert math.isnan(loaded.fitted.loo_accuracy)  # not known, and not made up


def test_hostile_arrays(tmp_path: Path) -> None:
    model = fitted()
    about, path = manifest(model), tmp_path / "kernel.safetensors"
    good = {"images": model.images, "coefficients": model.fitted.alpha}
    nan = np.where(np.arange(3) == 1, np.nan, model.fitted.alpha)
    for arrays, message in (
        ({"images": good["images"]}, "has no coefficients"),
        ({**good, "images": good["images"][:-1]}, r"images of shape \(29, 5, 4, 2\)"),
        ({**good, "images": good["images"].astype(np.float64)}, "float64, not"),
        ({**good, "coefficients": nan}, "coefficients that are not finite"),
    ):
        path.write_bytes(write_arrays(arrays))
        with pytest.raises(ModelError, match=message):
            kernel.load_kernel(tmp_path, about, architecture())
    path.write_bytes(write_arrays(good))
    with pytest.raises(ModelError, match="as model.json says"):
        kernel.load_kernel(tmp_path, replace(about, classes=("a", "b")), architecture())


def test_damaged_files(tmp_path: Path) -> None:
    path, content = tmp_path / "x.safetensors", write_arrays({"a": np.arange(6.0).reshape(2, 3)})
    path.write_bytes(content)
    assert np.array_equal(read_arrays(path)["a"], np.arange(6.0).reshape(2, 3))
    for damaged in (b"", content[:5], content[:40], content[:-1], content + b"x", b"\xff" * 8 + content[8:]):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match="is damaged") as error:
            read_arrays(path)
        assert "\n" not in str(error.value)
    for place in (tmp_path / "no", tmp_path):
        with pytest.raises(ModelError, match="has no no|is damaged"):
            read_arrays(place)
