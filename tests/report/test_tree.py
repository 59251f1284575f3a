"""The tree of an architecture on a terminal."""

from __future__ import annotations

import re

import pytest
from random_architectures import SHAPES, random_architecture

from nas_cntk import Architecture, Builder
from nas_cntk.report.tree import TreeLine, tree


def residual() -> Architecture:
    b = Builder()
    x = b.conv(b.input(), 3)
    y = b.relu(x)
    x = b.add(b.conv(y, 3), b.conv(y, 1), b.avg_pool(x, 3, 1, "same"), x)
    b.dense(b.global_avg_pool(x))
    return b.build()


def test_branches_are_lanes() -> None:
    drawn = [line.drawn for line in tree(residual(), (8, 8, 3), 10)]
    assert drawn == [
        "● input",
        "● conv 3x3",
        "├─● relu",
        "│ ├─● conv 3x3",
        "│ ● │ conv 1x1",
        "├─┼─┼─● avg_pool 3x3 same",
        "●─┴─┴─╯ add",
        "● global_avg_pool",
        "● dense",
    ]


def test_sizes_are_those_of_the_network() -> None:
    arch = residual()
    lines = tree(arch, (8, 8, 3), 10)
    assert sum(line.params or 0 for line in lines) == arch.count_parameters((8, 8, 3), 10)
    assert sum(line.flops or 0 for line in lines) == arch.count_flops((8, 8, 3), 10)
    assert [line.output for line in lines[-3:]] == ["8x8x64", "64 features", "10 classes"]
    assert lines[2].params is None and lines[1].params == 3 * 9 * 64


def reads_of(lines: list[TreeLine]) -> list[tuple[int, ...]]:
    """Return what every node reads, from the drawing alone: lanes are followed from line to line."""
    held: list[int | None] = []
    found = []
    for line in lines:
        lanes = re.match(r"[●│┼─├┤╯╰┴ ]*", line.drawn)
        assert lanes is not None
        signs = lanes.group().rstrip()
        own = signs.index("●") // 2
        held += [None] * (max(own + 1, (len(signs) + 1) // 2) - len(held))
        read = []
        for lane, sign in enumerate(signs[::2]):
            if sign in "╯╰┴├┤":
                read.append(held[lane])
            if sign in "╯╰┴":
                held[lane] = None
        read += [held[own]] if held[own] is not None else []
        held[own] = line.node
        found.append(tuple(sorted(node for node in read if node is not None)))
    return found


@pytest.mark.parametrize("seed", range(60))
def test_the_drawing_says_who_reads_whom(seed: int) -> None:
    shape = SHAPES[seed % len(SHAPES)]
    _, arch = random_architecture(seed, shape)
    lines = tree(arch, shape, 3)
    assert [line.node for line in lines] == list(arch.live)
    for line, read in zip(lines, reads_of(lines), strict=True):
        assert line.drawn.count("●") == 1
        # A crossing may be a lane that passes or one that is read: the column beside it tells.
        assert set(read) <= set(line.reads)
        assert set(line.reads) <= set(read) or "┼" in line.drawn
