"""Many machines: candidates, or the tiles of one kernel, computed by the workers of a Dask cluster.

The only room that knows Dask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nas_cntk.cluster.candidates import Candidates, candidates_of
from nas_cntk.cluster.client import open_cluster
from nas_cntk.cluster.products import Products
from nas_cntk.cluster.tiles import Tiles

__all__ = ["Candidates", "Products", "Tiles", "candidates_of", "engine_of", "open_cluster"]


@contextmanager
def engine_of(spec: str | None) -> Iterator[Tiles | None]:
    """Give the engine that `--cluster` names, None for this process; errors are those of `open_cluster`."""
    if spec is None:
        yield None
        return
    with open_cluster(spec) as client:
        yield Tiles(client)
