"""From architectures to fields: which covariances a family needs, each named once.

A *field* is the covariance and tangent of two values over (i, j, i', j'). Starting from what the heads read, the
covariance of two sums is taken apart (it is bilinear) until two sources are left, as the source rule says. Equal
fields get one number whatever architecture, depth or twin asks for them: that is how a family shares its prefixes, and
how twin convs, whose own fields are equal and whose cross-covariance is 0, are computed once.

Pooling acts on one side of a field at a time; so (I + P) S (I + P)^T costs two poolings.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas_cntk import ops
from nas_cntk.architecture import Architecture
from nas_cntk.ops import Shape

LARGEST_SCALE = 1e15

Matrix = NDArray[np.float64]
Terms = tuple[tuple[int, float], ...]  # a sum of fields: (number, coefficient); () is zero


@dataclass(frozen=True, slots=True)
class Field:
    """How one field is computed from earlier ones.

    Args:
        kind: "input", "conv", "pool", "relu" or "sum".
        inputs: numbers of the fields read; a relu of independent inputs reads none.
        left, right: (h, w) of the two maps.
        op: the conv, or the pooling.
        side: of a pooling, 0 for (i, j) and 1 for (i', j').
        coefficients: of a sum, one an input.
        variances: of a relu, the fields whose equal positions hold the variances of its left and right input.
        aligned: of a relu, whether both inputs are maps of one Gaussian weight: every correlation is +1 or -1.
    """

    kind: Literal["input", "conv", "pool", "relu", "sum"]
    inputs: tuple[int, ...]
    left: Shape
    right: Shape
    op: ops.Conv | ops.AvgPool | None = None
    side: int = 0
    coefficients: tuple[float, ...] = ()
    variances: tuple[int, ...] = ()
    aligned: bool = False


@dataclass(frozen=True, slots=True)
class Head:
    """A weighted sum over the entries of fields: sum of rows[i, i'] columns[j, j'] S[i, j, i', j']."""

    terms: Terms
    rows: Matrix  # shape: (h, h)
    columns: Matrix  # shape: (w, w)


@dataclass(frozen=True, slots=True)
class Readout:
    """What one architecture returns: head number, and whether the readout layer is trained."""

    head: int
    trainable: bool


@dataclass(slots=True)
class Fields:
    """All fields of a family, in an order in which each comes after what it reads, its heads and readouts."""

    fields: list[Field] = field(default_factory=list)
    heads: list[Head] = field(default_factory=list)
    readouts: list[Readout] = field(default_factory=list)
    numbers: dict[Field, int] = field(default_factory=dict)

    def number(self, one: Field) -> int:
        """Return the number of a field, new if it was not met before."""
        if one not in self.numbers:
            self.numbers[one] = len(self.fields)
            self.fields.append(one)
        return self.numbers[one]

    def kernels(self, sums: NDArray[np.float64]) -> list[tuple[Matrix, Matrix]]:
        """Return (nngp, ntk), each (n1, n2), of every architecture from its head's sums, shape (heads, 2, n1, n2)."""
        found = []
        for readout in self.readouts:
            s, t = sums[readout.head]
            found.append((s, t + s if readout.trainable else t))
        return found

    def has_tangent(self) -> list[bool]:
        """Return, for every field, whether its tangent is not zero everywhere."""
        known: list[bool] = []
        for one in self.fields:
            trained = isinstance(one.op, ops.Conv) and one.op.trainable
            known.append(trained or any(known[i] for i in one.inputs))
        return known

    def scales(self) -> list[float]:
        """Return, for every field, the factor that it is kept with: convs sum and do not divide by q^2.

        A factor that grows beyond `LARGEST_SCALE` (float32 ends at 1e38) is divided out by the conv that reaches it.
        The factors depend on the field alone, so that a variance and a covariance computed in two programs are
        rounded alike.
        """
        known: list[float] = []
        for one in self.fields:
            scale = known[one.inputs[0]] if one.inputs and one.kind != "sum" else 1.0
            if isinstance(one.op, ops.Conv):
                scale *= one.op.kernel**2
                scale = scale if scale <= LARGEST_SCALE else 1.0
            known.append(scale)
        return known

    def nonnegative(self) -> list[bool]:
        """Return, for every field, whether its covariance is >= 0 everywhere: that of relu outputs always is."""
        known: list[bool] = []
        for one in self.fields:
            known.append(one.kind == "relu" or (bool(one.inputs) and all(known[i] for i in one.inputs)))
        return known


