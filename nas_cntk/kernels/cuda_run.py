"""Runs a plan on a device: launches in order, for one tile of pairs of images.

What a device is, is said by `Device`: CuPy's in `backends/cuda.py`, and in the tests a CPU that plays one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nas_cntk.kernels.cuda_layout import BLOCK_THREADS, CudaPlan, Limits, Program, Sheets, Single, Stretch, Tile
from nas_cntk.ops import Shape

Images = NDArray[np.floating]  # shape: (n, h, w, c)
DeviceArray = Any

FIELD_THREADS = 256  # of a block of the kernels of single fields
HEAD_THREADS = 128
NO_DIAGONAL = 2**30
STRETCHES = ("stretch", "stretch_staged", "stretch_itself")


@dataclass(frozen=True, slots=True)
class Build:
    """What gram.cu is compiled for: one of the kernels of stretches, or, without a tile, all others.

    Args:
        real: "float" or "double".
        mode: which kernel of stretches, its place in STRETCHES.
    """

    real: str
    tangents: bool
    tile: Tile | None = None
    shape: Shape | None = None
    slots: int = 0
    mode: int = 0

    @property
    def macros(self) -> dict[str, str | int]:
        """The macros that gram.cu names at its top."""
        found: dict[str, str | int] = {"NAS_CNTK_REAL": self.real, "NAS_CNTK_TANGENT": int(self.tangents)}
        if self.tile is not None and self.shape is not None:
            found |= {"NAS_CNTK_TILE_H": self.tile.height, "NAS_CNTK_TILE_W": self.tile.width}
            found |= {"NAS_CNTK_HEIGHT": self.shape[0], "NAS_CNTK_WIDTH": self.shape[1]}
            found |= {"NAS_CNTK_PITCH": self.tile.pitch(self.shape)}
            found |= {
                "NAS_CNTK_SLOTS": self.slots,
                "NAS_CNTK_MODE": self.mode,
                "NAS_CNTK_THREADS": BLOCK_THREADS[4 if self.real == "float" else 8],
            }
        return found


class Device(Protocol):
    """Memory and launches of one device; everything is done in the order asked for, and may be done later."""

    limits: Limits

    def put(self, array: NDArray[Any]) -> DeviceArray:
        """Return a copy of an array on the device."""

    def zeros(self, size: int, dtype: DTypeLike) -> DeviceArray:
        """Return a new array of zeros."""

    def empty(self, size: int, dtype: DTypeLike) -> DeviceArray:
        """Return a new array of anything."""

    def get(self, array: DeviceArray) -> NDArray[Any]:
        """Return an array of the device when everything before is done."""

    def launch(self, build: Build, kernel: str, grid: int, threads: int, shared: int, arguments: Sequence[Any]) -> None:
        """Launch a kernel; arguments are arrays of the device and NumPy scalars."""


@dataclass(slots=True)
class _Loaded:
    program: Program
    stored: DeviceArray
    tables: DeviceArray
    weights: DeviceArray
    steps: list[list[DeviceArray]]  # of a stretch: operations, then words and planes of every launch; of a single: two


@dataclass(slots=True)
class _Group:
    # The sheets of one map size of some images: plain, and as stretches read them.
    own: DeviceArray
    left: DeviceArray
    right: DeviceArray
    stale: bool = True


@dataclass(frozen=True, slots=True)
class _Pass:
    # Some pairs of a tile, or images with themselves: what every launch of a program is told of them.
    loaded: _Loaded
    left: dict[Shape, _Group]
    right: dict[Shape, _Group]
    fields: DeviceArray
    out: DeviceArray
    total: int  # pairs of the tile, or images with themselves
    tangents: bool
    skip_below: int
    numbers: tuple[np.int32, ...]  # first pair, pairs, columns of the tile (0: images with themselves), capacity

    @property
    def count(self) -> int:
        return int(self.numbers[1])


@dataclass(slots=True)
class Started:
    """A tile under way: `sums` on the device, shape (n1, n2, heads, 2) flat, one array a program."""

    n1: int
    n2: int
    exponent: int  # the sums are 2^-exponent times the true ones
    sums: list[DeviceArray]
    kept: list[Any] = field(default_factory=list)  # what must live until it is done


class Engine:
    """A plan on a device."""

    def __init__(self, device: Device, plan: CudaPlan) -> None:
        self.device, self.plan = device, plan
        self.real = "float" if plan.itemsize == 4 else "double"
        self.dtype = np.dtype(np.float32 if plan.itemsize == 4 else np.float64)
        self.own = self._load(plan.own)
        self.main = [self._load(one) for one in plan.main]

    def start(self, x1: Images, x2: Images | None, capacity: int, skip_below: int = NO_DIAGONAL) -> Started:
        """Begin the head sums of every image of x1 with every one of x2; None is x1 again.

        Args:
            capacity: pairs that are in global memory at a time, where fields are kept there.
            skip_below: pairs (a, b) with a > b + skip_below may be left 0.
        """
        left, exponent1 = self._sheets(x1, capacity)
        right, exponent2 = (left, exponent1) if x2 is None else self._sheets(x2, capacity)
        n1, n2 = len(x1), len(x1 if x2 is None else x2)
        started = Started(n1, n2, exponent1 + exponent2, [], [left, right])
        for loaded in self.main:
            out = self.device.zeros(n1 * n2 * 2 * loaded.program.heads, np.float64)
            self._run(loaded, left, right, out, n1 * n2, n2, capacity, self.plan.tangents, skip_below)
            started.sums.append(out)
        return started

    def finish(self, started: Started) -> NDArray[np.float64]:
        """Return the sums of a tile when it is done, shape (heads, 2, n1, n2): S, then T."""
        parts = [
            self.device.get(sums).reshape(started.n1, started.n2, -1, 2).transpose(2, 3, 0, 1) for sums in started.sums
        ]
        started.kept.clear()
        with np.errstate(over="ignore"):  # a kernel that is too large is found by whoever asked for it
            scaled: NDArray[np.float64] = np.ldexp(np.concatenate(parts), started.exponent)
            return scaled

    def _load(self, program: Program) -> _Loaded:
        put = self.device.put
        steps = []
        for step in program.steps:
            if isinstance(step, Stretch):
                steps.append([put(step.ops.view(np.uint8))])
                for launch in step.launches:
                    steps[-1] += [put(launch.words), put(np.ascontiguousarray(launch.planes).reshape(-1))]
            else:
                steps.append([put(step.words), put(step.reals)])
        return _Loaded(
            program, put(_some(program.stored.reshape(-1))), put(program.tables), put(program.weights), steps
        )

    def _sheets(self, x: Images, capacity: int) -> tuple[dict[Shape, _Group], int]:
        # The kernel is linear in the scale of the images; a power of two changes no digit. So neither dim nor bright
        # images leave the range that reciprocals and roots of the special function unit are good for.
        groups = {}
        n, dtype = len(x), self.dtype
        exponent = int(np.frexp(np.abs(x).max())[1])
        x = np.ldexp(x, -exponent)
        for one in self.plan.sheets:
            own = self.device.empty(max(1, n * one.count * one.area), dtype)
            if one.channels:
                images = self.device.put(np.ascontiguousarray(x, dtype).reshape(-1))
                numbers = (np.int32(number) for number in (one.channels, one.count, one.area))
                self._over(n * one.channels * one.area, "place_channels", (images, own, np.int64(n), *numbers))
            left = self.device.empty(max(1, n * one.count * one.left_size), dtype)
            right = self.device.empty(max(1, n * one.count * one.right_size), dtype)
            groups[one.shape] = _Group(own, left, right)
        out = self.device.empty(1, np.float64)
        self._run(self.own, groups, groups, out, n, 0, capacity, False, NO_DIAGONAL)
        for one in self.plan.sheets:
            self._arrange(one, groups[one.shape], n)
        return groups, exponent

    def _arrange(self, sheets: Sheets, group: _Group, images: int) -> None:
        if not group.stale or sheets.tile is None or not sheets.count:
            return
        total = images * sheets.count * (sheets.left_size + sheets.right_size)
        arguments = (
            group.own,
            group.left,
            group.right,
            np.int64(images),
            *(np.int32(x) for x in (sheets.count, *sheets.shape, sheets.tile.height, sheets.tile.width, sheets.pitch)),
        )
        self._over(total, "arrange", arguments)
        group.stale = False

    def _over(self, elements: int, kernel: str, arguments: Sequence[Any]) -> None:
        grid = -(-elements // FIELD_THREADS)
        self.device.launch(Build(self.real, False), kernel, grid, FIELD_THREADS, 0, arguments)

    def _run(
        self,
        loaded: _Loaded,
        left: dict[Shape, _Group],
        right: dict[Shape, _Group],
        out: DeviceArray,
        total: int,
        columns: int,
        capacity: int,
        tangents: bool,
        skip_below: int,
    ) -> None:
        program = loaded.program
        if not program.elements:
            capacity = total
        else:
            # Fields of pairs left out would be read by the next step beside those of others, and 0 times NaN is NaN.
            skip_below = NO_DIAGONAL
        capacity = min(capacity, total)
        fields = self.device.empty(max(1, program.elements * capacity), self.dtype)
        for first in range(0, total, capacity):
            count = min(capacity, total - first)
            numbers = tuple(np.int32(x) for x in (first, count, columns, capacity))
            some = _Pass(loaded, left, right, fields, out, total, tangents, skip_below, numbers)
            for step, arrays, written in zip(program.steps, loaded.steps, program.written, strict=True):
                if isinstance(step, Stretch):
                    self._stretch(step, arrays, some)
                else:
                    self._single(step, arrays, some)
                if written is not None:
                    left[written.shape].stale = True

    def _stretch(self, step: Stretch, arrays: list[DeviceArray], some: _Pass) -> None:
        one, other = some.left[step.sheets.shape], some.right[step.sheets.shape]
        for k, launch in enumerate(step.launches):
            if launch.itself:
                one.stale = True
            elif not some.numbers[2]:  # images with themselves: the sheets written so far
                self._arrange(step.sheets, one, some.total)
            mode = 2 if launch.itself else int(launch.staged)
            self.device.launch(
                Build(self.real, some.tangents, step.sheets.tile, step.sheets.shape, step.slots, mode),
                STRETCHES[mode],
                -(-some.count // launch.pairs),
                launch.warps * 32,
                launch.shared,
                (
                    arrays[1 + 2 * k],
                    arrays[0],
                    arrays[2 + 2 * k],
                    some.loaded.tables,
                    some.loaded.weights,
                    some.loaded.stored,
                    some.fields,
                    one.left,
                    other.right,
                    one.own,
                    some.out,
                    *some.numbers,
                    np.int32(some.skip_below),
                ),
            )

    def _single(self, step: Single, arrays: list[DeviceArray], some: _Pass) -> None:
        one = some.left[step.left.shape].own if step.left is not None else some.fields
        other = some.right[step.right.shape].own if step.right is not None else some.fields
        sizes = [sheets.count * sheets.area if sheets is not None else 0 for sheets in (step.left, step.right)]
        if step.entries:
            grid, threads, shared = -(-step.entries * some.count // FIELD_THREADS), FIELD_THREADS, 0
        else:
            grid, threads, shared = some.count, HEAD_THREADS, 16 * HEAD_THREADS
        self.device.launch(
            Build(self.real, some.tangents),
            step.kernel,
            grid,
            threads,
            shared,
            (
                *arrays,
                some.loaded.tables,
                some.loaded.weights,
                some.fields,
                one,
                other,
                one,
                some.out,
                *(np.int64(size) for size in sizes),
                *some.numbers,
            ),
        )


def _some(array: NDArray[Any]) -> NDArray[Any]:
    # An empty array has no address on a device.
    return array if array.size else np.zeros(1, dtype=array.dtype)
