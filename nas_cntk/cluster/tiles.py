"""The tiles of a kernel as tasks of a cluster: one a tile, images sent once to whoever needs them.

A worker that is lost costs the tiles that it had: Dask gives them to another, and what only it held of the images is
sent again. Which worker computes a tile changes no bit of it, as long as all use one instruction set.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.cluster.products import Products, see
from nas_cntk.errors import KernelError, NasCntkError
from nas_cntk.kernels.filling import Cancelled, Folder, Piece, Task, computed
from nas_cntk.kernels.images import Images
from nas_cntk.kernels.tiles import Matrix, Range, Tiled

if TYPE_CHECKING:
    from distributed import Client, Future

SIDE = 256  # of the tiles of a matrix in memory
LEAST_SIDE = 256  # of tiles on disk
TILES = 8  # on disk, that each thread of the cluster should have at least
AHEAD = 3  # tiles under way for each thread of the cluster
ATTEMPTS = 5  # at a tile whose workers die
PATIENCE = 60.0  # seconds without a worker that takes images
POLL = 0.5  # seconds between looks at whether to stop

_Packed = list[tuple[bytes, tuple[int, ...], str]]


@dataclass(frozen=True, slots=True)
class Tiles:
    """An engine for `nas_cntk.gram`: the tiles are computed by the workers of a Dask cluster.

    Workers write the tiles of a matrix on disk themselves if all of them see that disk; else the tiles come here.
    """

    client: Client
    side: int = SIDE

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
        """Yield every piece with its matrices (None if its worker wrote them), in the order in which they are finished.

        Raises:
            KernelError: if the kernel cannot be computed, or the workers of a tile die again and again.
            KeyboardInterrupt: if cancelled; what is under way is given up.
        """
        run = _Run(self.client, task, {"left": left, "right": right}, side, folder if self._write(folder) else None)
        try:
            yield from run.all(pieces, cancelled)
        finally:
            run.give_up()

    def side_on_disk(self, images: int, most: int) -> int:
        """Return a side of tiles on disk of which every thread of the cluster has some."""
        return side_for(images, sum(self.client.nthreads().values()), most)

    @contextmanager
    def products(self, matrix: Tiled) -> Iterator[Products | None]:
        """Give products with a Gram matrix on disk by the workers, None if one of them does not see that disk."""
        path = matrix.path
        if path is None or not see(self.client, path):
            yield None
            return
        products = Products(self.client, matrix)
        try:
            yield products
        finally:
            products.release()

    def _write(self, folder: Folder | None) -> bool:
        """Return whether all workers see, and may write to, the disk that a folder is on."""
        if folder is None:
            return False
        mark = folder.path / f"{uuid.uuid4().hex}.partial"  # a name of which this folder's other copies know nothing
        mark.touch()
        try:
            seen = self.client.run(_may_write, str(mark.absolute())).values()
            return bool(seen) and all(seen)  # of workers that are still to come nobody knows
        finally:
            mark.unlink()


def side_for(images: int, threads: int, most: int) -> int:
    """Return the largest side of which there are `TILES` tiles a thread, but not less than `LEAST_SIDE`."""
    side = most
    while side // 2 >= LEAST_SIDE and (images / side) ** 2 / 2 < TILES * threads:
        side //= 2
    return side


def _may_write(mark: str) -> bool:
    return Path(mark).exists() and os.access(Path(mark).parent, os.W_OK)


class _Run:
    """One matrix under way."""

    def __init__(self, client: Client, task: Task, images: dict[str, Images], side: int, folder: Folder | None) -> None:
        self.client, self.task, self.images, self.side = client, task, images, side
        self.folder = None if folder is None else replace(folder, path=folder.path.absolute())
        self.blocks: dict[tuple[str, Range], Future[Any]] = {}
        self.pending: dict[Future[Any], tuple[Piece, int, str]] = {}  # how often it was tried, and by whom
        self.workers: dict[str, int] = {}  # threads, by address
        self.looked = -math.inf  # when
        self.alive = time.monotonic()  # when there was one

    def all(self, pieces: Sequence[Piece], cancelled: Cancelled | None) -> Iterator[tuple[Piece, list[Matrix] | None]]:
        from distributed import CancelledError, wait
        from distributed import TimeoutError as NotYet

        queues = Queues(pieces, list(self._workers()))
        while queues or self.pending:
            if cancelled is not None and cancelled():
                raise KeyboardInterrupt
            under_way = Counter(address for _, _, address in self.pending.values())
            for address, threads in self._workers().items():
                while under_way[address] < AHEAD * threads and queues:
                    self._submit(queues.take(address), 1, address)
                    under_way[address] += 1
            try:
                if self.pending:
                    wait(list(self.pending), timeout=POLL, return_when="FIRST_COMPLETED")
                else:
                    time.sleep(POLL)
            except NotYet:
                continue
            except CancelledError:
                pass  # of tiles whose images died with a worker
            for future in [one for one in self.pending if one.status in ("finished", "error", "cancelled")]:
                piece, tried, address = self.pending.pop(future)
                if future.status == "finished":
                    packed = self._gathered(future)
                    if packed is not None:
                        yield piece, [_unpacked(one) for one in packed] or None
                        continue
                self._again(future, piece, tried, address)

    def _gathered(self, future: Future[Any]) -> _Packed | None:
        # Its worker may have died after it was finished.
        from distributed import CancelledError

        try:
            found: _Packed = future.result(timeout=60)
        except (CancelledError, OSError, TimeoutError, KeyError):
            return None
        return found

    def _again(self, future: Future[Any], piece: Piece, tried: int, address: str) -> None:
        """Submit a tile once more, unless it is the tile's own fault."""
        from distributed import KilledWorker

        error = future.exception(timeout=60) if future.status == "error" else None
        if isinstance(error, NasCntkError):
            raise error
        if error is not None and not isinstance(error, (KilledWorker, OSError)):
            raise KernelError(f"a worker failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
        if tried == ATTEMPTS:
            raise KernelError(f"the workers of one tile died {tried} times; have they enough memory?")
        for name, where in self._needs(piece):
            self.blocks.pop((name, where), None)  # only a dead worker may have held it
        self._submit(piece, tried + 1, address)

    def _submit(self, piece: Piece, tried: int, address: str) -> None:
        needed = [self._block(name, where) for name, where in self._needs(piece)]
        future = self.client.submit(
            _tile,
            self.task,
            needed[0],
            needed[-1],
            piece,
            self.side,
            None if piece.have else self.folder,
            workers=[address],
            allow_other_workers=True,  # where that one dies, or others have nothing to do
            pure=False,
        )
        self.pending[future] = piece, tried, address

    def _needs(self, piece: Piece) -> list[tuple[str, Range]]:
        if piece.diagonal:
            return [("left", piece.rows)]
        return [("left", piece.rows), ("right" if self._two else "left", piece.columns)]

    @property
    def _two(self) -> bool:
        return self.images["left"] is not self.images["right"]

    def _block(self, name: str, where: Range) -> Future[Any]:
        """Return a block of images that is on the cluster, sent there at first use."""
        key = name, where
        known = self.blocks.get(key)
        if known is None or known.status in ("lost", "cancelled"):
            self.blocks[key] = known = self._sent(np.ascontiguousarray(self.images[name].take(*where)))
        return known

    def _sent(self, block: NDArray[np.floating]) -> Future[Any]:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                found: Future[Any] = self.client.scatter(block, hash=False)
                return found
            except (OSError, TimeoutError) as error:  # the worker that was to have it died, or there is none
                if time.monotonic() > deadline:
                    raise KernelError(
                        f"no worker of the cluster takes images: {' '.join(str(error).split())}"
                    ) from None
                time.sleep(POLL)

    def _workers(self) -> dict[str, int]:
        """Return who is there, with their threads; asked anew now and then."""
        now = time.monotonic()
        if now - self.looked > POLL or not self.workers:
            self.workers, self.looked = self.client.nthreads(), now
        if self.workers:
            self.alive = now
        elif now - self.alive > PATIENCE:
            raise KernelError("the cluster has no workers any more; start some")
        return self.workers

    def give_up(self) -> None:
        """Forget what is under way."""
        self.client.cancel(list(self.pending), force=True)
        self.pending.clear()
        self.blocks.clear()


class Queues:
    """Which pieces are next for whom: each worker has squares of its own, so that it needs few images.

    Of m pieces in all and w workers, one needs about 2 sqrt(m / w) blocks of images, not one or two a piece. Who has
    nothing left takes half of what another has, from its end.
    """

    def __init__(self, pieces: Sequence[Piece], workers: Sequence[str]) -> None:
        count = max(1, len(workers))
        side = max(1, round(math.sqrt(len(pieces) / count)))
        ordered = sorted(pieces, key=lambda piece: (piece.i // side, piece.j // side, piece.i, piece.j))
        self._queues: dict[str, deque[Piece]] = {
            name: deque(ordered[k * len(ordered) // count : (k + 1) * len(ordered) // count])
            for k, name in enumerate(workers or [""])
        }

    def __bool__(self) -> bool:
        return any(self._queues.values())

    def take(self, worker: str) -> Piece:
        """Return what is next for a worker; there must be something."""
        own = self._queues.setdefault(worker, deque())
        if not own:
            rich = max(self._queues.values(), key=len)
            for _ in range(-(-len(rich) // 2)):
                own.appendleft(rich.pop())
        return own.popleft()


def _tile(
    task: Task,
    rows: NDArray[np.floating],
    columns: NDArray[np.floating],
    piece: Piece,
    side: int,
    folder: Folder | None,
) -> _Packed:
    """Compute a tile on a worker, and return it compressed; nothing, if it is written here."""
    found = computed(task, rows, columns, piece.have, piece.diagonal, side)
    if folder is None:
        return [_packed(one) for one in found]
    folder.write(piece.i, piece.j, found)
    return []


def _packed(matrix: Matrix) -> tuple[bytes, tuple[int, ...], str]:
    return _codec().encode(np.ascontiguousarray(matrix)), matrix.shape, matrix.dtype.str


def _unpacked(packed: tuple[bytes, tuple[int, ...], str]) -> Matrix:
    data, shape, dtype = packed
    matrix: Matrix = np.frombuffer(_codec().decode(data), dtype=dtype).reshape(shape)
    return matrix


def _codec() -> Any:
    # Neighbouring entries have equal signs and exponents: by bits, a quarter of the bytes is saved.
    from numcodecs import Blosc

    return Blosc(cname="zstd", clevel=1, shuffle=Blosc.BITSHUFFLE)
