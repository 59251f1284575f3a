"""Products with a symmetric matrix in tiles: each tile is read once a product and used for both triangles.

Entries are float32 as a rule; products are float64 numbers summed in float64. Letters in shapes: n images, c columns of
what is multiplied, m columns of the matrix that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from nas_cntk.blas import in_threads
from nas_cntk.errors import KernelError, RegressionError
from nas_cntk.kernels.budget import available_memory
from nas_cntk.kernels.store import Store
from nas_cntk.kernels.tiles import Index, Matrix, Place, Tiled

R = TypeVar("R")
Float = NDArray[np.float64]
Cancelled = Callable[[], bool]
Tile = tuple[int, int]  # (i, j), i <= j: block row and block column
Blocks = dict[int, Float]  # of some block rows, shape: (rows of the block, c)

SIDE = 1024  # of the tiles of a matrix in memory
SCRATCH = 2**18  # entries that are float64 at a time: they should stay in a core's cache


class Source(Protocol):
    """Where the tiles of a symmetric matrix come from."""

    @property
    def n(self) -> int:
        """Its rows."""

    @property
    def side(self) -> int:
        """The side of its tiles, those at the end excepted."""

    def tile(self, i: int, j: int) -> Matrix:
        """Return tile (i, j), i <= j; one of the diagonal is whole."""


@dataclass(frozen=True, slots=True, eq=False)
class ArraySource:
    """An array of which the upper triangle counts."""

    array: NDArray[Any]  # shape: (n, n)
    side: int = SIDE

    @property
    def n(self) -> int:
        """Its rows."""
        return len(self.array)

    def tile(self, i: int, j: int) -> Matrix:
        """Return tile (i, j), i <= j."""
        side = self.side
        block: Matrix = self.array[i * side : (i + 1) * side, j * side : (j + 1) * side]
        if i == j:
            block = np.triu(block)
            block = block + np.triu(block, 1).T
        return block


@dataclass(slots=True, eq=False)
class StoreSource:
    """A Gram matrix in a store; it can be sent to another process that sees the same disk."""

    path: Path
    name: str
    n: int
    side: int
    dtype: str
    _place: Place | None = field(default=None, repr=False)

    def tile(self, i: int, j: int) -> Matrix:
        """Return tile (i, j), i <= j.

        Raises:
            KernelError: if the store or the tile is not there, or damaged.
        """
        if self._place is None:
            if not (self.path / "zarr.json").exists():
                raise KernelError(f"the store {self.path} is gone")
            store = Store(self.path, {}, self.side)
            self._place = Place(self.n, self.n, np.dtype(self.dtype), True, store=store, name=self.name)
        return self._place.tile(i, j)

    def __reduce__(self) -> tuple[Any, ...]:
        return StoreSource, (self.path, self.name, self.n, self.side, self.dtype)


def source_of(matrix: NDArray[Any] | Tiled) -> Source:
    """Return where the tiles of a matrix come from.

    Raises:
        RegressionError: if it is not square and symmetric.
    """
    shape = matrix.shape
    if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
        raise RegressionError(f"a kernel of shape {shape}; it must be square")
    if not isinstance(matrix, Tiled):
        return ArraySource(matrix)
    place = matrix._place
    if not place.symmetric:
        raise RegressionError("this is the kernel of test images with others; pass the Gram matrix")
    if place.store is None:
        return ArraySource(np.asarray(matrix))
    return StoreSource(place.store.path.absolute(), place.name, place.rows, place.store.tile, place.dtype.str)


def grid(source: Source) -> list[Tile]:
    """Return the tiles of the upper triangle."""
    blocks = -(-source.n // source.side)
    return [(i, j) for i in range(blocks) for j in range(i, blocks)]


class Part:
    """Some tiles of a matrix, of which as many stay in memory as there is room for.

    Args:
        memory: bytes of tiles that stay.
    """

    def __init__(self, source: Source, memory: float) -> None:
        self.source, self.room = source, memory
        self.kept: dict[Tile, Matrix] = {}
        self.read = 0  # tiles so far

    def tile(self, i: int, j: int) -> Matrix:
        """Return a tile.

        Raises:
            KernelError: as the source does.
            RegressionError: if it is not finite.
        """
        known = self.kept.get((i, j))
        if known is not None:
            return known
        block = self.source.tile(i, j)
        self.read += 1
        check_finite(block)
        # What is there first stays: of tiles read in turn, the one used last is the one needed last.
        if self.room >= block.nbytes:
            self.room -= block.nbytes
            self.kept[i, j] = block
        return block

    def forget(self, wanted: Iterable[Tile]) -> None:
        """Keep none but these tiles."""
        for one in set(self.kept) - set(wanted):
            self.room += self.kept.pop(one).nbytes

    def products(self, tiles: Sequence[Tile], x: Blocks, threads: int, cancelled: Cancelled | None = None) -> Blocks:
        """Return what these tiles add to the product of the matrix and x, by block rows."""

        def work(one: Tile) -> tuple[Tile, Float, Float | None]:
            if cancelled is not None and cancelled():
                raise KeyboardInterrupt
            i, j = one
            return one, *_product(self.tile(i, j), x[i], x[j], i == j)

        found: Blocks = {}
        for (i, j), above, below in _mapped(work, tiles, threads):
            _add(found, i, above)
            if below is not None:
                _add(found, j, below)
        return found

    def diagonals(self, tiles: Sequence[Tile]) -> Blocks:
        """Return the diagonals of those of the tiles that are on it, by block rows; shape (rows of the block, 1)."""
        return {i: self.tile(i, j).diagonal().astype(np.float64)[:, None] for i, j in tiles if i == j}

    def columns(
        self, tiles: Sequence[Tile], chosen: Index, threads: int, cancelled: Cancelled | None = None
    ) -> list[tuple[int, Index, Matrix]]:
        """Return what these tiles hold of some columns: block row, which of the columns, and their entries there."""
        side = self.source.side

        def work(one: Tile) -> list[tuple[int, Index, Matrix]]:
            if cancelled is not None and cancelled():
                raise KeyboardInterrupt
            i, j = one
            right, left = np.flatnonzero(chosen // side == j), np.flatnonzero(chosen // side == i)
            if not len(right) and not len(left):
                return []
            block, parts = self.tile(i, j), []
            if len(right):
                parts.append((i, right, np.ascontiguousarray(block[:, chosen[right] % side])))
            if len(left) and i != j:
                parts.append((j, left, np.ascontiguousarray(block[chosen[left] % side].T)))
            return parts

        return [part for parts in _mapped(work, tiles, threads) for part in parts]


class Products:
    """Products with a symmetric matrix, by this process.

    Args:
        matrix: an array, of which the upper triangle counts, or a Gram matrix in memory or on disk.
        memory: bytes of tiles that stay in memory between two products; by default half of what is available.
        threads: that read and multiply tiles; by default those of the kernels.
    """

    def __init__(self, matrix: NDArray[Any] | Tiled, memory: float | None = None, threads: int | None = None) -> None:
        from nas_cntk.kernels.backends import cpu

        source = source_of(matrix)
        # Slices of an array are no copies.
        room = available_memory() / 2 if memory is None else memory
        self._part = Part(source, 0.0 if isinstance(source, ArraySource) else room)
        self._tiles = grid(source)
        self._threads = cpu.threads() if threads is None else threads

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._part.source.n, self._part.source.n

    @property
    def read(self) -> int:
        """How many tiles were read so far."""
        return self._part.read

    def diagonal(self) -> Float:
        """Return a copy of the diagonal, shape (n,)."""
        return stacked(self._part.diagonals(self._tiles))[:, 0]

    def times(self, x: Float, cancelled: Cancelled | None = None) -> Float:
        """Return the product with x, shape (n, c).

        Raises:
            KernelError: if a tile is missing or damaged.
            RegressionError: if one is not finite.
            KeyboardInterrupt: if cancelled.
        """
        return stacked(self._part.products(self._tiles, blocks_of(x, self._part.source.side), self._threads, cancelled))

    def columns(self, chosen: Index, cancelled: Cancelled | None = None) -> Matrix:
        """Return some columns, shape (n, m); raises what `times` does."""
        parts = self._part.columns(self._tiles, chosen, self._threads, cancelled)
        return joined(parts, self._part.source.n, self._part.source.side, len(chosen))


def check_finite(block: Matrix) -> None:
    """Raise RegressionError if a tile is not finite."""
    if not np.isfinite(block).all():
        raise RegressionError("the kernel is not finite; compute it in float64, or scale the images")


def blocks_of(x: Float, side: int) -> Blocks:
    """Return the block rows of x."""
    return {k: x[top : top + side] for k, top in enumerate(range(0, len(x), side))}


def stacked(blocks: Blocks) -> Float:
    """Return the whole of which these are the block rows."""
    return np.concatenate([blocks[i] for i in sorted(blocks)])


def joined(parts: Iterable[tuple[int, Index, Matrix]], n: int, side: int, m: int) -> Matrix:
    """Return the columns that `Part.columns` gave in parts, shape (n, m), as float32."""
    whole = np.empty((n, m), dtype=np.float32)
    for i, which, entries in parts:
        whole[i * side : i * side + len(entries), which] = entries
    return whole


def _add(found: Blocks, i: int, more: Float) -> None:
    if i in found:
        found[i] += more
    else:
        found[i] = more


def _product(block: Matrix, rows: Float, columns: Float, diagonal: bool) -> tuple[Float, Float | None]:
    # Block times columns, and (off the diagonal) its transpose times rows.
    above = np.empty((block.shape[0], columns.shape[1]))
    below = None if diagonal else np.zeros((block.shape[1], rows.shape[1]))
    step = max(1, SCRATCH // block.shape[1])
    for top in range(0, len(block), step):
        wide = block[top : top + step].astype(np.float64)
        above[top : top + step] = wide @ columns
        if below is not None:
            below += wide.T @ rows[top : top + step]
    return above, below


def _mapped(work: Callable[[Tile], R], tiles: Sequence[Tile], threads: int) -> Iterator[R]:
    # Some tiles at a time: what is done waits here for what is before it.
    step = 16 * threads
    for first in range(0, len(tiles), step):
        yield from in_threads(work, tiles[first : first + step], threads)
