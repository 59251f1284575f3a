"""An architecture as a drawing: layers from top to bottom, branches beside each other.

A relu that alone reads the node before it is drawn in that node's box. Places are units of the view box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas_cntk import ops
from nas_cntk.architecture import Architecture
from nas_cntk.report import text
from nas_cntk.report.describe import op_words, outputs

HEIGHT, PITCH, GAP, THREAD = 36, 52, 14, 16  # height of a box, distance of layers and of boxes, width of a thread
NARROWEST, LETTER, MARGIN = 110, 6.7, 22  # width of a box, of a letter in it, and what is beside the letters
MOST = 150  # boxes; beyond it a drawing says no more than a list


@dataclass(frozen=True, slots=True)
class Box:
    """A node, at the left upper corner."""

    x: float
    y: float
    kind: str  # of the op, which says the colour
    name: str
    detail: str


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes and the curves between them."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    curves: tuple[str, ...]  # paths
    box: float  # width of every box
    box_height: int
    description: str


@dataclass(frozen=True, slots=True)
class _Item:
    """What takes a place in a layer: a box, or the thread of an edge that passes by."""

    layer: int
    node: int | None
    above: tuple[int, ...]  # items that it hangs from
    width: float


def drawing(
    architecture: Architecture, image_shape: Sequence[int], num_classes: int, width: int = 64
) -> Drawing | None:
    """Return the drawing of an architecture at `width` channels; None if it has too many nodes to draw."""
    groups, owner = _groups(architecture)
    if len(groups) > MOST:
        return None
    reads = {first: tuple(dict.fromkeys(owner[i] for i in architecture.nodes[first].inputs)) for first in groups}
    layers: dict[int, int] = {}
    for first in groups:
        layers[first] = 1 + max((layers[i] for i in reads[first]), default=-1)
    names = {first: " → ".join(op_words(architecture.nodes[i].op) for i in groups[first]) for first in groups}
    box = max(NARROWEST, round(max(map(len, names.values())) * LETTER + MARGIN))
    items, at = _items(groups, reads, layers, box)
    places = _places(items, {at[first]: at[from_] for first, from_ in _forks(reads).items()})
    left = min(places[i] - item.width / 2 for i, item in enumerate(items)) - 1
    right = max(places[i] + item.width / 2 for i, item in enumerate(items)) + 1
    boxes, curves = [], []
    said_of = outputs(architecture, image_shape, num_classes, width, times="×", thousands=",")
    weights = architecture.weights(image_shape, num_classes, width)
    for first, members in groups.items():
        x, y = places[at[first]] - left - box / 2, layers[first] * PITCH + 1
        detail = said_of[members[-1]]
        if first in weights:
            detail += f" · {text.count(math.prod(weights[first][0]))}"
        boxes.append(Box(round(x, 1), y, architecture.nodes[first].op.NAME, names[first], detail))
    for i, item in enumerate(items):
        for parent in item.above:
            start = (places[parent] - left, items[parent].layer * PITCH + 1, items[parent].node is not None)
            curves.append(_curve(start, (places[i] - left, item.layer * PITCH + 1)))
    height = max(layers.values()) * PITCH + HEIGHT + 2
    said = "; ".join(f"{one.name} ({one.detail})" for one in boxes)
    return Drawing(
        round(right - left, 1), height, tuple(boxes), tuple(curves), box, HEIGHT, f"From top to bottom: {said}."
    )


def _forks(reads: Mapping[int, tuple[int, ...]]) -> dict[int, int]:
    """Return for every box but the first the nearest one that all its paths from the image pass: it stands below it."""
    found: dict[int, int] = {}
    depth: dict[int, int] = {}
    for first, parents in reads.items():
        if not parents:
            depth[first] = 0
            continue
        common = parents[0]
        for parent in parents[1:]:
            other = parent
            while common != other:
                if depth[common] < depth[other]:
                    other = found[other]
                else:
                    common = found[common]
        found[first], depth[first] = common, depth[common] + 1
    return found


def _groups(architecture: Architecture) -> tuple[dict[int, list[int]], dict[int, int]]:
    """Return the nodes of every box by its first node, and the first node of every node's box."""
    readers: dict[int, int] = {}
    for index in architecture.live:
        for i in architecture.nodes[index].inputs:
            readers[i] = readers.get(i, 0) + 1
    groups: dict[int, list[int]] = {}
    owner: dict[int, int] = {}
    for index in architecture.live:
        node = architecture.nodes[index]
        before = node.inputs[0] if node.inputs else None
        if isinstance(node.op, ops.Relu) and before is not None and readers[before] == 1:
            owner[index] = owner[before]
            groups[owner[before]].append(index)
        else:
            owner[index] = index
            groups[index] = [index]
    return groups, owner


def _items(
    groups: Mapping[int, list[int]], reads: Mapping[int, tuple[int, ...]], layers: Mapping[int, int], box: float
) -> tuple[list[_Item], dict[int, int]]:
    items: list[_Item] = []
    at: dict[int, int] = {}
    for first in sorted(groups, key=lambda node: (layers[node], node)):
        above = []
        for parent in reads[first]:
            last = at[parent]
            for layer in range(layers[parent] + 1, layers[first]):
                items.append(_Item(layer, None, (last,), THREAD))
                last = len(items) - 1
            above.append(last)
        at[first] = len(items)
        items.append(_Item(layers[first], first, tuple(above), box))
    return items, at


def _places(items: Sequence[_Item], forks: Mapping[int, int]) -> list[float]:
    """Return the middle of every item: a box below its fork, a thread below what it hangs from, none over another."""
    places = [0.0] * len(items)
    for layer in range(1 + max(item.layer for item in items)):
        own = [i for i, item in enumerate(items) if item.layer == layer]
        wanted = {i: places[forks[i]] if i in forks else sum(places[p] for p in items[i].above) for i in own}
        # Threads go outside of the boxes that hang from the same one.
        own.sort(key=lambda i: (wanted[i], items[i].node is None, i))
        edge = 0.0
        for i in own:
            places[i] = edge + items[i].width / 2
            edge += items[i].width + GAP
        firm = [i for i in own if items[i].node is not None] or own
        shift = sum(wanted[i] - places[i] for i in firm) / len(firm)
        for i in own:
            places[i] += shift
    return places


def _curve(start: tuple[float, float, bool], end: tuple[float, float]) -> str:
    # A thread runs straight past the boxes of its layer, and bends between layers alone.
    x1, top, is_box = start
    x2, y2 = end
    y1 = top + HEIGHT
    middle = (y1 + y2) / 2
    before = "" if is_box else f"M{x1:.1f} {top:.1f}V{y1:.1f}"
    return f"{before}M{x1:.1f} {y1:.1f}C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {y2:.1f}"
