"""The compiled core against the reference on random legal architectures; `pytest -s` prints the worst errors.

The reference folds the ops' own rules over the graph and shares nothing with the lowering that the compiled core runs,
so every comparison tests the lowering too.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from random_architectures import Case, random_case

from nas_cntk import kernel
from nas_cntk.errors import KernelError
from nas_cntk.kernels import _native
from nas_cntk.kernels.backends.cpu import instruction_set

CHUNKS, EACH = 30, 13  # 390 architectures: every form on every image shape at least twice
TOLERANCES = {"float64": 1e-9, "float32": 5e-5}
KINDS = ("nngp", "ntk")

Worst = dict[tuple[str, str, str], tuple[float, str]]


@pytest.fixture(scope="module")
def worst() -> Iterator[Worst]:
    """The worst error yet by (instruction set, dtype, kind); printed at the end."""
    found: Worst = {}
    yield found
    for (isa, dtype, kind), (error, name) in sorted(found.items()):
        print(f"\n{isa:8} {dtype:8} {kind:5} worst {error:.1e} in {name.split(':')[0]}", end="")


def error_of(got: NDArray[np.floating], true: NDArray[np.floating]) -> float:
    """The greatest error over the greatest entry; a kernel that is 0 everywhere must be 0."""
    size = float(np.abs(true).max())
    return float(np.abs(got - true).max()) / (size if size > 0 else 1.0)


def compare(case: Case, worst: Worst, symmetric: bool) -> None:
    x2 = None if symmetric else case.x2
    true = kernel(case.arch, case.x1, x2, kind="both", backend="reference", dtype="float64")
    assert all(np.isfinite(matrix).all() for matrix in true), case.name
    isa = instruction_set()
    for dtype, tolerance in TOLERANCES.items():
        got = kernel(case.arch, case.x1, x2, kind="both", backend="cpu", dtype=dtype)
        for kind, a, b in zip(KINDS, got, true, strict=True):
            error = error_of(a, b)
            if error > worst.get((isa, dtype, kind), (-1.0, ""))[0]:
                worst[isa, dtype, kind] = error, case.name
            assert error < tolerance, f"{isa} {dtype} {kind} {'symmetric' if symmetric else ''}: {case.name}"


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_architectures(chunk: int, worst: Worst) -> None:
    for seed in range(chunk * EACH, (chunk + 1) * EACH):
        case = random_case(seed)
        compare(case, worst, symmetric=False)
        compare(case, worst, symmetric=True)


@pytest.mark.parametrize("isa", _native.instruction_sets())
def test_every_instruction_set(isa: str, monkeypatch: pytest.MonkeyPatch, worst: Worst) -> None:
    monkeypatch.setenv("NAS_CNTK_ISA", isa)
    assert instruction_set() == isa
    for seed in range(1000, 1040):
        compare(random_case(seed), worst, symmetric=seed % 2 == 0)


def test_an_unknown_instruction_set_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_CNTK_ISA", "mmx")
    case = random_case(0)
    with pytest.raises(KernelError, match="mmx.*this machine has"):
        kernel(case.arch, case.x1, backend="cpu")


def test_one_kind_is_the_same_as_both() -> None:
    """Kind "nngp" carries no tangents and kind "ntk" no second result: other programs, the same numbers."""
    for seed in range(2000, 2026):
        case = random_case(seed)
        both = kernel(case.arch, case.x1, case.x2, kind="both", backend="cpu", dtype="float64")
        for kind, matrix in zip(KINDS, both, strict=True):
            alone = kernel(case.arch, case.x1, case.x2, kind=kind, backend="cpu", dtype="float64")
            assert error_of(alone, matrix) < 1e-13, f"{kind}: {case.name}"
