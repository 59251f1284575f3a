"""An architecture as a tree for a terminal: a line a node, branches as lanes beside each other.

    ● conv 3x3
    ├─● relu
    │ ● conv 3x3
    ●─╯ add

A lane holds a node's output until its last reader. A node stands on the lane of an input that it is the last to read,
on a new one if there is none; a line to the left or right says what else it reads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas_cntk.architecture import Architecture
from nas_cntk.report.describe import op_words, outputs

NODE, PASSES, CROSSES, BETWEEN = "●", "│", "┼", "─"


@dataclass(frozen=True, slots=True)
class TreeLine:
    """A node of the tree; sizes are those of the finite network."""

    node: int
    drawn: str  # lanes and op
    reads: tuple[int, ...]
    output: str
    params: int | None  # None of a node without weights
    flops: int | None  # multiply-adds of one image


def tree(architecture: Architecture, image_shape: Sequence[int], num_classes: int, width: int = 64) -> list[TreeLine]:
    """Return the lines of the live nodes, in order.

    Args:
        image_shape: (h, w, c).
    """
    said = outputs(architecture, image_shape, num_classes, width)
    weights = architecture.weights(image_shape, num_classes, width)
    lanes = _Lanes(architecture)
    lines = []
    for index in architecture.live:
        node = architecture.nodes[index]
        shape, flops = weights.get(index, (None, None))
        params = None if shape is None else math.prod(shape)
        drawn = f"{lanes.add(index)} {op_words(node.op)}"
        lines.append(TreeLine(index, drawn, node.inputs, said[index], params, flops))
    return lines


class _Lanes:
    """The lanes while nodes are drawn one after the other; a lane holds a node, or None where it is free."""

    def __init__(self, architecture: Architecture) -> None:
        self._nodes = architecture.nodes
        self._last = {i: index for index in architecture.live for i in self._nodes[index].inputs}
        self._held: list[int | None] = []

    def add(self, index: int) -> str:
        """Return the lanes of a node's line."""
        before = list(self._held)
        read = [lane for lane, held in enumerate(before) if held in self._nodes[index].inputs]
        ends = [lane for lane in read if self._last[before[lane] or 0] == index]
        own = ends[0] if ends else self._free(read)
        for lane in ends:
            self._held[lane] = None
        self._held[own] = index
        while self._held[-1] is None:
            self._held.pop()
        before += [None] * (own + 1 - len(before))
        first, last = min([own, *read]), max([own, *read])
        return "".join(
            self._sign(lane, own, before[lane], lane in read, lane in ends, first, last)
            + (BETWEEN if first <= lane < last else " ")
            for lane in range(len(before))
        ).rstrip()

    def _free(self, read: Sequence[int]) -> int:
        right = max(read, default=-1) + 1
        for lane in range(right, len(self._held)):
            if self._held[lane] is None:
                return lane
        self._held.append(None)
        return len(self._held) - 1

    def _sign(self, lane: int, own: int, held: int | None, read: bool, ends: bool, first: int, last: int) -> str:
        if lane == own:
            return NODE
        if ends:
            return "╯" if lane == last else "╰" if lane == first else "┴"
        if read:
            return "├" if lane == first else "┤" if lane == last else CROSSES
        if held is None:
            return BETWEEN if first < lane < last else " "
        return CROSSES if first < lane < last else PASSES
