"""When each field is computed, and in what pieces: needed positions, levels, instructions, groups.

Rows and columns are independent: every op of the vocabulary is a product of what it does along i and along j. So a
field is kept as a matrix of the needed row pairs (i, i') by the needed column pairs (j, j'). Row pairs that no
instruction mixes (for stride-1 convs: the pairs of one offset i' - i) are carried through the network alone, in groups
small enough for the cache: the planes of one offset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from nas_cntk import ops
from nas_cntk.kernels.fields import Field, Fields, pool_matrix

Mask = NDArray[np.bool_]  # shape: (h, h'), the needed pairs of positions on one axis
Indices = NDArray[np.int32]
Group = dict[int, Indices]  # of the fields of one level: the indices of their pairs that belong to one group

MOST_ADDED = 2  # fields that are added to a pooling as it is made
SHORT_PLANE = 8  # pairs along one axis: 8 x 8 entries of S and T are 8 KiB, a quarter of most L1 caches


class Kind(IntEnum):
    """As `Kind` of program.h."""

    INPUT = 0
    LINEAR = 1
    RELU = 2
    SUM = 3
    HEAD = 4
    VARIANCE = 5
    LAYER = 6


_KIND_OF_FIELD = {"input": Kind.INPUT, "conv": Kind.LINEAR, "pool": Kind.LINEAR, "relu": Kind.RELU, "sum": Kind.SUM}


@dataclass(frozen=True, slots=True)
class Instruction:
    """One step of a program.

    Args:
        out: the field it computes, or -1.
        inputs: the fields it reads.
        relu: of a layer, the field between its first input and output, which is never stored.
        pool: of a pooling whose result is only added to others, the same.
        readouts: of a head or a layer, which of the chosen heads read its input or its relu, and as which term.
    """

    kind: Kind
    out: int = -1
    inputs: tuple[int, ...] = ()
    relu: int = -1
    readouts: tuple[tuple[int, int], ...] = ()
    pool: int = -1


def needs(family: Fields, heads: Sequence[int], variances: bool) -> dict[int, tuple[Mask, Mask]]:
    """Return the needed pairs of positions, rows and columns, of every field that is needed at all.

    Args:
        heads: the heads to compute.
        variances: instead of heads, the equal positions of the fields that relus take their variances from.
    """
    needed: dict[int, tuple[Mask, Mask]] = {}

    def want(number: int, rows: Mask, columns: Mask) -> None:
        if number in needed:
            # The bounding product of two products: seldom more than their union, and never less.
            rows, columns = needed[number][0] | rows, needed[number][1] | columns
        needed[number] = rows, columns

    if variances:
        for one in family.fields:
            for number in one.variances:
                h, w = family.fields[number].left
                want(number, np.eye(h, dtype=bool), np.eye(w, dtype=bool))
    for head in (family.heads[i] for i in heads):
        for number, _ in head.terms:
            want(number, head.rows != 0, head.columns != 0)
    for number in range(len(family.fields) - 1, -1, -1):
        if number not in needed:
            continue
        one = family.fields[number]
        for read in one.inputs:
            source = family.fields[read]
            rows, columns = (
                _reads(one, mask, (source.left[axis], source.right[axis])) for axis, mask in enumerate(needed[number])
            )
            want(read, rows, columns)
    return needed


def _reads(one: Field, mask: Mask, lengths: tuple[int, int]) -> Mask:
    # The pairs of the input that the pairs `mask` of a field read, on one axis.
    if isinstance(one.op, ops.Conv):
        wanted = np.zeros(lengths, dtype=bool)
        left, right = np.nonzero(mask)
        for a in range(-_reach(one.op, lengths), _reach(one.op, lengths) + 1):
            i, k = left * one.op.stride + a, right * one.op.stride + a
            inside = (i >= 0) & (i < lengths[0]) & (k >= 0) & (k < lengths[1])
            wanted[i[inside], k[inside]] = True
        return wanted
    if isinstance(one.op, ops.AvgPool):
        touched = pool_matrix(one.op, lengths[one.side]) != 0
        if one.side == 0:
            return np.asarray(touched.T.astype(np.int64) @ mask > 0)
        return np.asarray(mask.astype(np.int64) @ touched > 0)
    return mask


def _reach(op: ops.Conv, lengths: tuple[int, int]) -> int:
    return min((op.kernel - 1) // 2, max(lengths) - 1)


def variance_fields(family: Fields) -> list[int]:
    """Return the fields whose equal positions are variance maps, in the order of their numbers in a program."""
    return sorted({number for one in family.fields for number in one.variances})


class Schedule:
    """The schedule of some heads of a family, or of its variance maps.

    Attributes:
        needs: of every field that is needed, the masks of its row and column pairs.
        pairs: the same as lists, shape (n, 2), by offset and then by position.
        tangent: whether its tangent is computed.
        level: when it is computed: poolings, which mix offsets, in odd levels, everything else in even ones.
        instructions: of every level, in order.
        last_read: the level and instruction after which it is no longer needed.
    """

    def __init__(
        self,
        family: Fields,
        heads: Sequence[int],
        variances: bool,
        tangents: bool,
    ) -> None:
        self.family, self.heads, self.own = family, heads, variances
        self.maps = variance_fields(family)
        self.needs = needs(family, heads, variances)
        live = sorted(self.needs)
        tangent = family.has_tangent()
        self.tangent = {number: tangents and not variances and tangent[number] for number in live}
        self.pairs = {
            number: tuple(_ordered(mask) for mask in self.needs[number]) for number in live
        }  # per axis, shape (n, 2)
        self.added: dict[int, int] = {}  # sums, each with the pooling that is made as it is added
        self.level = self._levels(live)
        self.layers = self._layers(live)
        self.instructions = self._instructions(live)
        self.last_read = self._last_reads()
        self._runs: dict[tuple[int, int, int], list[Indices]] = {}

    def _levels(self, live: list[int]) -> dict[int, int]:
        # Poolings mix offsets and get the odd levels; between them everything travels offset by offset.
        level: dict[int, int] = {}
        sliding, own_maps = self._sliding_pools(live), set(self.maps) if self.own else set()
        for number in live:
            one = self.family.fields[number]
            least = max((level[i] for i in (*one.inputs, *(one.variances if self.own else ()))), default=0)
            odd = one.kind == "pool"
            level[number] = least + (least % 2 != odd)
            # What is only added to earlier fields is added as it is pooled. (Variances are taken in even levels.)
            if one.kind == "sum" and len(one.inputs) <= MOST_ADDED + 1 and number not in own_maps:
                late = [i for i in one.inputs if level[i] == least]
                if len(late) == 1 and late[0] in sliding:
                    self.added[number], level[number] = late[0], least
        return level

    def _sliding_pools(self, live: list[int]) -> set[int]:
        # Poolings of three neighbours that nothing reads but one sum.
        readers: dict[int, int] = {}
        for number in live:
            for read in self.family.fields[number].inputs:
                readers[read] = readers.get(read, 0) + 1
        heads = {number for index in self.heads for number, _ in self.family.heads[index].terms}
        found = set()
        for number in live:
            one = self.family.fields[number]
            if not isinstance(one.op, ops.AvgPool) or readers.get(number, 0) != 1 or number in heads:
                continue
            if (one.op.size, one.op.stride, one.op.padding) != (3, 1, "same") or (self.own and number in self.maps):
                continue
            # Its windows slide if they read no more than the neighbours of what is needed.
            masks = self.needs[number]
            reads = [_reads(one, mask, (one.left[axis], one.right[axis])) for axis, mask in enumerate(masks)]
            if all(np.array_equal(read, mask) for read, mask in zip(reads, masks, strict=True)):
                found.add(number)
        return found

    def _layers(self, live: list[int]) -> dict[int, int]:
        """Return the relus that are never stored, each with the conv that alone reads it, or -1 if only heads do."""
        readers: dict[int, list[int]] = {}
        for number in live:
            for read in self.family.fields[number].inputs:
                readers.setdefault(read, []).append(number)
        found = {}
        for number in live:
            one, users = self.family.fields[number], readers.get(number, [])
            if one.kind != "relu" or not one.inputs or one.aligned or (self.own and number in self.maps):
                continue
            if not users:
                found[number] = -1
            elif len(users) == 1 and self.family.fields[users[0]].kind == "conv":
                found[number] = users[0]
        return found

    def _instructions(self, live: list[int]) -> dict[int, list[Instruction]]:
        by_level: dict[int, list[Instruction]] = {}
        relu_of = {conv: relu for relu, conv in self.layers.items() if conv >= 0}
        pools = set(self.added.values())
        readouts: dict[int, list[tuple[int, int]]] = {}
        for place, index in enumerate(self.heads):
            for term, (read, _) in enumerate(self.family.heads[index].terms):
                readouts.setdefault(read, []).append((place, term))
        for number in live:
            one, read_by = self.family.fields[number], tuple(readouts.get(number, ()))
            run = by_level.setdefault(self.level[number], [])
            if number in relu_of:
                relu = relu_of[number]
                heads = tuple(readouts.get(relu, ()))
                run.append(Instruction(Kind.LAYER, number, self.family.fields[relu].inputs, relu, heads))
            elif self.layers.get(number) == -1:
                run.append(Instruction(Kind.LAYER, -1, one.inputs, number, read_by))
            elif number in self.added:
                pool = self.added[number]
                others = tuple(i for i in one.inputs if i != pool)
                run.append(Instruction(Kind.LINEAR, number, (*self.family.fields[pool].inputs, *others), pool=pool))
            elif number not in self.layers and number not in pools:
                run.append(Instruction(_KIND_OF_FIELD[one.kind], number, one.inputs))
            if self.own and number in self.maps:
                run.append(Instruction(Kind.VARIANCE, inputs=(number,)))
            if number not in self.layers:
                run.extend(Instruction(Kind.HEAD, inputs=(number,), readouts=(one_of,)) for one_of in read_by)
        return {level: run for level, run in sorted(by_level.items()) if run}

    def _last_reads(self) -> dict[int, tuple[int, int]]:
        # (level, instruction) of the last reader of every field.
        last: dict[int, tuple[int, int]] = {}
        for level, run in self.instructions.items():
            for at, op in enumerate(run):
                for number in (*op.inputs, *(i for i in (op.relu, op.pool, op.out) if i >= 0)):
                    last[number] = max(last.get(number, (-1, -1)), (level, at))
        return last

    def groups(self, level: int, axis: int) -> list[Group]:
        """Return the groups of one axis of a level: for every field of it, the indices of its pairs in the group."""
        mine = [number for op in self.instructions[level] for number in (op.relu, op.pool, op.out) if number >= 0]
        start, total = {}, 0
        for number in mine:
            start[number] = total
            total += len(self.pairs[number][axis])
        edges = [np.zeros((0, 2), dtype=np.int64)]
        for number in mine:
            for place, read in enumerate(self.family.fields[number].inputs):
                if self.level[read] == level:
                    runs = self.runs(number, axis, place)
                    out = np.repeat(np.arange(len(runs)), [len(run) for run in runs])
                    edges.append(np.stack([start[number] + out, start[read] + np.concatenate(runs)], axis=1))
            if self.family.fields[number].kind == "pool":
                # Its windows slide along one side: those of one position on the other stay together.
                fixed = self.pairs[number][axis][:, 1 - self.family.fields[number].side]
                order = np.argsort(fixed, kind="stable")
                same = np.diff(fixed[order]) == 0
                edges.append(start[number] + np.stack([order[:-1][same], order[1:][same]], axis=1))
        label = _components(total, np.concatenate(edges))
        if self.own:
            # Every image with itself: the equal positions come first and together, since relus need the variances.
            equal = np.concatenate([self.pairs[n][axis][:, 0] == self.pairs[n][axis][:, 1] for n in mine])
            label[np.isin(label, label[equal])] = -1
        # Components of most pairs first, packed into groups of about the longest plane.
        field_of = np.repeat(np.arange(len(mine)), [len(self.pairs[n][axis]) for n in mine])
        size: dict[int, int] = {}
        for one in np.unique(label):
            size[int(one)] = int(np.bincount(field_of[label == one]).max())
        longest = max(size.values())
        # Short planes are packed into groups of about the longest one; long ones fill the cache by themselves.
        capacity = max(longest, SHORT_PLANE) if longest <= (2, 4)[axis] * SHORT_PLANE else 0
        around = self._offsets_around(mine, axis, label)
        packed: list[tuple[list[int], int]] = []
        for one in sorted(size, key=lambda x: (x != -1, -size[x], x)):
            fitting = [place for place, (_, used) in enumerate(packed) if used + size[one] <= capacity]
            fitting.sort(key=lambda place: around[packed[place][0][0]] != around[one])  # stable
            if fitting:
                members, used = packed[fitting[0]]
                packed[fitting[0]] = [*members, one], used + size[one]
            else:
                packed.append(([one], size[one]))
        found = []
        for members, _ in packed:
            inside = np.isin(label, members)
            found.append(
                {
                    n: np.nonzero(inside[start[n] : start[n] + len(self.pairs[n][axis])])[0].astype(np.int32)
                    for n in mine
                }
            )
        return found

    def _offsets_around(self, mine: list[int], axis: int, label: NDArray[np.int64]) -> dict[int, tuple[int, int]]:
        """Return, of every component, the first field it is in and the offset there, taken around the edge."""
        offsets = []
        for number in mine:
            left, right = self.pairs[number][axis].T
            offsets.append((right - left) % self.family.fields[number].right[axis])
        offset, field = np.concatenate(offsets), np.repeat(mine, [len(part) for part in offsets])
        names, first = np.unique(label, return_index=True)
        return {int(name): (int(field[at]), int(offset[at])) for name, at in zip(names, first, strict=True)}

    def runs(self, number: int, axis: int, place: int = 0) -> list[Indices]:
        """Return, for every pair of a field on an axis, the indices of the pairs of an input that it reads."""
        key = (number, axis, place)
        if key not in self._runs:
            self._runs[key] = self._new_runs(number, axis, place)
        return self._runs[key]

    def _new_runs(self, number: int, axis: int, place: int) -> list[Indices]:
        one = self.family.fields[number]
        read = one.inputs[place]
        source = self.family.fields[read]
        lengths = source.left[axis], source.right[axis]
        at = np.full(lengths, -1, dtype=np.int32)
        i, k = self.pairs[read][axis].T
        at[i, k] = np.arange(len(i))
        pairs = self.pairs[number][axis]
        if isinstance(one.op, ops.Conv):
            reach, stride = _reach(one.op, lengths), one.op.stride
            steps = np.arange(-reach, reach + 1)
            left, right = pairs[:, :1] * stride + steps, pairs[:, 1:] * stride + steps
            inside = (left >= 0) & (left < lengths[0]) & (right >= 0) & (right < lengths[1])
            return [at[a[ok], b[ok]] for a, b, ok in zip(left, right, inside, strict=True)]
        if isinstance(one.op, ops.AvgPool):
            windows = one.op.windows(lengths[one.side])
            if one.side == 0:
                return [at[list(windows[a]), b] for a, b in pairs]
            return [at[a, list(windows[b])] for a, b in pairs]
        return [at[a : a + 1, b] for a, b in pairs]


def _ordered(mask: Mask) -> Indices:
    # Needed pairs in the order of their offset, taken around the edge, then of their right position: neighbours of one
    # plane are neighbours here, and so are the two planes that together have one entry for every right position.
    left, right = np.nonzero(mask)
    order = np.lexsort((right, (right - left) % mask.shape[1]))
    return np.stack([left, right], axis=1)[order].astype(np.int32)


def _components(n: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    # Connected components: every node gets the least label that reaches it, labels being followed to their roots.
    label = np.arange(n)
    while True:
        least = label.copy()
        np.minimum.at(least, edges[:, 0], label[edges[:, 1]])
        np.minimum.at(least, edges[:, 1], label[edges[:, 0]])
        least = np.minimum(least, least[least])
        if np.array_equal(least, label):
            return label
        label = least
