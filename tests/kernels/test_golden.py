"""Every golden file, computed by others, against every backend and dtype."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from nas_cntk import Architecture, kernel

KINDS = ("nngp", "ntk")
TOLERANCES = {("reference", "float64"): 1e-9, ("cpu", "float64"): 1e-9, ("cpu", "float32"): 5e-5}

# The diagonals of `ntk_self` are themselves off by up to 4e-9 where the program that made the file evaluates k0 near
# correlation 1 from a rounded correlation: arccos loses half the digits there. An image with itself has correlation
# exactly 1 at equal positions, which is what we take; so that diagonal alone is compared at 1e-8.
DIAGONAL_TOLERANCE = 1e-8


def _files() -> list[object]:
    folder = Path(os.environ.get("NAS_CNTK_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "golden"
    names = sorted(path.name for path in folder.glob("*.npz"))
    return names or [pytest.param("", marks=pytest.mark.skip(reason=f"no golden kernels in {folder}"))]


def relative(got: NDArray[np.floating], true: NDArray[np.floating]) -> float:
    """The greatest error over the greatest entry."""
    assert got.shape == true.shape
    return float(np.abs(got - true).max() / np.abs(true).max())


@pytest.mark.parametrize("name", _files())
def test_golden(name: str, shared_dir: Path) -> None:
    with np.load(shared_dir / "golden" / name, allow_pickle=False) as golden:
        case = dict(golden)
    arch = Architecture.from_json(str(case["architecture"]))
    x1, x2 = case["x1"], case["x2"]
    for (backend, dtype), tolerance in TOLERANCES.items():
        cross = kernel(arch, x1, x2, kind="both", backend=backend, dtype=dtype)
        own = kernel(arch, x1, kind="both", backend=backend, dtype=dtype)
        for at, kind in enumerate(KINDS):
            where = f"{backend} {dtype} {kind}"
            assert cross[at].dtype == dtype
            assert relative(cross[at], case[kind]) < tolerance, where
            alone = kernel(arch, x1[:1], x2, kind=kind, backend=backend, dtype=dtype)
            assert np.abs(alone - case[kind][:1]).max() < tolerance * np.abs(case[kind]).max(), f"{where} alone"
            true = case[f"{kind}_self"]
            if kind == "ntk" and dtype == "float64":
                off = ~np.eye(len(true), dtype=bool)
                assert np.abs(own[at] - true)[off].max() < tolerance * np.abs(true).max(), where
                assert relative(own[at], true) < DIAGONAL_TOLERANCE, where
            else:
                assert relative(own[at], true) < tolerance, where


def test_a_wrong_kernel_fails(shared_dir: Path) -> None:
    """The comparison has power: a correct kernel of another architecture is far off."""
    with np.load(shared_dir / "golden" / "plain2_gap__digits8x8x1.npz", allow_pickle=False) as golden:
        arch, x1, x2, ntk = (golden[name] for name in ("architecture", "x1", "x2", "ntk"))
    frozen = str(arch).replace('"trainable": true', '"trainable": false', 1)
    assert relative(kernel(Architecture.from_json(frozen), x1, x2, dtype="float64"), ntk) > 1e-2
