"""The rectifier, scaled by sqrt 2."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nas_cntk.ops._checks import Shape, map_shape
from nas_cntk.ops._types import Array, Tensor

C_SIGMA = 2.0  # the paper's c_sigma: 1 / E[relu(z)^2] for z ~ N(0, 1)


@dataclass(frozen=True, slots=True)
class Relu:
    """sqrt(2) max(z, 0)."""

    NAME: ClassVar[str] = "relu"
    ARITY: ClassVar[tuple[int, int]] = (1, 1)

    def check(self) -> None:
        """Nothing to check."""

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Return the input's (h, w)."""
        return map_shape(shapes, self.NAME)

    def covariance(self, s: Array, t: Array, v1: Array, v2: Array, one: bool, aligned: bool) -> tuple[Array, Array]:
        """Return covariance sqrt(v v') k1(l) and tangent k0(l) T, with l = S / sqrt(v v').

        Args:
            s, t: covariance and tangent of the two inputs, shape (n, h, w, h, w).
            v1, v2: variances of the two inputs, shape (n, h, w).
            one: whether this is one node on one image, so that l = 1 at equal positions by construction.
            aligned: whether both inputs are maps of one Gaussian weight, so that l is +1 or -1 by construction.

        Source: equations 19 and 20 times c_sigma.
        """
        scale = np.sqrt(v1)[:, :, :, None, None] * np.sqrt(v2)[:, None, None, :, :]
        dead = scale == 0  # a black patch: relu(0) = 0, and no correlation is defined
        correlation = np.where(dead, 0.0, s / np.where(dead, 1.0, scale))
        # k0 has a square root at l = 1 and -1 and loses half the digits there.
        edge = aligned | (np.abs(correlation) > 1 - 4 * np.finfo(np.float64).eps)
        correlation = np.where(edge, np.sign(correlation), correlation)
        if one:
            n, h, w = v1.shape
            correlation.reshape(n, h * w, h * w)[:, range(h * w), range(h * w)] = np.where(v1 > 0, 1.0, 0.0).reshape(
                n, -1
            )
        return scale * k1(correlation), np.where(dead, 0.0, k0(correlation) * t)

    def covariance_with_gaussian(self, s: Array) -> Array:
        """Return the covariance (or tangent) of relu(u) with a Gaussian field g, given that of u with g.

        Source: Stein's lemma: E[sqrt(2) relu(u) g] = sqrt(2) P(u > 0) cov(u, g) = cov(u, g) / sqrt(2).
        """
        return s / math.sqrt(2)

    def forward(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """Return sqrt(2) max(x, 0)."""
        return x.clamp(min=0) * math.sqrt(C_SIGMA)


def k0(correlation: Array) -> Array:
    """Return (pi - arccos l) / pi.  Source: equation 20 times c_sigma."""
    return (math.pi - np.arccos(correlation)) / math.pi


def k1(correlation: Array) -> Array:
    """Return (l (pi - arccos l) + sqrt(1 - l^2)) / pi.  Source: equation 19 times c_sigma."""
    root = np.sqrt((1 - correlation) * (1 + correlation))
    return (correlation * (math.pi - np.arccos(correlation)) + root) / math.pi
