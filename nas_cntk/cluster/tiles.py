"""The tiles of a kernel as tasks of a cluster: one a tile, images sent once to whoever needs them.

A worker that is lost costs the tiles that it had: Dask gives them to another, and what only it held of the images is
sent again. Which worker computes a tile changes no bit of it, as long as all use one instruction set.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.cluster.products import Products
from nas_cntk.errors import KernelError, NasCntkError
from nas_cntk.kernels.filling import Cancelled, Piece, Task, computed
from nas_cntk.kernels.images import Images
from nas_cntk.kernels.tiles import Matrix, Range, Tiled

if TYPE_CHECKING:
    from distributed import Client, Future

SIDE = 256  # of the tiles of a matrix in memory
AHEAD = 3  # tiles under way for each thread of the cluster
ATTEMPTS = 5  # at a tile whose workers die
PATIENCE = 60.0  # seconds without a worker that takes images
POLL = 0.5  # seconds between looks at whether to stop

_Packed = list[tuple[bytes, tuple[int, ...], str]]


@dataclass(frozen=True, slots=True)
class Tiles:
    """An engine for `nas_cntk.gram`: the tiles are computed by the workers of a Dask cluster."""

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
    ) -> Iterator[tuple[Piece, list[Matrix]]]:
        """Yield every piece with its matrices, in the order in which they are finished.

        Raises:
            KernelError: if the kernel cannot be computed, or the workers of a tile die again and again.
            KeyboardInterrupt: if cancelled; what is under way is given up.
        """
        run = _Run(self.client, task, {"left": left, "right": right}, side)
        try:
            yield from run.all(_squares(pieces), cancelled)
        finally:
            run.give_up()

    def products(self, matrix: Tiled) -> Products | None:
        """Return products with a Gram matrix on disk by the workers, None if one of them does not see that disk."""
        path = matrix.path
        if path is None or not all(self.client.run(_sees, str(path.absolute())).values()):
            return None
        return Products(self.client, matrix)


def _sees(path: str) -> bool:
    return (Path(path) / "zarr.json").exists()


class _Run:
    """One matrix under way."""

    def __init__(self, client: Client, task: Task, images: dict[str, Images], side: int) -> None:
        self.client, self.task, self.images, self.side = client, task, images, side
        self.blocks: dict[tuple[str, Range], Future[Any]] = {}
        self.pending: dict[Future[Any], tuple[Piece, int]] = {}  # and how often it was tried

    def all(self, pieces: Sequence[Piece], cancelled: Cancelled | None) -> Iterator[tuple[Piece, list[Matrix]]]:
        from distributed import CancelledError, wait
        from distributed import TimeoutError as NotYet

        waiting = list(reversed(pieces))
        while waiting or self.pending:
            if cancelled is not None and cancelled():
                raise KeyboardInterrupt
            while waiting and len(self.pending) < AHEAD * max(1, self._threads()):
                self._submit(waiting.pop(), 1)
            try:
                wait(list(self.pending), timeout=POLL, return_when="FIRST_COMPLETED")
            except NotYet:
                continue
            except CancelledError:
                pass  # of tiles whose images died with a worker
            for future in [one for one in self.pending if one.status in ("finished", "error", "cancelled")]:
                piece, tried = self.pending.pop(future)
                if future.status == "finished":
                    packed = self._gathered(future)
                    if packed is not None:
                        yield piece, [_unpacked(one) for one in packed]
                        continue
                self._again(future, piece, tried)

    def _gathered(self, future: Future[Any]) -> _Packed | None:
        # Its worker may have died after it was finished.
        from distributed import CancelledError

        try:
            found: _Packed = future.result(timeout=60)
        except (CancelledError, OSError, TimeoutError, KeyError):
            return None
        return found

    def _again(self, future: Future[Any], piece: Piece, tried: int) -> None:
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
        self._submit(piece, tried + 1)

    def _submit(self, piece: Piece, tried: int) -> None:
        needed = [self._block(name, where) for name, where in self._needs(piece)]
        future = self.client.submit(
            _tile,
            self.task,
            needed[0],
            needed[-1],
            piece.have,
            piece.diagonal,
            self.side,
            pure=False,
        )
        self.pending[future] = piece, tried

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

    def _threads(self) -> int:
        return sum(self.client.nthreads().values())

    def give_up(self) -> None:
        """Forget what is under way."""
        self.client.cancel(list(self.pending), force=True)
        self.pending.clear()
        self.blocks.clear()


def _squares(pieces: Sequence[Piece], side: int = 8) -> list[Piece]:
    """Return the pieces in squares of side x side tiles, so that tiles of one time share their images."""
    return sorted(pieces, key=lambda piece: (piece.i // side, piece.j // side, piece.i, piece.j))


def _tile(
    task: Task, rows: NDArray[np.floating], columns: NDArray[np.floating], have: int, diagonal: bool, side: int
) -> _Packed:
    """Compute a tile on a worker, and return it compressed."""
    return [_packed(one) for one in computed(task, rows, columns, have, diagonal, side)]


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