def lower(archs: Sequence[Architecture], image_shape: Sequence[int]) -> Fields:
    """Return the fields of a family on images of shape (h, w, c).

    Raises:
        IllegalArchitecture: if an architecture does not fit the image.
    """
    family = Fields()
    heads: dict[tuple[Terms, bytes, bytes], int] = {}
    for arch in archs:
        head, trainable = _Lowering(arch, image_shape, family).head()
        same = (head.terms, head.rows.tobytes(), head.columns.tobytes())
        if same not in heads:
            heads[same] = len(family.heads)
            family.heads.append(head)
        family.readouts.append(Readout(heads[same], trainable))
    return family


class _Lowering:
    def __init__(self, arch: Architecture, image_shape: Sequence[int], family: Fields) -> None:
        self.family = family
        shapes = arch.shapes(image_shape)
        # Nodes with aliases resolved: a weightless node equal to an earlier one, or an add of one node, is that node.
        same: dict[int, int] = {}
        known: dict[tuple[object, ...], int] = {}
        self.op: dict[int, ops.Op] = {}
        self.reads: dict[int, tuple[tuple[int, int], ...]] = {}  # inputs with multiplicities
        self.shape: dict[int, Shape] = {}
        for index in arch.live:
            node = arch.nodes[index]
            total: dict[int, int] = {}
            for i in node.inputs:
                total[same[i]] = total.get(same[i], 0) + 1
            reads = tuple(sorted(total.items()))
            label = (node.op, reads)
            if isinstance(node.op, ops.Add) and len(reads) == 1 and reads[0][1] == 1:
                same[index] = reads[0][0]
            elif label in known and not isinstance(node.op, (ops.Conv, ops.Dense)):
                same[index] = known[label]
            else:
                same[index] = known[label] = index
                self.op[index], self.reads[index], self.shape[index] = node.op, reads, shapes[index]
        self.weight = self._weights(int(image_shape[2]))
        self.last = max(self.op)
        self.memo: dict[tuple[int, int], Terms] = {}

    def _weights(self, channels: int) -> dict[int, int | None]:
        # Nodes that are one Gaussian weight times a map (a 1x1 conv of a gray image, sums and poolings of it, 1x1 convs
        # of those): the node whose weight it is, or None.
        weight: dict[int, int | None] = {}
        for index, op in self.op.items():
            read = {weight[i] for i, _ in self.reads[index]}
            if isinstance(op, ops.Input):
                weight[index] = index if channels == 1 else None
            elif len(read) != 1 or None in read or isinstance(op, ops.Relu):
                weight[index] = None
            elif isinstance(op, ops.Conv):
                weight[index] = index if op.kernel == 1 else None
            else:
                weight[index] = read.pop()
        return weight

    def head(self) -> tuple[Head, bool]:
        dense = self.op[self.last]
        assert isinstance(dense, ops.Dense)
        head = self.reads[self.last][0][0]
        value = self.reads[head][0][0]
        weights = []
        for length in self.shape[value]:
            if isinstance(self.op[head], ops.Flatten):
                weights.append(np.eye(length) / length)
            else:
                weights.append(np.full((length, length), 1 / length**2))
        # A pooling right before the head is only another weighting of what it reads (local average pooling).
        while isinstance(pool := self.op[value], ops.AvgPool):
            value = self.reads[value][0][0]
            for axis, length in enumerate(self.shape[value]):
                means = pool_matrix(pool, length)
                weights[axis] = means.T @ weights[axis] @ means
        return Head(self.covariance(value, value), *weights), dense.trainable

    def covariance(self, u: int, v: int) -> Terms:
        """Return the covariance of two nodes; iterative, since architectures may be thousands of nodes deep."""
        stack = [((u, v), self.rule(u, v))]
        answer: Terms | None = None
        while stack:
            pair, rule = stack[-1]
            try:
                asked = rule.send(answer) if answer is not None else next(rule)
            except StopIteration as done:
                self.memo[pair] = answer = done.value
                stack.pop()
                continue
            answer = self.memo.get(asked)
            if answer is None:
                stack.append((asked, self.rule(*asked)))
        return self.memo[u, v]

    def rule(self, u: int, v: int) -> Generator[tuple[int, int], Terms, Terms]:
        """Yield the pairs of nodes whose covariances are needed, and return that of (u, v)."""
        left, right = self.op[u], self.op[v]
        if isinstance(right, ops.AvgPool):
            return self.pool(right, 1, (yield u, self.reads[v][0][0]), v)
        if isinstance(left, ops.Add) and (u > v or not isinstance(right, ops.Add)):
            parts = []
            for i, multiplicity in self.reads[u]:
                parts.append(((yield i, v), multiplicity))
            return self.total(parts)
        if isinstance(right, ops.Add):
            parts = []
            for i, multiplicity in self.reads[v]:
                parts.append(((yield u, i), multiplicity))
            return self.total(parts)
        if isinstance(left, ops.AvgPool):
            return self.pool(left, 0, (yield self.reads[u][0][0], v), u)
        if isinstance(left, ops.Relu) and isinstance(right, ops.Relu):
            x, y = self.reads[u][0][0], self.reads[v][0][0]
            of_left, of_right = (yield x, x), (yield y, y)
            both = yield x, y
            variances = self.alone(of_left), self.alone(of_right)
            inputs = (self.alone(both),) if both else ()
            aligned = self.weight[x] is not None and self.weight[x] == self.weight[y]
            return self.new("relu", inputs, self.shape[u], self.shape[v], variances=variances, aligned=aligned)
        if isinstance(left, ops.Relu):  # Stein's lemma
            return _scaled((yield self.reads[u][0][0], v), 1 / math.sqrt(2))
        if isinstance(right, ops.Relu):
            return _scaled((yield u, self.reads[v][0][0]), 1 / math.sqrt(2))
        if u != v:
            return ()  # two Gaussian sources with weights of their own
        if isinstance(left, ops.Input):
            return self.new("input", (), self.shape[u], self.shape[v])
        assert isinstance(left, ops.Conv)
        read = self.reads[u][0][0]
        number, scale = self.one((yield read, read))
        return _scaled(self.new("conv", (number,), self.shape[u], self.shape[v], op=left), scale)

    def pool(self, op: ops.AvgPool, side: int, of: Terms, node: int) -> Terms:
        if not of:
            return ()
        number, scale = self.one(of)
        read = self.family.fields[number]
        shapes = (self.shape[node], read.right) if side == 0 else (read.left, self.shape[node])
        return _scaled(self.new("pool", (number,), *shapes, op=op, side=side), scale)

    def total(self, parts: list[tuple[Terms, int]]) -> Terms:
        # A sum of several fields becomes a field, so that what is built on it (residual chains) adds to it alone.
        total: dict[int, float] = {}
        for terms, multiplicity in parts:
            for number, coefficient in terms:
                total[number] = total.get(number, 0.0) + coefficient * float(multiplicity)
        terms = tuple(sorted(total.items()))
        return ((self.alone(terms), 1.0),) if len(terms) > 1 else terms

    def one(self, terms: Terms) -> tuple[int, float]:
        """Return the field that a sum is a multiple of, and the factor."""
        return terms[0] if len(terms) == 1 else (self.alone(terms), 1.0)

    def alone(self, terms: Terms) -> int:
        """Return the field that holds a sum itself."""
        if len(terms) == 1 and terms[0][1] == 1.0:
            return terms[0][0]
        numbers, coefficients = zip(*terms, strict=True)
        first = self.family.fields[numbers[0]]
        return self.family.number(Field("sum", numbers, first.left, first.right, coefficients=coefficients))

    def new(
        self,
        kind: Literal["input", "conv", "pool", "relu"],
        inputs: tuple[int, ...],
        left: Shape,
        right: Shape,
        op: ops.Conv | ops.AvgPool | None = None,
        side: int = 0,
        variances: tuple[int, ...] = (),
        aligned: bool = False,
    ) -> Terms:
        one = Field(kind, inputs, left, right, op, side, (), variances, aligned)
        return ((self.family.number(one), 1.0),)


