"""Reading a matrix that is kept in tiles: in memory as one array, or on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nas_cntk.errors import KernelError
from nas_cntk.kernels.store import Store

Matrix = NDArray[np.floating]
Range = tuple[int, int]
Index = NDArray[np.intp]

BLOCK_BYTES = 64 * 2**20  # of one block of rows of a matrix in memory, where the caller names no size


@dataclass(slots=True, eq=False)
class Place:
    """Where a matrix is: `full[:rows, :columns]`, or the tiles of `name` in a store."""

    rows: int
    columns: int
    dtype: np.dtype[np.floating]
    symmetric: bool
    full: Matrix | None = None
    store: Store | None = None
    name: str = ""

    @property
    def side(self) -> int:
        """The side of its tiles."""
        return self.store.tile if self.store is not None else max(1, self.rows, self.columns)

    def tile(self, i: int, j: int) -> Matrix:
        """Return tile (i, j), which of a symmetric matrix must be i <= j.

        Raises:
            KernelError: if it is not on the disk, or damaged there.
        """
        if self.full is not None:
            return self.full[: self.rows, : self.columns]
        assert self.store is not None and (not self.symmetric or i <= j)
        side = self.store.tile
        shape = min(side, self.rows - i * side), min(side, self.columns - j * side)
        block = self.store.read(self.name, i, j, shape)
        if block is None or block.shape != shape or np.isnan(block).any():
            raise KernelError(
                f"tile ({i}, {j}) in the store {self.store.path} is missing or damaged;"
                " ask for the matrix again with this store, and it is computed again"
            )
        return block

    def grid(self) -> Iterator[tuple[int, int, Range, Range]]:
        """Yield the tiles that are kept, as (i, j, rows, columns)."""
        side = self.side
        for i in range(-(-self.rows // side)):
            for j in range(i if self.symmetric else 0, -(-self.columns // side)):
                rows = i * side, min((i + 1) * side, self.rows)
                yield i, j, rows, (j * side, min((j + 1) * side, self.columns))


class Tiled:
    """What `Gram` and `Cross` have in common: a matrix that NumPy can read, in memory or on disk.

    `np.asarray` gives the whole matrix (of one in memory, a read-only view), `matrix[...]` any part that NumPy's
    indexing names, `rows` and `tiles` parts in turn.
    """

    __slots__ = ("__weakref__", "_place")

    def __init__(self, place: Place) -> None:
        self._place = place

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._place.rows, self._place.columns

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """That of the entries."""
        return self._place.dtype

    @property
    def ndim(self) -> int:
        """Two."""
        return 2

    @property
    def size(self) -> int:
        """Number of entries."""
        return self._place.rows * self._place.columns

    @property
    def nbytes(self) -> int:
        """Bytes of the whole matrix, as an array."""
        return self.size * self._place.dtype.itemsize

    @property
    def path(self) -> Path | None:
        """The folder it is in; None if it is in memory."""
        return self._place.store.path if self._place.store is not None else None

    def __len__(self) -> int:
        return self._place.rows

    def __repr__(self) -> str:
        where = "in memory" if self.path is None else f"in {self.path}"
        return f"<{type(self).__name__} {self.shape[0]} x {self.shape[1]} {self.dtype}, {where}>"

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if self._place.full is not None:
            view = self._view()
            return np.array(view, dtype=dtype) if copy else np.asarray(view, dtype=dtype)
        if copy is False:
            raise ValueError("a matrix on disk cannot become an array without a copy")
        whole = np.empty(self.shape, dtype=self.dtype if dtype is None else np.dtype(dtype))
        for (top, bottom), (left, right), block in self.tiles():
            whole[top:bottom, left:right] = block
            if self._place.symmetric:
                whole[left:right, top:bottom] = block.T
        return whole

    def __getitem__(self, key: Any) -> Any:
        if self._place.full is not None:
            return self._view()[key]
        keys = key if isinstance(key, tuple) else (key,)
        if any(one is Ellipsis for one in keys):
            at = next(k for k, one in enumerate(keys) if one is Ellipsis)
            keys = keys[:at] + (slice(None),) * (3 - len(keys)) + keys[at + 1 :]
        keys += (slice(None),) * (2 - len(keys))
        if len(keys) != 2 or any(one is None or np.ndim(one) > 1 for one in keys if not isinstance(one, slice)):
            raise IndexError("a matrix on disk takes integers, slices and index vectors; make it an array for the rest")
        wanted: list[Index] = []
        picks: list[Any] = []
        for one, length in zip(keys, self.shape, strict=True):
            chosen = np.arange(length)[one]
            distinct, inverse = np.unique(chosen, return_inverse=True)
            wanted.append(distinct)
            if not isinstance(one, slice):
                picks.append(inverse.reshape(np.shape(chosen))[()])
            else:
                picks.append(slice(None, None, -1) if len(chosen) > 1 and chosen[0] > chosen[-1] else slice(None))
        return self._part(wanted[0], wanted[1])[tuple(picks)]

    def rows(self, start: int, stop: int) -> Matrix:
        """Return rows start to stop, shape (stop - start, columns); read-only if the matrix is in memory."""
        return cast(Matrix, self[start:stop])

    def row_blocks(self, size: int | None = None) -> Iterator[tuple[int, Matrix]]:
        """Yield (first row, rows) from the first row to the last, `size` rows at a time."""
        row_bytes = max(1, self.shape[1] * self.dtype.itemsize)
        step = size or (self._place.side if self.path is not None else max(1, BLOCK_BYTES // row_bytes))
        for start in range(0, len(self), step):
            yield start, self.rows(start, min(start + step, len(self)))

    def tiles(self) -> Iterator[tuple[Range, Range, Matrix]]:
        """Yield (rows, columns, block) of what is kept, each once: of a symmetric matrix the upper tiles.

        Tiles of the diagonal are whole. A matrix in memory comes in bands of rows from the diagonal on.
        """
        if self._place.full is None:
            for i, j, rows, columns in self._place.grid():
                yield rows, columns, self._place.tile(i, j)
            return
        step = max(1, BLOCK_BYTES // max(1, self.shape[1] * self.dtype.itemsize))
        view = self._view()
        for top in range(0, len(self), step):
            left, bottom = (top if self._place.symmetric else 0), min(top + step, len(self))
            yield (top, bottom), (left, self.shape[1]), view[top:bottom, left:]

    def diagonal(self) -> Matrix:
        """Return a copy of the diagonal."""
        if self._place.full is not None:
            return self._view().diagonal().copy()
        found = np.empty(min(self.shape), dtype=self.dtype)
        for i, j, (top, bottom), (_, right) in self._place.grid():
            if i == j:
                found[top : min(bottom, right)] = self._place.tile(i, j).diagonal()
        return found

    def _view(self) -> Matrix:
        assert self._place.full is not None
        view = self._place.full[: self._place.rows, : self._place.columns]
        view.flags.writeable = False
        return view

    def _part(self, rows: Index, columns: Index) -> Matrix:
        # Ascending rows by ascending columns, each tile read once.
        part = np.empty((len(rows), len(columns)), dtype=self.dtype)
        side = self._place.side
        blocks: dict[tuple[int, int], list[tuple[Range, Range, bool]]] = {}
        for i, r in _runs(rows, side):
            for j, c in _runs(columns, side):
                turned = self._place.symmetric and j < i
                blocks.setdefault((j, i) if turned else (i, j), []).append((r, c, turned))
        for (i, j), uses in blocks.items():
            block = self._place.tile(i, j)
            for r, c, turned in uses:
                source = block.T if turned else block
                part[r[0] : r[1], c[0] : c[1]] = source[np.ix_(rows[slice(*r)] % side, columns[slice(*c)] % side)]
        return part


def _runs(indices: Index, side: int) -> list[tuple[int, Range]]:
    # Which stretch of ascending indices falls into which tile.
    if not len(indices):
        return []
    tiles, starts = np.unique(indices // side, return_index=True)
    stops = [*starts[1:], len(indices)]
    return [(int(t), (int(a), int(b))) for t, a, b in zip(tiles, starts, stops, strict=True)]
