"""The CUDA backend: gram.cu through CuPy, tiles of pairs of images taken by every GPU from one queue.

The only module that imports CuPy. What is computed is decided in `cuda_plan.py` and launched by `cuda_run.py`; here are
devices, memory, and the order of tiles.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import textwrap
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nas_cntk.architecture import Architecture
from nas_cntk.errors import BackendUnavailable, KernelError, UnsupportedByBackend
from nas_cntk.kernels.cuda_layout import CudaPlan, Limits
from nas_cntk.kernels.cuda_plan import cuda_plan
from nas_cntk.kernels.cuda_run import NO_DIAGONAL, Build, Engine, Images, Started

TILE_ENTRIES = 5e10  # relu entries of a tile: a fifth of a second or so, so that progress and Ctrl-C are prompt
MOST_SIDE = 2048  # images on a side of a tile
MEMORY_SHARE = 0.8  # of the free memory of a GPU, for all that is under way
UNDER_WAY = 2  # tiles at a time on one GPU: one is computed while the other is copied
MOST_OF_A_MESSAGE = 300  # characters: a compiler's log can be long
NATIVE = Path(__file__).resolve().parent.parent / "native"
INSTALL = "pip install 'nas-cntk[cuda12]' or 'nas-cntk[cuda13]', after the CUDA version that nvidia-smi shows"

log = logging.getLogger("nas_cntk")


@dataclass(frozen=True, slots=True)
class Gpu:
    """What is known of a GPU."""

    number: int
    name: str
    compute_capability: str  # such as "9.0"
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """What is there for this backend: versions as CUDA numbers them (13000 is 13.0), and the GPUs."""

    cupy: str
    driver: int
    runtime: int
    gpus: tuple[Gpu, ...]


def found() -> Found:
    """Return what is there.

    Raises:
        BackendUnavailable: if CuPy, a driver or a GPU is missing; says what to install.
    """
    cupy = _cupy()
    runtime = cupy.cuda.runtime
    gpus = []
    for number in range(runtime.getDeviceCount()):
        properties = runtime.getDeviceProperties(number)
        with cupy.cuda.Device(number):
            free, total = runtime.memGetInfo()
        name = properties["name"]
        gpus.append(
            Gpu(
                number,
                name.decode() if isinstance(name, bytes) else str(name),
                f"{properties['major']}.{properties['minor']}",
                int(free),
                int(total),
            )
        )
    return Found(str(cupy.__version__), int(runtime.driverGetVersion()), int(runtime.runtimeGetVersion()), tuple(gpus))


def check(devices: Sequence[int] | None = None) -> list[int]:
    """Return the numbers of the GPUs to use: those asked for, or the first.

    Raises:
        BackendUnavailable: if CuPy, a driver or one of these GPUs is missing.
    """
    count = int(_cupy().cuda.runtime.getDeviceCount())
    wanted = list(dict.fromkeys(devices)) if devices else [0]
    if any(not 0 <= number < count for number in wanted):
        there = "one GPU, number 0" if count == 1 else f"{count} GPUs, numbers 0 to {count - 1}"
        raise BackendUnavailable(f"devices {wanted} asked for, but this machine has {there}; name those")
    return wanted


def kernels(
    archs: Sequence[Architecture],
    x1: Images,  # shape: (n1, h, w, c)
    x2: Images,  # shape: (n2, h, w, c)
    symmetric: bool,
    kind: str,
    dtype: np.dtype[np.floating],
    tick: Callable[[float], None],
    devices: Sequence[int] | None = None,
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return (nngp, ntk), each (n1, n2), of every architecture; the ntk is zero for kind "nngp".

    Args:
        symmetric: whether x2 is x1: half of the tiles are then copied from the other half.
        tick: called with the fraction done; what it raises ends the computation.
        devices: numbers of GPUs; None is the first.

    Raises:
        BackendUnavailable: if CuPy, a driver or one of these GPUs is missing.
        UnsupportedByBackend: if not even one pair of images fits in the memory of a GPU.
        KernelError: if a GPU, its driver or the compiler fails.
    """
    numbers = check(devices)
    work = _Work(tuple(archs), x1, None if symmetric else x2, kind != "nngp", dtype)
    plan = work.run(numbers, tick)
    return plan.family.kernels(work.sums)


@cache
def source() -> str:
    """Return gram.cu with its header in place, as one text: nothing else is needed to compile it."""
    text = (NATIVE / "gram.cu").read_text()
    header = (NATIVE / "arc_cosine.h").read_text().replace("#pragma once\n", "\n")
    before, line, after = text.partition('#include "arc_cosine.h"\n')
    assert line, "gram.cu includes its arithmetic"
    number = before.count("\n") + 2
    return f'#line 1 "gram.cu"\n{before}#line 1 "arc_cosine.h"\n{header}\n#line {number} "gram.cu"\n{after}'


