"""Drawings of architectures: everything is there, nothing lies over another box, joins stand below their forks."""

from __future__ import annotations

import re

import pytest
from random_architectures import SHAPES, random_architecture

from nas_cntk import Builder, nasbench201
from nas_cntk.report.html.drawing import MOST, Box, Drawing, drawing


def overlaps(found: Drawing, a: Box, b: Box) -> bool:
    return abs(a.x - b.x) < found.box and abs(a.y - b.y) < found.box_height


@pytest.mark.parametrize("seed", range(40))
def test_random_architectures(seed: int) -> None:
    shape = SHAPES[seed % len(SHAPES)]
    _, arch = random_architecture(seed, shape)
    found = drawing(arch, shape, 3)
    assert found is not None
    names = " ".join(box.name for box in found.boxes)
    ops = [arch.nodes[index].op.NAME for index in arch.live]
    for name in set(ops):
        assert len(re.findall(rf"(?<![\w]){name}(?!\w)", names)) == ops.count(name), name
    for place, box in enumerate(found.boxes):
        assert 0 <= box.x and box.x + found.box <= found.width + 0.1
        assert 0 <= box.y and box.y + found.box_height <= found.height
        assert not any(overlaps(found, box, other) for other in found.boxes[:place])
    assert all(box.name in found.description for box in found.boxes)


def test_a_chain_and_its_shortcuts_stay_in_line() -> None:
    b = Builder()
    x = b.conv(b.input(), 3)
    for _ in range(6):
        x = b.add(b.conv(b.relu(x), 3), x)
    b.dense(b.flatten(b.relu(x)))
    found = drawing(b.build(), (8, 8, 3), 10)
    assert found is not None
    assert len({box.x for box in found.boxes}) == 1, "no drift to one side"
    assert found.boxes[0].detail == "8×8×3" and found.boxes[1].detail == "8×8×64 · 1.73k"
    assert found.boxes[-2].name == "flatten" and found.boxes[-2].detail == "4,096 features"
    assert found.boxes[-1].detail == "10 classes · 41k"
    assert [box.name for box in found.boxes if "→" in box.name] == ["add → relu"], "a shared relu has its own box"


def test_joins_stand_below_their_forks() -> None:
    cell = "|nor_conv_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    found = drawing(nasbench201.architecture(cell), (16, 16, 3), 10)
    assert found is not None
    middle = found.boxes[0].x
    assert [box.x for box in (found.boxes[1], found.boxes[-2], found.boxes[-1])] == [middle] * 3


def test_too_many_nodes_are_not_drawn() -> None:
    b = Builder()
    x = b.conv(b.input(), 1)
    for _ in range(MOST):
        x = b.conv(b.relu(x), 1)
    b.dense(b.flatten(x))
    assert drawing(b.build(), (2, 2, 1), 2) is None
