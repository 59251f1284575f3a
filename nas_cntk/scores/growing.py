"""Kernels of a family of architectures on a growing subset: only new blocks are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nas_cntk.scores.kinds import Kind

if TYPE_CHECKING:
    from nas_cntk.architecture import Architecture

Progress = Callable[[float], None] | None
Matrices = dict[Kind, NDArray[Any]]


class GrowingKernels:
    """The kernels among the first images of a subset and between those and the held-out images.

    Of one family of architectures, in one pass a block; architectures may leave it.
    """

    def __init__(
        self,
        archs: Sequence[Architecture],
        x: NDArray[Any],  # shape: (n, h, w, c)
        x_holdout: NDArray[Any],  # shape: (m, h, w, c)
        kinds: Sequence[Kind],
        **options: Any,  # of `kernel_family`: backend, dtype, devices, cancelled
    ) -> None:
        self._archs = dict(enumerate(archs))
        self._x, self._x_holdout, self._kinds, self._options = x, x_holdout, tuple(kinds), options
        self.size = 0
        self._subset: dict[int, Matrices] = {at: {} for at in self._archs}  # each shape: (size, size)
        self._holdout: dict[int, Matrices] = {at: {} for at in self._archs}  # each shape: (m, size)

    def pairs(self, size: int) -> int:
        """Return the pairs of images that growing to `size` adds."""
        new = size - self.size
        return new * (new + 1) // 2 + new * self.size + new * len(self._x_holdout)

    def keep(self, places: Sequence[int]) -> None:
        """Drop all but the architectures at these places."""
        for at in set(self._archs) - set(places):
            del self._archs[at], self._subset[at], self._holdout[at]

    def grow(self, size: int, progress: Progress) -> None:
        """Compute what the first `size` images add to the kernels of those that are left."""
        old, new = self._x[: self.size], self._x[self.size : size]
        total, done = self.pairs(size), 0
        within = self._blocks(new, None, _part(progress, done, len(new) * (len(new) + 1) // 2, total))
        done += len(new) * (len(new) + 1) // 2
        across = []
        if len(old):
            across = self._blocks(new, old, _part(progress, done, len(new) * len(old), total))
            done += len(new) * len(old)
        holdout = self._blocks(self._x_holdout, new, _part(progress, done, len(new) * len(self._x_holdout), total))
        for place, at in enumerate(self._archs):
            for kind in self._kinds:
                corner, beside = within[place][kind], holdout[place][kind]
                if len(old):
                    side = across[place][kind]
                    corner = np.block([[self._subset[at][kind], side.T], [side, corner]])
                    beside = np.hstack([self._holdout[at][kind], beside])
                self._subset[at][kind], self._holdout[at][kind] = corner, beside
        self.size = size

    def of(self, place: int, kind: Kind) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the kernels of one architecture, shapes (size, size) and (m, size)."""
        return self._subset[place][kind], self._holdout[place][kind]

    def _blocks(self, left: NDArray[Any], right: NDArray[Any] | None, progress: Progress) -> list[Matrices]:
        from nas_cntk.kernels import exact

        both = len(self._kinds) == 2
        found: list[Any] = exact.kernel_family(
            list(self._archs.values()),
            left,
            right,
            kind="both" if both else self._kinds[0],
            progress=progress,
            **self._options,
        )
        return [{"nngp": one[0], "ntk": one[1]} if both else {self._kinds[0]: one} for one in found]


def _part(progress: Progress, done: int, length: int, total: int) -> Progress:
    if progress is None:
        return None
    report = progress
    return lambda fraction: report((done + length * fraction) / total)