def options(build: Build) -> tuple[str, ...]:
    """Return what NVRTC (or nvcc) is told. Products and sums are fused only where the source says so."""
    return ("-std=c++17", "--fmad=false", *(f"-D{name}={value}" for name, value in build.macros.items()))


@cache
def triangular_solver() -> Any:
    """Return CuPy's `solve_triangular`.

    Raises:
        BackendUnavailable: if a library of CUDA is missing that a dense solve needs.
    """
    try:
        from cupyx.scipy.linalg import solve_triangular

        _ = _cupy().cuda.cusolver
    except (ImportError, RuntimeError) as error:
        raise BackendUnavailable(f"CuPy finds no cuBLAS or no cuSOLVER ({short(error)}); {INSTALL}") from None
    return solve_triangular


def checked_factors() -> Any:
    """Return a context in which CuPy's Cholesky raises LinAlgError where there is no factor; elsewhere it is silent."""
    import cupyx

    return cupyx.errstate(linalg="raise")


@cache
def _cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        reason = "it is not installed" if isinstance(error, ModuleNotFoundError) else f"it cannot be loaded: {error}"
        raise BackendUnavailable(f"backend cuda needs CuPy ({' '.join(reason.split())}); {INSTALL}") from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendUnavailable(
            f"backend cuda finds no usable GPU ({' '.join(str(error).split())});"
            " install NVIDIA's driver, or a CuPy for an older CUDA if the driver is older, or use backend cpu"
        ) from None
    if count == 0:
        raise BackendUnavailable("backend cuda finds no GPU; use backend cpu")
    try:
        cupy.cuda.nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        raise BackendUnavailable(f"backend cuda needs NVRTC, CUDA's compiler ({short(error)}); {INSTALL}") from None
    return cupy


def short(error: BaseException) -> str:
    """Return what an error says, on one line."""
    return textwrap.shorten(str(error), MOST_OF_A_MESSAGE, placeholder=" ...") or type(error).__name__


@contextlib.contextmanager
def _one_line(number: int) -> Iterator[None]:
    # Errors of the runtime, the driver and NVRTC, and of a library that CuPy cannot load, are RuntimeErrors; those of
    # its cache on disk are OSErrors. Out of memory is a MemoryError and passes: whoever asked can ask for less.
    try:
        yield
    except (RuntimeError, OSError, _cupy().cuda.compiler.CompileException) as error:
        raise KernelError(f"GPU {number} failed ({short(error)}); try backend cpu") from None


class CupyDevice:
    """One stream of one GPU, as `cuda_run.Device` has it; whatever fails but for memory is a KernelError."""

    def __init__(self, number: int) -> None:
        cupy = _cupy()
        self.cupy, self.number = cupy, number
        with _one_line(number):
            self.device = cupy.cuda.Device(number)
            attributes = self.device.attributes
            with self.device:
                self.stream = cupy.cuda.Stream(non_blocking=True)
        self.limits = Limits(
            int(attributes["MaxSharedMemoryPerBlockOptin"]), int(attributes["MaxSharedMemoryPerMultiprocessor"])
        )
        self._pinned: list[Any] = []  # sources of copies that may still be under way

    def free_bytes(self) -> int:
        """Return what this GPU could still give, with what CuPy keeps for reuse."""
        with _one_line(self.number), self.device:
            free, _ = self.cupy.cuda.runtime.memGetInfo()
            return int(free) + int(self.cupy.get_default_memory_pool().free_bytes())

    def release(self) -> None:
        """Give back what CuPy keeps for reuse."""
        with _one_line(self.number), self.device:
            self.stream.synchronize()
            self._pinned.clear()
            self.cupy.get_default_memory_pool().free_all_blocks()

    def put(self, array: NDArray[Any]) -> Any:
        pinned = self._new_pinned(array.shape, array.dtype)
        pinned[...] = array
        self._pinned.append(pinned)
        with _one_line(self.number), self.device, self.stream:
            there = self.cupy.empty(array.shape, array.dtype)
            there.set(pinned, stream=self.stream)
        return there

    def zeros(self, size: int, dtype: DTypeLike) -> Any:
        with _one_line(self.number), self.device, self.stream:
            return self.cupy.zeros(size, dtype)

    def empty(self, size: int, dtype: DTypeLike) -> Any:
        with _one_line(self.number), self.device, self.stream:
            return self.cupy.empty(size, dtype)

    def get(self, array: Any) -> NDArray[Any]:
        pinned = self._new_pinned(array.shape, array.dtype)
        with _one_line(self.number), self.device, self.stream:
            array.get(stream=self.stream, out=pinned, blocking=False)
            self.stream.synchronize()
        self._pinned.clear()
        return pinned

    def launch(self, build: Build, kernel: str, grid: int, threads: int, shared: int, arguments: Sequence[Any]) -> None:
        with _one_line(self.number), self.device, self.stream:
            function = _function(build, kernel, self.number, shared)
            function((grid,), (threads,), tuple(arguments), shared_mem=shared)

    def _new_pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        wanted = np.dtype(dtype)
        size = math.prod(shape)
        with _one_line(self.number), self.device:
            memory = self.cupy.cuda.alloc_pinned_memory(max(1, size * wanted.itemsize))
        return np.frombuffer(memory, wanted, size).reshape(shape)


