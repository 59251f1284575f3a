"""The sum of branches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import ClassVar

from nas_cntk.ops._checks import Shape, map_shape
from nas_cntk.ops._types import Tensor


@dataclass(frozen=True, slots=True)
class Add:
    """The sum of one or more maps of one size; a map may be read several times.

    Covariance is bilinear: that of a sum with anything is the sum of the covariances, cross terms included. The
    backends take it apart so; there is no rule of its own.
    """

    NAME: ClassVar[str] = "add"
    ARITY: ClassVar[tuple[int, int]] = (1, 10_000)

    def check(self) -> None:
        """Nothing to check."""

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return the common (h, w); raises IllegalArchitecture if two maps differ."""
        return map_shape(shapes, self.NAME)

    def forward(self, *xs: Tensor, weight: Tensor | None) -> Tensor:
        """Return the sum."""
        return reduce(add, xs)
