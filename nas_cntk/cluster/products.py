"""Products with a Gram matrix by the workers of a cluster: each has its share of the tiles, and n x c numbers travel.

A worker reads its tiles from the store, once if its memory holds them, else once a product. Those of a matrix in memory
are sent to it. When workers die or come, the shares move; a worker that gets a tile reads it.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.errors import KernelError, NasCntkError
from nas_cntk.kernels.products import (
    ArraySource,
    Blocks,
    Cancelled,
    Float,
    Part,
    Source,
    StoreSource,
    Tile,
    blocks_of,
    check_finite,
    grid,
    joined,
    source_of,
    stacked,
)
from nas_cntk.kernels.tiles import Index, Matrix, Tiled

if TYPE_CHECKING:
    from distributed import Client, Future

ATTEMPTS = 5  # at a share whose workers die
PATIENCE = 60.0  # seconds without any worker
POLL = 0.5  # seconds between looks at who is there
SHARE_OF_MEMORY = 0.4  # of a worker's, for tiles that stay


class Products:
    """Products with a symmetric matrix by the workers of a Dask cluster; what `nas_cntk.conjugate_gradients` asks for.

    Args:
        client: of `distributed`.
        matrix: a Gram matrix on a disk that all workers see; or one in memory, or an array, of which the tiles are
            sent to the workers and must fit into their memory.
        send: whether the tiles are sent, where the workers do not see the disk; by default only where there is none.
        memory: bytes of tiles that stay in a worker's memory; by default two fifths of what Dask allows it.
    """

    def __init__(
        self,
        client: Client,
        matrix: NDArray[Any] | Tiled,
        *,
        send: bool | None = None,
        memory: float | None = None,
    ) -> None:
        self.client, self.memory = client, memory
        self._source = source_of(matrix)
        self._send = isinstance(self._source, ArraySource) if send is None else send
        if not self._send:
            assert isinstance(self._source, StoreSource)
            if not see(client, self._source.path):
                raise KernelError(
                    f"not all workers see the store {self._source.path}; put it on a disk that all of them see, or send"
                    " the tiles to them (send=True)"
                )
        self._tiles = _squares(grid(self._source), max(1, len(client.nthreads())))
        self._shares: dict[str, list[Tile]] = {}  # by address of the worker
        self._there: dict[Tile, tuple[str, Future[Any]]] = {}  # which were sent, and to whom
        self._name = uuid.uuid4().hex

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._source.n, self._source.n

    @property
    def shares(self) -> dict[str, list[Tile]]:
        """Which tiles each worker multiplies, by its address."""
        return {address: list(tiles) for address, tiles in self._shares.items()}

    def diagonal(self) -> Float:
        """Return a copy of the diagonal, shape (n,); raises what `times` does."""
        found: Blocks = {}
        for part in self._all("diagonals", None, None):
            found.update(part)
        return stacked(found)[:, 0]

    def times(self, x: Float, cancelled: Cancelled | None = None) -> Float:
        """Return the product with x, shape (n, c).

        Raises:
            KernelError: if a tile is missing, damaged, or not to be seen by a worker, or workers die again and again.
            RegressionError: if a tile is not finite.
            KeyboardInterrupt: if cancelled; what is under way is given up.
        """
        product = {k: np.zeros_like(block) for k, block in blocks_of(x, self._source.side).items()}
        for part in self._all("products", x, cancelled):
            for k, block in part.items():
                product[k] += block
        return stacked(product)

    def columns(self, chosen: Index, cancelled: Cancelled | None = None) -> Matrix:
        """Return some columns, shape (n, m); raises what `times` does."""
        parts = itertools.chain.from_iterable(self._all("columns", chosen, cancelled))
        return joined(parts, self._source.n, self._source.side, len(chosen))

    def release(self) -> None:
        """Let the workers forget their tiles."""
        self._there.clear()
        self.client.run(_forget, self._name, on_error="ignore")

    def _all(self, what: str, given: Any, cancelled: Cancelled | None) -> list[Any]:
        """Return what every share gives, in an order that depends on nothing but who has which share."""
        from distributed import CancelledError, wait
        from distributed import TimeoutError as NotYet

        found: dict[tuple[Tile, ...], Any] = {}
        pending: dict[Future[Any], tuple[str, tuple[Tile, ...]]] = {}
        missing, tried = set(self._tiles), 0
        try:
            while missing or pending:
                if missing:
                    if tried == ATTEMPTS:
                        raise KernelError(f"workers were lost {tried} times in one product; have they enough memory?")
                    tried += 1
                    self._divide(cancelled)
                    sent = self._scattered(given) if what == "products" else given
                    wanted, missing = missing, set()
                    for address, share in self._shares.items():
                        tiles = tuple(one for one in share if one in wanted)
                        if not tiles:
                            continue
                        try:
                            pending[self._submit(what, address, tiles, sent)] = address, tiles
                        except _Lost:
                            missing.update(tiles)
                if cancelled is not None and cancelled():
                    raise KeyboardInterrupt
                try:
                    if pending:
                        wait(list(pending), timeout=POLL, return_when="FIRST_COMPLETED")
                    else:
                        time.sleep(POLL)  # until the scheduler knows who is lost
                except (NotYet, CancelledError):  # or its worker died, or what was sent died with another
                    pass
                there = None if any(future.done() for future in pending) else set(self.client.nthreads())
                for future in list(pending):
                    address, tiles = pending[future]
                    if future.status == "pending" and (there is None or address in there):
                        continue
                    del pending[future]
                    part = _result(future)
                    if part is None:
                        future.cancel()
                        missing.update(tiles)
                    else:
                        found[tiles] = part
        finally:
            if pending:
                self.client.cancel(list(pending), force=True)
        return [found[tiles] for tiles in sorted(found)]

    def _divide(self, cancelled: Cancelled | None) -> None:
        """Give every tile to a worker that is there, and move no more than that asks for."""
        deadline = time.monotonic() + PATIENCE
        while not (there := list(self.client.nthreads())):
            if time.monotonic() > deadline:
                raise KernelError("the cluster has no workers any more; start some")
            if cancelled is not None and cancelled():
                raise KeyboardInterrupt
            time.sleep(POLL)
        if set(there) == set(self._shares):
            return
        most = -(-len(self._tiles) // len(there))
        self._shares = {address: self._shares.get(address, [])[:most] for address in sorted(there)}
        taken = {tile for share in self._shares.values() for tile in share}
        free = [tile for tile in self._tiles if tile not in taken]
        for share in self._shares.values():
            count = most - len(share)
            share.extend(free[:count])
            del free[:count]
        assert not free
        self._there = {tile: one for tile, one in self._there.items() if one[0] in self._shares}

    def _scattered(self, x: Float) -> dict[int, Future[Any]]:
        """Return the block rows of x on the cluster, from where each worker fetches those that it needs."""
        blocks = blocks_of(x, self._source.side)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return dict(zip(blocks, self.client.scatter(list(blocks.values()), hash=False), strict=True))
            except (OSError, TimeoutError, KeyError, ValueError) as error:  # the worker that was to have them died
                if time.monotonic() > deadline:
                    raise KernelError(
                        f"no worker of the cluster takes data: {' '.join(str(error).split())[:200]}"
                    ) from None
                time.sleep(POLL)

    def _submit(self, what: str, address: str, tiles: tuple[Tile, ...], sent: Any) -> Future[Any]:
        if what == "products":
            needed = sorted({k for tile in tiles for k in tile})
            sent = needed, [sent[k] for k in needed]
        blocks = None
        if self._send:
            blocks = [self._tile_on(address, tile) for tile in tiles]
        future: Future[Any] = self.client.submit(
            _work,
            what,
            self._name,
            _Sent(self._source.n, self._source.side) if self._send else self._source,
            self.memory,
            tuple(self._shares[address]),
            tiles,
            blocks,
            sent,
            workers=[address],
            pure=False,
        )
        return future

    def _tile_on(self, address: str, tile: Tile) -> Future[Any]:
        """Return a tile that was sent to a worker, now or before."""
        known = self._there.get(tile)
        if known is None or known[0] != address or known[1].status != "finished":
            block = np.ascontiguousarray(self._source.tile(*tile))
            check_finite(block)
            try:
                there = self.client.scatter(block, workers=[address], hash=False)
            except (OSError, TimeoutError, KeyError, ValueError):
                raise _Lost from None
            self._there[tile] = known = address, there
        return known[1]


def see(client: Client, path: Path) -> bool:
    """Return whether all workers find at a path the store that is there on this machine."""
    digest = _digest(str(path.absolute()))
    found = client.run(_digest, str(path.absolute())).values()
    return digest is not None and len(found) > 0 and all(one == digest for one in found)


def _digest(path: str) -> str | None:
    # What was computed, and of which images.
    found = hashlib.blake2b(digest_size=16)
    try:
        found.update((Path(path) / "zarr.json").read_bytes())
        for file in sorted((Path(path) / "images").rglob("*")):
            found.update(file.read_bytes() if file.is_file() else b"")
    except OSError:
        return None
    return found.hexdigest()


class _Lost(Exception):
    """A worker takes nothing any more."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """What a worker knows of a matrix whose tiles are sent."""

    n: int
    side: int

    def tile(self, i: int, j: int) -> Matrix:
        raise AssertionError(f"tile ({i}, {j}) was not sent")


_parts: dict[str, tuple[str, Part]] = {}  # of this process, by the worker's address: the matrix it multiplied last


def _work(
    what: str,
    name: str,
    source: Source,
    memory: float | None,
    share: tuple[Tile, ...],
    tiles: tuple[Tile, ...],
    blocks: list[Matrix] | None,
    given: Any,
) -> Any:
    """Do a worker's part, on the worker."""
    from distributed import get_worker

    from nas_cntk.kernels.backends import cpu

    worker: Any = get_worker()
    if blocks is not None:
        part = Part(source, 0.0)
        part.kept = dict(zip(tiles, blocks, strict=True))
    else:
        if memory is None:
            limit = worker.memory_manager.memory_limit
            memory = SHARE_OF_MEMORY * limit if limit else math.inf
        known = _parts.get(worker.address)
        if known is None or known[0] != name:
            known = _parts[worker.address] = name, Part(source, memory)
        part = known[1]
        part.forget(share)
    if what == "diagonals":
        return part.diagonals(tiles)
    if what == "columns":
        return part.columns(tiles, given, cpu.threads())
    return part.products(tiles, dict(zip(*given, strict=True)), cpu.threads())


def _forget(name: str) -> None:
    for address, (known, _) in list(_parts.items()):
        if known == name:
            del _parts[address]


def _result(future: Future[Any]) -> Any:
    """Return what a worker found; None if the worker was lost."""
    from distributed import CancelledError, KilledWorker

    if future.status not in ("finished", "error"):
        return None
    try:
        return future.result(timeout=PATIENCE)
    except NasCntkError:
        raise
    except (KilledWorker, CancelledError, OSError, TimeoutError, KeyError):
        return None
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise KernelError(f"a worker failed: {type(error).__name__}: {text}") from None


def _squares(tiles: Sequence[Tile], workers: int) -> list[Tile]:
    """Return the tiles in squares of about one share, so that a share has to do with few block rows."""
    side = max(1, round(math.sqrt(len(tiles) / workers)))
    return sorted(tiles, key=lambda tile: (tile[0] // side, tile[1] // side, *tile))