_compiling = threading.Lock()
_modules: dict[Build, Any] = {}
_functions: dict[tuple[Build, str, int], tuple[Any, int]] = {}


def _function(build: Build, kernel: str, number: int, shared: int) -> Any:
    # Compiled on first use; CuPy keeps the result on disk. A block gets more than 48 KiB only if asked for before.
    key = build, kernel, number
    with _compiling:
        if build not in _modules:
            _modules[build] = _cupy().RawModule(code=source(), options=options(build))
        if key not in _functions:
            _functions[key] = _modules[build].get_function(kernel), 48 * 1024
        function, allowed = _functions[key]
        if shared > allowed:
            function.max_dynamic_shared_size_bytes = shared
            _functions[key] = function, shared
        return function


@lru_cache(maxsize=16)
def _plan(
    archs: tuple[Architecture, ...], shape: tuple[int, ...], itemsize: int, tangents: bool, limits: Limits
) -> CudaPlan:
    # Kept, since a Gram matrix asks for the same plans block by block.
    return cuda_plan(archs, shape, itemsize, tangents, limits)


@dataclass(frozen=True, slots=True)
class _Tile:
    rows: tuple[int, int]
    columns: tuple[int, int]
    diagonal: bool = False  # some images with themselves: what is below their diagonal is copied, not counted

    @property
    def pairs(self) -> int:
        height, width = self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]
        return height * (height + 1) // 2 if self.diagonal else height * width

    def parts(self) -> tuple[_Tile, ...]:
        """Two halves; of a square on the diagonal, two squares on it and what is beside the first."""
        (top, bottom), (left, right) = self.rows, self.columns
        if self.diagonal:
            middle = (top + bottom) // 2
            first, second = (top, middle), (middle, bottom)
            return _Tile(first, first, True), _Tile(first, second), _Tile(second, second, True)
        if bottom - top >= right - left:
            middle = (top + bottom) // 2
            return _Tile((top, middle), self.columns), _Tile((middle, bottom), self.columns)
        middle = (left + right) // 2
        return _Tile(self.rows, (left, middle)), _Tile(self.rows, (middle, right))


class _Work:
    """All pairs of two sets of images: tiles in a queue, workers that take them, and what they found."""

    def __init__(
        self,
        archs: tuple[Architecture, ...],
        x1: Images,
        x2: Images | None,
        tangents: bool,
        dtype: np.dtype[np.floating],
    ) -> None:
        self.archs, self.x1, self.x2, self.tangents, self.dtype = archs, x1, x2, tangents, dtype
        self.sums = np.zeros((0, 2, 0, 0))  # shape: (heads, 2, n1, n2), S then T
        self.tiles: queue.SimpleQueue[_Tile] = queue.SimpleQueue()
        self.done: queue.SimpleQueue[int | BaseException] = queue.SimpleQueue()
        self.stop = threading.Event()

    def plan(self, limits: Limits) -> CudaPlan:
        return _plan(self.archs, self.x1.shape[1:], self.dtype.itemsize, self.tangents, limits)

    def run(self, numbers: Sequence[int], tick: Callable[[float], None]) -> CudaPlan:
        """Compute everything on some GPUs; returns the plan."""
        workers = [_Worker(self, number) for number in numbers]
        plan = workers[0].plan
        n1, n2 = len(self.x1), len(self.x1 if self.x2 is None else self.x2)
        self.sums = np.zeros((len(plan.family.heads), 2, n1, n2))
        side = min(worker.side() for worker in workers)
        # Several tiles for every GPU, so that none waits long for another.
        side = max(1, min(side, math.ceil(math.sqrt(n1 * n2 / (4 * UNDER_WAY * len(workers))))))
        total = 0
        for top in range(0, n1, side):
            for left in range(top if self.x2 is None else 0, n2, side):
                rows, columns = (top, min(top + side, n1)), (left, min(left + side, n2))
                tile = _Tile(rows, columns, self.x2 is None and top == left)
                self.tiles.put(tile)
                total += tile.pairs
        threads = [
            threading.Thread(target=worker.work, name=f"nas-cntk-gpu-{worker.number}", daemon=True)
            for worker in workers
        ]
        for thread in threads:
            thread.start()
        pairs = 0
        try:
            while pairs < total:
                try:
                    one = self.done.get(timeout=0.1)
                except queue.Empty:
                    continue  # so that Ctrl-C is heard
                if isinstance(one, BaseException):
                    raise one
                pairs += one
                tick(pairs / total)
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()
        if self.x2 is None:
            for row in range(n1):
                self.sums[:, :, row + 1 :, row] = self.sums[:, :, row, row + 1 :]
        return plan


