"""A CPU that plays a GPU: gram.cu, compiled by a C++ compiler with the header that plays grid, warps and barriers."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import DTypeLike, NDArray

from nas_cntk.kernels.cuda_layout import Limits, Tile
from nas_cntk.kernels.cuda_run import Build
from nas_cntk.ops import Shape

ROOT = Path(__file__).resolve().parents[3]
SOURCES, TESTS = ROOT / "nas_cntk/kernels/native", ROOT / "tests/native"
FLAGS = ("-std=c++20", "-shared", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Werror",
         "-Wno-unknown-pragmas", "-Wno-unused-parameter", "-Wno-unused-function", "-Wno-unused-variable")  # fmt: skip
SANITIZE = ("-Og", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def few_tiles(shape: Shape) -> Tile | None:
    """One of few tiles, so that few libraries are compiled; None for maps of more than 16 rows or columns."""
    for tile in (Tile(2, 2), Tile(4, 4)):
        if tile.threads(shape) <= 32:
            return tile
    return None


class HostDevice:
    """A device in this process.

    Args:
        tiles: as `thread_tile`; by default few ones.
        exact_shapes: compile for every map size, as on a GPU.
        backwards: run the threads from the last to the first.
        flags: more for the compiler.
    """

    def __init__(
        self,
        tiles: Any = few_tiles,
        exact_shapes: bool = False,
        backwards: bool = False,
        flags: Sequence[str] = ("-O1",),
        block_shared: int = 227 * 1024,
    ) -> None:
        self.limits = Limits(block_shared=block_shared, tile=tiles)
        self.exact_shapes, self.backwards, self.flags = exact_shapes, backwards, tuple(flags)
        self.launched: list[tuple[Build, str, int, int, int]] = []

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.array(array, order="C")

    def zeros(self, size: int, dtype: DTypeLike) -> NDArray[Any]:
        return np.zeros(size, dtype)

    def empty(self, size: int, dtype: DTypeLike) -> NDArray[Any]:
        array = np.empty(size, dtype)
        array.view(np.uint8)[:] = 0xFF  # NaN: nothing may count on zeros
        return array

    def get(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def launch(self, build: Build, kernel: str, grid: int, threads: int, shared: int, arguments: Sequence[Any]) -> None:
        self.launched.append((build, kernel, grid, threads, shared))
        assert shared <= self.limits.block_shared
        macros = {name: value for name, value in build.macros.items() if name != "NAS_CNTK_MODE"}
        macros = macros if self.exact_shapes else any_shape(macros)
        launch(macros, kernel, grid, threads, shared, arguments, self.flags, self.backwards)


def launch(
    macros: Mapping[str, str | int],
    kernel: str,
    grid: int,
    threads: int,
    shared: int,
    arguments: Sequence[Any],
    flags: tuple[str, ...] = ("-O1",),
    backwards: bool = False,
    unit: str = "cuda_host.cpp",
) -> None:
    """Run a kernel of the library for some macros; arguments are NumPy arrays and scalars."""
    library = compiled(tuple(f"-D{name}={value}" for name, value in macros.items()), flags, unit)
    values = [
        ctypes.c_void_p(one.ctypes.data) if isinstance(one, np.ndarray) else np.ctypeslib.as_ctypes_type(one.dtype)(one)
        for one in arguments
    ]
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    rc = library.cuda_host_launch(
        kernel.encode(), len(values), pointers, grid, threads, ctypes.c_size_t(shared), int(backwards)
    )
    assert rc == 0, (kernel, rc)


def options_of(options: Sequence[str]) -> dict[str, str]:
    """Return the macros among the options of a compiler, for a library that serves many map sizes."""
    macros = dict(one[2:].split("=") for one in options if one.startswith("-D"))
    return {name: str(value) for name, value in any_shape(macros).items()}


def any_shape(macros: Mapping[str, str | int]) -> dict[str, str | int]:
    """Return macros without the map's size, so that few libraries are compiled."""
    sizes = {"NAS_CNTK_HEIGHT": 0, "NAS_CNTK_WIDTH": 0, "NAS_CNTK_PITCH": 0, "NAS_CNTK_SLOTS": 16}
    found = {"NAS_CNTK_TILE_H": 2, "NAS_CNTK_TILE_W": 2, **macros, **sizes}
    return {name: value for name, value in found.items() if name not in ("NAS_CNTK_MODE", "NAS_CNTK_THREADS")}


@functools.cache
def compiled(macros: tuple[str, ...], flags: tuple[str, ...], unit: str) -> ctypes.CDLL:
    """Return the library of a file of tests/native for some macros, compiled once for each state of the sources."""
    names = (os.environ.get("CXX", "g++"), "g++", "c++", "clang++")
    compiler = next((found for one in names if (found := shutil.which(one))), None)
    if compiler is None:
        pytest.skip("no C++ compiler")
    folders = (TESTS, SOURCES, ROOT / "benchmarks")
    files = (unit, "cuda_launch.h", "gram.cu", "cuda_host.h", "arc_cosine.h", "paper_scheme.cu")
    key = hashlib.sha256(repr((macros, flags, FLAGS, compiler, _cpu())).encode())
    for name in files:
        key.update(next(folder / name for folder in folders if (folder / name).exists()).read_bytes())
    folder = Path(tempfile.gettempdir()) / f"nas-cntk-tests-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    to = folder / f"{Path(unit).stem}-{key.hexdigest()[:24]}.so"
    if not to.exists():
        part = to.with_suffix(f".{os.getpid()}.part")
        includes = [word for folder in folders for word in ("-I", str(folder))]
        command = [compiler, *FLAGS, *_fast_fma(), *flags, *macros, *includes, str(TESTS / unit), "-o", str(part)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        part.replace(to)
    return ctypes.CDLL(str(to))


@functools.cache
def _cpu() -> str:
    return " ".join(_fast_fma())


@functools.cache
def _fast_fma() -> tuple[str, ...]:
    info = Path("/proc/cpuinfo")
    return ("-mfma",) if info.exists() and " fma " in info.read_text() else ()
