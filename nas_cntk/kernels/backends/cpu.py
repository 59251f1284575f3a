"""The compiled CPU core: tiles of pairs of images, run by a pool of threads with the interpreter's lock released."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nas_cntk.architecture import Architecture
from nas_cntk.errors import KernelError
from nas_cntk.kernels import _native
from nas_cntk.kernels.fields import Fields, lower
from nas_cntk.kernels.plan import MOST_HEADS, Plan, plan

Images = NDArray[np.floating]

CACHE_LINE = 64  # bytes: the lanes of one bundle
THREADS = "NAS_CNTK_THREADS"  # in the environment: how many threads to use, of those there are
TILE_ENTRY_LAYERS = 3e8  # of one tile: a tenth of a second or so on one core, so that progress and Ctrl-C are prompt


def threads() -> int:
    """Return the number of threads: the processors this process may use, or fewer if NAS_CNTK_THREADS says so.

    Raises:
        KernelError: if NAS_CNTK_THREADS is no positive number.
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    asked = os.environ.get(THREADS, "").strip()
    if not asked:
        return there
    if not asked.isdecimal() or int(asked) < 1:
        raise KernelError(f"{THREADS} is {asked[:30]!r}; it must be a number of threads, 1 or more")
    return min(there, int(asked))


def instruction_set() -> str:
    """Return the instruction set in use: the best this machine has, or the one that NAS_CNTK_ISA names.

    Raises:
        KernelError: if NAS_CNTK_ISA names none of this machine's.
    """
    try:
        return str(_native.instruction_set())
    except ValueError as error:
        raise KernelError(str(error)) from None


