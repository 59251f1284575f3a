"""The compiled core outside Python: run_program.cpp built for one instruction set, and cases for it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk import Architecture
from nas_cntk.kernels.backends import cpu


def build(compiler: str, flags: str, name: str, repository: Path, folder: Path) -> Path:
    """Compile the program for the instruction set called `name`."""
    native, built = repository / "nas_cntk/kernels/native", folder / "run_program"
    all_flags = f"-std=c++20 -fno-math-errno -ffp-contract=off {flags} -DNAS_CNTK_ISA={name} -DNAS_CNTK_SET=set_{name}"
    sources = [native / "cpu.cpp", repository / "tests/native/run_program.cpp"]
    command = [compiler, *all_flags.split(), f"-I{native}", *map(str, sources), "-o", str(built)]
    subprocess.run(command, check=True)
    return built


@dataclass(frozen=True, slots=True)
class Outside:
    """An architecture and images as the program takes them, and what this machine's own core makes of them."""

    content: bytes
    maps: NDArray[Any]
    readouts: NDArray[np.float64]  # shape: (1, 2, n, lanes of groups), S then T
    kernels: Any  # from readouts to (nngp, ntk)

    def read(self, output: bytes) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return maps and readouts of what the program wrote."""
        maps = np.frombuffer(output, self.maps.dtype, self.maps.size).reshape(self.maps.shape)
        return maps, np.frombuffer(output, np.float64, offset=maps.nbytes).reshape(self.readouts.shape)


def outside(arch: Architecture, x: NDArray[Any]) -> Outside | None:
    """Return a case; None where no relu needs the variances of images."""
    compiled = cpu._compile((arch,), x.shape[1:], True)
    if compiled.own is None:
        return None
    lanes = cpu.CACHE_LINE // x.dtype.itemsize
    own, main = compiled.own[0], compiled.parts[0].plan
    wide, maps = cpu._prepared(compiled.own, x, lanes, x.dtype)
    left = np.ascontiguousarray(cpu._left_maps(main, maps, len(x)))
    flat = np.ascontiguousarray(x.reshape(len(x), -1))
    expected = np.empty((1, 2, len(x), len(wide) * lanes))
    cpu._native.tile(compiled.parts[0].program, flat, left, 0, len(x), wide, maps, 0, len(wide), expected)
    programs = [own.integers, own.reals, main.integers, main.reals]
    sizes = [*(len(part) for part in programs), wide.size, flat.size, left.size, len(wide), len(x), maps.size]
    numbers = np.array([*sizes, expected.size, x.dtype.itemsize], dtype=np.int64)
    arrays = (numbers, own.integers, main.integers, own.reals, main.reals, wide, flat, left)
    return Outside(b"".join(array.tobytes() for array in arrays), maps, expected, compiled.family.kernels)
