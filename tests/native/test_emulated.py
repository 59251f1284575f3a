"""The NEON core, cross-compiled and run under an emulator, against this machine's own core."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from native.outside import build, outside
from random_architectures import random_architecture, random_images

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
SHAPE = (8, 7, 3)


@pytest.fixture(scope="module")
def program(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cross-compiled program that runs one case."""
    if not (shutil.which(COMPILER) and shutil.which(EMULATOR)):
        pytest.skip(f"{COMPILER} and {EMULATOR} are not installed")
    return build(COMPILER, "-O2 -static", "neon", repository, tmp_path_factory.mktemp("neon"))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=str)
def test_neon_equals_this_machine(dtype: np.dtype[np.floating], program: Path, tmp_path: Path) -> None:
    tried = 0
    for seed in range(40):
        case = outside(random_architecture(seed, SHAPE)[1], random_images(seed, 5, SHAPE).astype(dtype))
        if case is None:
            continue
        tried += 1
        (tmp_path / "case").write_bytes(case.content)
        done = subprocess.run([EMULATOR, str(program), str(tmp_path / "case")], capture_output=True, check=True)
        found_maps, found = case.read(done.stdout)
        # Both fuse the same products and sums, so that they differ in nothing.
        np.testing.assert_array_equal(found_maps, case.maps)
        np.testing.assert_array_equal(found, case.readouts)
    assert tried > 30
