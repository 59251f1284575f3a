"""What the cells of random nets share: seeds, the nets, and means with errors over the draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nas_cntk.paper.bench import Asked, Bench
from nas_cntk.validate.devices import resolve_devices

if TYPE_CHECKING:
    import torch

    from nas_cntk.validate.finite import FiniteNetwork


def seed_of(cell: Asked, draw: int) -> int:
    """Return the seed of a draw: another one for each cell and draw, the same on every run."""
    words = [int(cell.hash[:8], 16), int(cell.hash[8:16], 16), draw]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def network(cell: Asked, image_shape: Sequence[int], width: int, draw: int, kappa: float = 1.0) -> FiniteNetwork:
    """Return a draw of a cell's net, with one output."""
    from nas_cntk.validate.finite import finite_network

    return finite_network(cell.column.architecture(cell.depth), image_shape, 1, width, kappa, seed_of(cell, draw))


def tensor(bench: Bench, x: NDArray[np.float32]) -> torch.Tensor:
    """Return images (n, h, w, c) as torch has them, on the device."""
    device = resolve_devices(bench.wishes.devices).train
    import torch

    return torch.from_numpy(np.ascontiguousarray(x)).permute(0, 3, 1, 2).contiguous().to(device)


def mean(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of several draws, and its standard error."""
    found = np.asarray(values, dtype=np.float64)
    return float(found.mean()), float(found.std(ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else 0.0


def number(cell: Asked, name: str) -> float:
    """Return a number of a cell's settings."""
    return float(str(cell.settings[name]))
