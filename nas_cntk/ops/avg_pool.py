"""Average pooling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas_cntk.errors import ArchitectureError, IllegalArchitecture
from nas_cntk.ops._checks import Shape, map_shape, odd, whole
from nas_cntk.ops._types import Array, Tensor

PADDINGS = ("valid", "same")


@dataclass(frozen=True, slots=True)
class AvgPool:
    """The mean of a size x size window: whole windows from position 0 (`valid`), or centred and clipped (`same`)."""

    size: int
    stride: int = 1
    padding: str = "valid"

    NAME: ClassVar[str] = "avg_pool"
    ARITY: ClassVar[tuple[int, int]] = (1, 1)

    def check(self) -> None:
        """Raises ArchitectureError on sizes out of range, or an even size with padding `same`."""
        whole("size", self.size)
        whole("stride", self.stride)
        if self.padding not in PADDINGS:
            raise ArchitectureError(f'padding must be "valid" or "same", got {str(self.padding)[:40]!r}')
        if self.padding == "same":
            odd('size with padding "same"', self.size)

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return (h, w) of the output; raises IllegalArchitecture where no whole window fits."""
        h, w = map_shape(shapes, self.NAME)
        if self.padding == "same":
            return -(-h // self.stride), -(-w // self.stride)
        if self.size > min(h, w):
            raise IllegalArchitecture(
                f'a {self.size}x{self.size} window with padding "valid" does not fit a {h}x{w} map;'
                ' take a smaller size or padding "same"'
            )
        return (h - self.size) // self.stride + 1, (w - self.size) // self.stride + 1

    def windows(self, length: int) -> list[range]:
        """Return the positions that each output position averages over, along one axis of `length`."""
        if self.padding == "valid":
            starts = range(0, length - self.size + 1, self.stride)
            return [range(i, i + self.size) for i in starts]
        reach = self.size // 2
        return [range(max(0, i - reach), min(length, i + reach + 1)) for i in range(0, length, self.stride)]

    def pool(self, s: Array, axes: tuple[int, int]) -> Array:
        """Return the mean over windows on two axes of `s`: pooling is linear, so it acts on (i, j) and (i', j') alike.

        Source: the covariance of a linear map A of a field is A S A^T; this is one of its two sides.
        """
        for axis in axes:
            means = np.zeros((len(self.windows(s.shape[axis])), s.shape[axis]))
            for row, window in enumerate(self.windows(s.shape[axis])):
                means[row, window] = 1 / len(window)
            s = np.moveaxis(np.tensordot(means, s, axes=(1, axis)), 0, axis)
        return s

    def forward(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """Return the pooled map; the padding of `same` is not counted in the mean."""
        from torch.nn.functional import avg_pool2d

        if self.padding == "valid":
            return avg_pool2d(x, self.size, self.stride)
        return avg_pool2d(x, self.size, self.stride, padding=self.size // 2, count_include_pad=False)
