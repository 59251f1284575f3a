"""The living definition: float64 NumPy, the ops' own rules folded over the graph.

For a pair of images (x, x') every two nodes u, v have a covariance S[i, j, i', j'] = E[u(x)[i, j] v(x')[i', j']] and a
tangent T (the same of their gradients). Covariance is bilinear, so sums and poolings are taken apart, one side at a
time, until two *sources* are left: the image, a conv's output, a relu's output. For those

* a conv with itself: the window sum of what it reads; with any other Gaussian source: 0 (weights of its own);
* a relu with a Gaussian source g: cov(its input, g) / sqrt 2;
* two relus: k1 and k0 of the cross-covariance of their inputs, which is not 0 for independent inputs, since a relu
  has a mean.

Source: section 4.1 (the recursion), equations 19 and 20 (relu); the rules for two different sources follow from
Stein's lemma and from the definition of k0 and k1 as expectations over two jointly Gaussian variables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from nas_cntk import ops
from nas_cntk.architecture import Architecture
from nas_cntk.canonical import Value, simplify
from nas_cntk.ops._types import Array

Moments = tuple[Array, Array] | None  # covariance and tangent, each (n, h, w, h', w'); None where both are 0

BYTES = 256 * 2**20  # of one tensor: pairs of images are taken so many at a time


def kernels(
    archs: Sequence[Architecture],
    x1: Array,  # shape: (n1, h, w, c)
    x2: Array,  # shape: (n2, h, w, c)
    symmetric: bool,
    tick: Callable[[float], None],
) -> list[tuple[Array, Array]]:
    """Return (nngp, ntk), each (n1, n2), of every architecture.

    Args:
        symmetric: whether x2 is x1, so that pairs (a, a) are one image with itself.
        tick: called with the fraction done after every block of pairs.
    """
    results = []
    for number, arch in enumerate(archs):
        nngp, ntk = np.zeros((len(x1), len(x2))), np.zeros((len(x1), len(x2)))
        pairs = [(a, b) for a in range(len(x1)) for b in range(a if symmetric else 0, len(x2))]
        h, w = x1.shape[1:3]
        step = max(1, int(BYTES // (8 * (h * w) ** 2)))
        for start in range(0, len(pairs), step):
            rows, columns = (list(index) for index in zip(*pairs[start : start + step], strict=True))
            nngp[rows, columns], ntk[rows, columns] = _pairs(arch, x1[rows], x2[columns])
            tick((number + (start + len(rows)) / len(pairs)) / len(archs))
        if symmetric:
            for k in (nngp, ntk):
                lower = np.tril_indices(len(x1), -1)
                k[lower] = k.T[lower]
        results.append((nngp, ntk))
    return results


def _pairs(arch: Architecture, x1: Array, x2: Array) -> tuple[Array, Array]:
    # Returns nngp and ntk, each (n,), of the pairs x1[a], x2[a].
    own1 = _Fold(arch, x1, x1, None)
    own2 = _Fold(arch, x2, x2, None)
    return _Fold(arch, x1, x2, (own1, own2)).readout()


class _Fold:
    """The moments of every two values of an architecture on n pairs of images, each computed once.

    Without `own` the two images of a pair are one image, and variances are read off its own covariance.
    """

    def __init__(self, arch: Architecture, x1: Array, x2: Array, own: tuple[_Fold, _Fold] | None) -> None:
        self.atoms, _ = simplify([arch.nodes[i] for i in arch.live], list(arch.live))
        self.x1, self.x2, self.own = x1, x2, own
        self.weight = self._weights()
        self._moments: dict[tuple[int, int], Moments] = {}
        self._variances: dict[Value, Array] = {}

    def _weights(self) -> list[int | None]:
        # Atoms that are one Gaussian weight times a map: a 1x1 conv of a gray image, its poolings, their 1x1 convs.
        # The number of the weight, or None. Two maps of one weight have correlation +1 or -1, whatever rounding says.
        weight: list[int | None] = []
        for index, atom in enumerate(self.atoms):
            read = {weight[i] for i, _ in atom.reads}
            if isinstance(atom.op, ops.Input):
                weight.append(index if self.x1.shape[-1] == 1 else None)
            elif len(read) != 1 or None in read:
                weight.append(None)
            elif isinstance(atom.op, ops.Conv):
                weight.append(index if atom.op.kernel == 1 else None)
            else:
                weight.append(read.pop() if isinstance(atom.op, ops.AvgPool) else None)
        return weight

    def readout(self) -> tuple[Array, Array]:
        """Return nngp and ntk, each (n,)."""
        dense = self.atoms[-1]
        assert isinstance(dense.op, ops.Dense)
        head = self.atoms[dense.reads[0][0]]
        assert isinstance(head.op, (ops.Flatten, ops.GlobalAvgPool))
        moments = self.moments(head.reads, head.reads)
        if moments is None:
            zero = np.zeros(len(self.x1))
            return zero, zero
        s, t = moments
        return dense.op.readout(head.op.head(s), head.op.head(t))

    def moments(self, u: Value, v: Value) -> Moments:
        """Return the moments of two sums: the sum of those of their atoms."""
        total: Moments = None
        for a, m in u:
            for b, n in v:
                part = self._atoms(a, b)
                if part is not None:
                    s, t = _float(m * n) * part[0], _float(m * n) * part[1]
                    total = (s, t) if total is None else (total[0] + s, total[1] + t)
        return total

    def _atoms(self, a: int, b: int) -> Moments:
        # An explicit stack in place of recursion: architectures may be thousands of nodes deep.
        stack = [(a, b)]
        while stack:
            pair = stack[-1]
            missing = [p for p in self._needs(*pair) if p not in self._moments]
            if missing:
                stack.extend(missing)
            else:
                stack.pop()
                if pair not in self._moments:
                    self._moments[pair] = self._rule(*pair)
        return self._moments[a, b]

    def _needs(self, a: int, b: int) -> list[tuple[int, int]]:
        # The pairs of atoms whose moments the rule for (a, b) reads.
        left, right = self.atoms[a], self.atoms[b]
        u: Value = ((a, 1),)
        v: Value = ((b, 1),)
        sums: list[tuple[Value, Value]] = []
        if isinstance(left.op, ops.AvgPool):
            sums = [(left.reads, v)]
        elif isinstance(right.op, ops.AvgPool):
            sums = [(u, right.reads)]
        elif isinstance(left.op, ops.Relu) and isinstance(right.op, ops.Relu):
            sums = [(left.reads, right.reads)]
            if self.own is None:
                sums += [(left.reads, left.reads), (right.reads, right.reads)]
        elif isinstance(left.op, ops.Relu):
            sums = [(left.reads, v)]
        elif isinstance(right.op, ops.Relu):
            sums = [(u, right.reads)]
        elif a == b:
            sums = [(left.reads, left.reads)]
        return [(p, q) for x, y in sums for p, _ in x for q, _ in y]

    def _rule(self, a: int, b: int) -> Moments:
        left, right = self.atoms[a], self.atoms[b]
        u, v = ((a, 1),), ((b, 1),)
        if isinstance(left.op, ops.AvgPool):
            return _both(self.moments(left.reads, v), left.op.pool, (1, 2))
        if isinstance(right.op, ops.AvgPool):
            return _both(self.moments(u, right.reads), right.op.pool, (3, 4))
        if isinstance(left.op, ops.Relu) and isinstance(right.op, ops.Relu):
            # A relu output's mean makes it correlated with every other: no moments of the inputs means 0, not nothing.
            v1, v2 = self._variance(left.reads, 0), self._variance(right.reads, 1)
            nothing = np.zeros((*v1.shape, *v2.shape[1:]))
            s, t = self.moments(left.reads, right.reads) or (nothing, nothing)
            weights = {self.weight[i] for i, _ in (*left.reads, *right.reads)}
            aligned = len(weights) == 1 and None not in weights
            return left.op.covariance(s, t, v1, v2, one=a == b and self.own is None, aligned=aligned)
        if isinstance(left.op, ops.Relu):
            return _both(self.moments(left.reads, v), left.op.covariance_with_gaussian)
        if isinstance(right.op, ops.Relu):
            return _both(self.moments(u, right.reads), right.op.covariance_with_gaussian)
        if a != b:
            return None  # two Gaussian sources with weights of their own (the image meets nothing else by the grammar)
        if isinstance(left.op, ops.Input):
            s = left.op.covariance(self.x1, self.x2)
            return s, np.zeros_like(s)
        assert isinstance(left.op, ops.Conv)
        moments = self.moments(left.reads, left.reads)
        assert moments is not None, "a field with itself has a covariance"
        s, t = (left.op.covariance(m) for m in moments)
        return s, t + s if left.op.trainable else t

    def _variance(self, u: Value, side: int) -> Array:
        # The variance map (n, h, w) of a sum on the first or second image of each pair.
        if self.own is not None:
            return self.own[side]._variance(u, side)
        if u not in self._variances:
            moments = self.moments(u, u)
            assert moments is not None, "a field with itself has a covariance"
            self._variances[u] = np.maximum(np.einsum("nijij->nij", moments[0]), 0.0)
        return self._variances[u]


def _float(number: int) -> float:
    # A hundred nested doublings are 2^100; a thousand are more than a float holds.
    return float(number) if number.bit_length() <= 1023 else math.inf


def _both(moments: Moments, linear: Callable[..., Array], *arguments: object) -> Moments:
    return None if moments is None else (linear(moments[0], *arguments), linear(moments[1], *arguments))