class _Worker:
    """One GPU: two tiles under way, each on a stream of its own."""

    def __init__(self, work: _Work, number: int) -> None:
        self.of, self.number = work, number
        self.devices = [CupyDevice(number) for _ in range(UNDER_WAY)]
        self.plan = work.plan(self.devices[0].limits)
        try:
            self.engines = [Engine(device, self.plan) for device in self.devices]
        except _cupy().cuda.memory.OutOfMemoryError:
            raise UnsupportedByBackend(
                f"the plan of the kernels does not fit in the memory of GPU {number}; use backend cpu"
            ) from None
        self.free = MEMORY_SHARE * self.devices[0].free_bytes() / UNDER_WAY  # of one tile
        self.under_way: deque[tuple[_Tile, Engine, Started]] = deque()

    def side(self) -> int:
        """Return the images on a side of a tile: by work, and by memory for two sets of sheets and the sums."""
        heads = len(self.plan.family.heads)
        by_work = math.sqrt(TILE_ENTRIES / max(1, self.plan.entries))
        by_memory = 0.4 * self.free / max(1, 2 * self.plan.image_bytes)
        by_sums = math.sqrt(0.1 * self.free / (16 * heads))
        return max(1, int(min(MOST_SIDE, by_work, by_memory, by_sums)))

    def capacity(self) -> int:
        """Return the pairs whose fields fit in half of the memory of a tile."""
        programs = (self.plan.own, *self.plan.main)
        one = max(program.elements for program in programs) * self.plan.itemsize
        return max(1, min(2**20, int(0.5 * self.free / max(1, one))))

    def work(self) -> None:
        """Take tiles until there are none."""
        try:
            turn = 0
            while not self.of.stop.is_set():
                try:
                    tile = self.of.tiles.get_nowait()
                except queue.Empty:
                    if not self.under_way:
                        # Another GPU may still give back parts of a tile that did not fit.
                        self.of.stop.wait(0.05)
                    else:
                        self._finish()
                    continue
                self._start(tile, self.engines[turn])
                turn = (turn + 1) % UNDER_WAY
                if len(self.under_way) == UNDER_WAY:
                    self._finish()
        except BaseException as error:
            self.of.done.put(error)
        finally:
            self.under_way.clear()

    def _start(self, tile: _Tile, engine: Engine) -> None:
        memory = _cupy().cuda.memory.OutOfMemoryError
        right = self.of.x1 if self.of.x2 is None else self.of.x2
        x1, x2 = self.of.x1[slice(*tile.rows)], None if tile.diagonal else right[slice(*tile.columns)]
        while True:
            try:
                started = engine.start(x1, x2, self.capacity(), 0 if tile.diagonal else NO_DIAGONAL)
            except memory:
                pass
            else:
                self.under_way.append((tile, engine, started))
                return
            # First without the other tile; then with half of the memory; then parts of the tile.
            others = bool(self.under_way)
            while self.under_way:
                self._finish()
            for device in self.devices:
                device.release()
            if others:
                continue
            if self._fits(tile):
                if self.side() == 1 and self.capacity() == 1:
                    raise UnsupportedByBackend(
                        f"one pair of images does not fit in the memory of GPU {self.number}; use backend cpu"
                    )
                self.free /= 2
                log.warning("GPU %d is out of memory: going on with half as much at a time", self.number)
            if not self._fits(tile):
                for part in tile.parts():
                    self.of.tiles.put(part)
                return

    def _fits(self, tile: _Tile) -> bool:
        return max(tile.rows[1] - tile.rows[0], tile.columns[1] - tile.columns[0]) <= self.side()

    def _finish(self) -> None:
        tile, engine, started = self.under_way.popleft()
        self.of.sums[:, :, slice(*tile.rows), slice(*tile.columns)] = engine.finish(started)
        self.of.done.put(tile.pairs)
