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
from pathlib import Path
from typing import Any, Literal, TextIO, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas_cntk.architecture import Architecture
from nas_cntk.errors import KernelError, UsageError
from nas_cntk.kernels import exact
from nas_cntk.kernels.budget import parse_memory
from nas_cntk.kernels.filling import Cancelled, Engine, Filler, Progress, Single, Task, block_side, task_of
from nas_cntk.kernels.images import Images, hash_of_all
from nas_cntk.kernels.store import Store, disk_errors
from nas_cntk.kernels.tiles import Place, Tiled

FREE_BYTES = 64 * 2**20  # what a budget leaves for the rest of the program


def gpus_of(backend: str, devices: tuple[int, ...] | None, engine: Engine | None) -> tuple[int, ...]:
    """Return the numbers of this machine's GPUs that compute a matrix; none of another backend, or of a cluster."""
    return (devices or (0,)) if backend == "cuda" and engine is None else ()


class Gram(Tiled):
    """The kernel of a sequence of images with itself; NumPy reads it, see `Tiled`."""

    __slots__ = ("_arch", "_kind", "family", "gpus")

    family: GramFamily
    """The matrices computed in the same pass."""

    gpus: tuple[int, ...]
    """Numbers of the GPUs that compute it; none of another backend, or of a cluster."""

    def __init__(self, place: Place, gpus: tuple[int, ...] = ()) -> None:
        super().__init__(place)
        self.gpus = gpus

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

    def __init__(
        self, archs: Sequence[Architecture], task: Task, store: str | Path | None, engine: Engine | None
    ) -> None:
        self._task, self._engine = task, engine
        self._path = Path(store).expanduser() if store is not None else None
        self._store: Store | None = None
        self._images = Images()
        self._order = [arch.key for arch in archs]
        self.places = [Place(0, 0, np.dtype(task.dtype), True, name=name) for name in task.names]
        self._grams: dict[tuple[str, Single], Gram] = {}
        places = iter(self.places)
        gpus = gpus_of(task.backend, task.devices, engine)
        for arch in task.archs:
            for kind in task.kinds:
                gram = Gram(next(places), gpus)
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
        task = task_of(archs, kind, old.backend, old.dtype, old.devices, old.image_shape, old.budget)
        m, n = len(test), len(self._images)
        dtype = np.dtype(task.dtype)
        nbytes = m * n * dtype.itemsize * len(task.names)
        store = self._store
        if store is None and self._bytes(n) + nbytes > task.budget:
            # The Gram matrix fits, the test block does not.
            store = self._temporary_store(self._images.parts[0].dtype.name, test)
        prefix = f"test-{hash_of_all(test.hashes)}-" if store is not None else ""
        places = [Place(m, n, dtype, False, store=store, name=prefix + name) for name in task.names]
        filler = Filler(task, test, self._images, False, progress, cancelled, self._engine)
        if store is None:
            for place in places:
                place.full = np.empty((m, n), dtype=dtype)
            filler.in_memory(places, 0, self._side(task.work.side_in_memory(nbytes, task.budget)))
        else:
            filler.on_disk(places, store, block_side(task, store.tile))
        return [Cross(place) for place in places]

    def _entry(self, find: Callable[[str, Single], Any], key: str) -> Any:
        kinds = self._task.kinds
        return tuple(find(key, kind) for kind in kinds) if len(kinds) == 2 else find(key, kinds[0])

    def _side(self, side: int) -> int:
        return side if self._engine is None else min(side, self._engine.side)

    def _bytes(self, n: int) -> int:
        return n * n * np.dtype(self._task.dtype).itemsize * len(self.places)

    def _fits(self, n: int) -> bool:
        return self._path is None and self._bytes(n) + FREE_BYTES <= self._task.budget

    def _extend_in_memory(self, images: Images, progress: Progress | None, cancelled: Cancelled | None) -> None:
        n, task = len(images), self._task
        for place in self.places:
            _uninterrupted(functools.partial(_make_room, place, n))
        filler = Filler(task, images, images, True, progress, cancelled, self._engine)
        side = task.work.side_in_memory(self._bytes(n), task.budget - self._bytes(n))
        filler.in_memory(self.places, len(self._images), self._side(side))

    def _extend_on_disk(self, images: Images, progress: Progress | None, cancelled: Cancelled | None) -> None:
        assert self._store is not None
        self._store.check_images(images.hashes)
        filler = Filler(self._task, images, images, True, progress, cancelled, self._engine)
        filler.on_disk(self.places, self._store, block_side(self._task, self._store.tile))

    def open_store(self, image_dtype: str, images: int) -> None:
        """Use the folder that was asked for."""
        assert self._path is not None
        tile = self._task.work.side_on_disk(images)
        if self._engine is not None:
            tile = self._engine.side_on_disk(images, tile)
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
    engine: Engine | None = None,
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
    engine: Engine | None = None,
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
    engine: Engine | None = None,
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
        engine: who computes the tiles, such as `nas_cntk.cluster.Tiles`; this process if None.
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
        engine=engine,
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
    engine: Engine | None = None,
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
    task = task_of(distinct, kind, name, dtype, tuple(devices) if devices else None, shape, parse_memory(memory))
    family = GramFamily(archs, task, store, engine)
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


def _checked_images(x: ArrayLike, image_shape: tuple[int, ...] | None) -> NDArray[np.floating]:
    images = exact.checked_images("x", x)
    if image_shape is not None and images.shape[1:] != image_shape:
        raise KernelError(f"these images have shape {images.shape[1:]}, those before {image_shape}; they must be equal")
    return images


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
