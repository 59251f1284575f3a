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
    __module__ = "cupy_backends.cuda.api.runtime"


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
        failures: what is raised by "nvrtc", "stream", "empty", "pinned", "compile", "launch" or "cholesky".
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
            nvrtc=types.SimpleNamespace(getVersion=lambda: self.fail("nvrtc") or (13, 0)),
            cusolver=types.ModuleType("cusolver"),
        )
        self.checks_factors = False
        self.linalg = types.SimpleNamespace(cholesky=self.cholesky)
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

    @contextlib.contextmanager
    def errstate(self, linalg: str) -> Iterator[None]:
        assert linalg == "raise"
        self.checks_factors = True
        try:
            yield
        finally:
            self.checks_factors = False

    # What follows is for dense matrices: `cuda_arrays.CupyArrays`.

    def asarray(self, host: NDArray[Any]) -> _Array:
        assert type(host) is np.ndarray
        array = self.empty(host.shape, host.dtype)
        array.values[...] = host
        return array

    def asnumpy(self, array: _Array) -> NDArray[Any]:
        return self._values(array).copy()

    def square(self, array: _Array) -> _Array:
        return array * array

    def tril(self, array: _Array, k: int = 0) -> _Array:
        return _Array(np.tril(self._values(array), k), array.number)

    def triu(self, array: _Array, k: int = 0) -> _Array:
        return _Array(np.triu(self._values(array), k), array.number)

    def ascontiguousarray(self, array: _Array) -> _Array:
        return _Array(np.ascontiguousarray(self._values(array)), array.number)

    def cholesky(self, array: _Array) -> _Array:
        self.fail("cholesky")
        try:
            found = np.linalg.cholesky(self._values(array))
        except np.linalg.LinAlgError:
            if self.checks_factors:
                raise
            found = np.tril(array.values)  # CuPy says nothing of it
        return _Array(found, array.number)

    def solve_triangular(self, a: _Array, b: _Array, trans: int, lower: bool, **more: Any) -> _Array:
        from scipy.linalg import solve_triangular

        assert lower and more == {"overwrite_b": True, "check_finite": False}
        found = solve_triangular(self._values(a), self._values(b), trans=trans, lower=True)
        b.values[...] = np.nan  # it may be overwritten
        return _Array(found, a.number)

    def _values(self, array: _Array) -> NDArray[Any]:
        assert type(array) is _Array and array.number == self.here.number
        return array.values

    def RawModule(self, code: str, options: tuple[str, ...]) -> _Module:  # noqa: N802
        return _Module(self, code, options)


class _Array(np.ndarray):
    """An array on a GPU: as strict as CuPy's, it takes no part in what NumPy's own arrays do."""

    number: int  # of the GPU

    def __new__(cls, values: NDArray[Any], number: int) -> _Array:
        array = values.view(cls)
        array.number = number
        return array

    def __array_finalize__(self, of: Any) -> None:
        self.number = getattr(of, "number", -1)

    @property
    def values(self) -> NDArray[Any]:
        return self.view(np.ndarray)

    def set(self, host: NDArray[Any], stream: _Stream) -> None:
        self.values[...] = host

    def get(self, stream: _Stream, out: NDArray[Any], blocking: bool) -> None:
        out[...] = self.values

    def __setitem__(self, key: Any, value: Any) -> None:
        self.values[key] = self._of(value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (), **more: Any) -> Any:
        given = [self._of(one) for one in inputs]
        if out:
            more["out"] = tuple(self._of(one) for one in out)
        found = getattr(ufunc, method)(*given, **more)
        return out[0] if out else _Array(np.asarray(found), self.number)

    def __array_function__(self, function: Any, types: Any, arguments: Any, named: Any) -> Any:
        raise TypeError(f"{function.__name__} of NumPy has an array of a GPU")

    def _of(self, value: Any) -> Any:
        if isinstance(value, _Array):
            assert value.number == self.number, "an array of another GPU"
            return value.values
        if np.ndim(value):
            raise TypeError("an array of the host where one of a GPU is due")
        return value


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
        cuda.triangular_solver.cache_clear()
        cuda._modules.clear()
        cuda._functions.clear()
        cuda._plan.cache_clear()

    cupy = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    for name in ("cupyx", "cupyx.scipy"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["cupyx"].errstate = cupy.errstate  # type: ignore[attr-defined]
    triangular = types.ModuleType("cupyx.scipy.linalg")
    triangular.solve_triangular = cupy.solve_triangular  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, triangular.__name__, triangular)
    find = exact.importlib.util.find_spec
    monkeypatch.setattr(exact.importlib.util, "find_spec", lambda name: cupy if name == "cupy" else find(name))
    monkeypatch.setattr("nas_cntk.kernels.cuda_plan.thread_tile", few_tiles)
    forget()
    try:
        yield cupy
    finally:
        forget()
