"""From fields to a program: storage and tables, flattened for the compiled engines.

See `schedule.py` for what is computed when, and `program.h` for what the numbers mean to the engine.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_cntk import ops
from nas_cntk.kernels.fields import Field, Fields
from nas_cntk.kernels.schedule import SHORT_PLANE, Group, Indices, Instruction, Kind, Schedule
from nas_cntk.ops import Shape

MOST_HEADS = 64  # of one program; the engine keeps their sums on its stack

TANGENT_IN, TANGENT_OUT, ADD_S, NONNEGATIVE, ALIGNED, NO_OUTPUT = 1, 2, 4, 8, 16, 32  # as `Flag` of program.h

_NONE = np.zeros(0, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class LeftMap:
    """A variance map as relus read it of a left image.

    Args:
        offset, apart: where sqrt(v) begins among all maps of an image, and how far behind it 1 / sqrt(v) does.
        times: how often each row is repeated: twice where two planes that meet around the edge are carried as one.
        scale: sqrt(v) is multiplied by it, 1 / sqrt(v) divided.
    """

    offset: int
    apart: int
    shape: Shape
    times: int
    scale: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A program, flattened: what `Program` of the compiled core reads."""

    integers: NDArray[np.int32]
    reals: NDArray[np.float64]
    map_size: int  # entries of the variance maps of one image, sqrt(v) and 1 / sqrt(v)
    left_maps: tuple[LeftMap, ...]
    entry_layers: int  # entries through a relu, for one pair


def plan(
    family: Fields,
    heads: Sequence[int],
    image_shape: Sequence[int],
    *,
    variances: bool = False,
    tangents: bool = True,
) -> Plan:
    """Return the program of some heads of a family, or of its variance maps.

    Args:
        heads: which heads, at most `MOST_HEADS`.
        image_shape: (h, w, c).
        variances: compute the variance maps of images with themselves instead of heads.
        tangents: compute tangents too (the ntk needs them, the nngp does not).
    """
    assert len(heads) <= MOST_HEADS
    return _Writer(Schedule(family, heads, variances, tangents), image_shape).plan()


