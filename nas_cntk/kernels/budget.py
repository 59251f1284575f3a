"""Memory: what there is, what was asked for, and how large a block of pairs may be within it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from nas_cntk.architecture import Architecture
from nas_cntk.errors import UsageError
from nas_cntk.kernels.fields import lower
from nas_cntk.kernels.schedule import needs

SIDES = (2048, 1024, 512, 256, 128, 64, 32, 16)  # of a block of pairs; whole bundles of lanes
LEAST_WORK = 2.5e8  # entry-layers of one call, below which what is paid once a call is felt
MOST_WORK = 2e11  # entry-layers of one tile on disk, what a kill may cost: a minute or so
LARGE = 8192  # images from which tiles on disk are of the largest kind

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_CGROUP_USES = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")


def available_memory() -> int:
    """Return the bytes that this process may still take, as far as the system tells (else 4 GiB)."""
    known = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                known.append(int(line.split()[1]) * 1024)
    except (OSError, ValueError, IndexError):
        try:
            known.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
        except (AttributeError, OSError, ValueError):
            pass
    for limit, use in zip(_CGROUP_LIMITS, _CGROUP_USES, strict=True):
        try:
            known.append(max(0, int(Path(limit).read_text()) - int(Path(use).read_text())))
        except (OSError, ValueError):
            continue
    return min(known, default=4 * 2**30)


def parse_memory(memory: int | float | str | None) -> int:
    """Return a budget in bytes: a number of bytes, "500MB", "2GiB", or by default half of what is available.

    Raises:
        UsageError: if it is no amount of memory.
    """
    if memory is None:
        return available_memory() // 2
    if isinstance(memory, str):
        found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)(i?)b?\s*", memory, re.IGNORECASE)
        if found:
            unit = _UNITS[found[2].lower()]
            binary = 1024 ** list(_UNITS).index(found[2].lower())
            memory = float(found[1]) * (binary if found[3] else unit)
    if isinstance(memory, (int, float)) and not isinstance(memory, bool) and 2**20 <= memory < 2**60:
        return int(memory)
    raise UsageError(f"memory {memory!r} is no budget; give bytes, or an amount such as 500MB or 2GiB (1 MiB at least)")


class Work:
    """What a block of pairs of a family costs, in bytes and in entry-layers."""

    def __init__(self, archs: Sequence[Architecture], image_shape: Sequence[int], kind: str, itemsize: int) -> None:
        from nas_cntk.kernels.cost import entry_layers

        family = lower(archs, image_shape)
        h, w, c = image_shape
        maps = 0
        for number, (rows, columns) in needs(family, [], variances=True).items():
            del number
            maps += 2 * min(int(rows.sum()), h) * min(int(columns.sum()), w)  # sqrt(v) and 1 / sqrt(v), at most
        self.matrices = len(archs) * (2 if kind == "both" else 1)
        # The head sums twice in float64, S and T; results in float64; results in the dtype, here and in the tile.
        self.pair_bytes = 32 * len(family.heads) + len(archs) * (16 + 2 * itemsize) + 2 * itemsize * self.matrices
        self.image_bytes = itemsize * (2 * maps + 3 * h * w * c)
        self.entry_layers = entry_layers(archs, image_shape, 1)

    def bytes(self, side: int) -> int:
        """Return the bytes that one block of side x side pairs takes while it is computed."""
        return side * side * self.pair_bytes + 2 * side * self.image_bytes

    def side(self, budget: int, most: int = SIDES[0]) -> int:
        """Return the greatest block side within a budget, at most `most`; the smallest there is if none fits."""
        for side in SIDES:
            if side <= most and self.bytes(side) <= budget:
                return side
        return min(SIDES[-1], most)

    def side_in_memory(self, matrix_bytes: int, budget: int) -> int:
        """Return a block side beside a matrix in memory: a quarter of the matrix, or what keeps a call worth it."""
        side = self.side(min(budget, matrix_bytes // 4), 1024)
        while side < 1024 and side * side * self.entry_layers < LEAST_WORK and self.bytes(2 * side) <= budget:
            side *= 2
        return side

    def side_on_disk(self, images: int) -> int:
        """Return the side of tiles on disk: large, but no more than a kill may cost."""
        for side in SIDES if images >= LARGE else SIDES[1:]:
            if side * side * self.entry_layers <= MOST_WORK:
                return side
        return SIDES[-1]
