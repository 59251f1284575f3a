"""What is missing of some matrices, found tile by tile and computed, here or by others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from nas_cntk.architecture import Architecture
from nas_cntk.errors import KernelError
from nas_cntk.kernels import exact
from nas_cntk.kernels.budget import Work
from nas_cntk.kernels.images import Images
from nas_cntk.kernels.store import Store, disk_errors
from nas_cntk.kernels.tiles import Matrix, Place, Range, Tiled

if TYPE_CHECKING:
    from nas_cntk.conjugate_gradients import Operator

Progress = Callable[[float], None]
Cancelled = Callable[[], bool]
Single = Literal["ntk", "nngp"]

APPEARANCE = 120.0  # seconds until this machine sees what another wrote on a disk they share


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is computed for every pair of images."""

    archs: tuple[Architecture, ...]  # distinct by key
    kind: exact.Kind
    backend: str  # resolved
    dtype: str
    devices: tuple[int, ...] | None
    image_shape: tuple[int, ...]
    budget: int  # bytes
    work: Work

    @property
    def kinds(self) -> tuple[Single, ...]:
        return ("nngp", "ntk") if self.kind == "both" else (self.kind,)

    @property
    def names(self) -> list[str]:
        return [f"{arch.key}-{kind}" for arch in self.archs for kind in self.kinds]

    def identity(self, image_dtype: str) -> dict[str, Any]:
        if self.backend == "cpu":
            from nas_cntk.kernels.backends import cpu

            instructions = cpu.instruction_set()
        else:
            instructions = "none"
        return {
            "architectures": sorted(arch.key for arch in self.archs),
            "kind": self.kind,
            "dtype": self.dtype,
            "backend": self.backend,
            "instruction_set": instructions,
            "image_shape": list(self.image_shape),
            "image_dtype": image_dtype,
        }

    def kernels(
        self,
        x1: NDArray[np.floating],
        x2: NDArray[np.floating] | None,
        progress: Progress | None,
        cancelled: Cancelled | None,
    ) -> list[Matrix]:
        """Return one matrix a name."""
        found: list[Any] = exact.kernel_family(
            self.archs,
            x1,
            x2,
            kind=self.kind,
            backend=self.backend,
            dtype=self.dtype,
            devices=self.devices,
            progress=progress,
            cancelled=cancelled,
        )
        return [matrix for pair in found for matrix in pair] if self.kind == "both" else found


def task_of(
    archs: Sequence[Architecture],
    kind: exact.Kind,
    backend: str,
    dtype: str,
    devices: tuple[int, ...] | None,
    image_shape: tuple[int, ...],
    budget: int,
) -> Task:
    work = Work(archs, image_shape, kind, np.dtype(dtype).itemsize)
    return Task(tuple(archs), kind, backend, dtype, devices, image_shape, budget, work)


