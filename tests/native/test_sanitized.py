"""The compiled core built with AddressSanitizer and UndefinedBehaviorSanitizer, on random architectures.

Not optimised as it ships: sanitizers ask the compiler for minutes even so. What lies within one array, slots of
scratch memory beside each other, no sanitizer tells apart.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from native.outside import Outside, build, outside
from random_architectures import random_case

from nas_cntk import kernel

pytestmark = pytest.mark.long  # minutes of compiling
COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++") or "c++"
# Alignment and null are asked before every vector that is read, which takes the compiler longer than all else.
FLAGS = (
    "-O1 -g1 -fsanitize=address,undefined -fno-sanitize=vptr,alignment,null,object-size -fno-sanitize-recover=undefined"
)
CALLS = " --param asan-instrumentation-with-call-threshold=0"  # GCC: checks as calls, which compile in half the time
SEEDS = 120
TOLERANCE = {"float32": 2e-4, "float64": 1e-9}  # relative to the largest entry


@pytest.fixture(scope="module")
def program(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that runs one case, sanitized."""
    folder = tmp_path_factory.mktemp("sanitized")
    (folder / "empty.cpp").write_text("int main() {}\n")
    trial = [COMPILER, "-fsanitize=address,undefined", str(folder / "empty.cpp"), "-o", str(folder / "empty")]
    if shutil.which(COMPILER) is None or subprocess.run(trial, capture_output=True).returncode:
        pytest.skip(f"{COMPILER} has no AddressSanitizer and UndefinedBehaviorSanitizer here")
    if subprocess.run([folder / "empty"], capture_output=True).returncode:
        pytest.skip("a program with AddressSanitizer does not run here")
    arm = platform.machine() in ("aarch64", "arm64")
    flags = FLAGS + (CALLS if "clang" not in COMPILER else "") + ("" if arm else " -march=x86-64-v2")
    return build(COMPILER, flags, "neon" if arm else "sse4", repository, folder)


def run(program: Path, content: bytes, folder: Path) -> subprocess.CompletedProcess[bytes]:
    (folder / "case").write_bytes(content)
    options = os.environ | {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return subprocess.run([program, folder / "case"], capture_output=True, env=options)


def test_random_architectures_under_sanitizers(program: Path, tmp_path: Path) -> None:
    tried = 0
    for seed in range(SEEDS):
        one = random_case(seed)
        exact = kernel(one.arch, one.x1, kind="both", backend="reference", dtype="float64")
        for dtype, tolerance in TOLERANCE.items():
            case = outside(one.arch, one.x1.astype(dtype))
            if case is None:
                continue
            done = run(program, case.content, tmp_path)
            assert done.returncode == 0 and not done.stderr, (one.name, dtype, done.stderr.decode()[-4000:])
            readouts = case.read(done.stdout)[1][..., : len(one.x1)]
            for a, b in zip(exact, case.kernels(readouts)[0], strict=True):
                # Equal images in gray have correlations of 1, where single precision is not asked to be this near.
                apart = np.abs(a - b).max() / max(np.abs(a).max(), 1e-30)
                assert apart <= tolerance or (dtype == "float32" and one.x1.shape[3] == 1), (one.name, dtype, apart)
            tried += 1
    assert tried > SEEDS


def test_sanitizers_see_a_table_that_leads_outside(program: Path, tmp_path: Path) -> None:
    """Readouts of more rows than there are images: the core reads behind them, as it would with a wrong table."""
    case = next(case for case in map(_case, range(20)) if case is not None)
    numbers = np.frombuffer(case.content, np.int64, 12).copy()
    numbers[10] = 1  # readouts that there is room for
    done = run(program, numbers.tobytes() + case.content[numbers.nbytes :], tmp_path)
    assert done.returncode != 0 and b"AddressSanitizer: heap-buffer-overflow" in done.stderr


def _case(seed: int) -> Outside | None:
    one = random_case(seed)
    return outside(one.arch, one.x1)
