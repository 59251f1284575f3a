"""The readout."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from nas_cntk.errors import IllegalArchitecture
from nas_cntk.ops._checks import Shape, flag
from nas_cntk.ops._types import Array, Tensor


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear readout of the head's features."""

    trainable: bool = True

    NAME: ClassVar[str] = "dense"
    ARITY: ClassVar[tuple[int, int]] = (1, 1)

    def check(self) -> None:
        """Raises ArchitectureError if `trainable` is no flag."""
        flag("trainable", self.trainable)

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return (); raises IllegalArchitecture if the input is a map."""
        if shapes[0] != ():
            raise IllegalArchitecture("dense reads a map; put flatten or global_avg_pool before it")
        return ()

    def readout(self, s: Array, t: Array) -> tuple[Array, Array]:
        """Return nngp and ntk from the head's covariance and tangent: S, and T plus S if trainable.

        Source: section 4.1, the last step, and section 4.2, where the last layer is not trained.
        """
        return s, t + s if self.trainable else t

    def weight_shape(self, features: int, classes: int) -> tuple[int, ...]:
        """Return the shape of the weights, (classes, features)."""
        return classes, features

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the outputs, shape (n, classes): `weight` / sqrt(features), the NTK parameterisation."""
        from torch.nn.functional import linear

        return linear(x, weight / math.sqrt(x.shape[1]))