def degenerate(archs: Sequence[Architecture], channels: int) -> bool:
    """Return whether an architecture is one that float32 cannot compute.

    A chain of 1x1 convs and relus sees one pixel of a gray image, and most correlations in it are 0 or +-1, where k0
    has its square root. Sums and poolings of it round the 1 away further than float32 can tell.
    """
    if channels != 1:
        return False
    for arch in archs:
        exact: dict[int, bool] = {}  # nodes of such chains; whether without sums and poolings
        for index in arch.live:
            node = arch.nodes[index]
            known = [exact[i] for i in node.inputs if i in exact]
            if isinstance(node.op, ops.Input):
                exact[index] = True
            elif len(known) < len(node.inputs) or (isinstance(node.op, ops.Conv) and node.op.kernel > 1):
                continue
            elif isinstance(node.op, (ops.AvgPool, ops.Add)):
                exact[index] = False
            elif isinstance(node.op, ops.Relu) and not known[0]:
                return True
            else:
                exact[index] = known[0]
    return False


def pool_matrix(op: ops.AvgPool, length: int) -> Matrix:
    """Return the pooling along one axis as a matrix, shape (outputs, length)."""
    windows = op.windows(length)
    means = np.zeros((len(windows), length))
    for row, window in enumerate(windows):
        means[row, window] = 1 / len(window)
    return means


def _scaled(terms: Terms, factor: float) -> Terms:
    return tuple((number, coefficient * factor) for number, coefficient in terms)