def block_side(task: Task, tile: int) -> int:
    # Beside the block there are a tile or two of every matrix, on their way to the disk.
    itemsize = np.dtype(task.dtype).itemsize
    room = task.budget - 3 * tile * tile * itemsize * len(task.names)
    return task.work.side(max(room, task.budget // 8), tile)


@dataclass(slots=True)
class Piece:
    """A tile of which columns from `have` on are to be computed."""

    i: int
    j: int
    rows: Range
    columns: Range
    have: int
    diagonal: bool

    @property
    def pairs(self) -> int:
        missing = self.columns[1] - self.columns[0] - self.have
        height = self.rows[1] - self.rows[0]
        # On the diagonal, the triangle from column `have` on.
        return missing * (missing + 1) // 2 + missing * self.have if self.diagonal else missing * height


@dataclass(frozen=True, slots=True)
class Folder:
    """The store where a tile of each matrix belongs."""

    path: Path
    tile: int
    names: tuple[str, ...]

    def write(self, i: int, j: int, blocks: Sequence[Matrix]) -> None:
        """Write tile (i, j) of every matrix; the store must have room for them already.

        Raises:
            KernelError: if this process does not see the store, or cannot write there.
        """
        if not (self.path / "zarr.json").exists():
            raise KernelError(f"a worker does not see the store {self.path}, which those before it saw; take it away")
        store = Store(self.path, {}, self.tile)
        with disk_errors(self.path):
            for name, block in zip(self.names, blocks, strict=True):
                store.write(name, i, j, block)


class Engine(Protocol):
    """Who computes tiles in place of this process."""

    @property
    def side(self) -> int:
        """The side of the tiles of a matrix in memory, of which there should be several for each worker."""

    def computed(
        self,
        task: Task,
        left: Images,
        right: Images,
        pieces: Sequence[Piece],
        side: int,
        cancelled: Cancelled | None,
        folder: Folder | None = None,
    ) -> Iterator[tuple[Piece, list[Matrix] | None]]:
        """Yield every piece with its matrices, one a name, in any order; `side` as for `computed`.

        Those of a whole tile that is in the folder already are None.
        """

    def side_on_disk(self, images: int, most: int) -> int:
        """Return the side of the tiles of a new matrix on disk, at most `most`."""

    def products(self, matrix: Tiled) -> AbstractContextManager[Operator | None]:
        """Give products with a matrix on disk, None if those who compute do not see that disk."""


class Filler:
    """Computes what is missing of some matrices, one tile after the other."""

    def __init__(
        self,
        task: Task,
        left: Images,
        right: Images,
        symmetric: bool,
        progress: Progress | None,
        cancelled: Cancelled | None,
        engine: Engine | None = None,
    ) -> None:
        self.engine = engine
        self.task, self.left, self.right, self.symmetric = task, left, right, symmetric
        self.progress, self.cancelled = progress, cancelled
        n1, n2 = len(left), len(right)
        self.total = n1 * (n1 + 1) // 2 if symmetric else n1 * n2
        self.done = 0

    def in_memory(self, places: Sequence[Place], n_old: int, side: int) -> None:
        """Fill the arrays, of which the first n_old columns (and rows, if symmetric) are there."""
        pieces = []
        n1, n2 = len(self.left), len(self.right)
        # Tiles that do not straddle n_old: what is old stays as it is.
        stops = [*range(side, n_old, side), *([n_old] if n_old else []), *range(n_old + side, n2, side), n2]
        columns = [(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True) if b > n_old]
        rows = [(r, min(r + side, n1)) for r in range(0, n1, side)]
        if self.symmetric:
            rows = list(zip([0, *stops[:-1]], stops, strict=True))
        for i, r in enumerate(rows):
            for j, c in enumerate(columns):
                if not self.symmetric or r[0] <= c[0]:
                    pieces.append(Piece(i, j, r, c, 0, self.symmetric and r == c))
        self._start(pieces)
        for piece, blocks in self._computed(pieces, side):
            assert blocks is not None
            (top, bottom), (left, right) = piece.rows, piece.columns
            for place, block in zip(places, blocks, strict=True):
                assert place.full is not None
                place.full[top:bottom, left:right] = block
                if self.symmetric:
                    place.full[left:right, top:bottom] = block.T

    def on_disk(self, places: Sequence[Place], store: Store, side: int) -> None:
        """Write what the store lacks of some matrices."""
        n1, n2 = len(self.left), len(self.right)
        pieces = []
        grid = Place(n1, n2, places[0].dtype, self.symmetric, store=store)
        for i, j, rows, columns in grid.grid():
            shape = rows[1] - rows[0], columns[1] - columns[0]
            diagonal = self.symmetric and i == j
            have = min(_columns_there(store.read(place.name, i, j, shape), shape, diagonal) for place in places)
            if have < shape[1]:
                pieces.append(Piece(i, j, rows, columns, have, diagonal))
            self._poll()
        self._start(pieces)
        if not pieces:
            return
        missing = sum((piece.rows[1] - piece.rows[0]) * (piece.columns[1] - piece.columns[0]) for piece in pieces)
        with store.writing(missing * places[0].dtype.itemsize * len(places)):
            if self.symmetric:
                store.check_images(self.left.hashes)
                store.add_images(self.left.hashes)
            for place in places:
                store.grow(place.name, (n1, n2), place.dtype)
            folder, theirs = Folder(store.path, store.tile, tuple(place.name for place in places)), []
            for piece, blocks in self._computed(pieces, side, folder):
                if blocks is None:
                    theirs += [(place.name, piece.i, piece.j) for place in places]
                    continue
                for place, block in zip(places, blocks, strict=True):
                    store.write(place.name, piece.i, piece.j, self._with_old(store, place, piece, block))
            self._await(store, theirs)

    def _await(self, store: Store, tiles: Sequence[tuple[str, int, int]]) -> None:
        # A disk of another machine may show late what others wrote.
        deadline = time.monotonic() + APPEARANCE
        for name, i, j in tiles:
            while not store.has(name, i, j):
                if time.monotonic() > deadline:
                    raise KernelError(f"a worker wrote tile ({i}, {j}), but it is not in the store {store.path}")
                self._poll()
                time.sleep(0.1)

    def _with_old(self, store: Store, place: Place, piece: Piece, block: Matrix) -> Matrix:
        if not piece.have:
            return block
        shape = piece.rows[1] - piece.rows[0], piece.columns[1] - piece.columns[0]
        whole = np.empty(shape, dtype=block.dtype)
        whole[:, piece.have :] = block
        if piece.diagonal:
            whole[piece.have :, : piece.have] = block[: piece.have].T
        rows = piece.have if piece.diagonal else shape[0]
        old = store.read(place.name, piece.i, piece.j, (rows, piece.have))
        assert old is not None
        whole[:rows, : piece.have] = old
        return whole

    def _start(self, pieces: Sequence[Piece]) -> None:
        self.done = self.total - sum(piece.pairs for piece in pieces)
        if self.progress is not None:
            self.progress(self.done / self.total)

    def _poll(self) -> None:
        if self.cancelled is not None and self.cancelled():
            raise KeyboardInterrupt

    def _computed(
        self, pieces: Sequence[Piece], side: int, folder: Folder | None = None
    ) -> Iterator[tuple[Piece, list[Matrix] | None]]:
        if self.engine is not None:
            found = self.engine.computed(self.task, self.left, self.right, pieces, side, self.cancelled, folder)
            for piece, blocks in found:
                self.advance(piece.pairs)
                yield piece, blocks
            return
        for piece in pieces:
            rows = self.left.take(*piece.rows)
            columns = rows if piece.diagonal else self.right.take(*piece.columns)
            yield piece, computed(self.task, rows, columns, piece.have, piece.diagonal, side, self)

    def part(self, pairs: int) -> Progress | None:
        """Return a callback for the fraction done of the next so many pairs."""
        progress, done, total = self.progress, self.done, self.total
        if progress is None:
            return None
        return lambda fraction: progress((done + fraction * pairs) / total)

    def advance(self, pairs: int) -> None:
        """Take note that so many pairs are done."""
        self.done += pairs
        if self.progress is not None:
            self.progress(self.done / self.total)


class Watcher(Protocol):
    """Who is told how a tile comes on, and may end it."""

    cancelled: Cancelled | None

    def part(self, pairs: int) -> Progress | None:
        """Return a callback for the fraction done of the next so many pairs."""

    def advance(self, pairs: int) -> None:
        """So many pairs are done."""


def computed(
    task: Task,
    rows: NDArray[np.floating],
    columns: NDArray[np.floating],
    have: int,
    diagonal: bool,
    side: int,
    watcher: Watcher | None = None,
) -> list[Matrix]:
    """Return the columns from `have` on of a tile, one matrix a name, in blocks of at most side x side pairs.

    Args:
        rows, columns: images, shape (n, h, w, c); the same ones on the diagonal, where the tile is symmetric.
    """
    n, m = len(rows), len(columns)
    out = [np.empty((n, m - have), dtype=np.dtype(task.dtype)) for _ in task.names]
    cuts = _cut(have, m, side)
    for c in cuts:
        x2 = columns[c[0] : c[1]]
        for r in [*_cut(0, have, side), *cuts] if diagonal else _cut(0, n, side):
            if diagonal and r[0] > c[0]:
                continue
            same = diagonal and r == c
            height = r[1] - r[0]
            pairs = height * (height + 1) // 2 if same else height * (c[1] - c[0])
            x1 = x2 if same else rows[r[0] : r[1]]
            progress = None if watcher is None else watcher.part(pairs)
            blocks = task.kernels(x1, None if same else x2, progress, None if watcher is None else watcher.cancelled)
            for matrix, block in zip(out, blocks, strict=True):
                matrix[r[0] : r[1], c[0] - have : c[1] - have] = block
                if diagonal and not same and r[0] >= have:
                    matrix[c[0] : c[1], r[0] - have : r[1] - have] = block.T
            if watcher is not None:
                watcher.advance(pairs)
    return out


def _columns_there(block: Matrix | None, shape: tuple[int, int], diagonal: bool) -> int:
    # How many columns of a tile are computed in all its rows (on the diagonal, in as many rows as columns).
    if block is None or not block.size:
        return 0
    have = int((~np.isnan(block[0])).sum())
    rows = have if diagonal else shape[0]
    if block.shape[0] < rows or np.isnan(block[:rows, :have]).any():
        return 0
    return have


def _cut(start: int, stop: int, side: int) -> list[Range]:
    return [(first, min(first + side, stop)) for first in range(start, stop, side)]
