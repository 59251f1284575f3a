"""Convolution with weights of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas_cntk.ops._checks import Shape, flag, map_shape, odd, whole
from nas_cntk.ops._types import Array, Tensor


@dataclass(frozen=True, slots=True)
class Conv:
    """A q x q convolution, zero padded by (q - 1)/2, read at every `stride`-th position."""

    kernel: int
    stride: int = 1
    trainable: bool = True

    NAME: ClassVar[str] = "conv"
    ARITY: ClassVar[tuple[int, int]] = (1, 1)

    def check(self) -> None:
        """Raises ArchitectureError on an even kernel or a size out of range."""
        whole("kernel", self.kernel)
        odd("kernel", self.kernel)
        whole("stride", self.stride)
        flag("trainable", self.trainable)

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return (ceil(h / stride), ceil(w / stride)): windows are centred on positions 0, s, 2s, ..."""
        h, w = map_shape(shapes, self.NAME)
        return -(-h // self.stride), -(-w // self.stride)

    def covariance(self, s: Array) -> Array:
        """Return (1/q^2) times the window sum of S[i+a, j+b, i'+a, j'+b], zero outside, at every s-th position.

        The tangent goes through the same sum; a trainable conv then adds the new covariance to it.

        Args:
            s: shape (n, h, w, h', w').

        Source: section 4.1, step 2 of the CNTK formula: the trace over D_{ij,i'j'}, divided by q^2.
        """
        rows = _diagonal_sum(s, (1, 3), self.kernel, self.stride)
        return _diagonal_sum(rows, (2, 4), self.kernel, self.stride) / self.kernel**2

    def weight_shape(self, channels: int, width: int) -> tuple[int, ...]:
        """Return the shape of the weights, (width, channels, q, q)."""
        return width, channels, self.kernel, self.kernel

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Return the convolution with `weight` / sqrt(C q^2): the NTK parameterisation."""
        from torch.nn.functional import conv2d

        scale = 1 / math.sqrt(x.shape[1] * self.kernel**2)
        return conv2d(x, weight * scale, stride=self.stride, padding=(self.kernel - 1) // 2)

    def multiply_adds(self, shape: Shape, channels: int, width: int) -> int:
        """Return the multiply-adds of one image for an output map of `shape` (h, w)."""
        return shape[0] * shape[1] * self.kernel**2 * channels * width


def _diagonal_sum(s: Array, axes: tuple[int, int], q: int, stride: int) -> Array:
    # out[i, i'] = sum over a of s[stride i + a, stride i' + a] on the two axes, zero outside the map.
    s = np.moveaxis(s, axes, (0, 1))
    h1, h2 = s.shape[:2]
    out = np.zeros((-(-h1 // stride), -(-h2 // stride), *s.shape[2:]))
    reach = min((q - 1) // 2, max(h1, h2) - 1)
    for a in range(-reach, reach + 1):
        i1 = [i for i in range(out.shape[0]) if 0 <= i * stride + a < h1]
        i2 = [i for i in range(out.shape[1]) if 0 <= i * stride + a < h2]
        if i1 and i2:
            out[np.ix_(i1, i2)] += s[np.ix_([i * stride + a for i in i1], [i * stride + a for i in i2])]
    return np.moveaxis(out, (0, 1), axes)