class _Writer:
    def __init__(self, schedule: Schedule, image_shape: Sequence[int]) -> None:
        self.schedule, self.family, self.image_shape = schedule, schedule.family, image_shape
        self.pairs, self.scale = schedule.pairs, schedule.family.scales()
        self.nonnegative = schedule.family.nonnegative()
        self.groups = {level: tuple(schedule.groups(level, axis) for axis in (0, 1)) for level in schedule.instructions}
        self.is_global = {n: schedule.last_read[n][0] > schedule.level[n] for n in schedule.needs}
        self.integers: list[NDArray[np.int64]] = []
        self.reals: list[NDArray[np.float64]] = []

    def plan(self) -> Plan:
        slots, slot_sizes, global_sizes = self._storage()
        h, w, c = (int(side) for side in self.image_shape)
        shapes = [self.family.fields[number].left for number in self.schedule.maps]
        areas = [a * b for a, b in shapes]
        offsets = [2 * sum(_apart(area) for area in areas[:i]) for i in range(len(areas) + 1)]
        times = [_left_times(b) for _, b in shapes]
        self._int(h, w, c, len(shapes), *(a for a, _ in shapes), *(b for _, b in shapes))
        self._int(*(b * k for (_, b), k in zip(shapes, times, strict=True)), *offsets)
        left = self._left_maps()
        sizes = [0, *itertools.accumulate(2 * areas[u] * times[u] for u, _ in left)]
        places = dict(zip(left, sizes, strict=False))
        self._int(sizes[-1])
        self._int(len(self.schedule.heads), len(slot_sizes), len(global_sizes))
        for rows, columns in (*slot_sizes, *global_sizes):
            self._int(rows, columns)
        self._int(self._buffer(), len(self.schedule.instructions))
        for level, run in self.schedule.instructions.items():
            rows_of, columns_of = self.groups[level]
            self._int(len(run), len(rows_of), len(columns_of))
            for op in run:
                self._header(op, slots, places)
            for axis in (0, 1):
                for op in run:
                    for group in self.groups[level][axis]:
                        self._table(op, axis, group)
        layers = [number for number in self.schedule.needs if self.family.fields[number].kind == "relu"]
        entries = sum(len(self.pairs[number][0]) * len(self.pairs[number][1]) for number in layers)
        return Plan(
            np.concatenate(self.integers).astype(np.int32),
            np.concatenate(self.reals) if self.reals else np.zeros(0),
            offsets[-1],
            tuple(LeftMap(offsets[u], _apart(areas[u]), shapes[u], times[u], scale) for u, scale in left),
            entries,
        )

    def _relu_scale(self, relu: Field) -> float:
        return self.scale[relu.inputs[0]] if relu.inputs else 1.0

    def _left_maps(self) -> list[tuple[int, float]]:
        """Return the variance maps that relus read of the left image, each with the scale of the relu's input."""
        relus = [
            self.family.fields[number] for number in self.schedule.needs if self.family.fields[number].kind == "relu"
        ]
        return sorted({(self.schedule.maps.index(relu.variances[0]), self._relu_scale(relu)) for relu in relus})

    def _buffer(self) -> int:
        """Return the entries of the buffer that instructions use within themselves."""
        # A row of S and T of the widest input that a linear instruction reads, and a column of zeros behind each.
        most = 2 + 2 * max((len(self.pairs[i][1]) for i in self.schedule.needs), default=0)
        for level, run in self.schedule.instructions.items():
            for op in run:
                if op.kind == Kind.LAYER:
                    rows, columns = (max(len(g[op.relu]) for g in self.groups[level][axis]) for axis in (0, 1))
                    sums = max(len(g[op.out]) for g in self.groups[level][1]) if op.out >= 0 else 0
                    # S and T of one relu row with a column of zeros and of all sums along columns; or, for sliding
                    # windows, of four rows of relu values and one of zeros, each up to 20 entries apart.
                    most = max(most, 2 * (columns + 1) + 2 * rows * sums, 10 * (columns + 20))
        return most

    def _storage(self) -> tuple[dict[int, int], list[tuple[int, int]], list[tuple[int, int]]]:
        """Return the slot of every field, and the sizes (rows, columns) of local and of global slots."""
        slots: dict[int, int] = {}
        sizes: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
        free: dict[bool, list[int]] = {False: [], True: []}

        def free_read(op: Instruction, level: int, at: int) -> None:
            # A global slot is freed between levels only: within one, later blocks still read it.
            for number in {*op.inputs, *([op.out] if op.out in slots else [])}:
                if self.schedule.last_read[number] == (level, at) and not self.is_global[number]:
                    free[False].append(slots[number])

        for level, run in self.schedule.instructions.items():
            for at, op in enumerate(run):
                in_place = op.kind == Kind.LAYER and op.out >= 0 and self._same_pairs(op.inputs[0], op.out)
                if in_place:
                    free_read(op, level, at)
                if op.out >= 0:
                    kind = self.is_global[op.out]
                    if kind:
                        size = len(self.pairs[op.out][0]), len(self.pairs[op.out][1])
                    else:
                        size = tuple(max(len(g[op.out]) for g in self.groups[level][axis]) for axis in (0, 1))  # type: ignore[assignment]
                    if not free[kind]:
                        free[kind].append(len(sizes[kind]))
                        sizes[kind].append((0, 0))
                    slot = slots[op.out] = free[kind].pop()
                    held = sizes[kind][slot]
                    if held[0] * held[1] < size[0] * size[1]:
                        sizes[kind][slot] = size
                if not in_place:
                    free_read(op, level, at)
            for number, (last, _) in self.schedule.last_read.items():
                if last == level and self.is_global[number]:
                    free[True].append(slots[number])
        return slots, sizes[False], sizes[True]

    def _same_pairs(self, a: int, b: int) -> bool:
        return all(np.array_equal(x, y) for x, y in zip(self.pairs[a], self.pairs[b], strict=True))

    def _header(self, op: Instruction, slots: dict[int, int], places: dict[tuple[int, float], int]) -> None:
        flags, u, v, left = 0, 0, 0, 0
        coefficients: tuple[float, ...] = (1.0,) * len(op.inputs)
        if op.inputs and self.schedule.tangent[op.inputs[0]]:
            flags |= TANGENT_IN
        if op.out >= 0:
            one = self.family.fields[op.out]
            flags |= TANGENT_OUT if self.schedule.tangent[op.out] else 0
            if isinstance(one.op, ops.Conv) and one.op.trainable and self.schedule.tangent[op.out]:
                flags |= ADD_S
            if one.kind == "sum":
                of = dict(zip(one.inputs, one.coefficients, strict=True))
                through = op.pool if op.pool >= 0 else op.inputs[0]
                coefficients = tuple(of[i] / self.scale[i] for i in (through, *op.inputs[1:]))
        elif op.kind == Kind.LAYER:
            flags |= NO_OUTPUT
        if op.kind in (Kind.RELU, Kind.LAYER):
            relu = self.family.fields[op.out if op.kind == Kind.RELU else op.relu]
            u, v = (self.schedule.maps.index(number) for number in relu.variances)
            flags |= NONNEGATIVE if op.inputs and self.nonnegative[op.inputs[0]] else 0
            flags |= ALIGNED if relu.aligned else 0
            coefficients = tuple(self.scale[number] for number in op.inputs)
            left = places[u, self._relu_scale(relu)]
        elif op.kind == Kind.VARIANCE:
            u = self.schedule.maps.index(op.inputs[0])
            coefficients = (1 / self.scale[op.inputs[0]],)
        out = (int(self.is_global[op.out]), slots[op.out]) if op.out >= 0 else (0, 0)
        self._int(op.kind, flags, *out, len(op.inputs))
        for number in op.inputs:
            self._int(int(self.is_global[number]), slots[number])
        self._int(*(int(self.schedule.tangent[number]) for number in op.inputs), left, u, v)
        self._real(coefficients)
        self._int(len(op.readouts), *(place for place, _ in op.readouts))
        read = op.relu if op.kind == Kind.LAYER else op.inputs[0] if op.inputs else -1
        for place, term in op.readouts:
            self._real([self.family.heads[self.schedule.heads[place]].terms[term][1] / self.scale[read]])

    def _head_weights(self, op: Instruction, axis: int, pairs: Indices) -> list[NDArray[np.float64]]:
        heads = (self.family.heads[self.schedule.heads[place]] for place, _ in op.readouts)
        return [(head.rows, head.columns)[axis][pairs[:, 0], pairs[:, 1]] for head in heads]

    def _table(self, op: Instruction, axis: int, group: Group) -> None:
        def local(number: int, indices: Indices) -> Indices:
            # Indices of a field's pairs -> indices in its storage for this group.
            if self.is_global[number] or number not in group:
                return indices
            return np.searchsorted(group[number], indices).astype(np.int32)

        def columns(number: int) -> int:
            stored_whole = self.is_global[number] or number not in group
            return len(self.pairs[number][axis]) if stored_whole else len(group[number])

        strides = [columns(number) for number in op.inputs]
        if op.kind in (Kind.HEAD, Kind.VARIANCE):
            mine = group[op.inputs[0]]
            pairs = self.pairs[op.inputs[0]][axis][mine]
            weights = np.zeros(0)
            if op.kind == Kind.HEAD:
                (weights,) = self._head_weights(op, axis, pairs)
                keep = weights != 0
            else:
                keep = pairs[:, 0] == pairs[:, 1]
            self._int(int(keep.sum()), 0, *strides)
            self._ints(local(op.inputs[0], mine[keep]))
            if op.kind == Kind.HEAD:
                self._real(weights[keep])
            else:
                self._ints(pairs[keep, 0])
            return
        if op.kind == Kind.LAYER:
            # First the relu's entries in the group, which the layer takes in its input's storage, then the conv's.
            relu = group[op.relu]
            self._int(len(relu), 0, *strides)
            for side in (0, 1):
                self._ints(self.pairs[op.relu][axis][relu, side])
            runs = self.schedule.runs(op.relu, axis)
            self._ints(local(op.inputs[0], np.array([runs[m][0] for m in relu], dtype=np.int32)))
            weights_of = self._head_weights(op, axis, self.pairs[op.relu][axis][relu])
            self._ints(np.array([bool(weights.any()) for weights in weights_of], dtype=np.int64))
            for weights in weights_of:
                self._real(weights)
            if op.out < 0:
                return
        mine = self._in_order(op, axis, group[op.out])
        self._int(len(mine), columns(op.out), *([] if op.kind == Kind.LAYER else strides))
        self._ints(local(op.out, mine))
        pairs = self.pairs[op.out][axis][mine]
        if op.kind in (Kind.INPUT, Kind.RELU):
            self._ints(pairs[:, 0])
            self._ints(pairs[:, 1])
        if op.kind in (Kind.RELU, Kind.SUM):
            for place, number in enumerate(op.inputs):
                runs = self.schedule.runs(op.out, axis, place)
                self._ints(local(number, np.array([runs[m][0] for m in mine], dtype=np.int32)))
        if op.kind == Kind.LINEAR:
            read, window = op.inputs[0], op.pool if op.pool >= 0 else op.out
            every = self.schedule.runs(window, axis)
            runs = [local(read, every[m]) for m in mine]
            self._linear(window, axis, runs, np.unique(np.concatenate([_NONE, *runs])))
            self._windows(window, read, axis, mine, every, local)
            for number in op.inputs[1:]:
                others = self.schedule.runs(op.out, axis, self.family.fields[op.out].inputs.index(number))
                self._ints(local(number, np.array([others[m][0] for m in mine], dtype=np.int32)))
        if op.kind == Kind.LAYER:
            every = self.schedule.runs(op.out, axis)
            runs = [np.searchsorted(group[op.relu], every[m]).astype(np.int32) for m in mine]
            self._linear(op.out, axis, runs, np.arange(len(group[op.relu]), dtype=np.int32))
            self._segments(op, axis, pairs, group, runs, local)

    def _linear(self, number: int, axis: int, runs: list[Indices], used: Indices) -> None:
        one = self.family.fields[number]
        lengths = np.array([len(run) for run in runs], dtype=np.int32)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        if axis == 0:
            width, chain = int(lengths.max(initial=0)), np.concatenate([_NONE, *runs])
        else:
            # Runs of equal length, the short ones filled up with the column of zeros behind the used ones.
            width = int(lengths.max(initial=0))
            padded = np.full((len(runs), width), len(used), dtype=np.int32)
            for place, run in enumerate(runs):
                padded[place, : len(run)] = np.searchsorted(used, run)
            chain = padded.reshape(-1)
        self._int(len(used), width)
        self._ints(used)
        self._ints(starts)
        self._int(len(chain))
        self._ints(chain)
        self._real(
            np.full(len(runs), self._conv_weight(number) if axis == 0 else 1.0) if one.kind == "conv" else 1 / lengths
        )

    def _conv_weight(self, number: int) -> float:
        # 1, but for the conv that divides a grown scale out.
        one = self.family.fields[number]
        assert isinstance(one.op, ops.Conv)
        return self.scale[number] / (self.scale[one.inputs[0]] * one.op.kernel**2)

    def _in_order(self, op: Instruction, axis: int, mine: Indices) -> Indices:
        # Windows of a pooling go along one side of the pairs.
        one = self.family.fields[op.pool if op.pool >= 0 else op.out]
        if one.kind != "pool":
            return mine
        pairs = self.pairs[op.out][axis][mine]
        return mine[np.lexsort((pairs[:, one.side], pairs[:, 1 - one.side]))]

    def _windows(
        self,
        window: int,
        read: int,
        axis: int,
        mine: Indices,
        every: list[Indices],
        local: Callable[[int, Indices], Indices],
    ) -> None:
        """Write where runs of neighbours begin and the middle of each window, if windows of three slide."""
        one = self.family.fields[window]
        source = self.family.fields[read]
        size = one.op.kernel if isinstance(one.op, ops.Conv) else one.op.size if one.op else 0
        same = (source.left, source.right) == (one.left, one.right)
        if not same or size != 3 or (one.kind == "conv" and self._conv_weight(window) != 1.0):
            self._int(0)
            return
        at = np.full((source.left[axis], source.right[axis]), -1, dtype=np.int32)
        at[tuple(self.pairs[read][axis].T)] = np.arange(len(self.pairs[read][axis]))
        middle = at[tuple(self.pairs[window][axis][mine].T)]
        breaks = [m for m in range(1, len(mine)) if middle[m] not in every[mine[m - 1]]]
        starts = [0, *breaks, len(mine)]
        for first, last in zip(starts, starts[1:], strict=False):
            for m in range(first, last):
                # Sliding sums add neighbours in this order; pools have them ascending along their side.
                expected = middle[max(first, m - 1) : min(last, m + 2)]
                if not np.array_equal(np.sort(every[mine[m]]), np.sort(expected)):
                    self._int(0)
                    return
        self._int(len(starts) - 1)
        self._ints(np.array(starts, dtype=np.int64))
        self._ints(local(read, middle))

    def _segments(
        self,
        op: Instruction,
        axis: int,
        pairs: Indices,
        group: Group,
        runs: list[Indices],
        local: Callable[[int, Indices], Indices],
    ) -> None:
        """Write where runs of neighbours begin, if a layer's window sums can slide along this axis."""
        starts: list[int] = []
        if np.array_equal(pairs, self.pairs[op.relu][axis][group[op.relu]]) and self._conv_weight(op.out) == 1.0:
            inside = self.schedule.runs(op.relu, axis)
            read = local(op.inputs[0], np.array([inside[m][0] for m in group[op.relu]], dtype=np.int32))
            places = np.stack([*pairs.T, local(op.out, group[op.out]), read], axis=1)
            breaks = np.nonzero((np.diff(places, axis=0) != 1).any(axis=1))[0] + 1
            starts = [0, *(int(place) for place in breaks), len(pairs)]
            for first, last in zip(starts, starts[1:], strict=False):
                neighbours = ((max(first, m - 1), min(last, m + 2)) for m in range(first, last))
                if not all(
                    np.array_equal(run, np.arange(*ends))
                    for run, ends in zip(runs[first:last], neighbours, strict=True)
                ):
                    starts = []
                    break
        self._int(max(0, len(starts) - 1))
        self._ints(np.array(starts, dtype=np.int64))

    def _int(self, *values: int) -> None:
        self.integers.append(np.array(values, dtype=np.int64))

    def _ints(self, values: NDArray[np.integer]) -> None:
        self.integers.append(np.asarray(values, dtype=np.int64))

    def _real(self, values: Sequence[float] | NDArray[np.float64]) -> None:
        self.reals.append(np.asarray(values, dtype=np.float64))


def _left_times(width: int) -> int:
    return 2 if width <= 4 * SHORT_PLANE else 1


def _apart(entries: int) -> int:
    # As `apart` of program.h: arrays read side by side do not begin at the same place of a cache's sets.
    return entries + 20 if entries % 64 > 56 or entries % 64 < 8 else entries
