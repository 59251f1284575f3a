"""Gram matrices that grow: computed tile by tile, in memory or on disk, never twice.

Entry (a, b), a <= b, is computed with image a first whatever block it falls into, and the core gives a pair the same
bits in any block: so a matrix that was interrupted, resumed or extended equals the one that was not, bit by bit.
"""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_cntk.architecture import Architecture
from nas_cntk.errors import KernelError, UsageError
from nas_cntk.kernels import exact
from nas_cntk.kernels.budget import Work, parse_memory
from nas_cntk.kernels.images import Images, hash_of_all
from nas_cntk.kernels.store import Store, disk_errors
from nas_cntk.kernels.tiles import Matrix, Place, Range, Tiled

Progress = Callable[[float], None]
Cancelled = Callable[[], bool]
Single = Literal["ntk", "nngp"]

FREE_BYTES = 64 * 2**20  # what a budget leaves for the rest of the program


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
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


class Gram(Tiled):
    """The kernel of a sequence of images with itself; NumPy reads it, see `Tiled`."""

    __slots__ = ("_arch", "_kind", "family")

    family: GramFamily
    """The matrices computed in the same pass."""

    def extend(
        self, x_more: ArrayLike, *, progress: Progress | None = None, cancelled: Cancelled | None = None
    ) -> Gram:
        """Append images; only the blocks that are new are computed. Returns this matrix, which has grown.

        Raises:
            UsageError: for one of a family of several, which grow together (`GramFamily.extend`).
        """
        if len(self.family.places) > 1:
            raise UsageError(f"this is one of {len(self.family.places)} matrices that grow together; extend the family")
        self.family.extend(x_more, progress=progress, cancelled=cancelled)
        return self

    def against(
        self, x_test: ArrayLike, *, progress: Progress | None = None, cancelled: Cancelled | None = None
    ) -> Cross:
        """Return the kernel of other images with these, shape (m, n); in the store, if the matrix is in one."""
        family = self.family
        return family.crosses(x_test, [(self._arch, self._kind)], progress, cancelled)[0]

    def _attach(self, family: GramFamily, arch: Architecture, kind: Single) -> None:
        self.family, self._arch, self._kind = family, arch, kind


class Cross(Tiled):
    """The kernel of test images (rows) with the images of a Gram matrix (columns)."""

    __slots__ = ()


