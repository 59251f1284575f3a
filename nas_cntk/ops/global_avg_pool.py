"""Global average pooling, a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nas_cntk.ops._checks import Shape, map_shape
from nas_cntk.ops._types import Array, Tensor


@dataclass(frozen=True, slots=True)
class GlobalAvgPool:
    """The mean over all positions."""

    NAME: ClassVar[str] = "global_avg_pool"
    ARITY: ClassVar[tuple[int, int]] = (1, 1)

    def check(self) -> None:
        """Nothing to check."""

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return (): a vector of one feature a channel."""
        map_shape(shapes, self.NAME)
        return ()

    def features(self, shape: Shape) -> int:
        """Return 1, the features a channel of a map of `shape` (h, w)."""
        return 1

    def head(self, s: Array) -> Array:
        """Return the mean over all (i, j, i', j'), shape (n,), of `s`, shape (n, h, w, h, w).

        Source: section 4.2, the last step, divided by P^2 Q^2.
        """
        mean: Array = s.mean(axis=(1, 2, 3, 4))
        return mean

    def forward(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """Return the mean, shape (n, c)."""
        return x.mean(dim=(2, 3))
