"""Every position a feature, a head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas_cntk.ops._checks import Shape, map_shape
from nas_cntk.ops._types import Array, Tensor


@dataclass(frozen=True, slots=True)
class Flatten:
    """The map as a vector, every position of every channel a feature."""

    NAME: ClassVar[str] = "flatten"
    ARITY: ClassVar[tuple[int, int]] = (1, 1)

    def check(self) -> None:
        """Nothing to check."""

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return (): a vector."""
        map_shape(shapes, self.NAME)
        return ()

    def features(self, shape: Shape) -> int:
        """Return h w, the features a channel of a map of `shape` (h, w)."""
        return shape[0] * shape[1]

    def head(self, s: Array) -> Array:
        """Return the mean over i = i', j = j', shape (n,), of `s`, shape (n, h, w, h, w).

        Source: section 4.1, the trace in the last step, divided by P Q.
        """
        mean: Array = np.einsum("nijij->n", s) / (s.shape[1] * s.shape[2])
        return mean

    def forward(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """Return the features, shape (n, c h w)."""
        return x.flatten(1)