class GramFamily(Sequence[Any]):
    """The Gram matrices of several architectures, computed in one pass: in order, of kind "both" as (nngp, ntk)."""

    def __init__(self, archs: Sequence[Architecture], task: _Task, store: str | Path | None) -> None:
        self._task = task
        self._path = Path(store).expanduser() if store is not None else None
        self._store: Store | None = None
        self._images = Images()
        self._order = [arch.key for arch in archs]
        self.places = [Place(0, 0, np.dtype(task.dtype), True, name=name) for name in task.names]
        self._grams: dict[tuple[str, Single], Gram] = {}
        places = iter(self.places)
        for arch in task.archs:
            for kind in task.kinds:
                gram = Gram(next(places))
                gram._attach(self, arch, kind)
                self._grams[arch.key, kind] = gram

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return self._entry(lambda key, kind: self._grams[key, kind], self._order[index])

    def extend(
        self, x_more: ArrayLike, *, progress: Progress | None = None, cancelled: Cancelled | None = None
    ) -> GramFamily:
        """Append images to all matrices in one pass; only the blocks that are new are computed."""
        part = _checked_images(x_more, self._task.image_shape)
        images = self._images.with_more(part)
        if self._store is None and not self._fits(len(images)):
            self._move_to_disk(images)
        if self._store is None:
            self._extend_in_memory(images, progress, cancelled)
        else:
            self._extend_on_disk(images, progress, cancelled)
        self._images = images
        for place in self.places:
            place.rows = place.columns = len(images)
        return self

    def against(
        self, x_test: ArrayLike, *, progress: Progress | None = None, cancelled: Cancelled | None = None
    ) -> list[Any]:
        """Return the kernels of other images with these in one pass, as this sequence has its matrices."""
        task = self._task
        wanted = [(arch, kind) for arch in task.archs for kind in task.kinds]
        found = self.crosses(x_test, wanted, progress, cancelled)
        named = {(arch.key, kind): cross for (arch, kind), cross in zip(wanted, found, strict=True)}
        return [self._entry(lambda key, kind: named[key, kind], key) for key in self._order]

    def crosses(
        self,
        x_test: ArrayLike,
        wanted: Sequence[tuple[Architecture, Single]],
        progress: Progress | None,
        cancelled: Cancelled | None,
    ) -> list[Cross]:
        """Return the kernels of other images with these for some architectures and kinds."""
        old = self._task
        test = Images().with_more(_checked_images(x_test, old.image_shape))
        self._images.check()
        archs = list({arch.key: arch for arch, _ in wanted}.values())
        kinds = {kind for _, kind in wanted}
        kind: exact.Kind = "both" if len(kinds) == 2 else kinds.pop()
        task = _task(archs, kind, old.backend, old.dtype, old.devices, old.image_shape, old.budget)
        m, n = len(test), len(self._images)
        dtype = np.dtype(task.dtype)
        nbytes = m * n * dtype.itemsize * len(task.names)
        store = self._store
        if store is None and self._bytes(n) + nbytes > task.budget:
            # The Gram matrix fits, the test block does not.
            store = self._temporary_store(self._images.parts[0].dtype.name, test)
        prefix = f"test-{hash_of_all(test.hashes)}-" if store is not None else ""
        places = [Place(m, n, dtype, False, store=store, name=prefix + name) for name in task.names]
        filler = _Filler(task, test, self._images, False, progress, cancelled)
        if store is None:
            for place in places:
                place.full = np.empty((m, n), dtype=dtype)
            filler.in_memory(places, 0, task.work.side_in_memory(nbytes, task.budget))
        else:
            filler.on_disk(places, store, _block_side(task, store.tile))
        return [Cross(place) for place in places]

    def _entry(self, find: Callable[[str, Single], Any], key: str) -> Any:
        kinds = self._task.kinds
        return tuple(find(key, kind) for kind in kinds) if len(kinds) == 2 else find(key, kinds[0])

    def _bytes(self, n: int) -> int:
        return n * n * np.dtype(self._task.dtype).itemsize * len(self.places)

    def _fits(self, n: int) -> bool:
        return self._path is None and self._bytes(n) + FREE_BYTES <= self._task.budget

    def _extend_in_memory(self, images: Images, progress: Progress | None, cancelled: Cancelled | None) -> None:
        n, task = len(images), self._task
        for place in self.places:
            _uninterrupted(functools.partial(_make_room, place, n))
        filler = _Filler(task, images, images, True, progress, cancelled)
        side = task.work.side_in_memory(self._bytes(n), task.budget - self._bytes(n))
        filler.in_memory(self.places, len(self._images), side)

    def _extend_on_disk(self, images: Images, progress: Progress | None, cancelled: Cancelled | None) -> None:
        assert self._store is not None
        self._store.check_images(images.hashes)
        filler = _Filler(self._task, images, images, True, progress, cancelled)
        filler.on_disk(self.places, self._store, _block_side(self._task, self._store.tile))

    def open_store(self, image_dtype: str, images: int) -> None:
        """Use the folder that was asked for."""
        assert self._path is not None
        tile = self._task.work.side_on_disk(images)
        self._use(Store(self._path, self._task.identity(image_dtype), tile))

    def _use(self, store: Store) -> None:
        self._store = store
        for place in self.places:
            place.store = store

    def _temporary_store(self, image_dtype: str, images: Images) -> Store:
        with disk_errors(Path(tempfile.gettempdir())):
            folder = tempfile.mkdtemp(prefix="nas-cntk-gram-")
        tile = self._task.work.side_on_disk(len(images))
        store = Store(Path(folder), self._task.identity(image_dtype), tile)
        weakref.finalize(store, shutil.rmtree, folder, ignore_errors=True)
        return store

    def _move_to_disk(self, images: Images) -> None:
        store = self._temporary_store(images.parts[0].dtype.name, images)
        n = len(self._images)
        if n:
            with store.writing(self._bytes(n) // 2):
                store.add_images(self._images.hashes)
                for place in self.places:
                    assert place.full is not None
                    store.grow(place.name, (n, n), place.dtype)
                    on_disk = Place(n, n, place.dtype, True, store=store, name=place.name)
                    for i, j, (top, bottom), (left, right) in on_disk.grid():
                        store.write(place.name, i, j, place.full[top:bottom, left:right])
                    place.full = None
        self._use(store)


@overload
def gram(
    arch: Architecture,
    x: ArrayLike,
    *,
    store: str | Path | None = None,
    memory: int | float | str | None = None,
    kind: Literal["both"],
    backend: str = "auto",
    dtype: str = "float32",
    devices: Sequence[int] | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> tuple[Gram, Gram]: ...


@overload
def gram(
    arch: Architecture,
    x: ArrayLike,
    *,
    store: str | Path | None = None,
    memory: int | float | str | None = None,
    kind: Single = "ntk",
    backend: str = "auto",
    dtype: str = "float32",
    devices: Sequence[int] | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Gram: ...


def gram(
    arch: Architecture,
    x: ArrayLike,
    *,
    store: str | Path | None = None,
    memory: int | float | str | None = None,
    kind: exact.Kind = "ntk",
    backend: str = "auto",
    dtype: str = "float32",
    devices: Sequence[int] | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> Gram | tuple[Gram, Gram]:
    """Return the Gram matrix of images, which can be extended, and resumed where it is on disk.

    Backend, dtype, devices and cancelled are those of `nas_cntk.kernel`.

    Args:
        x: images, shape (n, h, w, c), standardised by the caller; kept by reference.
        store: a folder for the tiles. One that holds this matrix already, or a part of it, or that of the first of
            these images, is completed; one that holds anything else is refused. Without it the matrix is in memory
            if the budget allows, else in a temporary folder that goes when the matrix does.
        memory: what matrix and computation may take, in bytes or such as "2GiB"; by default half of what is
            available. Of a matrix on disk only the computation counts.
        kind: that of `nas_cntk.kernel`; "both" gives a pair (nngp, ntk).
        progress: called with the fraction of the matrix that is done, a resumed one not from 0 on; see `meter`.

    Raises:
        KernelError: on images or an architecture as `nas_cntk.kernel` does; on a store that holds something else,
            cannot be written, or has no room. What was computed is kept.
        UsageError: if memory is no budget.
    """
    family = gram_family(
        [arch],
        x,
        store=store,
        memory=memory,
        kind=kind,
        backend=backend,
        dtype=dtype,
        devices=devices,
        progress=progress,
        cancelled=cancelled,
    )
    return cast("Gram | tuple[Gram, Gram]", family[0])


def gram_family(
    archs: Sequence[Architecture],
    x: ArrayLike,
    *,
    store: str | Path | None = None,
    memory: int | float | str | None = None,
    kind: exact.Kind = "ntk",
    backend: str = "auto",
    dtype: str = "float32",
    devices: Sequence[int] | None = None,
    progress: Progress | None = None,
    cancelled: Cancelled | None = None,
) -> GramFamily:
    """Return the Gram matrices of several architectures, computed in one pass; arguments are those of `gram`."""
    if not archs:
        raise UsageError("a family needs one architecture at least")
    if kind not in exact.KINDS:
        raise UsageError(f'kind must be "ntk", "nngp" or "both", got {kind!r}')
    if dtype not in exact.DTYPES:
        raise UsageError(f'dtype must be "float32" or "float64", got {dtype!r}')
    images = _checked_images(x, None)
    shape = images.shape[1:]
    for arch in archs:
        arch.check(shape)
    distinct = list({arch.key: arch for arch in archs}.values())
    name = exact.resolve_backend(backend, devices)
    task = _task(distinct, kind, name, dtype, tuple(devices) if devices else None, shape, parse_memory(memory))
    family = GramFamily(archs, task, store)
    if store is not None:
        family.open_store(images.dtype.name, len(images))
    return family.extend(images, progress=progress, cancelled=cancelled)


def meter(entry_layers: float, stream: TextIO | None = None) -> Progress:
    """Return a progress callback that keeps one line up to date: percent, rate, remaining time.

    Args:
        entry_layers: of the whole matrix, `cost.entry_layers(arch, image_shape, pairs)`.
        stream: by default stderr; the line is rewritten with a carriage return, at most five times a second.
    """
    out = sys.stderr if stream is None else stream
    began, first, last = 0.0, 0.0, 0.0

    def show(fraction: float) -> None:
        nonlocal began, first, last
        now = time.monotonic()
        if not began:
            began, first = now, fraction
        if fraction < 1 and now - last < 0.2:
            return
        last = now
        done, spent = fraction - first, now - began
        text = f"\r{100 * fraction:5.1f} %"
        if done > 0 and spent > 0:
            left = spent * (1 - fraction) / done
            text += f"  {entry_layers * done / spent:.2e} entry-layers/s  {left:7.0f} s left "
        out.write(text + ("\n" if fraction >= 1 else ""))
        out.flush()

    return show


def _task(
    archs: Sequence[Architecture],
    kind: exact.Kind,
    backend: str,
    dtype: str,
    devices: tuple[int, ...] | None,
    image_shape: tuple[int, ...],
    budget: int,
) -> _Task:
    work = Work(archs, image_shape, kind, np.dtype(dtype).itemsize)
    return _Task(tuple(archs), kind, backend, dtype, devices, image_shape, budget, work)


def _block_side(task: _Task, tile: int) -> int:
    # Beside the block there are a tile or two of every matrix, on their way to the disk.
    itemsize = np.dtype(task.dtype).itemsize
    room = task.budget - 3 * tile * tile * itemsize * len(task.names)
    return task.work.side(max(room, task.budget // 8), tile)


def _checked_images(x: ArrayLike, image_shape: tuple[int, ...] | None) -> NDArray[np.floating]:
    images = exact.checked_images("x", x)
    if image_shape is not None and images.shape[1:] != image_shape:
        raise KernelError(f"these images have shape {images.shape[1:]}, those before {image_shape}; they must be equal")
    return images


@dataclass(slots=True)
class _Piece:
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


class _Filler:
    """Computes what is missing of some matrices, one tile after the other."""

    def __init__(
        self,
        task: _Task,
        left: Images,
        right: Images,
        symmetric: bool,
        progress: Progress | None,
        cancelled: Cancelled | None,
    ) -> None:
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
                    pieces.append(_Piece(i, j, r, c, 0, self.symmetric and r == c))
        self._start(pieces)
        for piece in pieces:
            (top, bottom), (left, right) = piece.rows, piece.columns
            for place, block in zip(places, self._compute(piece, side), strict=True):
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
                pieces.append(_Piece(i, j, rows, columns, have, diagonal))
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
            for piece in pieces:
                blocks = self._compute(piece, side)
                for place, block in zip(places, blocks, strict=True):
                    store.write(place.name, piece.i, piece.j, self._with_old(store, place, piece, block))

    def _with_old(self, store: Store, place: Place, piece: _Piece, block: Matrix) -> Matrix:
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

    def _start(self, pieces: Sequence[_Piece]) -> None:
        self.done = self.total - sum(piece.pairs for piece in pieces)
        if self.progress is not None:
            self.progress(self.done / self.total)

    def _poll(self) -> None:
        if self.cancelled is not None and self.cancelled():
            raise KeyboardInterrupt

    def _compute(self, piece: _Piece, side: int) -> list[Matrix]:
        # All rows by the missing columns, one matrix a name, in blocks of at most side x side pairs.
        (top, bottom), (left, right) = piece.rows, (piece.columns[0] + piece.have, piece.columns[1])
        dtype = np.dtype(self.task.dtype)
        out = [np.empty((bottom - top, right - left), dtype=dtype) for _ in self.task.names]
        columns = _cut(left, right, side)
        rows = [*_cut(top, left, side), *columns] if piece.diagonal else _cut(top, bottom, side)
        for c in columns:
            x2 = self.right.take(*c)
            for r in rows:
                if piece.diagonal and r[0] > c[0]:
                    continue
                same = piece.diagonal and r == c
                height = r[1] - r[0]
                pairs = height * (height + 1) // 2 if same else height * (c[1] - c[0])
                x1 = x2 if same else self.left.take(*r)
                blocks = self.task.kernels(x1, None if same else x2, self._part(pairs), self.cancelled)
                for matrix, block in zip(out, blocks, strict=True):
                    matrix[r[0] - top : r[1] - top, c[0] - left : c[1] - left] = block
                    if piece.diagonal and not same and r[0] >= left:
                        matrix[c[0] - top : c[1] - top, r[0] - left : r[1] - left] = block.T
                self.done += pairs
                if self.progress is not None:
                    self.progress(self.done / self.total)
        return out

    def _part(self, pairs: int) -> Progress | None:
        progress, done, total = self.progress, self.done, self.total
        if progress is None:
            return None
        return lambda fraction: progress((done + fraction * pairs) / total)


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


def _make_room(place: Place, n: int) -> None:
    """Make the array of a symmetric matrix n x n or larger, the old entries in place: without a copy if nobody looks.

    NumPy refuses to resize an array that is seen from elsewhere (a view that `np.asarray` gave); then it is copied.
    """
    full, place.full = place.full, None
    stride = 0 if full is None else full.shape[1]
    try:
        if full is None:
            full = np.empty((n, n), dtype=place.dtype)
        elif stride < n:
            try:
                full.resize((n, n))
            except ValueError:
                copy = np.empty((n, n), dtype=place.dtype)
                copy[: place.rows, : place.rows] = full[: place.rows, : place.rows]
                full = copy
            else:
                flat, old = full.reshape(-1), place.rows
                for row in range(old - 1, 0, -1):  # backwards: each moves to where the rows after it were
                    flat[row * n : row * n + old] = flat[row * stride : row * stride + old]
    except MemoryError:
        raise KernelError(f"not enough memory for a matrix of {n} x {n}; give a store, or a smaller budget") from None
    finally:
        place.full = full


def _uninterrupted(work: Callable[[], None]) -> None:
    # In a thread, where Ctrl-C cannot stop it half-way; an interruption is raised when it is done.
    failed: list[BaseException] = []
    interrupted: KeyboardInterrupt | None = None

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="nas-cntk-resize")
    thread.start()
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt as error:
            interrupted = error
    if failed:
        raise failed[0]
    if interrupted is not None:
        raise interrupted