def kernels(
    archs: Sequence[Architecture],
    x1: Images,  # shape: (n1, h, w, c)
    x2: Images,  # shape: (n2, h, w, c)
    symmetric: bool,
    kind: str,
    dtype: np.dtype[np.floating],
    tick: Callable[[float], None],
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return (nngp, ntk), each (n1, n2), of every architecture; the ntk is zero for kind "nngp".

    Args:
        symmetric: whether x2 is x1: half of the tiles are then copied from the other half.
        tick: called with the fraction done; what it raises ends the computation.
    """
    instruction_set()
    compiled = _compile(tuple(archs), x1.shape[1:], kind != "nngp")
    heads = len(compiled.family.heads)
    sums = np.zeros((heads, 2, len(x1), len(x2)))
    for part in compiled.parts:

        def part_tick(fraction: float, part: _Part = part) -> None:
            tick((part.heads.start + fraction * len(part.heads)) / heads)

        sums[part.heads.start : part.heads.stop] = _heads(compiled.own, part, x1, x2, symmetric, dtype, part_tick)
    return compiled.family.kernels(sums)


@dataclass(frozen=True, slots=True)
class _Part:
    heads: range
    plan: Plan
    program: _native.Program


@dataclass(frozen=True, slots=True)
class _Compiled:
    family: Fields
    own: tuple[Plan, _native.Program] | None  # of the variance maps, if any relu needs them
    parts: tuple[_Part, ...]


@lru_cache(maxsize=32)
def _compile(archs: tuple[Architecture, ...], image_shape: tuple[int, ...], tangents: bool) -> _Compiled:
    # Kept, since a Gram matrix asks for the same programs tile by tile, and a score for subset and held-out images.
    family = lower(archs, image_shape)
    own = None
    if any(one.variances for one in family.fields):
        variances = plan(family, [], image_shape, variances=True)
        own = variances, _native.Program(variances.integers, variances.reals)
    parts = []
    for start in range(0, len(family.heads), MOST_HEADS):
        heads = range(start, min(start + MOST_HEADS, len(family.heads)))
        main = plan(family, heads, image_shape, tangents=tangents)
        parts.append(_Part(heads, main, _native.Program(main.integers, main.reals)))
    return _Compiled(family, own, tuple(parts))


def _heads(
    own: tuple[Plan, _native.Program] | None,
    part: _Part,
    x1: Images,
    x2: Images,
    symmetric: bool,
    dtype: np.dtype[np.floating],
    tick: Callable[[float], None],
) -> NDArray[np.float64]:
    # Returns the head sums, shape (heads, 2, n1, n2), S then T.
    lanes = CACHE_LINE // dtype.itemsize
    wide2, maps2 = _prepared(own, x2, lanes, dtype)
    maps1 = _left_maps(part.plan, maps2 if symmetric else _prepared(own, x1, lanes, dtype)[1], len(x1))
    flat1 = _aligned(x1.reshape(len(x1), -1), dtype)
    out = np.zeros((len(part.heads), 2, len(x1), len(x2)))

    def run(rows: tuple[int, int], groups: tuple[int, int]) -> None:
        tile = np.empty((len(part.heads), 2, rows[1] - rows[0], (groups[1] - groups[0]) * lanes))
        _native.tile(part.program, flat1, maps1, *rows, wide2, maps2, *groups, tile)
        first, last = groups[0] * lanes, min(groups[1] * lanes, len(x2))
        out[:, :, rows[0] : rows[1], first:last] = tile[..., : last - first]

    _run_all([(run, tile) for tile in _tiles(part.plan, len(x1), len(x2), lanes, symmetric)], tick)
    if symmetric:
        for row in range(len(x1)):
            out[:, :, row + 1 :, row] = out[:, :, row, row + 1 :]
    return out


def _tiles(main: Plan, n1: int, n2: int, lanes: int, symmetric: bool) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    # Row ranges of x1 by group ranges of x2; of a symmetric matrix those that touch the upper triangle.
    # Small enough to be prompt, and several for every thread.
    pairs = max(lanes, min(TILE_ENTRY_LAYERS / max(1, main.entry_layers), n1 * n2 / (8 * threads())))
    width = max(1, min(8, int(np.sqrt(pairs)) // lanes))  # groups
    height = max(1, int(pairs // (width * lanes)))
    groups = -(-n2 // lanes)
    tiles = []
    for first in range(0, groups, width):
        last = min(first + width, groups)
        bottom = min(last * lanes, n1) if symmetric else n1
        tiles += [((row, min(row + height, bottom)), (first, last)) for row in range(0, bottom, height)]
    return tiles


def _prepared(
    own: tuple[Plan, _native.Program] | None, x: Images, lanes: int, dtype: np.dtype[np.floating]
) -> tuple[Images, Images]:
    # Images and their variance maps in lanes: (groups, h w c, lanes) and (groups, map_size, lanes).
    groups = -(-len(x) // lanes)
    flat = np.zeros((groups * lanes, x[0].size), dtype=dtype)
    flat[: len(x)] = x.reshape(len(x), -1)
    wide = _aligned(flat.reshape(groups, lanes, -1).transpose(0, 2, 1), dtype)
    maps = _aligned(np.zeros((groups, own[0].map_size if own else 0, lanes)), dtype)
    if own is not None:
        program = own[1]

        def run(first: int, last: int) -> None:
            _native.variances(program, wide, first, last, maps)

        step = max(1, groups // (4 * threads()))
        _run_all([(run, (g, min(g + step, groups))) for g in range(0, groups, step)], lambda _: None)
    return wide, maps


def _left_maps(main: Plan, maps: Images, n: int) -> Images:
    # (groups, map_size, lanes) -> (n, left_size): each left image's maps in a row, with the scales multiplied in.
    groups, size, lanes = maps.shape
    by_image = maps.transpose(0, 2, 1).reshape(groups * lanes, size)[:n]
    parts = [np.zeros((n, 0), dtype=maps.dtype)]
    for one in main.left_maps:
        h, w = one.shape
        factor = maps.dtype.type(one.scale)
        for start, scale in ((one.offset, factor), (one.offset + one.apart, 1 / factor)):
            rows = (by_image[:, start : start + h * w] * scale).reshape(n, h, w)
            parts.append(np.tile(rows, (1, 1, one.times)).reshape(n, -1))
    return np.concatenate(parts, axis=1)


def _aligned(x: Images, dtype: np.dtype[np.floating]) -> Images:
    # A C-contiguous copy that begins at a cache line.
    room = np.empty(x.size * dtype.itemsize + CACHE_LINE, dtype=np.uint8)
    start = -room.ctypes.data % CACHE_LINE
    copy: Images = room[start : start + x.size * dtype.itemsize].view(dtype).reshape(x.shape)
    copy[...] = x
    return copy


def _run_all(jobs: Sequence[tuple[Callable[..., None], tuple[object, ...]]], tick: Callable[[float], None]) -> None:
    # Few jobs are queued at a time, so that an interruption or an error ends the rest at once.
    total, done = len(jobs), 0
    waiting = iter(jobs)
    pool = ThreadPoolExecutor(threads(), thread_name_prefix="nas-cntk")
    try:
        running: set[Future[None]] = set()
        for job, arguments in waiting:
            running.add(pool.submit(job, *arguments))
            if len(running) >= 2 * threads():
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                done += len(finished)
                for future in finished:
                    future.result()
                tick(done / total)
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            done += len(finished)
            for future in finished:
                future.result()
            tick(done / total)
    except MemoryError:
        raise KernelError(
            "not enough memory for one tile of this kernel; take smaller images or fewer branches"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
