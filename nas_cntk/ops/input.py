"""The image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas_cntk.ops._checks import Shape
from nas_cntk.ops._types import Array, Tensor


@dataclass(frozen=True, slots=True)
class Input:
    """The image itself, one field a channel."""

    NAME: ClassVar[str] = "input"
    ARITY: ClassVar[tuple[int, int]] = (0, 0)

    def check(self) -> None:
        """Nothing to check."""

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Not called: the shape of the image is given."""
        raise AssertionError("the input has no inputs")

    def covariance(self, x1: Array, x2: Array) -> Array:
        """Return (1/C) sum_c x_c[i, j] x'_c[i', j'] for pairs of images, shape (n, h, w, h', w').

        Args:
            x1: shape (n, h, w, c).
            x2: shape (n, h', w', c).

        Source: section 4.1, Sigma^(0), with the mean over channels in place of their sum.
        """
        s: Array = np.einsum("nijc,nklc->nijkl", x1, x2) / x1.shape[-1]
        return s

    def forward(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """Return the image, shape (n, c, h, w)."""
        return x
