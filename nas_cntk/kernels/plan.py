"""From fields to a program: needed positions, levels, groups, storage and tables for the compiled engines.

Rows and columns are independent: every op of the vocabulary is a product of what it does along i and along j. So a
field is kept as a matrix of the needed row pairs (i, i') by the needed column pairs (j, j'), and every instruction is
a table on each axis. Row pairs that no instruction mixes (for stride-1 convs: the pairs of one offset i' - i) are
carried through the network alone, in groups small enough for the cache: the planes of one offset. See `program.h` for
what the numbers mean to the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_cntk import ops
from nas_cntk.kernels.fields import Field, Fields, pool_matrix

Mask = NDArray[np.bool_]  # shape: (h, h'), the needed pairs of positions on one axis
Indices = NDArray[np.int32]

SHORT_PLANE = 8  # pairs along one axis: 8 x 8 entries of S and T are 8 KiB, a quarter of most L1 caches
MOST_HEADS = 64  # of one program; the engine keeps their sums on its stack

INPUT, LINEAR, RELU, SUM, HEAD, VARIANCE, LAYER = range(7)
TANGENT_IN, TANGENT_OUT, ADD_S, NONNEGATIVE, ALIGNED = 1, 2, 4, 8, 16


@dataclass(frozen=True, slots=True)
class Plan:
    """A program, flattened: what `Program` of the compiled core reads."""

    integers: NDArray[np.int32]
    reals: NDArray[np.float64]
    heads: int
    map_size: int  # entries of the variance maps of one image, sqrt(v) and 1 / sqrt(v)
    left_maps: tuple[tuple[int, int, int, float], ...]  # of left images: offset, step to 1 / sqrt(v), entries, scale
    entry_layers: int  # entries through a relu, for one pair
    scratch_vectors: int


@dataclass(slots=True)
class _Instruction:
    kind: int
    out: int = -1  # field
    inputs: tuple[int, ...] = ()  # fields
    head: int = 0
    relu: int = -1  # of a layer: the field between input and output, which is never stored


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
    return _Planner(family, heads, image_shape, variances, tangents).plan()


class _Planner:
    def __init__(
        self,
        family: Fields,
        heads: Sequence[int],
        image_shape: Sequence[int],
        variances: bool,
        tangents: bool,
    ) -> None:
        self.family, self.heads, self.image_shape, self.own = family, heads, image_shape, variances
        self.maps = variance_fields(family)
        self.needs = needs(family, heads, variances)
        live = sorted(self.needs)
        tangent = family.has_tangent()
        self.tangent = {number: tangents and not variances and tangent[number] for number in live}
        self.nonnegative = family.nonnegative()
        self.scale = family.scales()
        self.pairs = {
            number: tuple(_ordered(mask) for mask in self.needs[number]) for number in live
        }  # per axis, shape (n, 2)
        self.level = self._levels(live)
        self.layers = self._layers(live)
        self.instructions = self._instructions(live)
        self.last_read = self._last_reads()
        self.runs: dict[tuple[int, int, int], list[Indices]] = {}
        self.integers: list[NDArray[np.int32]] = []
        self.reals: list[NDArray[np.float64]] = []

    def _levels(self, live: list[int]) -> dict[int, int]:
        # Poolings mix offsets and get the odd levels; between them everything travels offset by offset.
        level: dict[int, int] = {}
        for number in live:
            one = self.family.fields[number]
            least = max((level[i] for i in (*one.inputs, *(one.variances if self.own else ()))), default=0)
            odd = one.kind == "pool"
            level[number] = least + (least % 2 != odd)
        return level

    def _layers(self, live: list[int]) -> dict[int, int]:
        """Return, for every conv that is the only reader of the relu before it, that relu: they are one instruction."""
        readers: dict[int, list[int]] = {}
        for number in live:
            for read in self.family.fields[number].inputs:
                readers.setdefault(read, []).append(number)
        elsewhere = {read for index in self.heads for read, _ in self.family.heads[index].terms}
        if self.own:
            elsewhere.update(self.maps)
        return {
            users[0]: relu
            for relu, users in readers.items()
            if self.family.fields[relu].kind == "relu"
            and self.family.fields[relu].inputs
            and not self.family.fields[relu].aligned
            and len(users) == 1
            and self.family.fields[users[0]].kind == "conv"
            and relu not in elsewhere
        }

    def _instructions(self, live: list[int]) -> dict[int, list[_Instruction]]:
        by_level: dict[int, list[_Instruction]] = {}
        kinds = {"input": INPUT, "conv": LINEAR, "pool": LINEAR, "relu": RELU, "sum": SUM}
        for number in live:
            one = self.family.fields[number]
            run = by_level.setdefault(self.level[number], [])
            if number in self.layers:
                relu = self.layers[number]
                run.append(_Instruction(LAYER, number, self.family.fields[relu].inputs, relu=relu))
            elif number not in self.layers.values():
                run.append(_Instruction(kinds[one.kind], number, one.inputs))
            if self.own and number in self.maps:
                run.append(_Instruction(VARIANCE, inputs=(number,)))
            for place, index in enumerate(self.heads):
                for term, (read, _) in enumerate(self.family.heads[index].terms):
                    if read == number:
                        run.append(_Instruction(HEAD, inputs=(number,), head=place * 10**6 + term))
        return dict(sorted(by_level.items()))

    def _last_reads(self) -> dict[int, tuple[int, int]]:
        # (level, instruction) of the last reader of every field.
        last: dict[int, tuple[int, int]] = {}
        for level, run in self.instructions.items():
            for at, op in enumerate(run):
                for number in (*op.inputs, *(i for i in (op.relu, op.out) if i >= 0)):
                    last[number] = max(last.get(number, (-1, -1)), (level, at))
        return last

    def plan(self) -> Plan:
        is_global = {number: self.last_read[number][0] > self.level[number] for number in self.needs}
        groups = {level: tuple(self._groups(level, axis) for axis in (0, 1)) for level in self.instructions}
        slots, slot_sizes, global_sizes = self._storage(is_global, groups)
        h, w, c = (int(side) for side in self.image_shape)
        shapes = [self.family.fields[number].left for number in self.maps]
        areas = [a * b for a, b in shapes]
        offsets = [2 * sum(_apart(area) for area in areas[:i]) for i in range(len(areas) + 1)]
        self._int(h, w, c, len(shapes), *(a for a, _ in shapes), *(b for _, b in shapes), *offsets)
        left = self._left_maps()
        places = {one: 2 * sum(areas[u] for u, _ in left[:i]) for i, one in enumerate(left)}
        self._int(2 * sum(areas[u] for u, _ in left))
        self._int(len(self.heads), len(slot_sizes), len(global_sizes))
        for rows, columns in (*slot_sizes, *global_sizes):
            self._int(rows, columns)
        buffer = self._buffer(groups)
        self._int(buffer, len(self.instructions))
        for level, run in self.instructions.items():
            rows_of, columns_of = groups[level]
            self._int(len(run), len(rows_of), len(columns_of))
            for op in run:
                self._header(op, is_global, slots, places)
            for axis in (0, 1):
                for op in run:
                    for group in groups[level][axis]:
                        self._table(op, axis, group, is_global)
        layers = [number for number in self.needs if self.family.fields[number].kind == "relu"]
        entries = sum(len(self.pairs[number][0]) * len(self.pairs[number][1]) for number in layers)
        scratch = 2 * sum(a * b for a, b in (*slot_sizes, *global_sizes)) + buffer
        return Plan(
            np.concatenate(self.integers).astype(np.int32),
            np.concatenate(self.reals) if self.reals else np.zeros(0),
            len(self.heads),
            offsets[-1],
            tuple((offsets[u], _apart(areas[u]), areas[u], scale) for u, scale in left),
            entries,
            scratch,
        )

    def _relu_scale(self, relu: Field) -> float:
        return self.scale[relu.inputs[0]] if relu.inputs else 1.0

    def _left_maps(self) -> list[tuple[int, float]]:
        """Return the variance maps that relus read of the left image, each with the scale of the relu's input."""
        relus = [self.family.fields[number] for number in self.needs if self.family.fields[number].kind == "relu"]
        return sorted({(self.maps.index(relu.variances[0]), self._relu_scale(relu)) for relu in relus})

    def _buffer(self, groups: dict[int, tuple[list[dict[int, Indices]], ...]]) -> int:
        """Return the entries of the buffer that instructions use within themselves."""
        # A row of the widest input that a linear instruction reads, and a column of zeros behind it.
        most = 1 + max((len(self.pairs[i][1]) for i in self.needs), default=0)
        for level, run in self.instructions.items():
            for op in run:
                if op.kind == LAYER:
                    rows, columns = (max(len(g[op.relu]) for g in groups[level][axis]) for axis in (0, 1))
                    sums = max(len(g[op.out]) for g in groups[level][1])
                    # S and T of one relu row with a column of zeros and of all sums along columns; or, for sliding
                    # windows, four sums a column and two rows to spare.
                    most = max(most, 2 * (columns + 1) + 2 * rows * sums, 6 * columns)
        return most

    def _groups(self, level: int, axis: int) -> list[dict[int, Indices]]:
        """Return the groups of one axis of a level: for every field of it, the indices of its pairs in the group."""
        mine = [number for op in self.instructions[level] for number in (op.relu, op.out) if number >= 0]
        start, total = {}, 0
        for number in mine:
            start[number] = total
            total += len(self.pairs[number][axis])
        edges = [np.zeros((0, 2), dtype=np.int64)]
        for number in mine:
            for place, read in enumerate(self.family.fields[number].inputs):
                if self.level[read] == level:
                    runs = self._runs(number, axis, place)
                    out = np.repeat(np.arange(len(runs)), [len(run) for run in runs])
                    edges.append(np.stack([start[number] + out, start[read] + np.concatenate(runs)], axis=1))
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
        capacity = max(longest, SHORT_PLANE) if longest <= (2 * SHORT_PLANE, SHORT_PLANE)[axis] else 0
        packed: list[tuple[list[int], int]] = []
        for one in sorted(size, key=lambda x: (x != -1, -size[x], x)):
            for place, (members, used) in enumerate(packed):
                if used + size[one] <= capacity:
                    packed[place] = [*members, one], used + size[one]
                    break
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

    def _runs(self, number: int, axis: int, place: int = 0) -> list[Indices]:
        """Return, for every pair of a field on an axis, the indices of the pairs of an input that it reads."""
        key = (number, axis, place)
        if key not in self.runs:
            self.runs[key] = self._new_runs(number, axis, place)
        return self.runs[key]

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

    def _storage(
        self, is_global: dict[int, bool], groups: dict[int, tuple[list[dict[int, Indices]], ...]]
    ) -> tuple[dict[int, int], list[tuple[int, int]], list[tuple[int, int]]]:
        """Return the slot of every field, and the sizes (rows, columns) of local and of global slots."""
        slots: dict[int, int] = {}
        sizes: dict[bool, list[tuple[int, int]]] = {False: [], True: []}
        free: dict[bool, list[int]] = {False: [], True: []}

        def free_read(op: _Instruction, level: int, at: int) -> None:
            # A global slot is freed between levels only: within one, later blocks still read it.
            for number in {*op.inputs, *([op.out] if op.out in slots else [])}:
                if self.last_read[number] == (level, at) and not is_global[number]:
                    free[False].append(slots[number])

        for level, run in self.instructions.items():
            for at, op in enumerate(run):
                if op.kind == LAYER:  # its output may take its input's place
                    free_read(op, level, at)
                if op.out >= 0:
                    kind = is_global[op.out]
                    if kind:
                        size = len(self.pairs[op.out][0]), len(self.pairs[op.out][1])
                    else:
                        size = tuple(max(len(g[op.out]) for g in groups[level][axis]) for axis in (0, 1))  # type: ignore[assignment]
                    if not free[kind]:
                        free[kind].append(len(sizes[kind]))
                        sizes[kind].append((0, 0))
                    slot = slots[op.out] = free[kind].pop()
                    held = sizes[kind][slot]
                    if held[0] * held[1] < size[0] * size[1]:
                        sizes[kind][slot] = size
                if op.kind != LAYER:
                    free_read(op, level, at)
            for number, (last, _) in self.last_read.items():
                if last == level and is_global[number]:
                    free[True].append(slots[number])
        return slots, sizes[False], sizes[True]

    def _header(
        self, op: _Instruction, is_global: dict[int, bool], slots: dict[int, int], places: dict[tuple[int, float], int]
    ) -> None:
        flags, u, v, left = 0, 0, 0, 0
        coefficients: tuple[float, ...] = (1.0,) * len(op.inputs)
        if op.inputs and self.tangent[op.inputs[0]]:
            flags |= TANGENT_IN
        if op.out >= 0:
            one = self.family.fields[op.out]
            flags |= TANGENT_OUT if self.tangent[op.out] else 0
            if isinstance(one.op, ops.Conv) and one.op.trainable and self.tangent[op.out]:
                flags |= ADD_S
            if op.kind in (RELU, LAYER):
                relu = self.family.fields[op.out if op.kind == RELU else op.relu]
                u, v = (self.maps.index(number) for number in relu.variances)
                flags |= NONNEGATIVE if op.inputs and self.nonnegative[op.inputs[0]] else 0
                flags |= ALIGNED if relu.aligned else 0
                coefficients = tuple(self.scale[number] for number in op.inputs)
                left = places[u, self._relu_scale(relu)]
            if one.kind == "sum":
                coefficients = tuple(c / self.scale[i] for c, i in zip(one.coefficients, op.inputs, strict=True))
        elif op.kind == HEAD:
            u, term = divmod(op.head, 10**6)
            coefficients = (self.family.heads[self.heads[u]].terms[term][1] / self.scale[op.inputs[0]],)
        elif op.kind == VARIANCE:
            u = self.maps.index(op.inputs[0])
            coefficients = (1 / self.scale[op.inputs[0]],)
        out = (int(is_global[op.out]), slots[op.out]) if op.out >= 0 else (0, 0)
        self._int(op.kind, flags, *out, len(op.inputs))
        for number in op.inputs:
            self._int(int(is_global[number]), slots[number])
        self._int(*(int(self.tangent[number]) for number in op.inputs), left, u, v)
        self._real(coefficients)

    def _table(self, op: _Instruction, axis: int, group: dict[int, Indices], is_global: dict[int, bool]) -> None:
        def local(number: int, indices: Indices) -> Indices:
            # Indices of a field's pairs -> indices in its storage for this group.
            if is_global[number] or number not in group:
                return indices
            return np.searchsorted(group[number], indices).astype(np.int32)

        def columns(number: int) -> int:
            stored_whole = is_global[number] or number not in group
            return len(self.pairs[number][axis]) if stored_whole else len(group[number])

        strides = [columns(number) for number in op.inputs]
        if op.out < 0:
            mine = group[op.inputs[0]]
            pairs = self.pairs[op.inputs[0]][axis][mine]
            weights = np.zeros(0)
            if op.kind == HEAD:
                head = self.family.heads[self.heads[op.head // 10**6]]
                weights = (head.rows, head.columns)[axis][pairs[:, 0], pairs[:, 1]]
                keep = weights != 0
            else:
                keep = pairs[:, 0] == pairs[:, 1]
            self._int(int(keep.sum()), 0, *strides)
            self._ints(local(op.inputs[0], mine[keep]))
            if op.kind == HEAD:
                self._real(weights[keep])
            else:
                self._ints(pairs[keep, 0])
            return
        if op.kind == LAYER:
            # First the relu's entries in the group, which the layer takes in its input's storage, then the conv's.
            relu = group[op.relu]
            self._int(len(relu), 0, *strides)
            for side in (0, 1):
                self._ints(self.pairs[op.relu][axis][relu, side])
            runs = self._runs(op.relu, axis)
            self._ints(local(op.inputs[0], np.array([runs[m][0] for m in relu], dtype=np.int32)))
        mine = group[op.out]
        self._int(len(mine), columns(op.out), *([] if op.kind == LAYER else strides))
        self._ints(local(op.out, mine))
        pairs = self.pairs[op.out][axis][mine]
        if op.kind in (INPUT, RELU):
            self._ints(pairs[:, 0])
            self._ints(pairs[:, 1])
        if op.kind in (RELU, SUM):
            for place, number in enumerate(op.inputs):
                runs = self._runs(op.out, axis, place)
                self._ints(local(number, np.array([runs[m][0] for m in mine], dtype=np.int32)))
        if op.kind == LINEAR:
            read = op.inputs[0]
            runs = [local(read, self._runs(op.out, axis)[m]) for m in mine]
            self._linear(op.out, axis, runs)
        if op.kind == LAYER:
            every = self._runs(op.out, axis)
            runs = [np.searchsorted(group[op.relu], every[m]).astype(np.int32) for m in mine]
            self._linear(op.out, axis, runs)
            self._segments(op, axis, pairs, group, runs, local)

    def _linear(self, number: int, axis: int, runs: list[Indices]) -> None:
        one = self.family.fields[number]
        lengths = np.array([len(run) for run in runs], dtype=np.int32)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        used = np.unique(np.concatenate(runs)).astype(np.int32) if runs else np.zeros(0, dtype=np.int32)
        if axis == 0:
            width, chain = int(lengths.max(initial=0)), np.concatenate(runs) if runs else used
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

    def _segments(
        self,
        op: _Instruction,
        axis: int,
        pairs: Indices,
        group: dict[int, Indices],
        runs: list[Indices],
        local: Callable[[int, Indices], Indices],
    ) -> None:
        """Write where runs of neighbours begin, if a layer's window sums can slide along this axis."""
        starts: list[int] = []
        if np.array_equal(pairs, self.pairs[op.relu][axis][group[op.relu]]) and self._conv_weight(op.out) == 1.0:
            inside = self._runs(op.relu, axis)
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


def _apart(entries: int) -> int:
    # As `apart` of program.h: arrays read side by side do not begin at the same place of a cache's sets.
    return entries + 20 if entries % 64 > 56 or entries % 64 < 8 else entries


def _ordered(mask: Mask) -> Indices:
    # Needed pairs in the order of their offset, then of their position: neighbours of one plane are neighbours here.
    left, right = np.nonzero(mask)
    order = np.lexsort((left, right - left))
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
