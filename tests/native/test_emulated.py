"""The NEON core, cross-compiled and run under an emulator, against this machine's own core."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from random_architectures import random_architecture, random_images

from nas_cntk.kernels.backends import cpu

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
SHAPE = (8, 7, 3)


@pytest.fixture(scope="module")
def program(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cross-compiled program that runs one case."""
    if not (shutil.which(COMPILER) and shutil.which(EMULATOR)):
        pytest.skip(f"{COMPILER} and {EMULATOR} are not installed")
    native, built = repository / "nas_cntk/kernels/native", tmp_path_factory.mktemp("neon") / "run_program"
    flags = "-std=c++20 -O2 -static -fno-math-errno -ffp-contract=off -DNAS_CNTK_ISA=neon -DNAS_CNTK_SET=set_neon"
    sources = [native / "cpu.cpp", repository / "tests/native/run_program.cpp"]
    subprocess.run([COMPILER, *flags.split(), f"-I{native}", *map(str, sources), "-o", str(built)], check=True)
    return built


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=str)
def test_neon_equals_this_machine(dtype: np.dtype[np.floating], program: Path, tmp_path: Path) -> None:
    tried = 0
    for seed in range(40):
        _, arch = random_architecture(seed, SHAPE)
        compiled = cpu._compile((arch,), SHAPE, True)
        if compiled.own is None:
            continue
        tried += 1
        lanes = cpu.CACHE_LINE // dtype.itemsize
        x = random_images(seed, 5, SHAPE).astype(dtype)
        own, main = compiled.own[0], compiled.parts[0].plan
        wide, maps = cpu._prepared(compiled.own, x, lanes, dtype)
        left = np.ascontiguousarray(cpu._left_maps(main, maps, len(x)))
        flat = np.ascontiguousarray(x.reshape(len(x), -1))
        expected = np.empty((1, 2, len(x), len(wide) * lanes))
        cpu._native.tile(compiled.parts[0].program, flat, left, 0, len(x), wide, maps, 0, len(wide), expected)
        programs = [own.integers, own.reals, main.integers, main.reals]
        sizes = [*(len(part) for part in programs), wide.size, flat.size, left.size, len(wide), len(x), maps.size]
        case = tmp_path / "case"
        with case.open("wb") as file:
            np.array([*sizes, expected.size, dtype.itemsize], dtype=np.int64).tofile(file)
            for array in (own.integers, main.integers, own.reals, main.reals, wide, flat, left):
                array.tofile(file)
        output = subprocess.run([EMULATOR, str(program), str(case)], capture_output=True, check=True).stdout
        found_maps = np.frombuffer(output, dtype, maps.size).reshape(maps.shape)
        found = np.frombuffer(output, np.float64, offset=maps.nbytes).reshape(expected.shape)
        # Both fuse the same products and sums, so that they differ in nothing.
        np.testing.assert_array_equal(found_maps, maps)
        np.testing.assert_array_equal(found, expected)
    assert tried > 30
