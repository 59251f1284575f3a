"""The few words of CuPy that the backend speaks, on the CPU: devices, tiles and memory are tested without a GPU.

What it cannot show is whether CuPy means the same by them; the tests with `device` in their names do, where there is
a GPU.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from host_device import few_tiles, launch, options_of
from numpy.typing import DTypeLike, NDArray


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class CompileException(Exception):
    pass


class OutOfMemoryError(MemoryError):
    pass


class FakeCupy(types.ModuleType):
    """A module `cupy`.

    Attributes:
        gpus: how many there are.
        most_bytes: of one allocation; a larger one is out of memory.
        launches: (GPU, kernel) in the order in which they were launched.
        refused: allocations that were out of memory.
        failures: what is raised by "stream", "empty", "pinned", "compile" or "launch".
    """

    __version__ = "fake"
    CUDARuntimeError, CUDADriverError, CompileException = CUDARuntimeError, CUDADriverError, CompileException

    def __init__(self) -> None:
        super().__init__("cupy")
        self.gpus, self.most_bytes, self.free_bytes = 2, 2**40, 2**33
        self.launches: list[tuple[int, str]] = []
        self.refused = 0
        self.broken: Exception | None = None
        self.failures: dict[str, Exception] = {}
        self.here = threading.local()
        runtime = types.SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError,
            getDeviceCount=self._count,
            memGetInfo=lambda: (self.free_bytes, 2 * self.free_bytes),
            driverGetVersion=lambda: 13000,
            runtimeGetVersion=lambda: 13000,
            getDeviceProperties=lambda number: {"name": b"Fake GPU", "major": 9, "minor": 0},
        )
        self.cuda = types.SimpleNamespace(
            runtime=runtime,
            memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            Device=lambda number: _Device(self, number),
            compiler=types.SimpleNamespace(CompileException=CompileException),
            Stream=lambda non_blocking: self._stream(),
            alloc_pinned_memory=self._pinned,
        )
        self.pool = types.SimpleNamespace(free_bytes=lambda: 0, free_all_blocks=lambda: None)

    def _count(self) -> int:
        if self.broken is not None:
            raise self.broken
        return self.gpus

    def fail(self, what: str) -> None:
        """Raise what is to be raised there, if anything."""
        if what in self.failures:
            raise self.failures[what]

    def _stream(self) -> _Stream:
        self.fail("stream")
        return _Stream()

    def _pinned(self, size: int) -> bytearray:
        self.fail("pinned")
        return bytearray(size)

    def get_default_memory_pool(self) -> Any:
        return self.pool

    def empty(self, shape: Any, dtype: DTypeLike) -> _Array:
        self.fail("empty")
        array = np.empty(shape, dtype)
        if array.nbytes > self.most_bytes:
            self.refused += 1
            raise OutOfMemoryError
        array.view(np.uint8).reshape(-1)[:] = 0xFF
        return _Array(array, self.here.number)

    def zeros(self, shape: Any, dtype: DTypeLike) -> _Array:
        array = self.empty(shape, dtype)
        array.values[...] = 0
        return array

    def RawModule(self, code: str, options: tuple[str, ...]) -> _Module:  # noqa: N802
        return _Module(self, code, options)


class _Array:
    def __init__(self, values: NDArray[Any], number: int) -> None:
        self.values, self.number = values, number
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, key: Any) -> _Array:
        return _Array(self.values[key], self.number)

    def set(self, host: NDArray[Any], stream: _Stream) -> None:
        self.values[...] = host

    def get(self, stream: _Stream, out: NDArray[Any], blocking: bool) -> None:
        out[...] = self.values


class _Device:
    def __init__(self, cupy: FakeCupy, number: int) -> None:
        self.cupy, self.number = cupy, number
        self.attributes = {
            "MaxSharedMemoryPerBlockOptin": 232448,
            "MaxSharedMemoryPerMultiprocessor": 233472,
            "MultiProcessorCount": 1,
            "ClockRate": 1000,
        }

    def __enter__(self) -> None:
        self.cupy.here.number = self.number

    def __exit__(self, *_: object) -> None:
        del self.cupy.here.number


class _Stream:
    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def synchronize(self) -> None:
        pass


class _Module:
    def __init__(self, cupy: FakeCupy, code: str, options: tuple[str, ...]) -> None:
        assert "#include" not in code
        self.cupy = cupy
        if "paper_conv" in code:
            self.unit, self.macros = "paper_scheme.cpp", dict[str, str]()
        else:
            assert "op_relu" in code and "ArcCosine" in code
            self.unit, self.macros = "cuda_host.cpp", options_of(options)

    def get_function(self, name: str) -> _Function:
        self.cupy.fail("compile")
        return _Function(self, name)


class _Function:
    lock = threading.Lock()  # the CPU that plays a GPU plays one block at a time

    def __init__(self, module: _Module, name: str) -> None:
        self.module, self.name = module, name
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(self, grid: tuple[int], block: tuple[int], arguments: Sequence[Any], shared_mem: int = 0) -> None:
        assert shared_mem <= self.max_dynamic_shared_size_bytes
        cupy = self.module.cupy
        cupy.fail("launch")
        number = cupy.here.number
        for one in arguments:
            assert not isinstance(one, _Array) or one.number == number, "an array of another GPU"
        values = [one.values if isinstance(one, _Array) else one for one in arguments]
        with self.lock:
            cupy.launches.append((number, self.name))
            launch(self.module.macros, self.name, grid[0], block[0], shared_mem, values, unit=self.module.unit)


@contextlib.contextmanager
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCupy]:
    """Put it in the place of CuPy, and forget it afterwards."""
    from nas_cntk.kernels import exact
    from nas_cntk.kernels.backends import cuda

    def forget() -> None:
        cuda._cupy.cache_clear()
        cuda._modules.clear()
        cuda._functions.clear()
        cuda._plan.cache_clear()

    cupy = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    find = exact.importlib.util.find_spec
    monkeypatch.setattr(exact.importlib.util, "find_spec", lambda name: cupy if name == "cupy" else find(name))
    monkeypatch.setattr("nas_cntk.kernels.cuda_plan.thread_tile", few_tiles)
    forget()
    try:
        yield cupy
    finally:
        forget()
