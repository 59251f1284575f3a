"""From fields to launches of gram.cu: stretches that planes of one offset travel through alone, and single fields.

Fields of one map size that only convs of stride 1, relus and sums lie between form a *stretch*: one launch takes every
plane of one offset (modulo the map's size) through all of it. What mixes planes or has maps of two sizes is computed
one field a launch, from and to global memory. `gram.cu` says what the numbers below mean to the kernels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from nas_cntk import ops
from nas_cntk.architecture import Architecture
from nas_cntk.kernels.cuda_layout import (
    BLOCK_THREADS,
    FIELD_WORDS,
    MOST_HEADS,
    OP,
    SLOTS,
    WARP,
    CudaPlan,
    Flag,
    Integers,
    Kind,
    Launch,
    Limits,
    Program,
    Sheets,
    Single,
    Stretch,
    thread_tile,
)
from nas_cntk.kernels.fields import Field, Fields, lower
from nas_cntk.kernels.schedule import needs, variance_fields

Pairs = NDArray[np.int64]  # shape: (n, 2), positions on one axis of the left and the right map
Plane = tuple[int, int]  # offset (di, dj), modulo the map's size


def cuda_plan(
    archs: Sequence[Architecture], image_shape: Sequence[int], itemsize: int, tangents: bool, limits: Limits
) -> CudaPlan:
    """Return the plan of a family on images of shape (h, w, c), values of `itemsize` bytes.

    Raises:
        IllegalArchitecture: if an architecture does not fit the image.
    """
    family = lower(archs, image_shape)
    height, width, channels = (int(side) for side in image_shape)
    choose = limits.tile or thread_tile
    maps = variance_fields(family)
    shapes = sorted({(height, width), *(one.left for one in family.fields), *(one.right for one in family.fields)})
    sheets = tuple(
        Sheets(
            shape,
            channels if shape == (height, width) else 0,
            tuple(number for number in maps if family.fields[number].left == shape),
            choose(shape),
        )
        for shape in shapes
    )
    own = _Assembler(family, sheets, (), True, False, itemsize, limits).program()
    heads = range(len(family.heads))
    main = tuple(
        _Assembler(family, sheets, heads[start : start + MOST_HEADS], False, tangents, itemsize, limits).program()
        for start in range(0, len(heads), MOST_HEADS)
    )
    relus = [
        int(rows.sum()) * int(columns.sum())
        for number, (rows, columns) in needs(family, heads, variances=False).items()
        if family.fields[number].kind == "relu"
    ]
    return CudaPlan(family, sheets, own, main, itemsize, tangents, sum(relus))


@dataclass(slots=True)
class _Stored:
    # How a field lies in global memory: its row pairs and column pairs, and the index of every pair or -1.
    pairs: tuple[Pairs, Pairs]
    at: tuple[Integers, Integers]  # shapes: (h, h') and (w, w')
    place: int = 0  # of S, in elements of one pair; T is behind it
    tables: tuple[int, int] = (0, 0)  # of the first row (column) of every offset

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.pairs[0]), len(self.pairs[1])

    @property
    def size(self) -> int:
        return self.shape[0] * self.shape[1]


@dataclass(slots=True)
class _Room:
    # First fit in the elements of one pair.
    taken: list[tuple[int, int]] = field(default_factory=list)
    most: int = 0

    def take(self, size: int) -> int:
        place = 0
        for begin, end in sorted(self.taken):
            if place + size <= begin:
                break
            place = max(place, end)
        self.taken.append((place, place + size))
        self.most = max(self.most, place + size)
        return place

    def free(self, place: int) -> None:
        self.taken = [one for one in self.taken if one[0] != place]


class _Assembler:
    def __init__(
        self,
        family: Fields,
        sheets: Sequence[Sheets],
        heads: Sequence[int],
        own: bool,
        tangents: bool,
        itemsize: int,
        limits: Limits,
    ) -> None:
        self.family, self.heads, self.own, self.tangents = family, heads, own, tangents
        self.itemsize, self.limits = itemsize, limits
        self.sheets = {one.shape: one for one in sheets}
        self.scale = family.scales()
        self.nonnegative = family.nonnegative()
        self.needs = needs(family, heads, own)
        self.live = sorted(self.needs)
        self.maps = {number for one in sheets for number in one.fields} if own else set()
        self.head_terms: dict[int, list[tuple[int, float]]] = {}
        for place, index in enumerate(heads):
            for number, coefficient in family.heads[index].terms:
                self.head_terms.setdefault(number, []).append((place, coefficient / self.scale[number]))
        self.tables: list[NDArray[np.int64]] = []
        self.weights: list[NDArray[np.float64]] = []
        self.table_size = self.weight_size = 0

    def program(self) -> Program:
        runs = self._runs()
        readers: dict[int, list[int]] = {}
        run_of = {number: place for place, (_, members) in enumerate(runs) for number in members}
        for number in self.live:
            for read in self.family.fields[number].inputs:
                readers.setdefault(read, []).append(run_of[number])
        single = {number for together, members in runs if not together for number in members}
        self.stored = {
            number: self._layout(number)
            for number in self.live
            if number in single or any(place != run_of[number] for place in readers.get(number, []))
        }
        self._places(runs, run_of, readers)
        for one in self.stored.values():
            one.tables = self._offset_tables(one)
        self.order = sorted(self.stored)
        steps: list[Stretch | Single] = []
        written: list[Sheets | None] = []
        for together, members in runs:
            new: list[Stretch | Single] = (
                [self._stretch(members)] if together else [step for number in members for step in self._single(number)]
            )
            steps += new
            shapes = {self.family.fields[number].left for number in members if number in self.maps}
            written += [None] * (len(new) - 1) + [self.sheets[shapes.pop()] if shapes else None]
        descriptors = [self._descriptor(self.stored[number]) for number in self.order]
        return Program(
            tuple(steps),
            tuple(written),
            np.array(descriptors, dtype=np.int64).reshape(-1, 6),
            np.concatenate([np.zeros(1, np.int64), *self.tables]).astype(np.int32),
            np.concatenate([np.zeros(1), *self.weights]),
            self.elements,
            len(self.heads),
        )

    # What is computed together -------------------------------------------------------------------------------------

    def _travels(self, one: Field) -> bool:
        # Whether every plane of one offset goes through this alone, on a map that a warp can keep.
        if one.left != one.right or one.kind == "pool" or self.sheets[one.left].tile is None:
            return False
        return not isinstance(one.op, ops.Conv) or one.op.stride == 1

    def _runs(self) -> list[tuple[bool, list[int]]]:
        # (True, fields of one stretch) and (False, single fields), in an order in which each comes after what it reads.
        # What travels gets the even levels, the rest the odd ones.
        level: dict[int, int] = {}
        for number in self.live:
            one = self.family.fields[number]
            least = max((level[i] for i in (*one.inputs, *(one.variances if self.own else ()))), default=0)
            level[number] = least + (least % 2 == self._travels(one))
        runs: list[tuple[bool, list[int]]] = []
        for at in sorted(set(level.values())):
            members = [number for number in self.live if level[number] == at]
            if at % 2:
                runs.append((False, members))
                continue
            for shape in sorted({self.family.fields[number].left for number in members}):
                mine = [number for number in members if self.family.fields[number].left == shape]
                runs.append((self._slots(mine)[1] <= SLOTS[-1], mine))
        return runs

    def _slots(self, members: Sequence[int]) -> tuple[dict[int, int], int]:
        # The slot of every field that is read again after the next one was computed, and the number of slots.
        place = {number: at for at, number in enumerate(members)}
        last: dict[int, int] = {}
        kept = set()
        for at, number in enumerate(members):
            inputs = self.family.fields[number].inputs
            for k, read in enumerate(inputs):
                if read in place:
                    last[read] = at
                    # The first input may still be in the accumulator; the other terms of a sum may not.
                    if place[read] != at - 1 or k != self._first_term(inputs, members[at - 1] if at else -1):
                        kept.add(read)
        slot: dict[int, int] = {}
        free: list[int] = []
        count = 0
        for at, number in enumerate(members):
            for read in {i for i in self.family.fields[number].inputs if i in slot}:
                if last[read] == at:
                    free.append(slot[read])
            if number in kept:
                if not free:
                    free.append(count)
                    count += 1
                slot[number] = free.pop()
        return slot, count

    @staticmethod
    def _first_term(inputs: Sequence[int], accumulated: int) -> int:
        # The input that an operation begins with: the one in the accumulator if there is one.
        return inputs.index(accumulated) if accumulated in inputs else 0

    # Storage -------------------------------------------------------------------------------------------------------

    def _layout(self, number: int) -> _Stored:
        one = self.family.fields[number]
        pairs, indices = [], []
        for axis, mask in enumerate(self.needs[number]):
            lengths = one.left[axis], one.right[axis]
            if lengths[0] == lengths[1]:
                # All of every needed offset: planes.
                left, right = np.nonzero(mask)
                offsets = np.unique((right - left) % lengths[0])
                position = np.arange(lengths[0])
                chosen = np.stack(
                    [np.tile(position, len(offsets)), (position + offsets[:, None]).ravel() % lengths[0]], axis=1
                )
            else:
                chosen = np.stack(np.nonzero(mask), axis=1)
            index = np.full(lengths, -1, dtype=np.int64)
            index[chosen[:, 0], chosen[:, 1]] = np.arange(len(chosen))
            pairs.append(chosen.astype(np.int64))
            indices.append(index)
        return _Stored((pairs[0], pairs[1]), (indices[0], indices[1]))

    def _places(
        self, runs: Sequence[tuple[bool, list[int]]], run_of: dict[int, int], readers: dict[int, list[int]]
    ) -> None:
        # Fields live from their run to the last one that reads them.
        room = _Room()
        for place, (_, members) in enumerate(runs):
            mine = [number for number in members if number in self.stored]
            for number in mine:
                self.stored[number].place = room.take(self.stored[number].size * (1 + self.tangents))
            for number, one in self.stored.items():
                if run_of[number] <= place and max([run_of[number], *readers.get(number, [])]) == place:
                    room.free(one.place)
        self.elements = room.most

    def _offset_tables(self, one: _Stored) -> tuple[int, int]:
        places = []
        for axis in (0, 1):
            at = one.at[axis]
            length = at.shape[0] if at.shape[0] == at.shape[1] else 0
            # at[0, d] is where offset d begins.
            places.append(self._table(at[0, :length]))
        return places[0], places[1]

    def _descriptor(self, one: _Stored) -> list[int]:
        return [one.place, one.place + one.size * self.tangents, one.size, one.shape[1], *one.tables]

    def _table(self, values: Iterable[int] | NDArray[np.int64]) -> int:
        array = np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.int64)
        self.tables.append(array)
        self.table_size += len(array)
        return 1 + self.table_size - len(array)

    def _weight(self, values: NDArray[np.float64]) -> int:
        self.weights.append(np.asarray(values, dtype=np.float64).ravel())
        self.weight_size += len(self.weights[-1])
        return 1 + self.weight_size - len(self.weights[-1])

    # Stretches -----------------------------------------------------------------------------------------------------

    def _stretch(self, members: Sequence[int]) -> Stretch:
        sheets = self.sheets[self.family.fields[members[0]].left]
        slot, slots = self._slots(members)
        listed: list[tuple[Kind, int, int, int, float]] = []
        length: dict[Plane, int] = {}
        used: list[int] = []

        def say(kind: Kind, a: int = 0, b: int = 0, c: int = 0, x: float = 1.0) -> None:
            listed.append((kind, a, b, c, x))

        def ends(planes: Iterable[Plane]) -> None:
            for plane in planes:
                length[plane] = len(listed)

        def scaled(factor: float) -> None:
            if factor != 1.0:
                say(Kind.SCALE, x=factor)

        accumulated = -1
        for number in members:
            one = self.family.fields[number]
            begin = self._first_term(one.inputs, accumulated)
            if one.inputs and one.inputs[begin] != accumulated:
                read = one.inputs[begin]
                if read in slot:
                    say(Kind.FETCH, slot[read])
                else:
                    say(Kind.LOAD, self.order.index(read))
            if one.kind == "input":
                say(Kind.INPUT, 0, sheets.channels, x=1 / sheets.channels)
                used += range(sheets.channels)
            elif one.kind == "conv":
                assert isinstance(one.op, ops.Conv)
                reach = min((one.op.kernel - 1) // 2, max(one.left) - 1)
                bits, weight = 4 * reach + 2 * one.op.trainable, self._conv_weight(number)
                if listed and listed[-1][0] == Kind.RELU and accumulated == one.inputs[0]:
                    _, u, v, nonnegative, _ = listed.pop()  # nobody else reads that relu: one operation for both
                    say(Kind.LAYER, u, v, nonnegative + bits, weight)
                else:
                    say(Kind.CONV, c=bits, x=weight)
            elif one.kind == "relu":
                if not one.inputs:
                    say(Kind.ZERO)
                if one.aligned and one.inputs:
                    say(Kind.ALIGNED)
                else:
                    there, back = self._relu_scales(number)
                    u, v = (sheets.index(i) for i in one.variances)
                    used += [u, v]
                    scaled(there)
                    say(Kind.RELU, u, v, int(bool(one.inputs) and self.nonnegative[one.inputs[0]]))
                    scaled(back)
            else:
                coefficients = self._coefficients(number)
                scaled(coefficients[begin])
                for k, read in enumerate(one.inputs):
                    if k != begin and read in slot:
                        say(Kind.ADD, slot[read], x=coefficients[k])
                    elif k != begin:
                        say(Kind.ADD_FIELD, self.order.index(read), x=coefficients[k])
            accumulated = number
            if number in self.maps:
                say(Kind.VARIANCE, sheets.index(number))
                ends([(0, 0)])
            for head, coefficient in self.head_terms.get(number, []):
                weights = self.family.heads[self.heads[head]]
                offsets = [self._offsets(axis) for axis in (weights.rows, weights.columns)]
                place = self._weight(np.concatenate([weights.rows.ravel(), weights.columns.ravel()]))
                say(Kind.HEAD, head, place, self._table(np.concatenate(offsets)), x=coefficient)
                ends(self._product(*offsets))
            if number in self.stored:
                at = self.stored[number].at
                say(Kind.STORE, self.order.index(number))
                ends(self._product(at[0][0] >= 0, at[1][0] >= 0))
            if number in slot:
                say(Kind.KEEP, slot[number])
        array = np.array(listed, dtype=OP)
        launches = []
        rest = sorted(length, key=lambda plane: (-length[plane], plane))
        if any(number in self.maps for number in members):
            launches.append(self._launch(sheets, array, [(0, 0)], length, used, True))
            rest.remove((0, 0))
        if rest:
            launches.append(self._launch(sheets, array, rest, length, used, False))
        return Stretch(sheets, next(size for size in SLOTS if size >= slots), array, tuple(launches))

    @staticmethod
    def _offsets(weights: NDArray[np.float64]) -> NDArray[np.int64]:
        # Of every offset, whether a head has any weight there.
        n = len(weights)
        left, right = np.nonzero(weights)
        found = np.zeros(n, dtype=np.int64)
        found[(right - left) % n] = 1
        return found

    @staticmethod
    def _product(rows: NDArray[np.generic], columns: NDArray[np.generic]) -> list[Plane]:
        return [(int(i), int(j)) for i in np.nonzero(rows)[0] for j in np.nonzero(columns)[0]]

    def _launch(
        self,
        sheets: Sheets,
        listed: NDArray[np.void],
        planes: Sequence[Plane],
        length: dict[Plane, int],
        used: Sequence[int],
        itself: bool,
    ) -> Launch:
        assert sheets.tile is not None
        groups = WARP // sheets.tile.threads(sheets.shape)
        heads = len(self.heads)
        first, last = min(used, default=0), max(used, default=-1)
        staged_bytes = (last - first + 1) * (sheets.left_size + sheets.right_size) * self.itemsize
        best: tuple[float, int, int, int, bool, int] | None = None
        full = BLOCK_THREADS[self.itemsize] // WARP
        for warps in range(1, full + 1):
            total = warps * groups
            for per_pair in {-(-len(planes) // steps) for steps in range(1, min(len(planes), 256) + 1)} | {total}:
                if per_pair > total:
                    continue
                pairs = total // per_pair
                for staged in (True, False):
                    shared = total * heads * 16 + (staged_bytes if staged else 0)
                    if shared > self.limits.block_shared or (staged and (pairs > 1 or itself)):
                        continue
                    blocks = min(full // warps, 32, self.limits.shared // max(shared + 1024, 1))
                    steps = -(-len(planes) // per_pair)
                    busy = len(planes) * pairs / (steps * total)
                    score = busy * math.sqrt(max(blocks, 1) * warps / full) * (1.2 if staged else 1.0)
                    # Small blocks end sooner; a block that stages should do much with it.
                    score *= min(1.0, 0.6 + 0.1 * steps) if staged else 1.0 + 0.001 * min(warps, 8)
                    if best is None or score > best[0] + 1e-9:
                        best = score, warps, per_pair, pairs, staged, shared
        assert best is not None, "a block of one warp fits"
        _, warps, per_pair, pairs, staged, shared = best
        height, width = sheets.shape
        words = [
            height, width, len(listed), len(planes), per_pair, heads, 2 * heads, sheets.pitch, first, last - first + 1,
            sheets.count,
        ]  # fmt: skip
        return Launch(
            np.array([(*plane, length[plane]) for plane in planes], dtype=np.int32).reshape(-1, 3),
            itself,
            staged,
            warps,
            per_pair,
            pairs,
            shared,
            np.array(words, dtype=np.int64),
        )

    def _conv_weight(self, number: int) -> float:
        # Convs sum and do not divide by q^2, unless the scale grows too large.
        one = self.family.fields[number]
        assert isinstance(one.op, ops.Conv)
        weight = self.scale[number] / (self.scale[one.inputs[0]] * one.op.kernel**2)
        return 1.0 if math.isclose(weight, 1.0) else weight

    def _relu_scales(self, number: int) -> tuple[float, float]:
        # What takes the covariance to the scale of the sheets, and the relu's to its own.
        one = self.family.fields[number]
        sheets = math.sqrt(self.scale[one.variances[0]] * self.scale[one.variances[1]])
        read = self.scale[one.inputs[0]] if one.inputs else 1.0
        there, back = sheets / read, self.scale[number] / sheets
        same = math.isclose(there, 1.0) and math.isclose(back, 1.0)
        return (1.0, 1.0) if same else (there, back)

    def _coefficients(self, number: int) -> list[float]:
        one = self.family.fields[number]
        return [c / self.scale[i] for c, i in zip(one.coefficients, one.inputs, strict=True)]

    # Single fields -------------------------------------------------------------------------------------------------

    def _single(self, number: int) -> list[Single]:
        one, out = self.family.fields[number], self.stored[number]
        left, right = self.sheets[one.left], self.sheets[one.right]
        words: dict[str, int] = {
            "rows": out.shape[0],
            "columns": out.shape[1],
            "out_s": out.place,
            "out_t": out.place + out.size * self.tangents,
            "left_width": one.left[1],
            "right_width": one.right[1],
            "out_words": 2 * len(self.heads),
        }
        steps: list[Single] = []

        def step(kernel: str, reals: Sequence[float], sheets: bool = False, entries: int = out.size) -> None:
            steps.append(
                Single(
                    kernel,
                    np.array([words.get(name, 0) for name in FIELD_WORDS], dtype=np.int64),
                    np.array([*reals, 0.0], dtype=np.float64),
                    left if sheets else None,
                    right if sheets else None,
                    entries,
                )
            )

        if one.kind in ("input", "relu"):
            for name, pairs in zip(("row", "column"), out.pairs, strict=True):
                words[f"{name}_left"], words[f"{name}_right"] = self._table(pairs[:, 0]), self._table(pairs[:, 1])
        if one.kind == "input":
            words["channels"], words["sheet"] = left.channels, left.area
            step("field_input", [1 / left.channels], True)
        elif isinstance(one.op, (ops.Conv, ops.AvgPool)):
            self._linear(words, number)
            step("field_linear", [])
        elif one.kind == "relu":
            self._pointwise(words, number, 0)
            words["flags"] |= Flag.NONNEGATIVE if one.inputs and self.nonnegative[one.inputs[0]] else 0
            if one.aligned and one.inputs:
                step("field_aligned", [])
            else:
                words["left_sheet"] = left.index(one.variances[0]) * left.area
                words["right_sheet"] = right.index(one.variances[1]) * right.area
                step("field_relu", self._relu_scales(number), True)
        else:
            for k, coefficient in enumerate(self._coefficients(number)):
                self._pointwise(words, number, k)
                words["flags"] |= Flag.FIRST if k == 0 else 0
                step("field_term", [coefficient])
        if number in self.maps:
            # Read as an input: the equal positions.
            for name, at, length in zip(("row", "column"), out.at, one.left, strict=True):
                words[f"{name}_list"] = self._table(np.diagonal(at).copy())
                words[f"{name}s"] = length
            words |= {"in_s": out.place, "in_rows": out.shape[0], "in_columns": out.shape[1]}
            words["sheet"] = left.index(number) * left.area
            step("field_variance", [], True, left.area)
        for head, coefficient in self.head_terms.get(number, []):
            weights = self.family.heads[self.heads[head]]
            words |= {"rows": out.shape[0], "columns": out.shape[1], "in_s": out.place, "head": head}
            words["in_t"] = out.place + out.size * self.tangents
            for name, matrix, pairs in zip(("row", "column"), (weights.rows, weights.columns), out.pairs, strict=True):
                words[f"{name}_weight"] = self._weight(matrix[pairs[:, 0], pairs[:, 1]])
            step("field_head", [coefficient], entries=0)
        return steps

    def _reads(self, words: dict[str, int], read: int) -> _Stored:
        source = self.stored[read]
        words["in_s"], words["in_t"] = source.place, source.place + source.size * self.tangents
        words["in_rows"], words["in_columns"] = source.shape
        return source

    def _pointwise(self, words: dict[str, int], number: int, place: int) -> None:
        one, out = self.family.fields[number], self.stored[number]
        words["flags"] = 0 if one.inputs else Flag.NO_INPUT
        if one.inputs:
            source = self._reads(words, one.inputs[place])
            for name, at, pairs in zip(("row", "column"), source.at, out.pairs, strict=True):
                words[f"{name}_list"] = self._table(at[pairs[:, 0], pairs[:, 1]])

    def _linear(self, words: dict[str, int], number: int) -> None:
        one, out = self.family.fields[number], self.stored[number]
        source = self._reads(words, one.inputs[0])
        read = self.family.fields[one.inputs[0]]
        for axis, name in enumerate(("row", "column")):
            pairs, at = out.pairs[axis], source.at[axis]
            if isinstance(one.op, ops.Conv):
                lengths = read.left[axis], read.right[axis]
                reach = min((one.op.kernel - 1) // 2, max(lengths) - 1)
                steps = np.arange(-reach, reach + 1)
                i, k = (pairs[:, side, None] * one.op.stride + steps for side in (0, 1))
                inside = (i >= 0) & (i < lengths[0]) & (k >= 0) & (k < lengths[1])
                found = np.where(inside, at[i.clip(0, lengths[0] - 1), k.clip(0, lengths[1] - 1)], -1)
                lists = [row[row >= 0] for row in found]
                weights = np.full(len(pairs), self._conv_weight(number) if axis == 0 else 1.0)
            else:
                assert isinstance(one.op, ops.AvgPool)
                windows = one.op.windows((read.left, read.right)[one.side][axis])
                lists, means = [], []
                for pair in pairs:
                    window = list(windows[pair[one.side]])
                    row = at[window, pair[1]] if one.side == 0 else at[pair[0], window]
                    lists.append(row[row >= 0])
                    means.append(1 / len(window))
                weights = np.array(means)
            starts = np.cumsum([0, *(len(row) for row in lists)])
            words[f"{name}_start"] = self._table(starts)
            words[f"{name}_list"] = self._table(np.concatenate([*lists, np.zeros(0, dtype=np.int64)]))
            words[f"{name}_weight"] = self._weight(weights)
        trained = isinstance(one.op, ops.Conv) and one.op.trainable
        words["flags"] = Flag.ADD_S if trained and self.tangents else 0
